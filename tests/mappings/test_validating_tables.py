"""The entries of lookup tables against the fields that they are written to."""

from __future__ import annotations

import pytest

from tests.mappings.test_validating import faults


@pytest.mark.parametrize(
    ("field", "rows", "sentence"),
    [
        ("name: {lookup: t, of: code, missing: flag}", {"A": "short", "B": "much too long"}, "the entry of 'B' has 13 characters, name takes 10 (lookup table t, 1 of 2 entries do not fit)"),
        ("name: {lookup: t, of: code, missing: flag}", {"A": "short"}, None),
        ("name: {lookup: t, of: code, missing: flag, too_long: truncate}", {"B": "much too long"}, None),
        ("state: {lookup: t, of: code, missing: flag}", {"A": "Open", "B": "Clsed"}, "the entry of 'B' is not a value of state (lookup table t, 1 of 2 entries do not fit); did you mean Closed? Valid: Open, Closed"),
        ("state: {lookup: t, of: code, missing: flag}", {"A": "Open", "B": "Closed"}, None),
        ("state: {lookup: t, of: code, missing: {default: Shut}}", {"A": "Open"}, "the default is not a value of state"),
        ("state: {lookup: t, of: code, missing: {default: Open}}", {"A": "Open"}, None),
        ("employees: {lookup: t, of: code, missing: flag, as: number}", {"A": "7", "B": "seven"}, "the entry of 'B' is no number (lookup table t, 1 of 2 entries do not fit)"),
        ("employees: {lookup: t, of: code, missing: flag, as: number}", {"A": "7"}, None),
        ("employees: {lookup: t, of: code, missing: flag}", {"A": "7"}, "the entry of 'A' is text, employees takes an integer"),
        ("employees: {lookup: t, of: code, missing: flag}", {"A": 7}, None),
        ("choice: {lookup: t, of: code, missing: null}", {"A": 2, "B": 3}, "the entry of 'B' is not a value of choice (lookup table t, 1 of 2 entries do not fit). Valid: 1, 2"),
        ("choice: {lookup: t, of: code, missing: null}", {"A": 2}, None),
        ("month: {lookup: t, of: code, missing: {default: 0}, as: number}", {"A": "12"}, "the default is below 1, the least that month takes"),
        ("title: {lookup: t, of: code, missing: flag}", {"A": "a\nb"}, "the entry of 'A' holds line breaks or control characters"),
        ("name: {if: taxable, then: {lookup: t, of: code, missing: flag}, else: code}", {"B": "much too long"}, "fields.name.then: the entry of 'B' has 13 characters"),
        ("name: {template: '{code}'}", {"B": "much too long"}, None),
        ("name: {unit: code, missing: flag, variants: t}", {"Stk": "H87", "Krt": "KART"}, "variants: the entry of 'Krt' is no unit code of UN/ECE Recommendation 20 (lookup table t, 1 of 2 entries do not fit)"),
        ("name: {unit: code, missing: flag, variants: t}", {"Stk": "H87"}, None),
        ("name: {lookup: t, of: code, part: short, missing: flag}", {"A": {"short": "kg", "long": "kilogramme s"}}, None),
        ("name: {lookup: t, of: code, part: long, missing: flag}", {"A": {"short": "kg", "long": "kilogramme s"}}, "the entry of 'A' has 12 characters"),
        ("name: {lookup: t, of: code, missing: flag}", {"A": {"short": "kg", "long": "kilogramme s"}}, "name one: short, long"),
        ("name: {unit: code, missing: flag, variants: u}", {"Stk": "H87"}, "variants: the lookup table 'u' does not exist"),
    ],
)  # fmt: skip
def test_the_entries_of_a_lookup_table_are_held_against_the_field(field, rows, sentence):
    found = faults(field, lookups={"t": rows})
    assert len(found) == (0 if sentence is None else 1)
    assert sentence is None or sentence in found[0]
