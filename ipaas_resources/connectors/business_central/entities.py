"""The live entities: `$metadata` of the environment, with what the catalogue knows and `$metadata` does not say."""

from __future__ import annotations

import asyncio
import difflib
from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.connectors.business_central.catalogue import Catalogue, EntitySet, catalogue, entity_id
from ipaas_resources.connectors.business_central.sensitivity import sensitivity_of
from ipaas_resources.core.errors import RetryError, SchemaError
from ipaas_resources.core.schema import EntitySchema, FieldSchema
from ipaas_resources.net.convert import Converter
from ipaas_resources.net.odata.convert import ODATA
from ipaas_resources.net.odata.metadata import Metadata
from ipaas_resources.net.odata.names import decode_name, encode_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ipaas_resources.core.clock import Clock
    from ipaas_resources.core.values import Value
    from ipaas_resources.net.client import HttpClient

#: A blank enum member: OData has no empty names, so the product sends an encoded space (BC reference 1.4).
_BLANK = "_x0020_"
#: Kept in the document, outside the hash.
_FILE_NAME = "fileName"
_VOLATILE = {"lastModifiedDateTime", "systemModifiedAt"}
#: The API queries have no key of their own; their rows are one per customer, one per vendor.
_KEYLESS = {"customerSales": ("customerId",), "vendorPurchases": ("vendorId",)}
#: Seconds until a failed refresh of `$metadata` is tried again.
_SECOND_TRY = 60.0
_FILTER_ONLY = "_FilterOnly"


def decode_member(wire: str) -> str:
    """`In_x0020_Review` -> `In Review`; the blank member is the empty text."""
    return "" if wire in (_BLANK, " ") else decode_name(wire)


def encode_member(name: str) -> str:
    """The reverse of `decode_member`."""
    return encode_name(name) if name else _BLANK


DIALECT = msgspec.structs.replace(
    ODATA, write_zeros=True, decode_enum=decode_member, encode_enum=encode_member
)


class Entity(msgspec.Struct, kw_only=True):
    """Everything the connector needs to know of one entity."""

    set: str  # on the wire
    schema: EntitySchema
    root: bool  # not below a company
    cursor: str | None  # the field for incremental reads
    lines: str | None  # the navigation property that holds the document's lines
    line_set: str | None
    header_set: str | None  # of a line set that is read through its documents only
    header_lines: str | None  # their navigation property
    files: tuple[str, ...]  # stream properties
    codes: frozenset[str]  # fields stored in upper case and compared without case
    converters: dict[tuple[str, ...] | None, Converter] = {}

    @property
    def id_field(self) -> str:
        """The field that makes the record id."""
        return self.schema.key[0]

    def converter(self, fields: Collection[str] | None = None) -> Converter:
        """The compiled converter of all fields, or of these and the key. File fields are filled in by `files.py`."""
        wanted = None if fields is None else tuple(sorted({*fields, *self.schema.key}))
        found = self.converters.get(wanted)
        if found is None:
            chosen = [
                field.name
                for field in self.schema.fields
                if field.type != "file" and (wanted is None or field.name in wanted)
            ]
            found = self.converters[wanted] = Converter(self.schema, DIALECT, fields=chosen)
        return found

    def field(self, name: str) -> FieldSchema:
        """The field of that name. Raises SchemaError when there is none."""
        found = self.schema.field(name)
        if found is None:
            raise SchemaError(
                f"{self.schema.entity} of Business Central has no field {name}; run discovery again."
            )
        return found


