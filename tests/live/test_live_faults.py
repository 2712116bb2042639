"""The live lane under faults drawn by seed: workers of all lanes at once, deliveries doubled, shuffled and dropped, answers
lost, systems busy, workers cut off in the middle. Then quiet: nothing lost, doubled, out of order or left over.

A failing seed is replayed with `pytest tests/live/test_live_faults.py -k "[17]"`.
"""

import asyncio
import contextlib
import gc
import os
import random
from collections import defaultdict
from decimal import Decimal

import pytest

from ipaas_assets.sync.model import Lane
from ipaas_assets.sync.run import pull_entity
from ipaas_resources.store.database import Database
from sensors.live.draining import Draining
from sensors.live.feeds import Deliveries, Polls, Subscriptions
from sensors.live.opened import Opened
from sensors.live.pool import Pool
from sensors.live.worker import LiveWorker, WorkerOptions
from tests.live.rig import eventually
from tests.sync.hinting import LAB_FLOW, client, hooks
from tests.sync.product import Faults, Product
from tests.sync.rig import flow, rig

CHILDREN = (
    flow()
    + """
  child:
    system: crm
    entity: customers
    key: {number: {template: "X{number}"}}
    fields:
      name: name
      parent: {ref: people.copy, of: id}
"""
)
SEEDS = int(os.environ.get("IPAAS_TEST_SEEDS", "5"))
RECORDS = 8
FLOW = LAB_FLOW.replace("{webhook: true}", "{webhook: true, poll: {min: 1s, max: 2s}}")
LEFT = """
SELECT (SELECT count(*) FROM inbox WHERE state = 'due') + (SELECT count(*) FROM hints WHERE state = 'due')
     + (SELECT count(*) FROM work_items) + (SELECT count(*) FROM intents WHERE state = 'open')
"""
STUCK = (
    "SELECT state, count(*) FROM inbox GROUP BY 1",
    "SELECT record, state, attempts, (due_at - now())::text, (lease_until - now())::text, error FROM hints",
    "SELECT record, state, lane, attempts, (due_at - now())::text, (lease_until - now())::text, error FROM work_items",
    "SELECT intent, state, (lease_until - now())::text FROM intents WHERE state = 'open'",
    "SELECT scope, (poll_due_at - now())::text, (lease_until - now())::text, last_error, poll_reason FROM entity_state",
    "SELECT worker, (now() - beat_at)::text, details::text FROM workers",
)
GIVEN_UP = """
SELECT record, outcome, error_code, error, target_id FROM sync_events WHERE outcome IN ('dead', 'review')
"""


class Slow(Product):
    """Calls take their time, before and after what they do: whoever is cut off may leave an effect behind."""

    def __init__(self, rng, **options):
        super().__init__(**options)
        self._rng = rng

    async def _pass(self):
        await asyncio.sleep(self._rng.choice([0, 0.001, 0.01]))

    async def read(self, entity, scope, ids):
        await self._pass()
        found = await super().read(entity, scope, ids)
        await self._pass()
        return found

    async def find(self, entity, scope, fields, values):
        found = await super().find(entity, scope, fields, values)
        await self._pass()
        return found

    async def write(self, entity, scope, operations):
        await self._pass()
        results = await super().write(entity, scope, operations)
        await self._pass()
        return results


class Crew:
    """Workers that come and go, each with connections of its own as a process has them."""

    def __init__(self, world):
        self._world = world
        self._names = iter(range(10**6))
        self._running = []

    def start(self, lane, feeds=()):
        database = Database(self._world.app_url)

        def open_engine():
            engine = self._world.new_engine()
            engine.database = database
            return engine

        worker = LiveWorker(
            database,
            self._world.app_url,
            open_engine,
            WorkerOptions(lane=lane),
            worker=f"{lane.name} {next(self._names)}",
            feeds=[feed() for feed in feeds],
        )
        stop = asyncio.Event()
        task = asyncio.create_task(worker.run(stop))
        self._running.append((lane, feeds, database, worker, stop, task))

    async def replace_one(self, rng):
        """Everything that one of them does ends where it is; another one takes its place."""
        lane, feeds, database, worker, _, task = self._running.pop(rng.randrange(len(self._running)))
        for pool in (worker._drains, worker._feeding):
            for each in list(pool._tasks):
                each.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await database.close()
        # A connection that was just being handed out goes with its process; here it goes with the garbage.
        gc.collect()
        self.start(lane, feeds)

    async def end(self):
        for *_, stop, _ in self._running:
            stop.set()
        for _, _, database, _, _, task in self._running:
            await task
            await database.close()
        gc.collect()


