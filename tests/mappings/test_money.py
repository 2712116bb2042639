"""Money: explicit rounding, the smallest coin of a currency, and splitting without loss."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.errors import MappingError
from mappings.expressions.money import DECIMALS
from mappings.expressions.numbers import ROUNDINGS
from tests.mappings.making import evaluate

CURRENCIES = Path(__file__).resolve().parents[3] / "shared" / "data" / "currency_codes.csv"


@pytest.mark.parametrize(
    ("mode", "results"),
    [
        ("half_up", [3, -3, 2, 2, 3]),
        ("half_even", [2, -2, 2, 2, 3]),
        ("up", [3, -3, 2, 3, 3]),
        ("down", [2, -2, 2, 2, 2]),
        ("floor", [2, -3, 2, 2, 2]),
        ("ceiling", [3, -2, 2, 3, 3]),
    ],
)
def test_a_number_is_rounded_the_way_that_is_named(mode, results):
    values = ["2.5", "-2.5", "2", "2.1", "2.9"]
    assert [evaluate("round(x, 0, mode)", {"x": Decimal(x), "mode": mode}) for x in values] == results


def test_every_way_to_round_is_tried_and_none_but_these_is_taken():
    assert set(ROUNDINGS) == {"half_up", "half_even", "up", "down", "floor", "ceiling"}
    for mode in ("HALF_UP", "ROUND_UP", "", None, 1):
        with pytest.raises(
            MappingError, match=r"there is no such way to round\. Valid: half_up, half_even, up,"
        ):
            evaluate("round(x, 2, mode)", {"x": 1, "mode": mode})


def test_halves_go_away_from_zero_unless_another_way_is_named():
    assert evaluate("round(2.345, 2)") == Decimal("2.35")
    assert evaluate('round(2.345, 2, "half_even")') == Decimal("2.34")
    assert evaluate("round(null, 2)") is None


@pytest.mark.parametrize(
    ("currency", "result"),
    [("EUR", "1234.57"), (" usd ", "1234.57"), ("JPY", "1235"), ("KWD", "1234.568"), ("CLF", "1234.5679")],
)
def test_an_amount_is_rounded_to_the_smallest_coin_of_its_currency(currency, result):
    assert evaluate("money(x, c)", {"x": Decimal("1234.56789"), "c": currency}) == Decimal(result)


def test_an_amount_is_rounded_the_way_that_is_named():
    assert evaluate('money(0.125, "EUR", "half_even")') == Decimal("0.12")
    assert evaluate('money(0.129, "EUR", "down")') == Decimal("0.12")
    assert evaluate('money(null, "EUR")') is None


@pytest.mark.parametrize("currency", ["XYZ", "XAU", "DEM", "EURO", "E", "€", "X" * 1_000])
def test_an_unknown_currency_is_an_error_without_its_value(currency):
    with pytest.raises(MappingError, match="no currency of ISO 4217 with a smallest coin") as caught:
        evaluate("money(1, c)", {"c": currency})
    assert caught.value.code == "mapping_currency"
    assert f" {currency} " not in caught.value.message


@pytest.mark.parametrize("currency", ["", None])
def test_an_amount_without_a_currency_is_an_error(currency):
    with pytest.raises(MappingError, match='name one for that case: currency or "EUR"'):
        evaluate("money(1, c)", {"c": currency})
    assert evaluate('money(1.005, c or "EUR")', {"c": currency}) == Decimal("1.01")


def test_the_decimals_of_every_currency_in_use_are_those_of_iso_4217():
    if not CURRENCIES.exists():
        pytest.skip("the shared data (currency_codes.csv) is not beside this repo")
    with CURRENCIES.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["AlphabeticCode"] and not row["WithdrawalDate"]]
    coins = {row["AlphabeticCode"]: row["MinorUnit"] for row in rows}
    assert {code: int(minor) for code, minor in coins.items() if minor != "-"} == DECIMALS
    assert len(DECIMALS) > 150


# --- splitting --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "weights", "unit", "parts"),
    [
        ("100", [1, 1, 1], "EUR", ["33.34", "33.33", "33.33"]),
        ("-100", [1, 1, 1], "EUR", ["-33.34", "-33.33", "-33.33"]),
        ("100", [1, 1, 1], "JPY", ["34", "33", "33"]),
        ("1", [1, 1, 1], 3, ["0.334", "0.333", "0.333"]),
        ("0.05", [3, 7], "USD", ["0.02", "0.03"]),
        ("0.02", [1, 1, 1], "EUR", ["0.01", "0.01", "0"]),
        ("10", [0, 1, 0], "EUR", ["0", "10", "0"]),
        ("0", [1, 2], "EUR", ["0", "0"]),
        ("10", ["0.1", "0.2", "0.7"], "EUR", ["1", "2", "7"]),
        ("1000", ["1E-40", 1], 0, ["0", "1000"]),
    ],
)
def test_a_total_is_split_by_weight_into_parts_that_add_up(total, weights, unit, parts):
    record = {"t": Decimal(total), "w": [Decimal(w) if isinstance(w, str) else w for w in weights], "u": unit}
    assert evaluate("allocate(t, w, u)", record) == [Decimal(part) for part in parts]


def test_a_total_is_split_into_hundredths_where_no_currency_is_named():
    assert evaluate("allocate(10, [1, 2])") == [Decimal("3.33"), Decimal("6.67")]
    assert evaluate("allocate(null, [1])") is None
    assert evaluate("allocate(1, null)") is None


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("allocate(1, [])", "no weight above 0"),
        ("allocate(1, [0, 0])", "no weight above 0"),
        ("allocate(1, [1, -1])", "a weight is below 0"),
        ("allocate(1, [1, null])", "a weight is a number, there is null"),
        ('allocate(1, ["1"])', "a weight is a number, there is text"),
        ("allocate(1.005, [1], 2)", "more decimals than its parts; round it first"),
        ("allocate(10 ** 40, [1])", "an amount is too large to split"),
        ("allocate(1, [10 ** 40])", "a weight is too large"),
        ('allocate(1, [1], "XXX")', "no currency of ISO 4217"),
        ("allocate(1, [1], -1)", "the number of decimals is 0 or more"),
        ("allocate(1, [1], 99)", "the number of decimals is beyond 12"),
        ("allocate(1, 5)", "a list is needed, there is a number"),
    ],
)
def test_what_cannot_be_split_is_an_error(expression, says):
    with pytest.raises(MappingError, match=says):
        evaluate(expression)


WEIGHTS = st.lists(
    st.one_of(st.integers(0, 10**12), st.decimals(0, 10**6, places=6)), min_size=1, max_size=60
).filter(any)


@given(st.decimals(-(10**12), 10**12, places=2), WEIGHTS, st.sampled_from(["EUR", "KWD", 2, 5]))
def test_the_parts_of_a_total_add_up_and_none_is_a_coin_off_its_share(total, weights, unit):
    parts = evaluate("allocate(t, w, u)", {"t": total, "w": weights, "u": unit})
    assert sum(parts) == total
    coin = Decimal(1).scaleb(-(unit if isinstance(unit, int) else DECIMALS[unit]))
    for part, weight in zip(parts, weights, strict=True):
        share = total * weight / sum(weights)
        assert abs(part - share) <= coin
        assert part * total >= 0
