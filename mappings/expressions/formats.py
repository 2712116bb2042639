"""What may stand after the colon in the braces of an f-string: [[fill]align][sign][0][width][,][.precision][d|f|%|s].

Own code: Python's format calls methods of the value and takes widths of any size. Numbers are Decimals and round halves
away from zero, as `round` does.
"""

from __future__ import annotations

import decimal
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from mappings.expressions.guards import (
    EXACT,
    RuleError,
    Steps,
    as_text,
    bounded,
    canonical,
    charge,
    checked_text,
    kind_name,
    too_large,
)

if TYPE_CHECKING:
    from ipaas_resources.core.values import Value

MOST: Final = 100  # of a width and of a precision

_SPEC: Final = re.compile(
    r"(?:(?P<fill>[^{}])?(?P<align>[<>^=]))?(?P<sign>[-+ ])?(?P<zero>0)?(?P<width>[1-9][0-9]*)?"
    r"(?P<comma>,)?(?:\.(?P<precision>[0-9]+))?(?P<type>[dfs%])?",
    re.DOTALL,
)
_PYTHON_PRECISION: Final = 6
_WIDE: Final = 1 << 128


class Format(msgspec.Struct, frozen=True):
    """A format that was checked."""

    fill: str
    align: str  # '' for the value's own: numbers right, texts left
    sign: str
    width: int
    comma: bool
    precision: int | None
    type: str  # d f % s, '' for any

    @property
    def wants_number(self) -> bool:
        """True when only a number can be written so."""
        return self.type in ("d", "f", "%") or self.comma or self.sign != "" or self.align == "="


def parse_format(text: str) -> Format:
    """The format that a person wrote after the colon.

    Raises:
        ValueError: it is none; the message says what could stand there.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise ValueError(
            f"the format {text!r} cannot be used; write [fill][< > ^ =][+][0][width][,][.digits][d f % s], "
            "such as >10, 05d, ,.2f"
        )
    width, precision = int(match["width"] or 0), match["precision"]
    for number in (width, int(precision or 0)):
        if number > MOST:
            raise ValueError(f"a width or precision in an f-string is at most {MOST}, there is {number}")
    zero = match["zero"] is not None
    if zero and match["comma"]:
        raise ValueError("a format takes zeros in front or commas between, not both")
    made = Format(
        fill=match["fill"] or ("0" if zero else " "),
        align=match["align"] or ("=" if zero else ""),
        sign=match["sign"] or "",
        width=width,
        comma=match["comma"] is not None,
        precision=None if precision is None else int(precision),
        type=match["type"] or "",
    )
    if made.type == "s" and (made.sign or made.comma or made.align == "="):
        raise ValueError("the format s is for text; a sign, zeros or commas are for numbers")
    if made.type == "d" and made.precision is not None:
        raise ValueError("the format d is for whole numbers; write .2f for decimals")
    return made


def formatted(value: Value, form: Format, steps: Steps | None = None) -> str:
    """The value in this format; null is empty text."""
    if type(value) is int or type(value) is Decimal:
        if type(value) is int and not -_WIDE < value < _WIDE:
            charge(steps, bounded(value).bit_length() >> 6)
        return _aligned(*_number(value, form), form, ">")
    if form.wants_number and value is not None:
        raise RuleError("type", f"this format is for numbers, there is {kind_name(value)}")
    text = as_text(value)
    return _aligned("", checked_text(text)[: form.precision], form, "<")


def _number(value: int | Decimal, form: Format) -> tuple[str, str]:
    """The sign and the digits."""
    number = value if isinstance(value, int) else canonical(value)
    if form.type == "s":
        raise RuleError("type", "the format s is for text, there is a number; write f or nothing")
    if form.type == "d" and type(number) is not int:
        raise RuleError("type", "the format d is for whole numbers; write .2f, or round the number first")
    if form.type == "" and form.precision is not None:
        raise RuleError("type", "digits after the point of a number are written with f, such as .2f")
    if form.type in ("f", "%"):
        number = _rounded(Decimal(number).copy_abs(), form)
    comma = "," if form.comma else ""
    # Ours, not the person's: two forms of a plain number, which grow with its digits and no further.
    digits = format(abs(number), comma) if isinstance(number, int) else format(number.copy_abs(), f"{comma}f")
    negative = value < 0 and any(digit in "123456789" for digit in digits)
    percent = "%" if form.type == "%" else ""
    return "-" if negative else form.sign.replace("-", ""), digits + percent


def _rounded(number: Decimal, form: Format) -> Decimal:
    decimals = _PYTHON_PRECISION if form.precision is None else form.precision
    try:
        if form.type == "%":
            number = EXACT.scaleb(number, 2)
        return number.quantize(Decimal((0, (1,), -decimals)), decimal.ROUND_HALF_UP, EXACT)
    except decimal.InvalidOperation:
        too_large("a number is too large to write")


def _aligned(sign: str, text: str, form: Format, natural: str) -> str:
    missing = form.width - len(sign) - len(text)
    if missing <= 0:
        return sign + text
    align = form.align or natural
    if align == "=":
        return sign + form.fill * missing + text
    left = 0 if align == "<" else missing if align == ">" else missing // 2
    return form.fill * left + sign + text + form.fill * (missing - left)
