"""Impact analysis over the registry: active flows, schema snapshots and sample values, for the pure functions of mappings.

It reads the store, and the systems where a live schema or the present values of some records are asked for. Nothing
is written and nothing is stored, snapshots included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ipaas_assets.sync.engine import Engine
from ipaas_resources.core.errors import ConfigurationError, IpaasError
from ipaas_resources.core.schema import EntitySchema, schema_from
from ipaas_resources.core.values import Document, Value, decode
from mappings.checking.validate import validate
from mappings.compiler import compile_flow
from mappings.faults import Fault, closest_name
from mappings.impact.catalog import Catalog
from mappings.impact.renames import Samples
from mappings.impact.rule_impact import DraftImpact, Impact, draft_impact, impact_of, rule_names
from mappings.impact.schema_changes import schema_changes
from mappings.impact.schema_impact import SchemaImpact, schema_impact
from mappings.load import load_flow

_SAMPLES = 200  # records of which values are compared
_LIVE = "live"


class DraftReport(msgspec.Struct, kw_only=True):
    """What a draft of a flow changes."""

    impact: DraftImpact
    faults: list[Fault]  # what a save would refuse
    notes: list[str]  # what could not be checked, and why


class SchemaReport(msgspec.Struct, kw_only=True):
    """What a change of an entity's schema means."""

    before: str  # "version 3"
    after: str  # "version 4", or "live"
    impact: SchemaImpact
    notes: list[str]


def catalog_of(engine: Engine) -> Catalog:
    """The active flows of an engine, disabled ones included."""
    return Catalog(
        {name: flow.compiled for name, flow in engine.flows.items()},
        [name for name, flow in engine.flows.items() if not flow.stored.enabled],
    )


def rule_impact(engine: Engine, flow: str, target: str | None = None, field: str | None = None) -> Impact:
    """Who is concerned by an active flow, one of its targets, or the rule of one field.

    Raises:
        ConfigurationError: there is no such flow, target or rule; the message names those there are.
    """
    compiled = engine.flow(flow).compiled
    catalog = catalog_of(engine)
    if target is not None and target not in compiled.targets:
        raise ConfigurationError(
            f"{flow} has no target {target!r}. Its targets: {', '.join(compiled.targets)}."
        )
    if field is not None:
        assert target is not None
        names = rule_names(catalog, flow, target)
        if field not in names:
            hint = closest_name(field, names)
            raise ConfigurationError(
                f"{flow}.{target} has no rule for {field!r}{f'; did you mean {hint}?' if hint else '.'} "
                f"Its rules: {', '.join(names)}."
            )
    return impact_of(catalog, flow, target, field, tables=engine.lookups)


async def draft_report(engine: Engine, text: str, file: str) -> DraftReport:
    """What making the flow of this text active would change, for its own rules and for others.

    Raises:
        FlowErrors: the text has faults that show without the systems.
    """
    compiled = compile_flow(load_flow(text, name=file))
    catalog = catalog_of(engine)
    notes: list[str] = []
    source = compiled.flow.source
    entities = {
        (source.system, source.entity),
        *((each.system, each.entity) for each in compiled.targets.values()),
    }
    schemas = await _known_schemas(engine, entities, notes)
    own = schemas.get((source.system, source.entity))
    faults: list[Fault] = []
    if own is not None:
        targets = {
            name: schema
            for name, each in compiled.targets.items()
            if (schema := schemas.get((each.system, each.entity))) is not None
        }
        flows = {name: tuple(flow.compiled.targets) for name, flow in engine.flows.items()}
        faults = validate(compiled, own, targets, lookups=engine.lookups, flows=flows)
    impact = draft_impact(catalog, compiled, tables=engine.lookups)
    return DraftReport(impact=impact, faults=faults, notes=notes)


async def schema_report(engine: Engine, system: str, entity: str, against: str | None = None) -> SchemaReport:
    """What a change of an entity's schema means for the active flows.

    Without `against` the newest snapshot is compared with the one before it, and where there is one alone with the
    live schema; "live" compares the newest with the live one; a version compares that one with the newest.

    Raises:
        ConfigurationError: there is no such system, or no such snapshot. RetryError: the system does not answer.
    """
    engine.system(system)
    before, after, labels = await _two_schemas(engine, system, entity, against)
    catalog = catalog_of(engine)
    notes: list[str] = []
    entities = set()
    for name, compiled in catalog.flows.items():
        sides = {catalog.source(name), *((each.system, each.entity) for each in compiled.targets.values())}
        if (system, entity) in sides:
            entities |= sides
    schemas = await _known_schemas(engine, entities - {(system, entity)}, notes)
    was, now = await _samples(engine, catalog, system, before, after, notes)
    impact = schema_impact(catalog, system, before, after, schemas=schemas, was=was, now=now)
    return SchemaReport(before=labels[0], after=labels[1], impact=impact, notes=notes)


