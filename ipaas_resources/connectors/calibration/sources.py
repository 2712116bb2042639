"""Where the rows of each entity come from: full reads in slices, and changes since a time.

The product pages next to nothing, so a scan is cut here: rows are put into one fixed order, and a position in that
order is all that is needed to go on after an interruption.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.connectors.calibration import times
from ipaas_resources.connectors.calibration.client import Rows, concurrently
from ipaas_resources.core.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from ipaas_resources.connectors.calibration.client import CalibrationClient

Row = dict[str, Any]
Position = dict[str, Any]

ORDERS = "api/service/workorders"
ITEMS = "api/service/workitems"
CLIENT_ASSETS = "api/service/clients/assets"
CERTIFICATE_OF_ORDER = "ServiceOrderCertificate"
CERTIFICATE_OF_ITEM = "AssetCertificate"
#: Rows per page of /api/assets/byfilter, the one list that has pages.
_FILTER_PAGE = 500
#: Clients whose assets are asked for together.
_CLIENTS_AT_ONCE = 16
#: Orders whose items make one page of changed work items.
_ORDERS_AT_ONCE = 50
_DAY = dt.timedelta(days=1)
_DOCUMENT = ("ServiceOrderItemId", "Guid")


class Slice(msgspec.Struct, kw_only=True):
    """Some rows of a scan. `position` is where the scan goes on after them."""

    rows: list[Row]
    storable: bool
    moment: dt.datetime
    position: Position


class Sources:
    """The scans of one tenant. `since` None is a full read; `position` {} its beginning."""

    def __init__(self, client: CalibrationClient) -> None:
        self._client = client
        self._settings = client.settings

    def scan(
        self, entity: str, since: dt.datetime | None, position: Position, size: int
    ) -> AsyncIterator[Slice]:
        """The rows of an entity in slices of about `size`, from a position on."""
        match entity:
            case "clients" | "vendors":
                return self._companies(entity, since, position, size)
            case "employees":
                return self._whole("api/employees", ("EmployeeId",), position, size)
            case "forecasts":
                key = ("AssetId", "MaintenancePlanId", "MaintenanceTaskId")
                return self._whole("api/assetserviceforecast", key, position, size)
            case "products":
                return self._products(position, size)
            case _:
                pass
        return (
            self._all(entity, position, size)
            if since is None
            else self._changed(entity, since, position, size)
        )

    def _all(self, entity: str, position: Position, size: int) -> AsyncIterator[Slice]:
        match entity:
            case "assets":
                return self._assets(position, size)
            case "work_orders":
                return self._history(ORDERS, ("LastUpdatedOn", "ServiceOrderId"), position, size)
            case "work_items":
                return self._history(ITEMS, ("CreatedOnUtc", "WorkItemId"), position, size)
            case _:
                return self._certificates(position, size)

    def _changed(
        self, entity: str, since: dt.datetime, position: Position, size: int
    ) -> AsyncIterator[Slice]:
        match entity:
            case "assets":
                return self._changed_assets(position, size)
            case "work_orders":
                return self._changed_orders(since, position, size)
            case "work_items":
                return self._changed_items(since, position)
            case _:
                return self._changed_certificates(since, position, size)

    async def capped(self, path: str, query: dict[str, object]) -> Rows:
        """A list that the product caps by `model.take`: asked for again with more until it is not full."""
        take = self._settings.list_cap
        while True:
            answer = await self._client.rows(path, {**query, "model.take": take}, endpoint=path)
            if len(answer.rows) < take:
                return answer
            take *= 4

    async def _companies(
        self, entity: str, since: dt.datetime | None, position: Position, size: int
    ) -> AsyncIterator[Slice]:
        query: dict[str, object] = {}
        if since is not None:
            query["model.modifiedAfter"] = times.text(since.astimezone(dt.UTC))
        answer = await self.capped(f"api/service/{entity}", query)
        for part in _cut(answer, ("CompanyId",), position, size):
            yield part

    async def _whole(
        self, path: str, key: tuple[str, ...], position: Position, size: int
    ) -> AsyncIterator[Slice]:
        answer = await self._client.rows(path, endpoint=path)
        for part in _cut(answer, key, position, size):
            yield part

    async def _products(self, position: Position, size: int) -> AsyncIterator[Slice]:
        """The only list of products is the stock count; each product is then read by its id."""
        answer = await self._client.rows("api/products/inventorycount", endpoint="products/inventorycount")
        for part in _cut(answer, ("ProductId",), position, size):
            yield await self._each(part, "api/products", "ProductId")

    async def _each(self, part: Slice, path: str, key: str) -> Slice:
        """The full rows behind a slice of short ones; those that are gone by now are left out."""

        async def one(row: Row) -> Rows | None:
            return await self._client.row(f"{path}/{int(row[key])}", endpoint=f"{path}/{{id}}")

        found = [answer for answer in await concurrently(part.rows, one, self._client.width) if answer]
        part.rows = [answer.rows[0] for answer in found]
        part.storable = all(answer.storable for answer in found)
        return part

    async def _assets(self, position: Position, size: int) -> AsyncIterator[Slice]:
        """Client by client; a position is a client and the last asset seen of it."""
        clients = await self.capped("api/service/clients", {})
        at = int(position.get("client", -1))
        ids = sorted(one for row in clients.rows if (one := int(row["CompanyId"])) >= at)

        async def of_client(client: int) -> Rows:
            return await self._client.rows(
                f"api/service/clients/{client}/assets", endpoint="clients/{id}/assets"
            )

        for start in range(0, len(ids), _CLIENTS_AT_ONCE):
            group = ids[start : start + _CLIENTS_AT_ONCE]
            for client, answer in zip(
                group, await concurrently(group, of_client, self._client.width), strict=True
            ):
                answer.moment = clients.moment
                inner = {"after": position["after"]} if client == at and "after" in position else {}
                for part in _cut(answer, ("AssetId",), inner, size):
                    if part.rows:
                        part.position = {"client": client, **part.position}
                        yield part

    async def _changed_assets(self, position: Position, size: int) -> AsyncIterator[Slice]:
        """Ids from the filters Modified and Added; each asset is then read, for the filter's rows are of another shape."""
        found: set[int] = set()
        asked = self._client.clock.now()
        for name in ("Modified", "Added"):
            async for answer in self._filter_pages(name):
                found.update(int(row["AssetId"]) for row in answer.rows)
                asked = min(asked, answer.moment)
        rows = Rows([{"AssetId": one} for one in found], storable=True, moment=asked)
        for part in _cut(rows, ("AssetId",), position, size):
            yield await self._each(part, CLIENT_ASSETS, "AssetId")

    async def _filter_pages(self, name: str) -> AsyncIterator[Rows]:
        """Pages until one brings nothing. Whether counting starts at 0 or 1 is not documented: both are asked for.

        Raises:
            ProtocolError: the same page came twice.
        """
        seen: set[int] = set()
        page = 0
        while True:
            query = {"model.filterType": name, "model.page": page, "model.pageSize": _FILTER_PAGE}
            answer = await self._client.rows("api/assets/byfilter", query, endpoint="assets/byfilter")
            ids = {int(row["AssetId"]) for row in answer.rows}
            if ids and ids <= seen and page > 1:
                raise ProtocolError(
                    f"The product sent page {page} of its {name} assets before; the listing has no end."
                )
            yield answer
            if page > 0 and len(answer.rows) < _FILTER_PAGE:
                return
            seen |= ids
            page += 1

    async def _history(
        self, path: str, key: tuple[str, str], position: Position, size: int
    ) -> AsyncIterator[Slice]:
        """Everything, in windows over the first field of the key, a time; a position is a time and an id."""
        field = key[0]
        zone = dt.UTC if field.endswith("Utc") else self._client.zone
        now = self._client.clock.now().astimezone(zone).replace(tzinfo=None)

        async def fetch(after: dt.datetime | None, before: dt.datetime | None) -> Rows:
            query = {"from": after and times.text(after), "to": before and times.text(before)}
            return await self._client.rows(path, {k: v for k, v in query.items() if v}, endpoint=path)

        start = dt.datetime.combine(self._settings.history_from, dt.time())
        at = position["after"][0] if position else None
        if at is not None:
            start = dt.datetime.fromisoformat(at).replace(microsecond=0)
        async for window in times.windows(fetch, field, start, now, first=at is None):
            window.answer.rows = window.rows
            for part in _cut(window.answer, key, position, size):
                if part.rows or window.end is None:
                    position = part.position
                    yield part

    async def orders_since(self, since: dt.datetime) -> Rows:
        """Orders that changed since a time, and those that got a certificate, which may not touch the order."""
        floor = times.local_floor(since, self._client.zone)
        answer = await self._client.rows(ORDERS, {"modifiedAfter": times.text(floor)}, endpoint=ORDERS)
        known = {row["ServiceOrderId"] for row in answer.rows}
        documents = await self._documents(ORDERS, since, CERTIFICATE_OF_ORDER)
        missing = sorted({row["ServiceOrderId"] for row in documents.rows} - known)

        async def one(order: int) -> Rows | None:
            return await self._client.row(f"{ORDERS}/{int(order)}", endpoint="workorders/{id}")

        for extra in await concurrently(missing, one, self._client.width):
            if extra is not None:
                answer.rows.append(extra.rows[0])
                answer.storable &= extra.storable
        return answer

    async def _documents(self, path: str, since: dt.datetime, report_type: str) -> Rows:
        """Documents made since a time (CreatedOnUtc); both bounds are required."""
        until = self._client.clock.now() + _DAY
        query = {
            "from": times.text(since.astimezone(dt.UTC)),
            "to": times.text(until),
            "reportType": report_type,
        }
        return await self._client.rows(f"{path}/documents/list", query, endpoint=f"{path}/documents/list")

    async def _changed_orders(
        self, since: dt.datetime, position: Position, size: int
    ) -> AsyncIterator[Slice]:
        answer = await self.orders_since(since)
        for part in _cut(answer, ("LastUpdatedOn", "ServiceOrderId"), position, size):
            yield part

    async def _changed_items(self, since: dt.datetime, position: Position) -> AsyncIterator[Slice]:
        """The list of items filters by creation alone, so the items of changed orders are read."""
        answer = await self.orders_since(since)

        async def items(row: Row) -> Rows:
            return await self.items_of(int(row["ServiceOrderId"]))

        for part in _cut(answer, ("LastUpdatedOn", "ServiceOrderId"), position, _ORDERS_AT_ONCE):
            lists = await concurrently(part.rows, items, self._client.width)
            part.rows = [item for one in lists for item in one.rows]
            part.storable = all(one.storable for one in lists)
            yield part

    async def items_of(self, order: int) -> Rows:
        """The work items of one order."""
        return await self._client.rows(f"{ORDERS}/{order}/workitems", endpoint="workorders/{id}/workitems")

    async def certificates_of(self, order: int) -> Rows:
        """The certificate documents of one order, the newest last as far as the product keeps their order."""
        return await self._client.rows(
            f"{ORDERS}/{order}/documents/list",
            {"model.reportType": CERTIFICATE_OF_ORDER},
            endpoint="workorders/{id}/documents/list",
        )

    async def _changed_certificates(
        self, since: dt.datetime, position: Position, size: int
    ) -> AsyncIterator[Slice]:
        answer = await self._documents(ITEMS, since, CERTIFICATE_OF_ITEM)
        answer.rows = newest_revisions(answer.rows)
        for part in _cut(answer, _DOCUMENT, position, size):
            yield part

    async def _certificates(self, position: Position, size: int) -> AsyncIterator[Slice]:
        """Documents carry no time, so a position is the window they were found in, seen to its end."""
        now = self._client.clock.now()

        async def fetch(after: dt.datetime | None, before: dt.datetime | None) -> Rows:
            query = {
                "from": times.text(after or dt.datetime(1900, 1, 1)),  # noqa: DTZ001 - naive, in UTC
                "to": times.text(before or now + _DAY),
                "reportType": CERTIFICATE_OF_ITEM,
            }
            return await self._client.rows(
                f"{ITEMS}/documents/list", query, endpoint="workitems/documents/list"
            )

        start = dt.datetime.combine(self._settings.history_from, dt.time())
        if position:
            start = dt.datetime.fromisoformat(position["window"])
        async for window in times.windows(fetch, None, start, now.replace(tzinfo=None), first=not position):
            window.answer.rows = newest_revisions(window.answer.rows)
            for part in _cut(window.answer, _DOCUMENT, {}, size):
                part.position = position
                if part.rows or window.end is None:
                    yield part
            if window.end is not None:
                position = {"window": window.end.isoformat()}


