"""Between the product's JSON and canonical values."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.calibration.enums import BY_NUMBER
from ipaas_resources.core.errors import ProtocolError
from ipaas_resources.core.records import FileRef, record_id
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.core.values import escape_text, parse_datetime, unescape_text
from ipaas_resources.net import canonical
from ipaas_resources.net.convert import Codec, Converter, Dialect

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ipaas_resources.core.schema import FieldSchema
    from ipaas_resources.core.values import Document, Value

_WHOLE_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)


def converter(
    entity: str, fields: Sequence[FieldSchema], zone: dt.tzinfo, chosen: Collection[str] | None = None
) -> Converter:
    """Rows of an entity (or of its lines) to canonical documents with exactly these fields, absent ones null.

    Times are of `zone`, except those whose name ends in Utc. Enums that travel by number get their names. Fields that
    the connector puts together itself (`lines`, `file`) are null here.
    """
    codecs = {field.name: codec for field in fields if (codec := _codec(field)) is not None}
    dialect = Dialect(zone=zone, zeros_are_null=True, absent="null")
    return Converter(
        EntitySchema(entity=entity, key=(), fields=tuple(fields)), dialect, fields=chosen, codecs=codecs
    )


def _codec(field: FieldSchema) -> Codec | None:
    if field.type in {"lines", "file"}:
        return Codec(read=_nothing)
    if field.type == "datetime" and field.name.endswith("Utc"):
        return Codec(read=_utc)
    if field.name in BY_NUMBER:
        members = BY_NUMBER[field.name]
        return Codec(read=lambda number: members.get(number, number))
    return None


def _nothing(_value: object) -> None:
    return None


def _utc(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value.startswith(canonical.ZERO_DATE):
            return None
        if _WHOLE_SECONDS.fullmatch(value) is not None:
            dt.datetime.fromisoformat(value)  # refuses a 30th of February
            return value + ".000000Z"
    return canonical.moment(value, dt.UTC)


def document_file(row: Mapping[str, Any]) -> Document:
    """The file value of a document row; a new revision is another value, also where the product keeps the guid."""
    return FileRef(
        id=str(row["Guid"]).lower(),
        name=escape_text(row.get("FileName") or row.get("DocumentName") or ""),
        revision=str(row.get("RevisionNumber") or 0),
    ).to_value()


def identity(schema: EntitySchema, row: Mapping[str, Any]) -> str:
    """The record id of a row.

    Raises:
        ProtocolError: the row carries no key.
    """
    parts = tuple(row.get(name) for name in schema.key)
    if parts[0] is None:
        raise ProtocolError(f"The product sent a row of {schema.entity} without {schema.key[0]}.")
    return record_id(tuple("" if part is None else str(part).lower() for part in parts))


def wire_value(field: FieldSchema, value: Value, zone: dt.tzinfo) -> Value:
    """The product's form of a canonical value.

    Raises:
        ValueError: the value is not of the field's type.
    """
    if value is None:
        return None
    kinds, render = _WIRE.get(field.type, ((), None))
    if (
        render is None
        or not isinstance(value, kinds)
        or (isinstance(value, bool) and field.type != "boolean")
    ):
        raise ValueError(f"not of type {field.type}")
    return render(field, value, zone)


def _local(field: FieldSchema, value: str, zone: dt.tzinfo) -> str:
    target = dt.UTC if field.name.endswith("Utc") else zone
    return parse_datetime(value).astimezone(target).replace(tzinfo=None).isoformat(timespec="seconds")


def _object(field: FieldSchema, value: Document, zone: dt.tzinfo) -> Document:
    inner = {part.name: part for part in field.fields}
    if set(value) - set(inner):
        raise ValueError("a part of it does not exist")
    return {name: wire_value(inner[name], item, zone) for name, item in value.items()}


def _same(_field: FieldSchema, value: Value, _zone: dt.tzinfo) -> Value:
    return value


def _text(_field: FieldSchema, value: str, _zone: dt.tzinfo) -> str:
    return unescape_text(value)


_WIRE: dict[str, tuple[tuple[type, ...], Callable[[FieldSchema, Any, dt.tzinfo], Value]]] = {
    "text": ((str,), _text),
    "enum": ((str,), _text),
    "datetime": ((str,), _local),
    "integer": ((int,), _same),
    "decimal": ((int, Decimal), _same),
    "boolean": ((bool,), _same),
    "object": ((dict,), _object),
}
