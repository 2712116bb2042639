"""The reporter: what the live lane did becomes runless events of Dagster, few enough for its event log to carry.

ONE process over all machines does it, for the pace is counted in it: at most five events a second in all, the first
change of an asset at once, then at most one a minute while it stays busy, the rest summed. Rows are taken away after
Dagster has the event: a crash in between tells once more, and never loses what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar

import dagster as dg
import sqlalchemy as sa
from dagster._core.instance.ref import InstanceRef
from dagster_postgres.utils import DagsterPostgresException

from ipaas_assets.graph import Graph, build_graph
from ipaas_assets.registered import fetch_registered
from ipaas_assets.resources import Platform
from ipaas_assets.verdicts import Verdict, news_among
from ipaas_resources.core import killpoints
from ipaas_resources.core.clock import Clock
from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.store import reports
from ipaas_resources.store.database import Database
from ipaas_resources.store.reports import DueReport, ReporterLock
from sensors.beating import beating
from sensors.telling import Telling, is_newer, shown_version, telling_of

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds between two events, whatever they are about.
PACE: Final = 0.2
#: Seconds between two events of one asset while it stays busy.
PER_ASSET: Final = 60.0
#: Seconds between two looks when there is nothing to tell. No LISTEN: a NOTIFY in every settlement would serialise them.
_LOOK: Final = 0.2
#: Seconds between two tries of a stand-by to become the reporter, and between two looks whether the lock still holds.
_STAND_BY: Final = 1.0
#: Reports that are told before looking again: what is new and was never told goes before what can wait.
_AT_ONCE: Final = 5
_LONGEST_PAUSE: Final = 30.0

#: What Dagster's storage raises while its database is down or comes back.
_DAGSTER_DOWN = (
    DagsterPostgresException,
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.TimeoutError,
    DatabaseUnavailableError,
    OSError,
)


class Reporter:
    """Tells Dagster what the live lane did. Any number may run; one works, the others stand by."""

    def __init__(
        self,
        platform: Platform,
        open_instance: Callable[[], dg.DagsterInstance],
        *,
        clock: Clock,
        say: Callable[[str], None],
        pace: float = PACE,
        per_asset: float = PER_ASSET,
    ) -> None:
        self._platform = platform
        self._open_instance = open_instance
        self._clock = clock
        self._say = say
        self._pace = pace
        self._per_asset = per_asset
        self._instance: dg.DagsterInstance | None = None
        self._graph: Graph | None = None
        self._told_at: dict[tuple[str, str], float] = {}
        self._shown: dict[tuple[str, str], int] = {}
        self._next_event = 0.0
        #: For `ipaas status`: standing by or working, and how many events were told.
        self.state = "starting"
        self.events = 0

    async def run(self) -> None:
        """Work until cancelled. Neither database may be there at first, and both may go and come back."""
        pause = 1.0
        try:
            while True:
                try:
                    await self._connected()
                except DatabaseUnavailableError as error:
                    if self.state != "waiting":
                        self.state = "waiting"
                        self._say(f"{error.message} Nothing is lost: what happened is told afterwards.")
                        pause = 1.0
                    # The embedded server may come back on another port.
                    self._platform.__dict__.pop("urls", None)
                    await self._clock.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._close_instance()

    async def _connected(self) -> None:
        url = (await asyncio.to_thread(lambda: self._platform.urls)).app
        database = Database(url, pool_size=2)
        try:
            lock = await ReporterLock.connect(url)
            try:
                async with beating(database, role="reporter", clock=self._clock, details=self._details):
                    await self._become_reporter(lock)
                    # Compiling the flows and opening the instance take a second, which the first change should not wait for.
                    await self._read_graph()
                    await self._dagster(lambda _instance: None, lock)
                    while True:
                        await lock.check()
                        if not await self.tell_due(database, lock):
                            await self._clock.sleep(_LOOK)
            finally:
                await lock.close()
        finally:
            await database.close()

    def _details(self) -> dict[str, Any]:
        return {"state": self.state, "events": self.events}

    async def _become_reporter(self, lock: ReporterLock) -> None:
        while not await lock.take():
            if self.state != "stand-by":
                self.state = "stand-by"
                self._say("Another reporter works; this one stands by")
            await self._clock.sleep(_STAND_BY)
        if self.state != "working":
            self.state = "working"
            self._say("Telling Dagster what the live lane does")

    # --- telling ----------------------------------------------------------------------------------------------------

    async def tell_due(self, database: Database, lock: ReporterLock | None = None) -> int:
        """Tell what is due now, a few reports at a time; how many were handled.

        Raises:
            DatabaseUnavailableError: the platform's database is down, or the lock is gone.
        """
        now = self._clock.monotonic()
        self._told_at = {asset: at for asset, at in self._told_at.items() if now - at < self._per_asset}
        due = (await reports.due_reports(database, held=self._told_at))[:_AT_ONCE]
        for report in due:
            # Whatever becomes of it: one asset that cannot be told must not keep the others from it.
            self._told_at[report.asset] = self._clock.monotonic()
            try:
                await self._tell(database, report, lock)
            except (DatabaseUnavailableError, asyncio.CancelledError):
                raise
            except Exception:  # one asset that cannot be told must not keep the others from it; it is said
                log.exception("%s could not be told", "/".join(report.asset))
                self._say(
                    f"What happened to {'.'.join(filter(None, report.asset))} could not be told to Dagster; it is tried "
                    "again in a minute. This is a defect of the platform: report it with the lines above."
                )
        return len(due)

    async def _tell(self, database: Database, report: DueReport, lock: ReporterLock | None) -> None:
        graph = await self._graph_for(report)
        telling = telling_of(graph, report)
        if telling is None:
            # Deleted since, or left out of the graph: the asset check `flows_built` says which and why.
            self._say(
                f"Dagster has no asset for {'.'.join(filter(None, report.asset))}; it is not told there"
            )
            await reports.told(database, report)
            return
        shown = await self._shown_version(report, telling, lock)
        event, shown_then = await telling.event(database, self._platform, report, shown)
        killpoints.before("K19")
        await self._send(event, lock)
        killpoints.after("K19")
        await reports.told(database, report)
        self._shown[report.asset] = shown_then
        verdicts = await telling.verdicts(database, graph)
        for verdict in await self._news(verdicts, lock):
            await self._send(verdict.evaluation(), lock)

    async def _graph_for(self, report: DueReport) -> Graph:
        """The graph of the registry, read anew when the report is of a flow or version that it does not know."""
        known = self._graph
        if known is None or is_newer(known, report) or telling_of(known, report) is None:
            known = await self._read_graph()
        return known

    async def _read_graph(self) -> Graph:
        url = (await asyncio.to_thread(lambda: self._platform.urls)).app
        registered = await fetch_registered(url)
        self._graph = await asyncio.to_thread(build_graph, registered)
        return self._graph

    async def _shown_version(
        self, report: DueReport, telling: Telling, lock: ReporterLock | None
    ) -> int | None:
        if report.asset not in self._shown:
            return await self._dagster(lambda instance: shown_version(instance, telling), lock)
        return self._shown[report.asset]

    async def _news(self, verdicts: list[Verdict], lock: ReporterLock | None) -> list[Verdict]:
        return await self._dagster(lambda instance: news_among(instance, verdicts), lock)

    async def _send(
        self, event: dg.AssetMaterialization | dg.AssetCheckEvaluation, lock: ReporterLock | None
    ) -> None:
        """Send one event, no sooner than the pace allows."""
        now = self._clock.monotonic()
        if now < self._next_event:
            await self._clock.sleep(self._next_event - now)
        self._next_event = self._clock.monotonic() + self._pace

        def report(instance: dg.DagsterInstance) -> None:
            instance.report_runless_asset_event(event)

        await self._dagster(report, lock)
        self.events += 1

    # --- dagster ----------------------------------------------------------------------------------------------------

    async def _dagster(self, call: Callable[[dg.DagsterInstance], T], lock: ReporterLock | None) -> T:
        """What the call returns; while Dagster's database is down it waits, and says so once.

        A call whose answer was lost is made again: Dagster shows the event twice then, which is better than never.
        """
        pause = 1.0
        while True:
            try:
                result = await asyncio.to_thread(self._call, call)
            except _DAGSTER_DOWN as error:
                if pause == 1.0:
                    self.state = "waiting for Dagster"
                    self._say(
                        f"Dagster's database does not answer ({type(error).__name__}); what the live lane does is told "
                        "when it does. Check with `ipaas doctor`."
                    )
                await asyncio.to_thread(self._close_instance)
                await self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                if lock is not None:
                    await lock.check()
            else:
                if pause > 1.0:
                    self.state = "working"
                    self._say("Dagster's database answers again")
                return result

    def _call(self, call: Callable[[dg.DagsterInstance], T]) -> T:
        if self._instance is None:
            self._instance = self._open_instance()
        return call(self._instance)

    def _close_instance(self) -> None:
        instance, self._instance = self._instance, None
        if instance is not None:
            with contextlib.suppress(*_DAGSTER_DOWN):
                instance.dispose()


def instance_of(home: str) -> dg.DagsterInstance:
    """The instance whose dagster.yaml lies in this folder."""
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(home))
