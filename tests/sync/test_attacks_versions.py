"""Attacks on versions of flows: switches that race, die half way, or mean something else than they say."""

import asyncio
import functools
from collections import Counter
from decimal import Decimal

import pytest

from ipaas_assets.sync import remap
from ipaas_assets.sync.apply import apply_folder, roll_back
from ipaas_assets.sync.exporting import export_folder
from ipaas_assets.sync.planning import plan_folder
from ipaas_assets.sync.run import run_flow
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store import registry, versions
from ipaas_resources.store.database import Database
from ipaas_resources.store.versions import NewFlow, NewLookup
from mappings.faults import FlowErrors
from mappings.lookup_tables import read_table
from tests.sync.product import Product
from tests.sync.rig import flow, rig
from tests.sync.test_engine import fill
from tests.sync.test_flow_versions import ABOUT, apply, write

LOOKED_UP = flow().replace("name: name", "name: {lookup: names, of: name, missing: {default: other}}")
SAME = flow().replace("name: name", "name: {const: same}")
SECOND = (
    "  second:\n    system: crm\n    entity: customers\n"
    '    key: {number: {template: "two-{number}", too_long: error}}\n    fields: {balance: balance}\n'
)


def table(rows: str) -> str:
    return f"key,value\n{rows}"


async def save_table(world, rows: str, *, users=("people",), remap="changed"):
    """A table becomes active, and the process dies before it raised anything."""
    text = table(rows)
    new = NewLookup(lookup="names", text=text, rows=read_table(text, name="names.csv"))
    await versions.save_documents(world.database, [], [new], about=ABOUT, users={"names": users}, remap=remap)


def names(world) -> set[str]:
    return {record["name"] for record in world.products["crm"].records.values()}


# --- races of raising ---------------------------------------------------------------------------------------------


async def test_a_table_that_changes_while_its_flow_is_raised_is_still_to_be_raised(
    fresh_database, tmp_path, monkeypatch
):
    async with rig(fresh_database) as world:
        await world.open()
        fill(world.products["erp"], 2)
        await apply(world, write(tmp_path, LOOKED_UP, tables={"names": table("Name 1,One\n")}))
        await world.settle_everything()
        world.sql("UPDATE flows SET raised_version = NULL")  # somebody raises it at this moment
        slow = remap._raise_differing

        async def meanwhile(*arguments):
            raised = await slow(*arguments)
            await save_table(world, "Name 1,Uno\n")
            return raised

        monkeypatch.setattr(remap, "_raise_differing", meanwhile)
        await remap.raise_pending(world.engine)
        monkeypatch.setattr(remap, "_raise_differing", slow)
        await world.open()
        await world.settle_everything()
        assert names(world) == {"other", "Uno"}


async def test_a_worker_that_read_its_tables_before_they_changed_raises_by_the_new_ones(
    fresh_database, tmp_path
):
    async with rig(fresh_database) as world:
        await world.open()
        fill(world.products["erp"], 2)
        await apply(world, write(tmp_path, LOOKED_UP, tables={"names": table("Name 1,One\n")}))
        await world.settle_everything()
        await save_table(world, "Name 1,Uno\n")
        await world.settle_everything()  # with the engine that was open before
        assert names(world) == {"other", "Uno"}


async def test_a_slow_raiser_of_an_older_version_does_not_drop_the_work_of_a_newer_one(
    fresh_database, tmp_path, monkeypatch
):
    async with rig(fresh_database) as world:
        erp = world.products["erp"]
        fill(erp, 2)
        await world.apply(flow())
        await world.settle_everything()
        world.sql("UPDATE flows SET raised_version = NULL")
        old = world.engine
        real = registry.to_be_raised

        async def overtaken(database):
            wanted = await real(database)
            monkeypatch.setattr(registry, "to_be_raised", real)
            await world.apply(flow() + SECOND)
            await remap.raise_pending(world.engine)
            return wanted

        monkeypatch.setattr(registry, "to_be_raised", overtaken)
        await remap.raise_pending(old)
        await world.settle_everything()
        assert len(world.products["crm"].records) == 4


