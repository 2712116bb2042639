"""The trace of a record is what the run makes of it: over random records, roll-ups, and the shipped flows."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.values import encode, encode_canonical
from mappings.compiler import CompiledFlow, compile_flow
from mappings.load import load_flow, load_folder
from mappings.mapped import LinkHit
from mappings.tracing.trace import rule_inputs, trace_target
from tests.mappings.making import Answers, outcome
from tests.mappings.tracing import fields, image, kinds, rich, run_image, traced

SHIPPED = load_folder(Path(__file__).resolve().parents[2] / "mappings" / "patterns")


# --- it is what the run makes -------------------------------------------------------------------------------------

small = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.decimals(-5, 5, places=2),
    st.sampled_from(["", "a", "PCS", "1"]),
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "position": st.one_of(st.integers(1, 4), st.none(), st.just("x")),
            "amount": st.one_of(st.integers(0, 3), st.none()),
            "price": st.one_of(st.integers(0, 9), st.just("?"), st.none()),
            "unit": st.sampled_from(["PCS", "H", "??", None, ""]),
            "item": st.sampled_from([1, 9, None]),
        }
    ),
    max_size=3,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "number": small,
        "name": small,
        "total": st.one_of(st.integers(0, 200), small),
        "parts": st.integers(0, 4),
        "unit": st.sampled_from([" pcs ", "pcs", "h", "H", "??", None, "", 5]),
        "day": st.sampled_from(["2026-06-30", "2026-06-30T23:30:00.000000Z", None, "", "soon"]),
        "client": st.sampled_from([1, "1", 99, None, ""]),
        "group": st.sampled_from([2, 99, None, 1]),
        "scan": st.sampled_from([None, {"$file": {"id": "f"}}, {"$file": {"size": "x"}}]),
        "items": st.one_of(st.none(), rows, st.just("no lines")),
    },
)


@given(documents, st.sampled_from(["", "de"]), st.sampled_from(["", "r1"]))
def test_a_record_that_maps_has_a_trace_with_the_same_image_and_one_that_fails_has_an_error(
    document, scope, record
):
    flow = rich()
    before = copy.deepcopy(document)
    trace = traced(document, flow, scope=scope, record=record)
    expected, error = outcome(MappingError, lambda: run_image(document, scope, record))
    errors = [each for each in trace.every_field() if "error" in kinds(each)]
    errors += [
        condition
        for lines in trace.lines
        for line in lines.lines
        if (condition := line.when) and condition.problems
    ]
    errors += [lines for lines in trace.lines if lines.problems]
    assert bool(errors) == (error is not None)
    if error is None:
        # As bytes: true is not 1. The order of fields means nothing.
        assert encode_canonical(image(trace)) == encode_canonical(expected)
    assert document == before


ROLLED = """
flow: orders_to_sales
source: {system: cal, entity: orders}
targets:
  order:
    system: bc
    entity: sales
    key: {number: number}
    lines:
      rows:
        each: items
        key: {item: item}
        when: amount > 0
        rollup: {by: item, sum: amount, first: position}
        fields: {amount: amount, price: {math: "price / amount"}, position: position}
"""


@functools.cache
def rolled() -> CompiledFlow:
    return compile_flow(load_flow(ROLLED, name="rolled.yaml"))


def test_lines_that_are_rolled_up_are_shown_as_the_lines_they_become():
    items = [
        {"item": "a", "amount": 2, "price": 10, "position": 1},
        {"item": "b", "amount": 0, "price": 1, "position": 2},
        {"item": "a", "amount": 3, "price": 10, "position": 3},
    ]
    (rows,) = traced({"number": "1", "items": items}, rolled().flow).lines
    left, made = rows.lines
    assert (left.number, left.is_made, left.is_rolled_up) == (2, False, False)
    assert (made.number, made.is_made, made.is_rolled_up) == (1, True, True)
    assert {each.field: each.value for each in made.fields} == {
        "rows.item": "a", "rows.amount": 5, "rows.price": 2, "rows.position": 1
    }  # fmt: skip
    assert made.fields[2].inputs == {"price": 10, "amount": 5}


def test_lines_that_cannot_be_rolled_up_are_a_problem_of_the_lines():
    items = [{"item": "a", "amount": 1, "price": price, "position": 1} for price in (1, 2)]
    (rows,) = traced({"number": "1", "items": items}, rolled().flow).lines
    assert [problem.kind for problem in rows.problems] == ["error"]
    assert "price" in rows.problems[0].message


rolled_rows = st.lists(
    st.fixed_dictionaries(
        {
            "item": st.sampled_from(["a", "b", None]),
            "amount": st.one_of(st.integers(-1, 3), st.just("?")),
            "price": st.integers(1, 2),
            "position": st.integers(0, 3),
        }
    ),
    max_size=4,
)


@given(rolled_rows)
def test_rolled_up_lines_trace_to_what_the_run_makes(items):
    document = {"number": "1", "items": items}
    trace = traced(document, rolled().flow, scope="", record="r1")
    (target,) = rolled().targets.values()
    mapped, error = outcome(MappingError, lambda: target.map(document, "", "r1", Answers()))
    (rows,) = trace.lines
    failed = bool(rows.problems) or any(
        "error" in kinds(each) for line in rows.lines for each in line.fields
    ) or any(line.when is not None and line.when.problems for line in rows.lines)  # fmt: skip
    assert failed == (error is not None)
    if error is None:
        assert encode_canonical(image(trace)["lines"]["rows"]) == encode_canonical(
            [line.values for line in mapped.lines["rows"]]
        )


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda shipped: shipped.name)
def test_the_examples_of_shipped_flows_trace_to_what_they_state(shipped):
    for example in shipped.flow.examples:
        answers = Answers(
            {
                (link, near): LinkHit("", far)
                if isinstance(far, str)
                else LinkHit(far.get("scope", ""), far.get("id", ""))
                for link, known in example.links.items()
                for near, far in known.items()
            },
            example.lookups,
        )
        for name, out in example.out.items():
            trace = trace_target(
                shipped.flow, name, example.record, scope=example.scope, record=example.id, resolver=answers
            )
            assert trace.passes is (out is not None)
            shown = fields(trace)
            for field, value in (out or {}).items():
                if field in shown:
                    assert encode(shown[field].value) == encode(value), field


@pytest.mark.parametrize("flow", [*(shipped.flow for shipped in SHIPPED), rich()], ids=lambda flow: flow.flow)
def test_the_inputs_of_a_rule_are_the_fields_of_its_lineage(flow):
    compiled = compile_flow(flow)
    for name, target in flow.targets.items():
        placed = [("", target.rules()), *((field, lines.rules()) for field, lines in target.lines.items())]
        for prefix, rules in placed:
            each = target.lines[prefix].each if prefix else ""
            for field, rule in rules.items():
                read = {
                    known.removeprefix("$parent.")
                    if known.startswith("$parent.") or not each
                    else f"{each}.{known}"
                    for known in rule_inputs(rule)
                    if known not in ("$scope", "$id")
                }
                label = f"{prefix}.{field}" if prefix else field
                assert read == set(compiled.targets[name].lineage[label])
