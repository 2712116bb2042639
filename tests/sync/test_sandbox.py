"""The sandbox: what a flow makes of one record, through the real engine, and that it leaves no trace anywhere."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from ipaas_assets.sync.sandbox import Ask, SandboxResult, TargetResult, sandbox
from ipaas_resources.core.errors import ConfigurationError, MissingRecordError, SystemBusyError
from ipaas_resources.core.schema import EntitySchema, FieldSchema
from ipaas_resources.store import registry
from mappings.faults import FlowErrors
from mappings.tracing.traced import FieldTrace
from tests.sync.bench import FLOW, SOURCE, ReadOnly, bench
from tests.sync.product import CUSTOMER
from tests.sync.rig import rig


def only(result: SandboxResult) -> TargetResult:
    (target,) = result.targets
    return target


def field(result: SandboxResult, name: str) -> FieldTrace:
    return next(each for each in only(result).trace.every_field() if each.field == name)


def kinds(traced: FieldTrace) -> list[str]:
    return [problem.kind for problem in traced.problems]


# --- the record ---------------------------------------------------------------------------------------------------


async def test_a_record_of_the_mirror_is_taken_from_there_with_its_age(fresh_database):
    async with bench(fresh_database) as made:
        made.erp.calls.clear()
        result = await made.ask(record="r1")
        assert (result.origin, result.record, result.version) == ("mirror", "r1", 1)
        assert result.changed_ago is not None
        assert result.read_ago is not None
        assert made.erp.calls == []
        assert field(result, "name").value == "Name 1"


async def test_a_record_that_the_mirror_does_not_have_is_read_from_its_system(fresh_database):
    async with bench(fresh_database) as made:
        result = await made.ask(record="r2")
        assert (result.origin, result.changed_ago) == ("source", None)
        assert field(result, "balance").value == Decimal("3.75")


async def test_a_record_that_is_nowhere_says_where_it_was_looked_for(fresh_database):
    async with bench(fresh_database) as made:
        with pytest.raises(
            MissingRecordError, match="Neither the mirror nor erp/customers has a record 'r9'"
        ):
            await made.ask(record="r9")


async def test_a_record_that_a_person_typed_is_held_against_the_contract_of_its_source(fresh_database):
    async with bench(fresh_database) as made:
        result = await made.ask(
            document={"id": "x1", "number": "C9", "name": "N" * 41, "balance": 1, "parts": "2"}
        )
        assert (result.origin, result.record) == ("given", "x1")
        assert result.bad == [
            "field 'name': the text is longer than 40 characters",
            "field 'parts': a whole number was expected",
        ]
        assert field(result, "number").value == "C9"
        assert kinds(field(result, "balance")) == ["error"]


async def test_a_record_without_an_id_says_that_references_by_id_find_nothing(fresh_database):
    async with bench(fresh_database) as made:
        result = await made.ask(document={"number": "C9", "balance": Decimal("10.50"), "parts": 1})
        assert result.record == ""
        assert any("holds no id" in note for note in result.notes)
        assert field(result, "balance").value == Decimal("10.5")


async def test_the_scope_is_chosen_and_an_unknown_one_is_refused(fresh_database):
    async with bench(fresh_database, scopes=("de", "fr")) as made:
        result = await made.ask(document={"id": "x", "number": "1", "balance": 1}, scope="fr")
        assert (result.scope, field(result, "number").value) == ("fr", "fr1")
        unnamed = await made.ask(document={"id": "x", "number": "1", "balance": 1})
        assert unnamed.scope == "de"
        assert any("no scope is named" in note for note in unnamed.notes)
        with pytest.raises(ConfigurationError, match="no scope 'xx'"):
            await made.ask(record="r1", scope="xx")
        with pytest.raises(MissingRecordError):
            await made.ask(record="r1", scope="fr")


async def test_a_record_that_two_scopes_have_asks_for_the_scope(fresh_database):
    async with bench(fresh_database, scopes=("de", "fr")) as made:
        made.thaw()
        for scope in ("de", "fr"):
            made.erp.put("r7", scope, number="C7", name="Other", balance=1, parts=1)
        made.freeze()
        with pytest.raises(ConfigurationError, match=r"The scopes de, fr each have a record 'r7'.*--scope"):
            await made.ask(record="r7")


# --- rules --------------------------------------------------------------------------------------------------------


async def test_a_reference_follows_the_links_of_the_store(fresh_database):
    async with bench(fresh_database) as made:
        parent = field(await made.ask(record="r2"), "parent")
        assert [(link.link, link.value) for link in parent.links] == [("people.copy", "r0")]
        assert ("", parent.value) in made.crm.records
        lonely = field(await made.ask(document={"id": "x", "parent": "r77"}), "parent")
        assert kinds(lonely) == ["unresolved"]


async def test_a_rule_that_fails_does_not_hide_the_others(fresh_database):
    async with bench(fresh_database) as made:
        result = await made.ask(document={"id": "x", "number": "C9", "name": "Lab", "balance": 1, "parts": 0})
        assert kinds(field(result, "balance")) == ["error"]
        assert field(result, "name").value == "Lab"


async def test_a_value_that_the_target_does_not_take_is_shown_as_a_misfit(fresh_database):
    async with bench(fresh_database) as made:
        number = field(await made.ask(document={"id": "x", "number": "1" * 21, "balance": 1}), "number")
        assert kinds(number) == ["misfit"]
        assert number.takes == "text(20)"


async def test_a_record_that_does_not_belong_says_which_condition_it_fails(fresh_database):
    async with bench(fresh_database) as made:
        trace = only(await made.ask(document={"id": "x", "balance": -1})).trace
        assert trace.passes is False
        assert [(each.expression, each.holds, each.inputs) for each in trace.conditions] == [
            ("balance >= 0", False, {"balance": -1})
        ]


async def test_one_rule_alone_is_shown_on_demand(fresh_database):
    async with bench(fresh_database) as made:
        result = await made.ask(record="r2", field="balance")
        assert [each.field for each in only(result).trace.every_field()] == ["balance"]
        with pytest.raises(ConfigurationError, match="no rule for 'balanse'; did you mean balance"):
            await made.ask(record="r2", field="balanse")


async def test_a_rule_that_is_not_saved_yet_is_tried_in_place_of_the_one_that_is(fresh_database):
    async with bench(fresh_database) as made:
        result = await made.ask(record="r2", field="balance", draft='{math: "round(balance * 2, 0)"}')
        assert (field(result, "balance").value, result.version) == (15, None)
        assert only(result).faults == []
        saved = await made.ask(record="r2", field="balance")
        assert field(saved, "balance").value == Decimal("3.75")


async def test_a_rule_for_a_field_that_has_none_yet_is_tried_too(fresh_database):
    async with bench(fresh_database) as made:
        flow = FLOW.replace("      parent: {ref: people.copy, of: parent}\n", "")
        result = await made.ask(record="r2", text=flow, field="parent", draft="name")
        assert field(result, "parent").value == "New"
        block = await made.ask(record="r2", field="name", draft='template: "{name}!"')
        assert field(block, "name").value == "New!"


async def test_a_draft_that_cannot_be_read_names_its_faults_by_field(fresh_database):
    async with bench(fresh_database) as made:
        with pytest.raises(FlowErrors) as refused:
            await made.ask(record="r2", field="balance", draft='{math: "balance +"}')
        assert [fault.path for fault in refused.value.faults] == ["balance.math"]
        assert "the draft" in refused.value.message


async def test_a_draft_that_a_save_would_refuse_runs_and_says_so(fresh_database):
    async with bench(fresh_database) as made:
        result = await made.ask(record="r2", field="name", draft="nmae")
        assert field(result, "name").value is None
        assert [(fault.path, fault.closest) for fault in only(result).faults] == [
            ("targets.copy.fields.name", "name")
        ]


async def test_a_whole_draft_is_tried_and_has_to_be_of_the_flow_that_was_named(fresh_database):
    async with bench(fresh_database) as made:
        draft = FLOW.replace("name: name", 'name: {template: "{name} ({number})"}')
        result = await made.ask(record="r2", text=draft)
        assert (field(result, "name").value, result.version) == ("New (C2)", None)
        with pytest.raises(ConfigurationError, match="holds the flow 'people', not 'others'"):
            await made.ask(flow="others", record="r2", text=draft)


async def test_a_draft_of_a_flow_that_does_not_exist_yet_is_tried(fresh_database):
    async with bench(fresh_database) as made:
        result = await made.ask(
            flow="fresh", record="r1", text=FLOW.replace("flow: people", "flow: fresh"), plan=True
        )
        would = only(result).would
        assert would is not None
        assert would.outcome == "adopted"


async def test_an_older_version_is_tried(fresh_database):
    async with bench(fresh_database) as made:
        made.thaw()
        await made.world.apply(FLOW.replace("name: name", "name: number"))
        made.freeze()
        assert field(await made.ask(record="r1"), "name").value == "C1"
        older = await made.ask(record="r1", version=1)
        assert (field(older, "name").value, older.version) == ("Name 1", 1)
        with pytest.raises(ConfigurationError, match="no version 9 of the flow 'people'"):
            await made.ask(record="r1", version=9)


# --- the plan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "outcome", "changes"),
    [
        ({"record": "r1"}, "no_change", {}),
        (
            {"record": "r2"},
            "created",
            {"number": [None, "C2"], "name": [None, "New"], "email": [None, "***"]},
        ),
        (
            {
                "document": {
                    "id": "r1",
                    "number": "C1",
                    "name": "Other",
                    "balance": 1,
                    "parts": 1,
                    "email": "a@b",
                }
            },
            "updated",
            {"name": ["Name 1", "Other"]},
        ),
        ({"record": "r1", "field": "name", "draft": "number"}, "updated", {"name": ["Name 1", "C1"]}),
        ({"document": {"id": "r1", "balance": -1}}, "filtered", {}),
        (
            {"document": {"id": "x1", "number": "C1", "balance": 1, "parts": 1}},
            "adopted",
            {"name": ["Name 1", None]},
        ),
        ({"document": {"id": "x1", "number": "C5", "balance": 1, "parts": 0}}, "dead", {}),
        ({"document": {"id": "x1", "number": 5, "balance": 1, "parts": 1}}, "dead", {}),
    ],
)
async def test_whether_the_record_would_be_written_is_told_by_the_plan_of_the_run(
    fresh_database, options, outcome, changes
):
    async with bench(fresh_database) as made:
        would = only(await made.ask(**options, plan=True)).would
        assert would is not None
        assert would.outcome == outcome, would.reason
        for name, change in changes.items():
            assert would.changes[name] == change
        if outcome in ("no_change", "filtered", "dead"):
            assert would.changes == {}


async def test_what_the_plan_says_is_what_the_run_then_writes(fresh_database):
    async with bench(fresh_database) as made:
        would = only(await made.ask(record="r2", plan=True, show_personal=True)).would
        assert would is not None
        assert would.outcome == "created"
        made.thaw()
        await made.world.run()
        effect = made.crm.ledger[-1]
        assert {name: after for name, (_, after) in would.changes.items()} == effect.fields
        made.freeze()


async def test_a_target_that_does_not_answer_leaves_the_rules_shown_and_the_outcome_unknown(fresh_database):
    async with bench(fresh_database) as made:
        made.crm.faults.busy = 1.0
        result = only(await made.ask(record="r2", plan=True))
        assert result.would is not None
        assert result.would.outcome == "unknown"
        assert (SystemBusyError.__doc__ or "") in result.would.reason
        assert result.trace.fields


async def test_without_a_plan_no_system_is_asked_for_a_record_of_the_mirror(fresh_database):
    async with bench(fresh_database) as made:
        made.erp.calls.clear()
        made.crm.calls.clear()
        result = only(await made.ask(record="r1"))
        assert result.would is None
        assert (made.erp.calls, made.crm.calls) == ([], [])


async def test_no_snapshot_is_stored_where_the_schema_was_never_read(fresh_database):
    async with rig(fresh_database, source=ReadOnly(schema=SOURCE), target=ReadOnly()) as world:
        await world.apply(FLOW)
        assert await registry.latest_snapshot(world.database, "erp", "customers") is None
        result = await sandbox(world.engine, Ask(flow="people", document={"id": "1", "name": "N"}, plan=True))
        assert field(result, "name").value == "N"
        assert await registry.latest_snapshot(world.database, "erp", "customers") is None


# --- what may be shown --------------------------------------------------------------------------------------------


async def test_personal_values_are_masked_unless_asked_for_and_secret_ones_always(fresh_database):
    document = {"id": "x", "number": "C8", "balance": 1, "parts": 1, "email": "Ann@Lab", "password": "hush"}
    flow = FLOW.replace("name: name", "name: password")
    async with bench(fresh_database) as made:
        masked = await made.ask(document=document, text=flow, plan=True)
        assert "ann@lab" not in repr(masked).lower()
        assert "hush" not in repr(masked)
        email = field(masked, "email")
        assert (email.value, email.inputs) == ("***", {"email": "***"})
        assert masked.masked
        assert not (
            await made.ask(document={**document, "email": None, "password": None}, field="number")
        ).masked
        shown = await made.ask(document=document, text=flow, plan=True, show_personal=True)
        assert field(shown, "email").value == "ann@lab"
        would = only(shown).would
        assert would is not None
        assert would.changes["email"] == [None, "ann@lab"]
        assert "hush" not in repr(shown)


async def test_a_personal_field_inside_lines_and_behind_a_lookup_is_masked(fresh_database):
    rows = FieldSchema(
        name="rows",
        type="lines",
        line_key="n",
        fields=(
            FieldSchema(name="n", type="integer"),
            FieldSchema(name="who", type="text", sensitivity="personal"),
            FieldSchema(name="what", type="text"),
        ),
    )
    schema = EntitySchema(entity="customers", key=("id",), fields=(*CUSTOMER.fields, rows))
    flow = """
