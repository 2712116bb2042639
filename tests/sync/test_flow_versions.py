"""Flows as code: every save is a version, a switch raises what differs, going back is a version too."""

import asyncio
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from ipaas_assets.sync.apply import apply_folder, roll_back
from ipaas_assets.sync.exporting import export_folder
from ipaas_assets.sync.planning import plan_folder
from ipaas_assets.sync.run import run_flow
from ipaas_resources.core.errors import ConfigurationError, SchemaError
from ipaas_resources.store import versions
from ipaas_resources.store.versions import About, NewFlow
from mappings.difference import flow_changes
from mappings.faults import FlowErrors
from tests.sync.product import Product
from tests.sync.rig import flow, rig
from tests.sync.test_engine import fill

ABOUT = About(actor="ann", origin="file")


def write(folder: Path, text: str, name: str = "people.yaml", tables: dict[str, str] | None = None) -> Path:
    """A folder with one flow and lookup tables."""
    (folder / name).write_bytes(text.encode())
    for table, rows in (tables or {}).items():
        (folder / "lookups").mkdir(exist_ok=True)
        (folder / "lookups" / f"{table}.csv").write_bytes(rows.encode())
    return folder


async def apply(world, folder, **options):
    applied = await apply_folder(world.engine, folder, **{"actor": "ann", **options})
    await world.open()
    return applied


async def test_a_save_is_a_version_and_an_unchanged_text_is_none(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        await world.open()
        await apply(world, write(tmp_path, flow()), reason="first")
        again = await apply(world, tmp_path)
        assert [(each.version, each.changed) for each in again.flows] == [(1, False)]
        await apply(world, write(tmp_path, flow().replace("name: name", "name: {const: same}")), actor="bob")
        newest, first = await versions.flow_history(world.database, "people")
        assert (first.version, first.active, first.actor, first.reason, first.file) == (
            1,
            False,
            "ann",
            "first",
            "people.yaml",
        )
        assert (newest.version, newest.active, newest.actor, newest.origin) == (2, True, "bob", "file")
        assert newest.diff == [
            {
                "op": "replace",
                "path": ["targets", "copy", "fields", "name"],
                "before": "name",
                "after": {"const": "same"},
            }
        ]


async def test_everything_that_the_systems_do_not_know_is_told_at_once_with_its_place(
    fresh_database, tmp_path, monkeypatch
):
    async with rig(fresh_database) as world:
        for product in world.products.values():
            live = product.schema

            async def some(entity, live=live):
                if entity.startswith("no_"):
                    raise SchemaError(f"There is no entity {entity}.")
                return await live(entity)

            monkeypatch.setattr(product, "schema", some)
        await world.open()
        text = flow().replace("entity: customers}", "entity: no_source, scopes: [nowhere]}")
        text = text.replace("entity: customers\n", "entity: no_target\n")
        text += "  second: {system: crm, entity: no_second, key: {number: number}}\n"
        with pytest.raises(FlowErrors) as caught:
            await apply_folder(world.engine, write(tmp_path, text), actor="ann")
        lines = text.splitlines()
        assert [
            (fault.path, fault.what.partition(";")[0], lines[fault.line - 1].strip()[:6])
            for fault in caught.value.faults
        ] == [
            ("source.entity", "There is no entity no_source", "source"),
            ("source.scopes", "System 'erp' has no scope 'nowhere'", "source"),
            ("targets.copy.entity", "There is no entity no_target", "entity"),
            ("targets.second.entity", "There is no entity no_second", "second"),
        ]


async def test_a_changed_rule_sends_only_the_records_it_writes_otherwise(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 9)
        await apply(world, write(tmp_path, flow()))
        await world.settle_everything()
        crm.ledger.clear()
        changed = flow().replace("name: name", 'name: {if: "balance >= 6", then: {const: rich}, else: name}')
        applied = await apply(world, write(tmp_path, changed))
        assert applied.raised == 3
        await world.run(pull=False)
        assert [effect.fields for effect in crm.ledger] == [{"name": "rich"}] * 3


async def test_a_removed_rule_leaves_the_value_in_the_target_alone(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 2)
        await apply(world, write(tmp_path, flow()))
        await world.settle_everything()
        crm.ledger.clear()
        applied = await apply(world, write(tmp_path, flow().replace("      email: email\n", "")))
        await world.run()
        assert (applied.raised, crm.ledger) == (0, [])
        assert {record["email"] for record in crm.records.values()} == {"x@y"}


@pytest.mark.parametrize(("remap", "raised", "written"), [("changed", 1, 1), ("none", 0, 0), ("all", 3, 1)])
async def test_remap_says_which_known_records_go_through_the_flow_again(
    fresh_database, tmp_path, remap, raised, written
):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 3)
        await apply(world, write(tmp_path, flow()))
        await world.settle_everything()
        crm.ledger.clear()
        changed = flow().replace("name: name", 'name: {if: "balance == 2", then: {const: two}, else: name}')
        applied = await apply(world, write(tmp_path, changed), remap=remap)
        result = await world.run(pull=False)
        assert (applied.raised, len(crm.ledger), result.pending) == (raised, written, 0)


