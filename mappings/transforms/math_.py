"""`math`: a calculation with Decimal numbers; its result is a number or null."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mappings.expressions.emit import emit
from mappings.expressions.gives import of_expression
from mappings.expressions.language import Expression, source_names
from mappings.expressions.operators import number_result
from mappings.kinds import Gives, SourceTypes, number_of
from mappings.rule_input import RuleWithInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.codegen import Code
    from mappings.rules import Rule


class Math(RuleWithInput):
    """A calculation."""

    word: ClassVar[str] = "math"

    math: Expression

    def compile(self, code: Code) -> str:
        """The calculation, brought into canonical form."""
        return f"{code.helper(number_result)}({emit(self.math, code, self.input(code))})"

    def explain(self) -> str:
        """In words."""
        return f"the number {self.math.source}{self.input_explained()}"

    def gives(self, types: SourceTypes) -> Gives:
        """A number, as precise as the calculation tells."""
        return number_of(of_expression(self.math, self.input_types(types)))

    def reads(self) -> Iterator[str]:
        """The names in the expression."""
        yield from self.without_input(source_names(self.math))

    def parts(self) -> Iterator[tuple[str, Rule]]:
        """The input."""
        yield from self.input_parts()


RULES = (Math,)
