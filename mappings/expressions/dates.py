"""The functions of the expression language about dates: ISO text in, ISO text or numbers out, always UTC."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Final

from ipaas_resources.core.values import Value, canonical_datetime, parse_datetime
from mappings.expressions.function import Function
from mappings.expressions.guards import RuleError, checked_text, empty, whole

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NOT_A_DATE: Final = "a text is no ISO date; 2026-01-15 or 2026-01-15T13:58:10Z is needed"


def _day_of(x: Value) -> dt.date:
    text = checked_text(x)
    try:
        if _DAY.fullmatch(text):
            return dt.date.fromisoformat(text)
        return parse_datetime(text, dt.UTC).astimezone(dt.UTC).date()
    except (ValueError, OverflowError):
        raise RuleError("date", _NOT_A_DATE) from None


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
        return (_day_of(x) + dt.timedelta(days=whole(n, "the number of days", 4_000_000))).isoformat()
    except OverflowError:
        raise RuleError("date", "the date leaves the years 1 to 9999") from None


def days_between(a: Value, b: Value) -> Value:
    if empty(a) or empty(b):
        return None
    return (_day_of(b) - _day_of(a)).days


FUNCTIONS: Final[Mapping[str, Function]] = {
    "date": Function(date_of, 1, 1, "date", "date(x): the UTC day of a date and time"),
    "datetime": Function(datetime_of, 1, 1, "datetime", "datetime(x): a date and time in its UTC form"),
    "year": Function(year_of, 1, 1, "integer", "year(x): the year of a date"),
    "month": Function(month_of, 1, 1, "integer", "month(x): the month of a date, 1 to 12"),
    "day": Function(day_of, 1, 1, "integer", "day(x): the day of the month"),
    "weekday": Function(weekday_of, 1, 1, "integer", "weekday(x): 1 for Monday to 7 for Sunday"),
    "hour": Function(hour_of, 1, 1, "integer", "hour(x): the hour in UTC"),
    "minute": Function(minute_of, 1, 1, "integer", "minute(x): the minute in UTC"),
    "add_days": Function(add_days, 2, 2, "date", "add_days(x, n): the date n days later"),
    "days_between": Function(days_between, 2, 2, "integer", "days_between(a, b): days from a to b"),
}