async def test_more_than_a_thousand_records_need_a_yes_and_without_it_nothing_is_stored(
    fresh_database, tmp_path
):
    async with rig(fresh_database, source=Product(page=500), target=Product(batch=200), batch=500) as world:
        await world.open()
        fill(world.products["erp"], 1001)
        await apply(world, write(tmp_path, flow()))
        await world.settle_everything()
        write(tmp_path, flow().replace("name: name", "name: {const: same}"))
        with pytest.raises(
            ConfigurationError, match="1001 records would go through their flow again, nothing was stored"
        ):
            await apply(world, tmp_path)
        assert len(await versions.flow_history(world.database, "people")) == 1
        applied = await apply(world, tmp_path, yes=True)
        assert applied.raised == 1001


async def test_going_back_is_a_new_version_and_writes_the_old_values_again(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 2)
        await apply(world, write(tmp_path, flow()))
        await apply(world, write(tmp_path, flow().replace("name: name", "name: {const: same}")))
        await world.settle_everything()
        assert {record["name"] for record in crm.records.values()} == {"same"}
        back = await roll_back(world.engine, "people", about=About(actor="eve", origin="console"))
        await world.open()
        await world.settle_everything()
        assert [each.version for each in back.flows] == [3]
        assert {record["name"] for record in crm.records.values()} == {"Name 0", "Name 1"}
        newest = (await versions.flow_history(world.database, "people"))[0]
        assert (newest.version, newest.actor, newest.reason) == (3, "eve", "back to version 1")


