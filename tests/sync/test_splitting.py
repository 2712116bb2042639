"""Deliveries become hints: every one ends as done, ignored or dead, and none stops another."""

from __future__ import annotations

import asyncio
import random

import pytest

from ipaas_assets.sync.hints import split
from ipaas_assets.sync.splitting import Split
from tests.sync.hinting import (
    LAB_FLOW,
    OTHER_COMPANY,
    Crash,
    Named,
    client,
    crash_at,
    hooks,
    notice,
)

RECORD = "aaaaaaaa-0000-0000-0000-000000000001"


async def test_a_thousand_deliveries_of_fifty_records_become_fifty_hints(fresh_database):
    async with hooks(fresh_database) as lab:
        told = [number % 50 for number in range(1000)]
        random.Random(7).shuffle(told)
        lab.tell(*told)
        total = Split()
        while (done := await lab.split()).received:
            total.add(done)
        assert (total.received, total.done, total.ignored, total.dead) == (1000, 1000, 0, 0)
        assert total.touched == {("erp", "clients")}
        assert lab.inbox() == {"done": 1000}
        rows = lab.hints()
        assert len(rows) == 50
        assert {row[3] for row in rows} == {"due"}
        assert lab.rig.sql("SELECT max(cardinality(trace_ids)) FROM hints") == [(15,)]


async def test_the_newest_trace_ids_are_kept_in_their_order(fresh_database):
    async with hooks(fresh_database) as lab:
        traces = lab.tell(*[5] * 12)
        await lab.split()
        traces += lab.tell(*[5] * 6)
        await lab.split()
        assert lab.rig.sql("SELECT trace_ids FROM hints") == [(traces[-15:],)]


async def test_what_nobody_reads_is_ignored_with_the_reason_and_what_is_not_understood_is_kept_dead(
    fresh_database,
):
    async with hooks(fresh_database) as lab:
        lab.deliver(
            client(1),
            {"event": "invoice.paid", "data": {"InvoiceId": 5}},
            {"event": "vendor.updated", "data": {"CompanyId": 5}},
            {"event": "robot.exploded", "data": {"RobotId": 5}},
            b"\xff\x00 not JSON",
            b"[" * 100_000,
            {"event": "client.updated", "data": {"CompanyId": 10**600}},
        )
        lab.deliver(client(2), subscription="retired-and-gone")
        done = await lab.split()
        assert lab.inbox() == {
            "done": 1,
            "nothing_to_read": 1,
            "no_flow": 1,
            "not_understood": 4,
            "no_subscription": 1,
        }
        assert (done.received, done.done, done.ignored, done.dead) == (8, 1, 2, 5)
        assert [row[2] for row in lab.hints()] == ["1"]
        assert lab.rig.sql("SELECT count(*) FROM inbox WHERE state = 'dead' AND error IS NULL") == [(0,)]
        assert lab.rig.sql("SELECT count(*) FROM inbox WHERE error LIKE '%5%' OR error LIKE '%0000%'") == [
            (0,)
        ]


async def test_a_parser_that_breaks_costs_one_row_and_the_error_quotes_nothing_of_it(
    fresh_database, monkeypatch, caplog
):
    async with hooks(fresh_database) as lab:
        from ipaas_resources.connectors.calibration import webhook

        whole = webhook.hints

        def breaks(body):
            if b"canary" in body:
                raise LookupError("canary-5d1")
            return whole(body)

        monkeypatch.setattr(webhook, "hints", breaks)
        lab.deliver(client(1), b'{"canary": 1}', client(2))
        done = await lab.split()
        assert (done.done, done.dead) == (2, 1)
        ((error,),) = lab.rig.sql("SELECT error FROM inbox WHERE state = 'dead'")
        assert "LookupError" in error
        assert "canary" not in error + caplog.text


async def test_deliveries_of_a_system_that_is_gone_are_ignored(fresh_database):
    async with hooks(fresh_database) as lab:
        lab.tell(1)
        lab.rig.sql("DELETE FROM systems WHERE system = 'erp'")
        await lab.split()
        assert lab.inbox() == {"no_system": 1}


async def test_a_subscription_for_one_entity_lets_no_other_through(fresh_database):
    async with hooks(fresh_database, entity="work_orders") as lab:
        lab.tell(1)
        await lab.split()
        assert lab.inbox() == {"other_entity": 1}
        assert lab.hints() == []


@pytest.mark.parametrize("place", ["-K04", "K04"])
async def test_a_crash_of_the_splitter_changes_everything_or_nothing(fresh_database, monkeypatch, place):
    async with hooks(fresh_database) as lab:
        lab.tell(1, 2, 2)
        with monkeypatch.context() as patched:
            crash_at(patched, place)
            with pytest.raises(Crash):
                await lab.split()
        await lab.split()
        assert lab.inbox() == {"done": 3}
        assert [row[2:5] for row in lab.hints()] == [("1", "due", 1), ("2", "due", 1)]


