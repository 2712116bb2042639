"""Impact analysis over a real registry: active flows, stored and live schemas, values of mirror, links and systems."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from console.cli.commands import impact as impact_command
from ipaas_assets.sync.drift import drift
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.impact import catalog_of, draft_report, rule_impact, schema_report
from ipaas_resources.core.errors import ConfigurationError, SystemBusyError
from ipaas_resources.core.schema import EntitySchema, FieldSchema
from ipaas_resources.store import registry
from mappings.faults import FlowErrors
from tests.sync.product import CUSTOMER, Product
from tests.sync.rig import Rig, flow, rig

SECOND = """
flow: second
source: {system: erp, entity: customers}
targets:
  copy:
    system: crm
    entity: customers
    key: {number: number}
    fields: {name: name, parent: {ref: people.copy, of: parent}}
"""


def renamed(old: str, new: str, schema: EntitySchema = CUSTOMER) -> EntitySchema:
    """The schema with another name for one field."""
    fields = [
        msgspec.structs.replace(field, name=new) if field.name == old else field for field in schema.fields
    ]
    return msgspec.structs.replace(schema, fields=tuple(fields))


def rename(product: Product, old: str, new: str) -> None:
    """Somebody renames a field in a product: its schema, and all its records."""
    product.live_schema = renamed(old, new, product.live_schema)
    for (scope, record), document in list(product.records.items()):
        del product.records[scope, record]
        product.put(
            record, scope, **{new if name == old else name: value for name, value in document.items()}
        )


@contextlib.asynccontextmanager
async def world(urls: Any, *, run: bool = True) -> AsyncIterator[Rig]:
    """Two flows of one source into one target, six records, run once."""
    async with rig(urls) as made:
        for number in range(6):
            made.products["erp"].put(
                f"r{number}", number=f"C{number}", name=f"Name {number}", balance=number, email=f"{number}@b"
            )
        await made.apply(flow())
        await made.apply(SECOND)
        if run:
            await made.run("people")
        await made.open()
        yield made


# --- rules --------------------------------------------------------------------------------------------------------


async def test_a_rule_of_an_active_flow_is_set_beside_all_other_active_flows(fresh_database):
    async with world(fresh_database, run=False) as made:
        impact = rule_impact(made.engine, "people", "copy", "name")
        assert [(each.field, str(each.other)) for each in impact.conflicts] == [("name", "second.copy.name")]
        assert [(each.field, [str(other) for other in each.others]) for each in impact.shared] == [
            ("name", ["second.copy.name"])
        ]
        key = rule_impact(made.engine, "people", "copy", "number")
        assert [str(place) for each in key.dependents for place in each.places] == ["second.copy.parent"]


async def test_a_disabled_flow_is_told_as_disabled(fresh_database):
    async with world(fresh_database, run=False) as made:
        await registry.set_enabled(made.database, "second", enabled=False)
        await made.open()
        assert catalog_of(made.engine).disabled == {"second"}
        assert {each.note for each in rule_impact(made.engine, "people").conflicts} == {"second is disabled"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("nobody",), "There is no active flow 'nobody'"),
        (("people", "kopy"), "people has no target 'kopy'. Its targets: copy"),
        (("people", "copy", "nmae"), "no rule for 'nmae'; did you mean name"),
    ],
)
async def test_what_does_not_exist_is_named_with_what_does(fresh_database, names, said):
    async with world(fresh_database, run=False) as made:
        with pytest.raises(ConfigurationError, match=said.replace("?", r"\?")):
            rule_impact(made.engine, *names)


# --- drafts -------------------------------------------------------------------------------------------------------


async def test_a_draft_tells_what_it_takes_from_others_and_what_a_save_would_refuse(fresh_database):
    async with world(fresh_database, run=False) as made:
        await made.engine.schema("erp", "customers")
        draft = flow().replace("copy:", "copied:").replace("      name: name\n", "      name: nmae\n")
        report = await draft_report(made.engine, draft, "draft.yaml")
        assert [(each.breaks, str(each.place)) for each in report.impact.consequences] == [
            (True, "second.copy.parent")
        ]
        assert ("targets.copied.fields.name", "name") in {(each.path, each.closest) for each in report.faults}
        assert report.notes == []


async def test_a_draft_with_faults_of_form_is_refused(fresh_database):
    async with world(fresh_database, run=False) as made:
        with pytest.raises(FlowErrors):
            await draft_report(made.engine, "flow: people\n", "draft.yaml")


async def test_a_draft_is_judged_though_a_system_does_not_answer(fresh_database):
    async with world(fresh_database, run=False) as made:
        made.engine.broken["crm"] = "The system crm cannot be opened. Mend its document."
        report = await draft_report(made.engine, flow().replace("name: name", "name: number"), "draft.yaml")
        assert [str(change.place) for change in report.impact.changes] == ["people.copy.name"]
        assert report.notes == [
            "crm/customers is not checked: The system crm cannot be opened. Mend its document."
        ]


# --- schemas ------------------------------------------------------------------------------------------------------


async def test_the_newest_stored_schema_is_compared_with_the_one_before(fresh_database):
    async with world(fresh_database) as made:
        rename(made.products["erp"], "name", "displayTitle")
        await made.open()
        await made.engine.schema("erp", "customers")
        report = await schema_report(made.engine, "erp", "customers")
        assert (report.before, report.after) == ("version 1", "version 2")
        assert {(change.field, change.kind) for change in report.impact.changes} == {
            ("name", "removed"),
            ("displayTitle", "added"),
        }
        assert {str(each.place) for each in report.impact.breaking} == {
            "people.copy.name",
            "second.copy.name",
        }


async def test_a_renamed_field_is_recognised_by_the_values_of_its_records(fresh_database):
    async with world(fresh_database) as made:
        rename(made.products["erp"], "name", "caption")
        await made.open()
        report = await schema_report(made.engine, "erp", "customers", "live")
        assert (report.before, report.after) == ("version 1", "live")
        (found,) = report.impact.renames
        assert [candidate.field for candidate in found.candidates] == ["caption"]
        assert found.candidates[0].values == 1.0
        assert "caption" in report.impact.breaking[0].why


async def test_a_renamed_target_field_is_recognised_by_what_was_sent_to_it(fresh_database):
    async with world(fresh_database) as made:
        rename(made.products["crm"], "name", "caption")
        await made.open()
        report = await schema_report(made.engine, "crm", "customers", "live")
        (found,) = report.impact.renames
        assert [candidate.field for candidate in found.candidates] == ["caption"]
        assert found.candidates[0].values == 1.0


async def test_values_never_stand_in_the_report(fresh_database):
    async with world(fresh_database) as made:
        rename(made.products["erp"], "name", "caption")
        await made.open()
        report = await schema_report(made.engine, "erp", "customers", "live")
        assert "Name 1" not in repr(report)


async def test_a_system_that_does_not_answer_leaves_the_stored_schemas_to_compare(fresh_database):
    async with world(fresh_database) as made:
        rename(made.products["erp"], "name", "caption")
        await made.open()
        await made.engine.schema("erp", "customers")
        made.products["erp"].faults.busy = 1.0
        report = await schema_report(made.engine, "erp", "customers")
        assert {str(each.place) for each in report.impact.breaking} == {
            "people.copy.name",
            "second.copy.name",
        }
        assert report.notes == [f"renames are recognised without present values: {SystemBusyError.__doc__}"]


async def test_a_named_version_is_compared_with_the_newest(fresh_database):
    async with world(fresh_database) as made:
        erp = made.products["erp"]
        for length in (30, 20):
            fields = [
                msgspec.structs.replace(field, max_length=length) if field.name == "name" else field
                for field in erp.live_schema.fields
            ]
            erp.live_schema = msgspec.structs.replace(erp.live_schema, fields=tuple(fields))
            await made.open()
            await made.engine.schema("erp", "customers")
        oldest = await schema_report(made.engine, "erp", "customers", "1")
        assert [str(change) for change in oldest.impact.changes] == ["name: shortened, text(40) -> text(20)"]
        assert (oldest.before, oldest.after) == ("version 1", "version 3")
        latest = await schema_report(made.engine, "erp", "customers")
        assert [str(change) for change in latest.impact.changes] == ["name: shortened, text(30) -> text(20)"]


async def test_a_live_schema_is_compared_and_not_stored(fresh_database):
    async with world(fresh_database) as made:
        made.products["crm"].live_schema = EntitySchema(
            entity="customers", key=("id",), fields=(*CUSTOMER.fields, FieldSchema(name="vat", type="text"))
        )
        await made.open()
        before = made.sql("SELECT system, version, seen_at FROM schema_snapshots ORDER BY 1, 2")
        report = await schema_report(made.engine, "crm", "customers", "live")
        assert [(change.field, change.kind) for change in report.impact.changes] == [("vat", "added")]
        assert made.sql("SELECT system, version, seen_at FROM schema_snapshots ORDER BY 1, 2") == before


@pytest.mark.parametrize(
    ("system", "entity", "against", "said"),
    [
        ("erp", "customers", "7", "There is no version 7 of the schema of erp/customers. Stored are: 1."),
        ("erp", "customers", "newest", "'newest' is no version of a schema"),
        ("erp", "orders", None, "No schema of erp/orders was ever stored"),
        ("sap", "orders", None, "There is no system 'sap'"),
    ],
)
async def test_a_schema_that_is_not_there_is_told(fresh_database, system, entity, against, said):
    async with world(fresh_database) as made:
        with pytest.raises(ConfigurationError) as refused:
            await schema_report(made.engine, system, entity, against)
        assert said in refused.value.message


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def run_command(fresh_database, monkeypatch) -> Any:
    """`ipaas impact` on a world that the command itself opens; erp's name was renamed since the last run."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Engine]:
        async with world(fresh_database) as made:
            rename(made.products["erp"], "name", "caption")
            yield await made.open()

    monkeypatch.setattr(impact_command, "engine", opened)
    return lambda *arguments: CliRunner().invoke(impact_command.command, list(arguments))


