"""The live worker: a resident process that works off one lane within milliseconds of being told.

It holds nothing that a crash could lose: claims lapse, and another worker goes on. Any number of workers on any number
of machines share a lane.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final, Protocol

import msgspec

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.holding import held_targets
from ipaas_assets.sync.model import Lane, TargetWork
from ipaas_resources.core.errors import DatabaseUnavailableError, StopError
from ipaas_resources.store import reports
from ipaas_resources.store.breakers import open_systems
from ipaas_resources.store.database import Database
from ipaas_resources.store.workers import BEAT
from sensors.live.defects import told
from sensors.live.draining import Draining
from sensors.live.heartbeat import Heartbeat
from sensors.live.listening import WORK, listen
from sensors.live.opened import Opened
from sensors.live.pool import Pool

log = logging.getLogger(__name__)

#: Seconds between looks while nothing is told: what a lost word or a due time brings.
_LOOK: Final = 0.5
#: Seconds between looks at the registry, and after which everything is opened anew, whatever the registry says.
_WATCH: Final = 1.0
_RENEW: Final = 900.0
_TIDY: Final = 10.0
#: Seconds until a loop goes on after the database did not answer.
_OUTAGE: Final = 0.5
#: Seconds between looks of a feed at the most, and after one that failed.
_FAULT: Final = 5.0


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works."""

    lane: Lane
    concurrency: int = 8  # pieces of work under way at once, over all workers of the lane
    batches: int = 2  # of one flow target at once
    grace: float = 10.0  # seconds that work under way gets when the worker is told to end
    outage: float = float("inf")  # seconds without a database after which the worker gives up


class Feed(Protocol):
    """Something beside the queue that a lane looks after: the inbox, polls, what new versions owe."""

    #: Where PostgreSQL tells of it, '' where it does not.
    channel: str

    async def look(self, opened: Opened, pool: Pool) -> float:
        """Start what is to be done now; seconds until the next look at the latest."""
        ...


