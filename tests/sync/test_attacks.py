"""Scenarios that an adversarial review found: each made the engine lose, double, leak or lie before it was mended."""

import asyncio
from decimal import Decimal

import msgspec
import pytest

from ipaas_assets.sync.engine import flow_targets
from ipaas_assets.sync.run import run_flow
from ipaas_resources.core.errors import (
    RefusedRecordError,
    SystemBusyError,
    UnknownOutcomeError,
)
from ipaas_resources.core.records import Change, ChangeKind, Outcome, Page, WriteResult
from ipaas_resources.store import registry, versions
from ipaas_resources.store.versions import About, NewLookup
from tests.sync.product import CUSTOMER, Faults, Product
from tests.sync.rig import flow, rig
from tests.sync.test_engine import fill

D = Decimal


async def raise_flow(world, name="people"):
    f = world.engine.flow(name)
    await registry.raise_all(
        world.database,
        system="erp",
        entity="customers",
        scopes=None,
        targets=flow_targets(f.compiled, f.stored.version),
        trace_id="t",
    )


async def test_a_worker_with_an_old_version_does_not_settle_what_the_new_one_raised(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 3)
        await world.apply(flow())
        await world.run()
        old = world.engine
        await world.apply(flow().replace("name: name", "name: {const: fixed}"))
        await raise_flow(world)
        await run_flow(old, "people", pull=False)
        await world.settle_everything()
        assert {each["name"] for each in crm.records.values()} == {"fixed"}


async def test_a_flow_that_became_active_during_a_pull_gets_its_records(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 2)
        await world.apply(flow())
        await world.run()
        old = world.engine
        await world.apply(
            flow().replace("flow: people", "flow: second").replace("{$scope}{number}", "s-{number}")
        )
        await raise_flow(world, "second")
        erp.put("r9", number="C9", name="nine", balance=D(1))
        await run_flow(old, "people")
        await world.settle_everything("second")
        await world.run("second", mode="full")
        assert crm.by("number", "s-C9")


async def test_a_record_that_breaks_its_contract_while_it_is_claimed_is_not_written(fresh_database):
    source, target = Product(), Product()
    async with rig(fresh_database, source=source, target=target) as world:
        source.put("a", number="1", name="good", balance=D(1))
        await world.apply(flow())
        write = target.write

        async def w(*a):
            if not target.ledger:
                source.put("a", name="x" * 41)
                await run_flow(other, "people", targets=[])
            return await write(*a)

        target.write = w
        other = world.engine
        await world.open()
        await world.settle_everything()
        assert [each["name"] for each in target.records.values()] == ["good"]


async def test_a_replan_does_not_bring_back_a_record_that_breaks_its_contract(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 2)
        await world.apply(flow())
        await world.run()
        erp.put("r1", name="x" * 41)
        await world.run()
        await world.run(mode="replan", pull=False)
        assert max(len(each["name"]) for each in crm.records.values()) <= 40


async def test_a_record_that_could_not_be_read_keeps_its_last_good_document(fresh_database):
    """A row the connector could not read is set aside with doc {}; a replan then maps {}."""
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 2)
        await world.apply(flow(on_leave="delete"))
        await world.run()
        changes = erp.changes

        async def faulty(*a, **k):
            async for page in changes(*a, **k):
                yield msgspec.structs.replace(
                    page,
                    changes=[c for c in page.changes if c.id != "r1"],
                    faults=[("r1", RefusedRecordError("cannot be read"))],
                )

        erp.changes = faulty
        await world.run(mode="full")
        await world.run(mode="replan", pull=False)
        assert len(crm.records) == 2
        assert all(r["name"] for r in crm.records.values())


