"""What travels between a connector and the engine: changes, pages, operations, results."""

from __future__ import annotations

import enum
from typing import Any, Literal

import msgspec

from ipaas_resources.core.errors import IpaasError, RecordError
from ipaas_resources.core.values import Document, decode, encode

Cursor = dict[str, Any]
"""Opaque to the engine: JSON that only the connector reads. By custom {"watermark": ..., "resume": ...}."""


class ChangeKind(enum.StrEnum):
    """What a change says about its record."""

    UPSERT = "upsert"  # `document` is the whole record
    PATCH = "patch"  # `document` holds the listed fields only
    DELETE = "delete"  # the record is gone
    GAP = "gap"  # something happened; read the record again (id None: read the entity again)


class Change(msgspec.Struct, kw_only=True, gc=False):
    """One change of one source record."""

    kind: ChangeKind
    id: str | None
    document: Document | None = None  # canonical values by field name, `lines` fields included
    etag: str | None = None  # concurrency token for later writes, sent back unchanged
    order: int | None = None  # ordered version; None where versions are opaque


class Page(msgspec.Struct, kw_only=True):
    """One page of a scan.

    `cursor` continues right after this page; after the last page (`more` False) it starts the next scan.
    `complete` is True only on the last page of an enumeration of ALL records that met no error: the only ground for
    deletes by absence.
    """

    changes: list[Change]
    cursor: Cursor
    more: bool
    complete: bool = False
    #: Records of the page whose values cannot be read (record id, why): set aside one by one, the page goes on.
    faults: list[tuple[str, RecordError]] = []


class KeyPage(msgspec.Struct, kw_only=True):
    """One page of a key listing. `keys` pairs the record id with its natural key values where asked for."""

    ids: list[str]
    values: list[tuple[Any, ...]]  # the asked fields per id, in the asked order; () when none were asked
    more: bool
    complete: bool = False


class FileRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file field's value: where its bytes are, never the bytes."""

    id: str
    name: str = ""
    size: int | None = None
    revision: str = ""
    media_type: str = ""
    system: str = ""  # filled by the engine, so that a target can open it

    def to_value(self) -> dict[str, Any]:
        """The canonical value."""
        return {"$file": msgspec.to_builtins(self)}


def file_ref(value: object) -> FileRef | None:
    """The file reference that a canonical value holds, None when it holds none."""
    if isinstance(value, dict) and "$file" in value:
        return msgspec.convert(value["$file"], FileRef)
    return None


class OperationKind(enum.StrEnum):
    """What a write does to its target record."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class LineWrites(msgspec.Struct, kw_only=True):
    """The writes of one `lines` field of one document, applied in order: deletes, updates, creates."""

    create: list[Document] = []
    update: list[tuple[str, str | None, Document]] = []  # (line id, etag, changed fields)
    delete: list[tuple[str, str | None]] = []  # (line id, etag)


class Operation(msgspec.Struct, kw_only=True):
    """One write of one record. `fields` are canonical values; the connector turns them into its wire form."""

    kind: OperationKind
    id: str | None = None  # target id; for `client_key` entities also on create
    etag: str | None = None
    key: Document = {}  # natural key fields and values, for entities that are created by natural key
    fields: Document = {}
    lines: dict[str, LineWrites] = {}
    files: dict[str, FileRef] = {}
    progress: Document = {}  # what an earlier attempt reached: a resumable step of a two-step upload
    repeated: bool = False  # an earlier attempt may have been sent: create-only semantics must hold
    trace_id: str = ""


class Outcome(enum.StrEnum):
    """What became of one operation."""

    APPLIED = "applied"
    EXISTS = "exists"  # create refused because the key is taken: adopt or ask
    MISSING = "missing"  # update or delete of a record that is not there
    RELOAD = "reload"  # version conflict: read again, plan again
    REFUSED = "refused"  # permanent: the record's own fault
    RETRY = "retry"  # surely not applied, may be sent again
    UNKNOWN = "unknown"  # sent, answer lost: look before repeating
    STOP = "stop"  # configuration or credentials: nothing of this system may go on


class WriteResult(msgspec.Struct, kw_only=True):
    """The outcome of one operation; results stand in the order of the operations."""

    outcome: Outcome
    id: str | None = None
    etag: str | None = None
    document: Document | None = None  # what the target stored, where the write returns it
    order: int | None = None
    error: IpaasError | None = None
    progress: Document = {}  # of a two-step upload: what is done already


class Found(msgspec.Struct, kw_only=True):
    """A record seen in a system by key or by id."""

    id: str
    document: Document
    etag: str | None = None
    order: int | None = None


CreateStrategy = Literal["client_key", "natural_key", "none"]


def record_id(parts: tuple[str, ...]) -> str:
    """One text per record: the single key itself, or a JSON array in key order."""
    return parts[0] if len(parts) == 1 else encode(list(parts)).decode()


def record_id_parts(identifier: str, count: int) -> tuple[str, ...]:
    """The key parts of a record id."""
    return (identifier,) if count == 1 else tuple(decode(identifier.encode()))
