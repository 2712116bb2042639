"""Lookup tables go back like flows: checked with the flows that use them, a version of its own, records raised."""

import asyncio
import contextlib
import json

import pytest
from click.testing import CliRunner

from console.cli import history
from console.cli.commands import lookups as lookups_command
from ipaas_assets.sync import apply as applying
from ipaas_assets.sync.apply import roll_back_lookup
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store import versions
from ipaas_resources.store.versions import About
from mappings.faults import FlowErrors
from tests.sync.rig import flow, rig
from tests.sync.test_engine import fill
from tests.sync.test_flow_versions import ABOUT, apply, write

FLOW = flow().replace("name: name", "name: {lookup: names, of: name, missing: {default: other}}")
ONE = "key,value\nName 1,One\n"
TWO = "key,value  \nName 1,One\nName 2,Two\n"


async def applied_twice(world, folder, *, text=FLOW, records=3, tables=(ONE, TWO)):
    """A flow with its table in two versions, its records settled."""
    await world.open()
    fill(world.products["erp"], records)
    for table in tables:
        await apply(world, write(folder, text, tables={"names": table}))
    await world.settle_everything()
    world.products["crm"].ledger.clear()


async def test_going_back_is_a_new_version_of_the_old_text_and_sends_the_records_that_use_it(
    fresh_database, tmp_path
):
    async with rig(fresh_database) as world:
        await applied_twice(world, tmp_path)
        back = await roll_back_lookup(world.engine, "names", about=About(actor="eve", origin="console"))
        assert (back.flows, back.lookups, back.raised) == ([], {"names": 3}, 1)
        await world.run(pull=False)
        assert [effect.fields for effect in world.products["crm"].ledger] == [{"name": "other"}]
        newest, *older = await versions.lookup_history(world.database, "names")
        assert (newest.version, newest.active, newest.actor, newest.origin, newest.reason, newest.file) == (
            3,
            True,
            "eve",
            "console",
            "back to version 1",
            "names.csv",
        )
        assert newest.diff == [{"op": "remove", "path": ["Name 2"], "before": "Two"}]
        assert [(each.version, each.active) for each in older] == [(2, False), (1, False)]
        assert (await versions.lookup_text(world.database, "names")).text == ONE


@pytest.mark.parametrize(("remap", "raised"), [("changed", 1), ("none", 0), ("all", 3)])
async def test_remap_says_which_known_records_go_through_the_flows_of_the_table_again(
    fresh_database, tmp_path, remap, raised
):
    async with rig(fresh_database) as world:
        await applied_twice(world, tmp_path)
        back = await roll_back_lookup(world.engine, "names", to=1, about=ABOUT, remap=remap)
        assert back.raised == raised


async def test_more_records_than_may_be_raised_unasked_need_a_yes(fresh_database, tmp_path, monkeypatch):
    async with rig(fresh_database) as world:
        await applied_twice(world, tmp_path)
        monkeypatch.setattr(applying, "MOST_UNASKED", 0)
        with pytest.raises(ConfigurationError, match="1 records would go through their flow again"):
            await roll_back_lookup(world.engine, "names", about=ABOUT)
        assert (await versions.lookup_text(world.database, "names")).version == 2
        assert (await roll_back_lookup(world.engine, "names", about=ABOUT, yes=True)).raised == 1


async def test_going_back_is_refused_where_an_example_of_a_flow_that_uses_the_table_fails(
    fresh_database, tmp_path
):
    example = "examples:\n  - in: {number: C1, name: Name 2, balance: 1}\n    out: {copy: {name: Two}}\n"
    async with rig(fresh_database) as world:
        await world.open()
        await apply(world, write(tmp_path, flow(), tables={"names": ONE}))
        await apply(world, write(tmp_path, FLOW + example, tables={"names": TWO}))
        with pytest.raises(FlowErrors, match=r'people:17: examples\[0\].*name: expected "Two", got "other"'):
            await roll_back_lookup(world.engine, "names", about=ABOUT)
        assert (await versions.lookup_text(world.database, "names")).version == 2


