"""Text that cannot be read at all: what people write who know Excel, SQL or another language, and how it is said here."""

from __future__ import annotations

import keyword
import re
from decimal import Decimal
from typing import Final

_TEXTS: Final = re.compile(
    # Texts and remarks: what stands in them is not meant for us. Possessive, and the end may be missing, so that no text is looked at twice.
    r'"""(?:[^"]|"(?!""))*+(?:""")?+'
    r"|'''(?:[^']|'(?!''))*+(?:''')?+"
    r'|"(?:[^"\\\n]|\\.)*+"?+'
    r"|'(?:[^'\\\n]|\\.)*+'?+"
    r"|#[^\n]*+"
)
_EXCEL_IF: Final = re.compile(r"\bif\s*+\(", re.IGNORECASE)
_SEMICOLON_IN_BRACKETS: Final = re.compile(r"\([^()\[\]{};]*+;")
_PERCENT: Final = re.compile(r"(?<![\w.])(\d{1,9}+(?:\.\d{1,9}+)?+)\s*+%\s*+(?=[-+*/),;\]]|$)", re.MULTILINE)
_BARE_KEY: Final = re.compile(r"\b(record|parent)\[\s*+([^\W\d][\w .\-/]{0,59}+)\]")
_WORDS: Final = re.compile(r"(?<![\w.$])\w++(?:[ \t]++\w++)*+")
_ONE_EQUALS: Final = re.compile(r"(?<![=!<>+\-*/%|&])=(?!=)")

_SIGNS: Final = (
    # (what stands there, how it is written here)
    (re.compile(r"<\s*+>"), "write != instead of <>"),
    (re.compile(r"==="), "write == instead of ==="),
    (re.compile(r"=<"), "write <= instead of =<"),
    (re.compile(r"=>"), "write >= instead of =>"),
    (re.compile(r"&&"), "write and instead of &&"),
    (re.compile(r"\|\|"), "write or between conditions, + between texts, instead of ||"),
    (re.compile(r"!(?!=)"), "write not instead of !"),
    (re.compile(r"\?"), "write a if condition else b instead of condition ? a : b"),
)
_KEYWORDS: Final = frozenset(keyword.kwlist)
_CHOICE: Final = "a choice is written a if condition else b"
#: Words of other languages: a name beside one of them is no field name of two words.
_OF_OTHERS: Final = frozenset(
    {
        "between",
        "case",
        "do",
        "elseif",
        "end",
        "endif",
        "isnull",
        "let",
        "like",
        "then",
        "unless",
        "var",
        "when",
    }
)
_LONGEST_FIELD: Final = 60  # characters of a name that is quoted in the advice


def advice(source: str) -> str:
    """How the text is probably meant, as a half-sentence with the way to write it; '' where nothing is known."""
    text = _TEXTS.sub('""', source)
    if text.lstrip().startswith("=") and not text.lstrip().startswith("=="):
        return "leave out the = in front"
    if "\n" not in text.strip() and ("," in text or ";" in text) and _EXCEL_IF.search(text):
        return _CHOICE
    for sign, way in _SIGNS:
        if sign.search(text):
            return way
    if _SEMICOLON_IN_BRACKETS.search(text):
        return "write commas between arguments, not semicolons"
    if (percent := _PERCENT.search(text)) is not None:
        return f"write {_share(percent[1])} for {percent[1]}%"
    if (key := _BARE_KEY.search(text)) is not None:
        return f'put the name in quotes: {key[1]}["{key[2].strip()}"]'
    return _of_words(text)


def compares_with_one_sign(source: str) -> bool:
    """True for one line that says = where only a comparison can stand."""
    text = _TEXTS.sub('""', source)
    return "\n" not in text.strip() and _ONE_EQUALS.search(text) is not None


def _share(percent: str) -> str:
    return f"{(Decimal(percent) / 100).normalize():f}"


def _of_words(text: str) -> str:
    for found in _WORDS.finditer(text):
        name: list[str] = []
        for word in [*found[0].split(), "and"]:
            if word.lower() in ("and", "or", "not") and not word.islower():
                return f"write {word.lower()} in small letters"
            if word == "then":
                return _CHOICE
            if word not in _KEYWORDS:
                name.append(word)
            elif _is_field_name(name):
                return f'a field whose name has a space is written record["{" ".join(name)}"]'
            else:
                name = []
    return ""


def _is_field_name(words: list[str]) -> bool:
    return (
        len(words) > 1
        and not words[0][0].isdigit()
        and len(" ".join(words)) <= _LONGEST_FIELD
        and _OF_OTHERS.isdisjoint(word.lower() for word in words)
    )
