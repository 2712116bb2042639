"""Which rule of which flow reads and writes which field: the index that impact analysis asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from mappings.expressions.language import source_names
from mappings.transforms.direct import Const
from mappings.transforms.lookup import Lookup
from mappings.transforms.ref import SCOPE_FIELD, Ref
from mappings.transforms.unit import UnitOfMeasure

if TYPE_CHECKING:
    from mappings.compiler import CompiledFlow, CompiledTarget
    from mappings.expressions.language import Expression
    from mappings.rules import Rule
    from mappings.spec import Flow, Lines, Target

T = TypeVar("T")

Part = Literal["key", "field", "scope", "when", "each", "line key", "line field", "line when", "reverse_of"]

EntityField = tuple[str, str, str]
"""(system, entity, field); a field of lines is lines.field."""


class Place(msgspec.Struct, frozen=True, order=True):
    """Where something stands in a flow."""

    flow: str
    target: str  # '' for the flow's own `when` and `reverse_of`
    part: Part
    field: str  # as messages name it: name, salesOrderLines.quantity, $scope; what `when` and `each` stand in

    def __str__(self) -> str:
        """flow.target.field, or flow.target.when."""
        names = [self.flow, *([self.target] if self.target else []), *([self.field] if self.field else [])]
        if self.part in ("when", "line when", "each", "reverse_of"):
            names.append(self.part.rpartition(" ")[2])
        return ".".join(names)


class Reads(msgspec.Struct, frozen=True, order=True):
    """One place that reads a field, and how."""

    place: Place
    #: `by` of a reference: the field is not of the flow's source, but of the record that is referred to.
    by: bool = False


class Catalog:
    """Every active flow, by the fields, links and lookup tables that its parts touch."""

    def __init__(self, flows: Mapping[str, CompiledFlow], disabled: Collection[str] = ()) -> None:
        self.flows = dict(flows)
        self.disabled = frozenset(disabled)
        self.reads: dict[EntityField, list[Reads]] = defaultdict(list)
        self.writes: dict[EntityField, list[Place]] = defaultdict(list)
        #: flow.target -> the places that follow its links
        self.refs: dict[str, list[Place]] = defaultdict(list)
        #: table -> the places that look up in it
        self.lookups: dict[str, list[Place]] = defaultdict(list)
        #: place -> the fields of its source that it reads, in order
        self.sources: dict[Place, tuple[str, ...]] = {}
        #: place -> its rule; conditions have none
        self.rules: dict[Place, Rule] = {}
        for compiled in self.flows.values():
            self._add_flow(compiled)

    def replaced(self, draft: CompiledFlow) -> Catalog:
        """The catalog as it would be with this flow."""
        return Catalog({**self.flows, draft.flow.flow: draft}, self.disabled)

    def target(self, place: Place) -> CompiledTarget:
        """The target that a place stands in."""
        return self.flows[place.flow].targets[place.target]

    def source(self, flow: str) -> tuple[str, str]:
        """System and entity that a flow reads."""
        source = self.flows[flow].flow.source
        return source.system, source.entity

    def readers(self, system: str, entity: str, field: str) -> list[Reads]:
        """Who reads a field, a part of it, or the lines that it stands in as a whole."""
        return _unique(self._around(self.reads, system, entity, field))

    def writers(self, system: str, entity: str, field: str) -> list[Place]:
        """Who writes a field, or fields of the lines that it is."""
        found = list(self.writes.get((system, entity, field), ()))
        for (*owner, other), places in self.writes.items():
            if tuple(owner) == (system, entity) and other.startswith(f"{field}."):
                found += places
        return _unique(found)

    def _around(
        self, index: Mapping[EntityField, Sequence[Reads]], system: str, entity: str, field: str
    ) -> Iterator[Reads]:
        lines = field.rpartition(".")[0]
        for (*owner, other), uses in index.items():
            if tuple(owner) != (system, entity):
                continue
            if other == field or other.startswith(f"{field}."):
                yield from uses
            elif lines and other == lines:
                # `each` names the lines; what it needs of them is told by the rules of the lines.
                yield from (use for use in uses if use.place.part != "each")

    # --- filling --------------------------------------------------------------------------------------------------

    def _add_flow(self, compiled: CompiledFlow) -> None:
        flow = compiled.flow
        if flow.when is not None:
            self._add_condition(flow, Place(flow.flow, "", "when", ""), flow.when)
        if flow.reverse_of is not None:
            self.refs[flow.reverse_of].append(Place(flow.flow, "", "reverse_of", ""))
        for name, target in flow.targets.items():
            self._add_target(flow, name, target, compiled.targets[name])

    def _add_target(self, flow: Flow, name: str, target: Target, compiled: CompiledTarget) -> None:
        if target.when is not None:
            self._add_condition(flow, Place(flow.flow, name, "when", ""), target.when)
        if target.scope is not None:
            place = Place(flow.flow, name, "scope", SCOPE_FIELD)
            self._add_rule(flow, place, target.scope, compiled.lineage[SCOPE_FIELD])
        for field, rule in target.rules().items():
            place = Place(flow.flow, name, "key" if field in target.key else "field", field)
            self._add_rule(flow, place, rule, compiled.lineage[field])
            self.writes[target.system, target.entity, field].append(place)
        for field, lines in target.lines.items():
            self._add_lines(flow, Place(flow.flow, name, "each", field), lines, compiled)

    def _add_lines(self, flow: Flow, each: Place, lines: Lines, compiled: CompiledTarget) -> None:
        rollup = lines.rollup
        rolled = (*rollup.by, *rollup.sum, *rollup.first) if rollup is not None else ()
        self.sources[each] = (lines.each, *(f"{lines.each}.{name}" for name in rolled))
        for field in self.sources[each]:
            self._read(flow, each, field)
        if lines.when is not None:
            place = Place(each.flow, each.target, "line when", each.field)
            self._add_condition(flow, place, lines.when, lines.each)
        for inner, rule in lines.rules().items():
            label = f"{each.field}.{inner}"
            part: Part = "line key" if inner in lines.key else "line field"
            place = Place(each.flow, each.target, part, label)
            self._add_rule(flow, place, rule, compiled.lineage[label])
            self.writes[compiled.system, compiled.entity, label].append(place)

    def _add_condition(self, flow: Flow, place: Place, expression: Expression, each: str = "") -> None:
        fields = []
        for name in source_names(expression):
            if name.startswith("$parent."):
                fields.append(name.removeprefix("$parent."))
            elif not name.startswith("$"):
                fields.append(f"{each}.{name}" if each else name)
        self.sources[place] = tuple(fields)
        for field in fields:
            self._read(flow, place, field)

    def _add_rule(self, flow: Flow, place: Place, rule: Rule, lineage: Sequence[str]) -> None:
        self.rules[place] = rule
        self.sources[place] = tuple(lineage)
        for field in lineage:
            self._read(flow, place, field)
        for table in tables_of(rule):
            self.lookups[table].append(place)
        for part in every_rule(rule):
            if isinstance(part, Ref):
                self._add_ref(flow, place, part)

    def _add_ref(self, flow: Flow, place: Place, ref: Ref) -> None:
        if place not in self.refs[ref.ref]:
            self.refs[ref.ref].append(place)
        other = self.flows.get(ref.flow)
        if ref.by == "id" or other is None or ref.target not in other.flow.targets:
            return
        near = other.flow.source
        # As the engine does: a link is read from the side that the flow's own source is on.
        if near.system != flow.source.system:
            far = other.flow.targets[ref.target]
            self.reads[far.system, far.entity, ref.by].append(Reads(place, by=True))
        else:
            self.reads[near.system, near.entity, ref.by].append(Reads(place, by=True))

    def _read(self, flow: Flow, place: Place, field: str) -> None:
        uses = self.reads[flow.source.system, flow.source.entity, field]
        if Reads(place) not in uses:
            uses.append(Reads(place))


def every_rule(rule: Rule) -> Iterator[Rule]:
    """A rule and the rules inside it."""
    yield rule
    for _, part in rule.parts():
        yield from every_rule(part)


def tables_of(rule: Rule) -> list[str]:
    """The lookup tables that a rule looks up in, each once."""
    found = []
    for part in every_rule(rule):
        if isinstance(part, Lookup):
            found.append(part.lookup)
        elif isinstance(part, UnitOfMeasure) and part.variants is not None:
            found.append(part.variants)
    return _unique(found)


def constant_scope(target: Target) -> str | None:
    """The scope that a target names outright, None where a rule makes it or there is none."""
    return (
        target.scope.const
        if isinstance(target.scope, Const) and isinstance(target.scope.const, str)
        else None
    )


def _unique(items: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(items))
