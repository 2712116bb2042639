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
from ipaas_assets.sync.rows import Source
from ipaas_assets.sync.storing import Stored, Storing, read_by_id
from ipaas_resources.core import killpoints
from ipaas_resources.core.clock import Clock
from ipaas_resources.core.errors import CursorExpiredError, IpaasError, LeaseLostError, ReviewNeededError
from ipaas_resources.core.records import Change, ChangeKind, Cursor, Page
from ipaas_resources.core.values import decode, encode
from ipaas_resources.store.database import Database, query

log = logging.getLogger(__name__)

#: Seconds between looks at a lease that somebody else holds.
_LEASE_LOOK = 0.25


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
        self._on_page = on_page
        self._counts = counts or Counts()
        self._storing = Storing(database, source, lane=lane, trace_id=trace_id, run=run, refresh=refresh)
        self._capabilities = source.system.connector.manifest.capabilities(source.entity)
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
            incoming = self._storing.prepare(changes, page.faults, number)
        await self._storing.sift(incoming, first=first)
        seen = incoming.present if full else []

        async def work(connection: AsyncConnection) -> Stored:
            stored = await self._storing.write(connection, incoming)
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
            return stored

        killpoints.before("K06")
        with self._counts.stage("pull: store", self._clock):
            stored = await self._storing.commit(work)
        killpoints.after("K06")
        self.pulled.changed += stored.changed
        self.pulled.deleted += stored.deleted
        self.pulled.received += incoming.received
        self.pulled.set_aside += incoming.set_aside

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
        size = max(1, self._capabilities.read_batch)
        return [
            change
            for start in range(0, len(ids), size)
            for change in await read_by_id(self._source, ids[start : start + size])
        ]

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
        incoming = self._storing.prepare(changes, [], int(number[0]))
        await self._storing.sift(incoming)
        stored = await self._storing.commit(lambda connection: self._storing.write(connection, incoming))
        self.pulled.deleted += stored.deleted
        self.pulled.changed += stored.changed

    def _lost(self) -> LeaseLostError:
        return LeaseLostError(
            f"Another worker took over the pull of {self._source.system.name}/{self._source.entity}; "
            "this page was not committed here and is read by that worker."
        )