async def test_a_splitter_that_dies_in_its_transaction_leaves_the_deliveries_due(fresh_database, monkeypatch):
    async with hooks(fresh_database) as lab:
        lab.tell(1, 2)

        async def dies(*_):
            raise Crash

        with monkeypatch.context() as patched:
            patched.setattr("ipaas_resources.store.hints.finish_deliveries", dies)
            with pytest.raises(Crash):
                await lab.split()
        assert lab.inbox() == {"due": 2}
        assert lab.hints() == []


async def test_several_splitters_at_once_split_each_delivery_once_and_wait_for_nobody(fresh_database):
    async with hooks(fresh_database) as lab:
        chance = random.Random(3)
        lab.tell(*(chance.randrange(40) for _ in range(600)))

        async def work():
            total = Split()
            while (done := await split(lab.rig.database, most=17)).received:
                total.add(done)
            return total

        parts = await asyncio.gather(*(work() for _ in range(4)))
        assert sum(part.received for part in parts) == 600
        assert lab.inbox() == {"done": 600}
        assert len(lab.hints()) == 40


async def test_large_deliveries_are_split_in_small_groups(fresh_database):
    async with hooks(fresh_database) as lab:
        padding = "x" * 1_500_000
        lab.deliver(*({**client(number), "padding": padding} for number in range(5)))
        assert [(await lab.split()).received for _ in range(3)] == [3, 2, 0]


async def test_a_collection_asks_for_a_pull_and_one_without_a_filter_for_all_of_it(fresh_database):
    async with hooks(fresh_database, connector="business_central", source=Named(scopes=("main",))) as bc:
        for query, whole in (
            ("?$filter=lastModifiedDateTime%20gt%202026-01-01T00:00:00Z", False),
            ("", True),
        ):
            bc.deliver(notice(query=query, kind="collection"))
            await bc.split()
            done = await bc.read()
            assert done.asked == 1
            assert done.polls == {("erp", "clients")}
            assert bc.rig.sql(
                "SELECT scope, entity, poll_full, poll_due_at <= now(), poll_reason IS NOT NULL FROM entity_state"
            ) == [("main", "clients", whole, True, True)]
        # A later, smaller one does not take the full read back.
        bc.deliver(notice(query="?$filter=a", kind="collection"))
        await bc.split()
        await bc.read()
        assert bc.rig.sql("SELECT poll_full FROM entity_state") == [(True,)]
        assert bc.source.calls.count("read") == 0
        assert bc.hints() == []


async def test_a_pull_that_a_named_scope_asks_for_needs_no_hint(fresh_database):
    flow = LAB_FLOW.replace("entity: clients", "entity: certificates")
    async with hooks(fresh_database, flow=flow) as lab:
        lab.deliver({"event": "certificate.issued", "data": {"ServiceOrderId": 7}})
        done = await lab.split()
        assert (done.done, done.pulls, done.hints) == (1, 1, 0)
        assert done.polls == {("erp", "certificates")}
        assert lab.rig.sql("SELECT entity, poll_full FROM entity_state") == [("certificates", False)]


async def test_companies_are_read_under_our_scope_and_unknown_ones_stand_in_one_dead_row(fresh_database):
    async with hooks(fresh_database, connector="business_central", source=Named(scopes=("main",))) as bc:
        bc.source.put(RECORD, "main", number="C-1", name="Lab", balance=1)
        bc.deliver(notice(RECORD), *(notice(RECORD[:-1] + str(n), company=OTHER_COMPANY) for n in range(5)))
        await bc.split()
        done = await bc.read()
        assert (done.claimed, done.read, done.nowhere) == (6, 1, 5)
        assert bc.rig.sql("SELECT scope, record FROM mirror") == [("main", RECORD)]
        assert [row[1:4] for row in bc.hints()] == [("~" + OTHER_COMPANY, "?", "dead")]
        ((error,),) = bc.rig.sql("SELECT error FROM hints")
        assert OTHER_COMPANY in error
        # For an hour nobody asks for that company again.
        bc.deliver(notice(RECORD, company=OTHER_COMPANY))
        await bc.split()
        assert bc.inbox() == {"done": 6, "unknown_place": 1}
        # Then it is asked again, for somebody may have added the scope.
        bc.rig.sql("UPDATE hints SET raised_at = now() - interval '61 minutes'")
        bc.source.companies = {OTHER_COMPANY: "main"}
        bc.deliver(notice(RECORD, company=OTHER_COMPANY))
        await bc.split()
        assert (await bc.read()).read == 1


async def test_tables_under_the_product_s_own_name_are_found_when_they_are_read(fresh_database):
    async with hooks(fresh_database, connector="dataverse", source=Named()) as crm:
        crm.source.put(RECORD, number="C-1", name="Lab", balance=1)
        context = {"MessageName": "Update", "PrimaryEntityName": "client", "PrimaryEntityId": RECORD.upper()}
        crm.deliver(
            context, {**context, "PrimaryEntityName": "other"}, {**context, "PrimaryEntityName": "ghost"}
        )
        done = await crm.split()
        assert done.touched == {("erp", "~client"), ("erp", "~other"), ("erp", "~ghost")}
        read = await crm.read(system="erp", entity="clients")
        assert (read.read, read.unwanted, read.nowhere) == (1, 1, 1)
        assert crm.mirror() == {RECORD: "Lab"}
        assert [row[0] for row in crm.hints()] == ["~ghost"]
