"""Reaching into values: an item, a slice, the rounds of a loop. Negative positions count from the end, as in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mappings.expressions.guards import (
    FREE_TEXT,
    MAX_BITS,
    MAX_ITEMS,
    RuleError,
    Steps,
    as_whole,
    charge,
    charge_copy,
    charge_items,
    checked_list,
    checked_text,
    kind_name,
    not_whole,
    too_large,
)
from mappings.expressions.lists import items_of

if TYPE_CHECKING:
    from ipaas_resources.core.values import Value


def item(holder: Value, key: Value) -> Value:
    """holder[key] of a list, a text or an object; null for null.

    Raises:
        RuleError: there is no such item, or the holder has none.
    """
    kind = type(holder)
    if kind is dict:
        if type(key) is not str:
            raise RuleError("type", f"an object is read by a name, there is {kind_name(key)}")
        if key in holder:
            return holder[key]
        raise RuleError("item", "an object has no such name; x.get(name) gives null instead")
    if holder is None:
        return None
    if kind is not list and kind is not str:
        raise RuleError(
            "type", f"square brackets need a list, a text or an object, there is {kind_name(holder)}"
        )
    position = key if type(key) is int else as_whole(key)
    if type(position) is not int:
        raise RuleError("type", f"a position is a whole number, there is {not_whole(key)}")
    if -len(holder) <= position < len(holder):
        return holder[position]
    raise RuleError("item", f"there is no item at this position of {kind_name(holder)}; test len(...) first")


def fixed_slice(holder: Value, bounds: slice, steps: Steps | None = None) -> Value:
    """A slice whose bounds stand in the expression as numbers."""
    if type(holder) is str and len(holder) <= FREE_TEXT:
        return holder[bounds]
    return slice_of(holder, bounds.start, bounds.stop, bounds.step, steps)


def slice_of(holder: Value, start: Value, end: Value, step: Value, steps: Steps | None = None) -> Value:
    """holder[start:end:step] of a list or a text; null for null."""
    if holder is None:
        return None
    start, end, step = as_whole(start), as_whole(end), as_whole(step)
    for bound in (start, end, step):
        if bound is not None and type(bound) is not int:
            raise RuleError("type", f"the bounds of a slice are whole numbers, there is {not_whole(bound)}")
        if bound is not None and bound.bit_length() > MAX_BITS:
            too_large("a bound of a slice is too large")
    if step == 0:
        raise RuleError("type", "the step of a slice is not 0")
    if type(holder) is str:
        length = len(checked_text(holder))
        charge_copy(steps, length if step in (None, 1) else length * 4)
    elif type(holder) is list:
        charge_items(steps, len(checked_list(holder)))
    else:
        raise RuleError("type", f"a slice needs a list or a text, there is {kind_name(holder)}")
    return holder[start:end:step]


def rounds(steps: Steps, values: Value, cost: int) -> list[Value]:
    """What a loop goes over; its rounds are charged now, `cost` steps each (0 where each round charges for itself)."""
    items = items_of(values)
    if items is not values:
        charge_items(steps, len(items))
    charge(steps, 1 + len(items) * cost)
    return items


def rounds_of_several(steps: Steps, values: Value, cost: int, names: int) -> list[Value]:
    """What a loop with several names goes over: lists of as many items."""
    items = rounds(steps, values, cost)
    for each in items:
        unpacked(each, names)
    return items


def unpacked(value: Value, names: int) -> Value:
    """A list with as many items as there are names.

    Raises:
        RuleError: it is none.
    """
    if type(value) is not list or len(value) != names:
        raise RuleError("type", f"a list of {names} items is needed for {names} names")
    return value


def not_too_many(made: Value) -> Value:
    """What several `for` made, if it is not more than a list or an object may hold."""
    if len(made) > MAX_ITEMS:
        too_large(f"a comprehension made more than {MAX_ITEMS} items")
    return made


def hold(steps: Steps, slot: int, value: Value) -> Value:
    """Keep a value that a chain of comparisons needs twice."""
    steps[slot] = value
    return value
