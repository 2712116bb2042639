"""The functions of the expression language about text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ipaas_resources.core.values import Value
from mappings.expressions.function import Function
from mappings.expressions.guards import (
    MAX_TEXT,
    RuleError,
    as_text,
    capped,
    checked_text,
    kind_name,
    too_large,
    whole,
)

_MOST_WIDTH: Final = 1_000


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


FUNCTIONS: Final[Mapping[str, Function]] = {
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
}
