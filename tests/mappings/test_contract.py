"""Both contract checks: what they refuse, that they agree on any input, and that they change nothing."""

from __future__ import annotations

import copy
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipaas_resources.core.schema import EntitySchema, FieldSchema
from ipaas_resources.core.values import escape_text
from mappings.contract import PAGE, Contract, Violation, check_page, compile_check, pandera_schema
from mappings.contract_pages import PageCheck

F = FieldSchema
GUID = "2e451703-c5cb-4bd8-8c7f-0123456789ab"
LINE_FIELDS = (
    F(name="sequence", type="integer", required=True, nullable=False),
    F(name="text", type="text", max_length=4),
    F(name="state", type="enum", enum=("a", "b")),
)
SCHEMA = EntitySchema(
    entity="customers",
    key=("id",),
    fields=(
        F(name="id", type="guid", required=True, nullable=False),
        F(name="name", type="text", max_length=5, nullable=False),
        F(name="any name", type="text"),
        F(name="count", type="integer", required=True),
        F(name="balance", type="decimal"),
        F(name="blocked", type="boolean"),
        F(name="day", type="date"),
        F(name="at", type="datetime"),
        F(name="clock", type="time"),
        F(name="kind", type="enum", enum=("a", "b", 3)),
        F(name="free", type="enum"),
        F(name="owner", type="reference"),
        F(name="scan", type="file"),
        F(name="lines", type="lines", fields=LINE_FIELDS, nullable=False),
        F(name="extra", type="object"),
        F(name="tags", type="list"),
        F(name="anything", type="any"),
        F(name="password", type="text", required=True, sensitivity="secret"),
    ),
)
GOOD = {
    "id": GUID,
    "name": "Lab",
    "any name": None,
    "count": 3,
    "balance": Decimal("1.5"),
    "blocked": False,
    "day": "2026-01-15",
    "at": "2026-01-15T13:58:10.123456Z",
    "clock": "13:58:10.000000",
    "kind": "a",
    "free": "whatever",
    "owner": "17",
    "scan": {"$file": {"id": "1"}},
    "lines": [{"sequence": 1, "text": "four", "state": "a"}],
    "extra": {"a": [1]},
    "tags": [1, "a"],
    "anything": True,
    "unknown to the schema": float("nan"),
}
check_row = compile_check(SCHEMA)
page_check = PageCheck(SCHEMA.fields)


def test_a_good_record_breaks_nothing_and_unknown_fields_are_no_fault():
    assert check_row(GOOD) == []
    assert check_page(SCHEMA, [GOOD]) == {}


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"id": None}, "id", "null is not allowed"),
        ({"id": GUID.upper()}, "id", "a GUID in small letters was expected"),
        ({"id": GUID + "\n"}, "id", "a GUID in small letters was expected"),
        ({"name": "Labour"}, "name", "the text is longer than 5 characters"),
        ({"name": 5}, "name", "text was expected"),
        ({"count": 1.0}, "count", "a whole number was expected"),
        ({"count": True}, "count", "a whole number was expected"),
        ({"count": Decimal(1)}, "count", "a whole number was expected"),
        ({"balance": 1.5}, "balance", "a number was expected"),
        ({"balance": Decimal("NaN")}, "balance", "a number was expected"),
        ({"balance": float("nan")}, "balance", "a number was expected"),
        ({"blocked": 0}, "blocked", "true or false was expected"),
        ({"day": "2026-1-5"}, "day", "a date was expected"),
        ({"day": "2026-01-15T00:00:00.000000Z"}, "day", "a date was expected"),
        ({"at": "2026-01-15T13:58:10Z"}, "at", "a date and time in UTC was expected"),
        ({"clock": "25:00:00.000000"}, "clock", "a time was expected"),
        ({"kind": "c"}, "kind", "the value is not one of the allowed values"),
        ({"kind": ["a"]}, "kind", "the name of a value was expected"),
        ({"free": Decimal("1.5")}, "free", "the name of a value was expected"),
        ({"owner": {}}, "owner", "the id of a record was expected"),
        ({"scan": {"id": 1}}, "scan", "a file was expected"),
        ({"lines": {}}, "lines", "a list of lines was expected"),
        ({"lines": None}, "lines", "null is not allowed"),
        ({"lines": [1]}, "lines[0]", "an object was expected"),
        ({"lines": [GOOD["lines"][0], {"sequence": None}]}, "lines[1].sequence", "null is not allowed"),
        ({"lines": [{"text": None}]}, "lines[0].sequence", "the field is missing"),
        (
            {"lines": [{"sequence": 1, "text": "fives"}]},
            "lines[0].text",
            "the text is longer than 4 characters",
        ),
        ({"extra": []}, "extra", "an object was expected"),
        ({"tags": ()}, "tags", "a list was expected"),
        ({"anything": b"x"}, "anything", "a plain value was expected"),
    ],
)
def test_each_break_of_the_contract_is_named_by_both_checks_without_the_value(change, field, reason):
    record = {**GOOD, **change}
    assert check_row(record) == [Violation(field, reason)]
    assert page_check.check([GOOD, record, GOOD]) == {1: [Violation(field, reason)]}