async def test_going_back_is_refused_where_the_old_table_lacks_a_column_that_a_flow_names(
    fresh_database, tmp_path
):
    wide = flow().replace("name: name", "name: {lookup: names, of: name, part: short, missing: null}")
    async with rig(fresh_database) as world:
        await world.open()
        await apply(world, write(tmp_path, flow(), tables={"names": ONE}))
        await apply(world, write(tmp_path, wide, tables={"names": "key,short,long\nName 1,N1,Name One\n"}))
        with pytest.raises(FlowErrors, match="has one column of values, leave part out"):
            await roll_back_lookup(world.engine, "names", about=ABOUT)
        assert (await versions.lookup_text(world.database, "names")).version == 2


async def test_going_back_is_refused_where_there_is_nothing_to_go_back_to(fresh_database, tmp_path):
    async with rig(fresh_database) as world:
        await world.open()
        await apply(world, write(tmp_path, FLOW, tables={"names": ONE}))
        for table, to, said in (
            ("names", None, "Version 1 of lookup table 'names' is its first"),
            ("names", 7, "Lookup table 'names' has no version 7. `ipaas lookups history names`"),
            ("names", 1, "says what the active version 1 says"),
            ("nmaes", None, "There is no lookup table 'nmaes'. `ipaas lookups list`"),
        ):
            with pytest.raises(ConfigurationError, match=said):
                await roll_back_lookup(world.engine, table, to=to, about=ABOUT)


async def test_going_back_is_refused_where_somebody_changed_the_table_meanwhile(
    fresh_database, tmp_path, monkeypatch
):
    async with rig(fresh_database) as world:
        await applied_twice(world, tmp_path)
        engine = world.engine
        checked = applying.checked

        async def slowly(*arguments):
            documents = await checked(*arguments)
            monkeypatch.undo()
            await apply(world, write(tmp_path, FLOW, tables={"names": f"{TWO}Name 0,Zero\n"}))
            return documents

        monkeypatch.setattr(applying, "checked", slowly)
        with pytest.raises(
            ConfigurationError, match="Somebody made version 3 of lookup table 'names' active"
        ):
            await roll_back_lookup(engine, "names", about=ABOUT)
        assert (await versions.lookup_text(world.database, "names")).version == 3


def test_the_commands_list_show_compare_and_bring_back_a_table(fresh_database, tmp_path, monkeypatch):
    @contextlib.asynccontextmanager
    async def opened(*_arguments, **_options):
        async with rig(fresh_database) as world:
            yield await world.open()

    async def prepare():
        async with rig(fresh_database) as world:
            await applied_twice(world, tmp_path)

    asyncio.run(prepare())
    for module in (lookups_command, history):
        monkeypatch.setattr(module, "engine", opened)
    monkeypatch.setenv("IPAAS_STATE_DIR", str(tmp_path / "state"))

    def run(*arguments):
        result = CliRunner().invoke(lookups_command.lookups, arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    assert run("list").split() == ["names", "version", "2", "2", "rows"]
    assert json.loads(run("list", "--json")) == [{"lookup": "names", "version": 2, "rows": 2}]
    assert (run("show", "names"), run("show", "names", "--version", "1")) == (TWO, ONE)
    difference = run("diff", "names").splitlines()
    assert difference[:2] == ["names: version 1 -> 2: 1 added", '  + Name 2: added "Two"']
    assert difference[-1] == "+Name 2,Two"
    assert json.loads(run("diff", "names", "2", "1", "--json")) == [
        {"op": "remove", "path": ["Name 2"], "before": "Two"}
    ]
    back = run("rollback", "names", "--reason", "as it was")
    assert back == "lookup names: version 3\n1 known records go through their flow again\n"
    assert [line.split()[0] for line in run("history", "names").splitlines()] == ["*", "2", "1"]
    (newest,) = json.loads(run("history", "names", "--limit", "1", "--json"))
    assert (newest["version"], newest["reason"], newest["origin"]) == (3, "as it was", "console")
    missing = CliRunner().invoke(lookups_command.lookups, ["diff", "names", "9"])
    assert "Lookup table 'names' has no version 9" in str(missing.exception)
