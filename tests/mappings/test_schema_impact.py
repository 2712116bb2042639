"""What a changed schema means for the rules: every kind of change is seen, and only what it concerns is named."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.schema import EntitySchema, FieldSchema, FieldType
from mappings.compiler import CompiledFlow, compile_flow
from mappings.impact.catalog import Catalog
from mappings.impact.schema_changes import schema_changes
from mappings.impact.schema_impact import SchemaImpact, schema_impact
from mappings.load import load_flow, load_folder

PATTERNS = Path(__file__).resolve().parents[2] / "mappings" / "patterns"


def field(name: str, kind: FieldType = "text", **more: Any) -> FieldSchema:
    return FieldSchema(name=name, type=kind, **more)


SOURCE = EntitySchema(
    entity="customers",
    key=("id",),
    fields=(
        field("id"),
        field("number", max_length=20),
        field("name", max_length=40),
        field("balance", "decimal"),
        field("state", "enum", enum=("Open", "Closed")),
        field("clientNo", max_length=20),
        field("phoneNo", max_length=30),
        field("unused"),
        field("items", "lines", line_key="n", fields=(field("n", "integer"), field("qty", "decimal"))),
    ),
)
TARGET = EntitySchema(
    entity="accounts",
    key=("id",),
    fields=(
        field("id", creatable=False, updatable=False),
        field("accountnumber", max_length=20),
        field("name", max_length=40),
        field("closed", "boolean"),
        field("kind", "enum", enum=("Customer", "Vendor")),
        field("phone", max_length=30),
        field("credit", "decimal", scale=4),
        field("owner"),
        field("rows", "lines", line_key="n", fields=(field("n", "integer"), field("quantity", "decimal"))),
    ),
)
FLOW = """
flow: customers
source: {system: bc, entity: customers}
when: state != "Closed"
targets:
  account:
    system: crm
    entity: accounts
    key: {accountnumber: number}
    fields:
      name: name
      closed: {if: 'state == "Closed"', then: true, else: false}
      kind: {const: Customer}
      phone: {template: "{phoneNo}"}
      credit: {math: "round(balance, 4)"}
    lines:
      rows: {each: items, key: n, fields: {quantity: qty}}
"""
ORDERS = """
flow: orders
source: {system: bc, entity: orders}
targets:
  order:
    system: cal
    entity: orders
    key: {number: number}
    fields: {customer: {ref: clients.client, of: client, by: clientNo}}
"""
CLIENTS = """
flow: clients
source: {system: bc, entity: customers}
targets:
  client: {system: cal, entity: clients, key: {LegacyId: number}}
