"""Durations and cron lines."""

from __future__ import annotations

import datetime as dt

import pytest

from mappings.times import checked_cron, parse_duration


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
