"""The literals of an expression: texts, whole numbers, and numbers with a point, which are Decimals."""

from __future__ import annotations

import ast
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from ipaas_resources.core.values import escape_text
from mappings.expressions.guards import MAX_BITS
from mappings.expressions.operators import DIGITS

if TYPE_CHECKING:
    from mappings.expressions.sources import Source

_LARGEST_EXPONENT: Final = 30


def check_storable(text: str) -> None:
    """Raises ValueError for a text that no record can hold."""
    if escape_text(text) != text:
        raise ValueError("a text in the expression holds a character that cannot be stored")


def check_constant(node: ast.Constant, source: Source) -> list[ast.expr]:
    """Check a literal; one with a point becomes Decimal. Raises ValueError."""
    value: object = node.value
    if isinstance(value, float):
        # Decimal is not among the types that the parser makes; the emitter takes any plain value.
        node.value = _decimal(node, value, source)  # type: ignore[assignment]
    elif isinstance(value, str):
        check_storable(value)
    elif type(value) is int:
        if value.bit_length() > MAX_BITS:
            raise ValueError(f"a number in the expression has more than {MAX_BITS} bits")
    elif value is not None and type(value) is not bool:
        raise ValueError(f"an expression cannot use a literal of the kind {type(value).__name__}")
    return []


def _decimal(node: ast.Constant, parsed: float, source: Source) -> Decimal:
    # The parser made a float of it; the digits stand in the source.
    literal = source.of(node).replace("_", "")
    try:
        number = Decimal(literal)
        lost = float(number) != parsed
    except (InvalidOperation, OverflowError):
        lost = True
    if lost:
        raise ValueError("a number in the expression cannot be read")
    if len(number.as_tuple().digits) > DIGITS or abs(number.adjusted()) > _LARGEST_EXPONENT:
        raise ValueError(f"a number in the expression has more than {DIGITS} digits or a large exponent")
    return number