async def test_a_target_that_had_to_be_looked_at_is_looked_at_after_a_refusal_too(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        erp.put("a", number="1", name="A", balance=D(1))
        await world.apply(flow())
        await world.run()
        other = world.engine
        await world.open()
        erp.put("a", name="B")
        write = crm.write

        async def lost(*a):
            await write(*a)  # B is applied, its answer is lost
            crm.write = refuse
            erp.put("a", name="C")
            await run_flow(other, "people", targets=[])  # pulls only
            raise UnknownOutcomeError

        async def refuse(e, s, ops):
            return [WriteResult(outcome=Outcome.REFUSED, error=RefusedRecordError("no"))] * len(ops)

        crm.write = lost
        await world.run()
        crm.write = write
        erp.put("a", name="A")
        await world.settle_everything()
        await world.run(mode="full")
        await world.run(mode="replan", pull=False)
        assert [r["name"] for r in crm.records.values()] == ["A"]


async def test_a_key_that_changes_while_a_create_is_undecided_doubles_nothing(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        erp.put("a", number="1", name="A", balance=D(1))
        crm.manifest = crm.manifest.model_copy(update={"max_server_time": 5.0})
        await world.apply(flow())
        crm.faults = Faults(lost_answer=1.0)
        await world.run()
        crm.faults = Faults()
        erp.put("a", number="2")
        await world.settle_everything()
        assert len(crm.records) == 1, crm.records


async def test_a_record_deleted_while_its_create_is_undecided_goes_to_a_person(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        erp.put("a", number="1", name="A", balance=D(1))
        crm.manifest = crm.manifest.model_copy(update={"max_server_time": 5.0})
        await world.apply(flow(on_delete="delete"))
        crm.faults = Faults(lost_answer=1.0)
        await world.run()
        crm.faults = Faults()
        erp.drop("a")
        await world.run(mode="full")
        await world.settle_everything()
        # Nobody can tell whether the create arrived, so nothing is deleted and nothing is called done.
        assert [(item[3], item[5]) for item in world.items()] == [("review", "unknown_outcome")]


async def test_a_reserved_record_is_searched_by_its_key_again(fresh_database):
    target = Product(create="client_key")
    async with rig(fresh_database, target=target) as world:
        erp, crm = world.products["erp"], target
        crm.put("foreign", number="2", name="theirs")
        erp.put("a", number="1", name="A", balance=D(1))
        await world.apply(flow())
        write = target.write

        async def busy(*a):
            raise SystemBusyError

        target.write = busy
        await world.run()
        target.write = write
        erp.put("a", number="2")
        await world.settle_everything()
        assert len(crm.by("number", "2")) == 1, crm.records


async def test_a_page_with_deletes_and_returns_loses_neither(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 2)
        await world.apply(flow(on_delete="delete"))
        await world.run()
        docs = {k[1]: dict(v) for k, v in erp.records.items()}

        async def feed(*a, **k):
            def up(r, **f):
                return Change(kind=ChangeKind.UPSERT, id=r, document={**docs[r], **f}, etag="9")

            def gone(r):
                return Change(kind=ChangeKind.DELETE, id=r)

            yield Page(
                changes=[up("r0", name="last"), gone("r0"), gone("r1"), up("r1", name="back")],
                cursor={"since": 99},
                more=False,
            )

        erp.changes = feed
        await world.run()
        await world.settle_everything()
        assert {r["number"]: r["name"] for r in crm.records.values()} == {"C1": "back"}


async def test_a_text_that_cannot_be_stored_sets_its_record_aside_and_no_other(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 3)
        erp.put("r1", name="a\x00b", email="canary-7391@x")
        await world.apply(flow())
        result = await world.run()
        assert {each["number"] for each in crm.records.values()} == {"C0", "C2"}
        assert (result.dead, [item[5] for item in world.items()]) == (1, ["unstorable"])


async def test_a_stalled_puller_does_not_bury_a_record_that_came_back(fresh_database):
    source = Product(versions="ordered")
    async with rig(fresh_database, source=source) as world:
        erp, crm = source, world.products["crm"]
        fill(erp, 2)
        await world.apply(flow(on_delete="delete"))
        await world.run()
        erp.drop("r1")
        other = world.engine
        await world.open()
        read = erp.read

        async def slow(*a):
            result = await read(*a)
            erp.read = read
            world.let_time_pass()
            erp.put("r1", number="C1", name="Back", balance=D(5))
            await run_flow(other, "people")
            return result

        erp.read = slow
        await world.run(mode="full")
        await world.settle_everything()
        await world.run()
        assert [e.kind for e in crm.ledger if e.kind == "delete"] == [], (
            [(e.kind, e.id) for e in crm.ledger],
            world.events(),
        )


async def test_two_records_that_move_to_one_key_at_once_do_not_end_the_run(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        for n in range(4):
            erp.put(f"r{n}", number=f"{n}", name="n", balance=D(1))
        await world.apply(flow())
        write = crm.write

        async def busy(*a):
            raise SystemBusyError

        crm.write = busy
        await world.run()
        crm.write = write
        erp.put("r0", number="7")
        erp.put("r1", number="7")
        world.let_time_pass()
        await world.run()
        assert len(crm.records) == 3


async def test_a_deactivation_masks_personal_values_in_its_event(fresh_database):
    schema = msgspec.structs.replace(
        CUSTOMER,
        fields=tuple(
            msgspec.structs.replace(f, sensitivity="personal") if f.name == "name" else f
            for f in CUSTOMER.fields
        ),
    )
    async with rig(fresh_database, source=Product(schema=schema), target=Product(schema=schema)) as world:
        erp = world.products["erp"]
        fill(erp, 2)
        erp.put("r1", name="canary-7391")
        await world.apply(flow(on_delete="deactivate"))
        await world.run()
        erp.drop("r1")
        await world.run(mode="full")
        ((text,),) = world.sql("SELECT string_agg(sync_events::text, ' ') FROM sync_events")
        assert "canary-7391" not in text


async def test_a_key_listing_that_is_not_complete_is_not_believed(fresh_database):
    async with rig(fresh_database, source=Product(page=50), batch=50) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 8)
        for n in range(8):
            crm.put(f"f{n}", number=f"C{n}", name="theirs")
        await world.apply(flow())
        keys = crm.keys

        async def partial(*a):
            async for page in keys(*a):
                yield msgspec.structs.replace(page, ids=page.ids[:3], values=page.values[:3], complete=False)

        crm.keys = partial
        await world.settle_everything()
        assert len(crm.records) == 8


async def test_a_key_listing_is_taken_once_and_forgotten_at_the_end(fresh_database):
    async with rig(fresh_database, source=Product(page=50), batch=6) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 20)
        crm.put("x", number="zz")
        keys = crm.keys

        async def k(*a):
            await asyncio.sleep(0.1)
            async for p in keys(*a):
                yield p

        crm.keys = k
        await world.apply(flow())
        await world.run()
        assert world.sql("select count(*) from scan_keys") == [(0,)]


async def test_a_slow_worker_extends_its_lease_and_doubles_nothing(fresh_database):
    target = Product(batch=1)
    async with rig(
        fresh_database, source=Product(page=50), target=target, lease=2.0, batch=8, writers=1
    ) as world:
        fill(world.products["erp"], 8)
        await world.apply(flow())
        write = target.write

        async def slow(*a):
            await asyncio.sleep(0.4)
            return await write(*a)

        target.write = slow
        other = world.engine
        await world.open()

        async def second():
            await asyncio.sleep(2.3)
            return await run_flow(other, "people", pull=False)

        await asyncio.gather(run_flow(world.engine, "people"), second())
        numbers = sorted(r["number"] for r in target.records.values())
        assert numbers == sorted(set(numbers)), numbers


async def save_names(world, name):
    table = NewLookup(lookup="names", text=f"key,value\nN,{name}\n", rows={"N": name})
    await versions.save_documents(world.database, [], [table], about=About(actor="test", origin="file"))


async def test_a_changed_lookup_table_reaches_workers_that_were_open_before(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        erp.put("a", number="1", name="N", balance=D(1))
        await save_names(world, "one")
        await world.apply(flow().replace("name: name", "name: {lookup: names, of: name, missing: flag}"))
        await world.run()
        old = world.engine
        await save_names(world, "two")
        await raise_flow(world)
        await run_flow(old, "people", pull=False)
        await world.open()
        await world.settle_everything()
        assert [r["name"] for r in crm.records.values()] == ["two"]


async def test_an_unstorable_text_is_in_no_error_and_its_page_goes_on(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 3)
        await world.apply(flow())
        await world.run()
        erp.put("r1", email="canary-7391\x00@x")
        erp.put("r2", name="never arrives")
        await world.run()
        assert crm.by("number", "C2")[0]["name"] == "never arrives"
        for table in ("sync_events", "work_items", "runs"):
            ((text,),) = world.sql(f"SELECT coalesce(string_agg({table}::text, ' '), '') FROM {table}")
            assert "canary-7391" not in text


async def test_a_crash_between_activation_and_raising_is_made_good_by_the_next_run(
    fresh_database, tmp_path, monkeypatch
):
    from ipaas_assets.sync import apply as ap

    async with rig(fresh_database) as world:
        await world.open()
        fill(world.products["erp"], 2)
        (tmp_path / "people.yaml").write_text(flow())
        await ap.apply_folder(world.engine, tmp_path, actor="t")
        await world.open()
        await world.run()
        (tmp_path / "people.yaml").write_text(flow().replace("name: name", "name: {const: fixed}"))
        real = registry.to_be_raised

        async def die(*a, **k):
            raise KeyboardInterrupt

        monkeypatch.setattr(registry, "to_be_raised", die)
        with pytest.raises(KeyboardInterrupt):
            await ap.apply_folder(world.engine, tmp_path, actor="t")
        monkeypatch.setattr(registry, "to_be_raised", real)
        await world.open()
        await world.settle_everything()
        await world.run(mode="full")
        assert {r["name"] for r in world.products["crm"].records.values()} == {"fixed"}


async def test_work_of_a_disabled_flow_waits_until_it_is_enabled(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 1)
        await world.apply(flow())
        await world.apply(
            flow().replace("flow: people", "flow: second").replace("{$scope}{number}", "s-{number}")
        )
        await world.run()
        await world.settle_everything("second")
        await registry.set_enabled(world.database, "second", enabled=False)
        await world.open()
        erp.put("r0", name="New")
        erp.put("r9", number="C9", name="nine", balance=D(1))
        await world.run()
        await registry.set_enabled(world.database, "second", enabled=True)
        await world.open()
        await world.settle_everything("second")
        await world.run("second", mode="full")
        assert crm.by("number", "s-C9"), crm.by("number", "s-C0")
