"""`math`: a calculation with Decimal numbers; its result is a number or null."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mappings.expressions.emit import emit
from mappings.expressions.language import Expression, source_names
from mappings.expressions.operators import number_result
from mappings.kinds import NUMBER, Gives, SourceTypes
from mappings.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.codegen import Code


class Math(Rule):
    """A calculation."""

    word: ClassVar[str] = "math"

    math: Expression

    def compile(self, code: Code) -> str:
        """The calculation, brought into canonical form."""
        return f"{code.helper(number_result)}({emit(self.math, code)})"

    def explain(self) -> str:
        """In words."""
        return f"the number {self.math.source}"

    def gives(self, types: SourceTypes) -> Gives:
        """A number."""
        del types
        return NUMBER

    def reads(self) -> Iterator[str]:
        """The names in the expression."""
        yield from source_names(self.math)


RULES = (Math,)
