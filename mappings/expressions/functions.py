"""Every function of the expression language. Each is bounded, keeps null in mind and knows only plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ipaas_resources.core.values import Value
from mappings.expressions import dates, groups, lists, money, numbers, parts, texts, units
from mappings.expressions.function import MANY, Function
from mappings.expressions.guards import empty


def _coalesce(*values: Value) -> Value:
    for value in values:
        if value is not None:
            return value
    return None


def _bool(x: Value) -> Value:
    return bool(x)


def _if_null(x: Value, otherwise: Value) -> Value:
    return otherwise if x is None else x


def _if_empty(x: Value, otherwise: Value) -> Value:
    return otherwise if empty(x) else x


_GENERAL: Final[Mapping[str, Function]] = {
    "coalesce": Function(_coalesce, 1, MANY, "first", "coalesce(a, b, ...): the first that is not null"),
    "empty": Function(empty, 1, 1, "boolean", 'empty(x): true for null and ""', weight=1),
    "bool": Function(_bool, 1, 1, "boolean", "bool(x): what x counts as in a condition", weight=1),
    "if_null": Function(_if_null, 2, 2, "first", "if_null(x, y): y where x is null, else x", weight=1),
    "if_empty": Function(
        _if_empty, 2, 2, "first", 'if_empty(x, y): y where x is null or "", else x', weight=1
    ),
}

FUNCTIONS: Final[Mapping[str, Function]] = {
    **numbers.FUNCTIONS,
    **texts.FUNCTIONS,
    **parts.FUNCTIONS,
    **lists.FUNCTIONS,
    **_GENERAL,
    **dates.FUNCTIONS,
    **money.FUNCTIONS,
    **units.FUNCTIONS,
    **groups.FUNCTIONS,
}
"""Every function that an expression may call."""
