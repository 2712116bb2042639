"""How long a text, and how precise a number, the calls of an expression can give: as far as their arguments tell.

A bound serves the check at save alone: it asks a person what a longer text does. At run time every text is measured.
So letters that grow when they are written in capitals (ß becomes SS) are not reckoned with here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mappings.kinds import NUMBERS, Gives, digits_after_point, text_length

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Bound = int | None

#: Functions and methods whose text is no longer than their first argument.
_NO_LONGER: Final = frozenset(
    {"upper", "lower", "title", "capitalize", "casefold", "swapcase", "title_case"}
    | {"strip", "lstrip", "rstrip", "removeprefix", "removesuffix", "str", "text"}
)
#: Functions that give whole numbers.
_WHOLE: Final = frozenset(
    {"len", "int", "count", "find", "rfind", "index", "weekday", "days_between"}
    | {"year", "month", "day", "hour", "minute", "second"}
)
#: Functions whose number is no more precise than their arguments.
_AS_PRECISE: Final = frozenset({"abs", "min", "max", "sum"})


def bounded(name: str, arguments: Sequence[Gives], gives: Gives) -> Gives:
    """What a call of this function or method gives, with the bound that its arguments set; a method's text goes first."""
    if gives.values is not None or not arguments:
        return gives
    if gives.kinds == {"text"}:
        return msgspec.structs.replace(gives, max_length=_length(name, arguments))
    if gives.kinds and gives.kinds <= NUMBERS:
        return msgspec.structs.replace(gives, scale=_scale(name, arguments))
    return gives


def added(left: Gives, right: Gives, gives: Gives) -> Gives:
    """What `left + right` gives, with its bound."""
    if gives.kinds == {"text"}:
        lengths = text_length(left), text_length(right)
        longest = None if lengths[0] is None or lengths[1] is None else lengths[0] + lengths[1]
        return msgspec.structs.replace(gives, max_length=longest)
    if gives.kinds and gives.kinds <= NUMBERS:
        return msgspec.structs.replace(gives, scale=_most_precise([left, right]))
    return gives


def multiplied(left: Gives, right: Gives, gives: Gives) -> Gives:
    """What `left * right` gives, with its bound."""
    digits = [digits_after_point(each) if each.kinds <= NUMBERS else None for each in (left, right)]
    return msgspec.structs.replace(gives, scale=None if None in digits else sum(each or 0 for each in digits))


def sliced(gives: Gives, start: int | None, stop: int | None) -> Gives:
    """What `text[start:stop]` gives, where both are constants that count from the beginning."""
    if gives.kinds != {"text"} or stop is None or stop < 0 or (start or 0) < 0:
        return gives
    return Gives(gives.kinds, max_length=_shorter(text_length(gives), max(0, stop - (start or 0))))


def _length(name: str, arguments: Sequence[Gives]) -> Bound:
    own = text_length(arguments[0])
    if name in _NO_LONGER:
        return own
    reckon = _LENGTHS.get(name)
    return None if reckon is None else reckon(own, arguments)


def _shorter(one: Bound, other: Bound) -> Bound:
    return other if one is None else one if other is None else min(one, other)


def _number(arguments: Sequence[Gives], position: int) -> Bound:
    """The whole number that this argument is, None when it is no constant."""
    values = arguments[position].values if position < len(arguments) else None
    one = values[0] if values is not None and len(values) == 1 else None
    return one if type(one) is int else None


def _first_characters(own: Bound, arguments: Sequence[Gives]) -> Bound:
    many = _number(arguments, 1)
    return _shorter(own, None if many is None else max(0, many))


def _middle_characters(own: Bound, arguments: Sequence[Gives]) -> Bound:
    many = _number(arguments, 2)
    return _shorter(own, None if many is None else max(0, many))


def _padded(own: Bound, arguments: Sequence[Gives]) -> Bound:
    width = _number(arguments, 1)
    return None if own is None or width is None else max(own, width)


def _replaced(own: Bound, arguments: Sequence[Gives]) -> Bound:
    lengths = [text_length(each) for each in arguments[1:3]]
    if own is None or len(lengths) < 2 or None in lengths:  # noqa: PLR2004 - what goes and what comes
        return None
    gone, comes = (len_ or 0 for len_ in lengths)
    return own if arguments[1].values is not None and comes <= gone else None


_LENGTHS: Final[Mapping[str, Callable[[Bound, Sequence[Gives]], Bound]]] = {
    "left": _first_characters,
    "right": _first_characters,
    "mid": _middle_characters,
    **dict.fromkeys(("pad_left", "pad_right", "ljust", "rjust", "center", "zfill"), _padded),
    "replace": _replaced,
}


def _scale(name: str, arguments: Sequence[Gives]) -> Bound:
    if name in ("round", "floor", "ceil"):
        if len(arguments) == 1:
            return 0
        digits = _number(arguments, 1)
        return None if digits is None else max(0, digits)
    if name in _WHOLE:
        return 0
    return _most_precise(arguments) if name in _AS_PRECISE else None


def _most_precise(arguments: Sequence[Gives]) -> Bound:
    digits = [digits_after_point(each) for each in arguments if each.kinds]
    known = [each for each in digits if each is not None]
    # A list among the arguments has no digits of its own, but its items may.
    if len(known) < len(digits) or any(not each.kinds <= NUMBERS for each in arguments):
        return None
    return max(known, default=0)