async def test_a_target_that_is_removed_while_its_records_are_in_work_leaves_no_work_behind(
    fresh_database, tmp_path
):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 2)
        await apply(world, write(tmp_path, flow() + SECOND))
        await world.run(targets=["copy"])
        old = world.engine
        looking, go_on = asyncio.Event(), asyncio.Event()
        find = crm.find

        async def slow(*arguments):
            looking.set()
            await go_on.wait()
            return await find(*arguments)

        crm.find = slow
        running = asyncio.create_task(run_flow(old, "people", targets=["second"], pull=False))
        await looking.wait()
        await world.open()
        await apply(world, write(tmp_path, flow()))
        go_on.set()
        await running
        crm.find = find
        result = await world.settle_everything()
        assert (world.items(), result.pending) == ([], 0)
        assert len(crm.records) == 2


async def test_a_write_that_ends_between_looking_and_marking_is_planned_again(
    fresh_database, tmp_path, monkeypatch
):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 1)
        await apply(world, write(tmp_path, LOOKED_UP, tables={"names": table("Name 0,A\n")}))
        await world.settle_everything()
        await save_table(world, "Name 0,B\n")
        writing, go_on = asyncio.Event(), asyncio.Event()
        write_now = crm.write

        async def slow(*arguments):
            writing.set()
            await go_on.wait()
            return await write_now(*arguments)

        crm.write = slow
        await world.open()
        running = asyncio.create_task(run_flow(world.engine, "people", pull=False))
        await writing.wait()  # B is on its way
        await save_table(world, "Name 0,A\n")  # and A is wanted again
        other = await world.open()
        looked = remap._raise_differing

        async def meanwhile(*arguments):
            raised = await looked(*arguments)
            go_on.set()
            await running
            return raised

        monkeypatch.setattr(remap, "_raise_differing", meanwhile)
        await remap.raise_pending(other)
        crm.write = write_now
        await world.settle_everything()
        assert names(world) == {"A"}


async def test_what_an_interrupted_switch_owed_is_never_made_less_and_never_more(fresh_database):
    async with rig(fresh_database) as world:
        owed = lambda: world.sql("SELECT remap FROM flows")[0][0]  # noqa: E731
        await world.apply(flow(), remap="none")
        await world.apply(SAME, remap="none")
        assert owed() == "none"
        await world.apply(LOOKED_UP, remap="all")
        await world.apply(SAME, remap="none")
        assert owed() == "all"
        await save_table(world, "Name 0,B\n", remap="changed")
        assert owed() == "all"


async def test_an_apply_that_dies_between_any_two_statements_is_finished_by_the_next_run(
    fresh_database, tmp_path, monkeypatch
):
    class KilledError(Exception):
        pass

    async with rig(fresh_database) as world:
        await world.open()
        fill(world.products["erp"], 4)
        await apply(world, write(tmp_path, LOOKED_UP, tables={"names": table("Name 1,One\n")}))
        await world.settle_everything()
        # Transactions, and statements that stand alone.
        steps = {name: getattr(Database, name) for name in ("begin", "_statement")}
        died = stored = 0
        for step in range(80):
            wanted = f"v{step}"
            text = LOOKED_UP.replace("{default: other}", f"{{default: {wanted}}}")
            write(tmp_path, text, tables={"names": table(f"Name 1,t{step}\n")})
            left = step

            def counted(self, *, real):
                nonlocal left
                left -= 1
                if left < 0:
                    raise KilledError
                return real(self)

            for name, real in steps.items():
                monkeypatch.setattr(Database, name, functools.partialmethod(counted, real=real))
            try:
                await apply_folder(world.engine, tmp_path, actor="ann", yes=step % 2 == 0)
                ended = True
            except KilledError:
                ended = False
                died += 1
            for name, real in steps.items():
                monkeypatch.setattr(Database, name, real)
            await world.open()
            await world.settle_everything()
            active = world.engine.flow("people").stored.text
            if active == text:
                stored += 1
                assert names(world) == {wanted, f"t{step}"}, step
            if ended:
                break
        assert ended
        assert died > 10
        assert stored > 2