flow: people
source: {system: erp, entity: customers}
targets:
  copy:
    system: crm
    entity: customers
    key: {number: number}
    lines:
      rows: {each: rows, key: n, fields: {who: {lookup: people, of: who, missing: null}, what: what}}
"""
    document = {"id": "x", "number": "1", "rows": [{"n": 1, "who": "Ann", "what": "Desk"}]}
    products = {"source": ReadOnly(schema=schema), "target": ReadOnly(schema=schema)}
    async with rig(fresh_database, **products) as world:
        await world.apply(flow)
        world.engine.lookups["people"] = {"Ann": "Anna Larsson"}
        result = await sandbox(world.engine, Ask(flow="people", document=document, plan=True))
        assert "Ann" not in repr(result)
        assert field(result, "rows.what").value == "Desk"
        assert field(result, "rows.who").value == "***"
        assert [entry.key for entry in field(result, "rows.who").entries] == ["***"]


async def test_what_a_masked_value_is_made_of_is_masked_with_it_also_where_only_the_target_calls_it_personal(
    fresh_database,
):
    def customers(sensitivity):
        rows = FieldSchema(
            name="rows",
            type="lines",
            line_key="n",
            fields=(
                FieldSchema(name="n", type="integer"),
                FieldSchema(name="who", type="text", sensitivity=sensitivity),
                FieldSchema(name="what", type="text"),
            ),
        )
        fields = [
            msgspec.structs.replace(one, sensitivity=sensitivity if one.name in ("name", "email") else "none")
            for one in CUSTOMER.fields
        ]
        return EntitySchema(entity="customers", key=("id",), fields=(*fields, rows))

    flow = """
