"""The functions of the expression language. Each is bounded, keeps null in mind and knows only plain values."""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from ipaas_resources.core.values import Value
from mappings.expressions import dates
from mappings.expressions.guards import (
    EXACT,
    MAX_TEXT,
    RuleError,
    as_text,
    capped,
    checked_number,
    checked_text,
    empty,
    kind_name,
    too_large,
    whole,
)
from mappings.expressions.operators import CONTEXT, less, number_result

_MOST_DECIMALS: Final = 30
_MOST_WIDTH: Final = 1_000
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


def _text(x: Value) -> Value:
    return None if x is None else as_text(x)


def _len(x: Value) -> Value:
    if x is None:
        return 0
    if type(x) in (str, list, dict):
        return len(x)
    raise RuleError("type", f"len counts a text or a list, there is {kind_name(x)}")


def _upper(x: Value) -> Value:
    return None if x is None else capped(checked_text(x).upper())


def _lower(x: Value) -> Value:
    return None if x is None else capped(checked_text(x).lower())


def _strip(x: Value) -> Value:
    return None if x is None else checked_text(x).strip()


def _left(x: Value, n: Value) -> Value:
    if x is None or n is None:
        return None
    return checked_text(x)[: max(0, whole(n, "a length", MAX_TEXT))]


def _right(x: Value, n: Value) -> Value:
    if x is None or n is None:
        return None
    count = max(0, whole(n, "a length", MAX_TEXT))
    return checked_text(x)[-count:] if count else ""


def _mid(x: Value, start: Value, n: Value) -> Value:
    if x is None or start is None or n is None:
        return None
    first = max(1, whole(start, "a position", MAX_TEXT)) - 1
    return checked_text(x)[first : first + max(0, whole(n, "a length", MAX_TEXT))]


def _pad_left(x: Value, n: Value, fill: Value = " ") -> Value:
    if x is None or n is None:
        return None
    filling = checked_text(fill)
    if len(filling) != 1:
        raise RuleError("type", "pad_left fills with one character")
    return checked_text(x).rjust(whole(n, "a width", _MOST_WIDTH), filling)


def _replace(x: Value, old: Value, new: Value) -> Value:
    if x is None or old is None or new is None:
        return None
    text, before, after = checked_text(x), checked_text(old), checked_text(new)
    if not before:
        raise RuleError("type", "replace needs a text to look for, it is empty")
    if len(after) > len(before) and len(text) + text.count(before) * (len(after) - len(before)) > MAX_TEXT:
        too_large(f"a text would grow beyond {MAX_TEXT} characters")
    return text.replace(before, after)


def _startswith(x: Value, start: Value) -> bool:
    return x is not None and start is not None and checked_text(x).startswith(checked_text(start))


def _endswith(x: Value, end: Value) -> bool:
    return x is not None and end is not None and checked_text(x).endswith(checked_text(end))


def _contains(x: Value, part: Value) -> bool:
    return x is not None and part is not None and checked_text(part) in checked_text(x)


def _coalesce(*values: Value) -> Value:
    for value in values:
        if value is not None:
            return value
    return None


class Function(msgspec.Struct, frozen=True):
    """One function of the language."""

    call: Callable[..., Value]
    least: int  # arguments
    most: int
    gives: str  # the kind of its value, see mappings/kinds.py; "first": that of its arguments
    says: str  # usage and meaning, for the language reference and for messages


_MANY: Final = 20

FUNCTIONS: Final[Mapping[str, Function]] = {
    "round": Function(_round, 1, 2, "number", "round(x, n): x with n decimals (0), halves away from zero"),
    "floor": Function(_floor, 1, 2, "number", "floor(x, n): x with n decimals (0), downwards"),
    "ceil": Function(_ceil, 1, 2, "number", "ceil(x, n): x with n decimals (0), upwards"),
    "abs": Function(_abs, 1, 1, "number", "abs(x): x without its sign"),
    "min": Function(_min, 1, _MANY, "first", "min(a, b, ...): the smallest that is not null"),
    "max": Function(_max, 1, _MANY, "first", "max(a, b, ...): the largest that is not null"),
    "number": Function(number, 1, 1, "number", 'number(x): the number a text spells; "" is null'),
    "int": Function(_int, 1, 1, "integer", "int(x): the number without its decimals"),
    "text": Function(_text, 1, 1, "text", "text(x): x as text; null stays null"),
    "len": Function(_len, 1, 1, "integer", "len(x): characters of a text, items of a list; 0 for null"),
    "upper": Function(_upper, 1, 1, "text", "upper(x): in capitals"),
    "lower": Function(_lower, 1, 1, "text", "lower(x): in small letters"),
    "strip": Function(_strip, 1, 1, "text", "strip(x): without spaces at both ends"),
    "left": Function(_left, 2, 2, "text", "left(x, n): the first n characters"),
    "right": Function(_right, 2, 2, "text", "right(x, n): the last n characters"),
    "mid": Function(_mid, 3, 3, "text", "mid(x, start, n): n characters from position start; the first is 1"),
    "pad_left": Function(
        _pad_left, 2, 3, "text", 'pad_left(x, n, "0"): filled up to n characters on the left'
    ),
    "replace": Function(_replace, 3, 3, "text", "replace(x, old, new): every old in x becomes new"),
    "startswith": Function(_startswith, 2, 2, "boolean", "startswith(x, start): true or false"),
    "endswith": Function(_endswith, 2, 2, "boolean", "endswith(x, end): true or false"),
    "contains": Function(_contains, 2, 2, "boolean", "contains(x, part): true or false"),
    "coalesce": Function(_coalesce, 1, _MANY, "first", "coalesce(a, b, ...): the first that is not null"),
    "empty": Function(empty, 1, 1, "boolean", 'empty(x): true for null and ""'),
    "date": Function(dates.date_of, 1, 1, "date", "date(x): the UTC day of a date and time"),
    "datetime": Function(dates.datetime_of, 1, 1, "datetime", "datetime(x): a date and time in its UTC form"),
    "year": Function(dates.year_of, 1, 1, "integer", "year(x): the year of a date"),
    "month": Function(dates.month_of, 1, 1, "integer", "month(x): the month of a date, 1 to 12"),
    "day": Function(dates.day_of, 1, 1, "integer", "day(x): the day of the month"),
    "weekday": Function(dates.weekday_of, 1, 1, "integer", "weekday(x): 1 for Monday to 7 for Sunday"),
    "hour": Function(dates.hour_of, 1, 1, "integer", "hour(x): the hour in UTC"),
    "minute": Function(dates.minute_of, 1, 1, "integer", "minute(x): the minute in UTC"),
    "add_days": Function(dates.add_days, 2, 2, "date", "add_days(x, n): the date n days later"),
    "days_between": Function(dates.days_between, 2, 2, "integer", "days_between(a, b): days from a to b"),
}
"""Every function that an expression may call."""
