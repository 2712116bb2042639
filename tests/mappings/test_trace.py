"""The trace of a record: what each rule read and made, and that it is what the run makes."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ipaas_resources.core.schema import EntitySchema, FieldSchema
from mappings.compiler import compile_flow
from tests.mappings.making import load
from tests.mappings.tracing import RECORD, fields, kinds, problems, rich, traced

# --- what is shown ----------------------------------------------------------------------------------------------


def test_a_field_shows_what_it_read_its_rule_and_what_came_out():
    share = fields(traced(RECORD))["share"]
    assert (share.word, share.says) == ("math", "the number total / parts")
    assert share.inputs == {"total": 50, "parts": 4}
    assert (share.value, share.type, share.problems) == (Decimal("12.5"), "decimal", [])


def test_a_lookup_shows_the_key_it_asked_for_and_the_entry_it_found():
    unit = fields(traced(RECORD))["unit"]
    assert unit.inputs == {"unit": " pcs "}
    assert [(step.word, step.value) for step in unit.steps] == [("of", "PCS")]
    assert [(each.table, each.key, each.found, each.entry) for each in unit.entries] == [
        ("units", "PCS", True, "each")
    ]


def test_a_condition_shows_which_branch_was_taken_and_the_other_is_not_looked_at():
    large = fields(traced({**RECORD, "total": 200}))["large"]
    assert [(step.word, step.value) for step in large.steps] == [("if", True), ("then", "large Lab")]
    small = fields(traced({**RECORD, "total": 50}))["large"]
    assert [(step.word, step.value) for step in small.steps] == [("if", False), ("else", "Lab"), ("if", True)]


def test_a_reference_shows_the_link_it_followed():
    (link,) = fields(traced(RECORD))["client"].links
    assert (link.link, link.by, link.value, link.id, link.scope) == ("clients.client", "id", "1", "c1", "de")


def test_a_missing_link_is_an_unresolved_field_that_is_left_out():
    client = fields(traced({**RECORD, "client": 99}))["client"]
    assert not client.has_value
    assert problems(client) == [("unresolved", "the record it refers to is not linked by clients.client yet")]


def test_a_missing_entry_is_a_flag():
    unit = fields(traced({**RECORD, "unit": "furlong"}))["unit"]
    assert not unit.has_value
    assert problems(unit) == [("flag", "the source value has no entry in the lookup table units")]


def test_one_rule_that_fails_does_not_hide_the_others():
    broken = fields(traced({**RECORD, "parts": 0, "total": "many", "day": "tomorrow"}))
    assert {name for name, field in broken.items() if kinds(field) == {"error"}} == {"share", "large", "day"}
    assert broken["name"].value == "Lab"
    assert broken["unit"].value == "each"


def test_a_line_that_fails_does_not_hide_the_others():
    items = [
        {"position": 1, "amount": 2, "price": 5, "unit": "PCS", "item": 1},
        {"position": 2, "amount": 2, "price": "?", "unit": "PCS", "item": 1},
        {"position": 3, "amount": 4, "price": 8, "unit": "H", "item": 9},
    ]
    (rows,) = traced({**RECORD, "items": items}).lines
    price = [next(field for field in line.fields if field.field == "rows.price") for line in rows.lines]
    assert [field.value for field in price] == [Decimal("2.5"), None, 2]
    assert [kinds(field) for field in price] == [set(), {"error"}, set()]
    assert kinds(rows.lines[2].fields[-1]) == {"unresolved"}


def test_a_line_that_does_not_meet_its_condition_makes_nothing():
    (rows,) = traced(RECORD).lines
    assert [(line.number, line.is_made) for line in rows.lines] == [(1, True), (2, False)]
    left = rows.lines[1]
    assert left.when is not None
    assert (left.when.expression, left.when.inputs, left.when.holds) == ("amount > 0", {"amount": 0}, False)
    assert left.fields == []


def test_two_lines_with_one_key_are_a_problem_of_the_lines():
    items = [{"position": 1, "amount": 1, "price": 1, "unit": "H", "item": 1}] * 2
    (rows,) = traced({**RECORD, "items": items}).lines
    assert [(problem.kind, problem.message) for problem in rows.problems] == [
        ("error", "two lines carry the same key")
    ]


def test_a_field_that_holds_no_lines_is_a_problem_of_the_lines():
    (rows,) = traced({**RECORD, "items": "none"}).lines
    assert [problem.kind for problem in rows.problems] == ["error"]


@pytest.mark.parametrize(
    ("state", "hidden", "holds", "passes"),
    [
        ("open", False, [True, True], True),
        ("draft", False, [False, True], False),
        ("open", True, [True, False], False),
        ("draft", True, [False, False], False),
    ],
)
def test_both_conditions_are_shown_and_both_have_to_hold(state, hidden, holds, passes):
    trace = traced({**RECORD, "state": state, "hidden": hidden})
    assert [condition.place for condition in trace.conditions] == ["when", "targets.order.when"]
    assert [condition.holds for condition in trace.conditions] == holds
    assert trace.passes is passes
    (target,) = compile_flow(rich()).targets.values()
    assert target.when({**RECORD, "state": state, "hidden": hidden}, "de") is passes


def test_a_condition_that_fails_says_why():
    flow = load("name: name", more="    when: balance / limit > 1\n")
    trace = traced({"balance": 1, "limit": 0}, flow)
    assert trace.passes is None
    assert [problem.kind for problem in trace.conditions[0].problems] == ["error"]


# --- against the target's schema ----------------------------------------------------------------------------------

SALES = EntitySchema(
    entity="sales",
    key=("id",),
    fields=(
        FieldSchema(name="number", type="text", max_length=3),
        FieldSchema(name="name", type="text", max_length=3),
        FieldSchema(name="share", type="integer"),
        FieldSchema(name="unit", type="enum", enum=("hour",)),
        FieldSchema(name="limit", type="decimal", creatable=False, updatable=False),
        FieldSchema(name="nothing", type="text", nullable=False),
        FieldSchema(
            name="rows",
            type="lines",
            fields=(FieldSchema(name="amount", type="boolean"),),
            line_key="position",
        ),
    ),
)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("share", "a whole number was expected"),
        ("unit", "the value is not one of the allowed values"),
        ("limit", "sales does not take it: it is read-only"),
        ("nothing", "null is not allowed"),
        ("day", "sales has no such field"),
    ],
)
def test_a_value_that_the_target_does_not_take_is_a_misfit(field, message):
    assert ("misfit", message) in problems(fields(traced(RECORD, schema=SALES))[field])


def test_a_text_that_is_too_long_is_made_to_fit_as_its_rule_says():
    flow = load(
        "name: name\ncut: {direct: name, too_long: truncate}\nleft: {direct: name, too_long: flag}", more=""
    )
    names = ("accountnumber", "name", "cut", "left")
    schema = EntitySchema(
        entity="accounts",
        key=("id",),
        fields=tuple(FieldSchema(name=name, type="text", max_length=3) for name in names),
    )
    shown = fields(traced({"number": "1", "name": "Larger"}, flow, schema=schema))
    assert (shown["name"].value, kinds(shown["name"])) == ("Larger", {"misfit"})
    assert (shown["cut"].value, shown["cut"].problems) == ("Lar", [])
    assert (shown["left"].has_value, kinds(shown["left"])) == (False, {"flag"})


def test_a_value_that_the_target_takes_is_none():
    name = fields(traced(RECORD, schema=SALES))["name"]
    assert (name.takes, name.problems) == ("text(3)", [])


def test_values_of_lines_are_held_against_the_fields_of_lines():
    (rows,) = traced(RECORD, schema=SALES).lines
    found = {field.field: problems(field) for field in rows.lines[0].fields}
    assert found["rows.amount"] == [("misfit", "true or false was expected")]
    assert found["rows.price"] == [("misfit", "rows has no such field")]
