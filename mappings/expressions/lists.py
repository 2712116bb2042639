"""The functions of the expression language about lists and objects.

A list that is null counts as no list, like an empty cell: functions that count or test it treat it as empty, those that
give a list give null.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from ipaas_resources.core.values import Value, encode_canonical
from mappings.expressions.comparing import NUMBERS
from mappings.expressions.function import MANY, Function
from mappings.expressions.guards import (
    MAX_ITEMS,
    RuleError,
    Steps,
    as_text,
    bounded,
    charge,
    charge_items,
    charge_pairs,
    checked_list,
    checked_text,
    kind_name,
    too_large,
    whole,
)
from mappings.expressions.operators import add
from mappings.expressions.results import any_result

_WIDE: Final = 1 << 128
_MOST: Final = MAX_ITEMS


def items_of(x: Value) -> list[Value]:
    """What a loop goes over: the items of a list, the names of an object, the characters of a text; none for null.

    Raises:
        RuleError: it is none of these, or too long.
    """
    if type(x) is list:
        return checked_list(x)
    if x is None:
        return []
    if type(x) is not str and type(x) is not dict:
        raise RuleError("type", f"a list is needed, there is {kind_name(x)}")
    if len(x) > MAX_ITEMS:
        too_large(f"a loop goes over more than {MAX_ITEMS} items")
    return list(x)


def _sum(items: Value, steps: Steps | None = None) -> Value:
    if items is None:
        return 0
    charge_items(steps, len(checked_list(items)), 5)
    total: Value = 0
    for item in items:
        if item is None:
            continue
        if type(item) not in NUMBERS:
            raise RuleError("type", f"sum adds numbers, there is {kind_name(item)}")
        total = add(total, item, steps)
    return total


def _any(items: Value, steps: Steps | None = None) -> Value:
    if items is None:
        return False
    charge_items(steps, len(checked_list(items)))
    return any(items)


def _all(items: Value, steps: Steps | None = None) -> Value:
    if items is None:
        return True
    charge_items(steps, len(checked_list(items)))
    return all(items)


def _sorted(items: Value, field: Value = None, steps: Steps | None = None) -> Value:
    if items is None:
        return None
    values = items_of(items)
    charge(steps, len(values) >> 1)
    keys = values if field is None else [_field_of(item, checked_text(field)) for item in values]
    _check_order([key for key in keys if key is not None], steps)
    pairs = [(index, key) for index, key in enumerate(keys) if key is not None]
    empty = [values[index] for index, key in enumerate(keys) if key is None]
    pairs.sort(key=lambda pair: pair[1])
    return [values[index] for index, _key in pairs] + empty


def _field_of(item: Value, field: str) -> Value:
    if type(item) is not dict:
        raise RuleError("type", f"sorting by a field needs objects, there is {kind_name(item)}")
    return item.get(field)


def _check_order(keys: list[Value], steps: Steps | None) -> None:
    """All texts or all numbers, and what sorting them costs beyond their number."""
    if all(type(key) is str for key in keys):
        charge(steps, sum(map(len, keys)) >> 6)
        return
    for key in keys:
        if type(key) not in NUMBERS:
            raise RuleError("type", f"sorted orders numbers or texts; with others there is {kind_name(key)}")
        if type(key) is int and not -_WIDE < key < _WIDE:
            charge(steps, bounded(key).bit_length() >> 3)


def _reversed(x: Value, steps: Steps | None = None) -> Value:
    if type(x) is str:
        charge(steps, len(checked_text(x)) >> 8)
        return x[::-1]
    if x is None:
        return None
    charge_items(steps, len(checked_list(x)))
    return x[::-1]


def _key_of(item: Value, steps: Steps | None) -> Value:
    """What equal values share, and nothing else does. Text, for the hash of numbers can be made to collide."""
    if item is None or type(item) is bool:
        return item
    if type(item) is str:
        charge(steps, len(item) >> 10)
        return "t" + item
    if type(item) in NUMBERS:
        if type(item) is int and not -_WIDE < item < _WIDE:
            charge(steps, 16)
        if type(item) is Decimal:
            charge(steps, 3)
        return "n" + as_text(item)
    plain = encode_canonical(any_result(item))
    charge(steps, (len(plain) >> 3) + 2)
    return plain


def _unique(items: Value, steps: Steps | None = None) -> Value:
    if items is None:
        return None
    charge_items(steps, len(checked_list(items)), 8)
    seen: dict[Value, Value] = {}
    for item in items:
        seen.setdefault(_key_of(item, steps), item)
    return list(seen.values())


def _range(first: Value, end: Value = None, step: Value = 1, steps: Steps | None = None) -> Value:
    if first is None:
        return None
    start, stop = (0, first) if end is None else (first, end)
    numbers = range(_end(start), _end(stop), _end(step) or _no_step())
    if len(numbers) > MAX_ITEMS:
        too_large(f"range counts at most {MAX_ITEMS} numbers")
    charge_items(steps, len(numbers))
    return list(numbers)


def _end(value: Value) -> int:
    return whole(value, "a number of range", 1 << 60)


def _no_step() -> int:
    raise RuleError("type", "range needs a step other than 0")


def _enumerate(items: Value, start: Value = 0, steps: Steps | None = None) -> Value:
    if items is None:
        return None
    values = items_of(items)
    charge_pairs(steps, len(values))
    return [[number, item] for number, item in enumerate(values, whole(start, "the first number", 1 << 60))]


def _zip(*lists: Value, steps: Steps | None = None) -> Value:
    if any(each is None for each in lists):
        return None
    rows = [items_of(each) for each in lists]
    shortest = min(map(len, rows))
    charge_pairs(steps, shortest)
    charge_items(steps, len(rows) * shortest)
    return [list(row) for row in zip(*rows, strict=False)]


def _first(x: Value) -> Value:
    return None if x is None or not _sequence(x) else x[0]


def _last(x: Value) -> Value:
    return None if x is None or not _sequence(x) else x[-1]


def _sequence(x: Value) -> int:
    if type(x) is not list and type(x) is not str:
        raise RuleError("type", f"a list or a text is needed, there is {kind_name(x)}")
    return len(x)


def _list(x: Value, steps: Steps | None = None) -> Value:
    if x is None:
        return None
    charge_items(steps, len(items_of(x)))
    return list(items_of(x))


def _dict(pairs: Value, steps: Steps | None = None) -> Value:
    if pairs is None:
        return None
    if type(pairs) is dict:
        return pairs
    charge_items(steps, len(checked_list(pairs)), 2)
    made: dict[str, Value] = {}
    for pair in pairs:
        if type(pair) is not list or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise RuleError("type", "dict makes an object of pairs [name, value]")
        made[name_of(pair[0])] = pair[1]
    return made


def name_of(value: Value) -> str:
    """The value as a name of an object.

    Raises:
        RuleError: it is no text.
    """
    if type(value) is not str:
        raise RuleError("type", f"a name in an object is text, there is {kind_name(value)}; write text(...)")
    return value


FUNCTIONS: Final[Mapping[str, Function]] = {
    "sum": Function(_sum, 1, 1, "number", "sum(items): the numbers added up, null passed over", 20_000, 1),
    "any": Function(_any, 1, 1, "boolean", "any(items): whether one of them is true", _MOST >> 4, 1),
    "all": Function(_all, 1, 1, "boolean", "all(items): whether all of them are true", _MOST >> 4, 1),
    "sorted": Function(
        _sorted, 1, 2, "list", 'sorted(items, "field"): in order, null last; objects by a field', 20_000
    ),
    "reversed": Function(_reversed, 1, 1, "first", "reversed(x): a list or a text backwards", 1_024),
    "unique": Function(
        _unique, 1, 1, "list", "unique(items): each value once, in the order they came", 20_000
    ),
    "range": Function(
        _range, 1, 3, "list", "range(n): 0 to n - 1; range(first, end, step): end is left out", _MOST >> 4
    ),
    "enumerate": Function(
        _enumerate, 1, 2, "list", "enumerate(items, first): pairs [number, item], from 0", _MOST
    ),
    "zip": Function(
        _zip, 1, MANY, "list", "zip(a, b, ...): lists of the items that stand side by side", 3_000
    ),
    "first": Function(
        _first, 1, 1, "any", "first(items): the first item, null where there is none", weight=1
    ),
    "last": Function(_last, 1, 1, "any", "last(items): the last item, null where there is none", weight=1),
    "list": Function(
        _list, 1, 1, "list", "list(x): the characters of a text, the names of an object", _MOST >> 4
    ),
    "dict": Function(_dict, 1, 1, "object", "dict(pairs): an object made of [name, value]", _MOST >> 3),
}