async def test_two_applies_of_one_folder_at_once_make_one_version(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        first = await world.open()
        second = await world.open()
        fill(world.products["erp"], 3)
        write(tmp_path, LOOKED_UP, tables={"names": table("Name 1,One\n")})
        both = await asyncio.gather(
            *(apply_folder(engine, tmp_path, actor="ann") for engine in (first, second))
        )
        assert sorted(each.flows[0].changed for each in both) == [False, True]
        assert len(await versions.flow_history(world.database, "people")) == 1
        assert len(await versions.lookup_history(world.database, "names")) == 1
        await world.open()
        await world.settle_everything()
        assert names(world) == {"other", "One"}


async def test_many_applies_and_a_run_at_once_end_with_the_targets_of_the_active_version(
    fresh_database, tmp_path
):
    async with rig(fresh_database) as world:
        await world.open()
        fill(world.products["erp"], 12)
        await apply(world, write(tmp_path, flow()))

        async def change(number):
            folder = tmp_path / f"a{number}"
            folder.mkdir()
            write(folder, flow().replace("name: name", f"name: {{const: n{number}}}"))
            await apply_folder(await world.open(), folder, actor=f"u{number}")

        await asyncio.gather(*(change(number) for number in range(6)), world.run(), world.run())
        await world.open()
        await world.settle_everything()
        history = await versions.flow_history(world.database, "people")
        assert [each.version for each in history] == [7, 6, 5, 4, 3, 2, 1]
        text = world.engine.flow("people").stored.text
        assert names(world) == {text.split("name: {const: ")[1].split("}")[0]}
        assert len(world.products["crm"].records) == 12


# --- what a version means for links and queued work ----------------------------------------------------------------


async def test_links_of_another_target_entity_are_never_used_for_this_one(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 2)
        await apply(world, write(tmp_path, flow()))
        await world.settle_everything()
        crm.ledger.clear()
        other = flow().replace("system: crm\n    entity: customers", "system: crm\n    entity: vendors")
        with pytest.raises(FlowErrors, match=r"people.yaml:\d+: .*crm/customers.*another name"):
            await apply(world, write(tmp_path, other))
        # Nor where a version without the target stood in between.
        between = flow().replace("  copy:", "  other:")
        await apply(world, write(tmp_path, between))
        with pytest.raises(FlowErrors, match=r"crm/customers.*another name"):
            await apply(world, write(tmp_path, other))
        renamed = other.replace("  copy:", "  vendor:")
        await apply(world, write(tmp_path, renamed))


async def test_links_of_another_source_entity_are_never_used_for_this_one(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        await world.open()
        fill(world.products["erp"], 2)
        await apply(world, write(tmp_path, flow("delete")))
        await world.settle_everything()
        with pytest.raises(FlowErrors, match=r"erp/customers.*another name"):
            await apply(
                world,
                write(
                    tmp_path,
                    flow("delete").replace(
                        "source: {system: erp, entity: customers}", "source: {system: erp, entity: vendors}"
                    ),
                ),
            )


async def test_a_source_entity_may_change_while_nothing_is_linked_and_old_work_goes(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        await world.open()
        fill(world.products["erp"], 2)
        await apply(world, write(tmp_path, flow("delete")))
        await remap.raise_pending(world.engine)
        await world.run(targets=[])
        assert len(world.items()) == 2
        world.products["erp"].records.clear()
        changed = flow("delete").replace(
            "source: {system: erp, entity: customers}", "source: {system: erp, entity: vendors}"
        )
        await apply(world, write(tmp_path, changed))
        await world.settle_everything()
        assert (world.items(), world.products["crm"].ledger) == ([], [])


async def test_work_of_a_scope_that_the_flow_no_longer_reads_is_not_written(fresh_database, tmp_path):
    source, target = Product(scopes=("a", "b")), Product()
    async with rig(fresh_database, source=source, target=target) as world:
        await world.open()
        fill(source, 2, "a")
        fill(source, 2, "b")
        await apply(world, write(tmp_path, flow()))
        await world.run(targets=[])
        assert len(world.items()) == 4
        narrow = flow().replace("entity: customers}", "entity: customers, scopes: [a]}", 1)
        planned = await plan_folder(world.engine, write(tmp_path, narrow))
        assert planned.flows[0].records.counts == {"copy": {"create": 2}}
        await apply(world, tmp_path)
        await world.settle_everything()
        assert {record["number"][0] for record in target.records.values()} == {"a"}
        assert world.items() == []


async def test_a_value_that_a_removed_rule_wrote_is_made_right_when_the_rule_comes_back(
    fresh_database, tmp_path
):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 1)
        await apply(world, write(tmp_path, flow()))
        await world.settle_everything()
        await apply(world, write(tmp_path, flow().replace("      name: name\n", "")))
        await world.settle_everything()
        made = next(iter(crm.records))[1]
        crm.put(made, name="By hand")  # it is nobody's field now
        await roll_back(world.engine, "people", about=ABOUT)
        await world.open()
        await world.settle_everything()
        assert names(world) == {"Name 0"}


async def test_a_flow_outside_the_folder_that_follows_links_of_a_removed_target_keeps_its_target(
    fresh_database, tmp_path
):
    async with rig(fresh_database) as world:
        await world.open()
        both, one = tmp_path / "both", tmp_path / "one"
        both.mkdir()
        one.mkdir()
        write(both, flow())
        child = (
            flow()
            .replace("flow: people", "flow: folk")
            .replace("      email: email\n", "      parent: {ref: people.copy, of: id}\n")
        )
        await apply(world, write(both, child, name="folk.yaml"))
        with pytest.raises(FlowErrors, match=r"folk.*people.copy"):
            await apply(world, write(one, flow().replace("  copy:", "  other:")))


@pytest.mark.parametrize("how", ["keep", "deactivate", "delete", "review"])
async def test_the_plan_of_a_changed_when_is_what_apply_and_run_then_do(fresh_database, tmp_path, how):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 6)
        steps = [
            flow(on_leave=how),
            flow(on_leave=how).replace("when: balance >= 0", "when: balance >= 3"),
            flow(on_leave=how).replace("when: balance >= 0", "when: balance < 3"),
            flow(on_leave=how),
        ]
        for text in steps:
            write(tmp_path, text)
            crm.ledger.clear()
            planned = await plan_folder(world.engine, tmp_path)
            counts = planned.flows[0].records.counts["copy"]
            before = world.events()
            await apply(world, tmp_path)
            await world.settle_everything()
            written = Counter(effect.kind for effect in crm.ledger)
            did = world.events() - before
            said = {
                "create": counts["create"],
                "update": counts["update"] + counts["deactivate"],
                "delete": counts["delete"],
            }
            assert {kind: written[kind] for kind in said} == said, text
            assert did["review"] == counts["review"]


async def test_a_plan_counts_a_target_that_refers_to_one_of_the_same_flow_as_it_is_then_written(
    fresh_database, tmp_path
):
    text = flow() + (
        "  second:\n    system: crm\n    entity: customers\n"
        '    key: {number: {template: "two-{number}", too_long: error}}\n'
        "    fields: {balance: balance, parent: {ref: people.copy, of: id}}\n"
    )
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 3)
        planned = await plan_folder(world.engine, write(tmp_path, text))
        await apply(world, tmp_path)
        await world.settle_everything()
        assert planned.flows[0].records.counts == {"copy": {"create": 3}, "second": {"create": 3}}
        assert Counter(effect.kind for effect in crm.ledger) == {"create": 6}


