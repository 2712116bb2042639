"""The life of a record through the engine: a real database, two products."""

from decimal import Decimal

import pytest

from ipaas_assets.sync.model import OutcomeName
from ipaas_resources.core.errors import ConfigurationError
from tests.sync.product import Faults, Product
from tests.sync.rig import flow, rig


def fill(product: Product, count: int, scope: str = "") -> None:
    for number in range(count):
        product.put(
            f"r{number}",
            scope,
            number=f"C{number}",
            name=f"Name {number}",
            balance=Decimal(number),
            email="x@y",
        )


async def test_a_first_run_creates_every_record_once(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 12)
        await world.apply(flow())
        result = await world.run()
        assert result.error == ""
        assert result.counts.received == 12
        assert result.counts.outcomes == {"created": 12}
        assert {each["number"] for each in crm.records.values()} == {f"C{n}" for n in range(12)}
        assert world.items() == []
        assert world.events() == {"created": 12}


async def test_a_second_full_run_reads_everything_and_writes_nothing(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 12)
        await world.apply(flow())
        await world.run()
        writes = len(crm.ledger)
        result = await world.run(mode="full")
        assert (result.counts.received, result.counts.changed) == (12, 0)
        assert len(crm.ledger) == writes


async def test_only_changed_records_are_written_again_and_only_their_changed_fields(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 12)
        await world.apply(flow())
        await world.run()
        before = len(crm.ledger)
        for number in range(3):
            erp.put(f"r{number}", name="New")
        await world.run()
        assert [effect.fields for effect in crm.ledger[before:]] == [{"name": "New"}] * 3


async def test_a_touch_that_changes_only_volatile_fields_writes_nothing(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 3)
        await world.apply(flow())
        await world.run()
        before = len(crm.ledger)
        erp.put("r1", touched=99)
        result = await world.run()
        assert result.counts.changed == 0
        assert len(crm.ledger) == before


async def test_a_field_that_no_rule_makes_stays_as_somebody_set_it(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 2)
        await world.apply(flow())
        await world.run()
        (made,) = crm.by("number", "C1")
        crm.put(made["id"], parent="by hand")
        erp.put("r1", name="Other")
        await world.settle_everything()
        (made,) = crm.by("number", "C1")
        assert (made["parent"], made["name"]) == ("by hand", "Other")


@pytest.mark.parametrize(
    ("policy", "left", "name"),
    [("ignore", 3, "Name 1"), ("deactivate", 3, "(off)"), ("delete", 2, None), ("review", 3, "Name 1")],
)
async def test_the_delete_policy_holds(fresh_database, policy, left, name):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 3)
        await world.apply(flow(on_delete=policy))
        await world.run()
        erp.drop("r1")
        await world.run(mode="full")
        assert len(crm.records) == left
        found = crm.by("number", "C1")
        assert (found[0]["name"] if found else None) == name
        if policy == "review":
            assert [item[3] for item in world.items()] == ["review"]


async def test_nothing_is_deleted_on_the_ground_of_an_incomplete_listing(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 3)
        await world.apply(flow(on_delete="delete"))
        await world.run()
        erp.drop("r1")
        erp.incomplete = True
        await world.run(mode="full")
        assert len(crm.records) == 3


async def test_a_listing_that_misses_too_much_deletes_nothing_and_says_so(fresh_database):
    async with rig(fresh_database, source=Product(page=50), batch=50) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 40)
        await world.apply(flow(on_delete="delete"))
        await world.run()
        for number in range(20):
            erp.drop(f"r{number}")
        result = await world.run(mode="full")
        assert len(crm.records) == 40
        assert "20 of 40 records" in result.warnings[0]


async def test_a_record_that_leaves_the_filter_follows_its_policy(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 3)
        await world.apply(flow(on_leave="delete"))
        await world.run()
        erp.put("r1", balance=Decimal(-1))
        await world.run()
        assert {each["number"] for each in crm.records.values()} == {"C0", "C2"}


