"""From a product's JSON to canonical documents and back, one compiled function per entity.

A page of 1,000 records passes here in a few milliseconds because the usual value costs one check: the generated
function handles what it expects and hands every other record to the slow road, `_Fields.read`, which handles all that
is allowed and names the field that is not. Both give the same document (a property test compares them).
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import msgspec

from ipaas_resources.core.errors import ContractError
from ipaas_resources.core.schema import EntitySchema, FieldSchema
from ipaas_resources.core.values import Document, Value, unescape_text
from ipaas_resources.net import canonical
from ipaas_resources.net.convert_source import compile_reader

Row = Mapping[str, Any]
Reader = Callable[[Row], Document]


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How a product spells values."""

    #: Of times that come without a zone; None: such a time breaks the contract.
    zone: dt.tzinfo | None = None
    #: The zero GUID, 0001-01-01 and 0001-01-01T00:00:00Z mean "no value".
    zeros_are_null: bool = False
    #: A null GUID, date or time is written as its zero value, for products that know no null there.
    write_zeros: bool = False
    #: Times are written in `zone`, without naming it.
    write_zoneless: bool = False
    #: A field that a record does not carry: left out of the document, or null.
    absent: Literal["omit", "null"] = "omit"
    #: Enum member names as they are read by people, and as they travel.
    decode_enum: Callable[[str], str] | None = None
    encode_enum: Callable[[str], str] | None = None


class Codec(msgspec.Struct, frozen=True, kw_only=True):
    """How a connector reads and writes one field that no rule covers (files, Dataverse lookups).

    `read` gets the wire value (null included) and returns the canonical one; it raises canonical.ShapeError with a
    reason that holds no value. `write` returns the parts of the request body, under whatever names.
    """

    read: Callable[[Any], Value] | None = None
    write: Callable[[Value], Mapping[str, Any]] | None = None


class Converter:
    """Both directions for one entity."""

    def __init__(
        self,
        schema: EntitySchema,
        dialect: Dialect = Dialect(),  # noqa: B008 - frozen
        *,
        fields: Collection[str] | None = None,
        codecs: Mapping[str, Codec] | None = None,
    ) -> None:
        """Compile a schema.

        Args:
            schema: as discovered.
            dialect: how the product spells values.
            fields: only these fields are read (a narrowed read); None: all.
            codecs: fields that the connector reads or writes itself.
        """
        self.schema = schema
        chosen = tuple(field for field in schema.fields if fields is None or field.name in fields)
        self._fields = _Fields(schema, chosen, dialect, codecs or {})
        self._writers = {field.name: (field, _writer(field, dialect)) for field in schema.fields}
        self._special = {
            name: codec.write for name, codec in (codecs or {}).items() if codec.write is not None
        }
        #: Reads a record whatever its text holds.
        self.read: Reader = self._fields.compiled(storable=False)
        #: Reads a record of a body whose text is all storable (`Response.storable`), a little faster.
        self.read_storable: Reader = self._fields.compiled(storable=True)

    def reader(self, *, storable: bool) -> Reader:
        """The reader for the records of one page: wire record -> canonical document, in the order of the schema.

        It raises ContractError, which names the field, for a record that breaks the schema's types: the caller sets that
        record aside.
        """
        return self.read_storable if storable else self.read

    def write(self, document: Document, *, create: bool) -> dict[str, Any]:
        """The request body of a create or an update; fields that such a request may not carry are left out.

        Raises:
            ContractError: a field that the entity does not have, or a value that its type cannot carry.
        """
        body: dict[str, Any] = {}
        for name, value in document.items():
            known = self._writers.get(name)
            if known is None:
                raise ContractError(
                    f"{self.schema.entity} has no field {name}; correct the mapping.", field=name
                )
            field, write = known
            if not (field.creatable if create else field.updatable):
                continue
            try:
                if name in self._special:
                    body.update(self._special[name](value))
                else:
                    body[field.wire or name] = write(value)
            except (ValueError, TypeError, AttributeError) as error:
                raise _broken(self.schema.entity, field.name, field.type, error) from None
        return body

    def lines(self, name: str) -> Converter:
        """The converter of one `lines` field's own records. Raises KeyError when there is no such field."""
        return self._fields.nested[name]


