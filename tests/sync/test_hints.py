"""Hints are read in batches into the mirror, raise urgent work, and are gone only when nobody told them again."""

from __future__ import annotations

import asyncio
import random

import pytest

from ipaas_assets.sync.hints import HintsRead, due_hint_groups, hints_due_in, read_hints
from ipaas_resources.core.errors import (
    ContractError,
    CredentialsError,
    RefusedRecordError,
    RetryError,
    SystemBusyError,
    ThrottledError,
)
from ipaas_resources.store import registry
from tests.sync.hinting import LAB_FLOW, Crash, Hooks, Named, crash_at, hooks, notice
from tests.sync.product import CUSTOMER, Faults, Product


def fill(lab: Hooks, records, name="Lab", scope=""):
    for record in records:
        lab.source.put(str(record), scope, number=f"C-{record}", name=f"{name} {record}", balance=1)


def failing(source: Product, error, *, when=lambda ids: True):
    """The product's reads fail like this for some ids."""
    whole = source.read

    async def read(entity, scope, ids):
        if when(ids):
            source.calls.append("failed")
            raise error() if isinstance(error, type) else error
        return await whole(entity, scope, ids)

    source.read = read

    def mend():
        source.read = whole

    return mend


def adds_up(done: HintsRead) -> bool:
    ends = ("read", "again", "asked", "unwanted", "nowhere", "retried", "dead", "fenced")
    return done.claimed == sum(getattr(done, name) for name in ends)


async def test_a_thousand_deliveries_of_fifty_records_cost_fifty_reads_in_batches(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, range(50))
        told = [number % 50 for number in range(1000)]
        random.Random(5).shuffle(told)
        lab.tell(*told)
        await lab.split(1000)
        done = await lab.read()
        assert (done.claimed, done.read, done.changed) == (50, 50, 50)
        assert adds_up(done)
        assert lab.source.calls == ["read"] * 3
        assert len(lab.mirror()) == 50
        assert [row[1] for row in lab.items()] == [0] * 50
        assert lab.hints() == []
        # Told again without a change: read, and nothing follows.
        lab.rig.sql("DELETE FROM work_items")
        lab.tell(*range(50))
        await lab.split()
        assert (await lab.read()).changed == 0
        assert lab.items() == []


async def test_all_trace_ids_of_the_events_stand_on_the_work_and_the_newest_on_the_record(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, [1, 2])
        first = lab.tell(1, 1, 1)
        second = lab.tell(2)
        await lab.split()
        await lab.read()
        assert lab.items() == [("1", 0, first), ("2", 0, second)]
        assert lab.rig.sql("SELECT record, trace_id FROM mirror ORDER BY 1") == [
            ("1", first[-1]),
            ("2", second[0]),
        ]
        lab.source.put("1", name="Other")
        later = lab.tell(*[1] * 14)
        await lab.split()
        await lab.read()
        assert lab.items()[0] == ("1", 0, [first[-1], *later])


async def test_a_deleted_record_becomes_a_tombstone_and_a_late_word_of_it_changes_nothing(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, [1])
        lab.tell(1)
        await lab.split()
        await lab.read()
        lab.source.drop("1")
        for _ in range(2):
            lab.tell(1)
            await lab.split()
            done = await lab.read()
            assert done.read == 1
        assert done.deleted == 0
        assert lab.mirror() == {"1": None}


async def test_deliveries_in_any_order_and_twice_end_with_what_the_product_holds(fresh_database):
    async with hooks(fresh_database, source=Product(find=7)) as lab:
        chance = random.Random(11)
        for _ in range(30):
            for _ in range(chance.randrange(1, 8)):
                record = chance.randrange(12)
                if chance.random() < 0.15 and ("", str(record)) in lab.source.records:
                    lab.source.drop(str(record))
                else:
                    fill(lab, [record], name=f"v{chance.random()}")
                told = [record] * chance.randrange(1, 3) + [chance.randrange(12)]
                chance.shuffle(told)
                lab.tell(*told)
            await lab.split(chance.randrange(1, 30))
            await lab.read(most=chance.randrange(1, 10))
        while (await lab.split()).received:
            pass
        await lab.read()
        held = {record: each["name"] for (_, record), each in lab.source.records.items()}
        assert {record: name for record, name in lab.mirror().items() if name} == held
        assert lab.hints() == []
        assert set(lab.inbox()) == {"done"}