"""


@functools.cache
def compiled(text: str) -> CompiledFlow:
    return compile_flow(load_flow(text, name="flow.yaml"))


@functools.cache
def catalog() -> Catalog:
    flows = [compiled(text) for text in (FLOW, ORDERS, CLIENTS)]
    return Catalog({flow.flow.flow: flow for flow in flows})


def changed(schema: EntitySchema, name: str, **attributes: Any) -> EntitySchema:
    """The schema with another form of one field; lines.field reaches into lines."""
    lines, dot, inner = name.partition(".")
    if dot:
        own = schema.field(lines)
        assert own is not None
        rows = EntitySchema(entity="", key=(), fields=own.fields)
        return changed(schema, lines, fields=changed(rows, inner, **attributes).fields)
    assert schema.field(name) is not None
    fields = [
        msgspec.structs.replace(each, **attributes) if each.name == name else each for each in schema.fields
    ]
    return msgspec.structs.replace(schema, fields=tuple(fields))


def without(schema: EntitySchema, *names: str) -> EntitySchema:
    return msgspec.structs.replace(
        schema, fields=tuple(each for each in schema.fields if each.name not in names)
    )


def plus(schema: EntitySchema, *fields: FieldSchema) -> EntitySchema:
    return msgspec.structs.replace(schema, fields=(*schema.fields, *fields))


def source_impact(after: EntitySchema, **options: Any) -> SchemaImpact:
    schemas = {("crm", "accounts"): TARGET}
    return schema_impact(catalog(), "bc", SOURCE, after, schemas=schemas, **options)


def target_impact(after: EntitySchema) -> SchemaImpact:
    return schema_impact(catalog(), "crm", TARGET, after, schemas={("bc", "customers"): SOURCE})


def told(impact: SchemaImpact) -> dict[str, str]:
    """Place -> the worst that is said of it."""
    found: dict[str, str] = {}
    for each in impact.affected:
        if found.get(str(each.place)) != "breaks":
            found[str(each.place)] = each.severity
    return found


def reasons(impact: SchemaImpact, place: str) -> list[str]:
    return [each.why for each in impact.affected if str(each.place) == place]


# --- the source ---------------------------------------------------------------------------------------------------


def test_a_source_field_that_is_gone_breaks_the_rules_and_conditions_that_read_it():
    impact = source_impact(without(SOURCE, "state"))
    assert told(impact) == {"customers.when": "breaks", "customers.account.closed": "breaks"}
    assert reasons(impact, "customers.when") == ["it reads state, which is gone"]


def test_a_source_field_that_no_rule_reads_concerns_nobody():
    impact = source_impact(without(SOURCE, "unused"))
    assert [(change.field, change.kind) for change in impact.changes] == [("unused", "removed")]
    assert impact.affected == []


def test_a_key_that_loses_its_field_breaks_in_every_flow():
    assert told(source_impact(without(SOURCE, "number"))) == {
        "customers.account.accountnumber": "breaks",
        "clients.client.LegacyId": "breaks",
    }


def test_a_reference_by_a_field_that_is_gone_breaks():
    impact = source_impact(without(SOURCE, "clientNo"))
    assert reasons(impact, "orders.order.customer") == ["it finds records by clientNo, which is gone"]


def test_a_renamed_source_field_names_its_likely_new_name_and_breaks_all_the_same():
    after = plus(without(SOURCE, "phoneNo"), field("phoneNumber", max_length=30), field("blocked"))
    impact = source_impact(after)
    assert [(rename.field, rename.candidates[0].field) for rename in impact.renames] == [
        ("phoneNo", "phoneNumber")
    ]
    assert told(impact) == {"customers.account.phone": "breaks"}
    assert reasons(impact, "customers.account.phone") == [
        "it reads phoneNo, which is gone; probably renamed to phoneNumber (1.00)"
    ]


def test_values_recognise_a_rename_that_the_names_do_not_show():
    after = plus(without(SOURCE, "name"), field("title", max_length=40))
    values = {str(number): f"Lab {number}" for number in range(9)}
    assert source_impact(after).renames == []
    (rename,) = source_impact(after, was={"name": values}, now={"title": values}).renames
    assert rename.candidates[0].field == "title"


def test_a_field_of_lines_that_is_gone_breaks_the_rules_of_lines():
    items = SOURCE.field("items")
    assert items is not None
    after = changed(SOURCE, "items", fields=(items.fields[0], field("quantity", "decimal")))
    impact = source_impact(after)
    assert told(impact) == {"customers.account.rows.quantity": "breaks"}
    assert [(rename.field, rename.candidates[0].field) for rename in impact.renames] == [
        ("items.qty", "items.quantity")
    ]


def test_lines_that_are_gone_break_everything_that_is_made_of_them():
    assert set(told(source_impact(without(SOURCE, "items")))) == {
        "customers.account.rows.each",
        "customers.account.rows.n",
        "customers.account.rows.quantity",
    }


def test_a_retyped_source_field_breaks_where_a_save_would_refuse_it_and_is_to_be_looked_at_elsewhere():
    impact = source_impact(changed(SOURCE, "name", type="file", max_length=None))
    assert told(impact) == {"customers.account.name": "breaks"}
    text = source_impact(changed(SOURCE, "number", type="guid", max_length=None))
    assert told(text)["clients.client.LegacyId"] == "check"  # the schema of cal/clients is not known


def test_a_source_text_that_grows_beyond_its_target_breaks_the_rule_that_copies_it():
    impact = source_impact(changed(SOURCE, "name", max_length=100))
    assert told(impact) == {"customers.account.name": "breaks"}


def test_a_source_text_that_shrinks_concerns_nobody():
    impact = source_impact(changed(SOURCE, "name", max_length=10))
    assert [change.kind for change in impact.changes] == ["shortened"]
    assert impact.affected == []


def test_a_value_that_conditions_look_for_and_that_is_gone_breaks_them():
    impact = source_impact(changed(SOURCE, "state", enum=("Open", "Blocked")))
    assert {(change.kind, change.members) for change in impact.changes} == {
        ("members_gone", ("Closed",)),
        ("members_new", ("Blocked",)),
    }
    assert told(impact) == {"customers.when": "breaks", "customers.account.closed": "breaks"}
    assert reasons(impact, "customers.when")[0] == "it looks for 'Closed', which state no longer takes"


def test_a_value_that_no_condition_looks_for_is_to_be_looked_at():
    impact = source_impact(changed(SOURCE, "state", enum=("Closed",)))
    assert set(told(impact).values()) == {"check"}


# --- the target ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "place", "severity"),
    [
        (without(TARGET, "name"), "customers.account.name", "breaks"),
        (changed(TARGET, "name", creatable=False, updatable=False), "customers.account.name", "breaks"),
        (changed(TARGET, "name", max_length=10), "customers.account.name", "breaks"),
        (changed(TARGET, "phone", max_length=10), "customers.account.phone", "breaks"),
        (changed(TARGET, "closed", type="date"), "customers.account.closed", "breaks"),
        (changed(TARGET, "kind", enum=("Vendor",)), "customers.account.kind", "breaks"),
        (changed(TARGET, "credit", scale=1), "customers.account.credit", "check"),
        (changed(TARGET, "credit", maximum=100.0), "customers.account.credit", "check"),
        (changed(TARGET, "name", nullable=False), "customers.account.name", "check"),
        (changed(TARGET, "name", required=True), "customers.account.name", "check"),
        (changed(TARGET, "owner", required=True), "customers.account", "breaks"),
        (plus(TARGET, field("region", required=True)), "customers.account", "breaks"),
        (changed(TARGET, "accountnumber", creatable=False), "customers.account.accountnumber", "breaks"),
        (changed(TARGET, "rows.quantity", type="date"), "customers.account.rows.quantity", "breaks"),
        (changed(TARGET, "rows.quantity", creatable=False, updatable=False), "customers.account.rows.quantity", "breaks"),
        (without(TARGET, "rows"), "customers.account.rows.quantity", "breaks"),
    ],
)  # fmt: skip
def test_a_target_that_takes_less_breaks_or_concerns_the_rule_that_writes_it(after, place, severity):
    impact = target_impact(after)
    assert told(impact).get(place) == severity, impact.affected


@pytest.mark.parametrize(
    "after",
    [
        plus(TARGET, field("region")),
        changed(TARGET, "name", max_length=80),
        changed(TARGET, "kind", enum=("Customer", "Vendor", "Partner")),
        changed(TARGET, "credit", scale=6),
        changed(TARGET, "owner", max_length=5),
        changed(TARGET, "owner", creatable=False, updatable=False),
        changed(TARGET, "name", description="another text"),
        without(TARGET, "owner"),
    ],
)
def test_a_target_that_takes_more_or_differs_elsewhere_concerns_no_rule(after):
    assert target_impact(after).affected == []


def test_a_removed_target_field_names_its_likely_new_name():
    after = plus(without(TARGET, "phone"), field("phoneNumber", max_length=30))
    (reason,) = reasons(target_impact(after), "customers.account.phone")
    assert reason.startswith("it writes phone, which is gone; probably renamed to phoneNumber (0.")


def test_an_entity_that_no_flow_touches_concerns_nobody():
    impact = schema_impact(catalog(), "sap", SOURCE, without(SOURCE, "state", "number"))
    assert (len(impact.changes), impact.affected) == (2, [])


def test_the_one_rule_that_breaks_is_named_once():
    impact = target_impact(changed(TARGET, "name", max_length=10))
    assert len(reasons(impact, "customers.account.name")) == 1


# --- shipped flows ------------------------------------------------------------------------------------------------


def test_every_field_that_a_shipped_flow_reads_breaks_its_readers_when_it_goes():
    flows = {each.flow.flow: compile_flow(each.flow) for each in load_folder(PATTERNS)}
    known = Catalog(flows)
    for name, flow in flows.items():
        system, entity = known.source(name)
        fields = sorted(field.partition(".")[0] for field in flow.source_fields)
        before = EntitySchema(entity=entity, key=(), fields=tuple(field(each, "any") for each in fields))
        for gone in fields:
            impact = schema_impact(known, system, before, without(before, gone))
            assert name in {each.place.flow for each in impact.breaking}, (name, gone)


# --- differences --------------------------------------------------------------------------------------------------


def test_equal_schemas_have_no_difference():
    assert schema_changes(SOURCE, SOURCE) == []


@pytest.mark.parametrize(
    ("attributes", "kinds"),
    [
        ({"type": "guid", "max_length": None}, ["retyped"]),
        ({"max_length": None}, ["lengthened"]),
        ({"max_length": 10}, ["shortened"]),
        ({"enum": ("a",)}, ["members_gone"]),
        ({"required": True}, ["required"]),
        ({"nullable": False}, ["not_nullable"]),
        ({"creatable": False}, ["not_creatable"]),
        ({"creatable": False, "updatable": False}, ["read_only"]),
        ({"sensitivity": "personal"}, ["sensitivity"]),
        ({"scale": 2}, ["less_precise"]),
        ({"minimum": 0.0}, ["range"]),
    ],
)
def test_each_kind_of_change_is_seen_and_its_opposite_is_another_kind(attributes, kinds):
    after = changed(SOURCE, "name", **attributes)
    assert [change.kind for change in schema_changes(SOURCE, after)] == kinds
    back = [change.kind for change in schema_changes(after, SOURCE)]
    assert len(back) == 1
    assert back != kinds or kinds[0] in ("retyped", "sensitivity")


kinds_of_field = st.sampled_from(["text", "integer", "decimal", "date", "boolean", "enum"])
fields = st.lists(
    st.builds(
        FieldSchema,
        name=st.sampled_from(["id", "number", "name", "phone", "phoneNo", "balance", "state"]),
        type=kinds_of_field,
        max_length=st.sampled_from([None, 10, 40]),
        required=st.booleans(),
        creatable=st.booleans(),
        updatable=st.booleans(),
        enum=st.sampled_from([None, ("a", "b"), ("a",)]),
    ),
    unique_by=lambda each: each.name,
)


@given(fields, fields)
def test_any_two_schemas_compare_and_every_place_that_is_named_exists(before, after):
    old, new = (EntitySchema(entity="customers", key=("id",), fields=tuple(each)) for each in (before, after))
    impact = schema_impact(catalog(), "bc", old, new, schemas={("crm", "accounts"): TARGET})
    known = set(catalog().sources)
    assert {each.place for each in impact.affected} <= known
    gone = {each.name for each in old.fields} - {each.name for each in new.fields}
    assert {rename.field for rename in impact.renames} <= gone
    assert [change for change in impact.changes if change.kind == "removed"] == [
        change for change in schema_changes(old, new) if change.field in gone
    ]
