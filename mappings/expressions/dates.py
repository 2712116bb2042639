"""The functions of the expression language about dates: ISO text in, ISO text or numbers out.

Without a zone everything is UTC. A date alone is a day on the calendar, in whatever zone.
"""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Mapping
from typing import Final

from ipaas_resources.core.values import Value, canonical_datetime, parse_datetime
from mappings.date_patterns import LONGEST_PATTERN
from mappings.expressions.function import Function
from mappings.expressions.guards import RuleError, Steps, charge, checked_text, empty, whole
from mappings.expressions.moments import (
    is_day,
    moment_by_pattern,
    moment_in,
    no_date,
    out_of_years,
    reader_of,
    writer_of,
    zone_of,
)
from mappings.zones import CLOCK_CHANGES, ClockChange

_MOST_DAYS: Final = 4_000_000
_MOST_MONTHS: Final = 120_000
_YEAR: Final = 12  # months
_PATTERN_STEPS: Final = LONGEST_PATTERN >> 1


def _day_of(x: Value) -> dt.date:
    text = checked_text(x)
    try:
        if is_day(text):
            return dt.date.fromisoformat(text)
        return parse_datetime(text, dt.UTC).astimezone(dt.UTC).date()
    except (ValueError, OverflowError):
        no_date()


def _moment_of(x: Value) -> dt.datetime:
    try:
        return parse_datetime(checked_text(x), dt.UTC).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise RuleError("date", "a text is no ISO date and time; 2026-01-15T13:58:10Z is needed") from None


def date_of(x: Value) -> Value:
    return None if empty(x) else _day_of(x).isoformat()


def datetime_of(x: Value) -> Value:
    return None if empty(x) else canonical_datetime(_moment_of(x))


def year_of(x: Value) -> Value:
    return None if empty(x) else _day_of(x).year


def month_of(x: Value) -> Value:
    return None if empty(x) else _day_of(x).month


def day_of(x: Value) -> Value:
    return None if empty(x) else _day_of(x).day


def weekday_of(x: Value) -> Value:
    return None if empty(x) else _day_of(x).isoweekday()


def hour_of(x: Value) -> Value:
    return None if empty(x) else _moment_of(x).hour


def minute_of(x: Value) -> Value:
    return None if empty(x) else _moment_of(x).minute


def add_days(x: Value, n: Value) -> Value:
    if empty(x) or n is None:
        return None
    try:
        return (_day_of(x) + dt.timedelta(days=whole(n, "the number of days", _MOST_DAYS))).isoformat()
    except OverflowError:
        out_of_years()


def add_months(x: Value, n: Value) -> Value:
    if empty(x) or n is None:
        return None
    day = _day_of(x)
    months = day.year * _YEAR + day.month - 1 + whole(n, "the number of months", _MOST_MONTHS)
    year, month = months // _YEAR, months % _YEAR + 1
    if not dt.MINYEAR <= year <= dt.MAXYEAR:
        out_of_years()
    return dt.date(year, month, min(day.day, calendar.monthrange(year, month)[1])).isoformat()


def start_of_month(x: Value) -> Value:
    return None if empty(x) else _day_of(x).replace(day=1).isoformat()


def end_of_month(x: Value) -> Value:
    if empty(x):
        return None
    day = _day_of(x)
    return day.replace(day=calendar.monthrange(day.year, day.month)[1]).isoformat()


def days_between(a: Value, b: Value) -> Value:
    if empty(a) or empty(b):
        return None
    return (_day_of(b) - _day_of(a)).days


# --- zones and patterns -----------------------------------------------------------------------------------------


def local(x: Value, zone: Value, pattern: Value = None, steps: Steps | None = None) -> Value:
    if empty(x):
        return None
    place = zone_of(zone)
    # A day has no zone: it is the same day everywhere, and its midnight that of the place.
    near = place if type(x) is str and is_day(x) else dt.UTC
    try:
        moment = moment_in(x, near).astimezone(place)
    except OverflowError:
        out_of_years()
    if pattern is not None:
        _charge_pattern(pattern, steps)
        return writer_of(pattern)(moment)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


def _charge_pattern(pattern: Value, steps: Steps | None) -> None:
    """The price of a pattern that is seen for the first time; the longest that is taken costs _PATTERN_STEPS."""
    charge(steps, min(len(checked_text(pattern)), LONGEST_PATTERN) >> 1)


