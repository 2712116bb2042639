"""JSON from outside, read strictly: exact numbers, no key twice, nothing that could not be stored.

What a person hands to a command is held to what a connector makes of a system's answer: numbers are int or Decimal in
their canonical form, texts hold neither NUL nor a lone surrogate, and nothing nests without end.
"""

from __future__ import annotations

import decimal
import json
import re
from decimal import Decimal
from typing import Any, Final, NoReturn

from ipaas_resources.core.values import canonical_number

MAX_DEPTH: Final = 100
_MOST_DIGITS: Final = 1_234  # of an integer: 4,096 bits, the most that a rule calculates with
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


class JsonError(ValueError):
    """The text is not the JSON that is needed; the message says why and holds no value."""


def read_json(text: str) -> Any:
    """The value that a JSON text spells.

    Raises:
        JsonError: it is not JSON, or says something that no record can hold.
    """
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise JsonError(f"it is not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise JsonError(f"it nests deeper than {MAX_DEPTH} levels") from None
    # Raw text came through UTF-8 and the decoder refuses raw control characters: only an escape can bring them in.
    if "\\u" in text or text.count("[") + text.count("{") > MAX_DEPTH:
        _check(value)
    return value


def read_json_bytes(data: bytes) -> Any:
    """The value that UTF-8 JSON bytes spell. Raises JsonError."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise JsonError(f"it is not UTF-8: byte {error.start + 1} cannot be read") from None
    return read_json(text)


def write_json(value: Any) -> str:
    """One line of ASCII JSON; numbers are exact and have no exponent."""
    kind = type(value)
    if kind is Decimal:
        return format(value, "f")
    if kind is list:
        return f"[{', '.join(map(write_json, value))}]"
    if kind is dict:
        return f"{{{', '.join(f'{json.dumps(key)}: {write_json(item)}' for key, item in value.items())}}}"
    # ASCII only: U+2028 and its like are line ends for some readers, and any terminal can show it.
    return json.dumps(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonError("it names a key twice in one object")
    return found


def _fraction(literal: str) -> Decimal | int:
    try:
        return canonical_number(Decimal(literal))
    except (ValueError, decimal.DecimalException):
        raise JsonError("it holds a number that is too large or too small to store") from None


def _whole(literal: str) -> int:
    if len(literal) > _MOST_DIGITS:
        raise JsonError("it holds a number that is too large to store")
    return int(literal)


def _no_number(word: str) -> NoReturn:
    raise JsonError(f"it holds {word}, which is no JSON number")


def _check(value: Any) -> None:
    pending = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise JsonError(f"it nests deeper than {MAX_DEPTH} levels")
        if isinstance(item, str):
            if _UNSTORABLE.search(item):
                raise JsonError(
                    "it holds a text with a character that cannot be stored (NUL or half a surrogate pair)"
                )
        elif isinstance(item, dict):
            pending.extend((part, depth + 1) for pair in item.items() for part in pair)
        elif isinstance(item, list):
            pending.extend((part, depth + 1) for part in item)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_fraction, parse_int=_whole, parse_constant=_no_number
)