async def test_a_record_told_again_while_it_is_read_is_read_once_more(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, [1, 2], name="Old")
        lab.tell(1, 2)
        await lab.split()
        whole = lab.source.read

        async def read(entity, scope, ids):
            found = await whole(entity, scope, ids)
            lab.source.read = whole
            fill(lab, [1], name="New")
            lab.tell(1)
            await lab.split()
            return found

        lab.source.read = read
        done = await lab.read(most=2)
        assert (done.read, done.again) == (1, 1)
        assert [row[2:5] for row in lab.hints()] == [("1", "due", 2)]
        await lab.read()
        assert lab.mirror()["1"] == "New 1"
        assert lab.hints() == []


async def test_of_two_reads_the_one_that_began_later_wins(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, [1], name="Old")
        lab.tell(1)
        await lab.split()
        whole = lab.source.read

        async def slow(entity, scope, ids):
            found = await whole(entity, scope, ids)
            # While the answer is on its way, the record changes and a pull that began later stores it.
            lab.source.read = whole
            fill(lab, [1], name="New")
            await lab.rig.run()
            return found

        lab.source.read = slow
        await lab.read()
        assert lab.mirror() == {"1": "New 1"}


@pytest.mark.parametrize("place", ["-K04", "K04", "-K05", "K05", "-K06", "K06"])
async def test_a_reader_that_dies_at_any_step_loses_and_doubles_nothing(fresh_database, monkeypatch, place):
    async with hooks(fresh_database) as lab:
        fill(lab, range(5))
        lab.tell(*range(5))
        await lab.split()
        with monkeypatch.context() as patched:
            crash_at(patched, place)
            with pytest.raises(Crash):
                await lab.read()
        if place not in {"-K04", "K06"}:
            # Until its lease runs out nobody else reads them.
            assert (await lab.read()).claimed == 0
            assert await hints_due_in(lab.rig.database) > 100
        lab.let_leases_run_out()
        await lab.read()
        assert len(lab.mirror()) == 5
        assert len(lab.items()) == 5
        assert lab.hints() == []


async def test_a_record_that_kills_its_readers_is_read_alone_and_given_up_in_the_end(fresh_database):
    async with hooks(fresh_database, max_attempts=4) as lab:
        fill(lab, range(5))
        lab.tell(*range(5))
        await lab.split()
        mend = failing(lab.source, Crash, when=lambda ids: "3" in ids)
        for _ in range(12):
            with pytest.raises(Crash):
                await lab.read()
            lab.let_leases_run_out()
            if len(lab.hints()) == 1 and lab.hints()[0][5] == 4:
                break
        assert len(lab.mirror()) == 4
        await lab.read()
        assert lab.hints() == [("clients", "", "3", "dead", 1, 5, "reader_died")]
        assert lab.rig.sql("SELECT poll_due_at <= now() FROM entity_state") == [(True,)]
        # The next word of it starts anew.
        mend()
        lab.tell(3)
        await lab.split()
        assert (await lab.read()).read == 1
        assert lab.hints() == []


async def test_a_reader_that_lost_its_lease_ends_no_hint_of_another(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, [1])
        lab.tell(1)
        await lab.split()
        whole = lab.source.read

        async def slow(entity, scope, ids):
            found = await whole(entity, scope, ids)
            lab.source.read = whole
            lab.let_leases_run_out()
            lab.tell(1)
            await lab.split()
            assert (await lab.read()).read == 1
            lab.tell(1)
            await lab.split()
            return found

        lab.source.read = slow
        done = await lab.read(most=1)
        assert done.fenced == 1
        assert adds_up(done)
        assert [row[2:5] for row in lab.hints()] == [("1", "due", 1)]


