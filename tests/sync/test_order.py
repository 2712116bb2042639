"""Order: the lane of an item, the versions of one record, and records that wait for others."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from decimal import Decimal

import msgspec
import psycopg
import pytest

from ipaas_assets.sync.drain import Drain
from ipaas_assets.sync.model import Lane
from ipaas_assets.sync.run import pull_entity, run_flow
from ipaas_resources.core.errors import LeaseLostError
from tests.sync.product import Faults, Product
from tests.sync.rig import flow, rig
from tests.sync.test_engine import NEEDS, TWO, fill

# --- lanes ------------------------------------------------------------------------------------------------------


def lanes(world):
    return dict(world.sql("SELECT record, lane FROM work_items"))


@pytest.mark.parametrize(
    ("highest", "event", "lane"),
    [
        ("realtime", Lane.REALTIME, 0),
        ("realtime", Lane.BATCH, 2),
        ("polling", Lane.REALTIME, 1),
        ("batch", Lane.REALTIME, 2),
        ("batch", Lane.POLLING, 2),
    ],
)
async def test_what_raised_an_item_decides_its_lane_up_to_the_highest_of_its_flow(
    fresh_database, highest, event, lane
):
    async with rig(fresh_database) as world:
        fill(world.products["erp"], 2)
        await world.apply(f"lane: {highest}\n{flow()}")
        await world.run(targets=[], lane=event)
        assert lanes(world) == {"r0": lane, "r1": lane}


@pytest.mark.parametrize(("highest", "lifted"), [("realtime", 0), ("polling", 1), ("batch", 2)])
async def test_a_more_urgent_event_lifts_a_waiting_item_and_a_less_urgent_one_leaves_it(
    fresh_database, highest, lifted
):
    async with rig(fresh_database) as world:
        erp = world.products["erp"]
        fill(erp, 2)
        await world.apply(f"lane: {highest}\n{flow()}")
        await world.run(targets=[], lane=Lane.BATCH)
        erp.put("r1", name="urgent")
        await world.run(targets=[], lane=Lane.REALTIME)
        assert lanes(world) == {"r0": 2, "r1": lifted}
        erp.put("r1", name="later")
        await world.run(targets=[], lane=Lane.BATCH)
        assert lanes(world) == {"r0": 2, "r1": lifted}


async def test_a_deleted_record_takes_the_lane_of_what_told_of_it_up_to_the_highest_of_its_flow(
    fresh_database,
):
    async with rig(fresh_database) as world:
        erp = world.products["erp"]
        fill(erp, 1)
        await world.apply(f"lane: polling\n{flow()}")
        await world.run()
        erp.drop("r0")
        await world.run(mode="full", targets=[], lane=Lane.REALTIME)
        assert lanes(world) == {"r0": 1}


async def test_a_dead_letter_that_a_change_revives_takes_the_lane_of_the_change(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 1)
        await world.apply(flow())
        crm.faults = Faults(refused=1.0)
        await world.run(lane=Lane.REALTIME)
        assert [item[3] for item in world.items()] == ["dead"]
        erp.put("r0", name="mended")
        await world.run(targets=[], lane=Lane.BATCH)
        assert lanes(world) == {"r0": 2}


async def test_a_version_with_a_lower_lane_takes_the_waiting_items_with_it(fresh_database):
    async with rig(fresh_database) as world:
        fill(world.products["erp"], 2)
        await world.apply(flow())
        await world.run(targets=[], lane=Lane.REALTIME)
        await world.apply(f"lane: batch\n{flow()}", remap="none")
        await world.run(targets=[], pull=False)
        assert lanes(world) == {"r0": 2, "r1": 2}


# --- the versions of one record -----------------------------------------------------------------------------------

RECORDS = 6


class Slow(Product):
    """A product that may take its time, before and after it does what it is asked: until `going` is set."""

    def __init__(self, **options):
        super().__init__(**options)
        self.going = asyncio.Event()

    async def write(self, entity, scope, operations):
        await self._dawdle()
        results = await super().write(entity, scope, operations)
        await self._dawdle()
        return results

    async def _dawdle(self):
        if self._random.random() < 0.4:
            await self.going.wait()


async def work_off(world, lane, rng, raised, ended):
    """A live worker of one lane (or of all), with batches of its own size."""
    engine = await world.open()
    (work,) = await engine.works(engine.flow("people"))
    options = msgspec.structs.replace(engine.options, batch=rng.randint(1, RECORDS))
    drain = Drain(
        engine.database,
        clock=engine.clock,
        ids=engine.ids,
        options=options,
        sides=engine.sides(),
        run=None,
        trace_id=engine.ids.trace_id(),
        lane=lane,
    )
    try:
        while not ended.is_set():
            with contextlib.suppress(LeaseLostError):
                if not await drain.one_batch(work):
                    raised.clear()
                    await raised.wait()
    finally:
        await drain.first_contact.close()


async def change_things(world, rng, versions, raised):
    """Bursts of changes, through whatever lane, while writes are under way and leases run out under their holders.

    After each burst the queue runs empty: a change that was lost is not hidden by the next one.
    """
    erp, crm = world.products["erp"], world.products["crm"]
    for _ in range(6):
        crm.going.clear()
        for _ in range(4):
            for number in rng.sample(range(RECORDS), rng.randint(1, RECORDS)):
                versions[number] += 1
                erp.put(f"r{number}", number=f"C{number}", name="n", balance=Decimal(versions[number]))
            await pull_entity(world.engine, "erp", "customers", lane=rng.choice(list(Lane)))
            raised.set()
            if rng.random() < 0.5:
                await asyncio.to_thread(lapse, world)
                raised.set()
        crm.going.set()
        for _ in range(1000):
            if not world.items():
                break
            await asyncio.to_thread(lapse, world)
            raised.set()
        assert world.items() == []
        assert held(crm) == {f"C{number}": Decimal(version) for number, version in versions.items()}


def lapse(world):
    """Everything is due and every lease has run out. Called in a thread, for it waits for rows that workers have locked."""
    with contextlib.suppress(psycopg.errors.DeadlockDetected):
        world.let_time_pass()


def held(crm):
    """What the target holds, by number."""
    return {each["number"]: each["balance"] for each in crm.records.values()}


@pytest.mark.parametrize("seed", range(8))
async def test_the_versions_written_of_a_record_never_go_back_and_the_last_one_wins(fresh_database, seed):
    rng = random.Random(seed)
    faults = Faults(
        busy=rng.choice([0, 0.1]), lost_answer=rng.choice([0, 0.2]), lost_request=rng.choice([0, 0.1])
    )
    target = Slow(create="client_key", seed=seed, faults=faults)
    async with rig(fresh_database, target=target, seed=seed, max_attempts=1000) as world:
        await world.apply(flow())
        versions = defaultdict(int)
        raised, ended = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for lane in (None, None, *Lane):
                group.create_task(work_off(world, lane, random.Random(rng.random()), raised, ended))
            await change_things(world, rng, versions, raised)
            ended.set()
            raised.set()
        written = defaultdict(list)
        for effect in target.ledger:
            if "balance" in effect.fields:
                written[effect.id].append(effect.fields["balance"])
        assert len(written) == len(target.records)
        for balances in written.values():
            assert balances == sorted(balances)


async def test_a_record_in_two_writes_that_lapsed_is_looked_at_once_and_stops_no_claim(fresh_database):
    async with rig(fresh_database) as world:
        fill(world.products["erp"], 2)
        await world.apply(flow())
        await world.run()
        for number in range(2):
            world.sql(
                "INSERT INTO intents (flow, target, flow_version, lease_token, lease_until, writes) VALUES"
                " ('people', 'copy', 1, %s, now() - interval '1 minute',"
                """ '[["", "r0", "update", "made-1", "", false], ["", "r1", "update", "made-2", "", false]]')""",
                number,
            )
        result = await world.run()
        assert result.counts.outcomes == {"no_change": 2}
        assert world.products["crm"].calls.count("read") == 1
        assert world.sql("SELECT count(*) FROM intents WHERE state IN ('open', 'unknown')") == [(0,)]


# --- parents before children ----------------------------------------------------------------------------------------

FIRST = (
    NEEDS.replace("NAME", "first")
    .replace("PREFIX", "f")
    .replace("      parent: {ref: first.copy, of: parentBY}\n", "")
)


def second(by="", **options):
    """The flow whose records refer to those of `first`: in their key, so that they cannot be written without."""
    lines = "".join(f"{name}: {value}\n" for name, value in options.items())
    text = NEEDS.replace("NAME", "second").replace(
        '{template: "PREFIX-{number}"}', f"{{ref: first.copy, of: parent{by}}}"
    )
    return lines + text.replace("      parent: {ref: first.copy, of: parentBY}\n", "")


async def family(world, text=None):
    """Parents p0..p2 that only `first` may read yet, and children that wait for them."""
    erp = world.products["erp"]
    await world.apply("when: number.startswith('P')\n" + FIRST)
    await world.apply("when: number.startswith('C')\n" + (text or second()))
    for number in range(3):
        erp.put(f"c{number}", number=f"C{number}", name="child", parent=f"p{number}", balance=Decimal(0))
    await world.run("first")
    await world.run("second")


def waiting(world):
    """Per child, its state, and whether it is due."""
    return {
        record: (state, due)
        for record, state, due in world.sql(
            "SELECT record, state, due_at <= now() FROM work_items WHERE flow = 'second' AND record < 'd'"
        )
    }


def grow_old(world, hours):
    """The children have been waiting for so long."""
    world.sql(f"UPDATE work_items SET parked_since = parked_since - interval '{hours} hours', due_at = now()")


@pytest.mark.parametrize(("by", "name"), [("", "p1"), (", by: number", "P1")])
async def test_a_new_link_wakes_exactly_the_records_that_wait_for_it(fresh_database, by, name):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        await family(world, second(by))
        if by:
            for number in range(3):
                erp.put(f"c{number}", parent=f"P{number}")
            await world.run("second")
        assert waiting(world) == {f"c{n}": ("parked", False) for n in range(3)}
        before = world.sql("SELECT record, lane, generation FROM work_items WHERE flow = 'second' ORDER BY 1")
        erp.put("p1", number="P1", name="parent", balance=Decimal(0))
        await world.run("first")
        assert waiting(world) == {"c0": ("parked", False), "c1": ("parked", True), "c2": ("parked", False)}
        after = world.sql(
            "SELECT record, lane, generation FROM work_items WHERE flow = 'second' AND record < 'd' ORDER BY 1"
        )
        assert after == before
        await world.run("second", pull=False)
        (parent,) = crm.by("number", "f-P1")
        assert len(crm.by("number", parent["id"])) == 1


async def test_a_record_that_looked_before_the_link_was_there_is_woken_by_itself(fresh_database):
    """The link is made after the child was mapped and before it is stored as waiting: nobody else would wake it."""
    async with rig(fresh_database) as world:
        erp = world.products["erp"]
        await world.apply("when: number.startswith('P')\n" + FIRST)
        await world.apply("when: number.startswith('C')\n" + second())
        erp.put("p1", number="P1", name="parent", balance=Decimal(0))
        erp.put("c1", number="C1", name="child", parent="p1", balance=Decimal(0))
        await world.run("second", targets=[])
        parent_engine = world.engine
        await world.open()
        child = world.engine.flow("second").compiled.targets["copy"]
        mapped = asyncio.Event()
        linked = asyncio.Event()
        from ipaas_assets.sync import drain as drain_module

        original = drain_module.map_batch

        async def map_then_wait(*arguments):
            images = await original(*arguments)
            if arguments[1].target is child and not mapped.is_set():
                mapped.set()
                await linked.wait()
            return images

        drain_module.map_batch = map_then_wait
        try:
            run = asyncio.create_task(run_flow(world.engine, "second", pull=False))
            await mapped.wait()
            await run_flow(parent_engine, "first", pull=False)
            linked.set()
            result = await run
        finally:
            drain_module.map_batch = original
        assert result.counts.outcomes == {"parked": 1, "created": 1, "filtered": 1}
        assert waiting(world) == {}


async def test_a_wake_that_meets_a_record_being_worked_on_makes_it_due_again(fresh_database):
    async with rig(fresh_database) as world:
        await family(world)
        world.sql(
            "UPDATE work_items SET lease_token = 7, lease_until = now() + interval '1 minute' WHERE record = 'c1'"
        )
        ((before,),) = world.sql("SELECT generation FROM work_items WHERE record = 'c1'")
        world.products["erp"].put("p1", number="P1", name="parent", balance=Decimal(0))
        await world.run("first")
        ((after, token),) = world.sql("SELECT generation, lease_token FROM work_items WHERE record = 'c1'")
        assert (after, token) == (before + 1, 7)


async def test_waiting_is_told_once_and_uses_no_attempt_up(fresh_database):
    async with rig(fresh_database, max_attempts=3) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        await family(world)
        for _ in range(6):
            world.let_time_pass()
            await world.run("second", pull=False)
        assert world.sql("SELECT DISTINCT attempts FROM work_items WHERE flow = 'second'") == [(0,)]
        assert world.events()["parked"] == 3
        erp.put("p1", number="P1", name="parent", balance=Decimal(0))
        await world.run("first")
        crm.faults = Faults(busy=1.0)
        await world.run("second", pull=False)
        assert waiting(world)["c1"][0] == "due"


async def test_a_record_sleeps_for_as_long_again_as_it_has_waited_but_a_minute_at_most(fresh_database):
    async with rig(fresh_database) as world:
        await family(world)
        for waited, least, most in ((0, 1.5, 2.5), (10, 7.5, 14), (3600, 45, 75)):
            world.sql(
                f"UPDATE work_items SET parked_since = now() - interval '{waited} seconds', due_at = now()"
            )
            ((before,),) = world.sql("SELECT now()")
            await world.run("second", pull=False)
            for (due,) in world.sql("SELECT due_at FROM work_items"):
                assert least <= (due - before).total_seconds() <= most + 5


async def test_a_record_that_waits_for_too_long_goes_to_a_person_who_is_told_which_reference(fresh_database):
    async with rig(fresh_database) as world:
        await family(world)
        grow_old(world, 23)
        await world.run("second", pull=False)
        assert {state for state, _ in waiting(world).values()} == {"parked"}
        grow_old(world, 2)
        result = await world.run("second", pull=False)
        assert result.counts.outcomes == {"review": 3}
        assert (result.review, result.pending) == (3, 0)
        sentence = (
            "Field 'number' of second.copy has waited for more than 24 h for a record that first.copy has not linked; "
            "bring that record there, or correct the reference in the source."
        )
        assert result.warnings == [f"3 for review: {sentence}"]
        assert {item[5] for item in world.items()} == {"reference_missing"}


async def test_a_flow_says_how_long_its_records_wait(fresh_database):
    async with rig(fresh_database) as world:
        await family(world, second(park="2h"))
        grow_old(world, 3)
        await world.run("second", pull=False)
        assert {state for state, _ in waiting(world).values()} == {"review"}


async def test_time_in_which_the_window_is_closed_is_not_waited(fresh_database):
    async with rig(fresh_database) as world:
        # Open now, and for one hour of the day at most.
        ((hour,),) = world.sql("SELECT extract(hour FROM now() AT TIME ZONE 'UTC')::int")
        window = f'{{from: "{hour:02}:00", to: "{(hour + 2) % 24:02}:00"}}'
        await family(world, second(window=window))
        grow_old(world, 30)
        await world.run("second", pull=False)
        assert {state for state, _ in waiting(world).values()} == {"parked"}


async def test_the_link_that_appears_at_last_takes_the_record_back_from_the_person(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        await family(world)
        grow_old(world, 25)
        await world.run("second", pull=False)
        erp.put("p1", number="P1", name="parent", balance=Decimal(0))
        await world.run("first")
        result = await world.run("second", pull=False)
        assert result.counts.outcomes == {"created": 1, "filtered": 1}
        assert {record: state for record, (state, _) in waiting(world).items()} == {
            "c0": "review",
            "c2": "review",
        }
        assert len(crm.records) == 2


async def test_a_change_of_the_record_takes_it_back_from_the_person_with_its_time_where_it_refers_elsewhere(
    fresh_database,
):
    async with rig(fresh_database) as world:
        erp = world.products["erp"]
        await family(world)
        grow_old(world, 25)
        await world.run("second", pull=False)
        erp.put("c0", parent="p9")
        erp.put("c1", name="another name, the same parent")
        await world.run("second")
        assert {record: state for record, (state, _) in waiting(world).items()} == {
            "c0": "parked",
            "c1": "review",
            "c2": "review",
        }


async def test_a_record_that_needs_its_parent_for_one_field_is_written_and_asks_a_person_about_that_field(
    fresh_database,
):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        await world.apply(FIRST.replace("targets:", "when: number == 'P1'\ntargets:"))
        await world.apply(NEEDS.replace("NAME", "second").replace("PREFIX", "s").replace("BY", ""))
        erp.put("c1", number="C1", name="child", parent="p1", balance=Decimal(0))
        await world.run("second")
        grow_old(world, 25)
        erp.put("c1", name="renamed")
        result = await world.run("second")
        assert result.counts.outcomes == {"updated": 1}
        assert waiting(world)["c1"][0] == "review"
        (child,) = crm.by("number", "s-C1")
        assert child["name"] == "renamed"


async def test_a_failed_look_does_not_start_the_waiting_time_again(fresh_database):
    async with rig(fresh_database) as world:
        await family(world)
        since = world.sql("SELECT record, parked_since FROM work_items ORDER BY 1")
        world.let_time_pass()
        crm = world.products["crm"]
        crm.faults = Faults(busy=1.0)
        await world.run("second", pull=False)
        crm.faults = Faults()
        world.let_time_pass()
        await world.run("second", pull=False)
        assert world.sql("SELECT record, parked_since FROM work_items ORDER BY 1") == since


async def test_a_child_of_the_same_flow_waits_for_its_parent_across_lanes(fresh_database):
    async with rig(fresh_database, batch=2) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 6)
        await world.apply(TWO)
        await world.run(targets=[], lane=Lane.BATCH)
        world.sql("UPDATE work_items SET lane = 0 WHERE target = 'child'")
        await world.settle_everything()
        kinds = [effect.fields["number"][0] for effect in crm.ledger]
        assert sorted(kinds) == ["c"] * 6 + ["p"] * 6
        assert {effect.kind for effect in crm.ledger} == {"create"}
