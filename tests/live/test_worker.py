"""The live worker: told of work, it does it; whatever ends it, another one goes on."""

import asyncio
from collections import Counter
from decimal import Decimal

import psycopg
from sqlalchemy.engine import make_url

from ipaas_assets.sync.model import Lane
from ipaas_assets.sync.run import pull_entity
from ipaas_resources.core.errors import DatabaseUnavailableError, SystemBusyError
from ipaas_resources.store import registry, workers
from sensors.live.pool import Pool
from tests.live.rig import eventually, live
from tests.sync.product import Faults, Product
from tests.sync.rig import flow, rig


def put(product, number, name="Name"):
    product.put(f"r{number}", "", number=f"C{number}", name=name, balance=Decimal(1), email="x@y")


async def raise_work(world, lane=Lane.REALTIME):
    """What a page of changes does."""
    await pull_entity(await world.open(), "erp", "customers", lane=lane)


async def settled(world, many):
    await eventually(
        lambda: len(world.products["crm"].records) == many and not world.items(),
        f"{many} records in the target",
    )


def end_all_sessions(url):
    """What a restart of PostgreSQL is to those that are connected."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
        )


def hurry(world):
    """The moment of everything that waits for another attempt has come."""
    world.sql(
        "UPDATE work_items SET due_at = now() WHERE due_at > now() AND lease_token IS NULL AND state = 'due'"
    )


async def test_work_that_is_raised_is_written_by_the_worker_of_its_lane(fresh_database):
    async with rig(fresh_database) as world:
        await world.apply(flow())
        async with live(world, Lane.REALTIME):
            for number in range(7):
                put(world.products["erp"], number)
            await raise_work(world)
            await settled(world, 7)
        assert world.events() == {"created": 7}


async def test_a_worker_leaves_the_work_of_other_lanes_alone(fresh_database):
    async with rig(fresh_database) as world:
        await world.apply(flow())
        put(world.products["erp"], 1)
        await raise_work(world, Lane.BATCH)
        async with live(world, Lane.REALTIME) as running:
            put(world.products["erp"], 2)
            await raise_work(world, Lane.REALTIME)
            await eventually(lambda: running.worker.draining.records == 1)
        assert [item[2] for item in world.items()] == ["r1"]
        async with live(world, Lane.BATCH):
            await settled(world, 2)


async def test_several_workers_share_the_work_and_nothing_is_doubled(fresh_database):
    async with rig(fresh_database, target=Product(batch=1)) as world:
        await world.apply(flow())
        async with live(world, name="one"), live(world, name="two"), live(world, name="three"):
            for step in range(5):
                for number in range(step, 20):
                    put(world.products["erp"], number, f"Name {step}")
                await raise_work(world)
            await settled(world, 20)
        made = Counter(
            effect.fields["number"] for effect in world.products["crm"].ledger if effect.kind == "create"
        )
        assert set(made.values()) == {1}
        assert len(made) == 20


async def test_the_shares_of_all_workers_of_a_lane_are_its_limit(fresh_database):
    async with rig(fresh_database) as world:
        await world.apply(flow())
        async with (
            live(world, name="one", concurrency=3) as one,
            live(world, name="two", concurrency=3) as two,
        ):
            # Each learns of the other with its next sign of life.
            await eventually(lambda: one.worker._drains.most + two.worker._drains.most == 3)
            async with live(world, Lane.POLLING, name="other", concurrency=5) as other:
                await eventually(lambda: other.worker._drains.most == 5)
        assert await workers.alive(world.database) == []


async def test_a_new_version_of_a_flow_is_taken_up_without_a_restart(fresh_database):
    async with rig(fresh_database) as world:
        await world.apply(flow())
        async with live(world):
            put(world.products["erp"], 1)
            await raise_work(world)
            await settled(world, 1)
            await world.apply(flow().replace("name: name", 'name: {template: "Lab {name}"}'), remap="none")
            put(world.products["erp"], 2)
            await raise_work(world)
            await settled(world, 2)
        assert sorted(each["name"] for each in world.products["crm"].records.values()) == ["Lab Name", "Name"]


async def test_a_disabled_flow_and_one_for_dagster_are_left_alone(fresh_database):
    async with rig(fresh_database) as world:
        await world.apply(flow().replace("targets:", "mode: run\ntargets:"))
        put(world.products["erp"], 1)
        await raise_work(world)
        async with live(world):
            await world.apply(flow())
            await settled(world, 1)
            await registry.set_enabled(world.database, "people", enabled=False)
            put(world.products["erp"], 2)
            await raise_work(world)
            await registry.set_enabled(world.database, "people", enabled=True)
            await settled(world, 2)


async def test_a_system_that_does_not_answer_at_the_start_holds_up_its_own_flow_alone(fresh_database):
    class Silent(Product):
        silent = True

        async def schema(self, entity):
            if self.silent:
                raise SystemBusyError("crm2 does not answer.")
            return await super().schema(entity)

    async with rig(fresh_database) as world:
        world.products["crm2"] = silent = Silent()
        await registry.save_systems(
            world.database,
            [
                registry.StoredSystem(
                    system="crm2",
                    connector="product",
                    document={"system": "crm2", "connector": "product"},
                    text="",
                    paused=False,
                )
            ],
        )
        await world.apply(flow())
        await world.apply(flow().replace("people", "others").replace("system: crm", "system: crm2"))
        put(world.products["erp"], 1)
        await raise_work(world)
        async with live(world):
            await eventually(lambda: len(world.items()) == 1, "the flow that need not wait")
            assert len(world.products["crm"].records) == 1
            assert silent.records == {}
            silent.silent = False
            await eventually(lambda: len(silent.records) == 1, "the flow that had to wait")


async def test_lost_answers_and_busy_systems_lose_and_double_nothing(fresh_database):
    target = Product(create="client_key", faults=Faults(lost_answer=0.2, lost_request=0.2, busy=0.2), seed=4)
    async with rig(fresh_database, target=target, max_attempts=50, lease=5.0) as world:
        await world.apply(flow())
        async with live(world, name="one"), live(world, name="two"):
            for step in range(3):
                for number in range(10):
                    put(world.products["erp"], number, f"Name {step}")
                await raise_work(world)
            target.faults = Faults()

            def done():
                hurry(world)
                return not world.items()

            await eventually(done, "an empty queue")
        assert sorted(each["name"] for each in target.records.values()) == ["Name 2"] * 10


async def test_a_worker_that_is_told_to_end_settles_what_it_has_begun(fresh_database):
    class Slow(Product):
        def __init__(self):
            super().__init__()
            self.reached, self.go_on = asyncio.Event(), asyncio.Event()

        async def write(self, entity, scope, operations):
            self.reached.set()
            await self.go_on.wait()
            return await super().write(entity, scope, operations)

    target = Slow()
    async with rig(fresh_database, target=target) as world:
        await world.apply(flow())
        put(world.products["erp"], 1)
        await raise_work(world)
        async with live(world) as running:
            await asyncio.wait_for(target.reached.wait(), 20)
            running.stop.set()
            assert not running.task.done()
            target.go_on.set()
            await running.task
        assert world.items() == []
        assert world.sql("SELECT state FROM intents") == [("settled",)]


async def test_a_restart_of_the_database_costs_a_moment_and_no_record(fresh_database):
    """Every connection is ended, again and again, while work goes on."""
    # A claim whose answer was lost lapses with its lease.
    async with rig(fresh_database, target=Product(batch=1), lease=3.0) as world:
        await world.apply(flow())
        async with live(world):
            for step in range(6):
                for number in range(10):
                    put(world.products["erp"], number, f"Name {step}")
                while True:
                    try:
                        await raise_work(world)
                        break
                    except DatabaseUnavailableError:
                        continue  # the test's own sessions were ended as well
                end_all_sessions(world.app_url)

            def done():
                hurry(world)
                return not world.items()

            await eventually(done, "an empty queue")
        made = world.products["crm"].records.values()
        assert sorted(each["name"] for each in made) == ["Name 5"] * 10


async def test_a_pool_tells_of_room_only_when_somebody_waits_for_it():
    told, gates = [], [asyncio.Event() for _ in range(3)]
    pool = Pool(lambda: told.append("room"))
    pool.most = 2
    assert pool.start("a", gates[0].wait)
    assert not pool.start("a", gates[1].wait), "one of a kind"
    assert not pool.crowded
    assert pool.start("b", gates[1].wait)
    assert not pool.start("c", gates[2].wait), "two in all"
    assert pool.crowded
    gates[1].set()
    await eventually(lambda: told == ["room"])
    assert not pool.crowded
    gates[0].set()
    await pool.finish(within=5)
    assert told == ["room", "room"]
    assert len(pool) == 0


async def test_a_flow_waits_for_its_window_and_the_others_do_not(fresh_database):
    weekdays = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    async with rig(fresh_database) as world:
        (day,) = world.sql("SELECT extract(isodow FROM now() AT TIME ZONE 'UTC')::int")[0]
        # Not today, and not tomorrow either: the test may run over midnight.
        closed = f'window: {{days: {weekdays[(day + 2) % 7]}, from: "09:00", to: "17:00", tz: UTC}}\ntargets:'
        await world.apply(flow())
        await world.apply(flow().replace("people", "held").replace("targets:", closed))
        for number in range(3):
            put(world.products["erp"], number)
        await raise_work(world)
        async with live(world):
            await eventually(lambda: len(world.items()) == 3, "the flow without a window")
            assert world.sql("SELECT DISTINCT flow FROM work_items") == [("held",)]
            await world.apply(flow().replace("people", "held"), remap="none")
            await eventually(lambda: not world.items(), "the flow whose window is open now")