class Entities:
    """The entities of one environment, read again when they are old or proved wrong."""

    def __init__(
        self, client: HttpClient, clock: Clock, age: float, sensitivity: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._client = client
        self._clock = clock
        self._age = age
        self._sensitivity = sensitivity
        self._metadata: Metadata | None = None
        self._fresh_until = 0.0
        self._made: dict[str, Entity] = {}
        self._lock = asyncio.Lock()

    async def all(self) -> list[Entity]:
        """Every entity of the route."""
        metadata = await self._current()
        return [self._entity(metadata, name) for name in metadata.sets()]

    async def get(self, entity: str) -> Entity:
        """One entity. Raises SchemaError when the environment has none of that name."""
        metadata = await self._current()
        found = self._made.get(entity)
        if found is not None:
            return found
        for name in metadata.sets():
            if entity_id(name) == entity:
                return self._entity(metadata, name)
        near = difflib.get_close_matches(entity, [entity_id(name) for name in metadata.sets()], n=1)
        hint = (
            f"; did you mean {near[0]}?" if near else ". An entity is named like customers or sales_orders."
        )
        raise SchemaError(f"System {self._client.system} has no entity {entity!r}{hint}")

    def outdated(self) -> None:
        """The environment contradicted its `$metadata`: read it again at the next use."""
        self._fresh_until = float("-inf")

    async def _current(self) -> Metadata:
        async with self._lock:
            now = self._clock.monotonic()
            if self._metadata is not None and now < self._fresh_until:
                return self._metadata
            try:
                response = await self._client.send(
                    "GET",
                    "$metadata",
                    kind="read",
                    headers={"accept": "application/xml"},
                    endpoint="$metadata",
                )
            except RetryError:
                if self._metadata is None:
                    raise
                # What we knew an hour ago serves a little longer; reads and writes have their own retries.
                self._fresh_until = now + _SECOND_TRY
                return self._metadata
            self._metadata = Metadata(response.content, what=f"$metadata of system {self._client.system}")
            self._made = {}
            self._fresh_until = now + self._age
            return self._metadata

    def _entity(self, metadata: Metadata, set_name: str) -> Entity:
        name = entity_id(set_name)
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = make_entity(metadata, set_name, self._sensitivity.get(name, {}))
        return found


def make_entity(metadata: Metadata, set_name: str, sensitivity: Mapping[str, Any]) -> Entity:
    """Join `$metadata` and catalogue for one set."""
    book = catalogue()
    known = book.sets.get(set_name)
    live = metadata.entity_set(set_name)
    name = entity_id(set_name)
    # A query's filter is no field: it is in no answer.
    fields = [
        _field(field, known, name, sensitivity)
        for field in live.schema.fields
        if not field.name.endswith(_FILTER_ONLY)
    ]
    names = {field.name for field in fields}
    lines = known.lines if known else None
    line_set = known.navigation[lines][0] if known and lines else None
    if (
        lines
        and line_set
        and line_set in metadata.sets()
        and lines in {each.name for each in live.navigation}
    ):
        fields.append(_lines_field(metadata, book, lines, line_set))
    else:
        lines = line_set = None
    header = known.header if known and known.parent_key == "documentId" else None
    return Entity(
        set=set_name,
        schema=EntitySchema(
            entity=name,
            title=_title(set_name),
            key=live.schema.key or _KEYLESS.get(set_name, ()),
            fields=tuple(fields),
            creatable=live.schema.creatable,
            updatable=live.schema.updatable,
            deletable=live.schema.deletable,
            version="v2.0",
        ),
        root=known.root if known else False,
        cursor=(
            known.cursor if known else "lastModifiedDateTime" if "lastModifiedDateTime" in names else None
        ),
        lines=lines,
        line_set=line_set,
        header_set=header if header in metadata.sets() else None,
        header_lines=book.sets[header].lines if header else None,
        files=tuple(field.name for field in fields if field.type == "file"),
        codes=frozenset(c.name for c in known.columns.values() if c.code) if known else frozenset(),
    )


def _field(
    live: FieldSchema, known: EntitySet | None, entity: str, sensitivity: Mapping[str, Any]
) -> FieldSchema:
    """A field as `$metadata` has it, with the catalogue's rights where the page is known."""
    column = known.columns.get(live.name) if known else None
    # A key is the product's to give, on pages that nobody has catalogued too.
    readonly = live.readonly or (column.readonly if column else live.name in ("id", *_VOLATILE))
    fixed = known is not None and known.header is not None and live.name in ("sequence", known.parent_key)
    change: dict[str, Any] = {
        "creatable": live.creatable and not readonly,
        # A line cannot move to another document or number; it is deleted and inserted again.
        "updatable": live.updatable and not readonly and not fixed,
        "required": column.required if column else False,
        "max_length": live.max_length or (column.max_length if column else None),
        "volatile": live.name in _VOLATILE,
        "sensitivity": sensitivity.get(live.name) or sensitivity_of(entity, live.name),
    }
    if live.name == _FILE_NAME:
        change["characters"] = "file_name"  # others would silently make it filename.txt, see drafts.py
    if live.enum is not None:
        change["enum"] = tuple(decode_member(str(member)) for member in live.enum)
    return msgspec.structs.replace(live, **change)


def _lines_field(metadata: Metadata, book: Catalogue, lines: str, line_set: str) -> FieldSchema:
    known = book.sets.get(line_set)
    live = metadata.entity_set(line_set)
    name = entity_id(line_set)
    return FieldSchema(
        name=lines,
        type="lines",
        nullable=False,
        creatable=live.schema.creatable,
        updatable=live.schema.updatable,
        fields=tuple(_field(field, known, name, {}) for field in live.schema.fields),
        line_key="sequence",
        description="The lines of the document; part of its record.",
    )


def _title(set_name: str) -> str:
    return entity_id(set_name).replace("_", " ").capitalize()


def blank_of(field: FieldSchema) -> Value:
    """What a null is written as: Business Central has no null, only blanks of each type."""
    match field.type:
        case "text":
            return ""
        case "decimal" | "integer":
            return 0
        case "boolean":
            return False
        case "enum":
            return "" if field.enum and "" in field.enum else None
        case _:
            return None
