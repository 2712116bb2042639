"""What hangs together: for rules of a flow, and for a draft of one, who else is concerned, and how."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Literal

import msgspec

from mappings.impact.catalog import Catalog, Place, constant_scope, every_rule, tables_of
from mappings.transforms.ref import Ref

if TYPE_CHECKING:
    from mappings.compiler import CompiledFlow


class Conflict(msgspec.Struct, frozen=True, order=True):
    """Two rules that write the same field of the same entity."""

    system: str
    entity: str
    field: str
    place: Place
    other: Place
    note: str = ""  # what speaks for its being meant


class Shared(msgspec.Struct, frozen=True, order=True):
    """A source field that rules read, and the others that read it too."""

    system: str
    entity: str
    field: str
    places: tuple[Place, ...]
    others: tuple[Place, ...]


class RestsOn(msgspec.Struct, frozen=True, order=True):
    """A link or a lookup table that a rule cannot do without."""

    kind: Literal["links", "lookup"]
    name: str  # flow.target, or the table
    places: tuple[Place, ...]
    trouble: str = ""  # why it cannot rest on it: there is no such flow, its flow is disabled


class Dependent(msgspec.Struct, frozen=True, order=True):
    """Places of any flow that follow the links of a target."""

    links: str  # flow.target
    places: tuple[Place, ...]


class Reader(msgspec.Struct, frozen=True, order=True):
    """Places that read, as their source, a field that a rule writes."""

    system: str
    entity: str
    field: str
    places: tuple[Place, ...]  # that write it
    others: tuple[Place, ...]  # that read it


class Impact(msgspec.Struct, kw_only=True):
    """Who is concerned by some rules of a flow."""

    of: str  # flow, flow.target or flow.target.field
    rules: list[Place]
    conflicts: list[Conflict]
    shared: list[Shared]
    rests_on: list[RestsOn]
    dependents: list[Dependent]
    readers: list[Reader]


class RuleChange(msgspec.Struct, frozen=True):
    """One place that a draft adds, changes or removes."""

    kind: Literal["added", "changed", "removed"]
    place: Place
    before: str = ""  # in words
    after: str = ""


class Consequence(msgspec.Struct, frozen=True, order=True):
    """What a draft means for a place of another flow."""

    breaks: bool  # False: it works on, perhaps not as it was meant
    place: Place
    why: str


class DraftImpact(msgspec.Struct, kw_only=True):
    """What a draft of a flow changes for others."""

    flow: str
    changes: list[RuleChange]
    new_conflicts: list[Conflict]
    ended_conflicts: list[Conflict]
    consequences: list[Consequence]
    #: Who is concerned by the rules that the draft adds or changes.
    impact: Impact


def impact_of(
    catalog: Catalog,
    flow: str,
    target: str | None = None,
    field: str | None = None,
    *,
    tables: Collection[str] | None = None,
) -> Impact:
    """Who is concerned by a flow, one of its targets, or the rule of one field. The names are those of the catalog.

    `field` is as messages name it: name, salesOrderLines.quantity, $scope, or `when`. `tables` are the lookup tables
    there are; None: not checked.
    """
    places = [place for place in catalog.sources if _is_chosen(place, flow, target, field)]
    name = ".".join(part for part in (flow, target, field) if part)
    return _impact(catalog, name, places, (flow, target, field), tables)


def rule_names(catalog: Catalog, flow: str, target: str) -> list[str]:
    """The names under which `impact_of` knows the parts of a target."""
    return list(
        dict.fromkeys(
            _name(place) for place in catalog.sources if (place.flow, place.target) == (flow, target)
        )
    )


def draft_impact(
    catalog: Catalog, draft: CompiledFlow, *, tables: Collection[str] | None = None
) -> DraftImpact:
    """What making a draft active would change, for its own rules and for the other flows."""
    name = draft.flow.flow
    after = catalog.replaced(draft)
    changes = _rule_changes(catalog, after, name)
    old, new = (set(_conflicts(each, _own(each, name))) for each in (catalog, after))
    changed = {change.place for change in changes if change.kind != "removed"}
    return DraftImpact(
        flow=name,
        changes=changes,
        new_conflicts=sorted(new - old),
        ended_conflicts=sorted(old - new),
        consequences=sorted(_consequences(catalog, after, draft)),
        impact=_impact(
            after, name, [place for place in after.sources if place in changed], (name, None, None), tables
        ),
    )


# --- rules --------------------------------------------------------------------------------------------------------

_Chosen = tuple[str, str | None, str | None]
"""flow, target, field: what the question is about; what is inside of it is no other."""


def _name(place: Place) -> str:
    if place.part in ("when", "line when"):
        return f"{place.field}.when" if place.field else "when"
    return place.field


def _is_chosen(place: Place, flow: str, target: str | None, field: str | None) -> bool:
    if place.flow != flow:
        return False
    if target is not None and place.target not in (target, ""):
        return False
    if field is not None:
        return place.target == target and _name(place) == field
    return True


def _own(catalog: Catalog, flow: str) -> list[Place]:
    return [place for place in catalog.sources if place.flow == flow]


def _impact(
    catalog: Catalog, name: str, places: list[Place], chosen: _Chosen, tables: Collection[str] | None
) -> Impact:
    return Impact(
        of=name,
        rules=places,
        conflicts=sorted(set(_conflicts(catalog, places))),
        shared=_shared(catalog, places, chosen),
        rests_on=_rests_on(catalog, places, tables),
        dependents=_dependents(catalog, places, chosen),
        readers=_readers(catalog, places),
    )


def _conflicts(catalog: Catalog, places: Iterable[Place]) -> Iterable[Conflict]:
    for place in places:
        if place.part not in ("key", "field", "line key", "line field"):
            continue
        target = catalog.target(place)
        for other in catalog.writes[target.system, target.entity, place.field]:
            if (other.flow, other.target) == (place.flow, place.target):
                continue
            scopes = constant_scope(target.spec), constant_scope(catalog.target(other).spec)
            if None not in scopes and scopes[0] != scopes[1]:
                continue  # they write records of different scopes
            yield Conflict(
                target.system, target.entity, place.field, place, other, _conflict_note(catalog, place, other)
            )


def _conflict_note(catalog: Catalog, place: Place, other: Place) -> str:
    flows = catalog.flows[place.flow].flow, catalog.flows[other.flow].flow
    if (
        flows[0].exclusive_group
        and flows[0].exclusive_group == flows[1].exclusive_group
        and place.flow != other.flow
    ):
        return f"both are of the exclusive group {flows[0].exclusive_group}: one at a time is active"
    if other.flow in catalog.disabled:
        return f"{other.flow} is disabled"
    if catalog.rules[place] == catalog.rules[other] and catalog.source(place.flow) == catalog.source(
        other.flow
    ):
        return "both make the same value of the same source"
    return ""


def _shared(catalog: Catalog, places: list[Place], chosen: _Chosen) -> list[Shared]:
    fields: dict[tuple[str, str, str], list[Place]] = {}
    for place in places:
        for field in catalog.sources[place]:
            fields.setdefault((*catalog.source(place.flow), field), []).append(place)
    found = []
    for (system, entity, field), mine in sorted(fields.items()):
        others = [
            use.place
            for use in catalog.reads[system, entity, field]
            if use.place not in mine and not _is_chosen(use.place, *chosen)
        ]
        if others:
            found.append(Shared(system, entity, field, tuple(mine), tuple(dict.fromkeys(others))))
    return found


def _rests_on(catalog: Catalog, places: list[Place], tables: Collection[str] | None) -> list[RestsOn]:
    links: dict[str, list[Place]] = {}
    lookups: dict[str, list[Place]] = {}
    for place in places:
        rule = catalog.rules.get(place)
        if rule is None:
            continue
        for part in every_rule(rule):
            if isinstance(part, Ref):
                links.setdefault(part.ref, []).append(place)
        for table in tables_of(rule):
            lookups.setdefault(table, []).append(place)
    found = [
        RestsOn("links", name, tuple(dict.fromkeys(mine)), _link_trouble(catalog, name))
        for name, mine in links.items()
    ]
    found += [
        RestsOn(
            "lookup",
            name,
            tuple(dict.fromkeys(mine)),
            f"there is no lookup table {name}" if tables is not None and name not in tables else "",
        )
        for name, mine in lookups.items()
    ]
    return sorted(found)


def _link_trouble(catalog: Catalog, name: str) -> str:
    flow, _, target = name.partition(".")
    if flow not in catalog.flows:
        return f"there is no active flow {flow}"
    if target not in catalog.flows[flow].targets:
        return f"{flow} has no target {target}"
    return f"{flow} is disabled" if flow in catalog.disabled else ""


def _dependents(catalog: Catalog, places: list[Place], chosen: _Chosen) -> list[Dependent]:
    flow, target, field = chosen
    # A rule that is not of the key has no part in which records are linked.
    keyed = {place.target for place in places if place.part == "key"} if field is not None else None
    found = []
    for name, others in sorted(catalog.refs.items()):
        owner, _, of = name.partition(".")
        if owner != flow or (target is not None and of != target) or (keyed is not None and of not in keyed):
            continue
        outside = tuple(place for place in dict.fromkeys(others) if not _is_chosen(place, *chosen))
        if outside:
            found.append(Dependent(name, outside))
    return found


def _readers(catalog: Catalog, places: list[Place]) -> list[Reader]:
    fields: dict[tuple[str, str, str], list[Place]] = {}
    for place in places:
        if place.part in ("key", "field", "line key", "line field"):
            target = catalog.target(place)
            fields.setdefault((target.system, target.entity, place.field), []).append(place)
    found = []
    for (system, entity, field), mine in sorted(fields.items()):
        others = [use.place for use in catalog.readers(system, entity, field) if use.place not in mine]
        if others:
            found.append(Reader(system, entity, field, tuple(mine), tuple(dict.fromkeys(others))))
    return found


# --- drafts -------------------------------------------------------------------------------------------------------


def _rule_changes(before: Catalog, after: Catalog, flow: str) -> list[RuleChange]:
    old = {(place.target, _name(place)): place for place in _own(before, flow)}
    new = {(place.target, _name(place)): place for place in _own(after, flow)}
    found = []
    for name in [*old, *(name for name in new if name not in old)]:
        was, now = old.get(name), new.get(name)
        said = tuple(
            "" if place is None else _said(each, place) for each, place in ((before, was), (after, now))
        )
        if was is None:
            assert now is not None
            found.append(RuleChange("added", now, "", said[1]))
        elif now is None:
            found.append(RuleChange("removed", was, said[0], ""))
        elif said[0] != said[1] or was.part != now.part or before.rules.get(was) != after.rules.get(now):
            found.append(RuleChange("changed", now, *said))
    return found


def _said(catalog: Catalog, place: Place) -> str:
    """A rule, condition or lines field in words."""
    rule = catalog.rules.get(place)
    if rule is not None:
        return rule.explain()
    flow = catalog.flows[place.flow].flow
    if place.part == "each":
        return f"one line for each of {catalog.sources[place][0]}"
    condition = flow.when
    if place.target:
        target = flow.targets[place.target]
        condition = target.lines[place.field].when if place.part == "line when" else target.when
    assert condition is not None
    return condition.source


def _consequences(before: Catalog, after: Catalog, draft: CompiledFlow) -> Iterable[Consequence]:
    name = draft.flow.flow
    active = before.flows.get(name)
    if active is None:
        return
    for target, old in active.targets.items():
        now = draft.targets.get(target)
        links = f"{name}.{target}"
        refs = [place for place in before.refs.get(links, ()) if place.flow != name]
        if now is None:
            yield from (
                Consequence(True, place, f"{links}, whose links it follows, is gone") for place in refs
            )
        elif (now.system, now.entity) != (old.system, old.entity):
            moved = f"leads to {now.system}/{now.entity} instead of {old.system}/{old.entity}"
            yield from (
                Consequence(True, place, f"{links}, whose links it follows, {moved}") for place in refs
            )
        elif now.spec.key != old.spec.key:
            why = f"{links} finds its records by another key: new records may be linked otherwise"
            yield from (Consequence(False, place, why) for place in refs)
        if before.source(name) != after.source(name):
            why = f"{links}, whose links it follows, reads another source"
            yield from (Consequence(True, place, why) for place in refs)
    yield from _no_longer_written(before, after, name)


def _no_longer_written(before: Catalog, after: Catalog, name: str) -> Iterable[Consequence]:
    for (system, entity, field), places in before.writes.items():
        if not any(place.flow == name for place in places) or after.writes.get((system, entity, field)):
            continue
        for use in before.readers(system, entity, field):
            if use.place.flow == name:
                continue
            what = "finds records by" if use.by else "reads"
            why = f"it {what} {field} of {system}/{entity}, which no flow writes any more"
            yield Consequence(False, use.place, why)
