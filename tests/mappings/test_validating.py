"""A flow against the schemas of its systems: what cannot work is said before anything runs."""

from __future__ import annotations

import msgspec
import pytest

from ipaas_resources.core.schema import EntitySchema, FieldSchema
from mappings.checking.validate import validate, warnings
from mappings.compiler import compile_flow
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
        F(name="notes", type="text"),
        F(name="code", type="text", max_length=10),
        F(name="rate", type="decimal", scale=5),
        F(name="whole", type="decimal", scale=0),
        F(name="state", type="enum", enum=("", "Open", "Closed", "Lost")),
        F(name="at", type="time"),
        F(name="place", type="object"),
        F(name="percent", type="decimal", minimum=0, maximum=100),
        F(name="year", type="integer", minimum=1900, maximum=2100),
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
        F(name="text", type="text"),
        F(name="money", type="decimal", scale=2, minimum=0, maximum=1000),
        F(name="token", type="text", sensitivity="secret"),
        F(name="identity", type="guid"),
        F(name="opens", type="time"),
        F(name="title", type="text", characters="single_line", max_length=60),
        F(name="file", type="text", characters="file_name"),
        F(name="colour", type="enum", enum=("red", "green")),
        F(name="month", type="integer", minimum=1, maximum=12),
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


def warned(fields: str = "", *, more: str = "", target: EntitySchema = TARGET, **known) -> list[str]:
    compiled = compile_flow(load(fields, more=more, name="f.yaml"))
    return [str(warning) for warning in warnings(compiled, SOURCE, {"account": target}, **known)]


