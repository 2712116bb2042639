"""What an API page lets in: known and editable properties, types, lengths, enum spelling; and its blank values."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from ipaas_resources.connectors.business_central.catalogue import Column, EntitySet, catalogue
from ipaas_resources.connectors.business_central.fake_errors import bad_request, refused

ZERO_GUID = "00000000-0000-0000-0000-000000000000"
_GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_ENCODED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_BLANKS: dict[str, Any] = {
    "text": "",
    "guid": ZERO_GUID,
    "decimal": 0,
    "integer": 0,
    "long": 0,
    "boolean": False,
    "date": "0001-01-01",
    "datetime": "0001-01-01T00:00:00Z",
    "stream": None,
}

Check = Callable[[Any], Any]


class Rules(msgspec.Struct, frozen=True):
    """The compiled rules of one entity set."""

    checks: dict[str, tuple[int, Check]]  # editable property -> (position, check)
    blanks: list[Any]
    required: tuple[tuple[str, int], ...]
    unique: tuple[int, ...]  # positions of the record's own key, () where the product numbers by itself
    key: int


@lru_cache(maxsize=256)
def rules_of(set_name: str) -> Rules:
    """The rules of an entity set, compiled once."""
    known = catalogue().sets[set_name]
    columns = [column for column in known.columns.values() if not column.filter_only]
    places = {column.name: position for position, column in enumerate(columns)}
    return Rules(
        {c.name: (places[c.name], _check(c)) for c in columns if not c.readonly and c.type != "stream"},
        [blank(column) for column in columns],
        tuple((column.name, places[column.name]) for column in columns if column.required),
        tuple(places[name] for name in own_key(known)),
        places[known.key[0]] if known.key else -1,
    )


def own_key(known: EntitySet) -> tuple[str, ...]:
    """The properties that the product itself keeps unique."""
    if known.name == "itemVariants":
        return ("itemId", "code")
    if known.header is not None or known.name.endswith(("Archives", "Entries")):
        return ()
    for name in ("number", "code"):
        if name in known.columns:
            return (name,)
    return ()


def blank(column: Column) -> Any:
    """The value of a field that nobody set."""
    return (column.members[0] if column.members else "") if column.type == "enum" else _BLANKS[column.type]


def read_body(known: EntitySet, body: object) -> tuple[dict[int, Any], dict[str, list[Any]]]:
    """The values of a POST or PATCH by position, and its nested collections (deep insert) by property.

    Raises:
        BusinessCentralError: an unknown or read-only property, a value that its type does not take.
    """
    if not isinstance(body, Mapping):
        raise bad_request("Invalid Request Body")
    checks = rules_of(known.name).checks
    values: dict[int, Any] = {}
    nested: dict[str, list[Any]] = {}
    for name, value in body.items():
        found = checks.get(name)
        if found is not None:
            values[found[0]] = found[1](value)
        elif "@" in name:
            continue
        elif name in known.navigation and isinstance(value, list):
            nested[name] = value
        else:
            raise _not_taken(known, name)
    return values, nested


def _not_taken(known: EntitySet, name: str) -> Exception:
    column = known.columns.get(name)
    if column is None:
        return bad_request(
            f"The property '{name}' does not exist on type 'Microsoft.NAV.{known.type_name}'. Make sure to only use "
            "property names that are defined by the type."
        )
    if column.type == "stream":
        return bad_request(
            f"The property '{name}' is a stream property and cannot be part of the request body."
        )
    return bad_request(f"Control '{name}' is read-only", "BadRequest_InvalidOperation")


def _check(column: Column) -> Check:
    """A function that takes a wire value and gives the stored one, or raises the product's refusal."""
    empty = blank(column)
    match column.type:
        case "text":
            inner = _text_check(column)
        case "enum":
            inner = _enum_check(column)
        case "guid":
            inner = _guid
        case "boolean":
            inner = _typed(column, bool)
        case "decimal":
            inner = _typed(column, int, Decimal)
        case "integer" | "long":
            inner = _typed(column, int)
        case _:
            inner = _moment_check(column)
    return lambda value: empty if value is None else inner(value)


def _text_check(column: Column) -> Check:
    longest = column.max_length
    code = column.code

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise _unconvertible(column)
        text = value.strip().upper() if code else value
        if longest is not None and len(text) > longest:
            raise refused(
                f"The length of the string is {len(text)}, but it must be less than or equal to {longest} "
                f"characters. Value: {text}",
                "Application_StringExceededLength",
            )
        return text

    return check


def _enum_check(column: Column) -> Check:
    members = {member: member for member in column.members}

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in members:
            options = ",".join(_ENCODED.sub(_character, member) for member in column.members)
            raise refused(f"'{value}' is not an option. The existing options are: {options}", "Unknown")
        return members[value]

    return check


def _character(match: re.Match[str]) -> str:
    return chr(int(match[1], 16))


def _guid(value: Any) -> str:
    if not isinstance(value, str) or not _GUID.fullmatch(value):
        raise refused(
            "Invalid format of GUID string. The correct format of the GUID string is: "
            "CDEF7890-ABCD-0123-1234-567890ABCDEF where 0-9, A-F symbolizes hexadecimal digits.",
            "Application_InvalidGUID",
        )
    return value.lower()


def _typed(column: Column, *types: type) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise _unconvertible(column)
        return value

    return check


def _moment_check(column: Column) -> Check:
    read = dt.date.fromisoformat if column.type == "date" else dt.datetime.fromisoformat

    def check(value: Any) -> str:
        try:
            read(value)
        except (TypeError, ValueError):
            raise _unconvertible(column) from None
        return str(value)

    return check


def _unconvertible(column: Column) -> Exception:
    return bad_request(f"Cannot convert the value of '{column.name}' to the expected type '{column.type}'.")