async def test_a_plan_counts_a_target_that_cannot_do_without_one_of_the_same_flow(fresh_database, tmp_path):
    text = flow() + (
        "  second:\n    system: crm\n    entity: customers\n"
        "    key: {parent: {ref: people.copy, of: id}}\n    fields: {balance: balance}\n"
    )
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 3)
        planned = await plan_folder(world.engine, write(tmp_path, text))
        await apply(world, tmp_path)
        await world.settle_everything()
        assert Counter(effect.kind for effect in crm.ledger) == {"create": 6}
        assert planned.flows[0].records.counts == {"copy": {"create": 3}, "second": {"create": 3}}


async def test_without_remap_records_that_gave_up_stay_where_they_are_until_asked(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 2)
        await apply(world, write(tmp_path, flow()))
        await world.settle_everything()
        world.sql(
            "INSERT INTO work_items (flow, target, scope, record, target_system, target_entity, lane, state, trace_ids)"
            " VALUES ('people', 'copy', '', 'r1', 'crm', 'customers', 2, 'dead', '{}')"
        )
        crm.ledger.clear()
        await apply(world, write(tmp_path, SAME), remap="none")
        await world.run(pull=False)
        assert crm.ledger == []


async def test_a_key_rule_that_changes_keeps_the_links_and_moves_the_keys(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 3)
        await apply(world, write(tmp_path, flow()))
        await world.settle_everything()
        before = world.sql("SELECT record, target_id FROM links ORDER BY 1")
        crm.ledger.clear()
        changed = flow().replace('"{$scope}{number}"', '"K{number}", too_long: error')
        planned = await plan_folder(world.engine, write(tmp_path, changed))
        assert planned.flows[0].records.counts == {"copy": {"update": 3}}
        await apply(world, tmp_path)
        await world.settle_everything()
        assert world.sql("SELECT record, target_id FROM links ORDER BY 1") == before
        assert {record["number"] for record in crm.records.values()} == {"KC0", "KC1", "KC2"}