def test_a_flow_that_fits_has_no_faults():
    assert (
        faults(
            "name: {direct: displayName, too_long: truncate}\nstate: {if: blocked == 'All', then: {const: Closed}, else: {const: Open}}\n"
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
        (
            "state: {const: Opened}",
            "'Opened' is not a value of state; did you mean Open? Valid: Open, Closed",
        ),
        (
            "state: {python: \"'Open' if taxable else 'Shut'\"}",
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
        ("name: {const: much too long}", "'much too long' has 13 characters, name takes 10"),
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
    assert faults("name: code", target=target) == [
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


BARE = "say what a longer text does: write {direct: displayName, too_long: error}, or truncate or flag"
ADD = "say what a longer text does: add too_long: error, truncate or flag to the rule"

#: what is wrong, what is said of it, the nearest thing that is right
CASES = [
    # length
    ("name: displayName", f"the rule can give 100 characters, name takes 10; {BARE}", "name: code"),
    ("name: displayName", "the rule can give 100 characters", "name: {direct: displayName, too_long: error}"),
    ("name: displayName", "the rule can give 100 characters", "name: {direct: displayName, too_long: flag}"),
    ("name: displayName", "the rule can give 100 characters", "name: notes"),  # nobody knows how long
    ('name: {template: "{code}!"}', f"the rule can give 11 characters, name takes 10; {ADD}", 'name: {template: "{code}"}'),
    ('name: {template: "{changed}"}', "the rule can give 27 characters, name takes 10", 'name: {template: "{day}"}'),
    ('name: {template: "({code})"}', "the rule can give 12 characters, name takes 10", 'name: {template: "{notes}-{code}"}'),
    ("name: {if: taxable, then: displayName, else: code}", "the rule can give 100 characters, name takes 10", "name: {if: taxable, then: code, else: {const: none}}"),
    ("name: id", "the rule can give 36 characters, name takes 10", "text: id"),
    ("name: {const: much too long}", "'much too long' has 13 characters, name takes 10", "name: {const: just right}"),
    ("name: {const: much too long, too_long: truncate}", "'much too long' has 13 characters", "name: {const: just right, too_long: truncate}"),
    ('name: {python: "left(displayName, 11)"}', "the rule can give 11 characters, name takes 10", 'name: {python: "left(displayName, 10)"}'),
    ('name: {python: "displayName[2:13]"}', "the rule can give 11 characters, name takes 10", 'name: {python: "displayName[3:13]"}'),
    ('name: {python: "upper(strip(displayName))"}', "the rule can give 100 characters", 'name: {python: "code.strip().upper()"}'),
    ("name: {python: \"code + '-'\"}", "the rule can give 11 characters", 'name: {python: "code + notes"}'),
    ("name: {python: \"f'{code}!'\"}", "the rule can give 11 characters", "name: {python: \"f'{code}'\"}"),
    ("name: {python: \"code if taxable else 'eleven_long'\"}", "the rule can give 11 characters", "name: {python: \"code if taxable else 'ten_l_long'\"}"),
    ("name: {python: \"pad_left(code, 12, '0')\"}", "the rule can give 12 characters", "name: {python: \"pad_left(code, 10, '0')\"}"),
    ("name: {unit: notes, missing: {default: no unit here}}", "missing: the default has 12 characters, name takes 10", "name: {unit: notes, missing: flag}"),
    # defaults, where nobody knows the table
    ("state: {lookup: t, of: code, missing: {default: Shut}}", "missing: the default is not a value of state", "state: {lookup: t, of: code, missing: {default: Open}}"),
    ("month: {lookup: t, of: code, missing: {default: X}, as: number}", "missing: the default is no number", "month: {lookup: t, of: code, missing: {default: 1}, as: number}"),
    ("colour: {unit: notes, missing: {default: rad}}", "the default is not a value of colour; did you mean red?", "colour: {unit: notes, missing: {default: red}}"),
    # characters
    ('title: {const: "two\\nlines"}', "the constant holds line breaks or control characters, which title cannot hold", "title: {const: one line}"),
    ('title: {template: "{code}\\n{code}"}', "the template holds line breaks", 'title: {template: "{code}\\n{code}", unfit_characters: replace}'),
    ('file: {const: "a/b.pdf"}', "the constant holds characters that no file name may hold", "file: {const: a-b.pdf}"),
    ("limit: {direct: balance, unfit_characters: drop}", "limit is no text, so unfit_characters has no meaning here", "text: {direct: notes, unfit_characters: drop}"),
    ("opened: {direct: day, too_long: flag}", "opened is no text, so too_long has no meaning here", "name: {direct: notes, too_long: flag}"),
    # numbers
    ("employees: balance", 'the rule gives a decimal, employees takes an integer; write {math: "round(FIELD)"}', "employees: whole"),
    ("employees: rate", "the rule gives a decimal, employees takes an integer", "employees: {math: round(rate)}"),
    ('employees: {math: "round(rate, 2)"}', "the rule gives up to 2 digits after the point, employees takes an integer", 'employees: {math: "round(rate, 0)"}'),
    ("employees: {math: rate}", "the rule gives up to 5 digits after the point", "employees: {math: count * 2 + whole}"),
    ("employees: 1.5", "1.5 is no whole number, employees takes an integer", "employees: 2"),
    ("money: 1000.01", "1000.01 is above 1000, the most that money takes", "money: 1000"),
    ("money: -1", "-1 is below 0, the least that money takes", "money: 0"),
    ("month: year", "the rule gives 1900 or more, month at most 12", "month: count"),
    ("money: {const: true}", "the rule gives a boolean, money takes a decimal", "onhold: true"),
    # dates
    ("opened: {const: soon}", "'soon' is no date, as opened takes; write it as 2026-01-31", "opened: {const: 2026-02-28}"),
    ("opened: {const: 2026-02-30}", "'2026-02-30' is no date", "opened: {const: 2028-02-29}"),
    ("seen: {const: 2026-02-28}", "'2026-02-28' is no datetime", 'seen: {const: "2026-02-28T10:00:00Z"}'),
    ("opens: {const: noon}", "'noon' is no time, as opens takes; write it as 13:58:10", 'opens: {const: "12:00:00"}'),
    ("opens: changed", "the rule gives a datetime, opens takes a time", "opens: at"),
    ("opened: {date: balance}", "a date is needed here, the rule gives decimal", "opened: {date: notes}"),
    # ids, choices, truth
    ("identity: {const: 12345}", "the rule gives an integer, identity takes a guid", "identity: id"),
    ("identity: {const: abc}", "'abc' is no guid, as identity takes", "identity: {const: 2e451703-0a6f-4c64-8a52-2c9c13a6f001}"),
    ("identity: code", "the rule gives at most 10 characters, identity takes a guid of 36; use a ref", "identity: notes"),
    ("colour: {const: grean}", "'grean' is not a value of colour; did you mean green? Valid: red, green", "colour: {const: green}"),
    ("colour: count", "the rule gives a number, colour takes one of red, green; use a lookup", "colour: notes"),
    ("colour: state", "none of the source's values is a value of colour; use a lookup. Valid: red, green", "state: state"),
    ("onhold: {math: balance}", "the rule gives a number, onhold takes a boolean", "onhold: {python: balance > 0}"),
    # what a rule can never work with
    ("money: {math: notes}", "the calculation gives text, not a number; write number(...), or python", "money: {math: number(notes)}"),
    ('text: {template: "{picture}"}', "picture is of type file and cannot stand in a text", 'text: {template: "{balance}"}'),
    ("text: {lookup: t, of: orderLines, missing: flag}", "a single value is needed here, the rule gives lines", "text: {lookup: t, of: code, missing: flag}"),
    ("parent: {ref: a_b.c, of: place}", "a single value is needed here, the rule gives object", "parent: {ref: a_b.c, of: id}"),
    # null
    ("must: {const: null}", "the rule gives null, must cannot be empty", "text: {const: null}"),
    # whose value counts
    ("logo: {direct: picture, owner: target}", "files are not compared, so nobody sees what the target made of logo; leave owner out", "text: {direct: notes, owner: target}"),
    ("token: {direct: notes, owner: shared}", "secrets are not kept, so nobody sees what the target made of token", "token: {direct: notes, owner: source}"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "sentence", "right"), CASES)
def test_what_cannot_fit_is_refused_and_its_nearest_neighbour_is_not(wrong, sentence, right):
    (found,) = faults(wrong)
    assert found.startswith("f.yaml:9: targets.account.fields.")
    assert sentence in found
    assert faults(right) == []


def test_twenty_faults_are_told_at_once_each_with_line_field_and_way_out():
    fields = """\
accountid: id
nam: code
name: displayname
state: {const: Opned}
limit: displayName
employees: balance
onhold: code
opened: changed
seen: day
money: 2000
token: {direct: notes, owner: target}
identity: code
title: {const: "a\\nb"}
file: {direct: notes, too_long: truncate}
month: 13
text: {lookup: terns, of: code, missing: flag}
parent: {ref: other.acount, of: id}
logo: code
must: {const: null}
details: notes
"""
    found = faults(
        fields + "colour: {python: \"'red' if taxible else 'blue'\"}\nopens: at\n",
        more="    on_delete: delete\nwhen: blokked == 1\n",
        target=msgspec.structs.replace(TARGET, deletable=False),
        lookups={"terms": {"A": "B"}},
        flows={"other": ["account"]},
    )
    said = [line.partition(" Valid: ")[0].removeprefix("f.yaml:") for line in found]
    assert said == [
        "9: targets.account.fields.accountid: accountid of accounts is read-only",
        "10: targets.account.fields.nam: the field of accounts 'nam' does not exist; did you mean name?",
        "11: targets.account.fields.name: the source field 'displayname' does not exist; did you mean displayName?",
        "12: targets.account.fields.state: 'Opned' is not a value of state; did you mean Open?",
        (
            '13: targets.account.fields.limit: the rule gives text, limit takes a decimal; write {math: "number(FIELD)"}'
        ),
        (
            "14: targets.account.fields.employees: the rule gives a decimal, employees takes an integer; "
            'write {math: "round(FIELD)"}'
        ),
        "15: targets.account.fields.onhold: the rule gives text, onhold takes a boolean; write an if rule",
        "16: targets.account.fields.opened: the rule gives a datetime, opened takes a date; write {date: FIELD, to: date}",
        "17: targets.account.fields.seen: the rule gives a date, seen takes a datetime; write {date: FIELD, to: datetime}",
        "18: targets.account.fields.money: 2000 is above 1000, the most that money takes",
        (
            "19: targets.account.fields.token.owner: secrets are not kept, so nobody sees what the target made of token; "
            "leave owner out"
        ),
        (
            "20: targets.account.fields.identity: the rule gives at most 10 characters, identity takes a guid of 36; "
            "use a ref"
        ),
        (
            "21: targets.account.fields.title: the constant holds line breaks or control characters, which title cannot "
            "hold"
        ),
        "23: targets.account.fields.month: 13 is above 12, the most that month takes",
        "24: targets.account.fields.text.lookup: the lookup table 'terns' does not exist; did you mean terms?",
        "25: targets.account.fields.parent.ref: the target 'other.acount' does not exist; did you mean other.account?",
        "26: targets.account.fields.logo: the rule gives text, logo takes a file",
        "27: targets.account.fields.must: the rule gives null, must cannot be empty",
        "28: targets.account.fields.details: details holds lines; write its rules under lines:",
        "29: targets.account.fields.colour: the source field 'taxible' does not exist; did you mean taxable?",
        "29: targets.account.fields.colour: 'blue' is not a value of colour.",
        "31: targets.account.on_delete: records of accounts of crm cannot be deleted; choose review, or another policy",
        "32: when: the source field 'blokked' does not exist; did you mean blocked?",
    ]


def test_a_length_that_the_target_raises_needs_no_word_any_more():
    wider = msgspec.structs.replace(
        TARGET,
        fields=tuple(
            msgspec.structs.replace(f, max_length=100) if f.name == "name" else f for f in TARGET.fields
        ),
    )
    assert faults("name: displayName", target=wider) == []


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("money: rate", 'the rule can give 5 digits after the point, money keeps 2 and rounds by its own rules; write {math: "round(..., 2)"}'),
        ("money: 1.234", "the rule can give 3 digits after the point, money keeps 2"),
        ("money: whole", None),
        ("money: {math: round(rate)}", None),
        ('money: {math: "round(rate, 3)"}', "the rule can give 3 digits after the point"),
        ('money: {math: "round(rate * 1.1, 2)"}', None),
        ("money: {math: rate * 1.1}", "the rule can give 6 digits after the point"),
        ("money: {math: rate - whole}", "the rule can give 5 digits after the point"),
        ("money: {math: -rate}", "the rule can give 5 digits after the point"),
        ("money: {math: rate / 3}", None),  # nobody knows how many
        ("money: {math: balance + rate}", None),
        ("state: state", "the source's values Lost are no values of state: records with them are refused; use a lookup"),
        ("month: year", None),  # that is a fault
        ("employees: year", None),
        ("month: {math: year}", None),
        ("money: percent", None),
    ],
)  # fmt: skip
def test_what_the_target_may_change_or_refuse_is_a_warning(field, sentence):
    found = warned(field)
    assert len(found) == (0 if sentence is None else 1)
    assert (
        sentence is None or f"f.yaml:9: targets.account.fields.{field.split(':')[0]}: {sentence}" in found[0]
    )


def test_a_source_that_goes_beyond_the_range_of_the_target_is_a_warning():
    narrow = EntitySchema(
        entity="accounts",
        key=("accountid",),
        fields=(
            F(name="accountnumber", type="text"),
            F(name="share", type="decimal", minimum=10, maximum=50),
        ),
    )
    assert [line.partition("share: ")[2] for line in warned("share: percent", target=narrow)] == [
        "the source goes up to 100, share to 50",
        "the source goes down to 0, share to 10",
    ]


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("text: Main contact", "the source field 'Main contact' does not exist; for a fixed text write {const: Main contact}"),
        ("text: 'Sales, main'", 'does not exist; for a fixed text write {const: "Sales, main"}'),
        ("text: GmbH", "the source field 'GmbH' does not exist; for a fixed text write {const: GmbH}"),
        ("text: displayNam", "the source field 'displayNam' does not exist; did you mean displayName?"),
        ("limit: {math: balance + zzz}", "the source field 'zzz' does not exist. Valid"),
    ],
)  # fmt: skip
def test_a_bare_name_that_is_none_may_have_been_meant_as_a_text(rule, sentence):
    assert sentence in faults(rule)[-1]