async def test_several_readers_and_splitters_at_once_read_everything(fresh_database):
    async with hooks(fresh_database, source=Product(find=6)) as lab:
        fill(lab, range(60))
        chance = random.Random(2)
        lab.tell(*(chance.randrange(60) for _ in range(400)), *range(60))

        async def splitting():
            while (await lab.split(23)).received:
                pass

        async def reading():
            total = HintsRead()
            for _ in range(200):
                total.add(await lab.read(most=30))
                if lab.inbox() == {"done": 460} and not lab.hints():
                    break
                await asyncio.sleep(0)
            return total

        results = await asyncio.gather(splitting(), splitting(), reading(), reading(), reading())
        assert len(lab.mirror()) == len(lab.items()) == 60
        assert lab.hints() == []
        assert all(adds_up(done) for done in results[2:])


async def test_a_batch_that_fails_for_one_bad_id_is_halved_and_the_bad_one_set_aside(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, range(16))
        lab.tell(*range(16))
        await lab.split()
        failing(lab.source, ContractError("Field 'name' is no text."), when=lambda ids: "11" in ids)
        done = await lab.read()
        assert (done.read, done.changed, done.set_aside) == (16, 16, 1)
        assert lab.source.calls.count("failed") == 5
        assert lab.rig.sql("SELECT record, bad_code FROM mirror WHERE bad_code IS NOT NULL") == [
            ("11", "contract")
        ]
        assert lab.rig.sql("SELECT record, state FROM work_items WHERE state <> 'due'") == [("11", "dead")]
        assert lab.hints() == []


async def test_a_bad_record_keeps_its_last_good_document_and_one_that_breaks_the_contract_is_set_aside(
    fresh_database,
):
    async with hooks(fresh_database) as lab:
        fill(lab, [1, 2])
        lab.tell(1, 2)
        await lab.split()
        await lab.read()
        lab.source.put("2", name="x" * 41)
        failing(lab.source, RefusedRecordError("It is refused."), when=lambda ids: "1" in ids)
        lab.tell(1, 2)
        await lab.split()
        done = await lab.read()
        assert (done.read, done.set_aside) == (2, 2)
        assert lab.mirror()["1"] == "Lab 1"


async def test_two_records_that_the_product_breaks_on_are_told_from_the_others(fresh_database):
    for bad in (["5", "6"], ["0", "15"], ["14", "15"]):
        async with hooks(fresh_database) as lab:
            fill(lab, range(16))
            lab.tell(*range(16))
            await lab.split()
            lab.rig.sql("UPDATE hints SET attempts = 2")
            failing(
                lab.source,
                SystemBusyError("HTTP 500"),
                when=lambda ids, bad=bad: not set(bad).isdisjoint(ids),
            )
            done = await lab.read()
            assert (done.read, done.retried) == (14, 2)
            assert adds_up(done)
            assert sorted(row[2] for row in lab.hints()) == sorted(bad)
            lab.rig.sql("TRUNCATE hints, mirror, work_items, inbox")


async def test_a_record_that_the_product_breaks_on_does_not_hold_the_others_back_for_ever(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, range(8))
        lab.tell(*range(8))
        await lab.split()
        failing(lab.source, SystemBusyError("HTTP 500"), when=lambda ids: "5" in ids)
        reads = []
        for _ in range(9):
            reads.append(await lab.read())
            lab.let_time_pass()
        # Twice the whole batch comes back later; then it is read apart.
        assert [done.read for done in reads] == [0, 0, 7, 0, 0, 0, 0, 0, 0]
        assert reads[-2].dead == 1
        assert all(adds_up(done) for done in reads)
        assert [row[2:] for row in lab.hints()] == [("5", "dead", 1, 8, "system_busy")]
        assert lab.rig.sql("SELECT poll_due_at <= now() FROM entity_state") == [(True,)]


