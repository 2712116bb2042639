"""Held work: a window that is closed, a system that is paused. It is read, it waits, it is written in order once let go."""

from __future__ import annotations

import contextlib
import datetime as dt
import json

import pytest
from click.testing import CliRunner

from console.cli.commands import flows as flows_command
from ipaas_assets.sync.holding import held, held_targets
from ipaas_assets.sync.model import Lane
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store import registry
from tests.sync.product import Product
from tests.sync.rig import flow, rig
from tests.sync.test_engine import TWO, fill

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def closed(world):
    """The flow with a window of one day, three days from now: closed on any clock."""
    ((now,),) = world.sql("SELECT now() AT TIME ZONE 'UTC'")
    opens = (now + dt.timedelta(days=3)).replace(hour=7, minute=0, second=0, microsecond=0, tzinfo=dt.UTC)
    day = _DAYS[opens.weekday()]
    text = f'window: {{days: {day}, from: "07:00", to: "19:00", tz: UTC}}\n{flow()}'
    return text, opens, f"until {day.capitalize()} 07:00 UTC"


async def test_while_the_window_is_closed_a_run_reads_and_holds_and_says_until_when(fresh_database):
    async with rig(fresh_database) as world:
        fill(world.products["erp"], 7)
        text, _, until = closed(world)
        await world.apply(text)
        result = await world.run()
        assert (result.error, result.counts.received, result.pending) == ("", 7, 7)
        assert result.warnings == [f"copy is held {until}: 7 records wait"]
        assert result.counts.outcomes == {}
        assert world.products["crm"].calls == []
        assert world.sql("SELECT count(*), max(attempts) FROM work_items") == [(7, 0)]


async def test_a_window_that_opens_lets_everything_go_the_most_urgent_first_and_then_the_longest_due(
    fresh_database,
):
    async with rig(fresh_database, batch=1, writers=1, target=Product(batch=1)) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        text, _, _ = closed(world)
        await world.apply(text)
        for record, lane in (("a", 2), ("b", 0), ("c", 1), ("d", 0), ("e", 2)):
            erp.put(record, number=record, name="n", balance=1)
            await world.run(lane=Lane(lane))
        assert crm.ledger == []
        await world.apply(flow(), remap="none")
        await world.run()
        assert [effect.fields["number"] for effect in crm.ledger] == ["b", "d", "c", "a", "e"]


async def test_a_run_that_is_told_to_ignores_the_window(fresh_database):
    async with rig(fresh_database) as world:
        fill(world.products["erp"], 3)
        await world.apply(closed(world)[0])
        result = await world.run(ignore_window=True)
        assert (result.counts.outcomes, result.warnings) == ({"created": 3}, [])


async def test_an_open_window_holds_nothing(fresh_database):
    async with rig(fresh_database) as world:
        fill(world.products["erp"], 3)
        await world.apply(f"window: {{days: all}}\n{flow()}")
        assert await held(world.engine) == {}
        assert (await world.run()).counts.outcomes == {"created": 3}


async def test_who_claims_is_told_what_is_held_and_until_when(fresh_database):
    async with rig(fresh_database) as world:
        text, opens, until = closed(world)
        await world.apply(text)
        (name, window), *rest = (await held(world.engine)).items()
        assert (name, window.reason, window.until, window.words, rest) == (
            "people",
            "window",
            opens,
            until,
            [],
        )
        await world.apply(flow())
        assert await held_targets(world.engine) == {}
        await registry.pause_system(world.database, "crm", paused=True)
        found = await held_targets(world.engine)
        assert [(key, each.reason, each.until) for key, each in found.items()] == [
            (("people", "copy"), "paused", None)
        ]
        await registry.pause_system(world.database, "crm", paused=False)
        await registry.set_enabled(world.database, "people", enabled=False)
        found = await held(world.engine)
        assert found["people"].words == "until `ipaas flows enable people`"


class Pausing(Product):
    """A product that a person pauses while it is being written."""

    pause = None

    async def write(self, entity, scope, operations):
        if self.pause is not None:
            await self.pause()
        return await super().write(entity, scope, operations)


async def test_a_system_that_is_paused_while_a_run_goes_on_gets_no_further_batch(fresh_database):
    target = Pausing()
    async with rig(fresh_database, batch=2, writers=1, target=target) as world:
        fill(world.products["erp"], 9)
        await world.apply(flow())
        target.pause = lambda: registry.pause_system(world.database, "crm", paused=True)
        result = await world.run()
        assert result.counts.outcomes == {"created": 2}
        assert "copy is held until `ipaas systems resume crm`: 7 records wait" in result.warnings
        target.pause = None
        await registry.pause_system(world.database, "crm", paused=False)
        assert (await world.settle_everything()).counts.outcomes == {"created": 7}


async def test_a_paused_target_does_not_hold_the_other_targets_of_a_flow(fresh_database):
    async with rig(fresh_database) as world:
        fill(world.products["erp"], 3)
        # The second target is in the source's own system, which is not paused.
        text = TWO.replace("  child:\n    system: crm", "  child:\n    system: erp").replace(
            "      parent: {ref: people.parent, of: $id}\n", ""
        )
        await world.apply(text + "when: not number.startswith('c-')\n")
        await registry.pause_system(world.database, "crm", paused=True)
        result = await world.run()
        assert result.counts.per_target["child"] == {"created": 3}
        assert "parent" not in result.counts.per_target
        assert "parent is held until `ipaas systems resume crm`: 3 records wait" in result.warnings
        with pytest.raises(ConfigurationError, match="ipaas systems resume crm"):
            await world.run(targets=["parent"])


async def _listed(fresh_database, monkeypatch, *options):
    """What `ipaas flows list` prints of a flow outside of its window, and until when that is."""
    import asyncio

    async with rig(fresh_database) as world:
        text, _, until = closed(world)
        await world.apply(text)

    @contextlib.asynccontextmanager
    async def opened(**_options):
        async with rig(fresh_database) as again:
            yield await again.open()

    monkeypatch.setattr(flows_command, "engine", opened)
    result = await asyncio.to_thread(CliRunner().invoke, flows_command.flows, ["list", *options])
    assert result.exit_code == 0, result.output
    return result.output, until


async def test_the_list_of_flows_says_until_when_one_is_held(fresh_database, monkeypatch):
    output, until = await _listed(fresh_database, monkeypatch)
    assert output.split() == ["people", "version", "1", "held", *until.split()]


async def test_the_list_of_flows_as_json_says_until_when_one_is_held(fresh_database, monkeypatch):
    output, until = await _listed(fresh_database, monkeypatch, "--json")
    assert json.loads(output) == [{"flow": "people", "version": 1, "enabled": True, "held": until}]
