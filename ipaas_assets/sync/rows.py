"""Records on their way into the mirror: one row per id, hashed, and which of them are news."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ipaas_assets.sync.model import System
from ipaas_resources.core.records import Change, ChangeKind
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.core.values import Document, content_hash, encode, encode_canonical
from ipaas_resources.store.database import Database
from mappings.contract import Contract

#: Rows of one statement: more make it slower per row and hold locks longer.
CHUNK: Final = 1000


class Source(msgspec.Struct, kw_only=True):
    """The entity to pull, and what its changes raise."""

    system: System
    entity: str
    scope: str
    schema: EntitySchema
    contract: Contract
    #: [{"flow", "target", "target_system", "target_entity", "version"}] of every active flow of the entity and scope.
    targets: list[dict[str, Any]]
    #: Flow -> version of every flow that reads this entity, as `targets` was made from them.
    versions: dict[str, int] = {}
    #: Flows that cannot be built: they raise nothing.
    broken: frozenset[str] = frozenset()


class Row(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One row on its way into the mirror."""

    id: str
    doc: Any
    hash: str
    etag: str | None
    ord: int
    bad_code: str | None = None
    bad_error: str | None = None
    #: The trace ids of the events that led to it; None: the one of the page.
    traces: list[str] | None = None


def prepare(
    changes: list[Change], read_number: int, volatile: frozenset[str], secret: frozenset[str]
) -> list[Row]:
    """Rows of the upserts among the changes, one per id (the last one), hashed without volatile fields."""
    latest: dict[str, Change] = {}
    for change in changes:
        if change.kind is ChangeKind.UPSERT and change.id is not None:
            latest[change.id] = change
    rows = []
    for record, change in latest.items():
        document: Document = change.document or {}
        if secret:
            document = {name: value for name, value in document.items() if name not in secret}
        body = document
        if volatile:
            body = document.copy()
            for name in volatile:
                body.pop(name, None)
        row = Row(
            id=record,
            doc=document,
            hash="",
            etag=change.etag,
            ord=read_number if change.order is None else change.order,
        )
        try:
            canonical = encode_canonical(body)
        except (UnicodeEncodeError, TypeError, ValueError):
            canonical = b""
        if not canonical or (b"\\u0000" in canonical and _holds_nul(document)):
            # The backstop behind the connectors' escaping: one such text would make every page that holds it fail.
            row.doc, canonical = {}, _UNSTORABLE.encode()
            row.bad_code, row.bad_error = "unstorable", _UNSTORABLE
        row.hash = content_hash(canonical).hex()
        rows.append(row)
    return rows


_UNSTORABLE = "A text of the record holds a character that cannot be stored (NUL or half a surrogate pair). Correct it in the source."


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_holds_nul(each) for pair in value.items() for each in pair)
    return isinstance(value, list) and any(_holds_nul(each) for each in value)


async def changed_rows(database: Database, source: Source, rows: list[Row], *, ordered: bool) -> list[Row]:
    """The rows that are news to the mirror."""
    news: set[str] = set()
    for start in range(0, len(rows), CHUNK * 5):
        part = rows[start : start + CHUNK * 5]
        found = await database.rows(
            "mirror_changed",
            system=source.system.name,
            entity=source.entity,
            scope=source.scope,
            ordered=ordered,
            rows=encode([{"id": row.id, "hash": row.hash, "ord": row.ord} for row in part]).decode(),
        )
        news.update(row.id for row in found)
    return [row for row in rows if row.id in news]