async def test_a_system_that_is_down_costs_few_calls_a_look_and_no_record_is_blamed(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, range(16))
        lab.tell(*range(16))
        await lab.split()
        mend = failing(lab.source, SystemBusyError("HTTP 503"))
        for attempt in range(4):
            lab.source.calls.clear()
            done = await lab.read()
            assert done.retried == 16
            assert lab.source.calls.count("failed") <= (1 if attempt < 2 else 7)
            # They wait: no reader comes back at once.
            assert (await lab.read()).claimed == 0
            lab.let_time_pass()
        mend()
        assert (await lab.read()).read == 16


@pytest.mark.parametrize(
    ("error", "waits", "attempts"),
    [
        (ThrottledError("Slow down.", retry_after=77.0), (70, 80), 0),
        (RetryError("Open.", code="circuit_open", retry_after=200.0), (190, 201), 0),
        (SystemBusyError("HTTP 503"), (0.5, 1.5), 1),
        (CredentialsError("Refused."), (55, 61), 0),
    ],
)
async def test_what_was_not_read_comes_back_when_the_error_says(fresh_database, error, waits, attempts):
    async with hooks(fresh_database) as lab:
        fill(lab, [1])
        lab.tell(1)
        await lab.split()
        mend = failing(lab.source, error)
        done = await lab.read()
        assert (done.retried, done.error) == (1, error.message)
        assert waits[0] < await hints_due_in(lab.rig.database) < waits[1]
        assert lab.hints() == [("clients", "", "1", "due", 1, attempts, error.code)]
        assert lab.rig.sql("SELECT lease_token FROM hints") == [(None,)]
        # Another word of it does not shorten the wait.
        lab.tell(1)
        await lab.split()
        assert (await lab.read()).claimed == 0
        mend()
        lab.let_time_pass()
        assert (await lab.read()).read == 1


async def test_a_credential_that_is_refused_for_days_gives_no_hint_up(fresh_database):
    async with hooks(fresh_database, max_attempts=3) as lab:
        fill(lab, [1])
        lab.tell(1)
        await lab.split()
        failing(lab.source, CredentialsError("Refused."))
        for _ in range(10):
            assert (await lab.read()).retried == 1
            lab.let_time_pass()


async def test_names_that_cannot_be_looked_up_now_are_kept_however_long_it_takes(fresh_database):
    record = "aaaaaaaa-0000-0000-0000-000000000001"
    source = Named(scopes=("main",))
    async with hooks(fresh_database, connector="business_central", source=source, max_attempts=2) as bc:
        fill(bc, [record], scope="main")
        bc.deliver(notice(record))
        await bc.split()
        source.faults = Faults(busy=1.0)
        for _ in range(5):
            assert (await bc.read()).retried == 1
            bc.let_time_pass()
        source.faults = Faults()
        assert (await bc.read()).read == 1


async def test_many_records_that_are_not_there_are_left_to_a_full_pull(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, range(30))
        lab.tell(*range(30))
        await lab.split()
        await lab.read()
        failing(lab.source, None, when=lambda ids: False)
        for record in range(20):
            lab.source.drop(str(record))
        lab.tell(*range(20))
        await lab.split()
        done = await lab.read()
        assert (done.read, done.deleted) == (20, 0)
        assert done.polls == {("erp", "clients")}
        assert lab.rig.sql("SELECT poll_full FROM entity_state") == [(True,)]
        assert None not in lab.mirror().values()


