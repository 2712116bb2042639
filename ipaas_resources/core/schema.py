"""What an entity looks like: its fields, their types and limits, as one immutable snapshot."""

from __future__ import annotations

from typing import Literal

import msgspec

FieldType = Literal[
    "text",
    "integer",
    "decimal",
    "boolean",
    "date",
    "datetime",
    "time",
    "guid",
    "enum",
    "reference",  # the id of a record of another entity (Dataverse lookup)
    "file",
    "lines",  # a list of objects that belong to the document; `fields` describes them
    "object",
    "list",
    "any",
]
Sensitivity = Literal["none", "personal", "secret"]
Characters = Literal["any", "xml", "single_line", "bmp", "ascii", "file_name"]
"""What a text may hold: mappings/characters.py says which characters each word leaves out."""


class FieldSchema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One field of an entity (or of its lines)."""

    name: str
    type: FieldType
    required: bool = False  # a create without it is refused
    nullable: bool = True
    creatable: bool = True  # may be sent in a create
    updatable: bool = True  # may be sent in an update
    max_length: int | None = None  # characters
    characters: Characters = "any"  # of a text
    scale: int | None = None  # digits after the point the system keeps
    minimum: float | None = None
    maximum: float | None = None
    enum: tuple[str | int, ...] | None = None  # decoded member names, or integer choice values
    targets: tuple[str, ...] = ()  # entities a reference may point to
    fields: tuple[FieldSchema, ...] = ()  # of a lines field
    line_key: str | None = None  # the field that names one line within its document
    volatile: bool = False  # kept in the document, outside the content hash
    sensitivity: Sensitivity = "none"
    wire: str | None = None  # name on the wire where it differs (Dataverse lookups)
    description: str = ""

    @property
    def readonly(self) -> bool:
        """True when neither a create nor an update may carry the field."""
        return not (self.creatable or self.updatable)


class EntitySchema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entity of a system, as discovered."""

    entity: str
    key: tuple[str, ...]  # the fields that make the record id, in key order
    fields: tuple[FieldSchema, ...]
    title: str = ""
    readable: bool = True
    creatable: bool = True
    updatable: bool = True
    deletable: bool = True
    version: str = ""  # of the route or the product's metadata, when it names one

    def field(self, name: str) -> FieldSchema | None:
        """The field of that name, None when the entity has none."""
        for candidate in self.fields:
            if candidate.name == name:
                return candidate
        return None

    def names(self) -> tuple[str, ...]:
        """Field names in order."""
        return tuple(field.name for field in self.fields)


def schema_bytes(schema: EntitySchema) -> bytes:
    """The stored form of a snapshot; equal snapshots have equal bytes."""
    return msgspec.json.Encoder(order="deterministic").encode(schema)


def schema_from(data: bytes | dict[str, object]) -> EntitySchema:
    """A snapshot from its stored form."""
    if isinstance(data, bytes):
        return msgspec.json.decode(data, type=EntitySchema)
    return msgspec.convert(data, EntitySchema)
