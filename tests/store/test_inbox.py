"""The inbox writer: groups, repeats, and what becomes of a group that fails."""

from __future__ import annotations

import asyncio
import logging

import pytest
import sqlalchemy as sa

from ipaas_resources.core.errors import DatabaseUnavailableError, StopError
from ipaas_resources.store.database import Database
from ipaas_resources.store.inbox import Delivery, InboxFullError, InboxWriter
from ipaas_resources.store.inbox_tables import inbox, inbox_keys

KEYS = [number.to_bytes(16, "big") for number in range(400)]


@pytest.fixture
async def database(fresh_database):
    opened = Database(fresh_database.app)
    yield opened
    await opened.close()


def delivery(key=None, body=b"{}"):
    return Delivery(subscription="s", key=key, body=body, headers={"a": "b"}, trace_id="t")


async def bodies(database):
    async with database.begin() as connection:
        rows = await connection.execute(sa.select(inbox.c.body).order_by(inbox.c.delivery))
        return list(rows.scalars())


async def test_deliveries_are_stored_byte_for_byte_in_their_order(database):
    sent = [b"", b"\x00\xff\\x41", bytes(range(256)), b"{}"]
    async with InboxWriter(database) as writer:
        assert await asyncio.gather(*(writer.put(delivery(body=body)) for body in sent)) == [True] * 4
        assert writer.groups == 1
    assert await bodies(database) == sent


async def test_without_a_key_every_delivery_counts_and_with_one_only_the_first(database):
    async with InboxWriter(database) as writer:
        given = [delivery(), delivery(KEYS[1]), delivery(), delivery(KEYS[1]), delivery(KEYS[2])]
        first = await asyncio.gather(*(writer.put(one) for one in given))
        again = await asyncio.gather(*(writer.put(one) for one in given))
    assert first == [True, True, True, False, True]
    assert again == [True, False, True, False, False]
    assert len(await bodies(database)) == 6


async def test_two_writers_that_share_all_their_keys_store_each_once(database, fresh_database):
    other = Database(fresh_database.app)
    async with InboxWriter(database) as one, InboxWriter(other) as two:
        futures = [
            writer.put(delivery(key))
            for forward, back in zip(KEYS, reversed(KEYS), strict=True)
            for writer, key in ((one, forward), (two, back))
        ]
        new = await asyncio.gather(*futures)
    await other.close()
    assert sum(new) == len(KEYS) == len(await bodies(database))


async def test_large_bodies_do_not_share_a_commit_without_end(database):
    async with InboxWriter(database) as writer:
        await asyncio.gather(*(writer.put(delivery(body=bytes(3 << 20))) for _ in range(5)))
        assert writer.groups == 3


async def test_more_than_may_wait_is_refused_and_the_rest_is_stored(database):
    async with InboxWriter(database, most_waiting=2, most_bytes=10) as writer:
        taken = [writer.put(delivery()), writer.put(delivery())]
        with pytest.raises(InboxFullError):
            writer.put(delivery())
        assert await asyncio.gather(*taken) == [True, True]
        with pytest.raises(InboxFullError):
            writer.put(delivery(body=bytes(11)))
        assert await writer.put(delivery(body=bytes(10)))
    assert len(await bodies(database)) == 3


async def test_what_was_handed_over_is_committed_although_nobody_waits_any_more(database):
    async with InboxWriter(database) as writer:
        writer.put(delivery(body=b"1")).cancel()
        kept = writer.put(delivery(body=b"2"))
    assert await kept
    assert await bodies(database) == [b"1", b"2"]
    with pytest.raises(InboxFullError):
        writer.put(delivery())


async def test_a_group_that_the_database_refuses_is_refused_as_a_whole_and_the_next_is_taken(database):
    async with InboxWriter(database) as writer:
        group = [writer.put(delivery(KEYS[1])), writer.put(delivery(b"too short"))]
        results = await asyncio.gather(*group, return_exceptions=True)
        assert [type(result) for result in results] == [StopError, StopError]
        assert await bodies(database) == []
        assert await writer.put(delivery(KEYS[1]))


async def test_a_defect_costs_one_group_and_shows_nothing_of_it(database, monkeypatch, caplog):
    async def explode(_work):
        raise RuntimeError("the body")

    async with InboxWriter(database) as writer:
        with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG):
            patch.setattr(database, "repeatable", explode)
            with pytest.raises(DatabaseUnavailableError):
                await writer.put(delivery())
        assert "RuntimeError" in caplog.text
        assert "the body" not in caplog.text
        assert await writer.put(delivery())


async def test_the_run_time_role_cannot_change_a_key(database):
    async with InboxWriter(database) as writer:
        await writer.put(delivery(KEYS[1]))
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        async with database.begin() as connection:
            await connection.execute(sa.update(inbox_keys).values(key=KEYS[2]))
