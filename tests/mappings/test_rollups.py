"""Rolling up lines: by functions of an expression, and before the rules of a flow's lines run."""

from __future__ import annotations

import copy
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.schema import EntitySchema, FieldSchema
from mappings.checking.validate import validate
from mappings.compiler import compile_flow
from mappings.faults import FlowErrors
from tests.mappings.making import Answers, evaluate, load, mapped, target

LINES = [
    {"item": "A", "qty": 2, "price": Decimal("1.5"), "text": "first"},
    {"item": "B", "qty": 1, "price": Decimal(4), "text": "other"},
    {"item": "A", "qty": 3, "price": None, "text": "second"},
]


# --- functions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ('sum_of(lines, "qty")', 6),
        ('sum_of(lines, "price")', Decimal("5.5")),
        ('sum_of(lines, "nothing")', 0),
        ('sum_of(n, "qty")', 0),
        ('sum_by(lines, "item", "qty")', {"A": 5, "B": 1}),
        ('sum_by(lines, "item", "qty")["A"]', 5),
        ('sum_by(n, "item", "qty")', None),
        ('count_by(lines, "item")', {"A": 2, "B": 1}),
        ('group_by(lines, "item", "text")', {"A": ["first", "second"], "B": ["other"]}),
        ('group_by(lines, "item")["B"][0]["price"]', 4),
        ('count_by(keys, "k")', {"7": 3, "true": 1}),
        ('sum_of([], "qty")', 0),
        ('sum_by([], "item", "qty")', {}),
    ],
)
def test_lines_are_rolled_up_in_an_expression(expression, result):
    keys = [{"k": 7}, {"k": Decimal("7.0")}, {"k": "7"}, {"k": True}]
    assert evaluate(expression, {"lines": LINES, "keys": keys, "n": None}) == result


def test_the_keys_of_a_rollup_stand_in_the_order_of_their_first_lines():
    lines = [{"k": key, "q": 1} for key in ("z", "a", "z", "m", "a")]
    assert list(evaluate('sum_by(lines, "k", "q")', {"lines": lines})) == ["z", "a", "m"]


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ('sum_of(lines, "text")', "a sum adds numbers, there is text"),
        ('sum_by(gaps, "item", "qty")', "a line has no key to roll it up by; leave such lines out first"),
        ('count_by(empties, "item")', "a line has no key"),
        ('count_by(nested, "item")', "cannot write a list as text"),
        ('sum_of([1], "qty")', "lines are a list of objects, there is a number"),
        ('sum_of("x", "qty")', "a list is needed, there is text"),
        ("sum_of(lines, 1)", "text is needed, there is a number"),
        ('sum_of(many, "qty")', "a list is longer than 1000 items"),
    ],
)
def test_what_cannot_be_rolled_up_is_an_error(expression, says):
    record = {
        "lines": LINES,
        "gaps": [{"qty": 1}],
        "empties": [{"item": ""}],
        "nested": [{"item": [1]}],
        "many": [{"qty": 1}] * 1_001,
    }
    with pytest.raises(MappingError, match=says):
        evaluate(expression, record)


NUMBERS = st.one_of(st.integers(-(10**9), 10**9), st.decimals(-(10**6), 10**6, places=4))
ROWS = st.lists(st.fixed_dictionaries({"k": st.sampled_from("abc"), "q": NUMBERS}), max_size=30)


@given(ROWS)
def test_the_sums_of_all_keys_add_up_to_the_sum_of_all_lines(lines):
    before = copy.deepcopy(lines)
    sums = evaluate('sum_by(lines, "k", "q")', {"lines": lines})
    assert (
        sum(sums.values())
        == evaluate('sum_of(lines, "q")', {"lines": lines})
        == sum(row["q"] for row in lines)
    )
    assert lines == before


# --- the lines of a flow ----------------------------------------------------------------------------------------

ROLLED = """\
    lines:
      orderLines:
        each: lines
        key: {number: item}
        rollup: {by: item, sum: [qty, price], first: text}
        fields:
          quantity: qty
          amount: {math: "price * 2"}
          description: text
          note: $parent.note
"""


