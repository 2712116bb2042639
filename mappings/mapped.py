"""What goes into a compiled target beside the document, and what comes out of it."""

from __future__ import annotations

from typing import Final, Literal, Protocol

import msgspec

from ipaas_resources.core.records import FileRef
from ipaas_resources.core.values import Document, Value


class Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()
"""What `Resolver.lookup` answers when the table has no such entry; null is an entry."""


class RefUse(msgspec.Struct, frozen=True, kw_only=True):
    """One `ref` rule: which link it follows. Equal uses are one value, so it can be a key of a batch look-up."""

    flow: str  # the flow whose links are followed; its source or its target side is in the system of ours
    target: str
    of: str  # the source field, or the rule, that names the other record
    by: str = "id"  # what `of` names of the other record: its record id, or this declared field
    field: str = (
        ""  # the target field that is made; "salesOrderLines.itemId" in lines; "$scope" for the scope
    )
    part: Literal["id", "scope"] = "id"


class LinkHit(msgspec.Struct, frozen=True):
    """The other side of a link."""

    scope: str
    id: str


class Resolver(Protocol):
    """Answers from what the engine read before mapping: no call of it may wait."""

    def link(self, ref: RefUse, value: str) -> LinkHit | None:
        """The other side of the link whose near side is `value` (never null or empty); None: not there yet."""
        ...

    def lookup(self, table: str, key: str) -> Value | Missing:
        """The entry of a lookup table for this text, MISSING when there is none."""
        ...


class Flag(msgspec.Struct, frozen=True):
    """A field that was left out and needs a person."""

    field: str
    reason: str


class LineImage(msgspec.Struct):
    """One line as the target should hold it. `values` includes the key field."""

    key: Value
    values: Document


class Unresolved(msgspec.Struct, frozen=True):
    """A reference whose record is not linked yet; its field is left out of the values."""

    field: str
    ref: RefUse
    value: str


class Mapped(msgspec.Struct):
    """What one source record makes in one target.

    `values` holds every owned field that has a value now, null included, key fields included. A field that is in
    `unresolved` or `flags` is in neither `values` nor `files`.
    """

    values: Document
    key: Document  # the key fields again; null where the source has none or the reference is unresolved
    scope: str | None  # None: the flow names none
    lines: dict[str, list[LineImage]]
    files: dict[str, FileRef]
    unresolved: list[Unresolved]
    flags: list[Flag]
