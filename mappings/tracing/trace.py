"""How one record is mapped, field by field: what each rule read, what it made, and what is wrong with it.

Each rule is compiled alone, by the compiler of the run: so one rule that fails does not hide the others, and a rule
that works gives what the run would give. Nothing is stored and nothing is asked but the resolver.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.core.values import Document, Value
from mappings.contract import Contract
from mappings.expressions.guards import RuleError
from mappings.expressions.language import Expression, source_names
from mappings.mapped import LineImage, LinkHit, Missing, RefUse, Resolver
from mappings.rollup import RollUp, rolled_up
from mappings.runtime import no_lines_twice, rows_of
from mappings.tracing.alone import RulesAlone, Where
from mappings.tracing.traced import (
    ConditionTrace,
    FieldTrace,
    LinesTrace,
    LineTrace,
    Problem,
    Step,
    TargetTrace,
    UsedEntry,
    UsedLink,
    described,
    value_type,
)
from mappings.transforms.direct import Const, Direct
from mappings.transforms.if_ import If
from mappings.transforms.ref import SCOPE_FIELD

if TYPE_CHECKING:
    from mappings.rules import Rule
    from mappings.spec import Flow, Lines, Target

_BRANCHES: Final = ("then", "else")


def trace_target(
    flow: Flow,
    name: str,
    document: Document,
    *,
    scope: str,
    record: str,
    resolver: Resolver,
    schema: EntitySchema | None = None,
    source_schema: EntitySchema | None = None,
) -> TargetTrace:
    """Map one record into one target, a rule at a time.

    `flow` is a model that compiles; `record` is the record's id, '' where it has none yet. With the target's `schema`
    each value is made to fit its field as the run does it, and held against it. The document is not changed.
    """
    tracer = _Tracer(flow, name, document, scope=scope, record=record, resolver=resolver)
    if schema is not None:
        tracer.hold_against(schema, source_schema)
    return tracer.trace()


def rule_inputs(rule: Rule) -> list[str]:
    """Every source value that a rule and the rules inside it read, each once, by the name they use."""
    found = dict.fromkeys(rule.reads())
    for _, part in rule.parts():
        found.update(dict.fromkeys(rule_inputs(part)))
    return list(found)


class _Recorder:
    """A resolver that remembers what it answered."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self.links: dict[UsedLink, None] = {}
        self.entries: list[UsedEntry] = []

    def link(self, ref: RefUse, value: str) -> LinkHit | None:
        hit = self._resolver.link(ref, value)
        far = (None, None) if hit is None else (hit.id, hit.scope)
        used = UsedLink(link=f"{ref.flow}.{ref.target}", by=ref.by, value=value, id=far[0], scope=far[1])
        self.links[used] = None
        return hit

    def lookup(self, table: str, key: str) -> Value | Missing:
        entry = self._resolver.lookup(table, key)
        found = not isinstance(entry, Missing)
        used = UsedEntry(table=table, key=key, found=found, entry=entry if found else None)
        if used not in self.entries:
            self.entries.append(used)
        return entry


