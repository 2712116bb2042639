"""Addresses and filters of OData, built from values without ever letting a value become syntax.

There is no function for `or` over two fields: Business Central refuses it ("The 'OR' operator is not supported on
distinct fields on an OData filter", BC webservices/odata-known-limitations.md). Lambda filters are not offered either:
it ignores them silently.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from ipaas_resources.core.errors import RefusedRecordError
from ipaas_resources.core.values import unescape_text
from ipaas_resources.net.odata.names import encode_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ipaas_resources.core.schema import FieldType
    from ipaas_resources.core.values import Value

Operator = Literal["eq", "ne", "gt", "ge", "lt", "le"]

_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TIME = re.compile(r"\d\d:\d\d:\d\d(?:\.\d{1,12})?")
# Characters that may stand unescaped in a query value; `&`, `+`, `#`, `%` and the space may not.
_QUERY_SAFE = "'()*!,:;@/$=~"
_PATH_SAFE = "'(),=:@!$*~"


def literal(value: Value, type: FieldType) -> str:  # noqa: A002 - the word of the schema
    """A canonical value as an OData literal of its schema type.

    Raises:
        RefusedRecordError: the value is not one of this type, so no record can carry it.
    """
    if value is None:
        return "null"
    made = _LITERALS.get(type, _text)(value)
    if made is None:
        raise RefusedRecordError(f"A {type} field cannot be compared with a value that is no {type}.")
    return made


def _text(value: Value) -> str | None:
    if not isinstance(value, str):
        return None
    return "'" + unescape_text(value).replace("'", "''") + "'"


def _number(value: Value) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _boolean(value: Value) -> str | None:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else None


def _date(value: Value) -> str | None:
    return _checked(value, lambda text: dt.date.fromisoformat(text).isoformat() == text)


def _datetime(value: Value) -> str | None:
    return _checked(value, lambda text: text.endswith("Z") and dt.datetime.fromisoformat(text) is not None)


def _time(value: Value) -> str | None:
    return _checked(value, lambda text: _TIME.fullmatch(text) is not None)


def _guid(value: Value) -> str | None:
    return _checked(value, lambda text: _GUID.fullmatch(text) is not None)


def _reference(value: Value) -> str | None:
    return _guid(value) or _text(value)


def _enum(value: Value) -> str | None:
    return f"'{encode_name(value)}'" if isinstance(value, str) else _number(value)


def _checked(value: Value, fits: Callable[[str], bool]) -> str | None:
    try:
        return value if isinstance(value, str) and fits(value) else None
    except ValueError:
        return None


_LITERALS: Mapping[str, Callable[[Value], str | None]] = {
    "text": _text,
    "integer": _number,
    "decimal": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "time": _time,
    "guid": _guid,
    "enum": _enum,
    "reference": _reference,
}


def compare(field: str, operator: Operator, value: Value, type: FieldType) -> str:  # noqa: A002
    """One comparison: `number eq 'C-7'`. `field` is a wire name from the schema."""
    return f"{field} {operator} {literal(value, type)}"


def any_of(field: str, values: Iterable[Value], type: FieldType) -> str:  # noqa: A002
    """The records whose field is one of these values: `or` over one field. Needs at least one value."""
    parts = [compare(field, "eq", value, type) for value in values]
    if not parts:
        raise ValueError("an empty list of values would select everything")
    return parts[0] if len(parts) == 1 else f"({' or '.join(parts)})"


def all_of(*filters: str) -> str:
    """The records that pass every filter; empty ones count as absent."""
    return " and ".join(part for part in filters if part)


def address(
    path: str,
    *,
    select: Sequence[str] = (),
    filter: str = "",  # noqa: A002 - OData's own word
    orderby: str = "",
    expand: str = "",
    top: int | None = None,
    count: bool = False,
    extra: Mapping[str, str] | None = None,
) -> str:
    """A path with its query, percent-encoded.

    Args:
        path: below the base address; keys in it come from `key` or `key_of`.
        extra: further query options, by name.

    Raises:
        RefusedRecordError: a value holds half a character (lone surrogate), which no address can carry.
    """
    options: dict[str, str] = {}
    if select:
        options["$select"] = ",".join(select)
    if filter:
        options["$filter"] = filter
    if orderby:
        options["$orderby"] = orderby
    if expand:
        options["$expand"] = expand
    if top is not None:
        options["$top"] = str(top)
    if count:
        options["$count"] = "true"
    options |= extra or {}
    if not options:
        return path
    return f"{path}?{'&'.join(f'{name}={_escaped(value, _QUERY_SAFE)}' for name, value in options.items())}"


def key(value: Value, type: FieldType) -> str:  # noqa: A002
    """A key in parentheses, ready for a path: `(7ce0af2e-...)`, `('C%2F7')`."""
    return f"({_escaped(literal(value, type), _PATH_SAFE)})"


def key_of(parts: Mapping[str, tuple[Value, FieldType]]) -> str:
    """A key of several named parts, ready for a path: `(firstname='Joe',emailaddress1='abc@example.com')`."""
    named = [
        f"{name}={_escaped(literal(value, type_), _PATH_SAFE)}" for name, (value, type_) in parts.items()
    ]
    return f"({','.join(named)})"


def _escaped(text: str, safe: str) -> str:
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError:
        message = "A value holds half a character (a lone surrogate); it cannot be asked for by address."
        raise RefusedRecordError(message) from None
