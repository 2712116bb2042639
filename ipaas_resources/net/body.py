"""JSON as it goes over the wire: numbers never become floats, text may hold what no database can store."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from ipaas_resources.core import values


class MalformedBodyError(ValueError):
    """The bytes are no JSON text that we read."""


# A msgspec error hides lone surrogates (it refuses them), so those bodies take the slower road.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_UTF8_MARK = b"\xef\xbb\xbf"


def decode_json(content: bytes) -> Any:
    """Parse a JSON body; numbers with a point or an exponent become Decimal.

    Raises:
        MalformedBodyError: not JSON, not UTF-8, cut off, or nested too deeply. Says where, never what.
    """
    try:
        return values.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise MalformedBodyError("the JSON is nested too deeply") from None
        if content.startswith(_UTF8_MARK):
            return decode_json(content[len(_UTF8_MARK) :])
        if _SURROGATE.search(content) is None:
            raise MalformedBodyError(f"not JSON ({len(content)} bytes)") from None
    return _decode_with_surrogates(content)


def _decode_with_surrogates(content: bytes) -> Any:
    try:
        return json.loads(content, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedBodyError(f"not JSON ({len(content)} bytes)") from None


def _refuse_constant(_name: str) -> NoReturn:
    raise MalformedBodyError("NaN and Infinity are no JSON")


def encode_json(value: Any) -> bytes:
    """JSON bytes of a request body; a lone surrogate travels as its escape."""
    try:
        return values.encode(value)
    except UnicodeEncodeError:
        return "".join(_escaped_json(value)).encode("ascii")


def _escaped_json(value: Any) -> list[str]:
    match value:
        case dict():
            parts = [f"{json.dumps(key)}:{''.join(_escaped_json(item))}" for key, item in value.items()]
            return ["{", ",".join(parts), "}"]
        case list() | tuple():
            return ["[", ",".join("".join(_escaped_json(item)) for item in value), "]"]
        case str():
            return [json.dumps(value)]
        case _:
            return [values.encode(value).decode("ascii")]


# What jsonb cannot store, as it stands in JSON text: \u0000, a lone half of a surrogate pair, the escape character.
_ESCAPE_SEQUENCE = re.compile(rb"\\u")
_ESCAPE_CHARACTER = re.compile(rb"\xee\x80\x80")
_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F]|[eE]000)|\xee\x80\x80")


def holds_only_storable_text(content: bytes) -> bool:
    r"""Whether no text of this JSON can need `values.escape_text`: one scan per page instead of one per value.

    False is cautious: emoji written as \ud83d\ude00 answer False too.
    """
    # Single words first: they are ten times as fast as the pattern, and most pages hold neither.
    if _ESCAPE_SEQUENCE.search(content) is None and _ESCAPE_CHARACTER.search(content) is None:
        return True
    return _UNSTORABLE.search(content) is None