def test_the_command_shows_a_rule(run_command):
    result = run_command("people.copy.name")
    assert result.exit_code == 0, result.output
    assert "crm/customers.name: people.copy.name and second.copy.name" in result.output
    assert "erp/customers.name: second.copy.name" in result.output


def test_the_command_shows_a_schema_with_its_renames(run_command):
    result = run_command("--schema", "erp/customers", "--against", "live")
    assert result.exit_code == 0, result.output
    assert "erp/customers, from version 1 to live: 2 differences" in result.output
    assert "name is probably renamed to caption" in result.output
    assert "people.copy.name: it reads name, which is gone" in result.output


def test_the_command_shows_a_draft(run_command, tmp_path):
    file = tmp_path / "draft.yaml"
    file.write_text(flow().replace("      name: name\n", ""))
    result = run_command("people", "--file", str(file))
    assert result.exit_code == 0, result.output
    assert "people, the draft against the active version: 1 removed" in result.output
    assert "Conflicts that end:" in result.output


def test_the_command_gives_json(run_command):
    shown = json.loads(run_command("people", "--json").output)
    assert shown["of"] == "people"
    assert {each["field"] for each in shown["conflicts"]} == {"number", "name"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name either a flow"),
        (["people", "--schema", "erp/customers"], "Name either a flow"),
        (["people", "--against", "live"], "--against goes with --schema"),
        (["--schema", "customers"], "names no entity"),
        (["people.copy", "--file", "draft.yaml"], "A draft is a whole flow"),
    ],
)
def test_a_wrong_command_says_what_is_wrong_before_anything_is_opened(arguments, said):
    result = CliRunner().invoke(impact_command.command, arguments)
    assert result.exit_code == 2
    assert said in result.output


# --- the drift check ----------------------------------------------------------------------------------------------


def test_the_drift_check_names_what_a_removed_field_has_probably_become():
    found = drift(CUSTOMER, renamed("email", "emailAddress"))
    assert (found.removed, found.added, found.changed) == (("email",), ("emailAddress",), ())
    assert found.hint("email") == f", {found.renames['email']}"
    assert "probably renamed to emailAddress" in found.hint("email")
    assert found.hint("name") == ""


def test_the_drift_check_tells_what_rules_can_meet_and_nothing_else():
    fields = [
        msgspec.structs.replace(field, max_length=10, description="shorter")
        if field.name == "name"
        else field
        for field in CUSTOMER.fields
    ]
    found = drift(CUSTOMER, msgspec.structs.replace(CUSTOMER, fields=tuple(fields)))
    assert found.changed == ("name: text(40) -> text(10)",)
    told = msgspec.structs.replace(CUSTOMER.fields[1], description="another text")
    same = msgspec.structs.replace(CUSTOMER, fields=(CUSTOMER.fields[0], told, *CUSTOMER.fields[2:]))
    assert not drift(CUSTOMER, same).breaking
