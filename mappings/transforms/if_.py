"""`if`: one rule where a condition holds, another where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mappings.expressions.emit import emit
from mappings.expressions.language import Expression, source_names
from mappings.rule_input import RuleWithInput
from mappings.rules import AnyRule, Rule
from mappings.transforms.direct import Const

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.codegen import Code
    from mappings.kinds import Gives, SourceTypes


class If(RuleWithInput):
    """One rule or another."""

    word: ClassVar[str] = "if"

    condition: Expression = Field(alias="if")
    then: AnyRule
    otherwise: AnyRule = Field(alias="else", default=Const(const=None))

    def compile(self, code: Code) -> str:
        """A conditional expression."""
        condition = emit(self.condition, code, self.input(code))
        return f"({self.then.compile(code)} if {condition} else {self.otherwise.compile(code)})"

    def explain(self) -> str:
        """In words."""
        condition = f"{self.condition.source}{self.input_explained()}"
        return f"{self.then.explain()} if {condition}, else {self.otherwise.explain()}"

    def gives(self, types: SourceTypes) -> Gives:
        """What either rule gives."""
        return self.then.gives(types).joined(self.otherwise.gives(types))

    def reads(self) -> Iterator[str]:
        """The names in the condition."""
        yield from self.without_input(source_names(self.condition))

    def parts(self) -> Iterator[tuple[str, Rule]]:
        """The input and both rules."""
        yield from self.input_parts()
        yield "then", self.then
        yield "else", self.otherwise


RULES = (If,)
