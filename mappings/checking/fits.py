"""Which values fit a target field; what a misfit is called, and the way out.

What only may fit (a text into a reference, a text of unknown length) is let through: the row decides.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from ipaas_resources.core.values import Value, parse_datetime, unescape_text
from mappings.characters import NAMES, has_unfit
from mappings.faults import closest_name
from mappings.kinds import NUMBERS, Gives, characters, digits_after_point, scale_of, text_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ipaas_resources.core.schema import FieldSchema

_TEXTS: Final = frozenset({"text", "guid", "enum", "reference", "date", "datetime", "time"})

#: target type -> kinds that can fit it
_FITS: Final[Mapping[str, frozenset[str]]] = {
    "text": _TEXTS,
    "integer": NUMBERS,
    "decimal": NUMBERS,
    "boolean": frozenset({"boolean"}),
    "date": frozenset({"date"}),
    "datetime": frozenset({"datetime"}),
    "time": frozenset({"time"}),
    "guid": frozenset({"guid", "reference", "text"}),
    "enum": frozenset({"enum", "text", "integer", "number"}),
    "reference": frozenset({"reference", "guid", "text", "integer", "number"}),
    "file": frozenset({"file"}),
    "lines": frozenset(),
    "object": frozenset({"object"}),
    "list": frozenset({"list"}),
}

_WAY_OUT: Final[Mapping[tuple[str, str], str]] = {
    ("date", "datetime"): "; write {date: FIELD, to: date}",
    ("datetime", "date"): "; write {date: FIELD, to: datetime}",
    ("date", "text"): "; write {date: FIELD, to: date}",
    ("datetime", "text"): "; write {date: FIELD, to: datetime}",
    ("integer", "text"): '; write {math: "number(FIELD)"}',
    ("integer", "decimal"): '; write {math: "round(FIELD)"}',
    ("decimal", "text"): '; write {math: "number(FIELD)"}',
    ("integer", "reference"): "; add as: number",
    ("text", "integer"): '; write {template: "{FIELD}"}',
    ("text", "decimal"): '; write {template: "{FIELD}"}',
    ("text", "number"): '; write {python: "text(...)"}',
    ("text", "boolean"): '; write {template: "{FIELD}"} or an if rule',
    ("boolean", "text"): "; write an if rule",
}

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_GUID_LENGTH: Final = 36
_LONGEST_SAID: Final = 40  # characters of a constant that a message repeats


class Misfit(msgspec.Struct, frozen=True):
    """Why a value cannot be in a field."""

    what: str  # one sentence without its full stop
    closest: str = ""  # the valid value that was probably meant
    valid: tuple[str, ...] = ()  # values that could stand there

    def __str__(self) -> str:
        """The sentence."""
        return self.what


class Mends(msgspec.Struct, frozen=True):
    """Whether the rule of a field says what happens to texts that do not fit."""

    length: bool = False
    characters: bool = False


_NOTHING_MENDED: Final = Mends()


def misfit(
    gives: Gives, field: FieldSchema, *, said: str = "", mends: Mends = _NOTHING_MENDED
) -> Misfit | None:
    """Why what a rule gives cannot be in this target field, None when it can be.

    `said` names a single value in the message ("the default"); constants name themselves.
    """
    if field.type == "any":
        return None
    if field.type == "lines":
        return Misfit(f"{field.name} holds lines; write its rules under lines:")
    if not gives.kinds:
        return None if field.nullable else Misfit(f"the rule gives null, {field.name} cannot be empty")
    wrong = _wrong_kind(gives, field)
    if wrong:
        verb = f"{said} is" if said else "the rule gives"
        way_out = _WAY_OUT.get((field.type, wrong), "")
        return Misfit(f"{verb} {_article(wrong)}, {field.name} takes {_article(field.type)}{way_out}")
    if gives.values is None:
        return _misfit_bounds(gives, field)
    if "enum" in gives.kinds:
        return _misfit_members(gives.values, field)
    judged = (
        _misfit_value(value, field, said or _quoted(value)) or _misfit_text(value, field, said, mends)
        for value in gives.values
    )
    return next((found for found in judged if found is not None), None)


def _misfit_text(value: Value, field: FieldSchema, said: str, mends: Mends) -> Misfit | None:
    """Length and characters, which the words beside a rule can mend."""
    if not isinstance(value, str):
        return None
    if not mends.length and field.max_length is not None and characters(value) > field.max_length:
        named = said or _quoted(value)
        return Misfit(f"{named} has {characters(value)} characters, {field.name} takes {field.max_length}")
    if not mends.characters and has_unfit(unescape_text(value), field.characters):
        return unfit_text(said or "the constant", field)
    return None


def _wrong_kind(gives: Gives, field: FieldSchema) -> str:
    """A kind that the rule gives and the field never takes, '' where there is none."""
    if gives.values is not None and gives.kinds == {"text"} and field.type in _SPELLED:
        return ""  # a constant text may spell a date: its letters tell
    wrong = sorted(gives.kinds - _FITS[field.type] - {"any"})
    if wrong:
        return wrong[0]
    # Constants are judged one by one.
    broken = field.type == "integer" and gives.values is None and digits_after_point(gives) != 0
    return "decimal" if broken and "decimal" in gives.kinds else ""


def unfit_text(said: str, field: FieldSchema) -> Misfit:
    """A text with characters that the field cannot hold."""
    return Misfit(f"{said} holds {NAMES[field.characters]}, which {field.name} cannot hold")


def longer_than_taken(gives: Gives, field: FieldSchema) -> int | None:
    """Characters that a rule can give where that is more than the text field takes, else None.

    Constants are left out: they are too long or they are not.
    """
    if (
        field.type != "text"
        or field.max_length is None
        or (gives.values is not None and "enum" not in gives.kinds)
    ):
        return None
    longest = text_length(gives)
    return longest if longest is not None and longest > field.max_length else None


def hints(gives: Gives, field: FieldSchema) -> Iterator[str]:
    """What a person should know of a rule whose values may fit or not, or are changed by the target."""
    digits = digits_after_point(gives)
    if field.type == "decimal" and field.scale is not None and digits is not None and digits > field.scale:
        yield (
            f"the rule can give {digits} digits after the point, {field.name} keeps {field.scale} and rounds by its "
            f'own rules; write {{math: "round(..., {field.scale})"}} to round by yours'
        )
    if field.type == "enum" and field.enum is not None and "enum" in gives.kinds and gives.values is not None:
        # Blank is how many systems say "none".
        missing = [str(value) for value in gives.values if value not in field.enum and value != ""]
        if missing:
            yield (
                f"the source's values {', '.join(missing)} are no values of {field.name}: records with them are refused; "
                "use a lookup"
            )
    if gives.values is None and gives.kinds & NUMBERS:
        if field.maximum is not None and gives.maximum is not None and gives.maximum > field.maximum:
            yield f"the source goes up to {_plain(gives.maximum)}, {field.name} to {_plain(field.maximum)}"
        if field.minimum is not None and gives.minimum is not None and gives.minimum < field.minimum:
            yield f"the source goes down to {_plain(gives.minimum)}, {field.name} to {_plain(field.minimum)}"


# --- what is known as a whole -------------------------------------------------------------------------------------


def _misfit_bounds(gives: Gives, field: FieldSchema) -> Misfit | None:
    if field.enum and field.type == "enum":
        texts = {type(each) is str for each in field.enum}
        listed = ", ".join(map(str, field.enum))
        if gives.kinds == {"text"} and texts == {False}:
            return Misfit(
                f"the rule gives text, {field.name} takes one of the numbers {listed}; "
                "a lookup gives numbers with as: number"
            )
        if gives.kinds <= NUMBERS and texts == {True}:
            return Misfit(f"the rule gives a number, {field.name} takes one of {listed}; use a lookup")
    digits = digits_after_point(gives)
    if field.type == "integer" and gives.kinds <= NUMBERS and digits:
        return Misfit(
            f"the rule gives up to {digits} digits after the point, {field.name} takes an integer; "
            'write {math: "round(...)"}'
        )
    longest = text_length(gives)
    if field.type == "guid" and gives.kinds == {"text"} and longest is not None and longest < _GUID_LENGTH:
        return Misfit(
            f"the rule gives at most {longest} characters, {field.name} takes a guid of {_GUID_LENGTH}; use a ref"
        )
    if gives.kinds <= NUMBERS and field.type in ("integer", "decimal"):
        if field.maximum is not None and gives.minimum is not None and gives.minimum > field.maximum:
            return Misfit(
                f"the rule gives {_plain(gives.minimum)} or more, {field.name} at most {_plain(field.maximum)}"
            )
        if field.minimum is not None and gives.maximum is not None and gives.maximum < field.minimum:
            return Misfit(
                f"the rule gives {_plain(gives.maximum)} or less, {field.name} takes at least {_plain(field.minimum)}"
            )
    return None


def _misfit_members(values: tuple[Value, ...], field: FieldSchema) -> Misfit | None:
    if field.enum is None or set(values) & set(field.enum):
        return None
    valid = tuple(map(str, field.enum))
    return Misfit(f"none of the source's values is a value of {field.name}; use a lookup", valid=valid)


# --- one value ----------------------------------------------------------------------------------------------------


def _is_date(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == len("2026-01-31")


def _is_datetime(text: str) -> bool:
    try:
        parse_datetime(text)
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    try:
        dt.time.fromisoformat(text)
    except ValueError:
        return False
    return ":" in text


#: type -> (whether a text spells it, how it is written)
_SPELLED: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = {
    "date": (_is_date, "2026-01-31"),
    "datetime": (_is_datetime, "2026-01-31T13:58:10Z"),
    "time": (_is_time, "13:58:10"),
    "guid": (lambda text: _GUID.fullmatch(text) is not None, "2e451703-0a6f-4c64-8a52-2c9c13a6f001"),
}


def _misfit_value(value: Value, field: FieldSchema, said: str) -> Misfit | None:
    """Length and characters apart: those may be mended by the rule's words."""
    name = field.name
    if field.enum is not None and field.type in ("enum", "text", "integer", "reference"):
        if value in field.enum and type(value) is not bool:
            return None
        valid = tuple(map(str, field.enum))
        return Misfit(f"{said} is not a value of {name}", closest_name(str(value), valid), valid)
    if field.type in _SPELLED and isinstance(value, str):
        spells, form = _SPELLED[field.type]
        return (
            None
            if spells(value)
            else Misfit(f"{said} is no {field.type}, as {name} takes; write it as {form}")
        )
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    if field.type == "integer" and scale_of(value):
        return Misfit(f"{said} is no whole number, {name} takes an integer")
    if field.minimum is not None and value < field.minimum:
        return Misfit(f"{said} is below {_plain(field.minimum)}, the least that {name} takes")
    if field.maximum is not None and value > field.maximum:
        return Misfit(f"{said} is above {_plain(field.maximum)}, the most that {name} takes")
    return None


def _quoted(value: Value) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_SAID else "the constant"


def _plain(number: float) -> str:
    return f"{number:.15g}"


def _article(name: str) -> str:
    if name in ("text", "lines"):
        return name
    return f"an {name}" if name[0] in "aeio" else f"a {name}"
