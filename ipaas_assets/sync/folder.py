"""A folder of flows and lookup tables, or one text: read, compiled, and held against systems, other flows and tables."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ipaas_assets.sync.engine import ActiveFlow, Engine
from ipaas_assets.sync.standing import links_of_other_entities, others_touched
from ipaas_resources.core.errors import ConfigurationError, SchemaError
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.store.registry import StoredFlow
from ipaas_resources.store.versions import NewFlow, NewLookup
from mappings.checking.validate import Checked, check_flow
from mappings.compiler import CompiledFlow, compile_flow
from mappings.examples import run_examples
from mappings.expressions.language import CHECKER_VERSION
from mappings.faults import Fault, FlowErrors, dotted, unknown_name
from mappings.load import LoadedFlow, load_folder
from mappings.lookup_tables import LoadedTable, load_tables
from mappings.spec import Flow

_T = TypeVar("_T")


class Documents(msgspec.Struct, kw_only=True):
    """Documents that are about to become active, free of faults."""

    flows: list[LoadedFlow]
    compiled: dict[str, CompiledFlow]
    tables: list[LoadedTable]
    warnings: list[Fault] = []  # what works, though perhaps not as it was meant

    def rows(self) -> dict[str, dict[str, Any]]:
        """The lookup tables by name."""
        return {table.name: table.rows for table in self.tables}

    def new_flows(self) -> list[NewFlow]:
        """The flows as the registry stores them."""
        return [
            NewFlow(
                flow=each.flow.flow,
                text=each.text,
                file=each.name,
                source_system=each.flow.source.system,
                source_entity=each.flow.source.entity,
                exclusive_group=each.flow.exclusive_group,
                checker=CHECKER_VERSION,
            )
            for each in self.flows
        ]

    def new_lookups(self) -> list[NewLookup]:
        """The lookup tables as the registry stores them."""
        return [
            NewLookup(lookup=table.name, text=table.text, rows=table.rows, file=table.file)
            for table in self.tables
        ]

    def draft_of(self, engine: Engine) -> Engine:
        """The engine as it will be once these documents are active."""
        drafts = {}
        for each in self.flows:
            active = engine.flows.get(each.flow.flow)
            if active is not None and active.stored.text == each.text:
                continue
            drafts[each.flow.flow] = ActiveFlow(
                StoredFlow(
                    flow=each.flow.flow,
                    version=active.stored.version + 1 if active is not None else 1,
                    text=each.text,
                    enabled=active is None or active.stored.enabled,
                )
            )
        return engine.drafted(drafts, self.rows())


async def read_folder(engine: Engine, folder: Path, lookups: Path | None = None) -> Documents:
    """The flows of a folder with their lookup tables, checked against everything they rest on.

    Lookup tables are the CSV files of `lookups`, else of `<folder>/lookups`, else of `<folder>/../lookups`.

    Raises:
        FlowErrors: every fault of every file at once.
        ConfigurationError: the folder holds no flows.
    """
    loaded = load_folder(folder)
    if not loaded:
        raise ConfigurationError(
            f"There is no flow (*.yaml) in {folder}. Name the folder that holds your flows."
        )
    return await checked(engine, loaded, _tables(folder, lookups))


async def checked(engine: Engine, loaded: list[LoadedFlow], tables: list[LoadedTable]) -> Documents:
    """These flows and tables, free of faults.

    Raises:
        FlowErrors: every fault of every text at once.
    """
    documents = Documents(
        flows=loaded,
        compiled={each.flow.flow: compile_flow(each.flow) for each in loaded},
        tables=tables,
    )
    found = await _check(engine, documents)
    if found.faults:
        raise FlowErrors(found.faults)
    documents.warnings = found.warnings
    return documents


def _tables(folder: Path, named: Path | None) -> list[LoadedTable]:
    if named is not None:
        if not named.is_dir():
            raise ConfigurationError(
                f"There is no folder {named}. Name the folder of your lookup tables (*.csv)."
            )
        return load_tables(named)
    for candidate in (folder / "lookups", folder.parent / "lookups"):
        if candidate.is_dir():
            return load_tables(candidate)
    return []


async def _check(engine: Engine, documents: Documents) -> Checked:
    """Everything that is wrong with these flows against the systems, the other flows and the lookup tables."""
    found = Checked([], [])
    tables = {**engine.lookups, **documents.rows()}
    flows = {name: flow.compiled.flow for name, flow in engine.flows.items()}
    flows |= {name: flow.flow for name, flow in documents.compiled.items()}
    for each in documents.flows:
        unknown = _unknown_systems(engine, each.flow)
        if unknown:
            found.faults.extend(unknown)
            continue
        against = await _against_systems(engine, each, documents.compiled[each.flow.flow], tables, flows)
        found.faults.extend([*against.faults, *_failed_examples(each, tables)])
        found.faults.extend(await links_of_other_entities(engine, each))
        found.warnings.extend(against.warnings)
    for flow in others_touched(engine, documents.compiled, documents.rows()):
        found.faults.extend(await _newly_broken(engine, flow, tables, flows))
    return found


async def _newly_broken(
    engine: Engine,
    active: ActiveFlow,
    tables: Mapping[str, Mapping[str, Any]],
    flows: Mapping[str, Flow],
) -> list[Fault]:
    """What these documents would break in an active flow that is not one of them."""
    known = {name: flow.compiled.flow for name, flow in engine.flows.items()}
    loaded = LoadedFlow(f"{active.name} (active)", active.stored.text, active.compiled.flow)
    found: list[list[Fault]] = []
    for rows, others in ((engine.lookups, known), (tables, flows)):
        against = await _against_systems(engine, loaded, active.compiled, rows, others)
        found.append([*against.faults, *_failed_examples(loaded, rows)])
    before = {str(fault) for fault in found[0]}
    return [fault for fault in found[1] if str(fault) not in before]


async def _against_systems(
    engine: Engine,
    loaded: LoadedFlow,
    compiled: CompiledFlow,
    tables: Mapping[str, Mapping[str, Any]],
    flows: Mapping[str, Flow],
) -> Checked:
    flow = loaded.flow
    faults: list[Fault] = []
    source = await _told(
        engine.schema(flow.source.system, flow.source.entity), loaded, faults, "source", "entity"
    )
    await _told(engine.scopes(flow.source.system, flow.source.scopes), loaded, faults, "source", "scopes")
    targets: dict[str, EntitySchema] = {}
    for name, target in flow.targets.items():
        asked = engine.schema(target.system, target.entity)
        schema = await _told(asked, loaded, faults, "targets", name, "entity")
        if schema is not None:
            targets[name] = schema
    if source is None or faults:
        return Checked(faults, [])
    found = check_flow(compiled, source, targets, lookups=tables, flows=flows)
    for name, target in flow.targets.items():
        capabilities = engine.system(target.system).connector.manifest.capabilities(target.entity)
        if "deactivate" in {target.on_delete, target.on_leave} and not capabilities.deactivate:
            file, line = flow.place(("targets", name))
            found.faults.append(
                Fault(
                    path=f"targets.{name}",
                    what=f"{target.system}/{target.entity} has no way to deactivate a record that the platform "
                    "knows; choose another policy",
                    file=file,
                    line=line,
                )
            )
    return found


async def _told(asked: Awaitable[_T], loaded: LoadedFlow, faults: list[Fault], *path: str) -> _T | None:
    """What a system tells of itself. Where it knows no such thing that is a fault of this place in the flow, and None."""
    try:
        return await asked
    except (SchemaError, ConfigurationError) as error:
        file, line = loaded.flow.place(path)
        what = error.message.rstrip(".")
        faults.append(Fault(path=dotted(path), what=what, file=file or loaded.name, line=line))
        return None


def _failed_examples(loaded: LoadedFlow, tables: Mapping[str, Mapping[str, Any]]) -> list[Fault]:
    """The examples of a flow are its tests: a flow that fails them is not stored."""
    return [
        Fault(
            path=f"examples[{failure.example}].out.{failure.target}",
            what=f"the example does not hold: {'; '.join(failure.differences)}",
            file=failure.file or loaded.name,
            line=failure.line,
        )
        for failure in run_examples(loaded.flow, tables)
    ]


def _unknown_systems(engine: Engine, flow: Flow) -> list[Fault]:
    named: dict[tuple[str | int, ...], str] = {("source", "system"): flow.source.system}
    named |= {("targets", name, "system"): target.system for name, target in flow.targets.items()}
    faults = []
    for path, system in named.items():
        if system not in engine.systems:
            file, line = flow.place(path)
            known = sorted(engine.systems)
            faults.append(unknown_name("the system", system, known, path=path, file=file, line=line))
    return faults
