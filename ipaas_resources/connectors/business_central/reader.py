"""Reads: changes, keys, records by id and by key.

There are no delta links and no tombstones (gone since v24): a scan asks for `lastModifiedDateTime ge <watermark>`, and
deletes show only by comparing keys.
"""

from __future__ import annotations

import datetime as dt
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.connectors.business_central import addresses
from ipaas_resources.connectors.business_central.files import add_files
from ipaas_resources.core.errors import (
    ContractError,
    MissingRecordError,
    RecordError,
    RefusedRecordError,
    SchemaError,
    SystemBusyError,
)
from ipaas_resources.core.records import Change, ChangeKind, Cursor, Found, KeyPage, Page
from ipaas_resources.core.values import canonical_datetime
from ipaas_resources.net.odata.etag import etag_of
from ipaas_resources.net.odata.paging import ODataPage, prefer, read_pages
from ipaas_resources.net.odata.query import compare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from ipaas_resources.connectors.business_central.companies import Companies, Company
    from ipaas_resources.connectors.business_central.entities import Entities, Entity
    from ipaas_resources.core.clock import Clock
    from ipaas_resources.core.values import Document
    from ipaas_resources.net.client import HttpClient

#: A page is not made smaller than this when the product runs out of time.
_SMALLEST_PAGE = 50
#: The product ran out of time: "split the request, do not just repeat it" (BC reference 1.10).
_OUT_OF_TIME = {408, 504}
_NO_SUCH_SET = "BadRequest_ResourceNotFound"


class Scan(msgspec.Struct, kw_only=True):
    """A cursor, as this module reads it."""

    watermark: str | None = None  # the next incremental scan starts here
    resume: str | None = None  # the next page of this scan
    start: str | None = None  # when this scan began, by the server's clock
    full: bool = False  # this scan enumerates all records
    fields: list[str] | None = None

    def cursor(self) -> Cursor:
        """The form that is stored."""
        cursor: Cursor = msgspec.to_builtins(self)
        return cursor


