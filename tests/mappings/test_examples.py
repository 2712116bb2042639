"""Examples in flow files: those of the shipped flows hold, and one that does not hold says so readably."""

from __future__ import annotations

from pathlib import Path

import pytest

from mappings.examples import run_examples
from mappings.load import LoadedFlow, load_folder
from mappings.lookup_tables import load_lookups
from tests.mappings.making import load

ROOM = Path(__file__).resolve().parents[2] / "mappings"
SHIPPED = load_folder(ROOM / "patterns")


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda shipped: shipped.name)
def test_the_examples_of_a_shipped_flow_hold(shipped: LoadedFlow):
    assert shipped.flow.examples, "a shipped flow shows what it does"
    failures = run_examples(shipped.flow, load_lookups(ROOM / "lookups"))
    assert not failures, "\n".join(map(str, failures))


def test_every_target_of_a_shipped_flow_stands_in_an_example():
    for shipped in SHIPPED:
        shown = {name for example in shipped.flow.examples for name, out in example.out.items() if out}
        assert shown == set(shipped.flow.targets), shipped.name


def test_every_lookup_table_of_a_shipped_flow_is_shipped():
    from mappings.compiler import compile_flow

    tables = load_lookups(ROOM / "lookups")
    for shipped in SHIPPED:
        for target in compile_flow(shipped.flow).targets.values():
            assert set(target.lookups) <= tables.keys(), shipped.name


FIELDS = """\
name: displayName
share: {math: "share / 3"}
unit: {lookup: units, of: unit, missing: flag}
parent: {ref: a_b.c, of: parent}
scan: scan
"""
MORE = """\
    when: not blocked
    scope: {ref: a_b.c, of: parent}
    lines: {rows: {each: rows, key: sequence, fields: {text: text, unit: {lookup: units, of: unit, missing: flag}}}}
"""


def failures(example: str) -> list[str]:
    flow = load(FIELDS, more=MORE + "examples:\n" + example, name="f.yaml")
    return [str(failure) for failure in run_examples(flow, {"units": {"PCS": "each"}})]


def test_an_example_holds_when_the_fields_it_names_do():
    assert (
        failures(
            """\
  - title: all of it
    scope: no
    id: "7"
    in: {number: C-1, displayName: Lab, share: 1.5, unit: PCS, parent: 5, scan: {$file: {id: f}},
         rows: [{sequence: 1, text: a, unit: PCS}, {sequence: 2, text: b, unit: "?"}]}
    links: {a_b.c: {"5": {id: guid, scope: de}}}
    out: {account: {accountnumber: C-1, name: Lab, share: 0.5, unit: each, parent: guid, $scope: de,
                    scan: {$file: {id: f}}, rows: [{sequence: 1, unit: each}, {text: b}]}}
    flagged: {account: [rows.unit]}
  - in: {blocked: true}
    out: {account: null}
  - in: {unit: "?", parent: "1"}
    lookups: {units: {"?": 3}}
    out: {account: {unit: 3}}
    unresolved: {account: [parent, $scope]}
"""
        )
        == []
    )


@pytest.mark.parametrize(
    ("example", "differences"),
    [
        (
            '  - in: {displayName: Lab, share: 1.5}\n    out: {account: {name: Shop, share: "0.5", colour: red}}\n',
            [
                'name: expected "Shop", got "Lab"',
                'share: expected "0.5", got 0.5',
                "colour: no rule makes this field. Valid: accountnumber, name, share, unit, parent, scan, rows",
            ],
        ),
        (
            "  - in: {unit: X, parent: 1}\n    out: {account: {unit: each}}\n",
            [
                'unit: expected "each", but the field is left out',
                "unit: is flagged; list it under flagged: if that is meant",
                "$scope: is unresolved; list it under unresolved: if that is meant",
                "parent: is unresolved; list it under unresolved: if that is meant",
            ],
        ),
        ("  - in: {}\n    out: {account: {}}\n    flagged: {account: [unit]}\n", ["unit: is not flagged"]),
        ("  - in: {blocked: true}\n    out: {account: {name: x}}\n", ["the record is filtered by `when`"]),
        (
            "  - in: {}\n    out: {account: null}\n",
            ["the record passes `when`; the example expects that it is filtered"],
        ),
        (
            "  - in: {share: x}\n    out: {account: {}}\n",
            [
                ("The rule of share in customers_to_accounts.account fails: cannot divide text and a number; turn one "
                "with number(...) or text(...). Check the rule and the values of its source fields.")
            ],
        ),
        ("  - in: {}\n    out: {client: {}}\n", ["the flow has no target 'client'. Valid: account"]),
        (
            "  - in: {rows: [{sequence: 1, text: a}]}\n    out: {account: {rows: []}}\n",
            ["rows: expected 0 lines, got 1"],
        ),
        (
            "  - in: {rows: [{sequence: 1, text: a}]}\n    out: {account: {rows: [{text: b, colour: red}]}}\n",
            [
                'rows[0].text: expected "b", got "a"',
                'rows[0].colour: expected "red", but the field is left out or has no rule',
            ],
        ),
        ("  - in: {}\n    out: {account: {rows: x}}\n", ["rows: a list of lines is expected here"]),
    ],
)  # fmt: skip
def test_an_example_that_does_not_hold_shows_its_differences(example, differences):
    target = "client" if "client" in example else "account"
    (failure,) = failures(example)
    assert failure.split("\n") == [
        f"f.yaml:18: example 1 of customers_to_accounts, target {target}:",
        *(f"  {line}" for line in differences),
    ]
