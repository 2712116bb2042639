"""Dates: named zones on both sides of every clock change, patterns that are written and read, the calendar."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ipaas_resources.core.errors import MappingError
from ipaas_resources.core.values import canonical_datetime
from mappings.date_patterns import checked_pattern, pattern_reader, pattern_writer
from mappings.faults import FlowErrors
from mappings.transforms.date import date_writer
from mappings.zones import SkippedTimeError, checked_zone, moment_of_wall, time_zone, zone_names
from tests.mappings.making import evaluate, load, target, value

ZONES = ["Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
FIRST, LAST = dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)
SECOND, HOUR = dt.timedelta(seconds=1), dt.timedelta(hours=1)


def clock_changes(name: str) -> list[dt.datetime]:
    """Every moment (UTC) of 2020 to 2030 at which the offset of the zone changes."""
    zone = time_zone(name)
    found = []
    hour = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    while hour.year <= 2030:
        if hour.astimezone(zone).utcoffset() != (hour + HOUR).astimezone(zone).utcoffset():
            low, high = hour, hour + HOUR
            while high - low > SECOND:
                middle = low + (high - low) / 2
                middle -= dt.timedelta(microseconds=middle.microsecond)
                same = middle.astimezone(zone).utcoffset() == hour.astimezone(zone).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            found.append(high)
        hour += HOUR
    return found


CHANGES = {name: clock_changes(name) for name in ZONES}


def test_every_clock_change_of_eleven_years_was_found():
    assert {name: len(found) for name, found in CHANGES.items()} == {
        "Europe/London": 22,
        "America/New_York": 22,
        "Australia/Lord_Howe": 22,
        "Asia/Kathmandu": 0,
    }


@pytest.mark.parametrize("name", ZONES)
def test_around_every_clock_change_local_time_leads_back_to_the_moment(name):
    zone = time_zone(name)
    steps = [dt.timedelta(minutes=minutes) for minutes in (-90, -31, -29, -1, 0, 1, 29, 31, 90)]
    around = [
        dt.datetime(2026, 5, 4, 3, 2, 1, tzinfo=dt.UTC),
        *(change + step for change in CHANGES[name] for step in steps),
    ]
    for moment in [*around, *(change - SECOND for change in CHANGES[name])]:
        text = canonical_datetime(moment)
        shown = evaluate("local(x, z)", {"x": text, "z": name})
        assert shown == moment.astimezone(zone).replace(tzinfo=None).isoformat(timespec="microseconds")
        meant = {
            evaluate("to_utc(x, z, c)", {"x": shown, "z": name, "c": choice})
            for choice in ("earlier", "later")
        }
        assert text in meant
        assert evaluate("to_utc(x, z)", {"x": shown, "z": name}) == min(meant)


@pytest.mark.parametrize("name", ["Europe/London", "America/New_York", "Australia/Lord_Howe"])
def test_a_time_that_the_clock_skips_is_an_error_unless_a_moment_is_chosen(name):
    zone = time_zone(name)
    skips = 0
    for change in CHANGES[name]:
        before = (change - SECOND).astimezone(zone).utcoffset()
        after = change.astimezone(zone).utcoffset()
        if before > after:
            continue
        skips += 1
        middle = (change + before + (after - before) / 2).replace(tzinfo=None)
        record = {"x": middle.isoformat(), "z": name}
        with pytest.raises(MappingError, match="put forward over this time") as caught:
            evaluate("to_utc(x, z)", record)
        assert caught.value.code == "mapping_date"
        assert middle.isoformat() not in caught.value.message
        early = dt.datetime.fromisoformat(evaluate('to_utc(x, z, "earlier")', record))
        late = dt.datetime.fromisoformat(evaluate('to_utc(x, z, "later")', record))
        assert (early, late) == (change - (after - before) / 2, change + (after - before) / 2)
        # The first and the last moment beside the gap exist.
        for wall in (change + before - SECOND, change + after):
            evaluate("to_utc(x, z)", {"x": wall.replace(tzinfo=None).isoformat(), "z": name})
    assert skips == 11


@given(st.datetimes(timezones=st.just(dt.UTC)), st.sampled_from(sorted(zone_names())))
def test_any_moment_in_any_zone_leads_back_to_itself_by_its_offset(moment, name):
    # Two days from the ends of the calendar, for zones lead beyond them.
    assume(dt.timedelta(2) < moment - FIRST < LAST - dt.timedelta(2) - FIRST)
    utc = canonical_datetime(moment)
    zone = time_zone(name)
    wall = moment.astimezone(zone)
    found = {
        moment_of_wall(wall.replace(tzinfo=None, fold=0), zone, choice) for choice in ("earlier", "later")
    }
    assert utc in {canonical_datetime(each) for each in found}


def test_zones_come_from_the_pinned_data_and_not_from_the_machine(tmp_path):
    own = tmp_path / "Europe"
    own.mkdir()
    (own / "London").write_bytes(b"no zone at all")
    kept = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([str(tmp_path)])
    time_zone.cache_clear()
    try:
        summer = dt.datetime(2026, 7, 1, tzinfo=dt.UTC).astimezone(time_zone("Europe/London"))
        assert summer.utcoffset() == HOUR
    finally:
        zoneinfo.reset_tzpath(kept)
    assert len(zone_names()) > 500


@pytest.mark.parametrize(
    "name", ["", "europe/london", "Europe/Nowhere", "../zones", "/etc/localtime", "London", "GMT+25"]
)
def test_a_zone_that_does_not_exist_is_refused(name):
    with pytest.raises(ValueError, match="is no time zone; use a name like Europe/London"):
        checked_zone(name)
    with pytest.raises(MappingError, match="no time zone of that name"):
        evaluate("local(x, z)", {"x": "2026-01-15T00:00:00Z", "z": name})


def test_a_skipped_time_without_a_choice_is_an_error_of_its_own():
    with pytest.raises(SkippedTimeError):
        moment_of_wall(dt.datetime.fromisoformat("2026-03-29T01:30"), time_zone("Europe/London"))


# --- functions --------------------------------------------------------------------------------------------------

RECORD = {
    "at": "2026-06-30T23:30:00.000000Z",
    "day": "2026-06-30",
    "twice": "2026-10-25T01:30:00",
    "offset": "2026-06-30T23:30:00-04:00",
    "n": None,
    "e": "",
}


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ('local(at, "Europe/Berlin")', "2026-07-01T01:30:00.000000"),
        ('local(at, "Europe/Berlin", "%d.%m.%Y %H:%M %z")', "01.07.2026 01:30 +0200"),
        ('local(at, "Asia/Kathmandu", "%H:%M %z")', "05:15 +0545"),
        ('local(at, "Europe/Berlin", "date")', "2026-07-01"),
        ('date(local(at, "Europe/Berlin"))', "2026-07-01"),
        ('hour(local(at, "Europe/Berlin"))', 1),
        ('local(day, "America/New_York")', "2026-06-30T00:00:00.000000"),
        ('local(offset, "UTC")', "2026-07-01T03:30:00.000000"),
        ('to_utc("2026-07-01T01:30:00", "Europe/Berlin")', "2026-06-30T23:30:00.000000Z"),
        ('to_utc(day, "Europe/Berlin")', "2026-06-29T22:00:00.000000Z"),
        ('to_utc(offset, "Europe/Berlin")', "2026-07-01T03:30:00.000000Z"),
        ('to_utc(twice, "Europe/London")', "2026-10-25T00:30:00.000000Z"),
        ('to_utc(twice, "Europe/London", "later")', "2026-10-25T01:30:00.000000Z"),
        ('to_utc("2026-04-24", "Africa/Cairo")', "2026-04-23T22:00:00.000000Z"),
        ('format_date(at, "%A %d %B %Y")', "Tuesday 30 June 2026"),
        ('format_date(at, "%I:%M %p, %a %j", "America/New_York")', "07:30 PM, Tue 181"),
        ('format_date("0099-01-02", "%Y-%y")', "0099-99"),
        ('format_date(day, "datetime", "Europe/Berlin")', "2026-06-29T22:00:00.000000Z"),
        ('parse_date("1.7.2026", "%d.%m.%Y")', "2026-07-01"),
        ('parse_date("07/01/26", "%m/%d/%y")', "2026-07-01"),
        ('parse_date("20260701", "%Y%m%d")', "2026-07-01"),
        ('parse_date("  Wednesday, 1 july 2026 ", "%A, %d %B %Y")', "2026-07-01"),
        ('parse_date("2026/182", "%Y/%j")', "2026-07-01"),
        ('parse_date("31.12.2026 23:59", "%d.%m.%Y %H:%M")', "2026-12-31"),
        ('parse_datetime("1.7.2026 1:30", "%d.%m.%Y %H:%M", "Europe/Berlin")', "2026-06-30T23:30:00.000000Z"),
        ('parse_datetime("07/01/2026 12:05:09 AM", "%m/%d/%Y %I:%M:%S %p")', "2026-07-01T00:05:09.000000Z"),
        ('parse_datetime("2026-07-01 01:30 +0530", "%Y-%m-%d %H:%M %z", "Europe/Berlin")', "2026-06-30T20:00:00.000000Z"),
        ('parse_datetime("25.10.2026 01:30", "%d.%m.%Y %H:%M", "Europe/London", "later")', "2026-10-25T01:30:00.000000Z"),
        ('parse_datetime("24.04.2026", "%d.%m.%Y", "Africa/Cairo")', "2026-04-23T22:00:00.000000Z"),
        ('add_months("2026-01-31", 1)', "2026-02-28"),
        ('add_months("2028-01-31", 1)', "2028-02-29"),
        ('add_months("2026-01-15", -13)', "2024-12-15"),
        ("start_of_month(at)", "2026-06-01"),
        ('end_of_month("2028-02-03")', "2028-02-29"),
        ("weekday(day)", 2),
        ('days_between("2026-03-28", "2026-03-30")', 2),
    ],
)  # fmt: skip
def test_a_date_function_makes_what_it_says(expression, result):
    assert evaluate(expression, RECORD) == result


@pytest.mark.parametrize(
    "call",
    [
        'local({}, "Europe/Berlin")', 'to_utc({}, "Europe/Berlin")', 'format_date({}, "%Y")', 'parse_date({}, "%d.%m.%Y")',
        'parse_datetime({}, "%d.%m.%Y")', "add_months({}, 1)", "start_of_month({})", "end_of_month({})", "weekday({})",
    ],
)  # fmt: skip
def test_a_date_that_is_null_or_empty_is_null(call):
    assert evaluate(call.format("n"), RECORD) is None
    assert evaluate(call.format("e"), RECORD) is None


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ('local("yesterday", "UTC")', "a text is no ISO date"),
        ('local("0001-01-01T00:00:00Z", "America/New_York")', "leaves the years 1 to 9999"),
        ('to_utc("9999-12-31T23:00:00", "America/New_York")', "a text is no ISO date|leaves the years"),
        ('to_utc(twice, "Europe/London", "both")', 'is "earlier" or "later"'),
        ("local(at, 7)", "text is needed, there is a number"),
        ('local(7, "UTC")', "a date is text, there is a number"),
        ('format_date(at, "%s")', "the pattern cannot be used; it takes date, datetime, time, or %Y"),
        ('format_date(at, "no code")', "the pattern cannot be used"),
        ('parse_date("2026", "%Y")', "the pattern cannot be used; it names year, month and day once"),
        ('parse_date("2026-13-01", "%Y-%m-%d")', "does not follow the pattern"),
        ('parse_date("2026-02-30", "%Y-%m-%d")', "does not follow the pattern"),
        ('parse_date("1.7.26", "%d.%m.%Y")', "does not follow the pattern"),
        ('parse_date("2026115", "%Y%m%d")', "does not follow the pattern"),
        ('parse_date("Monday 1.7.2026", "%A %d.%m.%Y")', "does not follow the pattern"),
        ('parse_date("2026/366", "%Y/%j")', "does not follow the pattern"),
        ('parse_datetime("1.7.2026 13:00 PM", "%d.%m.%Y %I:%M %p")', "does not follow the pattern"),
        ('parse_datetime("29.03.2026 01:30", "%d.%m.%Y %H:%M", "Europe/London")', "put forward over this time"),
        ('add_months("9999-12-01", 1)', "leaves the years 1 to 9999"),
        ('add_months("2026-01-01", 10 ** 9)', "is beyond 120000"),
    ],
)  # fmt: skip
def test_a_date_that_cannot_be_made_is_an_error(expression, says):
    with pytest.raises(MappingError, match=says):
        evaluate(expression, RECORD)


# --- patterns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern", ["%s", "%c", "%x", "%E", "%", "%-d", "%Y %", "%Q", "x" * 101, "plain", ""]
)
def test_a_pattern_outside_the_listed_codes_is_refused(pattern):
    with pytest.raises(ValueError, match=r"not a code of a date pattern|is longer than|no form of a date"):
        checked_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("%Y-%V", "%V can be written, not read"),
        ("%d.%m", "one year"),
        ("%Y %y %m %d", "one year"),
        ("%Y-%m", "one month and a day"),
        ("%Y-%j-%m", "one month and a day"),
        ("%Y-%m-%d %m", "stands twice"),
        ("%Y-%m-%d %I:%M", "hours are %H, or %I with %p"),
        ("%Y-%m-%d %H %I %p", "hours are %H, or %I with %p"),
    ],
)
def test_a_pattern_that_makes_no_whole_date_cannot_be_read_by(pattern, says):
    with pytest.raises(ValueError, match=says):
        pattern_reader(pattern)


READ_BACK = [
    "%Y-%m-%d %H:%M:%S.%f", "%d.%m.%Y %H:%M:%S.%f", "%Y%m%d%H%M%S%f", "%A, %d %B %Y %I:%M:%S.%f %p",
    "%a %b %d %Y, %H:%M:%S.%f", "%Y/%j %H:%M:%S.%f",
]  # fmt: skip


@given(st.datetimes(), st.sampled_from(READ_BACK))
def test_what_a_pattern_writes_it_reads_back(moment, pattern):
    written = pattern_writer(pattern)(moment.replace(tzinfo=dt.UTC))
    assert pattern_reader(pattern).read(written).wall == moment


@given(st.text(max_size=60))
def test_reading_any_text_ends_in_a_date_or_an_error(text):
    for pattern in ("%d.%m.%Y", "%Y%m%d", "%A %B %d %Y %I:%M %p"):
        try:
            found = pattern_reader(pattern).read(text).wall
        except ValueError:
            continue
        assert isinstance(found, dt.datetime)


# --- the rule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "given_", "result"),
    [
        ('{date: a, to: datetime, tz: Europe/London, from: "%d/%m/%Y %H:%M"}', "30/6/2026 9:05", "2026-06-30T08:05:00.000000Z"),
        ('{date: a, from: "%d.%m.%Y"}', "1.7.2026", "2026-07-01"),
        ("{date: a, to: datetime, from: {tz: America/New_York}}", "2026-06-30T20:00:00", "2026-07-01T00:00:00.000000Z"),
        ('{date: a, to: "%H:%M", tz: Europe/Berlin, from: {tz: America/New_York}}', "2026-06-30T20:00:00", "02:00"),
        ("{date: a, to: datetime, tz: Europe/London}", "2026-10-25T01:30:00", "2026-10-25T00:30:00.000000Z"),
        ("{date: a, to: datetime, tz: Europe/London, from: {clock_change: later}}", "2026-10-25T01:30:00", "2026-10-25T01:30:00.000000Z"),
        ("{date: a, to: datetime, tz: Europe/London, from: {clock_change: later}}", "2026-03-29T01:30:00", "2026-03-29T01:30:00.000000Z"),
        ("{date: a, to: datetime, tz: Europe/London, from: {clock_change: earlier}}", "2026-03-29T01:30:00", "2026-03-29T00:30:00.000000Z"),
        ("{date: a, to: datetime, tz: Africa/Cairo}", "2026-04-24", "2026-04-23T22:00:00.000000Z"),
        ("{date: a, to: date, tz: Africa/Cairo}", "2026-04-24", "2026-04-24"),
        ("{date: a, to: time, tz: Europe/Berlin}", "2026-06-30T23:30:00.5Z", "01:30:00.500000"),
        ("{date: a, to: datetime, tz: Europe/London}", None, None),
        ('{date: a, from: "%d.%m.%Y"}', "", None),
    ],
)  # fmt: skip
def test_the_date_rule_reads_and_writes_as_it_says(rule, given_, result):
    assert value(rule, {"a": given_}) == result


def test_the_date_rule_refuses_a_time_that_the_clock_skips():
    for rule, text in (
        ("{date: a, to: datetime, tz: Europe/London}", "2026-03-29T01:30:00"),
        ('{date: a, to: datetime, from: {pattern: "%d.%m.%Y %H:%M", tz: Europe/London}}', "29.03.2026 01:30"),
    ):
        with pytest.raises(MappingError, match="put forward over this time"):
            value(rule, {"a": text})


def test_the_date_rule_refuses_a_text_that_does_not_follow_its_pattern():
    with pytest.raises(MappingError, match="does not follow the pattern of its date") as caught:
        value('{date: a, from: "%d.%m.%Y"}', {"a": "2026-07-01"})
    assert "2026-07-01" not in caught.value.message


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ('"%d.%m"', "one year"),
        ("{tz: Europe/Nowhere}", "is no time zone"),
        ("{clock_change: both}", "'both' has no meaning here"),
        ("{zone: UTC}", "'zone' is not a word of this place"),
        ("{pattern: 7}", "text is needed"),
    ],
)
def test_a_date_rule_that_could_never_read_is_refused_when_it_is_saved(source, says):
    with pytest.raises(FlowErrors, match=says):
        load(f"x: {{date: a, from: {source}}}")


def test_the_date_rule_tells_what_it_reads():
    compiled = target('x: {date: a, from: {pattern: "%d.%m.%Y", tz: Europe/Berlin}, to: date}')
    assert compiled.explain("x") == (
        "x is a, read as %d.%m.%Y, from the time of Europe/Berlin as a date, in the time of UTC."
    )


@pytest.mark.parametrize("name", ZONES)
def test_the_date_rule_and_the_functions_agree_at_every_clock_change(name):
    write = date_writer("%Y-%m-%dT%H:%M:%S.%f", name)
    for change in CHANGES[name]:
        for moment in (change - SECOND, change, change + HOUR):
            text = canonical_datetime(moment)
            assert write(text) == evaluate("local(x, z)", {"x": text, "z": name})
