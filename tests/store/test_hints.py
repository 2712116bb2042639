"""The rows behind hints: claims that do not overlap, generations, fencing."""

from __future__ import annotations

import asyncio

import pytest

from ipaas_resources.core.errors import StopError
from ipaas_resources.store import hints
from ipaas_resources.store.database import Database
from ipaas_resources.store.hints import Hint, Poll, PutBack


@pytest.fixture
async def database(fresh_database):
    opened = Database(fresh_database.app)
    yield opened
    await opened.close()


async def tell(database, *records, trace="t"):
    rows = [Hint(system="s", entity="e", scope="", record=record, trace_ids=[trace]) for record in records]
    await database.repeatable(lambda connection: hints.raise_hints(connection, rows))


async def claim(database, *, batch=10, lease=60.0):
    return await hints.claim_hints(database, "s", "e", "", batch=batch, lease=lease)


async def settle(database, batch, done):
    return await database.repeatable(lambda connection: hints.settle_hints(connection, batch, done))


async def put_back(database, batch, **options):
    rows = [
        PutBack(
            record=hint.record,
            generation=hint.generation,
            **{"due_in": 0.0, "charge": True, "dead": False, "error_code": "c", "error": "e", **options},
        )
        for hint in batch.hints
    ]
    return await database.repeatable(lambda connection: hints.put_back_hints(connection, batch, rows))


async def test_claims_of_several_readers_never_overlap(database):
    await tell(database, *(f"{number:03}" for number in range(100)))
    claimed = await asyncio.gather(*(claim(database, batch=15) for _ in range(8)))
    batches = [batch for batch in claimed if batch is not None]
    records = [hint.record for batch in batches for hint in batch.hints]
    while (more := await claim(database)) is not None:
        batches.append(more)
        records += [hint.record for hint in more.hints]
    assert sorted(records) == [f"{number:03}" for number in range(100)]
    assert len({batch.token for batch in batches}) == len(batches)


async def test_only_what_was_not_told_again_is_gone(database):
    await tell(database, "a", "b")
    batch = await claim(database)
    await tell(database, "b")
    assert await settle(database, batch, batch.hints) == (1, 1)
    again = await claim(database)
    assert [(hint.record, hint.generation, hint.attempts) for hint in again.hints] == [("b", 2, 1)]


async def test_a_claim_that_ran_out_ends_nothing(database):
    await tell(database, "a")
    lost = await claim(database, lease=-1.0)
    held = await claim(database)
    assert held.hints[0].attempts == 2
    assert await settle(database, lost, lost.hints) == (0, 0)
    assert await put_back(database, lost) == (0, 0)
    assert await settle(database, held, held.hints) == (1, 0)


async def test_one_that_gave_up_starts_anew_when_it_was_told_meanwhile(database):
    await tell(database, "a", "b")
    batch = await claim(database)
    await tell(database, "b")
    assert await put_back(database, batch, dead=True) == (1, 1)
    again = await claim(database)
    assert [(hint.record, hint.attempts) for hint in again.hints] == [("b", 1)]
    # And so does one that is told later.
    await tell(database, "a", trace="u")
    again = await claim(database)
    assert [(hint.record, hint.attempts, hint.trace_ids) for hint in again.hints] == [("a", 1, ["t", "u"])]


async def test_an_attempt_that_is_not_charged_is_given_back(database):
    await tell(database, "a")
    for _ in range(3):
        batch = await claim(database)
        assert batch.hints[0].attempts == 1
        await put_back(database, batch, charge=False)


async def test_a_hint_and_a_poll_are_stored_together_or_not_at_all(database):
    async def work(connection):
        await hints.raise_hints(
            connection, [Hint(system="s", entity="e", scope="", record="a", trace_ids=["t"])]
        )
        await hints.ask_polls(connection, [Poll(system="s", scope="", entity="e", whole=True, reason="\x00")])

    with pytest.raises(StopError):
        await database.repeatable(work)
    assert await claim(database) is None


async def test_places_with_something_to_read_are_found_whatever_else_waits(database, fresh_database):
    async with database.begin() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO systems (system, connector, document, text) VALUES ('a', 'c', '{}', ''), ('b', 'c', '{}', '')"
        )
        await connection.exec_driver_sql(
            "INSERT INTO hints (system, entity, scope, record, trace_ids, due_at, raised_at)"
            " SELECT system, entity, scope, n::text, '{}', now() - make_interval(secs => age), now() - interval '9 s'"
            " FROM (VALUES ('a', 'x', '', 5, 3), ('a', 'x', 'uk', 1, 1200), ('a', '~y', '', 9, 1), ('b', 'x', '', -60, 2),"
            " ('gone', 'x', '', 1, 2)) AS v(system, entity, scope, age, many), generate_series(1, many) AS n"
        )
    found = await hints.due_hint_groups(database)
    assert [(each.system, each.entity, each.scope, each.hints) for each in found] == [
        ("a", "~y", "", 1),
        ("a", "x", "", 3),
        ("a", "x", "uk", 1000),
    ]
    assert all(8 < each.age < 60 for each in found)
    found = await hints.due_hint_groups(database, system="a", entity="z")
    assert [each.entity for each in found] == ["~y"]
    assert await hints.due_hint_groups(database, system="b") == []