@contextlib.asynccontextmanager
async def crew_of(world):
    """Two workers for deliveries, one each for polls and for what has time."""
    crew = Crew(world)
    for lane, feeds in (
        (Lane.REALTIME, (Deliveries,)),
        (Lane.REALTIME, (Deliveries,)),
        (Lane.POLLING, (Polls,)),
        (Lane.BATCH, ()),
    ):
        crew.start(lane, feeds)
    try:
        yield crew
    finally:
        await crew.end()


class Clients:
    """The source as people change it, and what it tells of that."""

    def __init__(self, sent, rng, *, deletes):
        self._sent, self._rng, self._deletes = sent, rng, deletes
        self.there = {}
        self._version = 0
        self._held = []
        self.received = 0

    def change(self):
        """One client is made, changed or deleted; none, one or two deliveries will tell of it."""
        self._version += 1
        number = str(self._rng.randrange(RECORDS))
        if number in self.there and self._rng.random() < self._deletes:
            self._sent.source.drop(number)
            del self.there[number]
            # No poll for changes sees that a record is gone, so word of that is never lost.
            copies = self._rng.choice([1, 1, 2])
        else:
            self.there[number] = {
                "number": f"C{number}",
                "name": f"v{self._version}",
                "balance": Decimal(self._version),
            }
            self._sent.source.put(number, **self.there[number])
            copies = self._rng.choice([0, 1, 1, 2])
        self._held += [client(number)] * copies

    def deliver(self):
        """What was held back arrives, in any order."""
        self._rng.shuffle(self._held)
        self._sent.deliver(*self._held)
        self.received += len(self._held)
        self._held = []
        self._sent.rig.sql("NOTIFY ipaas_inbox")


def hurry(world):
    """The moment of whatever waits for another attempt has come. Rows that a worker holds locked are left: this loop is its."""
    for table, waits in (
        ("work_items", "due_at > now() AND lease_token IS NULL"),
        ("hints", "due_at > now() AND lease_token IS NULL AND state = 'due'"),
    ):
        world.sql(
            f"UPDATE {table} SET due_at = now() WHERE ctid IN"
            f" (SELECT ctid FROM {table} WHERE {waits} FOR UPDATE SKIP LOCKED)"
        )


@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up")  # see Crew.replace_one
@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_whatever_strikes_the_live_lane_it_comes_to_the_same_end(fresh_database, seed):
    rng = random.Random(seed)
    create = rng.choice(["natural_key", "client_key"])
    source = Slow(
        rng, page=3, find=rng.choice([1, 3, 20]), seed=seed, faults=Faults(busy=rng.choice([0, 0.2]))
    )
    target = Slow(
        rng,
        create=create,
        seed=seed,
        batch=rng.choice([1, 3]),
        faults=Faults(
            lost_answer=rng.choice([0, 0.2]),
            lost_request=rng.choice([0, 0.2]),
            busy=rng.choice([0, 0.2]),
            lag_calls=rng.choice([0, 2]) if create == "client_key" else 0,
        ),
    )
    async with hooks(
        fresh_database,
        source=source,
        target=target,
        flow=FLOW,
        seed=seed,
        batch=rng.choice([2, 5]),
        lease=1.0,
        max_attempts=100,
        delete_always=RECORDS,
    ) as sent:
        # A record that is deleted while a create of it has no answer goes to a person, where no id of ours tells its fate.
        world, clients = sent.rig, Clients(sent, rng, deletes=0.15 if create == "client_key" else 0)
        async with crew_of(world) as crew:
            for _ in range(25):
                for _ in range(rng.randrange(4)):
                    clients.change()
                if rng.random() < 0.7:
                    clients.deliver()
                if rng.random() < 0.15:
                    await crew.replace_one(rng)
                if rng.random() < 0.3:
                    hurry(world)
                await asyncio.sleep(rng.choice([0, 0.01, 0.04]))
            clients.deliver()
            target.faults, source.faults = Faults(), Faults()
            try:
                await eventually(lambda: is_quiet(sent, clients) or world.sql(GIVEN_UP), "quiet")
            except AssertionError:
                pytest.fail(
                    f"left: {[world.sql(each) for each in STUCK]}; mirror {sent.mirror()}; {clients.there}"
                )
            assert world.sql(GIVEN_UP) == []
        there = sorted((each["number"], each["name"], each["balance"]) for each in target.records.values())
        assert there == sorted(tuple(each.values()) for each in clients.there.values())
        assert_never_back(target)
        assert sent.inbox() == {"done": clients.received}
        assert world.sql(GIVEN_UP) == []


