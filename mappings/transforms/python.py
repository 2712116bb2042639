"""`python`: any expression of the language; its result is any plain value."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mappings.expressions.emit import emit
from mappings.expressions.gives import of_expression
from mappings.expressions.language import Expression, source_names
from mappings.expressions.operators import any_result
from mappings.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.codegen import Code
    from mappings.kinds import Gives, SourceTypes


class Python(Rule):
    """An expression."""

    word: ClassVar[str] = "python"

    python: Expression

    def compile(self, code: Code) -> str:
        """The expression, its result in canonical form."""
        return f"{code.helper(any_result)}({emit(self.python, code)})"

    def explain(self) -> str:
        """In words."""
        return f"the result of {self.python.source}"

    def gives(self, types: SourceTypes) -> Gives:
        """As far as the expression tells."""
        return of_expression(self.python, types)

    def reads(self) -> Iterator[str]:
        """The names in the expression."""
        yield from source_names(self.python)


RULES = (Python,)
