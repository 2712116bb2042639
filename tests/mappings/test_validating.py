"""A flow against the schemas of its systems: what cannot work is said before anything runs."""

from __future__ import annotations

import pytest

from ipaas_resources.core.schema import EntitySchema, FieldSchema
from mappings.compiler import compile_flow
from mappings.validate import validate
from tests.mappings.making import load

F = FieldSchema
SOURCE = EntitySchema(
    entity="customers",
    key=("id",),
    fields=(
        F(name="id", type="guid"),
        F(name="number", type="text"),
        F(name="displayName", type="text", max_length=100),
        F(name="blocked", type="enum", enum=("", "Ship", "All")),
        F(name="balance", type="decimal"),
        F(name="count", type="integer"),
        F(name="taxable", type="boolean"),
        F(name="day", type="date"),
        F(name="changed", type="datetime"),
        F(name="picture", type="file"),
        F(
            name="orderLines",
            type="lines",
            fields=(F(name="sequence", type="integer"), F(name="quantity", type="decimal")),
        ),
    ),
)
TARGET = EntitySchema(
    entity="accounts",
    key=("accountid",),
    fields=(
        F(name="accountid", type="guid", creatable=False, updatable=False),
        F(name="accountnumber", type="text", required=True),
        F(name="name", type="text", max_length=10),
        F(name="state", type="enum", enum=("Open", "Closed")),
        F(name="choice", type="enum", enum=(1, 2)),
        F(name="limit", type="decimal"),
        F(name="employees", type="integer"),
        F(name="onhold", type="boolean"),
        F(name="must", type="text", nullable=False),
        F(name="opened", type="date"),
        F(name="seen", type="datetime"),
        F(name="parent", type="reference", targets=("accounts",)),
        F(name="logo", type="file"),
        F(name="details", type="lines", fields=(
            F(name="sequence", type="integer", required=True),
            F(name="quantity", type="decimal"),
            F(name="scan", type="file"),
            F(name="total", type="decimal", creatable=False, updatable=False),
        )),
    ),
)  # fmt: skip


def faults(fields: str = "", *, more: str = "", target: EntitySchema = TARGET, **known) -> list[str]:
    compiled = compile_flow(load(fields, more=more, name="f.yaml"))
    return [str(fault) for fault in validate(compiled, SOURCE, {"account": target}, **known)]


def test_a_flow_that_fits_has_no_faults():
    assert (
        faults(
            "name: displayName\nstate: {if: blocked == 'All', then: {const: Closed}, else: {const: Open}}\n"
            "choice: {lookup: terms, of: number, as: number, missing: {default: 1}}\nlimit: balance\nemployees: count\n"
            'onhold: {python: "balance > 0"}\nopened: {date: changed}\nseen: changed\nlogo: picture\n'
            'parent: {ref: a_b.c, of: number}\nmust: {template: "{balance} {day}"}',
            more="    lines: {details: {each: orderLines, key: sequence, fields: {quantity: quantity}}}\nwhen: balance > 0\n",
        )
        == []
    )


def test_unknown_fields_come_all_at_once_with_the_closest_name():
    found = faults(
        "nam: displayname\nlimit: {math: balanc * 2}\nonhold: {if: blokked, then: true, else: {direct: taxible}}",
        more="    when: unknwn == 1\nwhen: taxable and countt > 1\n",
    )
    assert [line.partition(" Valid: ")[0].removesuffix(".") for line in found] == [
        "f.yaml:9: targets.account.fields.nam: the source field 'displayname' does not exist; did you mean displayName?",
        "f.yaml:9: targets.account.fields.nam: the field of accounts 'nam' does not exist; did you mean name?",
        "f.yaml:10: targets.account.fields.limit: the source field 'balanc' does not exist; did you mean balance?",
        "f.yaml:11: targets.account.fields.onhold: the source field 'blokked' does not exist; did you mean blocked?",
        "f.yaml:11: targets.account.fields.onhold.else: the source field 'taxible' does not exist; did you mean taxable?",
        "f.yaml:12: targets.account.when: the source field 'unknwn' does not exist",
        "f.yaml:13: when: the source field 'countt' does not exist; did you mean count?",
    ]
    assert all("Valid: " in line for line in found)


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("accountid: id", "accountid of accounts is read-only"),
        ("employees: day", "the rule gives a date, employees takes an integer"),
        ("limit: displayName", 'the rule gives text, limit takes a decimal; write {math: "number(FIELD)"}'),
        ("name: balance", 'the rule gives a decimal, name takes text; write {template: "{FIELD}"}'),
        ("name: {math: balance}", 'the rule gives a number, name takes text; write {python: "text(...)"}'),
        ("onhold: displayName", "the rule gives text, onhold takes a boolean; write an if rule"),
        ("opened: changed", "the rule gives a datetime, opened takes a date; write {date: FIELD, to: date}"),
        (
            "seen: {date: changed}",
            "the rule gives a date, seen takes a datetime; write {date: FIELD, to: datetime}",
        ),
        ('opened: {date: changed, to: "%d.%m.%Y"}', "the rule gives text, opened takes a date"),
        ("name: picture", "the rule gives a file, name takes text"),
        ("logo: displayName", "the rule gives text, logo takes a file"),
        (
            "employees: {ref: a_b.c, of: number}",
            "the rule gives a reference, employees takes an integer; add as: number",
        ),
        ("state: {const: Opened}", "'Opened' is not a value of state. Valid: Open, Closed"),
        (
            "state: {if: taxable, then: {const: Open}, else: {const: Shut}}",
            "'Shut' is not a value of state. Valid: Open, Closed",
        ),
        (
            "state: blocked",
            "none of the source's values is a value of state; use a lookup. Valid: Open, Closed",
        ),
        ("choice: 3", "3 is not a value of choice. Valid: 1, 2"),
        (
            "choice: {lookup: t, of: number, missing: flag}",
            "the rule gives text, choice takes one of the numbers 1, 2; a lookup gives numbers with as: number",
        ),
        ("name: {const: much too long}", "the constant has 13 characters, name takes 10"),
        ("must: {const: null}", "the rule gives null, must cannot be empty"),
        ("details: displayName", "details holds lines; write its rules under lines:"),
        ("employees: {python: 'upper(displayName)'}", "the rule gives text, employees takes an integer"),
        (
            "onhold: {python: 'day if taxable else balance > 1'}",
            "the rule gives a date, onhold takes a boolean",
        ),
    ],
)
def test_a_rule_that_cannot_fit_its_field_is_refused_with_the_way_out(field, sentence):
    (found,) = faults(field)
    assert found.startswith(f"f.yaml:9: targets.account.fields.{field.split(':')[0]}: {sentence}")