class _Fields:
    """The slow road: field by field, with the name of the field that breaks."""

    def __init__(
        self,
        schema: EntitySchema,
        fields: tuple[FieldSchema, ...],
        dialect: Dialect,
        codecs: Mapping[str, Codec],
    ) -> None:
        self.entity = schema.entity
        self.key = schema.key
        self.dialect = dialect
        self.fields = fields
        self.nested = {
            field.name: Converter(_part_schema(schema.entity, field), dialect)
            for field in fields
            if field.fields and field.type in {"lines", "object"}
        }
        self.readers: dict[str, Callable[[Any], Value]] = {}
        for field in fields:
            codec = codecs.get(field.name)
            if codec is not None and codec.read is not None:
                self.readers[field.name] = codec.read
            else:
                self.readers[field.name] = self._reader(field)
        self.special = frozenset(name for name, codec in codecs.items() if codec.read is not None)

    def compiled(self, *, storable: bool) -> Reader:
        """The fast road."""
        return compile_reader(
            self.fields,
            slow=self.read,
            readers=self.readers,
            special=self.special,
            key=self.key,
            storable=storable,
            null_when_absent=self.dialect.absent == "null",
            zeros_are_null=self.dialect.zeros_are_null,
        )

    def read(self, row: Row) -> Document:
        """A canonical document. Raises ContractError."""
        if not isinstance(row, dict):
            raise ContractError(f"A record of {self.entity} is no object.")
        document: Document = {}
        for field in self.fields:
            wire = field.wire or field.name
            if wire not in row and self.dialect.absent == "omit":
                continue
            try:
                document[field.name] = self.readers[field.name](row.get(wire))
            except ContractError as error:
                inner = f"{field.name}.{error.field}" if error.field else field.name
                raise ContractError(error.message, field=inner) from None
            except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
                raise _broken(self.entity, field.name, field.type, error) from None
        return document

    def _reader(self, field: FieldSchema) -> Callable[[Any], Value]:
        reader = self._typed_reader(field)
        return lambda value: None if value is None else reader(value)

    def _typed_reader(self, field: FieldSchema) -> Callable[[Any], Value]:
        dialect = self.dialect
        if field.name in self.nested:
            inner = self.nested[field.name].read
            return functools.partial(_each, inner) if field.type == "lines" else inner
        made: dict[str, Callable[[Any], Value]] = {
            "guid": canonical.guid,
            "reference": canonical.reference,
            "date": functools.partial(canonical.date, zone=dialect.zone),
            "datetime": functools.partial(canonical.moment, zone=dialect.zone),
            "enum": functools.partial(_enum, dialect.decode_enum),
        }
        reader = made.get(field.type) or _SIMPLE[field.type]
        if dialect.zeros_are_null and field.type in _ZEROS:
            return functools.partial(_null_at, _ZEROS[field.type], reader)
        return reader


def _null_at(zero: str, read: Callable[[Any], Value], value: Any) -> Value:
    # Zero dates are told by their begin: a zone behind UTC would push that moment out of the calendar.
    return None if isinstance(value, str) and value.startswith(zero) else read(value)


_ZEROS: Mapping[str, str] = {
    "guid": canonical.ZERO_GUID,
    "reference": canonical.ZERO_GUID,
    "date": canonical.ZERO_DATE,
    "datetime": canonical.ZERO_DATE,
}


def _enum(decode: Callable[[str], str] | None, value: Any) -> Value:
    if isinstance(value, str):
        return canonical.text(decode(value) if decode is not None else value)
    return canonical.integer(value)


def _each(read: Reader, value: Any) -> list[Document]:
    if not isinstance(value, list):
        raise canonical.ShapeError("it is no list")
    return [read(line) for line in value]


def _any_list(value: Any) -> Value:
    if not isinstance(value, list):
        raise canonical.ShapeError("it is no list")
    return canonical.anything(value)


_SIMPLE: Mapping[str, Callable[[Any], Value]] = {
    "text": canonical.text,
    "integer": canonical.integer,
    "decimal": canonical.decimal,
    "boolean": canonical.boolean,
    "time": canonical.time,
    "file": canonical.anything,
    "object": canonical.anything,
    "any": canonical.anything,
    "list": _any_list,
    "lines": _any_list,
}


def _part_schema(entity: str, field: FieldSchema) -> EntitySchema:
    return EntitySchema(
        entity=f"{entity}.{field.name}",
        key=(field.line_key,) if field.line_key else (),
        fields=field.fields,
    )


def _broken(entity: str, field: str, type_: str, error: Exception) -> ContractError:
    reason = str(error) if isinstance(error, canonical.ShapeError) else "it has another form"
    return ContractError(f"{entity}.{field} is of type {type_}, but {reason}.", field=field)


def _writer(field: FieldSchema, dialect: Dialect) -> Callable[[Value], Any]:
    """From the canonical value to the one that JSON carries."""
    null = _WRITTEN_ZEROS.get(field.type) if dialect.write_zeros else None
    if field.type == "enum" and dialect.encode_enum is not None:
        return functools.partial(_write_enum, dialect.encode_enum)
    if field.type == "datetime" and dialect.write_zoneless and dialect.zone is not None:
        return functools.partial(_write_zoneless, dialect.zone, null)
    if null is not None:
        return lambda value: null if value is None else value
    return _unescaped


_WRITTEN_ZEROS: Mapping[str, str] = {
    "guid": canonical.ZERO_GUID,
    "date": canonical.ZERO_DATE,
    "datetime": canonical.ZERO_MOMENT,
}


def _write_enum(encode: Callable[[str], str], value: Value) -> Value:
    return encode(unescape_text(value)) if isinstance(value, str) else value


def _write_zoneless(zone: dt.tzinfo, null: str | None, value: Value) -> Value:
    if value is None:
        return null
    local = dt.datetime.fromisoformat(value).astimezone(zone)
    return local.replace(tzinfo=None).isoformat(timespec="microseconds")


def _unescaped(value: Value) -> Any:
    if value.__class__ is str:
        return unescape_text(value)
    if value.__class__ is dict:
        return {unescape_text(name): _unescaped(item) for name, item in value.items()}
    if value.__class__ is list:
        return [_unescaped(item) for item in value]
    return value