@pytest.mark.parametrize(
    ("fields", "more", "found"),
    [
        ("", "when: state == 'Opn'\n", "f.yaml:8: when: 'Opn' is no choice of the source field state ('', 'Open', 'Closed', 'Lost'); did you mean Open?"),
        ("", "    when: state not in ['Open', 'Closd']\n", "f.yaml:8: targets.account.when: 'Closd' is no choice"),
        ("onhold: {if: \"record['blocked'] != 'Shp'\", then: true, else: false}", "", "f.yaml:9: targets.account.fields.onhold: 'Shp' is no choice"),
        ("text: {python: \"x = 'a'\\nif 'Al' == blocked:\\n  x = 'b'\\nx\"}", "", "'Al' is no choice of the source field blocked"),
        ("", "    lines: {details: {each: orderLines, key: sequence, when: \"parent['state'] == 'Opn'\"}}\n", "lines.details.when: 'Opn' is no choice"),
        ("", "when: state == 'Open' and displayName == 'Opn' and state != '' and state in notes\n", None),
        ("text: {python: \"state = 'Opn'\\nstate == 'Opn'\"}", "", None),  # a name of the block, no field
        ("text: {python: \"[state for state in notes if state == 'Opn']\"}", "", None),
    ],
)  # fmt: skip
def test_a_comparison_with_a_choice_that_there_is_not_is_a_warning(fields, more, found):
    told = [line for line in warned(fields, more=more) if "choice" in line]
    assert len(told) == (0 if found is None else 1)
    assert found is None or found in told[0]
