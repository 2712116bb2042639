"""Which characters a target field can hold, and what becomes of the others; where a text that is too long is cut."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ipaas_resources.core.schema import Characters

# What XML 1.0 cannot carry (https://www.w3.org/TR/xml/#charsets): controls but tab and line ends, surrogates, U+FFFE/F.
_NOT_XML: Final = "\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff"
_LINE_ENDS: Final = "\n\r\x0b\x0c\x85\u2028\u2029"

#: word of the schema -> the characters it leaves out
UNFIT: Final[Mapping[Characters, re.Pattern[str]]] = {
    "xml": re.compile(f"[{_NOT_XML}]"),
    "single_line": re.compile(f"[{_NOT_XML}{_LINE_ENDS}]"),
    "bmp": re.compile(f"[{_NOT_XML}\U00010000-\U0010ffff]"),
    "ascii": re.compile(r"[^\t\n\r\x20-\x7e]"),
    "file_name": re.compile(r'[\x00-\x1f"<>|:*?/\\]'),
}

#: The same in words, for messages.
NAMES: Final[Mapping[Characters, str]] = {
    "xml": "control characters",
    "single_line": "line breaks or control characters",
    "bmp": "control characters or characters beyond U+FFFF, as emoji are",
    "ascii": "characters other than those of ASCII",
    "file_name": 'characters that no file name may hold: " < > | : * ? / \\ or controls',
}

# Letters and signs that Unicode does not take apart into a letter and a mark.
_PLAIN: Final = str.maketrans(
    {
        "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
        "đ": "d", "Đ": "D", "þ": "th", "Þ": "Th", "\u0131": "i",
        "\u00a0": " ", "\u202f": " ", "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-",
        "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2026": "...",
    }
)  # fmt: skip


def _to_ascii(character: str) -> str:
    """The letter without its mark, "?" where there is none; never a guess as from ½ to 12."""
    letters = unicodedata.normalize("NFD", character.translate(_PLAIN))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return plain if plain.isascii() and plain.isprintable() else "?"


def _to_space(character: str) -> str:
    return " " if character in _LINE_ENDS else "\ufffd"


_NEAREST: Final[Mapping[Characters, Callable[[str], str]]] = {
    "xml": lambda _character: "\ufffd",
    "single_line": _to_space,
    "bmp": lambda _character: "\ufffd",
    "ascii": _to_ascii,
    "file_name": lambda _character: "_",
}


def has_unfit(text: str, characters: Characters) -> bool:
    """Whether a text (unescaped) holds a character that such a field cannot."""
    return characters != "any" and UNFIT[characters].search(text) is not None


def drop_unfit(text: str, characters: Characters) -> str:
    """The text without the characters that such a field cannot hold."""
    return UNFIT[characters].sub("", text)


def replace_unfit(text: str, characters: Characters) -> str:
    """The text with the nearest that the field can hold.

    Letters lose their marks in ASCII, line breaks become a space, file names get `_`; where nothing is near it is `?`
    in ASCII and the replacement character U+FFFD elsewhere.
    """
    nearest = _NEAREST[characters]
    if characters == "single_line":
        text = text.replace("\r\n", "\n")  # one line break, one space
    elif characters == "ascii":
        # A mark that stands after its letter goes the way of one that is part of it.
        text = unicodedata.normalize("NFC", text)
    return UNFIT[characters].sub(lambda match: nearest(match[0]), text)


# A base letter with more marks than this is no text of any language; it may be cut anywhere.
_LONGEST_CLUSTER: Final = 32
_JOINER: Final = "\u200d"


def cut(text: str, most: int) -> str:
    """The first `most` characters, or a few less where the cut would part what a reader sees as one character."""
    if len(text) <= most:
        return text
    for end in range(most, max(0, most - _LONGEST_CLUSTER), -1):
        if not _belongs_to_one_before(text, end):
            return text[:end]
    return text[:most]


def _belongs_to_one_before(text: str, at: int) -> bool:
    """Whether the character at this place continues the one before: a mark, a part of an emoji, LF after CR."""
    before, here = text[at - 1], text[at]
    if _JOINER in (here, before) or unicodedata.category(here)[0] == "M":
        return True
    if "\U0001f3fb" <= here <= "\U0001f3ff" or "\U000e0020" <= here <= "\U000e007f":
        return True  # skin tones and tags follow their emoji
    if before == "\r" and here == "\n":
        return True
    if not _is_flag_letter(here):
        return False
    # Flags are pairs of letters: it matters how many stand before.
    many = 0
    while many < at and _is_flag_letter(text[at - 1 - many]):
        many += 1
    return many % 2 == 1


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