class LiveWorker:
    """One worker of one lane."""

    def __init__(
        self,
        database: Database,
        url: str,
        open_engine: Callable[[], Engine],
        options: WorkerOptions,
        *,
        worker: str,
        feeds: list[Feed],
    ) -> None:
        """Nothing is opened yet.

        Args:
            database: of the run-time role. url: its login, for the connection that listens.
            open_engine: makes an engine; called again whenever the registry changes.
            options: how it works.
            worker: its name, unique among all processes of all machines.
            feeds: what this lane looks after beside the queue.
        """
        self._database = database
        self._url = url
        self._open_engine = open_engine
        self._options = options
        self._feeds = {feed: asyncio.Event() for feed in feeds}
        self._work = asyncio.Event()
        self._events: list[asyncio.Event] = []
        self._heartbeat = Heartbeat(
            database, lane=options.lane.name.lower(), limit=options.concurrency, worker=worker
        )
        self._heartbeat.tell(self._details)
        self._drains = Pool(self._work.set)
        self._feeding = Pool(self._look_at_feeds)
        self._opened: Opened
        self._ending = False
        self._shut: Collection[str] = ()
        self._held: Collection[tuple[str, str]] = ()
        self._turn = 0
        self._silent_since: float | None = None
        self.draining = Draining(
            options.lane,
            may_go_on=self._may_go_on,
            on_made=self._work.set,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop, then let what is under way come to its end.

        Raises:
            DatabaseUnavailableError: the database did not answer for longer than the options allow.
        """
        if not await self._begin(stop):
            return
        try:
            async with asyncio.TaskGroup() as group:
                channels = {feed.channel: event for feed, event in self._feeds.items() if feed.channel}
                listener = group.create_task(listen(self._url, {WORK: self._work, **channels}))
                group.create_task(self._repeat(self._beat, BEAT))
                group.create_task(self._repeat(self._watch, _WATCH))
                group.create_task(self._repeat(self._tidy, _TIDY))
                group.create_task(self._repeat(self._start_drains, _LOOK, self._work))
                for feed, event in self._feeds.items():
                    group.create_task(self._repeat(functools.partial(self._feed, feed), _FAULT, event))
                await stop.wait()
                self._ending = True
                listener.cancel()
                for event in self._events:
                    event.set()
        finally:
            self._ending = True
            await asyncio.gather(
                self._drains.finish(within=self._options.grace),
                self._feeding.finish(within=self._options.grace),
            )
            log.info("worked off: %s", self.draining.told())
            with contextlib.suppress(DatabaseUnavailableError):
                # What cannot be given back lapses by itself.
                await self._opened.retire()
                await self._heartbeat.leave()

    # --- loops -----------------------------------------------------------------------------------------------------

    async def _begin(self, stop: asyncio.Event) -> bool:
        """Open the registry; the database may still be starting. False: told to end before that."""
        while not stop.is_set():
            try:
                await self._beat()
                self._opened = await Opened.open(
                    self._open_engine(), self._options.lane, on_ready=self._work.set
                )
                await self._see_what_waits()
            except DatabaseUnavailableError as error:
                self._outage(error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _OUTAGE)
            else:
                self._silent_since = None
                return True
        return False

    async def _repeat(
        self,
        look: Callable[[], Awaitable[float | None]],
        pause: float,
        event: asyncio.Event | None = None,
    ) -> None:
        """Look again and again: when the event is set, after the seconds that a look returns, else after the pause."""
        event = event or asyncio.Event()
        self._events.append(event)
        while not self._ending:
            event.clear()
            longest = pause
            try:
                wait = await look()
            except DatabaseUnavailableError as error:
                self._outage(error)
                wait = _OUTAGE
            except StopError as error:
                # A lock that was waited for too long, say: another look may do better, and the other loops go on.
                log.warning(error.message)
                wait = longest = _FAULT
            else:
                self._silent_since = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(longest if wait is None else min(longest, wait)):
                    await event.wait()

    def _outage(self, error: DatabaseUnavailableError) -> None:
        """Say it once; give up after the time that the options allow."""
        now = asyncio.get_running_loop().time()
        if self._silent_since is None:
            self._silent_since = now
            log.warning("%s Trying on.", error.message)
        elif now - self._silent_since > self._options.outage:
            raise error

    async def _beat(self) -> None:
        self._drains.most = self._feeding.most = await self._heartbeat.beat()

    async def _watch(self) -> None:
        """Follow the registry: flows, systems, schemas; what is held and what is shut."""
        await self._see_what_waits()
        if not await self._opened.is_current(most=_RENEW):
            new = await Opened.open(self._open_engine(), self._options.lane, on_ready=self._work.set)
            old, self._opened = self._opened, new
            await old.retire()
            self._look_everywhere()

    async def _see_what_waits(self) -> None:
        shut, held = await open_systems(self._database), await held_targets(self._opened.engine)
        if set(self._shut) - set(shut) or set(self._held) - set(held):
            self._work.set()
        self._shut, self._held = shut, held

    async def _tidy(self) -> None:
        await self._database.rows("intents_resolve_all")
        # Without a reporter nobody else would keep what waits for it small.
        await reports.compact(self._database)

    async def _feed(self, feed: Feed) -> float:
        try:
            return await feed.look(self._opened, self._feeding)
        except DatabaseUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect here must not end the work on the queue
            log.error("%s could not be looked after: %s", type(feed).__name__, told(error))  # noqa: TRY400 - no values
            return _FAULT

    def _look_at_feeds(self) -> None:
        for event in self._feeds.values():
            event.set()

    def _look_everywhere(self) -> None:
        self._work.set()
        self._look_at_feeds()

    # --- draining --------------------------------------------------------------------------------------------------

    async def _start_drains(self) -> None:
        opened = self._opened
        due = await opened.targets.due(self._shut, self._held)
        if not due:
            return
        # Each target has its turn, also where there are more of them than places.
        self._turn = (self._turn + 1) % len(due)
        for work in due[self._turn :] + due[: self._turn]:
            self._drains.start(
                work.name, functools.partial(self.draining.drain, opened, work), most=self._options.batches
            )

    def _may_go_on(self, opened: Opened, work: TargetWork) -> bool:
        """Whether another batch of a target may follow: a window may close, and others may want the place."""
        return (
            not self._ending
            and self._opened is opened
            and not self._drains.crowded
            and work.queue.target_system not in self._shut
            and (work.queue.flow, work.queue.target) not in self._held
        )

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = {
            **self.draining.told(),
            "under_way": len(self._drains) + len(self._feeding),
        }
        if hasattr(self, "_opened"):
            details["waiting"] = self._opened.targets.reasons
        return details
