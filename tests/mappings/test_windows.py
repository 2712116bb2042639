"""The window in which a flow may write, by the clock on the wall of its zone."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mappings.windows import Window, in_words
from mappings.zones import time_zone

UTC = dt.UTC
MINUTE = dt.timedelta(minutes=1)
OFFICE = {"days": "mon-fri", "from": "07:00", "to": "19:00", "tz": "Europe/London"}
#: Moments around which clocks are put forward or back, by an hour and by half an hour, at night and at midnight.
CLOCK_CHANGES = [
    ("Europe/London", "2026-03-29T00:00:00"),
    ("Europe/London", "2026-10-25T00:00:00"),
    ("America/New_York", "2026-11-01T05:00:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00"),
    ("Africa/Cairo", "2026-04-23T22:00:00"),
    ("Asia/Kolkata", "2026-06-01T00:00:00"),
]


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(**parts: str) -> Window:
    return Window.model_validate({name.rstrip("_"): value for name, value in parts.items()})


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
    office = Window.model_validate(OFFICE)
    assert office.next_open(at(moment)) == at(opens)
    assert office.is_open(at(moment)) is (moment == opens)


def test_a_window_past_midnight_belongs_to_the_day_on_which_it_opens():
    night = window(days="fri", from_="22:00", to="06:00")
    assert night.is_open(at("2026-01-17T05:59:59"))
    assert not night.is_open(at("2026-01-16T05:59:59"))
    assert night.next_open(at("2026-01-17T06:00:00")) == at("2026-01-23T22:00:00")
    assert night.next_close(at("2026-01-16T23:00:00")) == at("2026-01-17T06:00:00")


def test_a_window_without_hours_is_the_whole_day():
    weekend = window(days="sat,sun-mon")
    assert weekend.days == (0, 5, 6)
    assert weekend.is_open(at("2026-01-17T00:00:00"))
    assert weekend.is_open(at("2026-01-19T23:59:59"))
    assert weekend.next_open(at("2026-01-20T00:00:00")) == at("2026-01-24T00:00:00")
    assert weekend.next_close(at("2026-01-17T10:00:00")) == at("2026-01-20T00:00:00")


def test_a_window_of_all_days_and_hours_never_closes():
    always = window(days="all", to="24:00")
    assert always.days == tuple(range(7))
    assert always.next_close(at("2026-01-20T00:00:00")) is None


@pytest.mark.parametrize(
    "parts",
    [
        {"days": ""},
        {"days": []},
        {"days": "monday"},
        {"days": "mon;tue"},
        {"from": "7:00"},
        {"from": "24:00"},
        {"to": "24:01"},
        {"to": "19"},
        {"tz": "Europe/Londn"},
        {"until": "19:00"},
    ],
)
def test_a_window_that_cannot_be_read_is_refused_when_it_is_saved(parts):
    with pytest.raises(ValidationError):
        Window.model_validate(parts)


@pytest.mark.parametrize(
    ("start", "opens", "closes", "moments"),
    [
        # 01:00 to 02:00 is skipped: the window opens at the jump, for what is left of it.
        ("2026-03-28T12:00:00", "01:30", "03:00", ("2026-03-29T01:00:00", "2026-03-29T02:00:00")),
        # It lies in the skipped hour: it does not open on that day.
        ("2026-03-29T00:00:00", "01:15", "01:45", ("2026-03-30T00:15:00", "2026-03-30T00:45:00")),
        # Shown twice: open both times, closed between.
        ("2026-10-24T12:00:00", "01:15", "01:45", ("2026-10-25T00:15:00", "2026-10-25T00:45:00")),
        ("2026-10-25T00:45:00", "01:15", "01:45", ("2026-10-25T01:15:00", "2026-10-25T01:45:00")),
        # The clock is put back into the window after it had closed.
        ("2026-10-25T00:30:00", "00:30", "01:30", ("2026-10-25T01:00:00", "2026-10-25T01:30:00")),
    ],
)
def test_where_the_clock_is_put_forward_or_back_the_clock_on_the_wall_counts(start, opens, closes, moments):
    small = window(from_=opens, to=closes, tz="Europe/London")
    opened = small.next_open(at(start))
    assert (opened, small.next_close(opened)) == tuple(map(at, moments))


def test_a_weekly_window_whose_hour_is_skipped_opens_a_week_later():
    sunday = window(days="sun", from_="01:15", to="01:45", tz="Europe/London")
    assert sunday.next_open(at("2026-03-23T00:00:00")) == at("2026-04-05T00:15:00")


def by_the_wall(window: Window, moment: dt.datetime) -> bool:
    """What a person with a calendar and a clock says, told minute by minute."""
    wall = moment.astimezone(time_zone(window.tz)).replace(tzinfo=None)
    for back in (0, 1):
        day = wall.date() - dt.timedelta(days=back)
        start = dt.datetime.combine(day, window.opens)
        end = dt.datetime.combine(day, window.closes)
        if end <= start:
            end += dt.timedelta(days=1)
        if day.weekday() in window.days and start <= wall < end:
            return True
    return False


minutes = st.integers(0, 24 * 60 - 1).map(lambda minute: dt.time(minute // 60, minute % 60))
small_hours = st.integers(0, 4 * 60).map(lambda minute: dt.time(minute // 60, minute % 60))


@given(
    st.sampled_from(CLOCK_CHANGES),
    st.integers(-3 * 24 * 60, 3 * 24 * 60),
    st.sets(st.integers(0, 6), min_size=1),
    st.one_of(small_hours, minutes),
    st.one_of(small_hours, minutes),
)
def test_it_opens_and_closes_at_the_first_minute_that_a_clock_on_the_wall_says(
    change, offset, days, opens, closes
):
    zone, around = change
    moment = at(around) + offset * MINUTE
    any_window = Window(days=tuple(sorted(days)), opens=opens, closes=closes, tz=zone)
    expected = by_the_wall(any_window, moment)
    assert any_window.is_open(moment) is expected
    edge = any_window.next_close(moment) if expected else any_window.next_open(moment)
    if edge is None:
        assert by_the_wall(any_window, moment + dt.timedelta(days=5))
        return
    assert edge > moment
    assert by_the_wall(any_window, edge) is not expected
    last = min((edge - moment) // MINUTE, 2 * 24 * 60)
    assert all(by_the_wall(any_window, moment + n * MINUTE) is expected for n in range(last))
    if edge - moment > 2 * 24 * 60 * MINUTE:
        assert by_the_wall(any_window, edge - MINUTE) is expected


@given(
    st.sampled_from(CLOCK_CHANGES),
    st.integers(0, 3 * 24 * 60),
    st.integers(0, 2 * 24 * 60),
    minutes,
    minutes,
)
def test_the_time_inside_a_window_is_what_counting_its_minutes_gives(change, before, length, opens, closes):
    zone, around = change
    since = at(around) - before * MINUTE
    until = since + length * MINUTE
    any_window = Window(opens=opens, closes=closes, tz=zone)
    counted = sum(by_the_wall(any_window, since + n * MINUTE) for n in range(length))
    assert any_window.open_between(since, until) == counted * MINUTE


def test_the_time_inside_a_window_of_something_forgotten_is_counted_for_a_year():
    office = Window.model_validate(OFFICE)
    spent = office.open_between(at("1990-01-01T00:00:00"), at("2026-01-01T00:00:00"))
    assert dt.timedelta(days=100) < spent < dt.timedelta(days=400)


def test_a_moment_is_told_as_its_zone_writes_it_with_the_date_where_it_is_far_off():
    now = at("2026-07-10T20:00:00")
    assert in_words(at("2026-07-13T06:00:00"), "Europe/London", now=now) == "Mon 07:00 Europe/London"
    assert (
        in_words(at("2026-07-20T06:00:00"), "Europe/London", now=now) == "Mon 2026-07-20 07:00 Europe/London"
    )