def test_all_breaks_of_a_record_come_in_the_order_of_the_fields():
    record = {
        **GOOD,
        "tags": 1,
        "id": 1,
        "kind": "",
        "lines": [{"sequence": 1}, 2, {"sequence": "3", "state": "z"}],
    }
    del record["count"]
    expected = [
        Violation("id", "a GUID in small letters was expected"),
        Violation("count", "the field is missing"),
        Violation("kind", "the value is not one of the allowed values"),
        Violation("lines[1]", "an object was expected"),
        Violation("lines[2].sequence", "a whole number was expected"),
        Violation("lines[2].state", "the value is not one of the allowed values"),
        Violation("tags", "a list was expected"),
    ]
    assert check_row(record) == expected
    assert page_check.check([record]) == {0: expected}


def test_a_secret_that_is_not_in_the_document_is_not_missed():
    assert "password" not in GOOD
    assert check_row({**GOOD, "password": 5}) == [Violation("password", "text was expected")]


def test_escaped_characters_count_as_the_one_they_stand_for():
    escaped = escape_text("ab\x00de")
    assert len(escaped) > 5
    assert check_row({**GOOD, "name": escaped}) == []
    assert page_check.check([{**GOOD, "name": escaped}]) == {}
    assert check_row({**GOOD, "name": escape_text("ab\x00def")}) != []
    assert page_check.check([{**GOOD, "name": escape_text("ab\x00def")}]) != {}


