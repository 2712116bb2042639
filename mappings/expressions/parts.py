"""Texts taken apart and put together: split, lines, join."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ipaas_resources.core.values import Value
from mappings.expressions.comparing import charge_search
from mappings.expressions.function import Function
from mappings.expressions.guards import (
    MAX_ITEMS,
    MAX_TEXT,
    RuleError,
    Steps,
    charge,
    charge_characters,
    charge_copy,
    checked_list,
    checked_text,
    too_large,
    whole,
)
from mappings.expressions.texts import SEARCH_STEPS, piece_of


def splitted(x: Value, separator: Value = None, most: Value = None, steps: Steps | None = None) -> Value:
    """The parts of x between separators (white space), at most `most` cuts from the left."""
    if x is None:
        return None
    text, cuts = checked_text(x), _cuts(most)
    charge_search(steps, len(text), 1 if separator is None else len(_separator(separator)))
    parts: list[Value] = list(text.split(separator, cuts))
    return _parts(parts, steps)


def splitted_right(
    x: Value, separator: Value = None, most: Value = None, steps: Steps | None = None
) -> Value:
    """The parts of x between separators, at most `most` cuts from the right."""
    if x is None:
        return None
    text, cuts = checked_text(x), _cuts(most)
    if separator is None:
        charge_characters(steps, len(text))
        return _parts(list(text.rsplit(None, cuts)), steps)
    charge_search(steps, len(text), len(_separator(separator)))
    if len(separator) > len(text):
        return [text]
    # Python looks from the right at every pair of characters; read backwards it is a search from the left.
    parts = [part[::-1] for part in text[::-1].split(separator[::-1], cuts)]
    return _parts(parts[::-1], steps)


def _cuts(most: Value) -> int:
    # One more than what is allowed, so that too many are noticed.
    cuts = MAX_ITEMS if most is None else whole(most, "a count", MAX_TEXT)
    return min(MAX_ITEMS, cuts) if cuts >= 0 else MAX_ITEMS


def _separator(separator: Value) -> str:
    if checked_text(separator) == "":
        raise RuleError("type", "split needs a text to split at, it is empty")
    return checked_text(separator)


def _parts(parts: list[Value], steps: Steps | None) -> list[Value]:
    if len(parts) > MAX_ITEMS:
        too_large(f"a text has more than {MAX_ITEMS} parts")
    charge(steps, len(parts) >> 4)
    return parts


def lines_of(x: Value, steps: Steps | None = None) -> Value:
    """The lines of x."""
    if x is None:
        return None
    charge_characters(steps, len(checked_text(x)))
    return _parts(list(x.splitlines()), steps)


def joined(items: Value, separator: Value = "", steps: Steps | None = None) -> Value:
    """The items as text with the separator between them; null and empty text are passed over."""
    if items is None or separator is None:
        return None
    return glued([item for item in checked_list(items) if item is not None and item != ""], separator, steps)


def glued(items: list[Value], separator: Value, steps: Steps | None) -> str:
    """The items as text with the separator between them; null is empty text."""
    between = checked_text(separator)
    texts = []
    length = max(0, len(items) - 1) * len(between)
    charge(steps, (len(items) >> 1) + (length >> 10))
    for item in items:
        if type(item) is str:
            text = item
        else:
            charge(steps, 1)
            text = piece_of(item, steps)
        length += len(text)
        texts.append(text)
        if length > MAX_TEXT:
            too_large(f"a text would grow beyond {MAX_TEXT} characters")
    charge_copy(steps, length)
    return between.join(texts)


FUNCTIONS: Final[Mapping[str, Function]] = {
    "split": Function(
        splitted,
        1,
        3,
        "list",
        'split(x, ","): the parts between commas; without "," between spaces',
        SEARCH_STEPS,
    ),
    "join": Function(
        joined, 1, 2, "text", 'join(items, ", "): one text; null and "" are passed over', MAX_TEXT >> 2
    ),
}
