"""The functions of the expression language that roll up lines: by a key, or all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ipaas_resources.core.values import Value
from mappings.expressions.comparing import NUMBERS
from mappings.expressions.function import Function
from mappings.expressions.guards import (
    RuleError,
    Steps,
    as_text,
    charge_items,
    checked_list,
    checked_text,
    kind_name,
    too_large,
)
from mappings.expressions.operators import add

_WIDE: Final = 1 << 128
_LONGEST_KEY: Final = 1_000  # characters
_STEPS: Final = 1_000  # of a thousand lines


def _lines(x: Value, steps: Steps | None) -> list[dict[str, Value]]:
    lines = checked_list(x)
    charge_items(steps, len(lines), 16)
    for line in lines:
        if type(line) is not dict:
            raise RuleError("lines", f"lines are a list of objects, there is {kind_name(line)}")
    return lines


def group_key(value: Value) -> str:
    """What the lines of one group share, as text: 7, 7.0 and "7" are one key.

    Raises:
        RuleError: the line has no key (null or empty), or it is a list, an object, or too long for a key.
    """
    if type(value) is int and not -_WIDE < value < _WIDE:
        too_large("a number is too large for a key")
    text = as_text(value)
    if not text:
        raise RuleError("lines", "a line has no key to roll it up by; leave such lines out first")
    if len(text) > _LONGEST_KEY:
        too_large(f"a key is longer than {_LONGEST_KEY} characters")
    return text


def _grouped(lines: Value, key: Value, steps: Steps | None) -> dict[str, list[dict[str, Value]]]:
    name = checked_text(key)
    found: dict[str, list[dict[str, Value]]] = {}
    for line in _lines(lines, steps):
        found.setdefault(group_key(line.get(name)), []).append(line)
    return found


def total(values: list[Value], steps: Steps | None = None) -> Value:
    """The sum of numbers; null counts for nothing.

    Raises:
        RuleError: there is something else among them, or the sum grows too large.
    """
    result: Value = 0
    for value in values:
        if value is None:
            continue
        if type(value) not in NUMBERS:
            raise RuleError("type", f"a sum adds numbers, there is {kind_name(value)}")
        result = add(result, value, steps)
    return result


def _sum_of(lines: Value, field: Value, steps: Steps | None = None) -> Value:
    if lines is None:
        return 0
    name = checked_text(field)
    return total([line.get(name) for line in _lines(lines, steps)], steps)


def _sum_by(lines: Value, key: Value, field: Value, steps: Steps | None = None) -> Value:
    if lines is None:
        return None
    name = checked_text(field)
    groups = _grouped(lines, key, steps)
    return {text: total([line.get(name) for line in group], steps) for text, group in groups.items()}


def _count_by(lines: Value, key: Value, steps: Steps | None = None) -> Value:
    if lines is None:
        return None
    return {text: len(group) for text, group in _grouped(lines, key, steps).items()}


def _group_by(lines: Value, key: Value, field: Value = None, steps: Steps | None = None) -> Value:
    if lines is None:
        return None
    groups = _grouped(lines, key, steps)
    if field is None:
        return dict(groups)
    name = checked_text(field)
    return {text: [line.get(name) for line in group] for text, group in groups.items()}


FUNCTIONS: Final[Mapping[str, Function]] = {
    "sum_of": Function(
        _sum_of, 2, 2, "number", 'sum_of(lines, "field"): the sum of a field of all lines', steps=_STEPS
    ),
    "sum_by": Function(
        _sum_by,
        3,
        3,
        "object",
        'sum_by(lines, "key", "field"): per value of the key field, the sum of the other',
        steps=_STEPS,
    ),
    "count_by": Function(
        _count_by,
        2,
        2,
        "object",
        'count_by(lines, "key"): per value of the key field, how many lines',
        steps=_STEPS,
    ),
    "group_by": Function(
        _group_by,
        2,
        3,
        "object",
        'group_by(lines, "key", "field"): per value of the key field, its lines, or one field of them',
        steps=_STEPS,
    ),
}