def to_utc(x: Value, zone: Value, clock_change: Value = None) -> Value:
    if empty(x):
        return None
    try:
        return canonical_datetime(moment_in(x, zone_of(zone), _choice(clock_change)))
    except OverflowError:
        out_of_years()


def _choice(value: Value) -> ClockChange | None:
    if value is None:
        return None
    for choice in CLOCK_CHANGES:
        if value == choice:
            return choice
    raise RuleError("date", 'a time that the clock shows twice or skips is "earlier" or "later"')


def format_date(x: Value, pattern: Value, zone: Value = "UTC", steps: Steps | None = None) -> Value:
    if empty(x):
        return None
    place = zone_of(zone)
    _charge_pattern(pattern, steps)
    try:
        return writer_of(pattern)(moment_in(x, place))
    except OverflowError:
        out_of_years()


def parse_date(x: Value, pattern: Value, steps: Steps | None = None) -> Value:
    if empty(x):
        return None
    _charge_pattern(pattern, steps)
    reader = reader_of(pattern)
    try:
        return reader.read(checked_text(x)).wall.date().isoformat()
    except (ValueError, OverflowError):
        raise RuleError("date", "a text does not follow the pattern of its date") from None


def parse_time(
    x: Value, pattern: Value, zone: Value = "UTC", clock_change: Value = None, steps: Steps | None = None
) -> Value:
    if empty(x):
        return None
    _charge_pattern(pattern, steps)
    moment = moment_by_pattern(x, reader_of(pattern), zone_of(zone), _choice(clock_change))
    try:
        return canonical_datetime(moment)
    except OverflowError:
        out_of_years()


FUNCTIONS: Final[Mapping[str, Function]] = {
    "date": Function(date_of, 1, 1, "date", "date(x): the UTC day of a date and time", weight=4),
    "datetime": Function(
        datetime_of, 1, 1, "datetime", "datetime(x): a date and time in its UTC form", weight=5
    ),
    "year": Function(year_of, 1, 1, "integer", "year(x): the year of a date", weight=3),
    "month": Function(month_of, 1, 1, "integer", "month(x): the month of a date, 1 to 12", weight=3),
    "day": Function(day_of, 1, 1, "integer", "day(x): the day of the month", weight=3),
    "weekday": Function(weekday_of, 1, 1, "integer", "weekday(x): 1 for Monday to 7 for Sunday", weight=3),
    "hour": Function(hour_of, 1, 1, "integer", "hour(x): the hour in UTC", weight=3),
    "minute": Function(minute_of, 1, 1, "integer", "minute(x): the minute in UTC", weight=3),
    "add_days": Function(add_days, 2, 2, "date", "add_days(x, n): the date n days later", weight=4),
    "add_months": Function(
        add_months, 2, 2, "date", "add_months(x, n): the date n months later, at most its last day", weight=5
    ),
    "start_of_month": Function(
        start_of_month, 1, 1, "date", "start_of_month(x): the first day of the month", weight=4
    ),
    "end_of_month": Function(
        end_of_month, 1, 1, "date", "end_of_month(x): the last day of the month", weight=5
    ),
    "days_between": Function(days_between, 2, 2, "integer", "days_between(a, b): days from a to b", weight=6),
    "local": Function(
        local,
        2,
        3,
        "text",
        "local(x, zone, pattern): what a clock in the zone shows at x",
        steps=_PATTERN_STEPS,
        weight=6,
    ),
    "to_utc": Function(
        to_utc,
        2,
        3,
        "datetime",
        'to_utc(x, zone, "earlier"): when a clock in the zone shows x; "earlier" or "later" at a clock change',
        weight=8,
    ),
    "format_date": Function(
        format_date,
        2,
        3,
        "text",
        "format_date(x, pattern, zone): a date written by a pattern",
        steps=_PATTERN_STEPS,
        weight=6,
    ),
    "parse_date": Function(
        parse_date,
        2,
        2,
        "date",
        "parse_date(x, pattern): the day that a text spells by a pattern",
        steps=_PATTERN_STEPS,
        weight=10,
    ),
    "parse_datetime": Function(
        parse_time,
        2,
        4,
        "datetime",
        "parse_datetime(x, pattern, zone): the date and time that a text spells by a pattern",
        steps=_PATTERN_STEPS,
        weight=14,
    ),
}
