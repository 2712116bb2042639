"""The engine, opened: the registry's systems and active flows as things that work. Free of Dagster."""

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import httpx
import msgspec

from ipaas_assets.sync.drift import broken_reason
from ipaas_assets.sync.model import Lane, Options, System, TargetWork
from ipaas_assets.sync.rows import Source
from ipaas_resources.connectors import registry as connectors
from ipaas_resources.connectors.base import Environment, SystemDocument
from ipaas_resources.core.clock import Clock, Ids, SystemClock, SystemIds
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.core.limits import BudgetLane, Limits
from ipaas_resources.core.records import FileRef
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.secrets import resolve_secret
from ipaas_resources.store import registry
from ipaas_resources.store.breakers import Breakers
from ipaas_resources.store.database import Database
from ipaas_resources.store.limits import PERMIT_LEASE, PostgresLimits
from ipaas_resources.store.queue import QueueOf
from ipaas_resources.store.registry import StoredFlow, StoredSystem
from mappings.compiler import CompiledFlow, compile_flow
from mappings.contract import Contract
from mappings.faults import closest_name
from mappings.fitting import Fitting
from mappings.load import load_flow

Transports = Mapping[str, Callable[[], httpx.AsyncBaseTransport]]


class ActiveFlow:
    """One active flow version, compiled."""

    def __init__(self, stored: StoredFlow) -> None:
        self.stored = stored
        self.compiled: CompiledFlow = compile_flow(load_flow(stored.text, name=stored.flow))

    @property
    def name(self) -> str:
        """The flow's id."""
        return self.stored.flow

    def targets(self, system: str, entity: str, scope: str) -> list[dict[str, Any]]:
        """What a change of this source entity and scope raises for the flow."""
        source = self.compiled.flow.source
        # A disabled flow is raised too: its work waits until it is enabled.
        if (source.system, source.entity) != (system, entity):
            return []
        if source.scopes != "all" and scope not in source.scopes:
            return []
        return flow_targets(self.compiled, self.stored.version)


def flow_targets(compiled: CompiledFlow, version: int) -> list[dict[str, Any]]:
    """What work items of a flow are raised for."""
    return [
        {
            "flow": compiled.flow.flow,
            "target": name,
            "target_system": target.system,
            "target_entity": target.entity,
            "version": version,
            "lane": int(Lane[compiled.flow.lane.upper()]),
        }
        for name, target in compiled.targets.items()
    ]