def test_a_required_field_without_a_rule_is_missed():
    target = EntitySchema(
        entity="accounts",
        key=("accountid",),
        fields=(
            *TARGET.fields,
            F(name="currency", type="text", required=True),
            F(name="made", type="text", required=True, creatable=False),
        ),
    )
    assert faults("name: displayName", target=target) == [
        "f.yaml:8: targets.account.fields: accounts needs currency for every new record, and no rule makes it"
    ]


def test_a_key_that_a_create_cannot_set_is_refused():
    target = EntitySchema(
        entity="accounts", key=("accountid",), fields=(F(name="accountnumber", type="text", creatable=False),)
    )
    assert faults(target=target) == [
        (
            "f.yaml:7: targets.account.key.accountnumber: accountnumber cannot be set when a record of accounts is created, "
            "so a created record would never be found by it; choose another key"
        )
    ]


def test_an_entity_that_cannot_be_written_is_refused():
    target = EntitySchema(
        entity="accounts", key=("accountid",), fields=TARGET.fields, creatable=False, updatable=False
    )
    assert faults(target=target) == ["f.yaml:6: targets.account.entity: accounts of crm cannot be written"]


def test_lines_are_checked_on_both_sides():
    more = """\
    lines:
      details:
        each: orderLines
        key: sequence
        when: quantty > 0
        fields:
          quantity: quantiti
          total: quantity
          scan: $parent.picture
          sequence: {math: 'parent["conut"] * 2'}
          colour: {const: red}
"""
    found = [line.split(". Valid")[0] for line in faults(more=more)]
    assert [line.split("; did")[0] for line in found] == [
        "f.yaml:12: targets.account.lines.details.when: the source field 'quantty' does not exist",
        "f.yaml:14: targets.account.lines.details.fields.quantity: the source field 'quantiti' does not exist",
        "f.yaml:15: targets.account.lines.details.fields.total: total of details is read-only",
        "f.yaml:16: targets.account.lines.details.fields.scan: scan is a file; lines take no files",
        "f.yaml:17: targets.account.lines.details.fields.sequence: the source field 'conut' does not exist",
        "f.yaml:18: targets.account.lines.details.fields.colour: the field of details 'colour' does not exist",
    ]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("{details: {each: lines, key: sequence}}", "the source field 'lines' does not exist; did you mean orderLines?"),
        ("{details: {each: balance, key: sequence}}", "balance holds no lines"),
        ("{detail: {each: orderLines, key: sequence}}", "the lines field of accounts 'detail' does not exist; did you mean details?"),
        ("{name: {each: orderLines, key: sequence}}", "name of accounts holds no lines; write its rule under fields:"),
        ("{details: {each: orderLines, key: {quantity: quantity}}}", "details needs sequence for every new record, and no rule makes it"),
    ],
)  # fmt: skip
def test_lines_that_are_no_lines_are_refused(lines, sentence):
    (found,) = faults(more=f"    lines: {lines}\n")
    assert sentence in found


def test_tables_and_flows_are_checked_where_they_are_known():
    fields = "name: {lookup: terns, of: number, missing: flag}\nparent: {ref: others.account, of: number}"
    assert faults(fields) == []
    assert faults(fields, lookups=["terms"], flows={"others": ["client"], "items": ["product"]}) == [
        "f.yaml:9: targets.account.fields.name.lookup: the lookup table 'terns' does not exist; did you mean terms? Valid: terms",
        (
            "f.yaml:10: targets.account.fields.parent.ref: the target 'others.account' does not exist; "
            "did you mean others.client? Valid: others.client"
        ),
    ]
    found = faults(
        fields, lookups=["terns"], flows={"other": ["account"]}, more="reverse_of: others.client\n"
    )
    assert [line.split("; did")[0] for line in found] == [
        "f.yaml:10: targets.account.fields.parent.ref: the flow 'others' does not exist",
        "f.yaml:11: reverse_of: the flow 'others' does not exist",
    ]


def test_a_target_without_a_schema_is_left_to_the_others():
    compiled = compile_flow(load("anything: displayName\nother: nothing"))
    (fault,) = validate(compiled, SOURCE, {})
    assert fault.path == "targets.account.fields.other"
