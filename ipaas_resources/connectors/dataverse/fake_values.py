"""What a column of the fake takes: one checked and stored value per wire value, or a refusal.

Stored values are those that a read gives back: empty text as null, moments cut to seconds, money rounded to its
precision, as Dataverse does without saying so.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

from ipaas_resources.connectors.dataverse.fake_errors import RefusedError, bad_payload
from ipaas_resources.connectors.dataverse.fake_schema import CHOICES, DECIMALS, LOOKUPS, Column, Table

if TYPE_CHECKING:
    from ipaas_resources.core.values import Value

GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII | re.IGNORECASE
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_INT32 = 2**31
_RANGES = {
    "Money": Decimal(922337203685477),
    "Decimal": Decimal(100_000_000_000),
    "Double": Decimal(100_000_000_000),
}

Checker = Callable[["Value"], "Value"]


def checker(table: Table, column: Column) -> Checker:
    """The function that checks and converts a wire value for this column; null always passes."""
    kind = column.kind
    if kind in LOOKUPS:
        return _refuser(
            table,
            "CRM do not support direct update of Entity Reference properties, Use Navigation properties instead.",
        )
    if kind in ("String", "Memo", "EntityName"):
        return _text(table, column)
    if kind in CHOICES:
        return _choice(table, column)
    if kind in DECIMALS:
        return _decimal(table, column)
    return _SIMPLE[kind](table, column)


def _refuser(table: Table, reason: str) -> Checker:
    def refuse(_value: Value) -> Value:
        raise bad_payload(table.name, reason)

    return refuse


def _unfit(table: Table, column: Column, edm: str) -> RefusedError:
    # The product repeats the literal here; a fake that did could not show that nobody logs it.
    return bad_payload(
        table.name, f"Cannot convert a literal to the expected type '{edm}' of '{column.name}'."
    )


def _text(table: Table, column: Column) -> Checker:
    longest = column.max_length

    def check(value: Value) -> Value:
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise _unfit(table, column, "Edm.String")
        if longest is not None and len(value) > longest:
            raise RefusedError(
                400,
                "0x80044331",
                f"A validation error occurred. The length of the '{column.name}' attribute of the '{table.name}' entity "
                f"exceeded the maximum allowed length of '{longest}'.",
            )
        return value

    return check


def _choice(table: Table, column: Column) -> Checker:
    options = column.options

    def check(value: Value) -> Value:
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise _unfit(table, column, "Edm.Int32")
        if options is not None and value not in options:
            raise RefusedError(
                400,
                "0x8004431a",
                f"A validation error occurred. The value of '{column.name}' on record of type '{table.name}' is outside "
                f"the valid range. Accepted Values: {','.join(map(str, options))}",
            )
        return value

    return check


def _decimal(table: Table, column: Column) -> Checker:
    limit = _RANGES[column.kind]
    step = Decimal(1).scaleb(-(column.precision or 0))

    def check(value: Value) -> Value:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise _unfit(table, column, "Edm.Double" if column.kind == "Double" else "Edm.Decimal")
        if not -limit <= value <= limit:
            raise RefusedError(
                400,
                "0x80044330",
                f"A validation error occurred. The value of '{column.name}' on record of type '{table.name}' is outside "
                "the valid range.",
            )
        if isinstance(value, int):
            return value
        return value if value.same_quantum(step) else value.quantize(step, ROUND_HALF_EVEN)

    return check


def _integer(table: Table, column: Column) -> Checker:
    def check(value: Value) -> Value:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise _unfit(table, column, "Edm.Int32")
        if value is not None and not -_INT32 <= value < _INT32:
            raise _unfit(table, column, "Edm.Int32")
        return value

    return check


def _long(table: Table, column: Column) -> Checker:
    def check(value: Value) -> Value:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise _unfit(table, column, "Edm.Int64")
        return value

    return check


def _boolean(table: Table, column: Column) -> Checker:
    def check(value: Value) -> Value:
        if value is not None and not isinstance(value, bool):
            raise _unfit(table, column, "Edm.Boolean")
        return value

    return check


def _guid(table: Table, column: Column) -> Checker:
    def check(value: Value) -> Value:
        if value is None:
            return None
        if not isinstance(value, str) or GUID.fullmatch(value) is None:
            raise _unfit(table, column, "Edm.Guid")
        return value.lower()

    return check


def _moment(table: Table, column: Column) -> Checker:
    def check(value: Value) -> Value:
        if value is None:
            return None
        stored = stored_moment(value) if isinstance(value, str) else None
        if stored is None:
            raise _unfit(table, column, "Edm.DateTimeOffset")
        return stored

    return check


def stored_moment(text: str) -> str | None:
    """UTC, cut to seconds, as a read shows it; None when the text is no moment."""
    match = _MOMENT.fullmatch(text)
    if match is None or match[5] is None:
        return None
    if match[5] in "Zz":
        return f"{match[1]}T{match[2]}:{match[3]}:{match[4] or '00'}Z"
    moment = dt.datetime.fromisoformat(text)
    return f"{moment.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _date(table: Table, column: Column) -> Checker:
    def check(value: Value) -> Value:
        if value is not None and (not isinstance(value, str) or _DATE.fullmatch(value) is None):
            raise _unfit(table, column, "Edm.Date")
        return value

    return check


def _image(table: Table, _column: Column) -> Checker:
    return _refuser(table, "This fake keeps no images.")


_SIMPLE: dict[str, Callable[[Table, Column], Checker]] = {
    "Integer": _integer,
    "BigInt": _long,
    "Boolean": _boolean,
    "Uniqueidentifier": _guid,
    "DateTime": _moment,
    "Date": _date,
    "Image": _image,
}
