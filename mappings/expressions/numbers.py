"""The functions of the expression language about numbers: int and Decimal, never float."""

from __future__ import annotations

import decimal
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from ipaas_resources.core.values import Value
from mappings.expressions.function import MANY, Function
from mappings.expressions.guards import EXACT, RuleError, checked_number, too_large, whole
from mappings.expressions.operators import CONTEXT, less, number_result

_MOST_DECIMALS: Final = 30
_LONGEST_NUMBER: Final = 400


_QUANTUMS: Final = {n: Decimal((0, (1,), -n)) for n in range(-_MOST_DECIMALS, _MOST_DECIMALS + 1)}


def _to_decimals(x: Value, n: Value, rounding: str) -> Value:
    if x is None or n is None:
        return None
    decimals = whole(n, "the number of decimals", _MOST_DECIMALS)
    if type(x) is int and decimals >= 0:
        return checked_number(x)
    exact = Decimal(checked_number(x))
    try:
        return exact.quantize(_QUANTUMS[decimals], rounding, EXACT)
    except decimal.InvalidOperation:
        too_large("a number is too large to round")


def _round(x: Value, n: Value = 0) -> Value:
    return _to_decimals(x, n, decimal.ROUND_HALF_UP)


def _floor(x: Value, n: Value = 0) -> Value:
    return _to_decimals(x, n, decimal.ROUND_FLOOR)


def _ceil(x: Value, n: Value = 0) -> Value:
    return _to_decimals(x, n, decimal.ROUND_CEILING)


def _abs(x: Value) -> Value:
    return None if x is None else abs(checked_number(x)) if type(x) is int else CONTEXT.abs(checked_number(x))


def _min(*values: Value) -> Value:
    best = None
    for value in values:
        if value is not None and (best is None or less(value, best)):
            best = value
    return best


def _max(*values: Value) -> Value:
    best = None
    for value in values:
        if value is not None and (best is None or less(best, value)):
            best = value
    return best


_NUMBER: Final = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")


def number(x: Value) -> Value:
    """The number that a text spells; a number is itself, "" is null."""
    if type(x) is not str:
        return None if x is None else checked_number(x)
    text = x.strip()
    if not text:
        return None
    if len(text) > _LONGEST_NUMBER or _NUMBER.fullmatch(text) is None:
        raise RuleError("number", "a text is no number; digits with a point as decimal sign are needed")
    return number_result(Decimal(text))


def _int(x: Value) -> Value:
    whole_or_not = number(x)
    return None if whole_or_not is None else int(whole_or_not)


FUNCTIONS: Final[Mapping[str, Function]] = {
    "round": Function(_round, 1, 2, "number", "round(x, n): x with n decimals (0), halves away from zero"),
    "floor": Function(_floor, 1, 2, "number", "floor(x, n): x with n decimals (0), downwards"),
    "ceil": Function(_ceil, 1, 2, "number", "ceil(x, n): x with n decimals (0), upwards"),
    "abs": Function(_abs, 1, 1, "number", "abs(x): x without its sign"),
    "min": Function(_min, 1, MANY, "first", "min(a, b, ...): the smallest that is not null"),
    "max": Function(_max, 1, MANY, "first", "max(a, b, ...): the largest that is not null"),
    "number": Function(number, 1, 1, "number", 'number(x): the number a text spells; "" is null'),
    "int": Function(_int, 1, 1, "integer", "int(x): the number without its decimals"),
}
