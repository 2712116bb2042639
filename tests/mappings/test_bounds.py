"""What the check at save believes of values and expressions agrees with what they are."""

from __future__ import annotations

import string
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.schema import EntitySchema, FieldSchema
from ipaas_resources.core.values import canonical_number
from mappings.checking.fits import misfit
from mappings.contract import compile_check
from mappings.expressions.gives import of_expression
from mappings.expressions.language import parse
from mappings.kinds import (
    FieldTypes,
    characters,
    digits_after_point,
    of_constant,
    of_field,
    scale_of,
    text_length,
)
from tests.mappings.making import evaluate, outcome

F = FieldSchema
FIELDS = (
    F(name="short", type="text", max_length=5),
    F(name="long", type="text", max_length=12),
    F(name="free", type="text"),
    F(name="day", type="date"),
    F(name="yes", type="boolean"),
    F(name="count", type="integer"),
    F(name="cents", type="decimal", scale=2),
    F(name="fine", type="decimal", scale=4),
    F(name="odd", type="decimal"),
)
TYPES = FieldTypes(FIELDS)

PLAIN = st.text(string.ascii_letters + " -", max_size=12)
NUMBERS = st.integers(-1000, 1000)
RECORDS = st.fixed_dictionaries(
    {
        "short": PLAIN.map(lambda text: text[:5]),
        "long": PLAIN,
        "free": PLAIN,
        "day": st.just("2026-01-31"),
        "yes": st.booleans(),
        "count": NUMBERS,
        "cents": NUMBERS.map(lambda number: canonical_number(Decimal(number) / 100)),
        "fine": NUMBERS.map(lambda number: canonical_number(Decimal(number) / 10000)),
        "odd": NUMBERS.map(lambda number: canonical_number(Decimal(number) / 8)),
    }
)


@pytest.mark.parametrize(
    ("expression", "longest"),
    [
        ("short", 5),
        ("free", None),
        ("day", 10),
        ("left(long, 3)", 3),
        ("left(short, 9)", 5),
        ("left(free, 7)", 7),
        ("right(free, 0)", 0),
        ("left(free, count)", None),
        ("mid(long, 2, 4)", 4),
        ("long[:4]", 4),
        ("long[2:4]", 2),
        ("long[2:]", 12),
        ("long[4:2]", 0),
        ("long[:-2]", 12),
        ("upper(strip(long))", 12),
        ("long.strip().upper()", 12),
        ("short + long", 17),
        ("short + '-' + free", None),
        ("short if yes else long", 12),
        ("short or 'nothing'", 7),
        ("coalesce(short, day)", 10),
        ("pad_left(short, 8, '0')", 8),
        ("short.zfill(9)", 9),
        ("replace(long, 'ab', 'c')", 12),
        ("replace(long, 'a', 'bcd')", None),
        ("long.replace('-', '')", 12),
        ("f'{short}: {day}'", 17),
        ("f'{short:>20}'", None),
        ("text(yes) + text(day)", 15),
        ("text(count)", None),
    ],
)
def test_the_bound_of_a_text_holds_for_every_record(expression, longest):
    gives = of_expression(parse(expression), TYPES)
    assert text_length(gives) == longest

    @settings(max_examples=20)
    @given(RECORDS)
    def holds(record):
        value, error = outcome(MappingError, lambda: evaluate(expression, record))
        assert error is None
        assert longest is None or characters(value) <= longest

    holds()


@pytest.mark.parametrize(
    ("expression", "digits"),
    [
        ("count", 0),
        ("cents", 2),
        ("odd", None),
        ("round(odd)", 0),
        ("round(odd, 1)", 1),
        ("round(odd, 1 if yes else 2)", None),
        ("round(odd, -2)", None),
        ("floor(odd)", 0),
        ("cents + fine", 4),
        ("cents - count", 2),
        ("cents * fine", 6),
        ("cents * 1.25", 4),
        ("cents / 3", None),
        ("-fine", 4),
        ("abs(cents)", 2),
        ("max(cents, fine)", 4),
        ("len(long) + count", 0),
        ("cents if yes else 0", 2),
        ("coalesce(cents, fine)", 4),
        ("cents + odd", None),
        ("cents + null", 2),
    ],
)
def test_the_bound_of_digits_holds_for_every_record(expression, digits):
    assert digits_after_point(of_expression(parse(expression), TYPES)) == digits

    @settings(max_examples=20)
    @given(RECORDS)
    def holds(record):
        value, error = outcome(MappingError, lambda: evaluate(expression, record))
        assert error is None
        assert digits is None or scale_of(value) <= digits

    holds()


TEXTS = st.sampled_from(
    ["", "a", "red", "green", "12345", "123456", "2026-01-31", "2026-13-01", "12:00:00.000000"]
)
VALUES = st.one_of(
    TEXTS, st.booleans(), st.integers(-3, 12), st.sampled_from([Decimal("0.5"), Decimal("10.25")])
)
TARGETS = st.builds(
    F,
    name=st.just("x"),
    type=st.sampled_from(["text", "integer", "decimal", "boolean", "date", "time", "guid", "enum", "any"]),
    max_length=st.sampled_from([None, 3, 5]),
    enum=st.sampled_from([None, ("red", "green"), (1, 2)]),
)


@given(VALUES, TARGETS)
def test_a_constant_is_refused_exactly_where_the_target_would_refuse_it(value, field):
    if field.type == "any" or (field.type != "text" and field.max_length is not None):
        return  # limits that such fields do not have
    if field.type in ("decimal", "boolean") and field.enum is not None:
        return
    taken = compile_check(EntitySchema(entity="e", key=(), fields=(field,)))({"x": value}) == []
    found = misfit(of_constant(value), field)
    # A date need not stand in its one stored form for a person to mean it.
    if not taken and found is None and field.type in ("date", "time") and isinstance(value, str):
        return
    assert (found is None) == taken


@pytest.mark.parametrize(
    "kind",
    [
        "text",
        "integer",
        "decimal",
        "boolean",
        "date",
        "datetime",
        "time",
        "guid",
        "reference",
        "file",
        "object",
        "list",
    ],
)
def test_a_field_fits_one_like_itself_and_one_of_any_kind(kind):
    for source in (
        F(name="a", type=kind),
        F(name="a", type=kind, max_length=9, scale=2, minimum=1, maximum=2),
    ):
        like = F(name="x", type=kind, max_length=9, scale=2, minimum=1, maximum=2)
        if not (kind == "guid" and source.max_length):
            assert misfit(of_field(source), like) is None
        assert misfit(of_field(source), F(name="x", type="any")) is None
