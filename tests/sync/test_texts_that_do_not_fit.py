"""Texts that the target cannot hold, through the engine: plan and run do the same, and nothing is written twice."""

from __future__ import annotations

import msgspec
import pytest

from ipaas_assets.sync.dry_run import DryRun
from tests.sync.product import CUSTOMER, Product
from tests.sync.rig import flow, rig

LONG = "A name of thirty characters ab"


def narrow(**change) -> Product:
    """A target whose names have 10 characters."""
    fields = tuple(
        msgspec.structs.replace(field, max_length=10, **change) if field.name == "name" else field
        for field in CUSTOMER.fields
    )
    return Product(schema=msgspec.structs.replace(CUSTOMER, fields=fields))


def says(rule: str) -> str:
    return flow().replace("name: name", f"name: {rule}")


async def test_a_cut_text_is_written_once_and_never_again(fresh_database):
    async with rig(fresh_database, target=narrow()) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        erp.put("r1", number="C1", name=LONG, balance=1, email="x@y")
        await world.apply(says("{direct: name, too_long: truncate}"))
        planned = await DryRun(world.engine, "people").run()
        assert planned.samples[0].changes["name"] == [None, LONG[:10]]
        assert (await world.run()).counts.outcomes == {"created": 1}
        assert crm.by("number", "C1")[0]["name"] == LONG[:10]
        writes = len(crm.ledger)
        erp.put("r1", name=LONG + " and more")  # what changes is beyond the cut
        assert (await world.run()).counts.outcomes == {"no_change": 1}
        assert len(crm.ledger) == writes


@pytest.mark.parametrize(
    ("rule", "change", "name", "code"),
    [
        ("name", {}, LONG, "too_long"),
        ("{direct: name, too_long: error}", {}, LONG, "too_long"),
        ("name", {"characters": "single_line"}, "two\nlines", "unfit_characters"),
    ],
)
async def test_a_text_that_may_not_be_changed_sets_its_record_aside_before_anything_is_sent(
    fresh_database, rule, change, name, code
):
    async with rig(fresh_database, target=narrow(**change)) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        erp.put("r1", number="C1", name=name, balance=1, email="x@y")
        erp.put("r2", number="C2", name="fits", balance=1, email="x@y")
        await world.apply(says(rule))
        planned = await DryRun(world.engine, "people").run()
        assert planned.counts["copy"] == {"set_aside": 1, "create": 1}
        assert (await world.run()).counts.outcomes == {"dead": 1, "created": 1}
        assert [(item[2], item[3], item[5]) for item in world.items()] == [("r1", "dead", code)]
        assert [effect.fields["number"] for effect in crm.ledger] == ["C2"]
        # Mended in the source, it goes its way.
        erp.put("r1", name="now fits")
        assert (await world.run()).counts.outcomes == {"created": 1}


@pytest.mark.parametrize(
    ("rule", "change", "name"),
    [
        ("{direct: name, too_long: flag}", {}, LONG),
        ("{direct: name, unfit_characters: flag}", {"characters": "single_line"}, "two\nlines"),
    ],
)
async def test_a_flagged_field_is_left_out_and_a_person_is_asked(fresh_database, rule, change, name):
    async with rig(fresh_database, target=narrow(**change)) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        erp.put("r1", number="C1", name=name, balance=1, email="x@y")
        await world.apply(says(rule))
        planned = await DryRun(world.engine, "people").run()
        assert planned.counts["copy"] == {"create": 1}
        assert "field 'name'" in planned.samples[0].reason
        result = await world.run()
        assert (result.counts.outcomes, result.review) == ({"created": 1}, 1)
        assert crm.by("number", "C1")[0].get("name") is None
        assert [(item[2], item[3], item[5]) for item in world.items()] == [("r1", "review", "flagged")]
        # Another change is written too, and the question stays.
        erp.put("r1", balance=2)
        assert (await world.run()).counts.outcomes == {"updated": 1}
        assert [item[3] for item in world.items()] == ["review"]
        # Mended in the source, the field is filled and nothing is asked any more.
        erp.put("r1", name="now fits")
        assert (await world.run()).counts.outcomes == {"updated": 1}
        assert (crm.by("number", "C1")[0]["name"], world.items()) == ("now fits", [])


async def test_a_flag_on_a_field_that_a_record_needs_writes_nothing(fresh_database):
    async with rig(fresh_database) as world:
        world.products["erp"].put("r1", number="C1", name="N", balance=1, email="x@y")
        text = flow().replace(
            '{number: {template: "{$scope}{number}"}}',
            "{number: {lookup: numbers, of: number, missing: flag}}",
        )
        await world.apply(text)
        result = await world.run()
        assert (result.counts.outcomes, world.products["crm"].ledger) == ({"review": 1}, [])
        assert [(item[3], item[5]) for item in world.items()] == [("review", "flagged")]


async def test_characters_are_replaced_on_the_way(fresh_database):
    async with rig(fresh_database, target=narrow(characters="single_line")) as world:
        world.products["erp"].put("r1", number="C1", name="two\r\nlines", balance=1, email="x@y")
        await world.apply(says("{direct: name, unfit_characters: replace}"))
        await world.run()
        assert world.products["crm"].by("number", "C1")[0]["name"] == "two lines"
