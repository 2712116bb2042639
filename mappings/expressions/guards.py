"""Limits of the expression language, and the typed error of everything that exceeds or mistakes them."""

from __future__ import annotations

import decimal
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from ipaas_resources.core.values import Value

MAX_TEXT: Final = 65_536  # characters that any primitive takes or makes
MAX_ITEMS: Final = 1_000  # of a list or an object that any primitive takes or makes
MAX_BITS: Final = 4_096  # of an integer
MAX_STEPS: Final = 20_000  # of one evaluation of one rule
_LARGEST: Final = 1 << MAX_BITS
BEYOND_DECIMALS: Final = 1 << 1_400  # larger than any Decimal of the language

Steps = list[Any]
"""What is left of an evaluation: [steps, then slots for values in the middle of a chain]. None: no need to count."""

#: Text up to this length is worked on for nothing: a step of its own would cost more than it bounds.
FREE_TEXT: Final = 256
#: For steps that must not round: any canonical number fits.
EXACT: Final = decimal.Context(
    prec=900, rounding=decimal.ROUND_HALF_UP, Emax=999, Emin=-999, traps=[decimal.InvalidOperation]
)


def canonical(value: Decimal) -> Decimal | int:
    """The canonical form of a calculated number: whole numbers as int, no trailing zeros."""
    whole_part = value.to_integral_value()
    return int(whole_part) if value == whole_part else value.normalize(EXACT)


#: The code of a RuleError -> the class of error that people and `ipaas expr eval` see.
ERROR_CLASSES: Final[dict[str, str]] = {
    "type": "WrongType",
    "limit": "LimitExceeded",
    "zero": "DivisionByZero",
    "number": "BadNumber",
    "date": "BadDate",
    "item": "NoSuchItem",
    "lines": "BadLines",
    "unit": "BadUnit",
    "currency": "BadCurrency",
}


class RuleError(Exception):
    """A rule cannot make its value. The message names kinds of value, never a value."""

    def __init__(self, code: str, what: str) -> None:
        self.code = code  # one of ERROR_CLASSES
        self.what = what
        super().__init__(what)

    @property
    def class_name(self) -> str:
        """The class of error, for people: WrongType, LimitExceeded, ..."""
        return ERROR_CLASSES[self.code]


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


def charge(steps: Steps | None, cost: int) -> None:
    """Take steps from what is left.

    Raises:
        RuleError: nothing is left.
    """
    if steps is not None:
        left = steps[0] - cost
        steps[0] = left
        if left < 0:
            out_of_steps()


def out_of_steps() -> NoReturn:
    """Refuse to go on."""
    too_large(f"the calculation takes more than {MAX_STEPS} steps; work on fewer or smaller values")


def charge_characters(steps: Steps | None, length: int) -> None:
    """The price of looking at every character of a text."""
    if length > FREE_TEXT:
        charge(steps, length >> 6)


def charge_copy(steps: Steps | None, length: int) -> None:
    """The price of a new text that is copied in one go."""
    if length > FREE_TEXT:
        charge(steps, (length >> 9) + 1)


def charge_items(steps: Steps | None, count: int, each: int = 1) -> None:
    """The price of touching every item of a list; `each` is in sixteenths of a step."""
    charge(steps, (count * each) >> 4)


def charge_pairs(steps: Steps | None, count: int) -> None:
    """The price of making a list for every item: memory is taken, and looked after."""
    charge(steps, count)


def cannot(action: str, a: object, b: object) -> NoReturn:
    """Refuse an operation of two values by their kinds."""
    names = kind_name(a), kind_name(b)
    if "text" in names and "a number" in names:
        raise RuleError("type", f"cannot {action} text and a number; turn one with number(...) or text(...)")
    raise RuleError("type", f"cannot {action} {names[0]} and {names[1]}")


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


def checked_list(value: Value) -> list[Value]:
    """The list itself.

    Raises:
        RuleError: it is no list, or too long to work with.
    """
    if type(value) is not list:
        raise RuleError("type", f"a list is needed, there is {kind_name(value)}")
    if len(value) > MAX_ITEMS:
        too_large(f"a list is longer than {MAX_ITEMS} items")
    return value


def capped_list(value: list[Value]) -> list[Value]:
    """The list, if it did not grow too long."""
    if len(value) > MAX_ITEMS:
        too_large(f"a list grew beyond {MAX_ITEMS} items")
    return value


def capped(text: str) -> str:
    """The text, if it did not grow too long."""
    if len(text) > MAX_TEXT:
        too_large(f"a text grew beyond {MAX_TEXT} characters")
    return text


def put_together(pieces: tuple[str, ...], steps: Steps | None = None) -> str:
    """The pieces in one text, if it does not grow too long; it is not made before that is known."""
    length = sum(map(len, pieces))
    if length > MAX_TEXT:
        too_large(f"a text would grow beyond {MAX_TEXT} characters")
    charge_copy(steps, length)
    return "".join(pieces)


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
        number = canonical(value)
        return str(number) if type(number) is int else format(number, "f")
    raise RuleError("type", f"cannot write {kind_name(value)} as text")


def as_whole(value: Value) -> Value:
    """The integer that a Decimal is (4 / 2, round(2.4)); every other value stays what it is."""
    return canonical(value) if type(value) is Decimal else value


def not_whole(value: Value) -> str:
    """What stands in the place of a whole number, in words for people."""
    return "a number with decimals" if type(value) is Decimal else kind_name(value)


def whole(value: Value, what: str, most: int) -> int:
    """The whole number, if it is one and within its limit."""
    number = value if type(value) is int else as_whole(value)
    if type(number) is not int:
        raise RuleError("type", f"{what} is a whole number, there is {not_whole(value)}")
    if abs(number) > most:
        too_large(f"{what} is beyond {most}")
    return number


def empty(x: Value) -> bool:
    """True for null and empty text."""
    return x is None or x == ""
