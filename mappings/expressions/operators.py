"""The guarded operators that compiled expressions call: null-safe, never float, bounded in size.

Each takes `steps` last: what is left of the evaluation, where that is counted. Only large operands charge.

Null: arithmetic with null is null; <, <=, >, >= with null are false; == and != compare null like any value.
Numbers: int and Decimal, decimal128-like: results keep 34 digits, halves round to even there (`round` rounds half up).
"""

from __future__ import annotations

import decimal
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from ipaas_resources.core.values import Value
from mappings.expressions.guards import (
    BEYOND_DECIMALS,
    EXACT,
    MAX_BITS,
    MAX_ITEMS,
    MAX_TEXT,
    RuleError,
    Steps,
    as_whole,
    bounded,
    cannot,
    canonical,
    capped_list,
    charge,
    charge_copy,
    charge_items,
    checked_list,
    checked_number,
    kind_name,
    too_large,
)

DIGITS: Final = 34  # of a Decimal result
MAX_POWER: Final = 10_000
_WIDE: Final = 1 << 512  # an integer beyond it is slow to multiply and to divide
_WIDE_FOR_DECIMALS: Final = 1 << 128  # ... is slow to turn into a Decimal

# Exponents stay within what core.values.canonical_number stores.
CONTEXT: Final = decimal.Context(
    prec=DIGITS,
    rounding=decimal.ROUND_HALF_EVEN,
    Emax=399,
    Emin=-366,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)


def _decimals(action: str, a: Value, b: Value, steps: Steps | None) -> None:
    # Both must be numbers, at least one of them a Decimal or about to become one.
    for value in (a, b):
        if type(value) is int:
            if not -_WIDE_FOR_DECIMALS < value < _WIDE_FOR_DECIMALS:
                _as_decimal(value, steps)
        elif type(value) is not Decimal:
            cannot(action, a, b)


def _as_decimal(value: int, steps: Steps | None) -> None:
    """The price of turning a wide integer into a Decimal."""
    if not -BEYOND_DECIMALS < value < BEYOND_DECIMALS:
        bounded(value)
        _overflow()
    charge(steps, value.bit_length() >> 8)


def _is_wide(a: int, b: int) -> bool:
    return not (-_WIDE < a < _WIDE and -_WIDE < b < _WIDE)


_WIDE_STEPS: Final = 4


def _overflow() -> NoReturn:
    too_large("a number grew too large")


def add(a: Value, b: Value, steps: Steps | None = None) -> Value:
    """A + b of numbers, of texts, or of lists."""
    if a is None or b is None:
        return None
    if type(a) is str and type(b) is str:
        if len(a) + len(b) > MAX_TEXT:
            too_large(f"a text would grow beyond {MAX_TEXT} characters")
        if steps is not None:
            charge_copy(steps, len(a) + len(b))
        return a + b
    if type(a) is int and type(b) is int:
        return bounded(a + b)
    if type(a) is list and type(b) is list:
        charge_items(steps, len(a) + len(b))
        return capped_list(checked_list(a) + checked_list(b))
    if type(a) is not Decimal or type(b) is not Decimal:
        _decimals("add", a, b, steps)
    try:
        return CONTEXT.add(a, b)
    except decimal.DecimalException:
        _overflow()


def subtract(a: Value, b: Value, steps: Steps | None = None) -> Value:
    """A - b."""
    if a is None or b is None:
        return None
    if type(a) is int and type(b) is int:
        return bounded(a - b)
    if type(a) is not Decimal or type(b) is not Decimal:
        _decimals("subtract", a, b, steps)
    try:
        return CONTEXT.subtract(a, b)
    except decimal.DecimalException:
        _overflow()


def multiply(a: Value, b: Value, steps: Steps | None = None) -> Value:
    """A * b of numbers; a text or a list times a whole number is repeated."""
    if a is None or b is None:
        return None
    if type(a) is int and type(b) is int:
        if _is_wide(a, b):
            return _multiply_wide(a, b, steps)
        return bounded(a * b)
    if type(a) in _REPEATED or type(b) in _REPEATED:
        return _repeat(a, b, steps)
    if type(a) is not Decimal or type(b) is not Decimal:
        _decimals("multiply", a, b, steps)
    try:
        return CONTEXT.multiply(a, b)
    except decimal.DecimalException:
        _overflow()


def _multiply_wide(a: int, b: int, steps: Steps | None) -> int:
    charge(steps, _WIDE_STEPS)
    if a.bit_length() + b.bit_length() > MAX_BITS + 1:
        too_large(f"an integer would grow beyond {MAX_BITS} bits")
    return bounded(a * b)


_REPEATED: Final = frozenset({str, list})


