"""Canonical values: what a field may hold between two systems, and its one byte form.

A canonical document is a dict of field name -> value, where a value is

    null | bool | str | int | Decimal | list | dict

and the richer types have one text form each, so that equal values have equal bytes:

    date       "2026-01-15"
    datetime   "2026-01-15T13:58:10.123456Z"    UTC, always six digits
    time       "13:58:10.000000"
    guid       "2e451703-....", lower case
    enum       the decoded member name
    file       {"$file": {"id": ..., "name": ..., "size": ..., "revision": ...}}   see records.FileRef

A JSON number is never read as float. A Decimal has no trailing zeros; 10.0 is the integer 10.
Text that PostgreSQL's jsonb refuses (NUL, lone surrogates) is escaped reversibly, see `escape_text`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from decimal import Decimal
from typing import Any

import msgspec

type_ = type
Value = Any
Document = dict[str, Any]

#: Size in bytes of a content hash.
HASH_SIZE = 16

#: Digits before and after the point beyond which a number is refused: jsonb would accept it, a JSON reader would not.
MAX_EXPONENT = 400

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number", order="deterministic")
_plain_encoder = msgspec.json.Encoder(decimal_format="number")

decode = _decoder.decode
"""Parse JSON bytes; numbers with a point or an exponent become Decimal."""

encode = _plain_encoder.encode
"""JSON bytes in insertion order, for request bodies and stored documents."""

encode_canonical = _encoder.encode
"""JSON bytes with keys in order: the form that is hashed."""


def content_hash(canonical: bytes) -> bytes:
    """The 16-byte hash of a canonical form."""
    return hashlib.blake2b(canonical, digest_size=HASH_SIZE).digest()


def hash_document(document: Document) -> bytes:
    """The content hash of a canonical document."""
    return content_hash(encode_canonical(document))


_ZERO = Decimal(0)


def canonical_number(value: Decimal) -> Decimal | int:
    """One form per number: integers as int, no trailing zeros, no negative zero.

    Raises:
        ValueError: the number is not finite or has more than MAX_EXPONENT digits on one side of the point.
    """
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError("the number is not finite")  # noqa: TRY004 - it is a value error of a Decimal
    if exponent == 0:
        return int(value)
    if abs(value.adjusted()) > MAX_EXPONENT or exponent < -MAX_EXPONENT:
        raise ValueError("the number is too large or too small to store")
    if value == _ZERO:
        return 0
    if value == value.to_integral_value():
        return int(value)
    digits = value.as_tuple()
    trimmed = list(digits.digits)
    while trimmed[-1] == 0:
        trimmed.pop()
        exponent += 1
    return Decimal((digits.sign, tuple(trimmed), exponent))


# NUL and lone surrogates cannot be stored in jsonb; the escape character is escaped too, so nothing collides.
_ESCAPE = "\ue000"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff\ue000]")
_ESCAPED = re.compile("\ue000([0-9a-f]{4})")


def escape_text(text: str) -> str:
    """Text that jsonb can store; `unescape_text` gives the original back."""
    if _UNSTORABLE.search(text) is None:
        return text
    return _UNSTORABLE.sub(lambda match: f"{_ESCAPE}{ord(match[0]):04x}", text)


def unescape_text(text: str) -> str:
    """The original of an escaped text."""
    if _ESCAPE not in text:
        return text
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def canonical_datetime(moment: dt.datetime) -> str:
    """UTC text with six digits; a datetime without a zone is an error of the caller."""
    if moment.tzinfo is None:
        raise ValueError("the time carries no zone")
    # Not strftime: it writes the year 900 with three digits.
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


_DATETIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,12}))?)?\s*([Zz]|[+-]\d\d:?\d\d)?", re.ASCII
)


def parse_datetime(text: str, zone: dt.tzinfo | None = None) -> dt.datetime:
    """Read an ISO date-time. Digits past microseconds are cut. A text without a zone takes `zone`.

    Raises:
        ValueError: not an ISO date-time, or no zone in the text and none given.
    """
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise ValueError("not an ISO date and time")
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    tz: dt.tzinfo | None
    if offset is None:
        tz = zone
    elif offset in "Zz":
        tz = dt.UTC
    else:
        sign = -1 if offset[0] == "-" else 1
        tz = dt.timezone(sign * dt.timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:])))
    if tz is None:
        raise ValueError("the time carries no zone")
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    return dt.datetime(
        int(year), int(month), int(day), int(hour), int(minute), int(second or 0), micros, tzinfo=tz
    )
