"""Every function of the expression language. Each is bounded, keeps null in mind and knows only plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ipaas_resources.core.values import Value
from mappings.expressions import dates, numbers, texts
from mappings.expressions.function import MANY, Function
from mappings.expressions.guards import empty


def _coalesce(*values: Value) -> Value:
    for value in values:
        if value is not None:
            return value
    return None


_GENERAL: Final[Mapping[str, Function]] = {
    "coalesce": Function(_coalesce, 1, MANY, "first", "coalesce(a, b, ...): the first that is not null"),
    "empty": Function(empty, 1, 1, "boolean", 'empty(x): true for null and ""'),
}

FUNCTIONS: Final[Mapping[str, Function]] = {
    **numbers.FUNCTIONS,
    **texts.FUNCTIONS,
    **_GENERAL,
    **dates.FUNCTIONS,
}
"""Every function that an expression may call."""