def test_small_pages_never_load_pandas_and_large_ones_are_checked_by_pandera():
    """In a process of its own, for this one has pandas already."""
    import subprocess
    import sys

    program = (
        "import sys\n"
        "from ipaas_resources.core.schema import EntitySchema, FieldSchema\n"
        "from mappings.contract import PAGE, Contract\n"
        "schema = EntitySchema(entity='e', key=('a',), fields=(FieldSchema(name='a', type='integer'),))\n"
        "contract = Contract(schema)\n"
        "assert contract.check([{'a': 'x'}] * (PAGE - 1)).keys() == set(range(PAGE - 1))\n"
        "assert not {'pandas', 'pandera'} & sys.modules.keys()\n"
        "assert contract.check([{'a': 'x'}] * PAGE).keys() == set(range(PAGE))\n"
        "assert {'pandas', 'pandera'} <= sys.modules.keys()\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_pandera_itself_judges_and_never_converts():
    import pandas as pd

    schema = pandera_schema(
        EntitySchema(entity="e", key=("a",), fields=(F(name="a", type="decimal"), F(name="b", type="any")))
    )
    frame = pd.DataFrame({"a": [10, None, 12345678901234567], "b": [[1, 2], {"x": None}, True]}, dtype=object)
    result = schema.validate(frame, lazy=True)
    assert [type(value) for value in result["a"]] == [int, type(None), int]
    assert result["a"][2] == 12345678901234567
    assert result["b"].tolist() == [[1, 2], {"x": None}, True]


def test_equally_long_lists_stay_lists_in_the_frame():
    schema = EntitySchema(entity="e", key=("a",), fields=(F(name="a", type="list"),))
    assert check_page(schema, [{"a": [1, 2]}, {"a": [3, 4]}]) == {}


def test_a_page_of_many_kinds_of_entities_is_checked_by_the_same_contract_as_its_rows():
    contract = Contract(SCHEMA)
    rows = [GOOD if number % 7 else {**GOOD, "count": "x"} for number in range(PAGE + 50)]
    by_page = contract.check(rows)
    by_rows = {}
    for start in range(0, len(rows), 50):
        by_rows.update({start + at: found for at, found in contract.check(rows[start : start + 50]).items()})
    assert by_page == by_rows
    assert by_page.keys() == {number for number in range(PAGE + 50) if number % 7 == 0}


def test_an_entity_without_fields_has_nothing_to_break():
    assert check_page(EntitySchema(entity="e", key=(), fields=()), [{"a": 1}]) == {}
    assert compile_check(EntitySchema(entity="e", key=(), fields=()))({"a": 1}) == []


hostile = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(max_size=8)
    | st.binary(max_size=3)
    | st.sampled_from(
        [
            GUID,
            "2026-01-15",
            "2026-01-15T13:58:10.123456Z",
            "13:58:10.000000",
            "a",
            "b",
            3,
            escape_text("\x00" * 4),
            "\ud800",
        ]
    )
)
nested = st.recursive(
    hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
line = st.dictionaries(st.sampled_from(["sequence", "text", "state", "other"]), nested, max_size=4)
lines = st.lists(line | hostile, max_size=3) | nested
files = st.fixed_dictionaries(
    {"$file": st.dictionaries(st.sampled_from(["id", "name"]), hostile, max_size=2) | hostile}
)
any_record = st.fixed_dictionaries({}, optional={
    field.name: (lines if field.type == "lines" else nested | files) for field in SCHEMA.fields
})  # fmt: skip
nearly_good = any_record.flatmap(
    lambda record: st.sets(st.sampled_from(sorted(GOOD))).map(
        lambda kept: {**record, **{name: GOOD[name] for name in kept}}
    )
)


# pandera spends milliseconds on each column with a failure: fewer, fuller examples.
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(nearly_good, min_size=1, max_size=8))
def test_both_checks_agree_on_any_page_and_leave_it_as_it_was(records):
    before = copy.deepcopy(records)
    by_rows = {position: found for position, record in enumerate(records) if (found := check_row(record))}
    assert page_check.check(records) == by_rows
    assert repr(records) == repr(before)


schemas = st.lists(
    st.builds(
        FieldSchema,
        name=st.sampled_from(["a", "b c", "d'e", 'f"g', "h\\i", "größe", "@x.y"]),
        type=st.sampled_from(
            ["text", "integer", "decimal", "boolean", "date", "datetime", "time", "guid", "enum", "reference", "file",
             "object", "list", "any"]
        ),
        required=st.booleans(),
        nullable=st.booleans(),
        max_length=st.none() | st.integers(0, 5),
        enum=st.none() | st.lists(st.text(max_size=2) | st.integers(0, 3), max_size=3).map(tuple),
        sensitivity=st.sampled_from(["none", "secret"]),
    ),
    max_size=4,
    unique_by=lambda field: field.name,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    schemas,
    st.lists(
        st.dictionaries(st.sampled_from(["a", "b c", "d'e", 'f"g', "h\\i", "größe", "@x.y", "z"]), nested),
        min_size=1,
        max_size=5,
    ),
)
def test_both_checks_agree_for_any_schema(fields, records):
    schema = EntitySchema(entity="e", key=("a",), fields=tuple(fields))
    row = compile_check(schema)
    by_rows = {position: found for position, record in enumerate(records) if (found := row(record))}
    assert check_page(schema, records) == by_rows
