"""What a materialization tells: counts, times, calls, columns and where they come from, where to look on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import dagster as dg

from ipaas_assets.graph import EntityNode, FlowNode
from ipaas_assets.sync.model import Counts, OutcomeName
from ipaas_assets.sync.pull import Pulled
from ipaas_resources.core.schema import EntitySchema, FieldSchema
from mappings.compiler import CompiledTarget

Metadata = dict[str, Any]

#: Always shown, so that Dagster's plots have no holes; other outcomes are shown when there are any.
_USUAL = (
    OutcomeName.CREATED,
    OutcomeName.ADOPTED,
    OutcomeName.UPDATED,
    OutcomeName.NO_CHANGE,
    OutcomeName.DEAD,
)


def outcome_metadata(outcomes: Mapping[str, int]) -> Metadata:
    """Counts by outcome."""
    shown = {outcome.value: 0 for outcome in _USUAL} | {name: many for name, many in outcomes.items() if many}
    return {"items": sum(outcomes.values()), **shown}


def run_metadata(counts: Counts) -> Metadata:
    """What the whole run cost, whichever of its targets is looked at."""
    return {
        "duration_s": round(counts.seconds, 3),
        "received": counts.received,
        "changed": counts.changed,
        "upstream_reads": counts.reads,
        "upstream_writes": counts.writes,
    }


def pull_metadata(pulled: Mapping[str, Pulled], *, mode: str) -> Metadata:
    """What the pulls of all scopes saw."""
    total: Counter[str] = Counter()
    for each in pulled.values():
        total.update(
            received=each.received, changed=each.changed, deleted=each.deleted, set_aside=each.set_aside
        )
    metadata: Metadata = {
        "mode": mode,
        **{name: total[name] for name in ("received", "changed", "deleted", "set_aside")},
        "scopes": len(pulled),
        "complete": bool(pulled) and all(each.complete for each in pulled.values()),
    }
    busy = sorted(scope or "(the system)" for scope, each in pulled.items() if each.busy)
    if busy:
        metadata["pulled_elsewhere"] = ", ".join(busy)
    warnings = [each.warning for each in pulled.values() if each.warning]
    if warnings:
        metadata["warnings"] = "\n".join(warnings)
    return metadata


# --- columns ----------------------------------------------------------------------------------------------------


def entity_columns(schema: EntitySchema) -> dg.TableSchema:
    """Every field of an entity, the fields of its lines under `lines.field`."""
    columns = []
    for field in schema.fields:
        columns.append(_column(field.name, field, key=field.name in schema.key))
        columns += [_column(f"{field.name}.{line.name}", line) for line in field.fields]
    return dg.TableSchema(columns=columns)


def target_columns(target: CompiledTarget, schema: EntitySchema) -> dg.TableSchema:
    """The fields that a flow writes, typed as the target system has them."""
    columns = []
    for name in target.lineage:
        field = _find(schema, name)
        if field is None:
            continue
        rule = target.explain(name) if name in target.rules else ""
        columns.append(_column(name, field, description=rule, key=name in target.key_fields))
    return dg.TableSchema(columns=columns)


def column_lineage(flow: FlowNode, target: CompiledTarget) -> dg.TableColumnLineage:
    """Target field -> source fields it is made of."""
    source = dg.AssetKey(flow.source.key)
    return dg.TableColumnLineage(
        deps_by_column={
            name: [
                dg.TableColumnDep(asset_key=source, column_name=field)
                for field in fields
                if not field.startswith("$")
            ]
            for name, fields in target.lineage.items()
            if not name.startswith("$")
        }
    )


def _find(schema: EntitySchema, name: str) -> FieldSchema | None:
    outer, _, inner = name.partition(".")
    field = schema.field(outer)
    if field is None or not inner:
        return field
    return next((line for line in field.fields if line.name == inner), None)


def _column(name: str, field: FieldSchema, *, description: str = "", key: bool = False) -> dg.TableColumn:
    kind = f"{field.type}({field.max_length})" if field.max_length else field.type
    tags = {"sensitivity": field.sensitivity} if field.sensitivity != "none" else {}
    return dg.TableColumn(
        name=name,
        type=kind,
        description=description or field.description or None,
        constraints=dg.TableColumnConstraints(nullable=field.nullable and not field.required, unique=key),
        tags=tags,
    )


# --- descriptions -----------------------------------------------------------------------------------------------


def target_description(flow: FlowNode, name: str) -> str:
    """What the flow does for this target, rule by rule, as Markdown."""
    spec, target = flow.compiled.flow, flow.compiled.targets[name]
    parts = [f"**{spec.title}**"] if spec.title else []
    if spec.description:
        parts.append(spec.description)
    parts.append(
        f"Every record of {flow.source.name} becomes a record of {target.system}/{target.entity}, "
        f"found by {', '.join(target.key_fields)}. When the source deletes it: {target.on_delete}."
    )
    if not flow.stored.enabled:
        parts.append("The flow is disabled: nothing runs, its work waits.")
    parts.append("\n".join(f"- {target.explain(field)}" for field in target.rules))
    links = sorted({f"{ref.flow}.{ref.target}" for ref in target.references})
    if links:
        # No dependency in the graph: two flows may refer to each other, and the engine needs no order between them.
        parts.append(f"Follows links of {', '.join(links)}.")
    return "\n\n".join(part for part in parts if part)


def entity_description(entity: EntityNode, readers: list[str], writers: list[str]) -> str:
    """What the entity is for, as Markdown."""
    parts = [f"Records of {entity.name} ({entity.connector}), as last read into the mirror."]
    if readers:
        parts.append(f"Read by {', '.join(readers)}.")
    if writers:
        parts.append(f"Written by {', '.join(writers)}.")
    return " ".join(parts)