async def test_going_back_is_refused_where_there_is_nothing_to_go_back_to(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        await world.open()
        await apply(world, write(tmp_path, flow()))
        for flow_name, to, said in (
            ("people", None, "is its first"),
            ("people", 7, "has no version 7"),
            ("people", 1, "says what the active version 1 says"),
            ("folk", None, "There is no flow 'folk'"),
        ):
            with pytest.raises(ConfigurationError, match=said):
                await roll_back(world.engine, flow_name, to=to, about=ABOUT)


async def test_going_back_to_a_version_that_no_longer_fits_the_systems_is_refused(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        await world.open()
        await apply(world, write(tmp_path, flow()))
        await apply(world, write(tmp_path, flow().replace("      email: email\n", "")))
        crm = world.products["crm"]
        kept = tuple(field for field in crm.live_schema.fields if field.name != "email")
        crm.live_schema = type(crm.live_schema)(entity="customers", key=("id",), fields=kept)
        await world.open()
        with pytest.raises(FlowErrors, match="email"):
            await roll_back(world.engine, "people", about=ABOUT)
        assert (await versions.flow_text(world.database, "people")).version == 2


async def test_a_flow_whose_example_fails_is_not_stored(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        await world.open()
        text = (
            flow()
            + "examples:\n  - in: {number: C1, name: Lab, balance: 1}\n    out: {copy: {name: Other}}\n"
        )
        with pytest.raises(FlowErrors, match=r'people.yaml:\d+: .*name: expected "Other", got "Lab"'):
            await apply(world, write(tmp_path, text))
        assert await versions.flow_history(world.database, "people") == []


async def test_the_new_version_writes_only_when_the_writes_of_the_old_one_have_ended(
    fresh_database, tmp_path
):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 1)  # of two, each writer of the old run could take one
        await apply(world, write(tmp_path, flow()))
        order = []
        writing, go_on = asyncio.Event(), asyncio.Event()
        write_now = crm.write

        async def slow(*arguments):
            writing.set()
            await go_on.wait()
            order.append("old")
            return await write_now(*arguments)

        async def quick(*arguments):
            order.append("new")
            return await write_now(*arguments)

        crm.write = slow
        old = world.engine
        first = asyncio.create_task(run_flow(old, "people"))
        await writing.wait()
        crm.write = quick
        await world.open()
        write(tmp_path, flow().replace("name: name", "name: {const: same}"))
        said = []
        second = asyncio.create_task(
            apply_folder(
                world.engine, tmp_path, actor="ann", say=lambda line: (said.append(line), go_on.set())
            )
        )
        await asyncio.gather(first, second)
        assert "waiting for writes of the version before" in said[0]
        await world.open()
        await world.settle_everything()
        assert order[0] == "old"
        assert {record["name"] for record in crm.records.values()} == {"same"}


async def test_a_run_of_the_new_version_waits_for_open_writes_of_the_old_one(fresh_database):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        fill(world.products["erp"], 1)
        await world.apply(flow())
        await world.apply(flow().replace("name: name", "name: {const: same}"))
        world.sql(
            "INSERT INTO intents (flow, target, flow_version, lease_token, lease_until, writes)"
            " VALUES ('people', 'copy', 1, 0, now() + interval '1 hour', '[]')"
        )
        waiting = await world.run()
        assert (len(crm.ledger), waiting.pending, waiting.dead) == (0, 1, 0)
        world.sql("UPDATE intents SET state = 'settled'")
        await world.settle_everything()
        assert [effect.kind for effect in crm.ledger] == ["create"]


async def test_work_for_a_target_that_the_flow_no_longer_has_is_dropped(fresh_database, tmp_path):
    two = flow() + (
        "  second:\n    system: crm\n    entity: customers\n"
        '    key: {number: {template: "two-{number}", too_long: error}}\n    fields: {balance: balance}\n'
    )
    async with rig(fresh_database) as world:
        await world.open()
        fill(world.products["erp"], 2)
        await apply(world, write(tmp_path, two))
        await world.run(targets=["copy"])
        assert {item[0] for item in world.items()} == {"second"}
        await apply(world, write(tmp_path, flow()))
        assert world.items() == []


async def test_a_lookup_table_has_versions_and_a_changed_row_sends_the_records_that_use_it(
    fresh_database, tmp_path
):
    async with rig(fresh_database) as world:
        crm = world.products["crm"]
        await world.open()
        fill(world.products["erp"], 3)
        text = flow().replace("name: name", "name: {lookup: names, of: name, missing: {default: other}}")
        await apply(world, write(tmp_path, text, tables={"names": "key,value\nName 1,One\n"}))
        await world.settle_everything()
        crm.ledger.clear()
        write(tmp_path, text, tables={"names": "key,value\nName 1,One\nName 2,Two\n"})
        planned = await plan_folder(world.engine, tmp_path)
        assert [(each.flow, each.text_differs) for each in planned.flows] == [("people", False)]
        assert planned.flows[0].records.counts == {"copy": {"update": 1}}
        applied = await apply(world, tmp_path)
        assert (applied.lookups, applied.raised) == ({"names": 2}, 1)
        await world.run(pull=False)
        assert [effect.fields for effect in crm.ledger] == [{"name": "Two"}]
        history = await versions.lookup_history(world.database, "names")
        assert [(each.version, each.diff) for each in history] == [
            (2, [{"op": "add", "path": ["Name 2"], "after": "Two"}]),
            (1, [{"op": "add", "path": ["Name 1"], "after": "One"}]),
        ]


async def test_an_export_gives_back_every_byte_and_does_not_write_over_other_work(fresh_database, tmp_path):
    odd = "\ufeff# Grüße, kept\r\n" + flow().replace("\n", "\r\n") + "# the end, without a line end"
    table = "\ufeffkey,value\r\nName 1,One\r\n"
    async with rig(fresh_database) as world:
        await world.open()
        source, target = tmp_path / "in", tmp_path / "out"
        source.mkdir()
        await apply(world, write(source, odd, name="10 people.yml", tables={"names": table}))
        exported = await export_folder(world.database, target)
        assert (exported.flows, exported.lookups, exported.written) == (1, 1, 2)
        assert (target / "10 people.yml").read_bytes() == odd.encode()
        assert (target / "lookups" / "names.csv").read_bytes() == table.encode()
        assert (await export_folder(world.database, source)).same == 2
        (target / "10 people.yml").write_text("mine")
        with pytest.raises(ConfigurationError, match=r"10 people.yml.*--overwrite"):
            await export_folder(world.database, target)
        assert (target / "10 people.yml").read_text() == "mine"
        await export_folder(world.database, target, overwrite=True)
        assert (target / "10 people.yml").read_bytes() == odd.encode()


async def test_a_thousand_versions_list_and_diff_in_under_a_second(fresh_database):
    async with rig(fresh_database) as world:
        for number in range(1000):
            new = NewFlow(
                flow="people",
                text=flow().replace("name: name", f"name: {{const: n{number}}}"),
                source_system="erp",
                source_entity="customers",
                exclusive_group=None,
            )
            await versions.save_documents(
                world.database,
                [new],
                about=ABOUT,
                flow_diff=lambda before, after: [change.to_json() for change in flow_changes(before, after)],
            )
        started = time.process_time(), time.perf_counter()
        history = await versions.flow_history(world.database, "people")
        first = await versions.flow_text(world.database, "people", 1)
        last = await versions.flow_text(world.database, "people", 1000)
        changes = flow_changes(first.text, last.text)
        took = time.perf_counter() - started[1]
        assert (len(history), len(changes), history[0].version) == (1000, 1, 1000)
        assert took < 1.0, took


async def test_a_plan_names_rules_and_records_and_stores_nothing(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        await world.open()
        fill(world.products["erp"], 4)
        await apply(world, write(tmp_path, flow()))
        await world.settle_everything()
        tables = (
            "flow_versions",
            "lookup_versions",
            "work_items",
            "intents",
            "links",
            "sync_events",
            "mirror",
            "schema_snapshots",
        )

        def counts():
            return [world.sql(f"SELECT count(*) FROM {table}")[0][0] for table in tables]

        before = counts()
        assert not (await plan_folder(world.engine, tmp_path)).changes
        changed = flow().replace("name: name", 'name: {if: "balance == 3", then: {const: three}, else: name}')
        world.products["crm"].ledger.clear()
        planned = await plan_folder(
            world.engine, write(tmp_path, changed.replace("      email: email\n", ""))
        )
        assert [str(change) for change in planned.flows[0].changes] == [
            'targets.copy.fields.name: "name" -> {"if":"balance == 3","then":{"const":"three"},"else":"name"}',
            'targets.copy.fields.email: removed, was "email"',
        ]
        records = planned.flows[0].records
        assert records.counts == {"copy": {"update": 1}}
        assert records.samples[0].changes == {"name": ["Name 3", "three"]}
        assert counts() == before
        assert world.products["crm"].ledger == []


async def test_a_plan_of_a_first_flow_leaves_not_even_a_schema_behind(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        await world.open()
        fill(world.products["erp"], 2)
        planned = await plan_folder(world.engine, write(tmp_path, flow()))
        assert planned.flows[0].records.counts == {"copy": {"create": 2}}
        for table in ("flows", "flow_versions", "schema_snapshots", "mirror", "entity_state", "work_items"):
            assert world.sql(f"SELECT count(*) FROM {table}") == [(0,)], table


async def test_a_plan_equals_what_apply_and_run_then_write_on_ten_thousand_records(fresh_database, tmp_path):
    source, target = Product(page=2000), Product(batch=1000, find=1000)
    async with rig(fresh_database, source=source, target=target, batch=1000) as world:
        await world.open()
        fill(source, 10_000)
        await apply(world, write(tmp_path, flow()))
        await world.settle_everything()
        # A change of the rules, of the source, and of both; a record that leaves, one that comes, one that goes.
        source.put("r1", name="Moved")
        source.put("r2", balance=Decimal(-1))
        source.put("new", number="N1", name="New", balance=Decimal(7), email="n@y")
        source.drop("r3")
        changed = flow().replace(
            "name: name", 'name: {if: "balance % 4 == 0", then: {const: fourth}, else: name}'
        )
        write(tmp_path, changed)
        planned = await plan_folder(world.engine, tmp_path, samples=20_000)
        records = planned.flows[0].records
        target.ledger.clear()
        await apply(world, tmp_path, yes=True)
        await world.run()
        written = Counter(effect.kind for effect in target.ledger)
        assert written == {"update": 2501, "create": 1}
        assert records.counts["copy"]["update"] == written["update"]
        assert records.counts["copy"]["create"] == written["create"]
        targets = dict(world.sql("SELECT record, target_id FROM links"))
        expected = {
            (each.would, targets[each.record]): {name: after for name, (_, after) in each.changes.items()}
            for each in records.samples
            if each.would in {"update", "create"}
        }
        for effect in target.ledger:
            fields = {name: value for name, value in effect.fields.items() if name != "email"}
            wanted = expected[effect.kind, effect.id]
            assert {name: value for name, value in wanted.items() if name != "email"} == fields