class _Tracer:
    def __init__(
        self,
        flow: Flow,
        name: str,
        document: Document,
        *,
        scope: str,
        record: str,
        resolver: Resolver,
    ) -> None:
        self._flow = flow
        self._name = name
        self._target: Target = flow.targets[name]
        self._document = document
        self._scope = scope
        self._record = record
        self._resolver = resolver
        self._schema: EntitySchema | None = None
        self._alone = RulesAlone(flow, name, document, scope=scope, record=record)

    def hold_against(self, schema: EntitySchema, source: EntitySchema | None) -> None:
        """Make values fit the target's schema, and say which it does not take."""
        self._schema = schema
        self._alone.fit_to(schema, source)

    def trace(self) -> TargetTrace:
        target = self._target
        at = Where(self._document)
        conditions = [
            self._condition(place, expression)
            for place, expression in (
                ("when", self._flow.when),
                (f"targets.{self._name}.when", target.when),
            )
            if expression is not None
        ]
        scope = None
        if target.scope is not None:
            scope = self._field(SCOPE_FIELD, target.scope, at, None, is_key=False)
        return TargetTrace(
            flow=self._flow.flow,
            target=self._name,
            system=target.system,
            entity=target.entity,
            conditions=conditions,
            passes=_all_hold(conditions),
            scope=scope,
            fields=[
                self._field(field, rule, at, self._schema, is_key=field in target.key)
                for field, rule in target.rules().items()
            ],
            lines=[self._lines(field, lines) for field, lines in target.lines.items()],
        )

    # --- conditions -----------------------------------------------------------------------------------------------

    def _condition(self, place: str, expression: Expression) -> ConditionTrace:
        holds, problems = self._alone.holds(expression)
        return ConditionTrace(
            place=place,
            expression=expression.source,
            inputs=self._inputs(source_names(expression), Where(self._document)),
            holds=holds,
            problems=problems,
        )

    def _line_condition(self, lines: Lines, place: Where) -> ConditionTrace | None:
        if lines.when is None:
            return None
        holds, problems = self._alone.line_holds(lines.when, place, self._resolver)
        return ConditionTrace(
            place=f"targets.{self._name}.lines.{place.lines}.when",
            expression=lines.when.source,
            inputs=self._inputs(source_names(lines.when), place),
            holds=holds,
            problems=problems,
        )

    # --- fields ---------------------------------------------------------------------------------------------------

    def _field(
        self, name: str, rule: Rule, place: Where, schema: EntitySchema | None, *, is_key: bool
    ) -> FieldTrace:
        recorder = _Recorder(self._resolver)
        made = self._alone.made(name, rule, place, recorder, fitted=True)
        traced = FieldTrace(
            field=place.label(name),
            is_key=is_key,
            word=rule.word,
            says=rule.explain(),
            inputs=self._inputs(rule_inputs(rule), place),
            steps=list(self._steps(name, rule, place)),
            links=list(recorder.links),
            entries=recorder.entries,
            has_value=made.has_value,
            value=made.value,
            type=value_type(made.value) if made.has_value else "",
            problems=made.problems,
        )
        if schema is not None:
            _judge(schema, name, traced)
        return traced

    def _steps(self, name: str, rule: Rule, place: Where) -> Iterator[Step]:
        """What the rules inside gave, as far as they took part."""
        if isinstance(rule, If):
            taken = self._alone.branch(rule, place, self._resolver)
            if taken is None:
                return
            yield Step("if", taken == "then")
        else:
            taken = ""
        for word, part in rule.parts():
            if word in _BRANCHES and word != taken:
                continue
            if isinstance(part, Direct | Const):
                continue  # the inputs say it already
            made = self._alone.made(name, part, place, self._resolver)
            if made.has_value:
                yield Step(word, made.value)
            yield from self._steps(name, part, place)

    def _inputs(self, names: Sequence[str] | Iterator[str], place: Where) -> dict[str, Value]:
        return {name: self._input(name, place) for name in names}

    def _input(self, name: str, place: Where) -> Value:
        if name == "$scope":
            return self._scope
        if name == "$id":
            return self._record
        if name.startswith("$parent."):
            return self._document.get(name.removeprefix("$parent."))
        return (self._document if place.row is None else place.row).get(name)

    # --- lines ----------------------------------------------------------------------------------------------------

    def _lines(self, field: str, lines: Lines) -> LinesTrace:
        traced = LinesTrace(field=field, each=lines.each, lines=[])
        try:
            rows = rows_of(self._document.get(lines.each))
        except RuleError as error:
            traced.problems = [Problem("error", f"{error.what}: {lines.each}")]
            return traced
        if lines.rollup is None:
            traced.lines = [
                self._line(
                    field,
                    lines,
                    row,
                    number,
                    self._line_condition(lines, Where(self._document, row, field)),
                )
                for number, row in enumerate(rows, start=1)
            ]
        else:
            self._roll_up(traced, lines, lines.rollup, rows)
        made = [LineImage(line.fields[0].value, {}) for line in traced.lines if line.is_made]
        try:
            no_lines_twice(made)
        except RuleError as error:
            traced.problems.append(Problem("error", error.what))
        return traced

    def _line(
        self, field: str, lines: Lines, row: Document, number: int, when: ConditionTrace | None
    ) -> LineTrace:
        # The run does not look at the rules of a line that it leaves out.
        if when is not None and when.holds is not True:
            return LineTrace(number=number, when=when)
        own = self._schema.field(field) if self._schema is not None else None
        schema = EntitySchema(entity=field, key=(), fields=own.fields) if own and own.fields else None
        place = Where(self._document, row, field)
        fields = [
            self._field(name, rule, place, schema, is_key=name in lines.key)
            for name, rule in lines.rules().items()
        ]
        return LineTrace(number=number, when=when, is_made=fields[0].has_value, fields=fields)

    def _roll_up(self, traced: LinesTrace, lines: Lines, rollup: RollUp, rows: list[Document]) -> None:
        """First the lines that do not count, then what the others become."""
        kept = []
        for number, row in enumerate(rows, start=1):
            when = self._line_condition(lines, Where(self._document, row, traced.field))
            if when is None or when.holds is True:
                kept.append(row)
            else:
                traced.lines.append(LineTrace(number=number, when=when))
        reads = [name for rule in lines.rules().values() for name in rule_inputs(rule)]
        try:
            rolled = rolled_up(kept, rollup.plan(dict.fromkeys(reads)))
        except RuleError as error:
            traced.problems.append(Problem("error", error.what))
            return
        for number, row in enumerate(rolled, start=1):
            line = self._line(traced.field, lines, row, number, None)
            line.is_rolled_up = True
            traced.lines.append(line)


def _judge(schema: EntitySchema, name: str, traced: FieldTrace) -> None:
    """Add what the target says to a field."""
    field = schema.field(name)
    if field is None:
        traced.problems.append(Problem("misfit", f"{schema.entity} has no such field"))
        return
    traced.takes = described(field)
    if field.readonly:
        traced.problems.append(Problem("misfit", f"{schema.entity} does not take it: it is read-only"))
    elif traced.has_value and not traced.problems:
        one = EntitySchema(entity=schema.entity, key=(), fields=(field,))
        for violations in Contract(one).check([{name: traced.value}]).values():
            traced.problems += [Problem("misfit", violation.reason) for violation in violations]


def _all_hold(conditions: Sequence[ConditionTrace]) -> bool | None:
    """As the run reckons: the first that does not hold ends it, the first that fails is an error."""
    for condition in conditions:
        if condition.holds is not True:
            return condition.holds
    return True
