"""The guarded operators that compiled expressions call: null-safe, never float, bounded in size.

Null: arithmetic with null is null; <, <=, >, >= with null are false; == and != compare null like any value.
Numbers: int and Decimal, decimal128-like: results keep 34 digits, halves round to even there (`round` rounds half up).
"""

from __future__ import annotations

import decimal
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from ipaas_resources.core.values import Value
from mappings.expressions.guards import (
    EXACT,
    MAX_BITS,
    RuleError,
    bounded,
    canonical,
    capped,
    checked_number,
    checked_text,
    kind_name,
    too_large,
)

DIGITS: Final = 34  # of a Decimal result
MAX_POWER: Final = 10_000
_LONGEST_LIST: Final = 1_000

# Exponents stay within what core.values.canonical_number stores.
CONTEXT: Final = decimal.Context(
    prec=DIGITS,
    rounding=decimal.ROUND_HALF_EVEN,
    Emax=399,
    Emin=-366,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)


def _cannot(action: str, a: object, b: object) -> NoReturn:
    names = kind_name(a), kind_name(b)
    if "text" in names and "a number" in names:
        raise RuleError("type", f"cannot {action} text and a number; turn one with number(...) or text(...)")
    raise RuleError("type", f"cannot {action} {names[0]} and {names[1]}")


def _decimals(action: str, a: Value, b: Value) -> None:
    # Both must be numbers, at least one of them a Decimal or about to become one.
    for value in (a, b):
        if type(value) is int:
            bounded(value)
        elif type(value) is not Decimal:
            _cannot(action, a, b)


def _overflow() -> NoReturn:
    too_large("a number grew too large")


def add(a: Value, b: Value) -> Value:
    """A + b of numbers, or of texts."""
    if a is None or b is None:
        return None
    if type(a) is str and type(b) is str:
        return capped(a + b)
    if type(a) is int and type(b) is int:
        return bounded(a + b)
    _decimals("add", a, b)
    try:
        return CONTEXT.add(a, b)
    except decimal.DecimalException:
        _overflow()


def subtract(a: Value, b: Value) -> Value:
    """A - b."""
    if a is None or b is None:
        return None
    if type(a) is int and type(b) is int:
        return bounded(a - b)
    _decimals("subtract", a, b)
    try:
        return CONTEXT.subtract(a, b)
    except decimal.DecimalException:
        _overflow()


def multiply(a: Value, b: Value) -> Value:
    """A * b of numbers; text is never repeated."""
    if a is None or b is None:
        return None
    if type(a) is int and type(b) is int:
        return bounded(bounded(a) * bounded(b))
    _decimals("multiply", a, b)
    try:
        return CONTEXT.multiply(a, b)
    except decimal.DecimalException:
        _overflow()


def divide(a: Value, b: Value) -> Value:
    """A / b, a Decimal with up to 34 digits."""
    if a is None or b is None:
        return None
    _decimals("divide", a, b)
    if not b:
        raise RuleError("zero", "a division by zero; test the divisor first: a / b if b else null")
    try:
        return CONTEXT.divide(a, b)
    except decimal.DecimalException:
        _overflow()


def floor_divide(a: Value, b: Value) -> Value:
    """A // b, rounded towards minus infinity for integers and Decimals alike."""
    if a is None or b is None:
        return None
    _decimals("divide", a, b)
    if not b:
        raise RuleError("zero", "a division by zero; test the divisor first: a // b if b else null")
    if type(a) is int and type(b) is int:
        return a // b
    try:
        whole = EXACT.divide_int(a, b)
        rest = EXACT.remainder(a, b)
    except decimal.DecimalException:
        _overflow()
    if rest and (rest < 0) != (b < 0):
        whole = EXACT.subtract(whole, 1)
    return bounded(int(whole))


def modulo(a: Value, b: Value) -> Value:
    """A % b of numbers, with the sign of b; texts are not formatted."""
    if a is None or b is None:
        return None
    _decimals("divide", a, b)
    if not b:
        raise RuleError("zero", "a division by zero; test the divisor first: a % b if b else null")
    if type(a) is int and type(b) is int:
        return a % b
    try:
        rest = EXACT.remainder(a, b)
        if rest and (rest < 0) != (b < 0):
            rest = EXACT.add(rest, b)
        return CONTEXT.plus(rest)
    except decimal.DecimalException:
        _overflow()


def power(a: Value, b: Value) -> Value:
    """A ** b for whole exponents up to 10,000."""
    if a is None or b is None:
        return None
    _decimals("raise", a, b)
    if type(b) is not int:
        raise RuleError("type", "an exponent is a whole number")
    if abs(b) > MAX_POWER:
        too_large(f"an exponent is beyond {MAX_POWER}")
    if type(a) is int and b >= 0:
        if a.bit_length() * b > MAX_BITS + 64:
            too_large(f"an integer would grow beyond {MAX_BITS} bits")
        return bounded(a**b)
    if not a and b <= 0:
        raise RuleError("zero", "zero cannot be raised to this exponent")
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


_NUMBERS: Final = frozenset({int, Decimal})


def _comparable(a: Value, b: Value) -> bool:
    if a is None or b is None:
        return False
    kind = type(a)
    if (kind is str and type(b) is str) or (kind in _NUMBERS and type(b) in _NUMBERS):
        return True
    _cannot("compare", a, b)


def less(a: Value, b: Value) -> bool:
    """A < b of two numbers or two texts; false with null."""
    return _comparable(a, b) and bool(a < b)


def less_or_equal(a: Value, b: Value) -> bool:
    """A <= b of two numbers or two texts; false with null."""
    return _comparable(a, b) and bool(a <= b)


def greater(a: Value, b: Value) -> bool:
    """A > b of two numbers or two texts; false with null."""
    return _comparable(a, b) and bool(a > b)


def greater_or_equal(a: Value, b: Value) -> bool:
    """A >= b of two numbers or two texts; false with null."""
    return _comparable(a, b) and bool(a >= b)


def equal(a: Value, b: Value) -> bool:
    """A == b of plain values; values of two kinds are never equal, true is not 1."""
    if type(a) is type(b) or (type(a) in _NUMBERS and type(b) in _NUMBERS):
        if type(a) is list or type(a) is dict:
            _cannot("compare", a, b)
        return bool(a == b)
    return False


def unequal(a: Value, b: Value) -> bool:
    """A != b of plain values."""
    return not equal(a, b)


def inside(a: Value, b: Value) -> bool:
    """A in b: a value in a list (null too, where the list names it), or a text within a text; else false with null."""
    if b is None:
        return False
    if type(b) is list:
        if len(b) > _LONGEST_LIST:
            too_large(f"a list is longer than {_LONGEST_LIST} items")
        return any(equal(a, item) for item in b)
    if a is None:
        return False
    if type(a) is str and type(b) is str:
        return checked_text(a) in checked_text(b)
    raise RuleError("type", f"cannot look for {kind_name(a)} in {kind_name(b)}")


def number_result(value: Value) -> Value:
    """The result of a math rule in its canonical form: whole numbers as int, no trailing zeros."""
    if value is None:
        return None
    if type(value) is Decimal:
        return canonical(value)
    if type(value) is int:
        return bounded(value)
    raise RuleError("type", f"the result must be a number, it is {kind_name(value)}")


def any_result(value: Value) -> Value:
    """The result of a python rule in its canonical form."""
    if type(value) is Decimal or type(value) is int:
        return number_result(value)
    return value
