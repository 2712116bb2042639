"""The reporter: what the live lane settled reaches Dagster's catalogue, soon, rarely, summed, and after a crash again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from ipaas_assets.sync.drain import Drain
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Lane
from ipaas_assets.sync.run import pull_entity
from ipaas_resources.core.clock import ManualClock, SystemClock
from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.core.platform import run_async
from ipaas_resources.store import reports
from ipaas_resources.store.database import Database
from ipaas_resources.store.reports import ReporterLock
from sensors.reporting import PACE, Reporter
from tests.conftest import Databases
from tests.dagster.rig import CUSTOMERS, Installation, materialize, put_customers

CLIENT = "crm/accounts/customers_to_clients__client"
COPY = "lab/clients/customers_to_clients__copy"
SOURCE = "bc/sales_customers"


@pytest.fixture
def installed(installation: Installation) -> Installation:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)
    return installation


class Recorder:
    """Dagster's instance, with what was reported without a run and when by the reporter's clock."""

    def __init__(self, instance: dg.DagsterInstance, clock: ManualClock) -> None:
        self.instance = instance
        self.clock = clock
        self.sent: list[tuple[float, Any]] = []
        self.fail: BaseException | None = None
        self.fails = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.instance, name)

    def dispose(self) -> None:
        """It is opened again by the next call; the instance of the test stays."""

    def report_runless_asset_event(self, event: Any) -> None:
        if self.fails:
            self.fails -= 1
            assert self.fail is not None
            raise self.fail
        self.sent.append((self.clock.monotonic(), event))
        self.instance.report_runless_asset_event(event)

    def told(self, asset: str) -> list[dict[str, Any]]:
        """The metadata of the materialisations of an asset."""
        return [
            {name: value.value for name, value in event.metadata.items()}
            for _, event in self.sent
            if isinstance(event, dg.AssetMaterialization) and event.asset_key.to_user_string() == asset
        ]


class Desk:
    """A reporter on a clock of the test."""

    def __init__(self, installation: Installation, instance: dg.DagsterInstance) -> None:
        self.clock = ManualClock()
        self.recorder = Recorder(instance, self.clock)
        self.said: list[str] = []
        self.installation = installation
        self.reporter = self.another()

    def another(self) -> Reporter:
        """As after a restart: it remembers nothing."""
        return Reporter(
            self.installation,
            lambda: self.recorder,  # type: ignore[arg-type, return-value]
            clock=self.clock,
            say=self.said.append,
        )

    async def tell_all(self, database: Database) -> int:
        told = 0
        while more := await self.reporter.tell_due(database):
            told += more
        return told


@pytest.fixture
def desk(installed: Installation, instance: dg.DagsterInstance) -> Desk:
    return Desk(installed, instance)


@contextlib.asynccontextmanager
async def opened(installation: Installation) -> AsyncIterator[Engine]:
    async with installation.engine() as engine:
        yield engine


async def live(engine: Engine) -> None:
    """What a live worker does: a pull without a run, then every item through the drain without a run."""
    await pull_entity(engine, "bc", "salesCustomers")
    flow = engine.flow("customers_to_clients")
    drain = Drain(
        engine.database,
        clock=engine.clock,
        ids=engine.ids,
        options=engine.options,
        sides=engine.sides(),
        run=None,
        trace_id=engine.ids.trace_id(),
    )
    try:
        for work in await engine.works(flow):
            while await drain.one_batch(work):
                pass
    finally:
        await drain.first_contact.close()


def rows(installation: Installation) -> int:
    return installation.sql("SELECT count(*) FROM report_due")[0][0]


def note(
    installation: Installation, target: str = "client", many: int = 1, flow: str = "customers_to_clients"
) -> None:
    """A settlement of the live lane, as `settle` leaves it."""
    installation.sql(
        "INSERT INTO report_due (flow, target, flow_version, counts, trace_id) "
        f"VALUES ('{flow}', '{target}', 1, '{{\"updated\": {many}}}', 'trace')"
    )


def test_live_settlements_reach_the_catalogue_with_the_metadata_of_a_run(
    desk: Desk, installed: Installation
) -> None:
    put_customers(installed.products["bc"], range(1, 7))

    async def story() -> None:
        async with opened(installed) as engine:
            await live(engine)
            await desk.tell_all(engine.database)

    run_async(story())

    (client,) = desk.recorder.told(CLIENT)
    (copy,) = desk.recorder.told(COPY)
    assert (client["items"], client["created"], client["dead"]) == (6, 6, 0)
    assert (copy["items"], copy["created"], copy["filtered"]) == (6, 4, 2)
    assert client["flow_version"] == 1
    assert client["records"].endswith("/flows/customers_to_clients/records?target=client")
    traces = installed.sql("SELECT DISTINCT unnest(trace_ids) FROM sync_events")
    assert client["trace_id"] in {trace for (trace,) in traces}
    assert [column.name for column in client["dagster/column_schema"].columns] == ["number", "name", "email"]
    assert rows(installed) == 0
    assert desk.recorder.instance.get_latest_materialization_event(dg.AssetKey(CLIENT.split("/"))) is not None


def test_work_that_changed_nothing_leaves_no_report(desk: Desk, installed: Installation) -> None:
    put_customers(installed.products["bc"], range(1, 4))

    async def story() -> None:
        async with opened(installed) as engine:
            await live(engine)
            await desk.tell_all(engine.database)
            await engine.database.rows("reports_told", reports=[])
            installed.sql(
                "INSERT INTO work_items (flow, target, scope, record, target_system, target_entity, lane, trace_ids) "
                "SELECT flow, target, scope, record, 'crm', 'accounts', 0, ARRAY['again'] FROM links "
                "WHERE target = 'client'"
            )
            await live(engine)

    run_async(story())

    assert installed.sql("SELECT count(*) FROM sync_events WHERE outcome = 'no_change'") == [(3,)]
    assert rows(installed) == 0


def test_a_run_tells_of_itself_and_leaves_no_report(
    installed: Installation, instance: dg.DagsterInstance
) -> None:
    put_customers(installed.products["bc"], range(1, 4))

    assert materialize(installed.definitions(), instance, CLIENT).success

    assert rows(installed) == 0


def test_a_busy_asset_is_told_of_at_once_then_once_a_minute_with_the_sums(
    desk: Desk, installed: Installation
) -> None:
    async def story() -> None:
        async with installed.database() as database:
            for _ in range(240):  # two minutes of a change every half second
                note(installed)
                await desk.reporter.tell_due(database)
                desk.clock.advance(0.5)
            desk.clock.advance(60)
            await desk.tell_all(database)

    run_async(story())

    told = desk.recorder.told(CLIENT)
    assert [each["updated"] for each in told[:1]] == [1]
    assert len(told) in {3, 4}
    assert sum(each["updated"] for each in told) == 240
    times = [at for at, event in desk.recorder.sent if isinstance(event, dg.AssetMaterialization)]
    assert min(later - sooner for sooner, later in itertools.pairwise(times)) >= 60


def test_no_more_than_five_events_a_second_leave_whatever_they_are_about(
    desk: Desk, installed: Installation
) -> None:
    async def story() -> None:
        async with installed.database() as database:
            for target in ("client", "copy"):
                note(installed, target)
            await desk.tell_all(database)

    run_async(story())

    times = [at for at, _ in desk.recorder.sent]
    assert len(times) > 4  # two assets, and the checks that were never shown
    assert min(later - sooner for sooner, later in itertools.pairwise(times)) >= PACE - 1e-9


def test_columns_are_sent_once_for_each_version_of_the_flow(desk: Desk, installed: Installation) -> None:
    put_customers(installed.products["bc"], range(1, 3))

    async def story() -> None:
        async with opened(installed) as engine:
            await live(engine)
            await desk.tell_all(engine.database)
        async with installed.database() as database:
            for _ in range(2):
                desk.clock.advance(61)
                note(installed)
                await desk.tell_all(database)
                # A new process looks at what Dagster shows already.
                desk.reporter = desk.another()

    run_async(story())

    first, second, third = desk.recorder.told(CLIENT)
    assert "dagster/column_schema" in first
    assert "dagster/column_lineage" in first
    for later in (second, third):
        assert "dagster/column_schema" not in later

    installed.apply(CUSTOMERS.replace("name: name\n", "name: number\n"))

    async def after_the_change() -> None:
        async with installed.database() as database:
            desk.clock.advance(61)
            note(installed)
            installed.sql(
                "INSERT INTO report_due (flow, target, flow_version, counts, trace_id) "
                "VALUES ('customers_to_clients', 'client', 2, '{\"updated\": 1}', 't')"
            )
            await desk.tell_all(database)

    run_async(after_the_change())
    last = desk.recorder.told(CLIENT)[-1]
    assert (last["flow_version"], last["updated"]) == (2, 2)
    assert "dagster/column_schema" in last


def test_a_crash_between_the_event_and_its_rows_tells_again_and_loses_nothing(
    desk: Desk, installed: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(installed, many=3)

    async def dies(*_: Any) -> None:
        raise asyncio.CancelledError

    async def story() -> None:
        async with installed.database() as database:
            with monkeypatch.context() as patch:
                patch.setattr(reports, "told", dies)
                with pytest.raises(asyncio.CancelledError):
                    await desk.reporter.tell_due(database)
            assert rows(installed) == 1
            desk.reporter = desk.another()
            await desk.tell_all(database)

    run_async(story())

    assert [each["updated"] for each in desk.recorder.told(CLIENT)] == [3, 3]
    assert rows(installed) == 0


def test_what_is_settled_while_an_event_is_sent_is_told_by_the_next_one(
    desk: Desk, installed: Installation
) -> None:
    note(installed)
    report = desk.recorder.report_runless_asset_event

    def meanwhile(event: Any) -> None:
        if isinstance(event, dg.AssetMaterialization) and not desk.recorder.sent:
            note(installed, many=5)
        report(event)

    desk.recorder.report_runless_asset_event = meanwhile  # type: ignore[method-assign]

    async def story() -> None:
        async with installed.database() as database:
            await desk.tell_all(database)
            assert rows(installed) == 1
            desk.clock.advance(61)
            await desk.tell_all(database)

    run_async(story())

    assert [each["updated"] for each in desk.recorder.told(CLIENT)] == [1, 5]


def test_dagsters_database_may_be_down_it_is_said_once_and_nothing_is_lost(
    desk: Desk, installed: Installation
) -> None:
    note(installed)
    desk.recorder.fail = sa.exc.OperationalError("", {}, Exception("down"))
    desk.recorder.fails = 5

    async def story() -> None:
        async with installed.database() as database:
            await desk.tell_all(database)

    run_async(story())

    assert [each["updated"] for each in desk.recorder.told(CLIENT)] == [1]
    assert [line for line in desk.said if "does not answer" in line] == desk.said[:1]
    assert desk.said[1:] == ["Dagster's database answers again"]
    assert rows(installed) == 0


def test_an_asset_that_cannot_be_told_does_not_keep_the_others(desk: Desk, installed: Installation) -> None:
    note(installed, "client")
    note(installed, "copy")
    desk.recorder.fail = TypeError("a defect")
    desk.recorder.fails = 1

    async def story() -> None:
        async with installed.database() as database:
            await desk.tell_all(database)
            assert desk.recorder.told(CLIENT) == []
            assert len(desk.recorder.told(COPY)) == 1
            desk.clock.advance(61)
            await desk.tell_all(database)

    run_async(story())

    assert len(desk.recorder.told(CLIENT)) == 1
    assert "defect of the platform" in desk.said[0]


def test_a_flow_that_dagster_does_not_show_is_named_and_its_rows_go(
    desk: Desk, installed: Installation
) -> None:
    note(installed, flow="long_gone")

    async def story() -> None:
        async with installed.database() as database:
            await desk.tell_all(database)

    run_async(story())

    assert desk.said == ["Dagster has no asset for long_gone.client; it is not told there"]
    assert rows(installed) == 0


def test_a_flow_applied_while_the_reporter_runs_is_told_of_without_a_restart(
    desk: Desk, installed: Installation
) -> None:
    async def story() -> None:
        async with installed.database() as database:
            note(installed)
            await desk.tell_all(database)

    run_async(story())
    installed.apply(CUSTOMERS.replace("customers_to_clients", "another_one"))
    note(installed, flow="another_one")
    run_async(story())

    assert len(desk.recorder.told("crm/accounts/another_one__client")) == 1


def test_changes_found_in_a_source_are_told_under_its_own_asset(desk: Desk, installed: Installation) -> None:
    put_customers(installed.products["bc"], range(1, 3))

    async def story() -> None:
        async with opened(installed) as engine:
            await pull_entity(engine, "bc", "salesCustomers")
            for _ in range(2):
                async with engine.database.begin() as connection:
                    await reports.note_entity(
                        connection,
                        system="bc",
                        entity="salesCustomers",
                        counts={"changed": 2, "deleted": 0},
                        trace_id="t",
                    )
            await desk.tell_all(engine.database)

    run_async(story())

    (told,) = desk.recorder.told(SOURCE)
    assert (told["changed"], told["deleted"], told["trace_id"]) == (4, 0, "t")
    assert "number" in {column.name for column in told["dagster/column_schema"].columns}


def test_a_pull_of_the_live_lane_leaves_a_report_of_its_entity_and_one_that_found_nothing_none(
    desk: Desk, installed: Installation
) -> None:
    put_customers(installed.products["bc"], range(1, 4))

    async def story() -> None:
        async with opened(installed) as engine:
            for _ in range(2):
                await pull_entity(engine, "bc", "salesCustomers", lane=Lane.POLLING)
            assert rows(installed) == 1
            await desk.tell_all(engine.database)

    run_async(story())

    assert [told["changed"] for told in desk.recorder.told(SOURCE)] == [3]


def test_many_rows_are_summed_where_they_lie_and_no_count_is_lost(installed: Installation) -> None:
    installed.sql(
        "INSERT INTO report_due (flow, target, flow_version, counts, trace_id) "
        "SELECT 'f' || mod(i, 3), 't', 1 + mod(i, 2), jsonb_build_object('updated', 2, 'created', mod(i, 2)), 't' || i "
        "FROM generate_series(1, 25000) i"
    )

    async def story() -> list[reports.DueReport]:
        async with installed.database() as database:
            return await reports.due_reports(database)

    found = run_async(story())

    assert {each.flow: each.counts["updated"] for each in found} == {"f0": 16666, "f1": 16668, "f2": 16666}
    assert sum(each.counts["created"] for each in found) == 12500
    assert {each.flow_version for each in found} == {2}
    assert sum(len(each.reports) for each in found) < 1000


async def _until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not look():  # noqa: ASYNC110 - what is looked at lies in another connection
            await asyncio.sleep(0.01)


def test_one_reporter_works_the_second_stands_by_and_takes_over(
    installed: Installation, instance: dg.DagsterInstance
) -> None:
    recorder = Recorder(instance, ManualClock())

    def reporter() -> Reporter:
        return Reporter(installed, lambda: recorder, clock=SystemClock(), say=lambda _: None)  # type: ignore[arg-type, return-value]

    async def story() -> None:
        first, second = reporter(), reporter()
        working = asyncio.create_task(first.run())
        await _until(lambda: first.state == "working")
        standing = asyncio.create_task(second.run())
        await _until(lambda: second.state == "stand-by")
        note(installed)
        await _until(lambda: rows(installed) == 0)
        assert (first.events > 0, second.events) == (True, 0)
        working.cancel()
        await _until(lambda: second.state == "working")
        standing.cancel()
        await asyncio.gather(working, standing, return_exceptions=True)

    run_async(story())

    assert installed.sql("SELECT count(*) FROM workers") == [(0,)]


def cut(databases: Databases, url: str) -> None:
    """End every connection to this database, as a restart of the server would."""
    databases._admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
        [sa.make_url(url).database],
    )


def test_the_reporter_goes_on_after_its_connections_were_cut(
    installed: Installation, instance: dg.DagsterInstance, databases: Databases
) -> None:
    recorder = Recorder(instance, ManualClock())
    said: list[str] = []
    urls = installed.urls

    class Steady(Installation):
        """Its server never moves to another port."""

        @property
        def urls(self) -> Any:  # type: ignore[override]
            return urls

    steady = Steady.__new__(Steady)
    steady.__dict__.update({name: value for name, value in installed.__dict__.items() if name != "urls"})

    async def story() -> None:
        reporter = Reporter(steady, lambda: recorder, clock=SystemClock(), say=said.append)  # type: ignore[arg-type, return-value]
        working = asyncio.create_task(reporter.run())
        await _until(lambda: reporter.state == "working")
        cut(databases, urls.app)
        note(installed)
        await _until(lambda: rows(installed) == 0)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    run_async(story())

    assert len(recorder.told(CLIENT)) == 1


async def test_the_lock_is_one_processs_and_is_given_back(fresh_database: Any) -> None:
    first = await ReporterLock.connect(fresh_database.app)
    second = await ReporterLock.connect(fresh_database.app)
    assert await first.take()
    assert not await second.take()
    await first.close()
    async with asyncio.timeout(10):
        while not await second.take():  # noqa: ASYNC110 - PostgreSQL gives the lock back in its own time
            await asyncio.sleep(0.01)
    await second.close()


async def test_a_lock_whose_connection_is_gone_says_so(fresh_database: Any, databases: Databases) -> None:
    lock = await ReporterLock.connect(fresh_database.app)
    cut(databases, fresh_database.app)
    with pytest.raises(DatabaseUnavailableError):
        await lock.check()