def is_quiet(sent, clients):
    """Whether nothing is left to do; what waits for its moment need not wait longer."""
    hurry(sent.rig)
    sent.rig.sql(
        "UPDATE entity_state SET poll_due_at = now() WHERE ctid IN"
        " (SELECT ctid FROM entity_state WHERE lease_until IS NULL FOR UPDATE SKIP LOCKED)"
    )
    known = {record: name for record, name in sent.mirror().items() if name is not None}
    wanted = {record: each["name"] for record, each in clients.there.items()}
    return known == wanted and sent.rig.sql(LEFT) == [(0,)]


def assert_never_back(target):
    """Per record of the target the versions written never go back."""
    last = defaultdict(int)
    for effect in target.ledger:
        if "name" in effect.fields:
            version = int(effect.fields["name"].removeprefix("v"))
            assert version >= last[effect.id], f"{effect.id} went back from {last[effect.id]} to {version}"
            last[effect.id] = version


# --- what a look at the code found ------------------------------------------------------------------------------


async def test_what_was_opened_before_the_registry_changed_claims_nothing_any_more(fresh_database):
    """Its connections are closed: what it claimed would be held for the lease, and not worked on."""
    async with rig(fresh_database) as world:
        await world.apply(flow())
        world.products["erp"].put("r1", number="C1", name="Name", balance=Decimal(1))
        await pull_entity(await world.open(), "erp", "customers", lane=Lane.REALTIME)
        opened = await Opened.open(world.new_engine(), Lane.REALTIME, on_ready=lambda: None)
        (work,) = await opened.targets.due((), ())
        await opened.retire()
        draining = Draining(Lane.REALTIME, may_go_on=lambda *_: True, on_made=lambda: None)
        await draining.drain(opened, work)
        assert world.sql("SELECT attempts, lease_token FROM work_items") == [(0, None)]


async def test_a_look_that_finds_no_room_waits_before_it_looks_again(fresh_database):
    """A round over the subscriptions that could not start asked for the next look in the past: a whole core for nothing."""
    async with rig(fresh_database) as world:
        opened = await Opened.open(world.new_engine(), Lane.POLLING, on_ready=lambda: None)
        pool = Pool(lambda: None)
        pool.most = 0
        assert await Subscriptions(None).look(opened, pool) > 0
        await opened.retire()


async def test_a_worker_that_never_reached_its_database_ends_when_it_is_told_to(fresh_database):
    async with rig(fresh_database) as world:
        nowhere = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
        database = Database(nowhere)
        worker = LiveWorker(
            database, nowhere, world.new_engine, WorkerOptions(lane=Lane.REALTIME), worker="one", feeds=[]
        )
        stop = asyncio.Event()
        task = asyncio.create_task(worker.run(stop))
        await eventually(lambda: worker._silent_since is not None, "the outage")
        stop.set()
        await asyncio.wait_for(task, 20)
        await database.close()


async def test_a_target_whose_records_wait_for_their_parents_is_not_due(fresh_database):
    """Claimed in vain again and again, two of them kept a worker with one place busy without an end."""
    async with rig(fresh_database) as world:
        await world.apply(CHILDREN)
        world.products["erp"].put("r1", number="C1", name="Name", balance=Decimal(1))
        await pull_entity(await world.open(), "erp", "customers", lane=Lane.REALTIME)
        opened = await Opened.open(world.new_engine(), Lane.REALTIME, on_ready=lambda: None)
        assert [work.queue.target for work in await opened.targets.due((), ())] == ["copy"]
        world.sql("DELETE FROM work_items WHERE target = 'copy'")
        assert [work.queue.target for work in await opened.targets.due((), ())] == ["child"]
        await opened.retire()


async def test_reading_begins_before_the_whole_inbox_is_split(fresh_database):
    async with hooks(fresh_database) as sent:
        sent.tell(*range(1200))
        opened = await Opened.open(sent.rig.new_engine(), Lane.REALTIME, on_ready=lambda: None)
        pool = Pool(lambda: None)
        assert await Deliveries().look(opened, pool) == 0.0
        assert len(pool) == 1
        assert sent.inbox()["due"] == 700
        await pool.finish(within=20)
        await opened.retire()


async def test_a_defect_is_told_without_what_it_says_of_the_record(fresh_database, caplog):
    async def broken():
        raise ValueError("Anna Secret")

    pool = Pool(lambda: None)
    pool.start("a", broken)
    await pool.finish(within=20)
    await eventually(lambda: "ValueError" in caplog.text, "the line")
    assert "Anna" not in caplog.text.replace('raise ValueError("Anna Secret")', "")