# --- schemas ------------------------------------------------------------------------------------------------------


async def _two_schemas(
    engine: Engine, system: str, entity: str, against: str | None
) -> tuple[EntitySchema, EntitySchema, tuple[str, str]]:
    newest = await _snapshots(engine, system, entity, None, 2)
    if not newest:
        raise ConfigurationError(
            f"No schema of {system}/{entity} was ever stored: no flow that uses it was applied. Name an entity that "
            "flows use."
        )
    if against is None and len(newest) > 1:
        return newest[1][1], newest[0][1], (f"version {newest[1][0]}", f"version {newest[0][0]}")
    if against is None or against == _LIVE:
        live = await engine.live_schema(system, entity)
        return newest[0][1], live, (f"version {newest[0][0]}", _LIVE)
    if not against.isascii() or not against.isdigit():
        raise ConfigurationError(f"{against!r} is no version of a schema. Give its number, or the word live.")
    found = await _snapshots(engine, system, entity, int(against), 1)
    if not found:
        rows = await engine.database.rows("snapshot_versions", system=system, entity=entity)
        known = ", ".join(str(row.version) for row in rows)
        raise ConfigurationError(
            f"There is no version {against} of the schema of {system}/{entity}. Stored are: {known}."
        )
    return found[0][1], newest[0][1], (f"version {found[0][0]}", f"version {newest[0][0]}")


async def _snapshots(
    engine: Engine, system: str, entity: str, version: int | None, many: int
) -> list[tuple[int, EntitySchema]]:
    rows = await engine.database.rows(
        "snapshots_newest", system=system, entity=entity, version=version, snapshots=many
    )
    return [(row.version, schema_from(row.schema.encode())) for row in rows]


async def _known_schemas(
    engine: Engine, entities: Iterable[tuple[str, str]], notes: list[str]
) -> dict[tuple[str, str], EntitySchema]:
    """The schemas as last seen; one that cannot be had is noted, and rules are not held against it."""
    found = {}
    for system, entity in sorted(entities):
        try:
            found[system, entity] = await engine.known_schema(system, entity)
        except IpaasError as error:
            notes.append(f"{system}/{entity} is not checked: {error.message}")
    return found


# --- samples ------------------------------------------------------------------------------------------------------


async def _samples(
    engine: Engine, catalog: Catalog, system: str, before: EntitySchema, after: EntitySchema, notes: list[str]
) -> tuple[Samples, Samples]:
    """Values of fields that are gone, and of fields that are new, of the same records where they can be had.

    As they were: of the mirror for a source, of what was last sent for a target. As they are: of the mirror where it
    was read again since, and of the system, which is asked for one batch of records.
    """
    kinds = {change.field: change.kind for change in schema_changes(before, after)}
    gone = [name for name, kind in kinds.items() if kind == "removed" and "." not in name]
    fresh = [name for name in after.names() if before.field(name) is None]
    if not gone or not fresh:
        return {}, {}
    known = await _stored(engine, catalog, system, before.entity)
    live = await _live(engine, system, before.entity, list(known), notes)
    return _by_field(known, gone), _by_field({**known, **live}, fresh)


async def _stored(
    engine: Engine, catalog: Catalog, system: str, entity: str
) -> dict[tuple[str, str], Document]:
    """(scope, record) -> what the store last knew of it."""
    rows = await engine.database.rows("mirror_samples", system=system, entity=entity, records=_SAMPLES)
    if not rows:
        for name, compiled in catalog.flows.items():
            for target in compiled.targets.values():
                if (target.system, target.entity) == (system, entity):
                    rows += await engine.database.rows(
                        "link_samples", flow=name, target=target.name, records=_SAMPLES
                    )
    return {(row.scope, row.record): decode(row.document.encode()) for row in rows}


async def _live(
    engine: Engine, system: str, entity: str, records: Sequence[tuple[str, str]], notes: list[str]
) -> dict[tuple[str, str], Document]:
    """The same records as their system has them now, as many as one call gives."""
    if not records:
        return {}
    scope = records[0][0]
    opened = engine.system(system)
    ids = [record for at, record in records if at == scope]
    ids = ids[: opened.connector.manifest.capabilities(entity).read_batch]
    try:
        found = await opened.connector.read(entity, scope, ids)
    except IpaasError as error:
        notes.append(f"renames are recognised without present values: {error.message}")
        return {}
    return {
        (scope, record): each.document for record, each in zip(ids, found, strict=True) if each is not None
    }


def _by_field(
    documents: dict[tuple[str, str], Document], names: Sequence[str]
) -> dict[str, dict[str, Value]]:
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        values = {
            f"{scope}/{record}": document[name]
            for (scope, record), document in documents.items()
            if name in document
        }
        if values:
            found[name] = values
    return found