def _repeat(a: Value, b: Value, steps: Steps | None) -> Value:
    many, count = (a, as_whole(b)) if type(a) in _REPEATED else (b, as_whole(a))
    if type(count) is not int:
        cannot("multiply", a, b)
    times = max(0, count)
    if type(many) is str:
        if len(many) * times > MAX_TEXT:
            too_large(f"a text would grow beyond {MAX_TEXT} characters")
        charge_copy(steps, len(many) * times)
    else:
        if len(many) * times > MAX_ITEMS:
            too_large(f"a list would grow beyond {MAX_ITEMS} items")
        charge_items(steps, len(many) * times)
    # An empty text is not repeated at all: the count may be too large for an index.
    return many * times if many else many[:]


def divide(a: Value, b: Value, steps: Steps | None = None) -> Value:
    """A / b, a Decimal with up to 34 digits."""
    if a is None or b is None:
        return None
    if type(a) is not Decimal or type(b) is not Decimal:
        _decimals("divide", a, b, steps)
    if not b:
        raise RuleError("zero", "a division by zero; test the divisor first: a / b if b else null")
    try:
        return CONTEXT.divide(a, b)
    except decimal.DecimalException:
        _overflow()


def floor_divide(a: Value, b: Value, steps: Steps | None = None) -> Value:
    """A // b, rounded towards minus infinity for integers and Decimals alike."""
    if a is None or b is None:
        return None
    integers = type(a) is int and type(b) is int
    if not integers:
        _decimals("divide", a, b, steps)
    if not b:
        raise RuleError("zero", "a division by zero; test the divisor first: a // b if b else null")
    if integers:
        if _is_wide(a, b):
            charge(steps, _WIDE_STEPS)
        return bounded(a) // bounded(b)
    try:
        whole = EXACT.divide_int(a, b)
        rest = EXACT.remainder(a, b)
    except decimal.DecimalException:
        _overflow()
    if rest and (rest < 0) != (b < 0):
        whole = EXACT.subtract(whole, 1)
    return bounded(int(whole))


def modulo(a: Value, b: Value, steps: Steps | None = None) -> Value:
    """A % b of numbers, with the sign of b; texts are not formatted."""
    if a is None or b is None:
        return None
    integers = type(a) is int and type(b) is int
    if not integers:
        if type(a) is str:
            raise RuleError(
                "type",
                '% is the rest of a division of numbers; turn text with number(...), put values into text with f"{x}"',
            )
        _decimals("divide", a, b, steps)
    if not b:
        raise RuleError("zero", "a division by zero; test the divisor first: a % b if b else null")
    if integers:
        if _is_wide(a, b):
            charge(steps, _WIDE_STEPS)
        return bounded(a) % bounded(b)
    try:
        rest = EXACT.remainder(a, b)
        if rest and (rest < 0) != (b < 0):
            rest = EXACT.add(rest, b)
        return CONTEXT.plus(rest)
    except decimal.DecimalException:
        _overflow()


def power(a: Value, b: Value, steps: Steps | None = None) -> Value:
    """A ** b for whole exponents up to 10,000."""
    if a is None or b is None:
        return None
    if type(a) is not int or type(b) is not int:
        _decimals("raise", a, b, steps)
        b = as_whole(b)
    if type(b) is not int:
        raise RuleError("type", "an exponent is a whole number")
    if abs(b) > MAX_POWER:
        too_large(f"an exponent is beyond {MAX_POWER}")
    if type(a) is int and b >= 0:
        # One bit more than the limit is let through, for the logarithm is not exact; `bounded` is.
        if a and math.log2(abs(a)) * b > MAX_BITS + 1:
            too_large(f"an integer would grow beyond {MAX_BITS} bits")
        charge(steps, _WIDE_STEPS)
        return bounded(a**b)
    if not a and b <= 0:
        if b == 0:
            return 1
        raise RuleError("zero", "zero cannot be raised to this exponent")
    charge(steps, _WIDE_STEPS)
    try:
        return CONTEXT.power(a, b)
    except decimal.DecimalException:
        _overflow()


def negate(a: Value) -> Value:
    """-a."""
    if a is None:
        return None
    number = checked_number(a)
    return -number if type(number) is int else CONTEXT.minus(number)


def positive(a: Value) -> Value:
    """+a."""
    return None if a is None else checked_number(a)


def number_result(value: Value) -> Value:
    """The result of a math rule in its canonical form: whole numbers as int, no trailing zeros."""
    if value is None:
        return None
    if type(value) is Decimal:
        return canonical(value)
    if type(value) is int:
        return bounded(value)
    raise RuleError("type", f"the result must be a number, it is {kind_name(value)}")