async def test_a_record_outside_the_filter_is_counted_as_filtered_and_not_written(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        erp.put("a", number="1", name="n", balance=Decimal(-5))
        await world.apply(flow())
        result = await world.run()
        assert result.counts.outcomes == {"filtered": 1}
        assert crm.ledger == []


@pytest.mark.parametrize("create", ["natural_key", "client_key"])
async def test_a_record_that_is_there_already_is_adopted_and_not_doubled(fresh_database, create):
    async with rig(fresh_database, target=Product(create=create)) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 8)
        crm.put("foreign", number="C3", name="Old name", parent="theirs")
        crm.put("same", number="C4", name="Name 4", balance=Decimal(4), email="x@y")
        await world.apply(flow())
        result = await world.run()
        assert result.counts.outcomes == {"created": 6, "adopted": 2}
        assert crm.records["", "foreign"] == {
            "id": "foreign",
            "touched": 0,
            "number": "C3",
            "name": "Name 3",
            "parent": "theirs",
            "balance": Decimal(3),
            "email": "x@y",
        }
        assert [effect.id for effect in crm.ledger if effect.kind == "update"] == ["foreign"]
        again = await world.run(mode="full")
        assert again.counts.changed == 0


async def test_two_records_with_the_key_go_to_a_person_and_none_is_created(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 2)
        crm.put("x", number="C1")
        crm.put("y", number="C1")
        await world.apply(flow())
        result = await world.run()
        assert result.counts.outcomes == {"created": 1, "review": 1}
        assert [(item[2], item[3], item[5]) for item in world.items()] == [
            ("r1", "review", "ambiguous_match")
        ]
        assert len(crm.by("number", "C1")) == 2


@pytest.mark.parametrize("create", ["natural_key", "client_key"])
async def test_two_source_records_with_one_key_make_one_target_record(fresh_database, create):
    async with rig(fresh_database, target=Product(create=create)) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        erp.put("a", number="1", name="first", balance=Decimal(1))
        erp.put("b", number="1", name="second", balance=Decimal(1))
        await world.apply(flow())
        result = await world.run()
        assert len(crm.by("number", "1")) == 1
        assert result.counts.outcomes["created"] == 1
        assert result.review == 1


async def test_scopes_with_the_same_numbers_are_different_records(fresh_database):
    async with rig(fresh_database, source=Product(scopes=("de", "no"))) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 4, "de")
        fill(erp, 4, "no")
        await world.apply(flow())
        await world.run()
        assert {each["number"] for each in crm.records.values()} == {
            f"{scope}C{n}" for scope in ("de", "no") for n in range(4)
        }


async def test_a_bad_record_is_set_aside_with_the_reason_and_the_others_go_on(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 4)
        erp.put("r2", name="x" * 41)
        await world.apply(flow())
        result = await world.run()
        assert (result.counts.outcomes["created"], result.dead) == (3, 1)
        ((_, _, record, state, _, code),) = world.items()
        assert (record, state, code) == ("r2", "dead", "contract")
        ((error,),) = world.sql("SELECT error FROM work_items")
        assert "'name' of erp/customers: the text is longer than 40 characters" in error
        erp.put("r2", name="short")
        result = await world.settle_everything()
        assert len(crm.records) == 4
        assert world.items() == []


async def test_a_refused_record_is_a_dead_letter_and_comes_back_with_its_next_change(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 2)
        await world.apply(flow())
        crm.faults = Faults(refused=1.0)
        result = await world.run()
        assert result.counts.outcomes == {"dead": 2}
        crm.faults = Faults()
        erp.put("r0", name="Mended")
        await world.run()
        assert [each["name"] for each in crm.records.values()] == ["Mended"]
        assert [(item[2], item[3]) for item in world.items()] == [("r1", "dead")]


async def test_a_stale_version_is_read_again_and_the_foreign_change_of_an_owned_field_gives_way(
    fresh_database,
):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 1)
        await world.apply(flow())
        await world.run()
        (made,) = crm.by("number", "C0")
        crm.put(made["id"], name="by hand", parent="kept")
        erp.put("r0", balance=Decimal(77))
        await world.settle_everything()
        (made,) = crm.by("number", "C0")
        assert (made["name"], made["balance"], made["parent"]) == ("Name 0", Decimal(77), "kept")