def newest_revisions(rows: list[Row]) -> list[Row]:
    """One row per document, its highest revision: a revised document keeps its guid (other_systems.md 16.2)."""
    newest: dict[tuple[Any, Any], Row] = {}
    for row in rows:
        key = (row.get("ServiceOrderItemId"), row.get("Guid"))
        # Taken out first, so that the order of the rows is that of the newest revisions.
        known = newest.pop(key, row)
        newest[key] = max(known, row, key=lambda one: one.get("RevisionNumber") or 0)
    return list(newest.values())


def _cut(answer: Rows, key: tuple[str, ...], position: Position, size: int) -> Iterator[Slice]:
    """The rows in the order of their key, after the position, in slices; one empty slice where nothing is left."""
    order = _order(key)
    rows = sorted(answer.rows, key=order)
    if (after := position.get("after")) is not None:
        last = tuple(map(_comparable, after))
        rows = [row for row in rows if order(row) > last]
    for start in range(0, max(len(rows), 1), size):
        part = rows[start : start + size]
        ends: Position = {"after": [part[-1].get(name) for name in key]} if part else position
        yield Slice(rows=part, storable=answer.storable, moment=answer.moment, position=ends)


def _order(key: tuple[str, ...]) -> Callable[[Row], tuple[tuple[bool, str | int], ...]]:
    def order(row: Row) -> tuple[tuple[bool, str | int], ...]:
        return tuple(_comparable(row.get(name)) for name in key)

    return order


def _comparable(value: Any) -> tuple[bool, str | int]:
    """Numbers and texts in their order, what is missing before all."""
    if value is None:
        return (False, 0)
    return (True, value if isinstance(value, int) else str(value))
