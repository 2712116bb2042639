"""Applying documents: everything is checked against the live systems first, then stored and active at once, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from ipaas_assets.sync.engine import Engine, flow_targets
from ipaas_resources.connectors import registry as connectors
from ipaas_resources.connectors.base import SystemDocument
from ipaas_resources.core.errors import ConfigurationError, SchemaError
from ipaas_resources.store import registry
from ipaas_resources.store.registry import NewFlow, Saved, StoredSystem
from mappings.compiler import CompiledFlow, compile_flow
from mappings.faults import Fault, FlowErrors, unknown_name
from mappings.load import LoadedFlow, load_folder, load_lookups
from mappings.spec import Flow
from mappings.validate import validate


class Applied(msgspec.Struct, kw_only=True):
    """What applying a folder changed."""

    flows: list[Saved]
    lookups: list[str]  # tables that changed
    raised: int  # records that go through their flow again


async def apply_folder(
    engine: Engine, folder: Path, *, actor: str, reason: str = "", lookups: Path | None = None
) -> Applied:
    """Validate, store and activate every flow of a folder, with its lookup tables.

    Lookup tables are the CSV files of `lookups`, else of `<folder>/lookups`, else of `<folder>/../lookups`.

    Raises:
        FlowErrors: every fault of every file at once; nothing was stored.
        ConfigurationError: the folder holds no flows.
    """
    loaded = load_folder(folder)
    if not loaded:
        raise ConfigurationError(
            f"There is no flow (*.yaml) in {folder}. Name the folder that holds your flows."
        )
    tables = _tables(folder, lookups)
    compiled = {flow.flow.flow: compile_flow(flow.flow) for flow in loaded}
    faults = await _faults(engine, loaded, compiled, tables)
    if faults:
        raise FlowErrors(faults)
    users: dict[str, set[str]] = {}
    for name, flow in {**{name: each.compiled for name, each in engine.flows.items()}, **compiled}.items():
        for target in flow.targets.values():
            for table in target.lookups:
                users.setdefault(table, set()).add(name)
    saved, changed = await registry.save_documents(
        engine.database,
        [_new_flow(flow, compiled[flow.flow.flow]) for flow in loaded],
        tables,
        users,
        actor=actor,
        origin="file",
        reason=reason,
    )
    # The engine reads its flows again: what a crash left to be raised is raised by whoever comes next, this or a run.
    await engine.load()
    raised = await engine.raise_pending()
    return Applied(flows=saved, lookups=changed, raised=raised)


def _tables(folder: Path, named: Path | None) -> dict[str, dict[str, Any]]:
    if named is not None:
        return load_lookups(named)
    for candidate in (folder / "lookups", folder.parent / "lookups"):
        if candidate.is_dir():
            return load_lookups(candidate)
    return {}


def _new_flow(loaded: LoadedFlow, compiled: CompiledFlow) -> NewFlow:
    return NewFlow(
        flow=loaded.flow.flow,
        text=loaded.text,
        source_system=loaded.flow.source.system,
        source_entity=loaded.flow.source.entity,
        exclusive_group=loaded.flow.exclusive_group,
        targets=flow_targets(compiled, 0),
    )


async def _faults(
    engine: Engine, loaded: list[LoadedFlow], compiled: Mapping[str, CompiledFlow], tables: Mapping[str, Any]
) -> list[Fault]:
    """Everything that is wrong with these flows against the systems, the other flows and the lookup tables."""
    faults: list[Fault] = []
    known_tables = {*engine.lookups, *tables}
    known_flows = {
        **{name: tuple(flow.compiled.targets) for name, flow in engine.flows.items()},
        **{name: tuple(flow.targets) for name, flow in compiled.items()},
    }
    for each in loaded:
        flow = compiled[each.flow.flow]
        unknown = _unknown_systems(engine, each.flow)
        if unknown:
            faults += unknown
            continue
        try:
            source = await engine.schema(each.flow.source.system, each.flow.source.entity)
            await engine.scopes(each.flow.source.system, each.flow.source.scopes)
            targets = {
                name: await engine.schema(target.system, target.entity)
                for name, target in flow.targets.items()
            }
        except (SchemaError, ConfigurationError) as error:
            faults.append(Fault(path="", what=error.message.rstrip("."), file=each.name))
            continue
        faults += validate(flow, source, targets, lookups=known_tables, flows=known_flows)
        for name, target in flow.targets.items():
            capabilities = engine.system(target.system).connector.manifest.capabilities(target.entity)
            if "deactivate" in {target.on_delete, target.on_leave} and not capabilities.deactivate:
                file, line = each.flow.place(("targets", name))
                faults.append(
                    Fault(
                        path=f"targets.{name}",
                        what=f"{target.system}/{target.entity} has no way to deactivate a record that the platform "
                        "knows; choose another policy",
                        file=file,
                        line=line,
                    )
                )
    return faults


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


# --- systems ----------------------------------------------------------------------------------------------------

#: What a reference to a secret looks like; see ipaas_resources/secrets.py.
_REFERENCE = re.compile(r"(env|file):.+")
_ID = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_SAID = {
    "missing": "is missing",
    "extra_forbidden": "has no meaning here",
    "model_type": "is no mapping of words and values",
}


def load_systems(path: Path) -> list[StoredSystem]:
    """The system documents of one YAML file (several documents allowed) or of all of a folder.

    Raises:
        ConfigurationError: a file cannot be read, is no YAML, or is no system document; every fault is named.
    """
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise ConfigurationError(f"There is no system document (*.yaml) in {path}.")
    faults: list[str] = []
    stored: list[StoredSystem] = []
    for file in files:
        stored += _load_system_file(file, faults)
    names = [system.system for system in stored]
    faults += [
        f"system {name!r} stands in two documents" for name in sorted(set(names)) if names.count(name) > 1
    ]
    if faults:
        raise ConfigurationError("; ".join(faults) + ". Nothing was stored.")
    return stored


def _load_system_file(file: Path, faults: list[str]) -> list[StoredSystem]:
    try:
        text = file.read_text(encoding="utf-8")
        documents = list(YAML(typ="safe", pure=True).load_all(text))
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{file.name} cannot be read ({error.__class__.__name__})")
        return []
    except YAMLError as error:
        faults.append(f"{file.name}{_yaml_fault(error)}")
        return []
    stored = []
    for content in documents:
        try:
            document = SystemDocument.model_validate(content)
        except ValidationError as error:
            faults += [f"{file.name}: {said}" for said in map(_said, error.errors())]
            continue
        faults += [f"{file.name}: {said}" for said in _wrong_words(document)]
        stored.append(
            StoredSystem(
                system=document.system,
                connector=document.connector,
                document=document.model_dump(mode="json", exclude_unset=True),
                text=text,
                paused=False,
            )
        )
    return stored


def _yaml_fault(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f":{mark.line + 1}" if mark is not None else ""
    problem = str(getattr(error, "problem", None) or "the text is malformed").splitlines()[0]
    if isinstance(error, DuplicateKeyError):
        # The library's own sentence quotes both values, which may be secrets.
        key = problem.partition('"')[2].partition('"')[0]
        return f"{place}: {key!r} stands there a second time"
    return f"{place}: this is not YAML: {problem}"


def _said(error: ErrorDetails) -> str:
    """One fault of a document in words; never what stands there, for it may be a secret in the wrong place."""
    place = ".".join(str(part) for part in error["loc"]) or "the document"
    return f"{place} {_SAID.get(error['type']) or 'is wrong: ' + error['msg'][:1].lower() + error['msg'][1:]}"


def _wrong_words(document: SystemDocument) -> Iterable[str]:
    if not _ID.fullmatch(document.system):
        yield "the id of a system is lower snake case: small letters, digits and single underscores"
    for name, reference in document.secrets.items():
        if not _REFERENCE.fullmatch(reference):
            yield (
                f"secrets.{name} must be a reference such as env:NAME or file:PATH, for secrets themselves do not "
                "belong in documents"
            )


async def apply_systems(engine: Engine, path: Path) -> list[str]:
    """Check and store system documents; the names. Connectors check their own settings; nothing is sent."""
    stored = load_systems(path)
    for system in stored:
        connectors.manifest(system.connector)
        engine.connect(SystemDocument.model_validate(system.document))
    await registry.save_systems(engine.database, stored)
    return [system.system for system in stored]
