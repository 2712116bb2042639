"""Names that OData cannot spell: Business Central writes "In Progress" as `In_x0020_Progress`.

Source: BC api/dynamics_opportunity_get.md, dynamics_itemledgerentry_get.md; the escape is that of XML names.
"""

from __future__ import annotations

import functools
import re
import unicodedata

_ENCODED = re.compile(r"_x([0-9A-Fa-f]{8}|[0-9A-Fa-f]{4})_")
# An underscore that would read as the begin of an escape.
_FALSE_ESCAPE = re.compile(r"_(?=x[0-9A-Fa-f]{4})")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_START = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Nl"})
_CONTINUE = _START | {"Nd", "Mn", "Mc", "Pc", "Cf"}
_HIGHEST = 0x10FFFF


@functools.lru_cache(maxsize=4096)
def decode_name(name: str) -> str:
    """The name that a person reads: `In_x0020_Progress` is "In Progress"."""
    if "_x" not in name:
        return name
    return _ENCODED.sub(_character, name)


@functools.lru_cache(maxsize=4096)
def encode_name(name: str) -> str:
    """The name as it goes over the wire; `decode_name` gives the original back."""
    if _PLAIN.fullmatch(name):
        return name
    false_escapes = {match.start() for match in _FALSE_ESCAPE.finditer(name)}
    return "".join(
        "_x005F_" if index in false_escapes else _spell(character, first=index == 0)
        for index, character in enumerate(name)
    )


def _character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if number <= _HIGHEST else match[0]


def _spell(character: str, *, first: bool) -> str:
    if character == "_" or unicodedata.category(character) in (_START if first else _CONTINUE):
        return character
    number = ord(character)
    return f"_x{number:08X}_" if number > 0xFFFF else f"_x{number:04X}_"  # noqa: PLR2004 - four hex digits
