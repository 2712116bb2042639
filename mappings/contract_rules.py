"""What a canonical value of each field type looks like, and how a violation is worded."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from ipaas_resources.core.values import unescape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ipaas_resources.core.schema import FieldSchema


class Violation(msgspec.Struct, frozen=True, order=True):
    """What a record breaks. The reason names kinds and limits, never the value."""

    field: str  # lines: "salesOrderLines[2].quantity"
    reason: str


MISSING_FIELD: Final = "the field is missing"
NULL: Final = "null is not allowed"
NOT_A_MEMBER: Final = "the value is not one of the allowed values"
NOT_AN_OBJECT: Final = "an object was expected"


def too_long(limit: int) -> str:
    """The reason of a text above its limit."""
    return f"the text is longer than {limit} characters"


_DATE: Final = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_TIME: Final = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}"
PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    "date": re.compile(_DATE, re.ASCII),
    "datetime": re.compile(f"{_DATE}T{_TIME}Z", re.ASCII),
    "time": re.compile(_TIME, re.ASCII),
    "guid": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII),
}


def _is_text(value: object) -> bool:
    return type(value) is str


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    def matches(value: object) -> bool:
        return type(value) is str and pattern.fullmatch(value) is not None

    return matches


def _is_integer(value: object) -> bool:
    return type(value) is int


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is Decimal and value.is_finite())


def _is_boolean(value: object) -> bool:
    return type(value) is bool


def _is_choice(value: object) -> bool:
    return type(value) is str or type(value) is int


def is_file(value: object) -> bool:
    return type(value) is dict and type(value.get("$file")) is dict


def _is_list(value: object) -> bool:
    return type(value) is list


def _is_object(value: object) -> bool:
    return type(value) is dict


def is_anything(value: object) -> bool:
    return type(value) in (str, int, bool, Decimal, list, dict)


#: field type -> (the test, the reason when it fails). Null is judged apart.
TYPES: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "text": (_is_text, "text was expected"),
    "integer": (_is_integer, "a whole number was expected"),
    "decimal": (_is_number, "a number was expected"),
    "boolean": (_is_boolean, "true or false was expected"),
    "date": (_matches(PATTERNS["date"]), "a date was expected"),
    "datetime": (_matches(PATTERNS["datetime"]), "a date and time in UTC was expected"),
    "time": (_matches(PATTERNS["time"]), "a time was expected"),
    "guid": (_matches(PATTERNS["guid"]), "a GUID in small letters was expected"),
    "enum": (_is_choice, "the name of a value was expected"),
    "reference": (_is_choice, "the id of a record was expected"),
    "file": (is_file, "a file was expected"),
    "lines": (_is_list, "a list of lines was expected"),
    "object": (_is_object, NOT_AN_OBJECT),
    "list": (_is_list, "a list was expected"),
    "any": (is_anything, "a plain value was expected"),
}


def may_miss(field: FieldSchema) -> bool:
    # Secrets never get into a stored document, so that their absence says nothing.
    return not field.required or field.sensitivity == "secret"


def is_too_long(value: str, limit: int) -> bool:
    """True when the text has more characters than the limit; escaped characters count as one."""
    return len(value) > limit and len(unescape_text(value)) > limit


_WITH_MEMBERS: Final = frozenset({"enum", "text", "integer", "reference", "guid", "date", "datetime", "time"})


def has_members(field: FieldSchema) -> bool:
    """True when the field takes certain values only."""
    return field.enum is not None and field.type in _WITH_MEMBERS