async def test_a_paused_or_disabled_system_is_left_alone_and_a_disabled_flow_still_gets_its_work(
    fresh_database,
):
    async with hooks(fresh_database) as lab:
        fill(lab, [1])
        lab.tell(1)
        await lab.split()
        await registry.pause_system(lab.rig.database, "erp", paused=True)
        assert await due_hint_groups(lab.rig.database) == []
        assert await hints_due_in(lab.rig.database) is None
        await registry.pause_system(lab.rig.database, "erp", paused=False)
        lab.rig.sql("""UPDATE systems SET document = document || '{"enabled": false}' WHERE system = 'erp'""")
        assert (await lab.read()).claimed == 0
        lab.rig.sql("""UPDATE systems SET document = document - 'enabled' WHERE system = 'erp'""")
        lab.rig.sql("UPDATE flows SET enabled = false")
        await lab.rig.open()
        assert (await lab.read()).read == 1
        assert len(lab.items()) == 1


async def test_hints_of_an_entity_that_no_flow_reads_any_more_are_dropped_without_a_read(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, [1])
        lab.tell(1)
        await lab.split()
        lab.rig.sql("UPDATE flows SET active_version = NULL")
        done = await lab.read()
        assert (done.claimed, done.unwanted) == (1, 1)
        assert lab.source.calls == []
        assert lab.hints() == []


async def test_a_flow_that_was_changed_since_the_reader_looked_gets_its_work(fresh_database):
    async with hooks(fresh_database) as lab:
        fill(lab, [1])
        lab.tell(1)
        await lab.split()
        reader = lab.rig.engine
        await lab.rig.apply(LAB_FLOW.replace("  copy:", "  second:"))
        done = await read_hints(reader, trace_id="t")
        assert (done.read, done.changed) == (1, 1)
        assert lab.rig.sql("SELECT target FROM work_items") == [("second",)]


async def test_an_entity_without_reads_by_id_is_pulled(fresh_database):
    source = Product()
    source.manifest = source.manifest.model_copy(
        update={"defaults": source.manifest.defaults.model_copy(update={"read_batch": 0})}
    )
    async with hooks(fresh_database, source=source) as lab:
        fill(lab, [1])
        lab.tell(1)
        await lab.split()
        done = await lab.read()
        assert (done.asked, done.polls) == (1, {("erp", "clients")})
        assert lab.source.calls == []


async def test_an_ordered_version_that_is_older_never_replaces_a_newer_one(fresh_database):
    source = Product(versions="ordered", schema=CUSTOMER)
    async with hooks(fresh_database, source=source) as lab:
        fill(lab, [1], name="Old")
        old = lab.source._found("", "1")
        old.order = 1
        fill(lab, [1], name="New")
        await lab.rig.run()
        lab.tell(1)
        await lab.split()

        async def read(entity, scope, ids):
            return [old]

        lab.source.read = read
        assert (await lab.read()).read == 1
        assert lab.mirror() == {"1": "New 1"}


async def test_a_run_of_a_flow_with_webhooks_delivers_what_waits_in_the_inbox_without_a_worker(
    fresh_database,
):
    async with hooks(fresh_database) as lab:
        await lab.rig.run()
        fill(lab, range(3))
        lab.tell(0, 1, 2, 2)
        result = await lab.rig.run(pull=False)
        assert (result.counts.received, result.counts.changed, result.error) == (3, 3, "")
        assert {each["name"] for each in lab.rig.products["crm"].records.values()} == {
            "Lab 0",
            "Lab 1",
            "Lab 2",
        }
        assert lab.inbox() == {"done": 4}
        # A failure of the reads neither stops the run nor is it silent.
        fill(lab, [1], name="New")
        lab.tell(1)
        failing(lab.source, SystemBusyError("HTTP 503"))
        result = await lab.rig.run(pull=False)
        assert result.error == ""
        assert "1 records that webhooks told of are read later: HTTP 503" in result.warnings


async def test_a_run_of_a_flow_without_webhooks_leaves_the_inbox_alone(fresh_database):
    async with hooks(fresh_database, flow=LAB_FLOW.replace("webhook: true", "webhook: false")) as lab:
        lab.tell(1)
        await lab.rig.run()
        assert lab.inbox() == {"due": 1}
