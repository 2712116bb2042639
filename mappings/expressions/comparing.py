"""The comparisons of the language. Order knows two numbers or two texts; equality knows every two values."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from mappings.expressions.guards import (
    BEYOND_DECIMALS,
    FREE_TEXT,
    RuleError,
    Steps,
    bounded,
    cannot,
    charge,
    charge_items,
    checked_list,
    checked_text,
    kind_name,
    too_large,
)

if TYPE_CHECKING:
    from ipaas_resources.core.values import Value

NUMBERS: Final = frozenset({int, Decimal})

MAX_NODES: Final = 10_000  # values inside a value, however they nest
MAX_NESTING: Final = 20

_LONG: Final = 4_096  # characters from which on comparing two texts takes its time


def _comparable(a: Value, b: Value, steps: Steps | None) -> bool:
    if a is None or b is None:
        return False
    kind = type(a)
    if kind is str and type(b) is str:
        if steps is not None and len(a) > _LONG:
            charge(steps, len(a) >> 10)
        return True
    if kind not in NUMBERS or type(b) not in NUMBERS:
        cannot("compare", a, b)
    return True


_WIDE: Final = 1 << 128


def _side(value: Value, steps: Steps | None) -> Value:
    """One side of a comparison of an integer with a Decimal: to turn a wide integer into a Decimal takes its time."""
    if type(value) is int and not -_WIDE < value < _WIDE:
        if not -BEYOND_DECIMALS < value < BEYOND_DECIMALS:
            return _ABOVE if bounded(value) > 0 else _BELOW
        charge(steps, value.bit_length() >> 8)
    return value


_ABOVE: Final = Decimal("1E+1000")  # every Decimal of the language is smaller
_BELOW: Final = -_ABOVE


def less(a: Value, b: Value, steps: Steps | None = None) -> bool:
    """A < b of two numbers or two texts; false with null."""
    if not _comparable(a, b, steps):
        return False
    return bool(a < b if type(a) is type(b) else _side(a, steps) < _side(b, steps))


def less_or_equal(a: Value, b: Value, steps: Steps | None = None) -> bool:
    """A <= b of two numbers or two texts; false with null."""
    if not _comparable(a, b, steps):
        return False
    return bool(a <= b if type(a) is type(b) else _side(a, steps) <= _side(b, steps))


def greater(a: Value, b: Value, steps: Steps | None = None) -> bool:
    """A > b of two numbers or two texts; false with null."""
    if not _comparable(a, b, steps):
        return False
    return bool(a > b if type(a) is type(b) else _side(a, steps) > _side(b, steps))


def greater_or_equal(a: Value, b: Value, steps: Steps | None = None) -> bool:
    """A >= b of two numbers or two texts; false with null."""
    if not _comparable(a, b, steps):
        return False
    return bool(a >= b if type(a) is type(b) else _side(a, steps) >= _side(b, steps))


def equal(a: Value, b: Value, steps: Steps | None = None) -> bool:
    """A == b of values; values of two kinds are never equal, true is not 1, 1.0 is 1; lists and objects by content."""
    kind = type(a)
    if kind is type(b):
        if kind is list or kind is dict:
            charge(steps, 1)
            return _same(a, b, steps, [MAX_NODES], 1)
        return bool(a == b)
    if kind in NUMBERS and type(b) in NUMBERS:
        if steps is not None:
            charge(steps, 1)
        return bool(_side(a, steps) == _side(b, steps))
    return False


def unequal(a: Value, b: Value, steps: Steps | None = None) -> bool:
    """A != b of values."""
    return not equal(a, b, steps)


def _same(a: Value, b: Value, steps: Steps | None, nodes: list[int], depth: int) -> bool:
    nodes[0] -= len(a)
    if nodes[0] < 0 or depth > MAX_NESTING:
        too_large(f"a value holds more than {MAX_NODES} values or nests deeper than {MAX_NESTING} levels")
    charge(steps, 1 + (len(a) >> 1))
    if len(a) != len(b):
        return False
    if type(a) is list:
        return all(_same_item(one, other, steps, nodes, depth) for one, other in zip(a, b, strict=True))
    return all(key in b and _same_item(one, b[key], steps, nodes, depth) for key, one in a.items())


def _same_item(a: Value, b: Value, steps: Steps | None, nodes: list[int], depth: int) -> bool:
    kind = type(a)
    if kind is type(b) and (kind is list or kind is dict):
        return _same(a, b, steps, nodes, depth + 1)
    if kind is str and len(a) > _LONG:
        charge(steps, len(a) >> 12)
    return equal(a, b, steps)


def charge_search(steps: Steps | None, text: int, part: int) -> None:
    """The price of looking for a text of `part` characters in one of `text` characters, at its worst.

    Python's search looks at every pair of characters where the text is short or the part has under 100 of them, and
    goes over a longer text in one sweep.
    """
    if steps is None:
        return
    if text > FREE_TEXT:
        charge(steps, text >> 6)
    pairs = max(0, text - part) * (part if text < _SWEPT else min(part, _SHORT_PART))
    if pairs > _FREE_PAIRS:
        charge(steps, (pairs >> 12) + 1)


_SWEPT: Final = 2_500  # characters, see charge_search
_SHORT_PART: Final = 100
_FREE_PAIRS: Final = 2_048


def inside(a: Value, b: Value, steps: Steps | None = None) -> bool:
    """A in b: a value in a list (null too, where the list names it), a text within a text, a name of an object."""
    if b is None:
        return False
    if type(b) is list:
        return _in_list(a, checked_list(b), steps)
    if type(b) is dict:
        if a is not None and type(a) is not str:
            raise RuleError("type", f"the names of an object are text, there is {kind_name(a)}")
        return a in b
    if a is None:
        return False
    if type(a) is str and type(b) is str:
        if steps is not None:
            charge_search(steps, len(b), len(a))
        return checked_text(a) in checked_text(b)
    raise RuleError("type", f"cannot look for {kind_name(a)} in {kind_name(b)}")


def _in_list(a: Value, items: list[Value], steps: Steps | None) -> bool:
    charge_items(steps, len(items), 6)
    if steps is not None and type(a) is str and len(a) > _LONG:
        charge(steps, len(items) * len(a) >> 16)
    return any(equal(a, item, steps) for item in items)


def position(a: Value, items: list[Value], steps: Steps | None) -> int:
    """The position of the first equal item, -1 when there is none."""
    charge_items(steps, len(items), 6)
    return next((index for index, item in enumerate(items) if equal(a, item, steps)), -1)


#: The most steps that one comparison can charge.
MOST_STEPS: Final = 2 * MAX_NODES
