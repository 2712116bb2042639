"""Durations, cron lines, and the window in which a flow may write."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings.times import Window, checked_cron, parse_duration

UTC = dt.UTC
OFFICE = {"days": "mon-fri", "from": "07:00", "to": "19:00", "tz": "Europe/London"}


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"), [("15s", 15), ("15m", 900), ("4h", 14_400), ("2d", 172_800), ("999999s", 999_999)]
)
def test_a_duration_is_a_number_and_a_unit(text, seconds):
    assert parse_duration(text) == dt.timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "15", "s", "1.5h", "-1s", "0s", "1w", "9999999s", "15 s", 15, None])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


@pytest.mark.parametrize("line", ["0 2 * * 0", "*/15 * * * *", "0,30 8-18/2 1 1-12 1-5", "  0   2 * *  7 "])
def test_a_cron_line_of_five_fields_is_taken(line):
    assert checked_cron(line) == " ".join(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "0 2 * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "*/0 * * * *",
        "@daily",
        "0 2 * * sun",
        "0 2 * * 0; rm",
    ],
)
def test_what_is_no_cron_line_is_refused(line):
    with pytest.raises(ValueError, match=r"of a schedule|five fields"):
        checked_cron(line)


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2026-01-15T06:59:59", "2026-01-15T07:00:00"),
        ("2026-01-15T07:00:00", "2026-01-15T07:00:00"),
        ("2026-01-15T18:59:59", "2026-01-15T18:59:59"),
        ("2026-01-15T19:00:00", "2026-01-16T07:00:00"),
        ("2026-01-16T19:00:00", "2026-01-19T07:00:00"),
        ("2026-07-15T05:59:59", "2026-07-15T06:00:00"),
        ("2026-03-27T20:00:00", "2026-03-30T06:00:00"),
    ],
)
def test_a_window_opens_by_the_clock_of_its_zone(moment, opens):
    window = Window.model_validate(OFFICE)
    assert window.next_open(at(moment)) == at(opens)
    assert window.is_open(at(moment)) is (moment == opens)


def test_a_window_past_midnight_belongs_to_the_day_on_which_it_opens():
    window = Window.model_validate({"days": "fri", "from": "22:00", "to": "06:00"})
    assert window.is_open(at("2026-01-17T05:59:59"))
    assert not window.is_open(at("2026-01-16T05:59:59"))
    assert window.next_open(at("2026-01-17T06:00:00")) == at("2026-01-23T22:00:00")


def test_a_window_without_hours_is_the_whole_day():
    window = Window.model_validate({"days": "sat,sun-mon"})
    assert window.days == (0, 5, 6)
    assert window.is_open(at("2026-01-17T00:00:00"))
    assert window.is_open(at("2026-01-19T23:59:59"))
    assert window.next_open(at("2026-01-20T00:00:00")) == at("2026-01-24T00:00:00")


@given(
    st.integers(0, 10 * 365 * 86_400).map(
        lambda seconds: at("2020-01-01T00:00:00") + dt.timedelta(seconds=seconds)
    ),
    st.sets(st.integers(0, 6), min_size=1),
    st.times(),
    st.times(),
    st.sampled_from(["UTC", "Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
)
def test_where_a_window_opens_next_it_is_open(moment, days, opens, closes, zone):
    window = Window(days=tuple(sorted(days)), opens=opens, closes=closes, tz=zone)
    found = window.next_open(moment)
    assert found >= moment
    assert window.is_open(found)
