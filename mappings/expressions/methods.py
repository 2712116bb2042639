"""The methods of the expression language, by the exact type of what stands before the point. Nothing changes in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ipaas_resources.core.values import Value
from mappings.expressions import parts, texts
from mappings.expressions.comparing import MOST_STEPS, charge_search, equal, position
from mappings.expressions.function import Method
from mappings.expressions.guards import (
    FREE_TEXT,
    MAX_ITEMS,
    MAX_TEXT,
    RuleError,
    Steps,
    charge_copy,
    charge_items,
    charge_pairs,
    checked_list,
    checked_text,
    kind_name,
    whole,
)
from mappings.expressions.lists import items_of, name_of


def _no_method(name: str, x: Value) -> RuleError:
    return RuleError("type", f"there is no method {name} of {kind_name(x)}")


def _of_text(name: str, call: Callable[..., Value]) -> Callable[..., Value]:
    """The function behind a method that only text has; null gives null."""

    def method(x: Value, *arguments: Value, steps: Steps | None = None) -> Value:
        if x is None:
            return None
        if type(x) is not str:
            raise _no_method(name, x)
        return call(x, *arguments, steps=steps)

    method.__name__ = name
    return method


def _find(x: str, part: Value, start: Value = 0, steps: Steps | None = None) -> Value:
    charge_search(steps, len(checked_text(x)), len(checked_text(part)))
    return x.find(part, whole(start, "a position", MAX_TEXT))


def _rfind(x: str, part: Value, steps: Steps | None = None) -> Value:
    charge_search(steps, len(checked_text(x)), len(checked_text(part)))
    if len(x) <= FREE_TEXT or len(part) > len(x):
        return x.rfind(part)
    # Python looks from the right at every pair of characters; read backwards it is a search from the left.
    found = x[::-1].find(part[::-1])
    return -1 if found < 0 else len(x) - found - len(part)


def _partition(x: str, part: Value, steps: Steps | None = None) -> Value:
    at = _find(x, _not_empty(part), steps=steps)
    return [x, "", ""] if at < 0 else [x[:at], part, x[at + len(part) :]]


def _rpartition(x: str, part: Value, steps: Steps | None = None) -> Value:
    at = _rfind(x, _not_empty(part), steps=steps)
    return ["", "", x] if at < 0 else [x[:at], part, x[at + len(part) :]]


def _not_empty(part: Value) -> str:
    if checked_text(part) == "":
        raise RuleError("type", "partition needs a text to cut at, it is empty")
    return checked_text(part)


def _count_text(x: str, part: Value, steps: Steps | None) -> int:
    charge_search(steps, len(checked_text(x)), len(checked_text(part)))
    return x.count(part)


def _zfill(x: str, width: Value, steps: Steps | None = None) -> Value:
    charge_copy(steps, len(checked_text(x)))
    return x.zfill(whole(width, "a width", texts.MOST_WIDTH))


def _removeprefix(x: str, part: Value, steps: Steps | None = None) -> Value:
    charge_copy(steps, len(checked_text(x)))
    return x.removeprefix(checked_text(part))


def _removesuffix(x: str, part: Value, steps: Steps | None = None) -> Value:
    charge_copy(steps, len(checked_text(x)))
    return x.removesuffix(checked_text(part))


def _join(x: str, items: Value, steps: Steps | None = None) -> Value:
    return None if items is None else parts.glued(items_of(items), x, steps)


def _count(x: Value, part: Value, steps: Steps | None = None) -> Value:
    if x is None:
        return None
    if type(x) is str:
        return _count_text(x, part, steps)
    if type(x) is not list:
        raise _no_method("count", x)
    charge_items(steps, len(checked_list(x)), 4)
    return sum(equal(part, item, steps) for item in x)


def _index(x: Value, part: Value, steps: Steps | None = None) -> Value:
    if x is None:
        return None
    if type(x) is not list:
        raise _no_method("index", x)
    at = position(part, checked_list(x), steps)
    if at < 0:
        raise RuleError("item", "the value is not in the list; test with `in` first")
    return at


def _get(x: Value, name: Value, default: Value = None) -> Value:
    if x is None:
        return default
    if type(x) is not dict:
        raise _no_method("get", x)
    return default if name is None else x.get(name_of(name), default)


def _names(x: Value, steps: Steps | None = None) -> Value:
    return None if x is None else list(_object("keys", x, steps))


def _values(x: Value, steps: Steps | None = None) -> Value:
    return None if x is None else list(_object("values", x, steps).values())


def _pairs(x: Value, steps: Steps | None = None) -> Value:
    if x is None:
        return None
    pairs = _object("items", x, steps).items()
    charge_pairs(steps, len(pairs))
    return [[name, value] for name, value in pairs]


def _object(method: str, x: Value, steps: Steps | None) -> dict[str, Value]:
    if type(x) is not dict:
        raise _no_method(method, x)
    charge_items(steps, len(items_of(x)))
    return x


def _text_method(
    name: str, call: Callable[..., Value], least: int, most: int, gives: str, says: str, steps: int
) -> Method:
    return Method(_of_text(name, call), least, most, gives, says, steps)


_CHANGES: Final = {
    "upper": "x.upper(): in capitals",
    "lower": "x.lower(): in small letters",
    "title": "x.title(): each word with a capital first",
    "capitalize": "x.capitalize(): the first letter a capital, the others small",
    "casefold": "x.casefold(): in a form for comparing without regard to capitals",
    "swapcase": "x.swapcase(): capitals small, small letters capital",
}
_TESTS: Final = {
    "isdigit": "x.isdigit(): only digits, at least one",
    "isalpha": "x.isalpha(): only letters, at least one",
    "isalnum": "x.isalnum(): only letters and digits, at least one",
    "isspace": "x.isspace(): only white space, at least one",
    "isupper": "x.isupper(): letters, and all of them capitals",
    "islower": "x.islower(): letters, and all of them small",
}
_STRIPS: Final = {
    "strip": 'x.strip(): without spaces (or x.strip("-."): these characters) at both ends',
    "lstrip": "x.lstrip(): without spaces at the left end",
    "rstrip": "x.rstrip(): without spaces at the right end",
}
_PADS: Final = {
    "ljust": 'x.ljust(n, "."): filled up to n characters on the right',
    "rjust": 'x.rjust(n, "0"): filled up to n characters on the left',
    "center": "x.center(n): filled up to n characters on both sides",
}

METHODS: Final[Mapping[str, Method]] = {
    **{
        name: Method(texts.changed(name), 0, 0, "text", says, 2 * texts.CHARACTER_STEPS)
        for name, says in _CHANGES.items()
    },
    **{
        name: Method(texts.stripped(name), 0, 1, "text", says, texts.SEARCH_STEPS)
        for name, says in _STRIPS.items()
    },
    **{
        name: Method(texts.padded(name), 1, 2, "text", says, texts.COPY_STEPS) for name, says in _PADS.items()
    },
    "zfill": _text_method(
        "zfill", _zfill, 1, 1, "text", "x.zfill(n): filled up with zeros to n characters", texts.COPY_STEPS
    ),
    "replace": Method(
        texts.replaced, 2, 3, "text", "x.replace(old, new): every old becomes new", 2 * texts.SEARCH_STEPS
    ),
    "removeprefix": _text_method(
        "removeprefix",
        _removeprefix,
        1,
        1,
        "text",
        "x.removeprefix(y): without y at the start",
        texts.COPY_STEPS,
    ),
    "removesuffix": _text_method(
        "removesuffix",
        _removesuffix,
        1,
        1,
        "text",
        "x.removesuffix(y): without y at the end",
        texts.COPY_STEPS,
    ),
    "startswith": _text_method(
        "startswith", texts.starts, 1, 1, "boolean", "x.startswith(y): true or false; y may be a list", 1_024
    ),
    "endswith": _text_method(
        "endswith", texts.ends, 1, 1, "boolean", "x.endswith(y): true or false; y may be a list", 1_024
    ),
    "find": _text_method(
        "find",
        _find,
        1,
        2,
        "integer",
        "x.find(y): the position of y, the first is 0; -1: not there",
        texts.SEARCH_STEPS,
    ),
    "rfind": _text_method(
        "rfind",
        _rfind,
        1,
        1,
        "integer",
        "x.rfind(y): the last position of y; -1: not there",
        texts.SEARCH_STEPS,
    ),
    "split": Method(
        parts.splitted, 0, 2, "list", 'x.split(","): the parts between commas', texts.SEARCH_STEPS
    ),
    "rsplit": Method(
        parts.splitted_right, 0, 2, "list", 'x.rsplit(",", 1): cut from the right', texts.SEARCH_STEPS
    ),
    "splitlines": Method(parts.lines_of, 0, 0, "list", "x.splitlines(): the lines", texts.CHARACTER_STEPS),
    "partition": _text_method(
        "partition",
        _partition,
        1,
        1,
        "list",
        "x.partition(y): what is before y, y, what is after",
        texts.SEARCH_STEPS,
    ),
    "rpartition": _text_method(
        "rpartition", _rpartition, 1, 1, "list", "x.rpartition(y): the same at the last y", texts.SEARCH_STEPS
    ),
    "join": _text_method(
        "join", _join, 1, 1, "text", '", ".join(items): the items as text with ", " between', MAX_TEXT >> 2
    ),
    **{
        name: Method(texts.tested(name), 0, 0, "boolean", says, texts.CHARACTER_STEPS)
        for name, says in _TESTS.items()
    },
    "count": Method(_count, 1, 1, "integer", "x.count(y): how often y is in a text or a list", MOST_STEPS),
    "index": Method(
        _index, 1, 1, "integer", "x.index(y): the position of y in a list, the first is 0", MOST_STEPS
    ),
    "get": Method(_get, 1, 2, "any", 'x.get("name", default): the value, the default where there is none'),
    "keys": Method(_names, 0, 0, "list", "x.keys(): the names in an object", MAX_ITEMS >> 4),
    "values": Method(_values, 0, 0, "list", "x.values(): the values in an object", MAX_ITEMS >> 4),
    "items": Method(_pairs, 0, 0, "list", "x.items(): pairs [name, value] of an object", MAX_ITEMS),
}
"""Every method that an expression may call."""
