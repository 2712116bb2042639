"""Reads: changes with delta links or by modifiedon, records by id, key listings.

microsoft.md 2.3 (paging) and 2.4 (change tracking). A cursor holds

    {"watermark": {"link": <delta link>} | {"since": <time>} | null,      where the next scan begins
     "resume": {"link": <next link>, "size": <page size>, ...} | null,    where this one goes on
     "fields": [...] | null}                                              baked in: a link repeats its own $select
"""

from __future__ import annotations

import asyncio
import datetime as dt
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.dataverse.view import View
from ipaas_resources.core.errors import (
    CursorExpiredError,
    MissingRecordError,
    ProtocolError,
    RefusedRecordError,
    ReloadError,
    SchemaError,
)
from ipaas_resources.core.records import Found, KeyPage, Page
from ipaas_resources.core.values import canonical_datetime
from ipaas_resources.net.canonical import guid
from ipaas_resources.net.odata.paging import prefer, read_pages
from ipaas_resources.net.odata.query import address, any_of, compare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ipaas_resources.connectors.dataverse.api import Api
    from ipaas_resources.connectors.dataverse.config import DataverseSettings
    from ipaas_resources.connectors.dataverse.metadata import Metadata, Table
    from ipaas_resources.connectors.dataverse.view import Fault
    from ipaas_resources.core.clock import Clock
    from ipaas_resources.core.errors import IpaasError
    from ipaas_resources.core.records import Change, Cursor
    from ipaas_resources.net.odata.paging import ODataPage

_MODIFIED = "modifiedon"
_SLICE = 500  # rows that are converted in one go
_TRACK = "odata.track-changes"
#: Errors by which Dataverse turns down a link or a query, rather than failing to answer.
_TURNED_DOWN = (RefusedRecordError, MissingRecordError, ReloadError)


class Views:
    """Compiled views, kept while their table is the one last read."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, tuple[str, ...] | None], View] = {}

    def get(self, table: Table, fields: Sequence[str] | None = None) -> View:
        """The view of a table through these fields. Raises SchemaError when a field does not exist."""
        key = (table.entity, None if fields is None else tuple(sorted(set(fields))))
        view = self._made.get(key)
        if view is None or view.table is not table:
            view = self._made[key] = View(table, fields)
        return view


class Reader:
    """Reads records of one environment."""

    def __init__(
        self, api: Api, metadata: Metadata, views: Views, settings: DataverseSettings, clock: Clock
    ) -> None:
        self._api = api
        self._metadata = metadata
        self._views = views
        self._settings = settings
        self._clock = clock

    async def changes(
        self, entity: str, cursor: Cursor | None, page_size: int | None, fields: Sequence[str] | None
    ) -> AsyncIterator[Page]:
        """Pages of changes; see Connector.changes."""
        table = await self._metadata.known(entity)
        chosen = cursor["fields"] if cursor else None if fields is None else sorted(set(fields))
        size = min(page_size or self._settings.page_size, self._settings.page_size)
        if cursor and cursor["resume"]:
            # A next link wants the page size that it was made with.
            size = cursor["resume"]["size"]
        view = self._views.get(table, chosen)
        scan = _Scan(self, view, cursor or {"fields": chosen}, size)
        watermark = (cursor or {}).get("watermark") or {}
        by_link = "link" in watermark or (not watermark and table.definition.tracked)
        async for page in scan.tracked() if by_link else scan.by_time():
            yield page

    async def read(self, entity: str, ids: Sequence[str], batch: int) -> list[Found | None]:
        """Records by id, in their order; None where there is none."""
        table = await self._metadata.known(entity)
        view = self._views.get(table)
        keys = [_guid(identifier) for identifier in ids]
        wanted = [key for key in keys if key is not None]
        found: dict[str, Found] = {}
        for start in range(0, len(wanted), batch):
            condition = any_of(table.primary, wanted[start : start + batch], "guid")
            async for page in self.query(view, condition):
                for row in page.rows:
                    record = view.found(row, storable=page.storable)
                    found[record.id] = record
        return [None if key is None else found.get(key) for key in keys]

    async def keys(self, entity: str, fields: Sequence[str]) -> AsyncIterator[KeyPage]:
        """All ids, with the values of these fields."""
        view = self._views.get(await self._metadata.known(entity), tuple(fields))
        async for page in self.query(view, "", page_size=self._settings.page_size):
            rows = [view.key_values(page, row, fields) for row in page.rows]
            last = page.next_link is None
            yield KeyPage(
                ids=[identifier for identifier, _values in rows],
                values=[values for _identifier, values in rows],
                more=not last,
                complete=last,
            )

    async def query(
        self, view: View, condition: str, *, page_size: int | None = None
    ) -> AsyncIterator[ODataPage]:
        """Every page of a plain query. Raises SchemaError when Dataverse turns it down."""
        url = address(view.entity, select=view.select, filter=condition)
        try:
            async for page in self.pages(url, view, (), page_size):
                yield page
        except _TURNED_DOWN as error:
            raise turned_down(view, error) from error

    def pages(
        self, url: str, view: View, wishes: tuple[str, ...], page_size: int | None
    ) -> AsyncIterator[ODataPage]:
        """Pages from an address or a link on; the same wishes go with each."""
        headers = prefer(*wishes, *view.wishes, page_size=page_size)
        return read_pages(self._api.client, url, headers=headers, endpoint=view.entity)

    def start_of(self, page: ODataPage) -> dt.datetime:
        """When a scan began: by our clock or the server's, whichever is behind, so that skew loses nothing."""
        ours = self._clock.now()
        try:
            theirs = parsedate_to_datetime(page.response.headers.get("date", ""))
        except (ValueError, IndexError, TypeError):
            return ours
        return min(ours, theirs if theirs.tzinfo else theirs.replace(tzinfo=dt.UTC))

    @property
    def overlap(self) -> dt.timedelta:
        """How far a read by time reaches back."""
        return dt.timedelta(seconds=self._settings.overlap)


