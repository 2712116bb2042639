"""The functions of the expression language about units of measure (UN/ECE Recommendation 20)."""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from typing import Final

from ipaas_resources.core.values import Value
from mappings.expressions.function import Function
from mappings.expressions.guards import (
    BEYOND_DECIMALS,
    EXACT,
    RuleError,
    Steps,
    charge,
    checked_number,
    checked_text,
    empty,
    too_large,
)
from mappings.expressions.operators import CONTEXT, number_result
from mappings.units.catalogue import Unit, units
from mappings.units.spelling import LONGEST, meaning_of

_WHY: Final[Mapping[str, str]] = {
    "unknown": "a text is no unit of measure that is known; give it a code in a lookup table",
    "several": "a text can mean several units of measure; say which by a code in a lookup table",
    "deleted": "a text is a code that UN/ECE Recommendation 20 has deleted; give it a code in a lookup table",
}


def unit_code(x: Value, steps: Steps | None = None) -> str:
    """The Rec 20 code of a spelling.

    Raises:
        RuleError: it is none, or may mean several.
    """
    text = checked_text(x)
    if len(text) > LONGEST:
        raise RuleError("unit", _WHY["unknown"])
    charge(steps, len(text) >> 2)
    found = meaning_of(text)
    if found.why:
        raise RuleError("unit", _WHY[found.why])
    return found.code


def _unit(x: Value, steps: Steps | None = None) -> Value:
    return None if empty(x) else unit_code(x, steps)


def _convert_unit(quantity: Value, near: Value, far: Value, steps: Steps | None = None) -> Value:
    if quantity is None:
        return None
    number = checked_number(quantity)
    if empty(near) or empty(far):
        raise RuleError("unit", "a quantity has no unit of measure")
    if type(number) is int and not -BEYOND_DECIMALS < number < BEYOND_DECIMALS:
        too_large("a quantity is too large to convert")
    from_code, to_code = unit_code(near, steps), unit_code(far, steps)
    if from_code == to_code:
        return number
    source, target = _with_factor(from_code), _with_factor(to_code)
    if source.kind != target.kind:
        raise RuleError("unit", "the two units of measure are not of one kind")
    try:
        above = EXACT.multiply(EXACT.add(number, source.offset), source.numerator * target.denominator)
        converted = CONTEXT.divide(above, source.denominator * target.numerator)
        return number_result(CONTEXT.subtract(converted, target.offset))
    except decimal.DecimalException:
        too_large("a quantity is too large to convert")


def _with_factor(code: str) -> Unit:
    unit = units().get(code)
    if unit is None or not unit.kind:
        raise RuleError("unit", "a unit of measure has no exact factor to others of its kind")
    return unit


FUNCTIONS: Final[Mapping[str, Function]] = {
    "unit": Function(
        _unit,
        1,
        1,
        "text",
        "unit(x): the UN/ECE Rec 20 code of a unit of measure, however spelled",
        steps=LONGEST >> 2,
        weight=6,
    ),
    "convert_unit": Function(
        _convert_unit,
        3,
        3,
        "number",
        "convert_unit(quantity, from, to): the quantity in another unit of the same kind",
        steps=LONGEST >> 1,
        weight=12,
    ),
}
