"""One function per field type: from what JSON held to the one canonical form (core/values.py).

Each raises ShapeError with a reason that names no value; the ValueErrors of Python's own parsers quote the value, so
their text is never shown. These functions are the meaning of a conversion;
`convert.py` writes faster code for the usual values and falls back to them.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from ipaas_resources.core.values import canonical_datetime, canonical_number, escape_text, parse_datetime

if TYPE_CHECKING:
    from ipaas_resources.core.values import Value

ZERO_GUID: Final = "00000000-0000-0000-0000-000000000000"
ZERO_DATE: Final = "0001-01-01"
ZERO_MOMENT: Final = "0001-01-01T00:00:00Z"


class ShapeError(ValueError):
    """A value is not of the form of its type. The text says what it is not, and never what it is."""


#: Levels of lists and objects that a value may nest.
DEEPEST = 100

_GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_BRACED_GUID = re.compile(r"\{([0-9a-fA-F-]{36})\}")
_NUMBER = re.compile(r"-?\d{1,400}(?:\.\d{1,400})?(?:[eE][+-]?\d{1,4})?", re.ASCII)
_TIME = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,12}))?)?", re.ASCII)
_DATE_LENGTH = len(ZERO_DATE)


def text(value: Value) -> str:
    """Text that jsonb can store."""
    if not isinstance(value, str):
        raise ShapeError("it is no text")
    return escape_text(value)


def boolean(value: Value) -> bool:
    """Either true or false."""
    if not isinstance(value, bool):
        raise ShapeError("it is neither true nor false")
    return value


def decimal(value: Value) -> Decimal | int:
    """A number; also one that travels as text, as 17 digits do in many products."""
    match value:
        case bool():
            raise ShapeError("it is no number")
        case int():
            return value
        case Decimal():
            return _stored(value)
        case str() if _NUMBER.fullmatch(value):
            return _stored(Decimal(value))
        case _:
            raise ShapeError("it is no number")


def _stored(number: Decimal) -> Decimal | int:
    try:
        return canonical_number(number)
    except ValueError:
        raise ShapeError("it is a number that cannot be stored") from None


def integer(value: Value) -> int:
    """A whole number."""
    number = decimal(value)
    if not isinstance(number, int):
        raise ShapeError("it is no whole number")
    return number


def guid(value: Value) -> str:
    """A GUID in lower case, without braces."""
    if isinstance(value, str):
        braced = _BRACED_GUID.fullmatch(value)
        bare = braced[1] if braced else value
        if _GUID.fullmatch(bare):
            return bare.lower()
    raise ShapeError("it is no GUID")


def reference(value: Value) -> str:
    """The id of another record: a GUID in lower case, or any other id as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    try:
        return guid(value)
    except ValueError:
        return text(value)


def date(value: Value, zone: dt.tzinfo | None) -> str:
    """A date. A date and time is taken for its date: as it stands without a zone, in `zone` with one."""
    if not isinstance(value, str):
        raise ShapeError("it is no date")
    if len(value) > _DATE_LENGTH and value[_DATE_LENGTH] in "Tt ":
        moment = parse_datetime(value, dt.UTC)
        carries_zone = parse_datetime(value, _MARK).tzinfo is not _MARK
        return (moment.astimezone(zone) if carries_zone and zone else moment).date().isoformat()
    if len(value) != _DATE_LENGTH or dt.date.fromisoformat(value).isoformat() != value:
        raise ShapeError("it is no date")
    return value


_MARK = dt.timezone(dt.timedelta(hours=23, minutes=59))


def moment(value: Value, zone: dt.tzinfo | None) -> str:
    """A date and time in UTC; without a zone it is taken to be of `zone`."""
    if not isinstance(value, str):
        raise ShapeError("it is no date and time")
    try:
        return canonical_datetime(parse_datetime(value, zone))
    except OverflowError:
        raise ShapeError("it lies outside the years 1 to 9999 in UTC") from None


def time(value: Value) -> str:
    """A time of day with six digits."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ShapeError("it is no time of day")
    hour, minute, second, fraction = match.groups()
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    return dt.time(int(hour), int(minute), int(second or 0), micros).isoformat("microseconds")


def anything(value: Value, depth: int = DEEPEST) -> Value:
    """Any JSON value: numbers in their one form, text and names storable."""
    match value:
        case str():
            return escape_text(value)
        case Decimal():
            return _stored(value)
        case dict():
            _bounded(depth)
            return {escape_text(name): anything(item, depth - 1) for name, item in value.items()}
        case list():
            _bounded(depth)
            return [anything(item, depth - 1) for item in value]
        case _:
            return value


def _bounded(depth: int) -> None:
    if depth <= 0:
        raise ShapeError("it is nested too deeply")