async def test_the_dry_run_plans_what_the_run_then_does_and_writes_nothing(fresh_database):
    from ipaas_assets.sync.dry_run import DryRun

    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 8)
        crm.put("foreign", number="C3", name="Old name")
        await world.apply(flow())
        planned = await DryRun(world.engine, "people").run()
        assert planned.counts["copy"] == {"create": 7, "adopt": 1}
        assert "write" not in crm.calls
        for table in ("links", "intents", "work_items", "mirror"):
            assert world.sql(f"SELECT count(*) FROM {table}") == [(0,)]
        result = await world.run()
        assert result.counts.outcomes == {"created": 7, "adopted": 1}
        erp.put("r1", email="other@mail", name="Seen")
        planned = await DryRun(world.engine, "people").run()
        (sample,) = planned.samples
        assert sample.changes == {"name": ["Name 1", "Seen"], "email": ["***", "***"]}
        assert (await world.run()).counts.outcomes == {"updated": 1}


async def test_personal_values_are_in_no_event_and_no_error(fresh_database):
    canary = "canary-7391@example"
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 3)
        erp.put("r0", email=canary)
        await world.apply(flow())
        await world.run()
        erp.put("r0", email=f"new-{canary}", name=f"n{'x' * 45}{canary}")
        await world.run()
        erp.put("r0", name="ok")
        await world.run()
        for table in ("sync_events", "work_items", "runs", "intents"):
            ((text,),) = world.sql(f"SELECT coalesce(string_agg({table}::text, ' '), '') FROM {table}")
            assert "canary-7391" not in text, table
        assert any(each["email"] == f"new-{canary}" for each in crm.records.values())


async def test_a_switched_flow_sends_nothing_of_its_old_version(fresh_database):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 3)
        await world.apply(flow())
        old = world.engine
        await world.apply(flow().replace("name: name", "name: {const: fixed}"))
        from ipaas_assets.sync.run import run_flow

        await run_flow(old, "people")
        assert crm.ledger == []
        await world.run()
        assert {each["name"] for each in crm.records.values()} == {"fixed"}


async def test_a_removed_source_field_sends_items_to_review_and_writes_nothing(fresh_database):
    import msgspec

    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 3)
        await world.apply(flow())
        await world.run()
        before = len(crm.ledger)
        erp.live_schema = msgspec.structs.replace(
            erp.live_schema, fields=tuple(f for f in erp.live_schema.fields if f.name != "email")
        )
        await world.open()
        erp.put("r1", name="after the drift")
        result = await world.run()
        assert result.counts.outcomes == {"review": 1}
        assert len(crm.ledger) == before
        ((code, error),) = world.sql("SELECT error_code, error FROM work_items")
        assert code == "schema_drift"
        assert "'email'" in error


async def test_a_disabled_flow_and_a_paused_system_say_how_to_go_on(fresh_database):
    from ipaas_resources.store import registry

    async with rig(fresh_database) as world:
        await world.apply(flow())
        await registry.pause_system(world.database, "crm", paused=True)
        await world.open()
        with pytest.raises(ConfigurationError, match="ipaas systems resume crm"):
            await world.run()
        await registry.set_enabled(world.database, "people", enabled=False)
        await world.open()
        with pytest.raises(ConfigurationError, match="ipaas flows enable people"):
            await world.run()


def test_every_outcome_has_its_word_in_the_dry_run():
    from ipaas_assets.sync.dry_run import _WOULD

    assert set(_WOULD) | {"retry"} == {outcome.value for outcome in OutcomeName}


async def test_one_flow_that_cannot_be_built_does_not_stop_the_others(fresh_database):
    async with rig(fresh_database) as world:
        fill(world.products["erp"], 2)
        await world.apply(flow())
        world.sql(
            "INSERT INTO flows (flow, active_version, source_system, source_entity) VALUES ('odd', 1, 'erp', 'x')"
        )
        world.sql(
            "INSERT INTO flow_versions (flow, version, text, actor, origin) VALUES ('odd', 1, 'flow: odd', 't', 'file')"
        )
        await world.open()
        assert (await world.run()).counts.outcomes == {"created": 2}
        with pytest.raises(ConfigurationError, match="source"):
            await world.run("odd")


TWO = """
flow: people
source: {system: erp, entity: customers}
targets:
  child:
    system: crm
    entity: customers
    key: {number: {template: "c-{number}"}}
    fields:
      name: name
      parent: {ref: people.parent, of: $id}
  parent:
    system: crm
    entity: customers
    key: {number: {template: "p-{number}"}}
    fields: {name: name}
"""


