"""Fault simulation by seed: lost requests, lost answers, search lag, refusals, crashes at every step, two workers.

After the faults stop: nothing lost, nothing doubled, targets equal the mapping of the source, every write had an intent.
A failing seed is replayed with `pytest tests/sync/test_faults.py -k "[17]"`.
"""

import asyncio
import json
import random
from decimal import Decimal

import pytest

from ipaas_assets.sync.run import run_flow
from ipaas_resources.core import killpoints
from tests.sync.product import Faults, Product
from tests.sync.rig import flow, rig

SEEDS = 40
POINTS = ("K04", "K05", "K06", "K07", "K08", "K11", "K12")


class Crash(BaseException):
    """The process died here."""


class Killer:
    """Raises at the n-th passage of a kill point, as often as armed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._left = 0
        self.armed = ""
        self.struck = []

    def arm(self) -> None:
        self.armed = self._rng.choice(["", "-"]) + self._rng.choice(POINTS)
        self._left = self._rng.randint(1, 3)

    def disarm(self) -> None:
        self.armed = ""

    def strike(self, name: str) -> None:
        if name == self.armed:
            self._left -= 1
            if self._left <= 0:
                self.struck.append(name)
                self.disarm()
                raise Crash


@pytest.fixture
def killer(request, monkeypatch):
    made = Killer(random.Random(request.node.callspec.params["seed"]))
    monkeypatch.setattr(killpoints, "before", lambda name: made.strike("-" + name))
    monkeypatch.setattr(killpoints, "after", made.strike)
    return made


async def until_crash(work):
    """Run; a crash takes the whole process with it."""
    try:
        await work
    except* Crash:
        pass


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_no_fault_loses_or_doubles_a_record(fresh_database, killer, seed):
    rng = random.Random(seed)
    create = rng.choice(["natural_key", "client_key"])
    faults = Faults(
        lost_answer=rng.choice([0, 0.2]),
        lost_request=rng.choice([0, 0.2]),
        busy=rng.choice([0, 0.1]),
        # The manifest promises that a search finds what was written once `settle_wait` has passed; a product that lags
        # for longer is waited for by runs that time passes between.
        lag_calls=rng.choice([0, 0, 2]) if create == "client_key" else 0,
    )
    source = Product(page=rng.choice([2, 3, 7]), versions=rng.choice(["opaque", "ordered"]))
    target = Product(create=create, seed=seed, faults=faults, batch=rng.choice([1, 3, 5]))
    async with rig(
        fresh_database, source=source, target=target, seed=seed, batch=rng.choice([2, 5])
    ) as world:
        expected = {}

        def change(record: str = "") -> None:
            record = record or f"r{rng.randrange(8)}"
            number = int(record[1:])
            fields = {
                "number": f"C{number}",
                "name": f"v{rng.randrange(10**6)}",
                "balance": Decimal(rng.randrange(99)),
            }
            source.put(record, **fields)
            expected[f"C{number}"] = {**fields, "email": None}

        target.put("foreign", number="C1", name="theirs")
        change("r1")
        for _ in range(6):
            change()
        await world.apply(flow())
        for _ in range(rng.randint(3, 7)):
            if rng.random() < 0.7:
                killer.arm()
            await until_crash(run_flow(world.engine, "people", mode=rng.choice(["incremental", "full"])))
            killer.disarm()
            for _ in range(rng.randint(0, 3)):
                change()
            if rng.random() < 0.8:
                world.let_time_pass()
            await world.open()
        if rng.random() < 0.3:
            # Two workers at once.
            other = world.engine
            await world.open()
            await asyncio.gather(run_flow(other, "people"), run_flow(world.engine, "people"))
        target.faults = Faults()
        world.let_time_pass()
        await world.open()
        result = await world.settle_everything()
        assert result.dead == result.review == 0, world.items()
        there = {
            each["number"]: {name: each.get(name) for name in ("number", "name", "balance", "email")}
            for each in target.records.values()
        }
        assert there == expected
        assert len(target.records) == len(expected)
        creates = [effect.fields["number"] for effect in target.ledger if effect.kind == "create"]
        assert len(creates) == len(set(creates))
        assert_every_write_had_an_intent(world, target)
        ((open_intents,),) = world.sql("SELECT count(*) FROM intents WHERE state = 'open'")
        assert open_intents == 0
        again = len(target.ledger)
        await world.run(mode="full")
        await world.run(mode="replan", pull=False)
        assert len(target.ledger) == again


def assert_every_write_had_an_intent(world, target):
    """N5: each effect belongs to a write that an intent announced."""
    announced = 0
    for (writes,) in world.sql("SELECT writes FROM intents"):
        announced += len(writes if isinstance(writes, list) else json.loads(writes))
    assert len(target.ledger) <= announced


@pytest.mark.parametrize("seed", [0])
async def test_a_change_during_the_write_is_not_lost(fresh_database, killer, seed):
    """The item's generation moves while it is claimed: settling keeps it due."""
    source, target = Product(), Product()
    async with rig(fresh_database, source=source, target=target) as world:
        source.put("a", number="1", name="before", balance=Decimal(1))
        await world.apply(flow())
        write = target.write

        async def write_while_the_source_changes(*arguments):
            if not target.ledger:
                source.put("a", name="after")
                await run_flow(other, "people", targets=[])
            return await write(*arguments)

        target.write = write_while_the_source_changes
        other = world.engine
        await world.open()
        await world.run()
        assert [each["name"] for each in target.records.values()] == ["after"]
        assert len(target.records) == 1


@pytest.mark.parametrize("seed", [0])
async def test_a_worker_that_lost_its_lease_commits_nothing_and_the_target_is_read_again(
    fresh_database, killer, seed
):
    source, target = Product(), Product()
    async with rig(fresh_database, source=source, target=target) as world:
        source.put("a", number="1", name="first", balance=Decimal(1))
        await world.apply(flow())
        write = target.write

        async def slow_write(*arguments):
            if not target.ledger:
                result = await write(*arguments)
                world.let_time_pass()
                await run_flow(other, "people", pull=False)
                return result
            return await write(*arguments)

        target.write = slow_write
        other = world.engine
        await world.open()
        result = await world.run()
        assert result.counts.fenced == 1
        await world.settle_everything()
        assert len(target.records) == 1
        assert [effect.kind for effect in target.ledger] == ["create"]