class Reader:
    """Reads records of one system."""

    def __init__(
        self, client: HttpClient, clock: Clock, companies: Companies, entities: Entities, overlap: float
    ) -> None:
        self._client = client
        self._clock = clock
        self._companies = companies
        self._entities = entities
        self._overlap = dt.timedelta(seconds=overlap)

    async def changes(
        self, name: str, scope: str, cursor: Cursor | None, *, size: int, fields: Sequence[str] | None
    ) -> AsyncIterator[Page]:
        """Pages of changes; see the contract."""
        entity = await self._entities.get(name)
        company = await self._companies.of(scope)
        scan = _begin(cursor, fields)
        resumed = scan.resume is not None
        while True:
            try:
                async for page in self._scan(entity, company, scan, size):
                    resumed = False
                    yield page
            except (RefusedRecordError, MissingRecordError, SchemaError):
                if not resumed:
                    raise
                # The token of a page that was kept for long is no longer known there. Nothing is lost by beginning
                # this scan again, and its end is still the end of a whole enumeration.
                resumed = False
                scan.resume = scan.start = None
            else:
                return

    async def _scan(self, entity: Entity, company: Company, scan: Scan, size: int) -> AsyncIterator[Page]:
        url = scan.resume or self._first_url(entity, company, scan)
        async for page in self._pages(url, size, entity.schema.entity):
            if scan.start is None:
                scan.start = self._server_time(page.response.headers)
            changes, faults = _changes(entity, page, self._rows(entity, page), scan.fields)
            if page.next_link is not None:
                scan.resume = page.next_link
                yield Page(changes=changes, faults=faults, cursor=scan.cursor(), more=True)
            else:
                yield Page(
                    changes=changes,
                    faults=faults,
                    cursor=self._end(entity, scan),
                    more=False,
                    complete=scan.full,
                )

    def _first_url(self, entity: Entity, company: Company, scan: Scan) -> str:
        if entity.cursor is None or scan.watermark is None:
            scan.full = True
        if entity.header_set is not None:
            # The product lists lines of one document only: read the documents, take their lines.
            return addresses.of_lines(entity, company)
        path = addresses.collection(entity, company)
        if scan.full or entity.cursor is None:
            return addresses.listing(entity, path, fields=scan.fields)
        return addresses.listing(
            entity,
            path,
            fields=scan.fields,
            filter=compare(entity.cursor, "ge", scan.watermark, "datetime"),
            orderby=f"{entity.cursor} asc",
        )

    def _end(self, entity: Entity, scan: Scan) -> Cursor:
        """The cursor after a whole scan: its start, less the overlap, is where the next one begins."""
        start = dt.datetime.fromisoformat(scan.start) if scan.start else self._clock.now()
        watermark = canonical_datetime(start - self._overlap) if entity.cursor else None
        return Scan(watermark=watermark, fields=scan.fields).cursor()

    def _server_time(self, headers: Mapping[str, str]) -> str:
        """Now by the clock that makes the records' times; by ours where the answer does not say."""
        try:
            moment = parsedate_to_datetime(headers.get("date", ""))
        except (TypeError, ValueError, IndexError, OverflowError):
            moment = self._clock.now()
        return canonical_datetime(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC))

    def _rows(self, entity: Entity, page: ODataPage) -> list[dict[str, Any]]:
        if entity.header_set is None:
            return page.rows
        lines = [row.get(entity.header_lines or "") for row in page.rows]
        if not all(isinstance(each, list) for each in lines):
            raise page.response.broken("a document came without its lines")
        return [line for each in lines if each for line in each]

    async def keys(self, name: str, scope: str, fields: Sequence[str]) -> AsyncIterator[KeyPage]:
        """All record ids, with these fields."""
        entity = await self._entities.get(name)
        company = await self._companies.of(scope)
        for field in fields:
            entity.field(field)
        read = entity.converter(fields).read
        if entity.header_set is not None:
            url = self._first_url(entity, company, Scan())
        else:
            url = addresses.listing(entity, addresses.collection(entity, company), fields=fields)
        async for page in self._pages(url, 10_000, name):
            documents = [read(row) for row in self._rows(entity, page)]
            yield KeyPage(
                ids=[document[entity.id_field] for document in documents],
                values=[tuple(document[field] for field in fields) for document in documents],
                more=page.next_link is not None,
                complete=page.next_link is None,
            )

    async def query(self, entity: Entity, company: Company, filter_: str) -> list[Found]:
        """Whole records that pass a filter."""
        return [found_of(entity, row) for row in await self.rows(entity, company, filter_)]

    async def rows(self, entity: Entity, company: Company, filter_: str) -> list[dict[str, Any]]:
        """The same records as they came, with the tokens of their lines."""
        url = addresses.listing(entity, addresses.collection(entity, company), filter=filter_)
        return [row async for page in self._pages(url, 1_000, entity.schema.entity) for row in page.rows]

    async def _pages(self, url: str, size: int, endpoint: str) -> AsyncIterator[ODataPage]:
        """Pages from `url` on; smaller ones when the product runs out of time on them."""
        link: str | None = url
        while link is not None:
            try:
                async for page in read_pages(
                    self._client, link, headers=prefer(page_size=size), endpoint=endpoint
                ):
                    link = page.next_link
                    yield page
            except SystemBusyError as error:
                if error.status not in _OUT_OF_TIME or size <= _SMALLEST_PAGE:
                    raise
                size = max(_SMALLEST_PAGE, size // 4)
            except (RefusedRecordError, MissingRecordError) as error:
                self._entities.outdated()
                if error.code != _NO_SUCH_SET and error.status != 400:  # noqa: PLR2004 - the query is not understood
                    raise
                raise SchemaError(
                    f"System {self._client.system} refused to list {endpoint} ({error.code}): its entities or fields "
                    "have changed. Run discovery and look at the flows that read it.",
                    code=error.code,
                ) from error


def _changes(
    entity: Entity, page: ODataPage, rows: list[dict[str, Any]], fields: Collection[str] | None
) -> tuple[list[Change], list[tuple[str, RecordError]]]:
    """The records of a page, and those whose values break the schema: one of them never stops the others."""
    read = entity.converter(fields).reader(storable=page.storable)
    key, files, upsert = entity.id_field, bool(entity.files), ChangeKind.UPSERT
    changes: list[Change] = []
    faults: list[tuple[str, RecordError]] = []
    for row in rows:
        try:
            document = read(row)
            if files:
                add_files(entity, row, document, fields)
            changes.append(
                Change(kind=upsert, id=document[key], document=document, etag=row.get("@odata.etag"))
            )
        except (ContractError, KeyError) as error:
            identifier = row.get(key)
            if not isinstance(identifier, str):
                raise page.response.broken(f"a record has no {key}") from None
            fault = error if isinstance(error, ContractError) else ContractError(f"The record has no {key}.")
            faults.append((identifier.lower(), fault))
    return changes, faults


def found_of(entity: Entity, row: dict[str, Any]) -> Found:
    """A record as it is seen by key or id. Raises ContractError when it breaks the schema."""
    document: Document = entity.converter().read(row)
    if entity.files:
        add_files(entity, row, document, None)
    return Found(id=document[entity.id_field], document=document, etag=etag_of(row))


def _begin(cursor: Cursor | None, fields: Collection[str] | None) -> Scan:
    """The scan that a cursor stands for. Fields are baked into the cursor: they count, not the caller's."""
    if cursor is None:
        return Scan(full=True, fields=None if fields is None else list(fields))
    return msgspec.convert(cursor, Scan)
