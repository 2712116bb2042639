"""What a changed schema means: which fields are gone, renamed or otherwise, and which rules that breaks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from mappings.checking.validate import validate
from mappings.impact.catalog import Catalog, Place, every_rule
from mappings.impact.renames import Rename, Samples
from mappings.impact.schema_changes import FieldChange, schema_changes, schema_renames
from mappings.transforms.direct import Const
from mappings.transforms.if_ import If
from mappings.transforms.lookup import Lookup
from mappings.transforms.unit import UnitOfMeasure

if TYPE_CHECKING:
    from ipaas_resources.core.schema import EntitySchema
    from mappings.faults import Fault

Severity = Literal["breaks", "check"]
"""breaks: the rule cannot work, or a save would refuse it. check: a person has to look."""


class Affected(msgspec.Struct, frozen=True, order=True):
    """A place of a flow that a change of the schema concerns."""

    severity: Severity
    place: Place
    field: str  # of the entity that changed; '' where a save tells the fault
    why: str


class SchemaImpact(msgspec.Struct, kw_only=True):
    """What the difference of two schemas means for the flows."""

    system: str
    entity: str
    changes: list[FieldChange]
    renames: list[Rename]  # proposals; nothing is changed by them
    affected: list[Affected]

    @property
    def breaking(self) -> list[Affected]:
        """Places that cannot work on."""
        return [each for each in self.affected if each.severity == "breaks"]


Schemas = Mapping[tuple[str, str], "EntitySchema"]
"""(system, entity) -> its schema."""


# --- what breaks --------------------------------------------------------------------------------------------------


def schema_impact(
    catalog: Catalog,
    system: str,
    before: EntitySchema,
    after: EntitySchema,
    *,
    schemas: Schemas | None = None,
    was: Samples | None = None,
    now: Samples | None = None,
) -> SchemaImpact:
    """What the difference of two schemas of one entity means for every flow of the catalog.

    `schemas` are those of the other entities; with them a save's own checks are made before and after, and what is
    refused only after is broken by the change. `was` and `now`: samples of values, see schema_renames.
    """
    changes = schema_changes(before, after)
    renames = schema_renames(before, after, was=was, now=now)
    proposals = {rename.field: rename for rename in renames}
    affected: set[Affected] = set()
    for change in changes:
        rename = proposals.get(change.field)
        hint = f"; {rename}" if rename is not None else ""
        affected.update(_read_by(catalog, system, before.entity, change, hint))
        affected.update(_written_by(catalog, system, after, change, hint))
    refused = _refused(catalog, (system, before.entity), before, after, schemas or {})
    return SchemaImpact(
        system=system,
        entity=before.entity,
        changes=changes,
        renames=renames,
        affected=_merged(affected, refused),
    )


#: Changes of a source field that a rule which reads it can feel, and what a person should look at.
_FELT_BY_READERS: Final[Mapping[str, str]] = {
    "retyped": "{field} is now {after}, it was {before}",
    "members_gone": "{field} no longer takes these values: {before}",
    "members_new": "{field} has new values: {after}",
    "nullable": "{field} may now be empty",
    "loosened": "{field} now takes {after}, before {before}",
}
_FELT_BY_WRITERS: Final[Mapping[str, str]] = {
    "retyped": "{field} is now {after}, it was {before}",
    "shortened": "{field} is now {after}, it was {before}: longer texts do not fit",
    "members_gone": "{field} no longer takes these values: {before}",
    "less_precise": "{field} keeps {after} only, before {before}",
    "range": "{field} takes {after} only, before {before}",
    "references": "{field} no longer refers to {before}, only to {after}",
    "not_nullable": "{field} can no longer be empty",
    "required": "{field} is required now: a record without a value for it is refused",
}
_BREAK_WRITERS: Final[Mapping[str, str]] = {
    "removed": "it writes {field}, which is gone",
    "read_only": "it writes {field}, which is read-only now",
}


def _read_by(
    catalog: Catalog, system: str, entity: str, change: FieldChange, hint: str
) -> Iterator[Affected]:
    for use in catalog.readers(system, entity, change.field):
        place = use.place
        if change.kind == "removed":
            how = "finds records by" if use.by else "reads"
            yield Affected("breaks", place, change.field, f"it {how} {change.field}, which is gone{hint}")
            continue
        said = _FELT_BY_READERS.get(change.kind)
        if said is None or not _feels(catalog, place, change):
            continue
        severity: Severity = "check"
        if change.kind == "members_gone" and (lost := _named(catalog, place, change)):
            severity, said = "breaks", f"it looks for {lost}, which {{field}} no longer takes"
        yield Affected(severity, place, change.field, _filled(said, change))


def _feels(catalog: Catalog, place: Place, change: FieldChange) -> bool:
    """Whether the change can matter to what reads the field."""
    if change.kind == "nullable":
        return place.part in ("key", "line key", "scope")
    if change.kind in ("members_new", "loosened"):
        # A rule that knows the values one by one meets one that it does not know.
        rule = catalog.rules.get(place)
        if rule is None:
            return change.kind == "members_new"
        return any(isinstance(part, Lookup | UnitOfMeasure | If) for part in every_rule(rule))
    return True


def _named(catalog: Catalog, place: Place, change: FieldChange) -> str:
    """The members that are gone and that the rule or condition names, in quotes."""
    rule = catalog.rules.get(place)
    words = rule.explain() if rule is not None else _condition(catalog, place)
    gone = [each for each in change.members if f'"{each}"' in words or f"'{each}'" in words]
    return ", ".join(repr(each) for each in gone)


def _condition(catalog: Catalog, place: Place) -> str:
    flow = catalog.flows[place.flow].flow
    if place.part not in ("when", "line when"):
        return ""
    condition = flow.when
    if place.target:
        target = flow.targets[place.target]
        condition = target.lines[place.field].when if place.part == "line when" else target.when
    return condition.source if condition is not None else ""


def _written_by(
    catalog: Catalog, system: str, after: EntitySchema, change: FieldChange, hint: str
) -> Iterator[Affected]:
    writers = catalog.writers(system, after.entity, change.field)
    for place in writers:
        if change.kind in _BREAK_WRITERS:
            why = _filled(_BREAK_WRITERS[change.kind], change) + (hint if change.kind == "removed" else "")
            yield Affected("breaks", place, change.field, why)
        elif change.kind == "not_creatable" and place.part in ("key", "line key"):
            why = (
                f"{change.field} can no longer be set when a record is created, so none would be found by it"
            )
            yield Affected("breaks", place, change.field, why)
        elif change.kind in _FELT_BY_WRITERS:
            severity: Severity = "breaks" if _cannot(catalog, place, change) else "check"
            yield Affected(severity, place, change.field, _filled(_FELT_BY_WRITERS[change.kind], change))
    if change.kind == "required":
        yield from _without_required(catalog, system, after.entity, change, writers)


def _without_required(
    catalog: Catalog, system: str, entity: str, change: FieldChange, writers: Collection[Place]
) -> Iterator[Affected]:
    """Targets that make no value for a field that every new record needs now."""
    lines, _, _ = change.field.rpartition(".")
    have = {(place.flow, place.target) for place in writers}
    for flow, compiled in catalog.flows.items():
        for name, target in compiled.targets.items():
            if (target.system, target.entity) != (system, entity) or (flow, name) in have:
                continue
            if not lines or lines in target.line_fields:
                place = Place(flow, name, "each" if lines else "field", lines)
                why = f"every new record needs {change.field} now, and no rule makes it"
                yield Affected("breaks", place, change.field, why)


def _cannot(catalog: Catalog, place: Place, change: FieldChange) -> bool:
    """True for a constant that the target no longer takes."""
    rule = catalog.rules.get(place)
    if not isinstance(rule, Const):
        return False
    if change.kind == "members_gone":
        return rule.const in change.members
    return change.kind in ("not_nullable", "required") and rule.const is None


def _filled(said: str, change: FieldChange) -> str:
    return said.format(field=change.field, before=change.before, after=change.after)


# --- a save's own checks ------------------------------------------------------------------------------------------


def _refused(
    catalog: Catalog,
    entity: tuple[str, str],
    before: EntitySchema,
    after: EntitySchema,
    schemas: Schemas,
) -> list[Affected]:
    """Rules that a save would take with the schema before, and would refuse with the one after."""
    found = []
    for name, compiled in catalog.flows.items():
        sides = {catalog.source(name), *((each.system, each.entity) for each in compiled.targets.values())}
        if entity not in sides:
            continue
        old, new = ({**schemas, entity: schema} for schema in (before, after))
        known = {(fault.path, fault.what) for fault in _faults(catalog, name, old)}
        found += [
            Affected("breaks", fault_place(catalog, name, fault), "", str(_bare(fault)))
            for fault in _faults(catalog, name, new)
            if (fault.path, fault.what) not in known
        ]
    return found


def _faults(catalog: Catalog, name: str, schemas: Schemas) -> list[Fault]:
    compiled = catalog.flows[name]
    source = schemas.get(catalog.source(name))
    if source is None:
        return []
    targets = {
        target: schema
        for target, each in compiled.targets.items()
        if (schema := schemas.get((each.system, each.entity))) is not None
    }
    return validate(compiled, source, targets)


def _bare(fault: Fault) -> Fault:
    """The fault without its place, which is told beside it, and without the long list of what is valid."""
    return msgspec.structs.replace(fault, path="", file="", line=0, valid=())


def fault_place(catalog: Catalog, flow: str, fault: Fault) -> Place:
    """The place that a fault's path leads to."""
    best = Place(flow, "", "when", "")
    length = 0
    for place in (place for place in catalog.sources if place.flow == flow):
        for path in _paths(place):
            if len(path) > length and (fault.path == path or fault.path.startswith((f"{path}.", f"{path}["))):
                best, length = place, len(path)
    if not length and fault.path.startswith("targets."):
        name = fault.path.split(".")[1].partition("[")[0]
        best = Place(flow, name, "field", "")
    return best


def _paths(place: Place) -> tuple[str, ...]:
    if not place.target:
        return ("when",)
    start = f"targets.{place.target}"
    lines, _, inner = place.field.partition(".")
    match place.part:
        case "key" | "field":
            return f"{start}.key.{place.field}", f"{start}.fields.{place.field}"
        case "line key" | "line field":
            return f"{start}.lines.{lines}.key.{inner}", f"{start}.lines.{lines}.fields.{inner}"
        case "each":
            return (f"{start}.lines.{place.field}",)
        case "line when":
            return (f"{start}.lines.{place.field}.when",)
        case part:
            return (f"{start}.{part}",)


def _merged(affected: Collection[Affected], refused: Collection[Affected]) -> list[Affected]:
    """Each place with what is said of it; what a save says takes the place of a mere "look at it"."""
    broken = {each.place for each in affected if each.severity == "breaks"}
    told = [each for each in refused if each.place not in broken]
    firm = {each.place for each in told}
    kept = [each for each in affected if each.severity == "breaks" or each.place not in firm]
    return sorted({*kept, *told}, key=lambda each: (each.severity != "breaks", each))