def rolled(record, more=ROLLED, **context):
    image = mapped("", {"number": "1", **record}, more=more, **context)
    return [line.values for line in image.lines["orderLines"]]


def test_lines_with_one_key_become_one_before_the_rules_run():
    assert rolled({"lines": LINES, "note": "n"}) == [
        {"number": "A", "quantity": 5, "amount": 3, "description": "first", "note": "n"},
        {"number": "B", "quantity": 1, "amount": 8, "description": "other", "note": "n"},
    ]


def test_the_record_stays_as_it_is_and_a_sum_of_nothing_stays_null():
    lines = [{"item": "A", "qty": 1, "price": None}, {"item": "A", "qty": 2}]
    before = copy.deepcopy(lines)
    assert rolled({"lines": lines})[0] == {
        "number": "A",
        "quantity": 3,
        "amount": None,
        "description": None,
        "note": None,
    }
    assert lines == before
    assert rolled({"lines": None}) == []


def test_a_field_that_differs_within_a_group_and_is_not_provided_for_is_an_error():
    more = ROLLED.replace(", first: text", "")
    with pytest.raises(
        MappingError, match="differ in text; add it to sum: or first: of the rollup"
    ) as caught:
        rolled({"lines": LINES}, more)
    assert caught.value.field == "orderLines.rollup"
    assert "second" not in caught.value.message
    same = [{**line, "text": "same"} for line in LINES]
    assert [line["quantity"] for line in rolled({"lines": same}, more)] == [5, 1]


def test_all_fields_that_differ_within_a_group_are_named_at_once():
    lines = [
        {"item": "A", "qty": 1, "price": 2, "text": "x"},
        {"item": "A", "qty": 1, "price": 3, "text": "y"},
        {"item": "A", "qty": 4, "price": 3, "text": "y"},
    ]
    more = ROLLED.replace("sum: [qty, price], first: text", "sum: []")
    with pytest.raises(
        MappingError, match="differ in qty, price, text; add each to sum: or first: of the rollup"
    ):
        rolled({"lines": lines}, more)


def test_a_field_that_no_rule_reads_may_differ():
    lines = [{**line, "etag": str(number), "lineNo": number} for number, line in enumerate(LINES)]
    assert [line["quantity"] for line in rolled({"lines": lines})] == [5, 1]


@pytest.mark.parametrize(
    ("values", "same"),
    [
        ((1, Decimal("1.0")), True),
        ((1, True), False),
        (("1", 1), False),
        ((None, ""), False),
        (([1], [1]), True),
    ],
)
def test_what_is_the_same_within_a_group_is_told_by_the_stored_form(values, same):
    more = ROLLED.replace("first: text", "first: []")
    lines = [{"item": "A", "qty": 1, "price": 1, "text": text} for text in values]
    if same:
        assert len(rolled({"lines": lines}, more)) == 1
    else:
        with pytest.raises(MappingError, match="differ in text"):
            rolled({"lines": lines}, more)


def test_lines_are_filtered_first_and_rolled_up_then():
    more = ROLLED.replace("        rollup:", '        when: qty > 1 and parent["open"]\n        rollup:')
    lines = [*LINES, {"item": None, "qty": 0, "text": "a remark"}]
    assert [(line["number"], line["quantity"]) for line in rolled({"lines": lines, "open": True}, more)] == [
        ("A", 5)
    ]
    assert rolled({"lines": lines, "open": False}, more) == []
    compiled = target(more=more)
    assert {"lines", "open", "note"} <= compiled.source_fields


def test_a_line_without_a_key_is_an_error_that_names_the_way_out():
    with pytest.raises(MappingError, match="a line has no key to roll it up by") as caught:
        rolled({"lines": [*LINES, {"item": "", "qty": 1}]})
    assert caught.value.field == "orderLines.rollup"


def test_an_error_of_the_filter_names_the_filter():
    more = ROLLED.replace("        rollup:", "        when: qty / 0 > 1\n        rollup:")
    with pytest.raises(MappingError, match="a division by zero") as caught:
        rolled({"lines": LINES}, more)
    assert caught.value.field == "orderLines.when"