flow: people
source: {system: erp, entity: customers}
when: not empty(name)
targets:
  copy:
    system: crm
    entity: customers
    key: {number: number}
    when: not empty(number)
    fields:
      name: {if: 'name == "Alpine"', then: name, else: {lookup: known, of: name, missing: null}}
      email: email
    lines:
      rows:
        each: rows
        key: n
        when: who != "Bo" and what != "Bin"
        fields: {who: who, what: what}
"""
    document = {
        "id": "x",
        "number": "C1",
        "name": "Alpine",
        "email": "a@b",
        "rows": [{"n": 1, "who": "Ann", "what": "Desk"}, {"n": 2, "who": "Bo", "what": "Bin"}],
    }
    products = {
        "source": ReadOnly(schema=customers("none")),
        "target": ReadOnly(schema=customers("personal")),
    }
    async with rig(fresh_database, **products) as world:
        await world.apply(flow)
        world.engine.lookups["known"] = {"Alpine": "Alpine Ski House"}
        trace = only(await sandbox(world.engine, Ask(flow="people", document=document))).trace
        assert not any(hidden in repr(trace.fields) for hidden in ("a@b", "House"))
        name = next(one for one in trace.fields if one.field == "name")
        assert (name.value, name.inputs) == ("***", {"name": "***"})
        assert {step.value for step in name.steps} == {"***"}
        assert [(one.expression, one.inputs) for one in trace.conditions] == [
            ("not empty(name)", {"name": "***"}),
            ("not empty(number)", {"number": "C1"}),
        ]
        (rows,) = trace.lines
        assert [line.when.inputs for line in rows.lines if line.when is not None] == [
            {"who": "***", "what": "Desk"},
            {"who": "***", "what": "Bin"},
        ]
        who, what = (one for one in rows.lines[0].fields if one.field in ("rows.who", "rows.what"))
        assert (who.inputs, what.inputs) == ({"who": "***"}, {"what": "Desk"})
        asked = Ask(flow="people", document=document, show_personal=True)
        shown = only(await sandbox(world.engine, asked)).trace
        assert next(one for one in shown.fields if one.field == "name").inputs == {"name": "Alpine"}
        assert shown.conditions[0].inputs == {"name": "Alpine"}
