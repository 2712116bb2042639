"""The functions of the expression language about text. Methods of text share them, see methods.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from ipaas_resources.core.values import Value
from mappings.expressions.comparing import charge_search
from mappings.expressions.function import Function
from mappings.expressions.guards import (
    FREE_TEXT,
    MAX_TEXT,
    RuleError,
    Steps,
    as_text,
    capped,
    charge,
    charge_characters,
    charge_copy,
    checked_list,
    checked_text,
    kind_name,
    too_large,
    whole,
)

MOST_WIDTH: Final = 1_000
_MOST_STRIPPED: Final = 100
_LONG_NUMBER: Final = 1 << 512

#: The most steps of a function that looks at every character, of one that searches, of one that copies.
CHARACTER_STEPS: Final = MAX_TEXT >> 6
SEARCH_STEPS: Final = 2 * CHARACTER_STEPS
COPY_STEPS: Final = (MAX_TEXT >> 9) + 1


def text_of(x: Value, steps: Steps | None = None) -> Value:
    """X as text."""
    if type(x) is int and not -_LONG_NUMBER < x < _LONG_NUMBER:
        charge(steps, 16)
    elif type(x) is Decimal and steps is not None:
        charge(steps, 1 + (abs(x.adjusted()) >> 6))
    return None if x is None else as_text(x)


def piece_of(x: Value, steps: Steps | None = None) -> str:
    """X as a piece of a longer text; null is empty."""
    return str(text_of(x, steps) or "")


def _len(x: Value) -> Value:
    if x is None:
        return 0
    if type(x) in (str, list, dict):
        return len(x)
    raise RuleError("type", f"len counts a text or a list, there is {kind_name(x)}")


def changed(name: str) -> Callable[..., Value]:
    """The function that calls a method of text that changes each character by itself, such as upper."""
    method: Callable[[str], str] = getattr(str, name)
    # These look at each character twice: whether it is a letter, and what stands before it.
    shift = 5 if name in ("title", "swapcase", "capitalize") else 6

    def change(x: Value, steps: Steps | None = None) -> Value:
        if x is None:
            return None
        text = checked_text(x)
        if len(text) > FREE_TEXT:
            charge(steps, len(text) >> shift)
            # Some characters become two or three: a capital sharp s is SS.
            return capped(method(text))
        return method(text)

    change.__name__ = name
    return change


upper: Final = changed("upper")
lower: Final = changed("lower")


def tested(name: str) -> Callable[..., Value]:
    """The function that calls a method of text that looks at each character, such as isdigit."""
    method: Callable[[str], bool] = getattr(str, name)

    def test(x: Value, steps: Steps | None = None) -> Value:
        if x is None:
            return None
        text = checked_text(x)
        charge_characters(steps, len(text))
        return method(text)

    test.__name__ = name
    return test


def stripped(name: str) -> Callable[..., Value]:
    """The function that calls strip, lstrip or rstrip."""
    method: Callable[[str, str | None], str] = getattr(str, name)

    def strip_ends(x: Value, characters: Value = None, steps: Steps | None = None) -> Value:
        if x is None:
            return None
        text = checked_text(x)
        if characters is None:
            charge_characters(steps, len(text))
            return method(text, None)
        if len(checked_text(characters)) > _MOST_STRIPPED:
            too_large(f"{name} takes at most {_MOST_STRIPPED} characters to remove")
        charge_search(steps, len(text), len(characters))
        return method(text, characters)

    strip_ends.__name__ = name
    return strip_ends


def padded(name: str) -> Callable[..., Value]:
    """The function that calls ljust, rjust or center."""
    method: Callable[[str, int, str], str] = getattr(str, name)

    def pad(x: Value, width: Value, fill: Value = " ", steps: Steps | None = None) -> Value:
        if x is None or width is None:
            return None
        if len(checked_text(fill)) != 1:
            raise RuleError("type", f"{name} fills with one character")
        text = checked_text(x)
        charge_copy(steps, len(text))
        return method(text, whole(width, "a width", MOST_WIDTH), fill)

    pad.__name__ = name
    return pad


def _left(x: Value, n: Value, steps: Steps | None = None) -> Value:
    if x is None or n is None:
        return None
    charge_copy(steps, len(checked_text(x)))
    return x[: max(0, whole(n, "a length", MAX_TEXT))]


def _right(x: Value, n: Value, steps: Steps | None = None) -> Value:
    if x is None or n is None:
        return None
    charge_copy(steps, len(checked_text(x)))
    count = max(0, whole(n, "a length", MAX_TEXT))
    return x[-count:] if count else ""


def _mid(x: Value, start: Value, n: Value, steps: Steps | None = None) -> Value:
    if x is None or start is None or n is None:
        return None
    charge_copy(steps, len(checked_text(x)))
    first = max(1, whole(start, "a position", MAX_TEXT)) - 1
    return x[first : first + max(0, whole(n, "a length", MAX_TEXT))]


def _pad_left(x: Value, n: Value, fill: Value = " ", steps: Steps | None = None) -> Value:
    if x is None or n is None:
        return None
    filling = checked_text(fill)
    if len(filling) != 1:
        raise RuleError("type", "pad_left fills with one character")
    charge_copy(steps, len(checked_text(x)))
    return x.rjust(whole(n, "a width", MOST_WIDTH), filling)


def replaced(x: Value, old: Value, new: Value, count: Value = None, steps: Steps | None = None) -> Value:
    """X with every `old` (the first `count`) turned into `new`."""
    if x is None or old is None or new is None:
        return None
    text, before, after = checked_text(x), checked_text(old), checked_text(new)
    if not before:
        raise RuleError("type", "replace needs a text to look for, it is empty")
    times = -1 if count is None else whole(count, "a count", MAX_TEXT)
    charge_search(steps, len(text), len(before))
    if len(after) > len(before):
        hits = text.count(before) if times < 0 else min(times, text.count(before))
        length = len(text) + hits * (len(after) - len(before))
        if length > MAX_TEXT:
            too_large(f"a text would grow beyond {MAX_TEXT} characters")
        charge_search(steps, length, len(before))
    return text.replace(before, after, times)


def one_or_more(value: Value) -> str | tuple[str, ...]:
    """A text, or several of a list."""
    if type(value) is list:
        return tuple(map(checked_text, checked_list(value)))
    return checked_text(value)


def starts(x: Value, start: Value, steps: Steps | None = None) -> bool:
    """Whether x begins with start, or with one of a list."""
    if x is None or start is None:
        return False
    _charge_ends(start, steps)
    return checked_text(x).startswith(one_or_more(start))


def ends(x: Value, end: Value, steps: Steps | None = None) -> bool:
    """Whether x ends with end, or with one of a list."""
    if x is None or end is None:
        return False
    _charge_ends(end, steps)
    return checked_text(x).endswith(one_or_more(end))


def _charge_ends(parts: Value, steps: Steps | None) -> None:
    if steps is not None and type(parts) is list:
        charge(steps, (len(parts) >> 3) + (sum(len(part) for part in parts if type(part) is str) >> 14))


def _contains(x: Value, part: Value, steps: Steps | None = None) -> bool:
    if x is None or part is None:
        return False
    if steps is not None and type(x) is str and type(part) is str:
        charge_search(steps, len(x), len(part))
    return checked_text(part) in checked_text(x)


_WORD: Final = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


def _title_case(x: Value, steps: Steps | None = None) -> Value:
    if x is None:
        return None
    text = checked_text(x)
    charge(steps, len(text) >> 3)
    return capped(_WORD.sub(lambda word: word[0].capitalize(), text))


FUNCTIONS: Final[Mapping[str, Function]] = {
    "text": Function(text_of, 1, 1, "text", "text(x): x as text; null stays null", 16),
    "str": Function(text_of, 1, 1, "text", "str(x): the same as text(x)", 16),
    "len": Function(_len, 1, 1, "integer", "len(x): characters of a text, items of a list; 0 for null"),
    "upper": Function(upper, 1, 1, "text", "upper(x): in capitals", CHARACTER_STEPS),
    "lower": Function(lower, 1, 1, "text", "lower(x): in small letters", CHARACTER_STEPS),
    "title_case": Function(
        _title_case, 1, 1, "text", "title_case(x): each word with a capital first", MAX_TEXT >> 3, 4
    ),
    "strip": Function(
        stripped("strip"), 1, 2, "text", 'strip(x): without spaces (or "-.") at both ends', SEARCH_STEPS
    ),
    "left": Function(_left, 2, 2, "text", "left(x, n): the first n characters", COPY_STEPS),
    "right": Function(_right, 2, 2, "text", "right(x, n): the last n characters", COPY_STEPS),
    "mid": Function(
        _mid, 3, 3, "text", "mid(x, start, n): n characters from position start; the first is 1", COPY_STEPS
    ),
    "pad_left": Function(
        _pad_left, 2, 3, "text", 'pad_left(x, n, "0"): filled up to n characters on the left', COPY_STEPS
    ),
    "replace": Function(
        replaced, 3, 3, "text", "replace(x, old, new): every old in x becomes new", 2 * SEARCH_STEPS
    ),
    "startswith": Function(
        starts, 2, 2, "boolean", "startswith(x, start): true or false; start may be a list", SEARCH_STEPS
    ),
    "endswith": Function(
        ends, 2, 2, "boolean", "endswith(x, end): true or false; end may be a list", SEARCH_STEPS
    ),
    "contains": Function(_contains, 2, 2, "boolean", "contains(x, part): true or false", SEARCH_STEPS),
}
