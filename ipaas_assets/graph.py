"""From the registry to the graph that Dagster shows: entities, flow targets, their names; and flows that cannot be built."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import msgspec

from ipaas_assets.registered import Registered
from ipaas_resources.core.errors import IpaasError
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.store.registry import StoredFlow
from mappings.compiler import CompiledFlow, compile_flow
from mappings.load import load_flow

log = logging.getLogger(__name__)

Key = tuple[str, ...]
"""An asset key; each part is [a-z0-9_]+."""

#: Jobs and steps of the platform itself, in the same namespace as the flows' jobs.
RESERVED = frozenset({"registry", "retention", "remove_old"})

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_OTHER = re.compile(r"[^a-z0-9]+")


def key_part(name: str) -> str:
    """A name as a part of a key: salesOrders -> sales_orders. Never two underscores together."""
    return _OTHER.sub("_", _HUMP.sub("_", name).lower()).strip("_")


class EntityNode(msgspec.Struct, frozen=True, kw_only=True):
    """One entity that flows read or write: the asset that pulls it."""

    system: str
    entity: str
    connector: str
    key: Key

    @property
    def name(self) -> str:
        """system/entity as the product spells it."""
        return f"{self.system}/{self.entity}"

    @property
    def op(self) -> str:
        """The name of the asset's step, under which its run config stands."""
        return "__".join(self.key)


class TargetNode(msgspec.Struct, frozen=True, kw_only=True):
    """One target of a flow: the asset that fills it."""

    name: str
    key: Key
    entity: EntityNode


class FlowNode(msgspec.Struct, frozen=True, kw_only=True):
    """One flow that can be built."""

    stored: StoredFlow
    compiled: CompiledFlow
    source: EntityNode
    targets: Mapping[str, TargetNode]

    @property
    def name(self) -> str:
        """The flow's id; its job carries it too."""
        return self.stored.flow

    @property
    def op(self) -> str:
        """The name of the flow's step, under which its run config stands.

        Three parts: jobs and steps share one namespace, where flow ids have one part and entities' steps two.
        """
        return f"flow__{self.name}__sync"

    def blocked(self, now: Registered) -> str:
        """Why the flow may not run at this moment, '' when it may."""
        stored = next((each for each in now.flows if each.flow == self.name), None)
        if stored is None:
            return f"{self.name}: it is no longer active"
        if not stored.enabled:
            return f"{self.name}: it is disabled"
        paused = {system.system for system in now.systems if system.paused}
        aimed = {target.entity.system for target in self.targets.values()}
        if self.source.system in paused:
            return f"{self.name}: {self.source.system} is paused"
        # As long as one target may be written, the others wait by themselves.
        if paused >= aimed:
            return f"{self.name}: {', '.join(sorted(aimed))} is paused"
        return ""


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the definitions are made of."""

    registered: Registered
    entities: tuple[EntityNode, ...]
    flows: tuple[FlowNode, ...]
    #: Flow -> why it is left out.
    left_out: Mapping[str, str]

    def schema(self, entity: EntityNode) -> EntitySchema | None:
        """The newest schema of an entity, as it was when the definitions were made; None: nobody looked yet."""
        return next(
            (
                each.schema
                for each in self.registered.schemas
                if (each.system, each.entity) == (entity.system, entity.entity)
            ),
            None,
        )

    def readers(self, entity: EntityNode) -> list[FlowNode]:
        """Flows whose source the entity is."""
        return [flow for flow in self.flows if flow.source == entity]

    def writers(self, entity: EntityNode) -> list[tuple[FlowNode, TargetNode]]:
        """Flow targets that write the entity."""
        return [
            (flow, target)
            for flow in self.flows
            for target in flow.targets.values()
            if target.entity == entity
        ]


def build_graph(registered: Registered) -> Graph:
    """Build what can be built; one broken flow never takes the others with it."""
    builder = _Builder(registered)
    for stored in registered.flows:
        builder.add(stored)
    for flow, reason in builder.left_out.items():
        log.error("Flow %s is left out: %s", flow, reason)
    return Graph(
        registered=registered,
        entities=tuple(sorted(builder.entities.values(), key=lambda entity: entity.key)),
        flows=tuple(builder.flows),
        left_out=builder.left_out,
    )


class _CannotBuildError(Exception):
    """Why a flow has no place in the graph; the message is shown."""


class _Builder:
    def __init__(self, registered: Registered) -> None:
        self._connectors = {system.system: system.connector for system in registered.systems}
        self.entities: dict[Key, EntityNode] = {}
        self.flows: list[FlowNode] = []
        self.left_out: dict[str, str] = {}

    def add(self, stored: StoredFlow) -> None:
        try:
            self._add(stored)
        except (_CannotBuildError, IpaasError) as error:
            self.left_out[stored.flow] = str(error)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one flow, the others stay in the graph
            self.left_out[stored.flow] = (
                f"It cannot be compiled ({type(error).__name__}): a fault of the platform, please report it."
            )

    def _add(self, stored: StoredFlow) -> None:
        compiled = compile_flow(load_flow(stored.text, name=stored.flow))
        if compiled.flow.flow != stored.flow:
            raise _CannotBuildError(f"Its text speaks of the flow {compiled.flow.flow!r}.")
        if stored.flow in RESERVED:
            raise _CannotBuildError(
                "The platform itself uses this name in Dagster; give the flow another one."
            )
        entities: dict[Key, EntityNode] = {}
        source = self._entity(compiled.flow.source.system, compiled.flow.source.entity, entities)
        targets = {}
        for name, target in compiled.targets.items():
            entity = self._entity(target.system, target.entity, entities)
            key = (*entity.key, f"{stored.flow}__{name}")
            targets[name] = TargetNode(name=name, key=key, entity=entity)
        # Only now, so that a flow that is left out leaves no entities behind.
        self.entities.update(entities)
        self.flows.append(FlowNode(stored=stored, compiled=compiled, source=source, targets=targets))

    def _entity(self, system: str, entity: str, new: dict[Key, EntityNode]) -> EntityNode:
        connector = self._connectors.get(system)
        if connector is None:
            known = ", ".join(sorted(self._connectors)) or "none yet"
            raise _CannotBuildError(
                f"There is no system {system!r} (systems: {known}). Add its document with `ipaas systems apply FILE`."
            )
        key = (key_part(system), key_part(entity))
        if not all(key):
            raise _CannotBuildError(
                f"The entity {entity!r} has no letter or digit that a key could be made of."
            )
        node = EntityNode(system=system, entity=entity, connector=connector, key=key)
        there = new.get(key) or self.entities.get(key)
        if there is not None and there != node:
            raise _CannotBuildError(
                f"{node.name} and {there.name} would both have the key {'/'.join(key)}; leave one of them out."
            )
        new[key] = node
        return node