class _Scan:
    """One reading of changes, from a cursor or from the beginning."""

    def __init__(self, reader: Reader, view: View, cursor: Cursor, size: int) -> None:
        self._reader = reader
        self._view = view
        self._fields: list[str] | None = cursor["fields"]
        self._size = size
        self._watermark: dict[str, Any] | None = cursor.get("watermark")
        self._resume: dict[str, Any] | None = cursor.get("resume")

    async def tracked(self) -> AsyncIterator[Page]:
        """With change tracking: everything once, then deltas."""
        initial = self._watermark is None
        links = [each["link"] for each in (self._resume, self._watermark) if each]
        url = links[0] if links else address(self._view.entity, select=self._view.select)
        try:
            async for page in self._from(url, initial=initial):
                yield page
        except _TURNED_DOWN as error:
            if not links:
                raise turned_down(self._view, error) from error
            if len(links) == 1 or not isinstance(error, RefusedRecordError):
                raise self._expired(error) from error
        else:
            return
        # The paging cookie of a delta is gone, its delta link may still be good: the same changes once more.
        try:
            async for page in self._from(links[1], initial=False):
                yield page
        except _TURNED_DOWN as error:
            raise self._expired(error) from error

    async def _from(self, url: str, *, initial: bool) -> AsyncIterator[Page]:
        wishes = (_TRACK,) if initial else ()
        async for page in self._reader.pages(url, self._view, wishes, self._size):
            if page.next_link is not None:
                yield await self._page(page, self._watermark, {"link": page.next_link})
            elif page.delta_link is not None:
                yield await self._page(page, {"link": page.delta_link}, None, complete=initial)
            else:
                raise ProtocolError(
                    f"{self._view.entity} was read to its end without a delta link, although its table is tracked; run "
                    "it again. If it happens again, report it to the vendor."
                )

    async def by_time(self) -> AsyncIterator[Page]:
        """Without change tracking: everything once, then what was modified since; deletes stay unseen."""
        since = (self._watermark or {}).get("since")
        resume = self._resume or {}
        start: str | None = resume.get("start")
        url = resume.get("link") or address(
            self._view.entity,
            select=self._view.select,
            filter=compare(_MODIFIED, "ge", since, "datetime") if since else "",
        )
        # A table without modifiedon is read whole each time.
        timed = self._view.table.definition.timed
        try:
            async for page in self._reader.pages(url, self._view, (), self._size):
                if start is None:
                    start = canonical_datetime(self._reader.start_of(page) - self._reader.overlap)
                if page.next_link is not None:
                    yield await self._page(page, self._watermark, {"link": page.next_link, "start": start})
                else:
                    watermark = {"since": start} if timed else None
                    yield await self._page(page, watermark, None, complete=since is None)
        except _TURNED_DOWN as error:
            raise (self._expired(error) if resume else turned_down(self._view, error)) from error

    async def _page(
        self,
        page: ODataPage,
        watermark: dict[str, Any] | None,
        resume: dict[str, Any] | None,
        *,
        complete: bool = False,
    ) -> Page:
        changes: list[Change] = []
        faults: list[Fault] = []
        for start in range(0, len(page.rows), _SLICE):
            self._view.add_changes(page, page.rows[start : start + _SLICE], changes, faults)
            # Others of this process get their turn: a page of thousands takes longer than they may wait.
            await asyncio.sleep(0)
        return Page(
            changes=changes,
            faults=faults,
            cursor={
                "watermark": watermark,
                "resume": None if resume is None else {**resume, "size": self._size},
                "fields": self._fields,
            },
            more=resume is not None,
            complete=complete,
        )

    def _expired(self, error: IpaasError) -> CursorExpiredError:
        return CursorExpiredError(
            f"The change cursor of {self._view.entity} is no longer valid ({error.code}); a full read follows. Change "
            "tokens live 7 days: poll at least daily."
        )


def turned_down(view: View, error: IpaasError) -> SchemaError:
    """Dataverse knows the table or a field of a query no more, as a rule."""
    return SchemaError(
        f"Dataverse turned down a read of {view.entity} ({error.code}); discover the entity again and see which field "
        "or table has gone."
    )


def _guid(text: str) -> str | None:
    """The id as rows carry it; None for a text that can be no id of a row."""
    try:
        return guid(text)
    except ValueError:
        return None
