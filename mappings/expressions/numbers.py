"""The functions of the expression language about numbers: int and Decimal, never float."""

from __future__ import annotations

import decimal
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from ipaas_resources.core.values import Value
from mappings.expressions.comparing import less
from mappings.expressions.function import MANY, Function
from mappings.expressions.guards import (
    BEYOND_DECIMALS,
    EXACT,
    RuleError,
    Steps,
    charge,
    charge_items,
    checked_list,
    checked_number,
    too_large,
    whole,
)
from mappings.expressions.operators import CONTEXT, number_result

_MOST_DECIMALS: Final = 30
_LONGEST_NUMBER: Final = 400
_COMPARED_STEPS: Final = MANY * 64  # of as many texts of the greatest length as a call has arguments


_QUANTUMS: Final = {n: Decimal((0, (1,), -n)) for n in range(-_MOST_DECIMALS, _MOST_DECIMALS + 1)}


def to_decimals(x: Value, n: Value, rounding: str) -> Value:
    """The number with n decimals, null when either is null. Negative n rounds to tens, hundreds ..."""
    if x is None or n is None:
        return None
    decimals = whole(n, "the number of decimals", _MOST_DECIMALS)
    if type(x) is int and decimals >= 0:
        return checked_number(x)
    if type(x) is int and not -BEYOND_DECIMALS < x < BEYOND_DECIMALS:
        too_large("a number is too large to round")
    exact = Decimal(checked_number(x))
    try:
        return exact.quantize(_QUANTUMS[decimals], rounding, EXACT)
    except decimal.InvalidOperation:
        too_large("a number is too large to round")


#: The names of the ways to round: what halves do, or where everything goes.
ROUNDINGS: Final[Mapping[str, str]] = {
    "half_up": decimal.ROUND_HALF_UP,
    "half_even": decimal.ROUND_HALF_EVEN,
    "up": decimal.ROUND_UP,
    "down": decimal.ROUND_DOWN,
    "floor": decimal.ROUND_FLOOR,
    "ceiling": decimal.ROUND_CEILING,
}


def rounding_of(mode: Value) -> str:
    """The way to round of this name.

    Raises:
        RuleError: there is none.
    """
    found = ROUNDINGS.get(mode) if type(mode) is str else None
    if found is None:
        raise RuleError("type", f"there is no such way to round. Valid: {', '.join(ROUNDINGS)}")
    return found


def _round(x: Value, n: Value = 0, mode: Value = "half_up") -> Value:
    return to_decimals(x, n, decimal.ROUND_HALF_UP if mode == "half_up" else rounding_of(mode))


def _floor(x: Value, n: Value = 0) -> Value:
    return to_decimals(x, n, decimal.ROUND_FLOOR)


def _ceil(x: Value, n: Value = 0) -> Value:
    return to_decimals(x, n, decimal.ROUND_CEILING)


def _abs(x: Value) -> Value:
    return None if x is None else abs(checked_number(x)) if type(x) is int else CONTEXT.abs(checked_number(x))


def _min(*values: Value, steps: Steps | None = None) -> Value:
    best = None
    for value in _compared(values, steps):
        if value is not None and (best is None or less(value, best)):
            best = value
    return best


def _max(*values: Value, steps: Steps | None = None) -> Value:
    best = None
    for value in _compared(values, steps):
        if value is not None and (best is None or less(best, value)):
            best = value
    return best


def _compared(values: Sequence[Value], steps: Steps | None) -> Sequence[Value]:
    """The values of a call, or the items of the one list in it, charged for comparing them."""
    if len(values) == 1 and type(values[0]) is list:
        values = checked_list(values[0])
        # Where nothing is counted a list has a small budget of its own: few rules need a counter for it then.
        steps = [_COMPARED_STEPS] if steps is None else steps
        charge_items(steps, len(values), 4)
    if steps is not None:
        charge(steps, sum(len(value) for value in values if type(value) is str) >> 10)
    return values


_NUMBER: Final = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")


def number(x: Value) -> Value:
    """The number that a text spells; a number is itself, "" is null."""
    if type(x) is not str:
        return None if x is None else checked_number(x)
    # A text far longer than any number is not even stripped: it may be a long one of spaces.
    text = x.strip() if len(x) <= 4 * _LONGEST_NUMBER else x
    if not text:
        return None
    if len(text) > _LONGEST_NUMBER:
        raise RuleError("number", f"a text of more than {_LONGEST_NUMBER} characters is no number")
    if _NUMBER.fullmatch(text) is None:
        raise RuleError("number", "a text is no number; digits with a point as decimal sign are needed")
    return number_result(Decimal(text))


def _int(x: Value) -> Value:
    whole_or_not = number(x)
    return None if whole_or_not is None else int(whole_or_not)


FUNCTIONS: Final[Mapping[str, Function]] = {
    "round": Function(
        _round,
        1,
        3,
        "number",
        f"round(x, n, mode): x with n decimals (0); halves go away from zero, or mode: {', '.join(ROUNDINGS)}",
    ),
    "floor": Function(_floor, 1, 2, "number", "floor(x, n): x with n decimals (0), downwards"),
    "ceil": Function(_ceil, 1, 2, "number", "ceil(x, n): x with n decimals (0), upwards"),
    "abs": Function(_abs, 1, 1, "number", "abs(x): x without its sign"),
    "min": Function(
        _min, 1, MANY, "item", "min(a, b, ...) or min(list): the smallest that is not null", _COMPARED_STEPS
    ),
    "max": Function(
        _max, 1, MANY, "item", "max(a, b, ...) or max(list): the largest that is not null", _COMPARED_STEPS
    ),
    "number": Function(number, 1, 1, "number", 'number(x): the number a text spells; "" is null', weight=5),
    "float": Function(
        number, 1, 1, "number", "float(x): the same as number(x), exact all the same", weight=5
    ),
    "int": Function(_int, 1, 1, "integer", "int(x): the number without its decimals", weight=5),
}