def test_several_fields_make_the_key_and_one_of_them_may_be_empty():
    more = ROLLED.replace("by: item", "by: [item, variant]").replace(
        "{number: item}", '{number: {template: "{item}/{variant}"}}'
    )
    lines = [
        {"item": "A", "variant": "", "qty": 1},
        {"item": "A", "variant": "RED", "qty": 2},
        {"item": "A", "variant": "", "qty": 4},
    ]
    assert [(line["number"], line["quantity"]) for line in rolled({"lines": lines}, more)] == [
        ("A/", 5),
        ("A/RED", 2),
    ]
    with pytest.raises(MappingError, match="a line has no key"):
        rolled({"lines": [{"item": "", "variant": None, "qty": 1}]}, more)


def test_more_than_a_thousand_lines_are_not_rolled_up():
    assert len(rolled({"lines": [{"item": "A", "qty": 1}] * 1_000})) == 1
    with pytest.raises(MappingError, match="more than 1000 lines are to be rolled up"):
        rolled({"lines": [{"item": "A", "qty": 1}] * 1_001})


def test_the_lineage_of_a_summed_field_names_the_source_field():
    compiled = target(more=ROLLED)
    assert compiled.lineage["orderLines.quantity"] == ("lines.qty",)
    assert compiled.lineage["orderLines.amount"] == ("lines.price",)


def test_a_reference_of_a_rolled_up_line_is_asked_for_and_found():
    more = ROLLED + "          itemId: {ref: items_to_parts.part, of: item}\n"
    answers = Answers({("items_to_parts.part", "A"): "pa", ("items_to_parts.part", "B"): "pb"})
    compiled = target(more=more)
    record = {"number": "1", "lines": LINES}
    assert [value for _, value in compiled.wants(record, "", "1", answers)] == ["A", "B"]
    assert [line["itemId"] for line in rolled(record, more, answers=answers)] == ["pa", "pb"]
    # What cannot be rolled up is told by mapping, not by asking.
    assert compiled.wants({"number": "1", "lines": [{"qty": 1}]}, "", "1", answers) == []


@given(st.lists(st.fixed_dictionaries({"item": st.sampled_from("abc"), "qty": NUMBERS}), max_size=20))
def test_nothing_is_lost_when_lines_are_rolled_up(lines):
    found = rolled({"lines": lines})
    assert sum(line["quantity"] for line in found) == sum(line["qty"] for line in lines)
    assert [line["number"] for line in found] == list(dict.fromkeys(line["item"] for line in lines))


@pytest.mark.parametrize(
    ("rollup", "says"),
    [
        ("{sum: qty}", "by: is missing"),
        ("{by: []}", "at least 1"),
        ("{by: item, sum: item}", "item stands in more than one place of the rollup"),
        ("{by: $parent.item}", "a rollup is about fields of the line"),
        ("{by: item, last: qty}", "'last' is not a word of this place"),
        ("{by: [1]}", "text is needed"),
    ],
)
def test_a_rollup_that_makes_no_sense_is_refused_when_it_is_read(rollup, says):
    with pytest.raises(FlowErrors, match=says):
        load(more=ROLLED.replace("{by: item, sum: [qty, price], first: text}", rollup))


def test_a_save_holds_the_rollup_against_the_lines_of_the_source():
    rows = (FieldSchema(name="item", type="text"), FieldSchema(name="qty", type="decimal"))
    schema = EntitySchema(
        entity="customers",
        key=("number",),
        fields=(
            FieldSchema(name="number", type="text"),
            FieldSchema(name="note", type="text"),
            FieldSchema(name="lines", type="lines", fields=(*rows, FieldSchema(name="text", type="text"))),
        ),
    )
    more = ROLLED.replace("sum: [qty, price], first: text", "sum: [qty, text], first: remark").replace(
        "price", "qty"
    )
    found = [str(fault) for fault in validate(compile_flow(load(more=more)), schema, {})]
    assert len(found) == 2
    assert "rollup.sum: text is no number and cannot be added up" in found[0]
    assert "rollup.first: the source field 'remark' does not exist" in found[1]
