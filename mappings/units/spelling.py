"""Which unit a spelling means. What may mean two is told apart from what is unknown, and neither is guessed."""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ipaas_resources.core.errors import ConfigurationError
from mappings.units.catalogue import Unit, packages, read_table, unit_named, units

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST: Final = 100  # characters; a longer text is no unit
_SHORT_CODE: Final = 2  # in small letters it may be anything: fc, gb, kw

Codes = tuple[str, ...]
"""What a spelling can mean: one code, or several and nobody knows which."""


class Meaning(msgspec.Struct, frozen=True):
    """What was found for a spelling: the code, or why there is none."""

    code: str  # "" where there is none
    why: Literal["", "unknown", "several", "deleted"] = ""


_SEVERAL: Final = Meaning("", "several")
_UNKNOWN: Final = Meaning("", "unknown")
_DELETED: Final = Meaning("", "deleted")

_PASSED_OVER: Final = re.compile(r"[\s.·⋅∙^]+|(?<=[^\W\d])-(?=[^\W\d])")


def squeezed(text: str) -> str:
    """The text without spaces, dots and hyphens between letters; m² and m^2 are m2. Case stays."""
    return _PASSED_OVER.sub("", unicodedata.normalize("NFKC", text))


def folded(text: str) -> str:
    """The squeezed text in small letters."""
    return squeezed(text).casefold()


class _Spellings:
    """Everything a spelling is compared with, in the order in which it is asked."""

    def __init__(self) -> None:
        self.exact, self.variants = read_variants(read_table("variants.csv"))
        symbols: dict[str, Codes] = {}
        squeezed_symbols: dict[str, Codes] = {}
        self.words: dict[str, Codes] = {}  # folded names and symbols
        self.folded_codes: dict[str, Codes] = {}
        in_use = [unit for unit in units().values() if unit.status != "X"]
        for unit in in_use:
            if len(unit.code) > _SHORT_CODE:
                _add(self.folded_codes, folded(unit.code), unit.code)
        for unit in in_use:
            for symbol in filter(None, unit.symbol.split(" or ")):
                written = unicodedata.normalize("NFKC", symbol)
                _add(symbols, written, unit.code)
                _add(squeezed_symbols, squeezed(symbol), unit.code)
                _add(self.words, folded(symbol), unit.code)
                # Without its dot kg·m reads like the code KGM in small letters.
                for code in self.folded_codes.get(folded(symbol), ()) if squeezed(symbol) != written else ():
                    _add(squeezed_symbols, squeezed(symbol), code)
                    _add(self.words, folded(symbol), code)
            for form in name_forms(unit.name):
                _add(self.words, folded(form), unit.code)
        self.packages: dict[str, Codes] = {}
        for package in packages().values():
            for form in name_forms(package.name):
                _add(self.packages, folded(form), package.code)
        self.with_case: dict[str, Codes] = {
            symbol: self._of_symbol(symbol, codes)
            for symbol, codes in {**squeezed_symbols, **symbols}.items()
        } | self.exact
        self.codes = {code: self._of_code(unit) for code, unit in {**units(), **packages()}.items()}

    def _of_symbol(self, symbol: str, codes: Codes) -> Codes:
        """What an exact symbol means: its units, and what our rows say that people mean by it (Gal, Lb, std)."""
        return tuple(dict.fromkeys([*codes, *self.variants.get(folded(symbol), ())]))

    def _of_code(self, unit: Unit) -> Codes:
        """What an exact code means: itself, and other units that people spell by these letters (KGS, KW, CTN)."""
        if unit.status == "X":
            return ()
        key = folded(unit.code)
        said = self.exact.get(unit.code)
        others = self.variants.get(key)
        if said is None and unit.status == "D":
            said = others  # a deprecated code gives way to what our rows say: OZ
        if said is not None:
            return said
        if others is None:
            others = self.words.get(key) or self.packages.get(key) or ()
            if unit.code in others:
                return (unit.code,)
        return tuple(dict.fromkeys([unit.code, *others]))

    def usual(self, key: str) -> Codes | None:
        """What people mean by a folded text."""
        if len(key) <= 1:
            return self.variants.get(key)  # a letter in another case than the symbol's may be anything: f, w
        return self.variants.get(key) or self.words.get(key) or self.packages.get(key)

    def find(self, text: str) -> Codes:
        """What a text can mean, () for nothing."""
        found = self.codes.get(text)
        if found:
            return found
        found = self.with_case.get(unicodedata.normalize("NFKC", text)) or self.with_case.get(squeezed(text))
        if found:
            return found
        key = folded(text)
        return self.usual(key) or self.folded_codes.get(key) or ()


def _add(table: dict[str, Codes], key: str, code: str) -> None:
    if code not in table.get(key, ()):
        table[key] = (*table.get(key, ()), code)


def read_variants(rows: Iterable[Mapping[str, str]]) -> tuple[dict[str, Codes], dict[str, Codes]]:
    """The spellings with case and those without, from rows of spelling, codes, match.

    Raises:
        ConfigurationError: with every conflict: a spelling twice, a code that does not exist or was deleted.
    """
    exact: dict[str, Codes] = {}
    loose: dict[str, Codes] = {}
    faults: list[str] = []
    for number, row in enumerate(rows, 2):
        table, key = (exact, row["spelling"]) if row["match"] == "exact" else (loose, folded(row["spelling"]))
        if row["match"] not in ("", "exact"):
            faults.append(f"{number}: match is {row['match']!r}; it is empty or exact")
        if not key or key in table:
            faults.append(f"{number}: the spelling {row['spelling']!r} is empty or stands there already")
        codes = tuple(row["codes"].split("|"))
        wrong = [code for code in codes if unit_named(code) is None]
        if wrong:
            faults.append(f"{number}: {', '.join(wrong)} is no code of Rec 20 in use")
        table[key] = codes
    if faults:
        listing = "\n".join(f"  {fault}" for fault in faults)
        raise ConfigurationError(f"The spellings of units cannot be used:\n{listing}", code="units")
    return exact, loose


_BRACKETS: Final = re.compile(r"\s*\[[^\]]*\]")
_PLURALS: Final = {"foot": "feet", "inch": "inches", "henry": "henries"}
_NO_PLURAL: Final = ("s", "x", "z")


def name_forms(name: str) -> set[str]:
    """How a name is written: without its remark in square brackets, in American spelling, in the plural."""
    plain = _BRACKETS.sub("", name)
    found = {name, plain, plain.replace("metre", "meter").replace("litre", "liter")}
    for form in sorted(found):
        head, per, rest = form.partition(" per ")
        front, space, noun = head.rpartition(" ")
        if noun.isalpha() and not noun.endswith(_NO_PLURAL):
            found.add(f"{front}{space}{_PLURALS.get(noun, noun + 's')}{per}{rest}")
    return found


@functools.cache
def _spellings() -> _Spellings:
    return _Spellings()


def meaning_of(text: str) -> Meaning:
    """What a spelling means. Spaces around it do not count; the empty text is unknown."""
    trimmed = text.strip()
    return _meaning_of(trimmed) if 0 < len(trimmed) <= LONGEST else _UNKNOWN


@functools.lru_cache(maxsize=4_096)
def _meaning_of(trimmed: str) -> Meaning:
    codes = _spellings().find(trimmed)
    if len(codes) == 1:
        return Meaning(codes[0])
    if codes:
        return _SEVERAL
    deleted = units().get(trimmed)
    return _DELETED if deleted is not None and deleted.status == "X" else _UNKNOWN
