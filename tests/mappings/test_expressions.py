"""What expressions mean: null, numbers, text, comparison, functions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.errors import MappingError
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.language import parse_program
from tests.mappings.making import evaluate

RECORD = {
    "n": None,
    "i": 7,
    "d": Decimal("2.50"),
    "t": "Lab",
    "e": "",
    "yes": True,
    "items": [1, "a", None],
    "day": "2026-01-15",
    "at": "2026-01-15T13:58:10.123456Z",
    "Any name": "odd",
    "round": 3,
}


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        # null
        ("n + 1", None),
        ("n * n", None),
        ("-n", None),
        ("t + n", None),
        ("n < 1", False),
        ("n >= n", False),
        ("not (n < 1)", True),
        ("n == null", True),
        ("n != 1", True),
        ("e == null", False),
        ("missing == null", True),
        ("n or 5", 5),
        ("n and 5", None),
        ("coalesce(n, missing, 'x')", "x"),
        ("empty(n) and empty(e) and not empty(t)", True),
        # numbers
        ("i + 0.10", Decimal("7.1")),
        ("1 / 3", Decimal("0.3333333333333333333333333333333333")),
        ("6 / 3", 2),
        ("i // 2", 3),
        ("-i // 2", -4),
        ("-7.5 // 2", -4),
        ("-7.5 % 2", Decimal("0.5")),
        ("-7 % 2", 1),
        ("7 % -2.5", Decimal("-0.5")),
        ("2 ** 10", 1024),
        ("2 ** -2", Decimal("0.25")),
        ("1.1 ** 2", Decimal("1.21")),
        ("+d - -d", 5),
        ("1_000 + 0x10", 1016),
        ("9007199254740993 + 0.0", 9007199254740993),
        # truth and choice
        ("1 if e else 2", 2),
        ("yes == 1", False),
        ("i == 7.0", True),
        ("t == 7", False),
        ("0 < i <= 7", True),
        ("0 < i + 0 < 7", False),
        ("t < 'Lac'", True),
        ("True and not False and None == null", True),
        # membership
        ("t in ['Lab', 'Shop']", True),
        ("n in ['Lab', null]", True),
        ("n in ['Lab']", False),
        ("t not in ['Lab']", False),
        ("i in [6, 7.0]", True),
        ("yes in [1]", False),
        ("t in []", False),
        ("'a' in t", True),
        ("n in t", False),
        ("'a' in items", True),
        ("2 in items", False),
        # names
        ('record["Any name"]', "odd"),
        ('record["$scope"] + record["$id"]', "s1"),
        ("round(round / 2)", 2),
        # text
        ("t + ' ' + text(d)", "Lab 2.5"),
        ("'a' 'b' + \"c\"", "abc"),
        ("upper(t) + lower(t) + strip('  x ')", "LABlabx"),
        ("left(t, 2) + right(t, 1) + mid(t, 2, 1)", "Laba"),
        ("left(t, -1) + right(t, 0)", ""),
        ("pad_left(text(i), 4, '0')", "0007"),
        ("replace(t, 'a', 'oo')", "Loob"),
        ("startswith(t, 'L') and endswith(t, 'b') and contains(t, 'a')", True),
        ("contains(n, 'a')", False),
        ("len(t) + len(n) + len(items)", 6),
        ("text(n)", None),
        ("text(yes)", "true"),
        # functions of numbers
        ("round(2.5)", 3),
        ("round(-2.5)", -3),
        ("round(2.345, 2)", Decimal("2.35")),
        ("round(1234, -2)", 1200),
        ("round(1250, -2)", 1300),
        ("floor(-2.5)", -3),
        ("ceil(2.01, 1)", Decimal("2.1")),
        ("abs(-2.5)", Decimal("2.5")),
        ("min(3, n, 2.5)", Decimal("2.5")),
        ("max('a', 'b')", "b"),
        ("max(n, n)", None),
        ("number(' 1.50 ')", Decimal("1.5")),
        ("number('')", None),
        ("number('-007')", -7),
        ("int(-2.9)", -2),
        ("int('12.7')", 12),
        # dates
        ("date(at)", "2026-01-15"),
        ("datetime('2026-01-15T15:00:00+02:00')", "2026-01-15T13:00:00.000000Z"),
        ("year(day) * 10000 + month(at) * 100 + day(day)", 20260115),
        ("hour(at) * 100 + minute(at)", 1358),
        ("weekday(day)", 4),
        ("add_days(day, 20)", "2026-02-04"),
        ("days_between(day, '2026-03-01')", 45),
        ("date(n)", None),
        ("day < '2026-02-01'", True),
    ],
)
def test_an_expression_has_this_value(expression, result):
    found = evaluate(expression, RECORD, scope="s")
    assert (found, type(found)) == (result, type(result))


@pytest.mark.parametrize(
    ("expression", "code", "what"),
    [
        ("t + 1", "type", "cannot add text and a number; turn one with number(...) or text(...)"),
        ("t * 2.5", "type", "cannot multiply text and a number; turn one with number(...) or text(...)"),
        (
            "t % 3",
            "type",
            '% is the rest of a division of numbers; turn text with number(...), put values into text with f"{x}"',
        ),
        ("yes + 1", "type", "cannot add true/false and a number"),
        ("items + t", "type", "cannot add a list and text"),
        ("t < 1", "type", "cannot compare text and a number; turn one with number(...) or text(...)"),
        ("items < items", "type", "cannot compare a list and a list"),
        ("-t", "type", "a number is needed, there is text"),
        ("upper(i)", "type", "text is needed, there is a number"),
        ("i in i", "type", "cannot look for a number in a number"),
        ("2 ** 0.5", "type", "an exponent is a whole number"),
        (
            "round(d, 1.5)",
            "type",
            "the number of decimals is a whole number, there is a number with decimals",
        ),
        ("1 / 0", "zero", "a division by zero; test the divisor first: a / b if b else null"),
        ("1 // 0.0", "zero", "a division by zero; test the divisor first: a // b if b else null"),
        ("1 % 0", "zero", "a division by zero; test the divisor first: a % b if b else null"),
        ("0.0 ** -1", "zero", "zero cannot be raised to this exponent"),
        ("number('1,5')", "number", "a text is no number; digits with a point as decimal sign are needed"),
        ("number('1e5')", "number", "a text is no number; digits with a point as decimal sign are needed"),
        ("number('٣')", "number", "a text is no number; digits with a point as decimal sign are needed"),
        ("date(t)", "date", "a text is no ISO date; 2026-01-15 or 2026-01-15T13:58:10Z is needed"),
        ("hour(day)", "date", "a text is no ISO date and time; 2026-01-15T13:58:10Z is needed"),
        ("add_days('9999-12-31', 1)", "date", "the date leaves the years 1 to 9999"),
        ("replace(t, '', 'x')", "type", "replace needs a text to look for, it is empty"),
        ("pad_left(t, 9, 'ab')", "type", "pad_left fills with one character"),
    ],
)
def test_a_calculation_that_cannot_be_is_an_error_that_says_why(expression, code, what):
    with pytest.raises(MappingError) as caught:
        evaluate(expression, RECORD)
    assert caught.value.code == f"mapping_{code}"
    assert caught.value.field == "x"
    assert caught.value.message.startswith(f"The rule of x in customers_to_accounts.account fails: {what}. ")


def test_an_error_never_holds_a_value_of_the_record():
    secret = "canary-4711"
    for expression in (
        "a + 1",
        "number(a)",
        "date(a)",
        "a < 1",
        "-a",
        "round(a)",
        "a in 1",
        "year(a)",
        "len(1) + a",
    ):
        with pytest.raises(MappingError) as caught:
            evaluate(expression, {"a": secret})
        error: BaseException | None = caught.value
        while error is not None:
            assert secret not in str(error)
            error = error.__cause__
        assert caught.value.__suppress_context__


def test_an_expression_may_run_over_lines_and_carry_comments():
    assert evaluate("1 +  # one\n  2", {}) == 3


def test_every_function_is_documented_with_its_own_name_and_tolerates_null():
    for name, function in FUNCTIONS.items():
        assert function.says.startswith(f"{name}(")
        result = evaluate(f"{name}({', '.join(['n'] * function.least)})", RECORD)
        assert result in (None, False, 0, True)


numbers = st.integers(-(10**12), 10**12) | st.decimals(-(10**9), 10**9, places=4)


@given(numbers, numbers, numbers)
def test_sums_and_products_are_exact_within_34_digits(a, b, c):
    record = {"a": a, "b": b, "c": c}
    assert Fraction(evaluate("a + b - c", record)) == Fraction(a) + Fraction(b) - Fraction(c)
    assert Fraction(evaluate("a * b", record)) == Fraction(a) * Fraction(b)


@given(numbers, numbers.filter(bool))
def test_a_quotient_is_right_to_28_digits_and_floor_and_rest_make_the_whole(a, b):
    record = {"a": a, "b": b}
    exact = Fraction(a) / Fraction(b)
    found = Fraction(evaluate("a / b", record))
    assert abs(found - exact) <= abs(exact) / 10**28
    assert evaluate("a // b", record) == exact.__floor__()
    assert Fraction(evaluate("a // b", record)) * Fraction(b) + Fraction(
        evaluate("a % b", record)
    ) == Fraction(a)


@given(numbers, st.integers(0, 6))
def test_rounding_goes_half_away_from_zero(a, n):
    scaled = abs(Fraction(a)) * 10**n + Fraction(1, 2)
    expected = Fraction(scaled.__floor__(), 10**n) * (1 if a >= 0 else -1)
    assert Fraction(evaluate(f"round(a, {n})", {"a": a})) == expected


@given(numbers, numbers)
def test_comparison_agrees_with_arithmetic(a, b):
    record = {"a": a, "b": b}
    assert evaluate("a < b", record) is (Fraction(a) < Fraction(b))
    assert evaluate("a == b", record) is (Fraction(a) == Fraction(b))
    assert evaluate("a >= b", record) is not evaluate("a < b", record)


@pytest.mark.parametrize("text", ["balance > 1,5", "1,5", "1, 5,", "result = balance * 1,5", "x = 1\nx, 2"])
def test_a_comma_outside_of_brackets_is_refused_for_a_list_would_always_be_true(text):
    with pytest.raises(ValueError, match=r"write decimals with a point \(1.5\), or a list as \[1, 5\]"):
        parse_program(text)


@pytest.mark.parametrize(
    "text", ["(1, 5)", "round(1, 5)", "[1, 5]", "a, b = b, a\na", "for a in [1, 2]:\n  b = a\nb"]
)
def test_commas_in_brackets_and_between_names_are_fine(text):
    parse_program(text)


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ('city & "x"', "write + between texts, and between conditions"),
        ("a <> 3", "write != instead of <>"),
        ("a => 3", "write >= instead of =>"),
        ("a === 3", "write == instead of ==="),
        ("a && b", "write and instead of &&"),
        ("a || b", "write or between conditions, + between texts, instead of ||"),
        ("!a", "write not instead of !"),
        ("a ? b : c", "write a if condition else b"),
        ("a == 1 AND b", "write and in small letters"),
        ("ROUND(x; 2)", "write commas between arguments"),
        ("=price*2", "leave out the = in front"),
        ("price = 3", "to compare, write =="),
        ("price = 3 and b = 4", "compare with =="),
        ("if price = 3:\n  x = 1\nx", "in line 1: compare with =="),
        ('if(price>5,"a","b")', "a choice is written a if condition else b"),
        ('if(price=5;"a";"b")', "a choice is written a if condition else b"),
        ("if price > 5 then b", "a choice is written a if condition else b"),
        ("record[Post code]", 'put the name in quotes: record["Post code"]'),
        ("Post code", 'a field whose name has a space is written record["Post code"]'),
        ("x = upper(Post code) + 'a b'\nx", 'a field whose name has a space is written record["Post code"]'),
        ("TODAY()", "a rule gives the same result whenever it runs"),
        ("now()", "a rule gives the same result whenever it runs"),
        ("datetime.now()", "a rule gives the same result whenever it runs"),
        ("lines.qty", 'write lines["qty"], of a list [x["qty"] for x in lines]'),
        ("address.city", 'write address["city"]'),
        ('"x" * 20%', "write 0.2 for 20%"),
        ("(1 + 7.5%) * x", "write 0.075 for 7.5%"),
        ("import re\nre.sub(a, b, c)", "nothing can be imported"),
        ("rund(a)", "did you mean round? Near it: round, "),
    ],
)
def test_what_other_languages_write_is_answered_with_the_way_to_write_it_here(text, way):
    with pytest.raises(ValueError) as caught:
        parse_program(text)
    assert way in str(caught.value)


@pytest.mark.parametrize(
    ("text", "no"),
    [
        ("f('a <> b'", "!="),  # in a text
        ("f(a  # half 20% or x ? y", "write"),  # in a remark
        ("f('Post code'", "record"),
        ("10 km", "record"),
        ("a.__class__", '["'),
    ],
)
def test_no_advice_is_given_on_what_stands_in_texts_remarks_and_inner_names(text, no):
    with pytest.raises(ValueError) as caught:
        parse_program(text)
    assert no not in str(caught.value)


@pytest.mark.parametrize("text", ["frobnicate(x)", "x.frobnicate()"])
def test_an_unknown_function_names_a_few_near_it_and_where_all_stand(text):
    with pytest.raises(ValueError) as caught:
        parse_program(text)
    said = str(caught.value)
    assert said.endswith(" stand in docs/expressions.md")
    assert len(said.split(", ")) <= 8