async def test_a_switch_looks_again_at_what_an_unknown_write_left(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 3)
        await apply(world, write(tmp_path, flow()))
        crm.faults.lost_answer = 1.0
        await world.run()
        crm.faults.lost_answer = 0.0
        assert {item[3] for item in world.items()} == {"due"}
        await apply(world, write(tmp_path, SAME))
        await world.settle_everything()
        assert (len(crm.records), names(world)) == (3, {"same"})


async def test_a_disabled_flow_is_switched_and_writes_nothing_until_it_is_enabled(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 2)
        await apply(world, write(tmp_path, flow()))
        await world.settle_everything()
        await registry.set_enabled(world.database, "people", enabled=False)
        await world.open()
        crm.ledger.clear()
        applied = await apply(world, write(tmp_path, SAME))
        assert (applied.raised, crm.ledger, world.engine.flow("people").stored.enabled) == (2, [], False)
        await registry.set_enabled(world.database, "people", enabled=True)
        await world.open()
        await world.settle_everything()
        assert names(world) == {"same"}


# --- other flows ---------------------------------------------------------------------------------------------------


async def test_a_table_that_would_break_a_flow_outside_the_folder_is_refused(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        await world.open()
        both, one = tmp_path / "both", tmp_path / "one"
        both.mkdir()
        one.mkdir()
        good = table("Name 1,One\n")
        write(both, LOOKED_UP, tables={"names": good})
        # The other flow shows the value in a field of 20 characters.
        other = (
            LOOKED_UP.replace("flow: people", "flow: folk")
            .replace("name: {lookup", "number: {lookup")
            .replace('key: {number: {template: "{$scope}{number}"}}', "key: {email: email}")
            .replace("      email: email\n", "")
        )
        write(both, other, name="folk.yaml", tables={})
        await apply(world, both)
        write(one, LOOKED_UP, tables={"names": table(f"Name 1,{'x' * 30}\n")})
        with pytest.raises(FlowErrors, match=r"folk"):
            await apply(world, one)
        assert (await versions.lookup_text(world.database, "names")).version == 1


async def test_a_flow_that_cannot_be_raised_now_does_not_fail_the_apply_of_another(
    fresh_database, tmp_path, monkeypatch
):
    async with rig(fresh_database) as world:
        await world.open()
        fill(world.products["erp"], 2)
        first, second = tmp_path / "first", tmp_path / "second"
        first.mkdir()
        second.mkdir()
        await apply(
            world,
            write(
                first,
                flow()
                .replace("flow: people", "flow: a_broken")
                .replace("entity: customers\n    key", "entity: gone\n    key"),
            ),
        )
        await apply(world, write(second, flow()))
        world.sql("UPDATE flows SET raised_version = NULL WHERE flow = 'a_broken'")
        await world.open()
        live = world.products["crm"].schema

        async def half(entity):
            if entity == "gone":
                raise ConfigurationError("crm has no entity gone.")
            return await live(entity)

        monkeypatch.setattr(world.products["crm"], "schema", half)
        await world.open()
        await apply(world, write(second, SAME))
        await world.settle_everything()
        assert names(world) == {"same"}
        assert (await registry.to_be_raised(world.database)).keys() == {"a_broken"}


# --- going back ----------------------------------------------------------------------------------------------------


async def test_going_back_is_refused_when_somebody_changed_the_flow_meanwhile(
    fresh_database, tmp_path, monkeypatch
):
    async with rig(fresh_database) as world:
        await world.open()
        await apply(world, write(tmp_path, flow()))
        await apply(world, write(tmp_path, SAME))
        engine = world.engine
        real = versions.save_documents

        async def overtaken(*arguments, **options):
            monkeypatch.setattr(versions, "save_documents", real)
            await world.apply(SAME.replace("same", "newer"))
            return await real(*arguments, **options)

        monkeypatch.setattr(versions, "save_documents", overtaken)
        with pytest.raises(ConfigurationError, match="version 3"):
            await roll_back(engine, "people", about=ABOUT)
        assert "newer" in (await versions.flow_text(world.database, "people")).text


# --- export --------------------------------------------------------------------------------------------------------


async def stored(world, **files: str) -> None:
    """Flows by id, with the file name that each came with."""
    await versions.save_documents(
        world.database,
        [
            NewFlow(
                flow=name,
                text=f"# {name}\n" + flow().replace("flow: people", f"flow: {name}"),
                source_system="erp",
                source_entity="customers",
                exclusive_group=None,
                file=file,
            )
            for name, file in files.items()
        ],
        about=ABOUT,
    )


@pytest.mark.parametrize(
    "files",
    [
        {"a": "b.yaml", "b": ""},
        {"a": "b.yaml", "b": "z.yaml", "c": "z.yaml"},
        {"a": "People.yaml", "b": "people.yaml"},
        {"a": "B.yaml", "b": ""},
        {"a": "../../b.yaml", "b": "..\\..\\c.yaml"},
        {"con": "", "nul": "aux.yaml", "x": "COM1.yml", "y": "lpt9.v2.yaml"},
        {"a": "x.yaml:evil.yaml", "b": ".yaml", "c": "a\nb.yaml", "d": "trail. .yaml", "e": "C:x.yaml"},
        {"a": "/etc/passwd", "b": "..", "c": f"{'x' * 300}.yaml", "d": "*?.yaml"},
        {"a": "b.yml", "b": "b.yaml"},
    ],
)
async def test_an_export_writes_every_flow_into_a_file_of_its_own_that_every_system_can_hold(
    fresh_database, tmp_path, files
):
    async with rig(fresh_database) as world:
        await stored(world, **files)
        out = tmp_path / "deep" / "out"
        await export_folder(world.database, out)
        made = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert {path.parent for path in made} == {out}
        if files == {"a": "b.yaml", "b": ""}:
            assert {path.name for path in made} == {"b.yaml", "b_2.yaml"}
        if "con" in files:
            assert {path.name for path in made} == {"con_flow.yaml", "nul_flow.yaml", "x.yaml", "y.yaml"}
        assert {path.read_text().split("\n")[0] for path in made} == {f"# {name}" for name in files}
        assert len({path.name.casefold() for path in made}) == len(files)
        for path in made:
            stem = path.name.split(".")[0].strip().casefold()
            assert stem
            assert stem not in {"con", "nul", "aux", "com1", "lpt9", "prn"}
            assert not set('\\/:*?"<>|\n') & set(path.name)
            assert len(path.name) <= 255


@pytest.mark.parametrize("name", ["../../evil", "..\\evil", "/evil", "a/b", "", "..", "c:x", "con", "a\nb"])
async def test_a_table_whose_name_is_no_file_name_is_not_exported(fresh_database, tmp_path, name):
    async with rig(fresh_database) as world:
        await versions.save_documents(
            world.database,
            [],
            [
                NewLookup(lookup=name, text="key,value\n", rows={}),
                NewLookup(lookup="fine", text="key,value\n", rows={}),
            ],
            about=ABOUT,
        )
        out = tmp_path / "deep" / "out"
        with pytest.raises(ConfigurationError, match=r"lookup table .* cannot be a file"):
            await export_folder(world.database, out)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_two_tables_whose_names_differ_by_case_alone_are_not_exported_over_each_other(
    fresh_database, tmp_path
):
    async with rig(fresh_database) as world:
        both = [NewLookup(lookup=name, text=f"key,{name}\n", rows={}) for name in ("Units", "units")]
        await versions.save_documents(world.database, [], both, about=ABOUT)
        with pytest.raises(ConfigurationError, match="Units"):
            await export_folder(world.database, tmp_path / "out")


async def test_an_export_into_the_folder_of_a_renamed_file_makes_no_second_one(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        await world.open()
        await apply(world, write(tmp_path, flow(), name="10_people.yaml"))
        (tmp_path / "10_people.yaml").rename(tmp_path / "20_people.yaml")
        await apply(world, tmp_path)
        assert (await export_folder(world.database, tmp_path)).written == 0
        assert [path.name for path in tmp_path.glob("*.yaml")] == ["20_people.yaml"]
        # Nor where its text differs.
        write(tmp_path, SAME, name="20_people.yaml")
        with pytest.raises(ConfigurationError, match=r"20_people\.yaml"):
            await export_folder(world.database, tmp_path)
        await export_folder(world.database, tmp_path, overwrite=True)
        assert [(path.name, path.read_text()) for path in tmp_path.glob("*.yaml")] == [
            ("20_people.yaml", flow())
        ]


# --- personal values -----------------------------------------------------------------------------------------------


async def test_a_plan_shows_no_personal_value_whatever_rule_it_goes_through(fresh_database, tmp_path):
    canary = "ann.canary@home"
    text = (
        flow()
        .replace("name: name", 'name: {template: "{email}", too_long: truncate}')
        .replace(
            "balance: balance",
            "balance: balance\n      parent: {if: \"email != ''\", then: email, else: name}",
        )
        .replace(
            'key: {number: {template: "{$scope}{number}"}}', 'key: {number: {python: "left(email, 20)"}}'
        )
    )
    async with rig(fresh_database) as world:
        await world.open()
        world.products["erp"].put("r1", number="C1", name="Lab", balance=Decimal(1), email=canary)
        write(tmp_path, text)
        planned = await plan_folder(world.engine, tmp_path, samples=50)
        assert planned.flows[0].records.samples
        assert canary[:15] not in repr(planned)
        await apply(world, tmp_path)
        await world.settle_everything()
        world.products["erp"].put("r1", email="new." + canary)
        write(tmp_path, text.replace("too_long: truncate", "too_long: flag"))
        planned = await plan_folder(world.engine, tmp_path, samples=50)
        assert planned.flows[0].records.samples
        assert "canary" not in repr(planned)
        history = await versions.flow_history(world.database, "people")
        assert "canary" not in repr(history)


async def test_a_record_found_missing_while_a_target_is_added_leaves_that_target_too(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 3)
        await world.apply(flow("delete"))
        await world.settle_everything()
        erp.drop("r1")
        old = world.engine
        read = erp.read

        async def meanwhile(*arguments):
            erp.read = read
            await world.apply(flow("delete") + SECOND + "    on_delete: delete\n")
            await world.run(pull=False)
            assert len(crm.records) == 6
            return await read(*arguments)

        erp.read = meanwhile
        await run_flow(old, "people", mode="full")
        await world.settle_everything()
        assert {record["number"] for record in crm.records.values()} == {"C0", "C2", "two-C0", "two-C2"}
