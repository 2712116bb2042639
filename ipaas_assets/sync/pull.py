"""The pull: changes of one source entity and scope come into the mirror, page by page, and raise work.

A page's records, its work items and its cursor commit together, under the entity's lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from ipaas_assets.sync.model import Counts, Lane, Options
from ipaas_assets.sync.rows import CHUNK, Row, Source, changed_rows, prepare
from ipaas_resources.core import killpoints
from ipaas_resources.core.clock import Clock
from ipaas_resources.core.errors import (
    ContractError,
    CursorExpiredError,
    IpaasError,
    LeaseLostError,
    RetryError,
    ReviewNeededError,
)
from ipaas_resources.core.records import Change, ChangeKind, Cursor, Page
from ipaas_resources.core.values import content_hash, decode, encode
from ipaas_resources.store.database import Database, query

log = logging.getLogger(__name__)

#: Seconds between looks at a lease that somebody else holds.
_LEASE_LOOK = 0.25


class _FlowsChangedError(Exception):
    """Another flow or version is active now: the page must raise work for it."""

    def __init__(self, active: dict[str, int]) -> None:
        super().__init__()
        self.active = active


class Pulled(msgspec.Struct, kw_only=True):
    """What one pull saw."""

    received: int = 0
    changed: int = 0
    deleted: int = 0
    set_aside: int = 0
    complete: bool = False
    busy: bool = False  # another worker pulls this entity now
    warning: str = ""


class Puller:
    """Pulls one entity of one scope."""

    def __init__(
        self,
        database: Database,
        source: Source,
        *,
        clock: Clock,
        options: Options,
        lane: Lane,
        trace_id: str,
        run: int | None,
        on_page: Callable[[Pulled], Awaitable[None]] | None = None,
        counts: Counts | None = None,
        refresh: Callable[[], Awaitable[Source]] | None = None,
    ) -> None:
        self._database = database
        self._source = source
        self._clock = clock
        self._options = options
        self._lane = lane
        self._trace_id = trace_id
        self._run = run
        self._on_page = on_page
        self._counts = counts or Counts()
        #: Reads the active flows again.
        self._refresh = refresh
        self._volatile = frozenset(field.name for field in source.schema.fields if field.volatile)
        self._secret = frozenset(
            field.name for field in source.schema.fields if field.sensitivity == "secret"
        )
        self._capabilities = source.system.connector.manifest.capabilities(source.entity)
        self._ordered = self._capabilities.versions == "ordered"
        self._key = {"system": source.system.name, "scope": source.scope, "entity": source.entity}
        self._token = 0
        self.pulled = Pulled()

    async def run(self, *, full: bool) -> Pulled:
        """Pull until the source has no more pages.

        Raises:
            RetryError: the source did not answer; what was committed stays, the next pull goes on from there.
            StopError: it cannot go on until something is mended.
        """
        await self._database.rows("entity_state_ensure", **self._key)
        state = await self._take_lease()
        if not state:
            self.pulled.busy = True
            self.pulled.warning = (
                f"{self._source.system.name}/{self._source.entity} is being pulled by another worker; its changes come "
                "with that pull."
            )
            return self.pulled
        self._token = state[0].lease_token
        error: str | None = None
        try:
            try:
                resumed = await self._scan(state[0], full=full)
                if resumed:
                    # What changed after the interrupted scan had passed it is seen only by the next one.
                    await self._scan(await self._state(), full=False)
            except CursorExpiredError:
                log.info("the cursor expired, all records are read again", extra=self._key)
                await self._scan(state[0], full=True)
        except IpaasError as failure:
            error = failure.message
            raise
        finally:
            await self._database.rows("entity_lease_drop", **self._key, token=self._token, error=error)
        return self.pulled

    async def _take_lease(self) -> list[Any]:
        """The entity's lease; a short pull of another worker, or the lease of one that died, is waited for."""
        waited = 0.0
        while True:
            state = await self._database.rows("entity_lease_take", **self._key, seconds=self._options.lease)
            if state or waited >= self._options.patience:
                return state
            await self._clock.sleep(_LEASE_LOOK)
            waited += _LEASE_LOOK

    async def _state(self) -> Any:
        rows = await self._database.rows("entity_state_read", **self._key)
        return rows[0]

    async def _scan(self, state: Any, *, full: bool) -> bool:
        """One scan from its cursor to its end. True when it went on with one that had been interrupted."""
        cursor: Cursor | None = decode(state.cursor.encode()) if state.cursor and not full else None
        resumed = state.scan_number is not None and cursor is not None and not full
        full = cursor is None or (resumed and state.scan_full)
        if resumed:
            scan = state.scan_number
        else:
            rows = await self._database.rows("scan_begin", **self._key, token=self._token, full=full)
            if not rows:
                raise self._lost()
            scan = rows[0].scan_number
        # On the very first scan everything is news, so nobody asks the mirror first.
        first = bool(state.first_scan) and full
        killpoints.before("K05")
        pages = aiter(
            self._source.system.connector.changes(
                self._source.entity, self._source.scope, cursor, page_size=self._capabilities.page_size
            )
        )
        complete = False
        async with contextlib.aclosing(self._numbered(pages)) as numbered:
            async for page, number in numbered:
                killpoints.after("K05")
                await self._store_page(page, number, scan, full=full, first=first)
                await self._source.system.connector.acknowledge(
                    self._source.entity, self._source.scope, page.cursor
                )
                complete = page.complete
                if self._on_page is not None:
                    await self._on_page(self.pulled)
                killpoints.before("K05")
        self.pulled.complete = complete
        if complete and full and self._capabilities.deletes != "never":
            await self._bury_missing(scan)
        if full:
            await self._database.rows("scan_keys_drop", scan=scan)
        return bool(resumed)

    async def _numbered(self, pages: AsyncIterator[Page]) -> AsyncGenerator[tuple[Page, int], None]:
        """Each page with a number drawn before its request: of two reads, the one that began later wins.

        The next page is on its way while the one before is stored; two pages are in memory, never more.
        """

        async def fetch() -> tuple[Page | None, int]:
            (number,) = await self._database.rows("read_number_next")
            with self._counts.stage("pull: read and convert", self._clock):
                return await anext(pages, None), int(number[0])

        coming = asyncio.create_task(fetch())
        try:
            while True:
                page, number = await coming
                if page is None:
                    return
                coming = asyncio.create_task(fetch())
                yield page, number
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def _store_page(self, page: Page, number: int, scan: int, *, full: bool, first: bool) -> None:
        changes = await self._with_gaps_read(page.changes)
        with self._counts.stage("pull: hash", self._clock):
            rows = prepare(changes, number, self._volatile, self._secret)
        # Of a record that stands in a page several times, the last word counts.
        last = {change.id: change for change in changes if change.id is not None}
        deletes = {record: change for record, change in last.items() if change.kind is ChangeKind.DELETE}
        rows = [row for row in rows if row.id not in deletes]
        news = (
            rows if first else await changed_rows(self._database, self._source, rows, ordered=self._ordered)
        )
        self._check(news)
        faults = [self._fault_row(record, error, number) for record, error in page.faults]
        if faults:
            news = news + await changed_rows(self._database, self._source, faults, ordered=False)
        seen = [row.id for row in rows] + [record for record, _ in page.faults] if full else []

        async def work(connection: AsyncConnection) -> int:
            await self._check_flows(connection)
            changed = 0
            base = {**self._key, "trace_id": self._trace_id, "lane": int(self._lane), "read_number": number}
            targets = encode(self._source.targets).decode()
            for start in range(0, len(news), CHUNK):
                result = await connection.execute(
                    query("page_store"),
                    {
                        **base,
                        "targets": targets,
                        "run": self._run,
                        "rows": encode(news[start : start + CHUNK]).decode(),
                    },
                )
                changed += int(result.one().news)
            if deletes:
                buried = [
                    {"id": record, "ord": self._tombstone_order(change, number)}
                    for record, change in deletes.items()
                ]
                result = await connection.execute(
                    query("tombstones_store"), {**base, "targets": targets, "rows": encode(buried).decode()}
                )
                self.pulled.deleted += int(result.one().news)
            if seen:
                await connection.execute(query("scan_keys_add"), {"scan": scan, "ids": encode(seen).decode()})
            ended = not page.more
            moved = await connection.execute(
                query("cursor_move"),
                {
                    **self._key,
                    "token": self._token,
                    "cursor": encode(page.cursor).decode(),
                    "seconds": self._options.lease,
                    "ended": ended,
                    "completed": ended and page.complete,
                },
            )
            if moved.first() is None:
                raise self._lost()
            return changed

        killpoints.before("K06")
        with self._counts.stage("pull: store", self._clock):
            self.pulled.changed += await self._with_flows(work)
        killpoints.after("K06")
        self.pulled.received += len(rows) + len(deletes) + len(faults)
        self.pulled.set_aside += sum(1 for row in news if row.bad_code)

    async def _with_flows(self, work: Callable[[AsyncConnection], Awaitable[int]]) -> int:
        """Run one transaction that raises work; once more where the active flows changed since they were read."""
        try:
            return await self._database.repeatable(work)
        except _FlowsChangedError as changed:
            assert self._refresh is not None
            self._source = await self._refresh()
            # A registry that still disagrees (a flow that cannot be built under its stored source) must not hold
            # the page for ever: these versions are taken as they are.
            self._source.versions = changed.active
            try:
                return await self._database.repeatable(work)
            except _FlowsChangedError:
                raise RetryError(
                    f"The flows of {self._source.system.name}/{self._source.entity} are being changed again and "
                    "again while it is pulled; the next run reads on from here."
                ) from None

    async def _check_flows(self, connection: AsyncConnection) -> None:
        """The page raises work for exactly the flows that are active when it commits."""
        name = f"{self._source.system.name}/{self._source.entity}"
        rows = await connection.execute(
            query("flows_of_entity"),
            {"name": name, "system": self._source.system.name, "entity": self._source.entity},
        )
        active = {row.flow: row.active_version for row in rows if row.flow not in self._source.broken}
        if active != self._source.versions and self._refresh is not None:
            raise _FlowsChangedError(active)

    async def _hold_lease(self) -> None:
        held = await self._database.rows(
            "entity_lease_hold", **self._key, token=self._token, seconds=self._options.lease
        )
        if not held:
            raise self._lost()

    async def _with_gaps_read(self, changes: list[Change]) -> list[Change]:
        """Gaps and patches are read again: a by-id read gives the same canonical bytes."""
        again = [
            change.id
            for change in changes
            if change.kind in {ChangeKind.GAP, ChangeKind.PATCH} and change.id is not None
        ]
        if not again:
            return changes
        kept = [change for change in changes if change.kind in {ChangeKind.UPSERT, ChangeKind.DELETE}]
        return kept + await self._read(sorted(set(again)))

    async def _read(self, ids: list[str]) -> list[Change]:
        result: list[Change] = []
        size = self._capabilities.read_batch
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            found = await self._source.system.connector.read(self._source.entity, self._source.scope, part)
            for record, row in zip(part, found, strict=True):
                if row is None:
                    result.append(Change(kind=ChangeKind.DELETE, id=record))
                else:
                    result.append(
                        Change(
                            kind=ChangeKind.UPSERT,
                            id=record,
                            document=row.document,
                            etag=row.etag,
                            order=row.order,
                        )
                    )
        return result

    def _check(self, news: list[Row]) -> None:
        """Only new or changed rows meet the contract; a row that breaks it is set aside with the reason."""
        for index, violations in self._source.contract.check([row.doc for row in news]).items():
            if news[index].bad_code is not None:
                continue
            first = violations[0]
            news[index].bad_code = ContractError.code
            news[index].bad_error = (
                f"Field {first.field!r} of {self._source.system.name}/{self._source.entity}: {first.reason}"
                + (f" (and {len(violations) - 1} more)" if len(violations) > 1 else "")
                + ". Correct the record in the source, or refresh the schema if the source changed it."
            )

    def _fault_row(self, record: str, error: IpaasError, number: int) -> Row:
        return Row(
            id=record,
            doc={},
            hash=content_hash(error.message.encode()).hex(),
            etag=None,
            ord=number,
            bad_code=error.code,
            bad_error=error.message,
        )

    async def _bury_missing(self, scan: int) -> None:
        """Records that the complete listing did not hold, and that a read by id cannot find either, are gone."""
        rows = await self._database.rows("scan_missing", **self._key, scan=scan)
        missing = [row.record for row in rows]
        if not missing:
            return
        (count,) = await self._database.rows("mirror_count", **self._key)
        most = max(self._options.delete_always, int(count[0] * self._options.delete_threshold))
        if len(missing) > most:
            error = ReviewNeededError(
                f"{len(missing)} of {count[0]} records of {self._source.system.name}/{self._source.entity} are missing "
                "from a complete listing, more than is believed without a person. Check the source (permissions, "
                "company), then pull again; nothing was deleted.",
                code="too_many_missing",
            )
            self.pulled.warning = error.message
            log.warning(error.message, extra=self._key)
            return
        (number,) = await self._database.rows("read_number_next")
        changes = await self._read(missing)
        await self._hold_lease()
        gone = [change for change in changes if change.kind is ChangeKind.DELETE]
        base = {**self._key, "trace_id": self._trace_id, "lane": int(self._lane), "read_number": number[0]}
        if gone:
            buried = encode(
                [{"id": change.id, "ord": self._tombstone_order(change, number[0])} for change in gone]
            ).decode()

            async def bury(connection: AsyncConnection) -> int:
                await self._check_flows(connection)
                targets = encode(self._source.targets).decode()
                result = await connection.execute(
                    query("tombstones_store"), {**base, "targets": targets, "rows": buried}
                )
                return int(result.one().news)

            self.pulled.deleted += await self._with_flows(bury)
        back = prepare(changes, number[0], self._volatile, self._secret)
        news = await changed_rows(self._database, self._source, back, ordered=self._ordered)
        self._check(news)
        if news:

            async def store(connection: AsyncConnection) -> int:
                await self._check_flows(connection)
                targets = encode(self._source.targets).decode()
                result = await connection.execute(
                    query("page_store"),
                    {**base, "targets": targets, "run": self._run, "rows": encode(news).decode()},
                )
                return int(result.one().news)

            self.pulled.changed += await self._with_flows(store)

    def _tombstone_order(self, change: Change, number: int) -> int | None:
        if change.order is not None:
            return change.order
        return None if self._ordered else number

    def _lost(self) -> LeaseLostError:
        return LeaseLostError(
            f"Another worker took over the pull of {self._source.system.name}/{self._source.entity}; "
            "this page was not committed here and is read by that worker."
        )