async def test_a_target_that_refers_to_another_target_of_its_record_waits_for_it_and_is_written_once(
    fresh_database,
):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 12)
        await world.apply(TWO)
        result = await world.settle_everything()
        assert result.pending == 0
        for number in range(12):
            (parent,) = crm.by("number", f"p-C{number}")
            (child,) = crm.by("number", f"c-C{number}")
            assert child["parent"] == parent["id"]
        assert {effect.kind for effect in crm.ledger} == {"create"}


NEEDS = """
flow: NAME
source: {system: erp, entity: customers}
targets:
  copy:
    system: crm
    entity: customers
    key: {number: {template: "PREFIX-{number}"}}
    fields:
      name: name
      parent: {ref: first.copy, of: parentBY}
"""


@pytest.mark.parametrize(("by", "parent"), [("", "r0"), (", by: number", "C0")])
async def test_a_reference_that_is_not_linked_yet_is_filled_when_the_link_appears(fresh_database, by, parent):
    async with rig(fresh_database) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 2)
        erp.put("r1", parent=parent)
        first = (
            NEEDS.replace("NAME", "first")
            .replace("PREFIX", "f")
            .replace("      parent: {ref: first.copy, of: parentBY}\n", "")
        )
        await world.apply(first)
        await world.apply(NEEDS.replace("NAME", "second").replace("PREFIX", "s").replace("BY", by))
        result = await world.run("second")
        (child,) = crm.by("number", "s-C1")
        assert child.get("parent") is None
        assert result.pending == 1
        assert [(item[2], item[3], item[5]) for item in world.items() if item[3] == "parked"] == [
            ("r1", "parked", "unresolved_reference")
        ]
        await world.run("first")
        await world.settle_everything("second")
        (child,) = crm.by("number", "s-C1")
        (linked,) = crm.by("number", "f-C0")
        assert child["parent"] == linked["id"]


async def test_a_write_that_never_gets_an_answer_is_tried_a_bounded_number_of_times_then_a_person_looks(
    fresh_database,
):
    async with rig(fresh_database, target=Product(create="client_key"), max_attempts=3) as world:
        erp, crm = world.products["erp"], world.products["crm"]
        fill(erp, 1)
        await world.apply(flow())
        crm.faults = Faults(lost_request=1.0)
        for _ in range(5):
            await world.run()
            world.let_time_pass()
        assert crm.calls.count("write") == 3
        assert [(item[3], item[5]) for item in world.items()] == [("review", "unknown_outcome")]
        assert world.events()["retry"] == 2


async def test_a_run_does_not_wait_for_records_that_wait_for_others(fresh_database):
    async with rig(fresh_database, patience=20.0) as world:
        erp = world.products["erp"]
        fill(erp, 1)
        erp.put("r0", parent="nobody")
        await world.apply(
            NEEDS.replace("NAME", "first")
            .replace("PREFIX", "f")
            .replace("first.copy, of: parentBY", "first.copy, of: parent")
        )
        result = await world.run("first")
        assert result.pending == 1
        assert result.counts.seconds < 10


async def test_a_fault_of_ours_sets_one_record_aside_and_the_others_go_on(fresh_database, caplog):
    async with rig(fresh_database) as world:
        fill(world.products["erp"], 3)
        world.products["erp"].put("r1", email="canary-7391")
        await world.apply(flow())
        target = world.engine.flow("people").compiled.targets["copy"]
        mapping = target.map

        def broken(document, *arguments):
            if document["number"] == "C1":
                raise KeyError(document["email"])
            return mapping(document, *arguments)

        target.map = broken
        result = await world.run()
        assert (result.counts.outcomes["created"], result.dead) == (2, 1)
        assert world.items()[0][-1] == "platform_fault"
        assert "KeyError" in caplog.text
        assert "canary-7391" not in caplog.text


async def test_a_document_cannot_make_us_fetch_a_file_of_another_system(fresh_database):
    async with rig(fresh_database) as world:
        erp = world.products["erp"]
        fill(erp, 1)
        await world.apply(flow().replace("name: name", 'name: {const: {$file: {system: crm, id: "7"}}}'))
        result = await world.run()
        assert (result.dead, world.items()[0][-1]) == (1, "foreign_file")
