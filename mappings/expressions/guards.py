"""Limits of the expression language, and the typed error of everything that exceeds or mistakes them."""

from __future__ import annotations

import decimal
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from ipaas_resources.core.values import Value

MAX_TEXT: Final = 65_536  # characters that any primitive takes or makes
MAX_BITS: Final = 4_096  # of an integer
_LARGEST: Final = 1 << MAX_BITS
#: For steps that must not round: any canonical number fits.
EXACT: Final = decimal.Context(
    prec=900, rounding=decimal.ROUND_HALF_UP, Emax=999, Emin=-999, traps=[decimal.InvalidOperation]
)


def canonical(value: Decimal) -> Decimal | int:
    """The canonical form of a calculated number: whole numbers as int, no trailing zeros."""
    whole_part = value.to_integral_value()
    return int(whole_part) if value == whole_part else value.normalize(EXACT)


class RuleError(Exception):
    """A rule cannot make its value. The message names kinds of value, never a value."""

    def __init__(self, code: str, what: str) -> None:
        self.code = code  # type | limit | zero | number | date | lines
        self.what = what
        super().__init__(what)


def kind_name(value: object) -> str:
    """What a value is, in a word for people."""
    if value is None:
        return "null"
    return {
        str: "text",
        bool: "true/false",
        int: "a number",
        Decimal: "a number",
        list: "a list",
        dict: "an object",
    }.get(type(value), "a value of another kind")


def too_large(what: str) -> NoReturn:
    """Refuse to grow."""
    raise RuleError("limit", what)


def bounded(value: int) -> int:
    """The integer, if it did not grow too large."""
    if -_LARGEST < value < _LARGEST:
        return value
    too_large(f"an integer grew beyond {MAX_BITS} bits")


def checked_number(value: Value) -> Value:
    """The number itself.

    Raises:
        RuleError: it is no number, or too large to calculate with.
    """
    kind = type(value)
    if kind is Decimal:
        return value
    if kind is int:
        return bounded(value)
    raise RuleError("type", f"a number is needed, there is {kind_name(value)}")


def checked_text(value: Value) -> str:
    """The text itself.

    Raises:
        RuleError: it is no text, or too long to work with.
    """
    if type(value) is not str:
        raise RuleError("type", f"text is needed, there is {kind_name(value)}")
    if len(value) > MAX_TEXT:
        too_large(f"a text is longer than {MAX_TEXT} characters")
    return value


def capped(text: str) -> str:
    """The text, if it did not grow too long."""
    if len(text) > MAX_TEXT:
        too_large(f"a text grew beyond {MAX_TEXT} characters")
    return text


def as_text(value: Value) -> str:
    """A value as text: null is empty, true and false are words, numbers have no exponent."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if value is None:
        return ""
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(bounded(value))
    if kind is Decimal:
        return format(canonical(value), "f")
    raise RuleError("type", f"cannot write {kind_name(value)} as text")


def whole(value: Value, what: str, most: int) -> int:
    """The whole number, if it is one and within its limit."""
    if type(value) is not int:
        raise RuleError("type", f"{what} is a whole number, there is {kind_name(value)}")
    if abs(value) > most:
        too_large(f"{what} is beyond {most}")
    return value


def empty(x: Value) -> bool:
    """True for null and empty text."""
    return x is None or x == ""
