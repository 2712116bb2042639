"""`python`: an expression or a short block of the language; its result is any plain value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import PlainValidator

from mappings.expressions.emit import emit
from mappings.expressions.emit_block import emit_block
from mappings.expressions.gives import of_expression
from mappings.expressions.language import Block, Expression, parse_program, source_names
from mappings.expressions.results import any_result
from mappings.rule_input import RuleWithInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.codegen import Code
    from mappings.kinds import Gives, SourceTypes
    from mappings.rules import Rule


def _program(value: object) -> Expression | Block:
    return value if isinstance(value, Expression | Block) else parse_program(value)


class Python(RuleWithInput):
    """An expression or a block."""

    word: ClassVar[str] = "python"

    python: Annotated[Expression | Block, PlainValidator(_program)]

    def compile(self, code: Code) -> str:
        """The expression, or a call of the block, with the result in canonical form."""
        given = self.input(code)
        if isinstance(self.python, Block):
            value = emit_block(self.python, code, given)
        else:
            value = emit(self.python, code, given)
        return f"{code.helper(any_result)}({value})"

    def explain(self) -> str:
        """In words."""
        return f"the result of {self.python.source.strip()}{self.input_explained()}"

    def gives(self, types: SourceTypes) -> Gives:
        """As far as the expression tells."""
        return of_expression(self.python, self.input_types(types))

    def reads(self) -> Iterator[str]:
        """The names in the expression."""
        yield from self.without_input(source_names(self.python))

    def parts(self) -> Iterator[tuple[str, Rule]]:
        """The input."""
        yield from self.input_parts()


RULES = (Python,)
