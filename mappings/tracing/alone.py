"""One rule or condition of a target at a time, compiled by the compiler of the run, so that none hides another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.values import Document, Value
from mappings.compiler import CompiledTarget
from mappings.fitting import Fitting
from mappings.generate import TargetFunctions
from mappings.tracing.traced import Problem
from mappings.transforms.direct import Const
from mappings.transforms.ref import SCOPE_FIELD

if TYPE_CHECKING:
    from ipaas_resources.core.records import FileRef
    from ipaas_resources.core.schema import EntitySchema
    from mappings.expressions.language import Expression
    from mappings.mapped import Mapped, Resolver
    from mappings.rules import Rule
    from mappings.spec import Flow, Target
    from mappings.transforms.if_ import If

#: Names that no field can have: the key of a target that is otherwise empty, the one row, the test of an `if`.
_NOWHERE: Final = "$nowhere"
_ROW: Final = "$row"
_TEST: Final = "$test"


class Made(msgspec.Struct):
    """What one rule made: a value, or the reason why there is none."""

    has_value: bool
    value: Value
    problems: list[Problem]


class Where(msgspec.Struct, frozen=True):
    """Where a rule stands: its names, what it reads from, the lines it is of."""

    document: Document
    row: Document | None = None
    lines: str = ""  # the target's lines field, '' outside of lines

    def label(self, field: str) -> str:
        return f"{self.lines}.{field}" if self.lines else field


class RulesAlone:
    """The rules of one target, each run alone over one record."""

    def __init__(self, flow: Flow, name: str, document: Document, *, scope: str, record: str) -> None:
        self._flow = flow
        self._name = name
        self._target: Target = flow.targets[name]
        self._document = document
        self._scope = scope
        self._record = record
        self._schemas: tuple[EntitySchema, EntitySchema | None] | None = None
        #: Rules that were compiled already: those of lines serve every line.
        self._compiled: dict[tuple[str, int], CompiledTarget | Problem] = {}
        self._fittings: dict[tuple[str, int], Fitting] = {}
        #: Of each `if` rule, the rule that says which branch it takes.
        self._tests: dict[int, Rule] = {}

    def fit_to(self, schema: EntitySchema, source: EntitySchema | None) -> None:
        """Make values fit the target's schema, as the run does after mapping."""
        self._schemas = schema, source

    def holds(self, expression: Expression) -> tuple[bool | None, list[Problem]]:
        """Whether a condition on the document holds; None with the reason where it fails."""
        flow = self._flow.model_copy(update={"when": expression})
        target = self._target.model_copy(update=_NOTHING)
        functions = TargetFunctions(flow, self._name, target)
        if functions.faults:
            return None, [Problem("error", what) for _, what in functions.faults]
        try:
            return CompiledTarget(flow, self._name, target, functions).when(self._document, self._scope), []
        except MappingError as error:
            return None, [Problem("error", error.message)]

    def line_holds(
        self, expression: Expression, place: Where, resolver: Resolver
    ) -> tuple[bool | None, list[Problem]]:
        """Whether the condition of the lines holds for a row; None with the reason where it fails."""
        key = (place.label("when"), id(expression))
        mapped = self._mapped(key, place, {"when": expression}, resolver)
        return (None, [mapped]) if isinstance(mapped, Problem) else (bool(mapped.lines[place.lines]), [])

    def made(self, name: str, rule: Rule, place: Where, resolver: Resolver, *, fitted: bool = False) -> Made:
        """What a rule makes where it stands; `fitted`: as the target takes it, where its schema is known."""
        key = (place.label(name), id(rule))
        parts: dict[str, Any] = {"scope": rule} if name == SCOPE_FIELD else {"fields": {name: rule}}
        mapped = self._mapped(key, place, parts, resolver)
        if isinstance(mapped, Problem):
            return Made(has_value=False, value=None, problems=[mapped])
        misfits = self._fit(key, mapped) if fitted and self._schemas is not None else []
        problems = [Problem("flag", flag.reason) for flag in mapped.flags]
        problems += [
            Problem(
                "unresolved",
                f"the record it refers to is not linked by {missing.ref.flow}.{missing.ref.target} yet",
            )
            for missing in mapped.unresolved
        ]
        if problems:
            return Made(has_value=False, value=None, problems=problems)
        value: Value
        if name == SCOPE_FIELD:
            value = mapped.scope
        elif place.lines:
            value = mapped.lines[place.lines][0].values[name]
        else:
            file: FileRef | None = mapped.files.get(name)
            value = mapped.values[name] if file is None else file.to_value()
        return Made(has_value=True, value=value, problems=misfits)

    def _fit(self, key: tuple[str, int], mapped: Mapped) -> list[Problem]:
        """Change the image until it fits, as the run does after mapping."""
        compiled = self._compiled[key]
        assert isinstance(compiled, CompiledTarget)
        assert self._schemas is not None
        fitting = self._fittings.get(key)
        if fitting is None:
            fitting = self._fittings[key] = Fitting(compiled, *self._schemas)
        try:
            fitting.fit(mapped)
        except MappingError as error:
            return [Problem("misfit", error.message)]
        return []

    def branch(self, rule: If, place: Where, resolver: Resolver) -> str | None:
        """The branch that an `if` takes: then or else; None where its condition fails."""
        test = self._tests.get(id(rule))
        if test is None:
            test = rule.model_copy(update={"then": Const(const=True), "otherwise": Const(const=False)})
            self._tests[id(rule)] = test
        made = self.made(_TEST, test, place, resolver)
        return ("then" if made.value else "else") if made.has_value else None

    def _mapped(
        self, key: tuple[str, int], place: Where, parts: dict[str, Any], resolver: Resolver
    ) -> Mapped | Problem:
        """What the target makes when it has only these parts."""
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = self._only(place, parts)
        if isinstance(compiled, Problem):
            return compiled
        document = self._document if place.row is None else {**self._document, _ROW: [place.row]}
        try:
            return compiled.map(document, self._scope, self._record, resolver)
        except MappingError as error:
            return Problem("error", error.message)

    def _only(self, place: Where, parts: dict[str, Any]) -> CompiledTarget | Problem:
        if place.lines:
            lines = self._target.lines[place.lines].model_copy(update={**_ONE_ROW, **parts})
            parts = {"lines": {place.lines: lines}}
        target = self._target.model_copy(update={**_NOTHING, **parts})
        functions = TargetFunctions(self._flow, self._name, target)
        if functions.faults:
            return Problem("error", functions.faults[0][1])
        return CompiledTarget(self._flow, self._name, target, functions)


#: A target that makes nothing, and lines that make one line of one row.
_NOTHING: Final[Mapping[str, Any]] = {
    "key": {_NOWHERE: Const(const=None)},
    "fields": {},
    "lines": {},
    "scope": None,
    "when": None,
}
_ONE_ROW: Final[Mapping[str, Any]] = {
    "each": _ROW,
    "rollup": None,
    "key": {_NOWHERE: Const(const=1)},
    "fields": {},
    "when": None,
}
