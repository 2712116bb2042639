"""Pages of changes, key listings, reads by id: canonical documents out of the product's rows."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from ipaas_resources.connectors.calibration.client import Rows, concurrently
from ipaas_resources.connectors.calibration.convert import converter, document_file, identity
from ipaas_resources.connectors.calibration.entities import INCREMENTAL, WORK_ORDERS, schema_of
from ipaas_resources.connectors.calibration.sources import (
    CLIENT_ASSETS,
    ITEMS,
    ORDERS,
    Row,
    Slice,
    Sources,
    newest_revisions,
)
from ipaas_resources.core.errors import ContractError, CursorExpiredError, MissingRecordError, SchemaError
from ipaas_resources.core.records import Change, ChangeKind, Cursor, Found, KeyPage, Page, record_id_parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ipaas_resources.connectors.base import Manifest
    from ipaas_resources.connectors.calibration.client import CalibrationClient
    from ipaas_resources.core.schema import EntitySchema
    from ipaas_resources.core.values import Document, Value

_LINES = "WorkItems"
_CERTIFICATE = "Certificate"
_FILE = "File"
_BY_ID = {
    "clients": "api/service/clients",
    "vendors": "api/service/vendors",
    "employees": "api/employees",
    "assets": CLIENT_ASSETS,
    "products": "api/products",
    "work_orders": ORDERS,
    "work_items": ITEMS,
}


class Reader:
    """Reads one tenant."""

    def __init__(self, client: CalibrationClient, manifest: Manifest) -> None:
        self._client = client
        self._manifest = manifest
        self.sources = Sources(client)
        self._views: dict[tuple[str, tuple[str, ...] | None], _View] = {}
        lines = WORK_ORDERS.field(_LINES)
        assert lines is not None, "the schema of work orders has lines"
        self._items = converter(f"work_orders.{_LINES}", lines.fields, client.zone)

    async def changes(
        self,
        entity: str,
        cursor: Cursor | None,
        *,
        page_size: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """Pages of changes.

        A cursor is {"watermark": changes before it were seen, or null, "fields": the narrowed choice, or null,
        "resume": null between scans, else {"started", "full", "position"}}; times are ISO, UTC.
        """
        schema = schema_of(entity)
        state: Cursor = cursor or {"watermark": None, "fields": fields and list(fields), "resume": None}
        watermark, resume = state["watermark"], state["resume"]
        view = self._view(schema, state["fields"])
        full = resume["full"] if resume else watermark is None or entity not in INCREMENTAL
        since = None if full else dt.datetime.fromisoformat(watermark)
        if entity == "assets" and since is not None:
            self._assert_within_reach(since)
        started: str | None = resume["started"] if resume else None
        asked = self._client.clock.now()
        size = page_size or self._manifest.capabilities(entity).page_size
        held: Page | None = None
        async for part in self.sources.scan(entity, since, resume["position"] if resume else {}, size):
            if started is None:
                started = min(asked, part.moment).isoformat()
            if held is not None:
                yield held
            held = await self._page(view, part)
            held.cursor = {
                **state,
                "resume": {"started": started, "full": full, "position": part.position},
            }
        last = held or Page(changes=[], cursor={}, more=False)
        overlap = dt.timedelta(seconds=self._client.settings.overlap)
        begin = dt.datetime.fromisoformat(started or asked.isoformat()) - overlap
        last.cursor = {"watermark": begin.isoformat(), "fields": state["fields"], "resume": None}
        last.more, last.complete = False, full
        yield last

    async def _page(self, view: _View, part: Slice) -> Page:
        page = Page(changes=[], cursor={}, more=True)
        for row, document in zip(part.rows, await self._documents(view, part), strict=True):
            identifier = identity(view.schema, row)
            if isinstance(document, ContractError):
                page.faults.append((identifier, document))
            elif document is not None:
                page.changes.append(Change(kind=ChangeKind.UPSERT, id=identifier, document=document))
        return page

    def _assert_within_reach(self, since: dt.datetime) -> None:
        reach = self._client.settings.asset_changes_reach
        if self._client.clock.now() - since > dt.timedelta(days=reach):
            raise CursorExpiredError(
                f"The last read of assets is more than {reach} days old, and the product's filter of modified assets "
                "is not known to reach back further; a full read follows."
            )

    async def keys(self, entity: str, fields: Sequence[str] = ()) -> AsyncIterator[KeyPage]:
        """All ids, with the values of these fields; null where such a value cannot be read."""
        schema = schema_of(entity)
        held: KeyPage | None = None
        async for part, values in self.rows(schema, fields):
            if held is not None:
                yield held
            held = KeyPage(ids=[identity(schema, row) for row in part.rows], values=values, more=True)
        last = held or KeyPage(ids=[], values=[], more=False)
        last.more, last.complete = False, True
        yield last

    async def rows(
        self, schema: EntitySchema, fields: Sequence[str]
    ) -> AsyncIterator[tuple[Slice, list[tuple[Value, ...]]]]:
        """All rows with the values of these fields, in slices; rows that go away meanwhile are left out."""
        view = self._view(schema, fields)
        unreadable = (None,) * len(fields)
        async for part in self.sources.scan(
            schema.entity, None, {}, self._manifest.capabilities(schema.entity).page_size
        ):
            values: list[tuple[Value, ...]] = []
            kept: list[Row] = []
            for row, document in zip(part.rows, await self._documents(view, part), strict=True):
                if document is None:
                    continue
                kept.append(row)
                if isinstance(document, ContractError):
                    values.append(unreadable)
                else:
                    values.append(tuple(document[name] for name in fields))
            part.rows = kept
            yield part, values

    async def read(self, entity: str, ids: Sequence[str]) -> list[Found | None]:
        """Records by id, in the order of the ids. Raises ContractError for one that breaks the schema."""
        schema = schema_of(entity)
        if entity == "forecasts":
            return await self._pick_from_whole(schema, ids)

        async def one(identifier: str) -> Found | None:
            answer = await self._row(schema, identifier)
            found = await self.found(schema, answer) if answer is not None else []
            return found[0] if found else None

        return await concurrently(ids, one, self._client.width)

    async def _row(self, schema: EntitySchema, identifier: str) -> Rows | None:
        if schema.entity == "certificates":
            return await self._certificate(identifier)
        if not (identifier.isascii() and identifier.isdigit()):
            return None  # no record of this product has such an id, and a path must not be made of it
        path = _BY_ID[schema.entity]
        return await self._client.row(f"{path}/{identifier}", endpoint=f"{path}/{{id}}")

    async def _certificate(self, identifier: str) -> Rows | None:
        item, guid = record_id_parts(identifier, 2)
        if not (item.isascii() and item.isdigit()):
            return None
        try:
            answer = await self._client.rows(
                f"{ITEMS}/{item}/documents/list", endpoint="workitems/{id}/documents/list"
            )
        except MissingRecordError:
            return None
        rows = [row for row in answer.rows if str(row.get("Guid")).lower() == guid]
        answer.rows = newest_revisions(rows)[-1:]
        return answer if rows else None

    async def _pick_from_whole(self, schema: EntitySchema, ids: Sequence[str]) -> list[Found | None]:
        """Forecasts have no read by id: the whole list is one call."""
        wanted = set(ids)
        known: dict[str, Found] = {}
        async for part in self.sources.scan(schema.entity, None, {}, 10**9):
            part.rows = [row for row in part.rows if identity(schema, row) in wanted]
            rows = Rows(part.rows, storable=part.storable, moment=part.moment)
            known.update((found.id, found) for found in await self.found(schema, rows))
        return [known.get(identifier) for identifier in ids]

    async def found(self, schema: EntitySchema, answer: Rows) -> list[Found]:
        """The records of an answer, complete; those that went away meanwhile are left out.

        Raises:
            ContractError: one of them breaks the schema.
        """
        part = Slice(rows=answer.rows, storable=answer.storable, moment=answer.moment, position={})
        records: list[Found] = []
        documents = await self._documents(self._view(schema, None), part)
        for row, document in zip(part.rows, documents, strict=True):
            if isinstance(document, ContractError):
                raise document
            if document is not None:
                records.append(Found(id=identity(schema, row), document=document))
        return records

    def _view(self, schema: EntitySchema, fields: Sequence[str] | None) -> _View:
        key = (schema.entity, None if fields is None else tuple(fields))
        if key not in self._views:
            self._views[key] = _View(schema, fields, self._client.zone)
        return self._views[key]

    async def _documents(self, view: _View, part: Slice) -> list[Document | ContractError | None]:
        """One per row: its document, why it has none, or None for an order that was deleted meanwhile."""
        read = view.converter.reader(storable=part.storable)
        if view.lines or view.certificate:
            return await concurrently(part.rows, lambda row: self._order(view, row, read), self._client.width)
        documents: list[Document | ContractError | None] = []
        for row in part.rows:
            try:
                document = read(row)
            except ContractError as error:
                documents.append(error)
                continue
            if view.file:
                document[_FILE] = document_file(row)
            documents.append(document)
        return documents

    async def _order(
        self, view: _View, row: Row, read: Callable[[Row], Document]
    ) -> Document | ContractError | None:
        """An order with its items and its certificate: one call for each of them."""
        order = int(row["ServiceOrderId"])
        try:
            document = read(row)
            if view.lines:
                document[_LINES] = self._lines(await self.sources.items_of(order))
            if view.certificate:
                documents = newest_revisions((await self.sources.certificates_of(order)).rows)
                document[_CERTIFICATE] = document_file(documents[-1]) if documents else None
        except MissingRecordError:
            return None
        except ContractError as error:
            return error
        return document

    def _lines(self, answer: Rows) -> list[Document]:
        read = self._items.reader(storable=answer.storable)
        rows = sorted(
            answer.rows, key=lambda row: (row.get("OrderItemNumber") or 0, row.get("WorkItemId") or 0)
        )
        return [read(row) for row in rows]


class _View:
    """What a read wants of an entity: all of it, or the key and some fields."""

    def __init__(self, schema: EntitySchema, fields: Sequence[str] | None, zone: dt.tzinfo) -> None:
        unknown = [name for name in fields or () if schema.field(name) is None]
        if unknown:
            raise SchemaError(f"{schema.entity} has no field {', '.join(unknown)}.")
        chosen = None if fields is None else {*schema.key, *fields}
        self.schema = schema
        self.converter = converter(schema.entity, schema.fields, zone, chosen)
        names = set(schema.names()) if chosen is None else chosen
        self.lines = _LINES in names
        self.certificate = _CERTIFICATE in names
        self.file = _FILE in names