class Engine:
    """Systems and flows of one installation, ready to pull and drain."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        options: Options | None = None,
        limits: Limits | None = None,
        lane: BudgetLane = "batch",
        transports: Transports | None = None,
    ) -> None:
        self.database = database
        self.clock: Clock = clock or SystemClock()
        self.ids: Ids = ids or SystemIds()
        self.options = options or Options()
        # `lane`: what this process works for, where it keeps budgets of its own.
        self._own_limits: PostgresLimits | None = None
        if limits is None:
            # What a process that died held comes back no later than its records do.
            held = min(PERMIT_LEASE, self.options.lease)
            limits = self._own_limits = PostgresLimits(database.engine, lane=lane, permit_lease=held)
        self.limits: Limits = limits
        #: Systems that fail again and again are left alone, by all processes.
        self.breakers = Breakers(database, clock=self.clock)
        self._transports = transports or {}
        self.systems: dict[str, System] = {}
        self.flows: dict[str, ActiveFlow] = {}
        #: Systems and flows of the registry that cannot be opened, with the reason: they never stop the others.
        self.broken: dict[str, str] = {}
        self.lookups: dict[str, dict[str, Any]] = {}
        self._schemas: dict[tuple[str, str], EntitySchema] = {}
        self._stores_schemas = True
        self._contracts: dict[tuple[str, str], Contract] = {}
        self._baseline: dict[tuple[str, str], EntitySchema] = {}
        self.calls: dict[str, int] = defaultdict(int)

    # --- opening -------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read the registry; what cannot be opened is in `broken`. Nothing is sent yet."""
        for stored in await registry.list_systems(self.database):
            if stored.system in self.systems:
                continue
            try:
                self._open_system(stored)
            except ConfigurationError as error:
                self.broken[stored.system] = error.message
        await self._load_flows()
        self.lookups = await registry.load_lookups(self.database)

    async def _load_flows(self) -> None:
        for flow in await registry.active_flows(self.database):
            known = self.flows.get(flow.flow)
            if known is not None and known.stored == flow:
                continue
            try:
                self.flows[flow.flow] = ActiveFlow(flow)
                self.broken.pop(flow.flow, None)
            except ConfigurationError as error:
                self.flows.pop(flow.flow, None)
                self.broken[flow.flow] = error.message

    def _open_system(self, stored: StoredSystem) -> None:
        document = SystemDocument.model_validate(stored.document)
        self.systems[stored.system] = System(
            document=document,
            connector=self.connect(document),
            paused=stored.paused or not document.enabled,
        )

    def connect(self, document: SystemDocument) -> Any:
        """A connector for a system document; nothing is sent yet."""

        def secret(name: str) -> str:
            reference = document.secrets.get(name)
            if reference is None:
                raise ConfigurationError(
                    f"System {document.system!r} needs the secret {name!r}; add it under `secrets:` as env:NAME or "
                    "file:PATH."
                )
            return resolve_secret(reference, system=document.system, name=name)

        def count(kind: str) -> None:
            self.calls[kind] += 1

        connector = connectors.create(
            document,
            Environment(
                system=document.system,
                clock=self.clock,
                ids=self.ids,
                limits=self.limits,
                breaker=self.breakers.of(
                    document.system, document.breaker.policy() if document.breaker else None
                ),
                secret=secret,
                transport=self._transports.get(document.system),
                ca_file=document.ca_file,
                policy=document.limits.policy() if document.limits else None,
                count_call=count,
            ),
        )
        if hasattr(connector, "open_source"):
            connector.open_source = self.open_file
        return connector

    def open_file(self, file: FileRef) -> AsyncIterator[bytes]:
        """The bytes of a file field, from the system that holds it."""
        return self.system(file.system).connector.open_file(file, "")

    async def close(self) -> None:
        """Give connections back."""
        for system in self.systems.values():
            with contextlib.suppress(OSError):
                await system.connector.close()
        if self._own_limits is not None:
            # Else the next process would wait for these permits until they lapse.
            await self._own_limits.close()

    def drafted(self, flows: Mapping[str, ActiveFlow], lookups: Mapping[str, dict[str, Any]]) -> Engine:
        """This engine as it would be with these flows and lookup tables: the same systems, nothing stored."""
        draft = copy.copy(self)
        draft.flows = {**self.flows, **flows}
        draft.lookups = {**self.lookups, **lookups}
        return draft

    # --- parts ---------------------------------------------------------------------------------------------------

    def system(self, name: str) -> System:
        """A system by id. Raises ConfigurationError naming those there are."""
        if name in self.broken:
            raise ConfigurationError(self.broken[name])
        if name not in self.systems:
            known = ", ".join(sorted(self.systems)) or "none yet"
            raise ConfigurationError(
                f"There is no system {name!r} (systems: {known}). Add its document with `ipaas systems apply FILE`."
            )
        return self.systems[name]

    def flow(self, name: str) -> ActiveFlow:
        """An active flow by id. Raises ConfigurationError naming those there are."""
        if name in self.broken:
            raise ConfigurationError(self.broken[name])
        if name not in self.flows:
            known = ", ".join(sorted(self.flows)) or "none yet"
            closest = closest_name(name, self.flows)
            raise ConfigurationError(
                f"There is no active flow {name!r} (flows: {known}){f'; did you mean {closest}?' if closest else '.'} "
                "Add flows with `ipaas apply FOLDER`."
            )
        return self.flows[name]

    async def schema(self, system: str, entity: str) -> EntitySchema:
        """The live schema, stored as a snapshot when it is news; read once per engine."""
        key = (system, entity)
        if key not in self._schemas:
            live = await self.live_schema(system, entity)
            if self._stores_schemas:
                await registry.save_snapshot(self.database, system, live)
            self._schemas[key] = live
        return self._schemas[key]

    async def live_schema(self, system: str, entity: str) -> EntitySchema:
        """The schema as the system tells it now, stored nowhere."""
        return self._with_sensitivity(system, await self.system(system).connector.schema(entity))

    async def known_schema(self, system: str, entity: str) -> EntitySchema:
        """The schema as last seen, stored nowhere: the newest snapshot, where there is none the live one."""
        known = await registry.latest_snapshot(self.database, system, entity)
        if known is None:
            return await self.live_schema(system, entity)
        return self._with_sensitivity(system, known.schema)

    def without_storing(self) -> Engine:
        """This engine for a look: the schemas it meets are not stored as snapshots."""
        draft = self.assuming({})
        draft._stores_schemas = False  # noqa: SLF001
        return draft

    def assuming(self, schemas: Mapping[tuple[str, str], EntitySchema]) -> Engine:
        """This engine with these schemas, by system and entity, taken for the live ones: it reads and stores none of them."""
        draft = copy.copy(self)
        draft._schemas = {**self._schemas, **schemas}  # noqa: SLF001 - a copy of ourselves
        draft._contracts = {}  # noqa: SLF001
        return draft

    def _with_sensitivity(self, system: str, schema: EntitySchema) -> EntitySchema:
        """The connector's default sensitivity, overridden by the system document."""
        chosen = self.system(system).document.sensitivity.get(schema.entity)
        if not chosen:
            return schema
        fields = tuple(
            msgspec.structs.replace(field, sensitivity=chosen.get(field.name, field.sensitivity))
            for field in schema.fields
        )
        return msgspec.structs.replace(schema, fields=fields)

    async def source(self, system: str, entity: str, scope: str) -> Source:
        """What pulling one entity and scope needs."""
        schema = await self.schema(system, entity)
        contract = self._contracts.get((system, entity))
        if contract is None:
            contract = self._contracts[system, entity] = Contract(schema)
        return Source(
            system=self.system(system),
            entity=entity,
            scope=scope,
            schema=schema,
            contract=contract,
            targets=[
                target for flow in self.flows.values() for target in flow.targets(system, entity, scope)
            ],
            versions={
                name: flow.stored.version
                for name, flow in self.flows.items()
                if (flow.compiled.flow.source.system, flow.compiled.flow.source.entity) == (system, entity)
            },
            broken=frozenset(self.broken),
        )

    async def fresh_source(self, system: str, entity: str, scope: str) -> Source:
        """The same, after reading again which flows are active."""
        await self._load_flows()
        return await self.source(system, entity, scope)

    async def scopes(self, system: str, wanted: str | Sequence[str] = "all") -> list[str]:
        """The scopes of a system that a flow reads."""
        there = list(await self.system(system).connector.scopes())
        if wanted == "all":
            return there
        unknown = [scope for scope in wanted if scope not in there]
        if unknown:
            raise ConfigurationError(
                f"System {system!r} has no scope {unknown[0]!r}; its scopes are {', '.join(there)}."
            )
        return list(wanted)

    async def works(self, flow: ActiveFlow) -> list[TargetWork]:
        """The targets of a flow, those first that others refer to."""
        source = flow.compiled.flow.source
        source_schema = await self.schema(source.system, source.entity)
        result = []
        for name in target_order(flow.compiled):
            target = flow.compiled.targets[name]
            system = self.system(target.system)
            schema = await self.schema(target.system, target.entity)
            result.append(
                TargetWork(
                    version=flow.stored.version,
                    flow=flow.compiled,
                    target=target,
                    queue=QueueOf(
                        flow=flow.name,
                        target=name,
                        source_system=source.system,
                        source_entity=source.entity,
                        target_system=target.system,
                        target_entity=target.entity,
                        parents=tuple(sorted(_own_parents(flow.compiled, name))),
                    ),
                    system=system,
                    capabilities=system.connector.manifest.capabilities(target.entity),
                    schema=schema,
                    fitting=Fitting(target, schema, source_schema),
                    masked=masked_fields(target.lineage, source_schema, schema),
                    broken=broken_reason(target, source_schema, schema),
                    named_by=self._named_by(flow.name, name),
                )
            )
        return result

    def _named_by(self, flow: str, target: str) -> frozenset[str]:
        """Fields beside the id by which rules of any active flow follow the links of this target."""
        return frozenset(
            ref.by
            for each in self.flows.values()
            for compiled in each.compiled.targets.values()
            for ref in compiled.references
            if (ref.flow, ref.target) == (flow, target) and ref.by != "id"
        )

    def sides(self) -> dict[str, tuple[str, str]]:
        """Per flow, its source system and entity: from which side a reference reads a link."""
        return {
            name: (flow.compiled.flow.source.system, flow.compiled.flow.source.entity)
            for name, flow in self.flows.items()
        }


def _own_parents(compiled: CompiledFlow, target: str) -> set[str]:
    """Other targets of the same flow that this one refers to."""
    return {
        ref.target
        for ref in compiled.targets[target].references
        if ref.flow == compiled.flow.flow and ref.target != target
    }


def target_order(compiled: CompiledFlow) -> list[str]:
    """Targets so that each stands after those it refers to; a circle keeps the order of the document."""
    ordered: list[str] = []
    left = list(compiled.targets)
    while left:
        ready = [name for name in left if not (_own_parents(compiled, name) & set(left)) - {name}]
        ordered += ready or left
        left = [name for name in left if name not in ordered]
    return ordered


def masked_fields(
    lineage: Mapping[str, Sequence[str]], source: EntitySchema, target: EntitySchema
) -> frozenset[str]:
    """Target fields whose values are personal or secret on either side."""
    sensitive = {field.name for field in source.fields if field.sensitivity != "none"}
    masked = {field.name for field in target.fields if field.sensitivity != "none"}
    masked |= {name for name, sources in lineage.items() if sensitive & set(sources)}
    return frozenset(masked)
