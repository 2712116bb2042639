"""From texts to moments and back: what the `date` rule and the date functions have in common."""

from __future__ import annotations

import datetime as dt
import functools
from typing import TYPE_CHECKING, Final, NoReturn

from ipaas_resources.core.values import Value, canonical_datetime, parse_datetime
from mappings.date_patterns import READABLE, VALID, PatternReader, pattern_reader, pattern_writer
from mappings.expressions.guards import RuleError, checked_text, kind_name
from mappings.zones import ClockChange, SkippedTimeError, moment_of_wall, time_zone

if TYPE_CHECKING:
    from collections.abc import Callable

FORMS: Final = ("date", "datetime", "time")
"""What stands in place of a pattern: the forms of core/values.py."""

DATE_PATTERN: Final = "%Y-%m-%d"  # what a canonical date looks like
_DATE_LENGTH: Final = 10
_CANONICAL_LENGTH: Final = len("2026-01-15T13:58:10.123456Z")


def no_date() -> NoReturn:
    """Refuse a text."""
    raise RuleError("date", "a text is no ISO date; 2026-01-15 or 2026-01-15T13:58:10Z is needed")


def skipped() -> NoReturn:
    """Refuse a time that a clock never shows."""
    raise RuleError(
        "date",
        "the clock of the zone is put forward over this time, so no such time exists; correct it, "
        'or say "earlier" or "later"',
    )


def out_of_years() -> NoReturn:
    """Refuse to leave the calendar."""
    raise RuleError("date", "the date leaves the years 1 to 9999")


def is_day(text: str) -> bool:
    """True for a text in the form of a date without a time."""
    return len(text) == _DATE_LENGTH and text[4] == text[7] == "-"


def moment_in(value: Value, zone: dt.tzinfo, choice: ClockChange | None = None) -> dt.datetime:
    """The moment that an ISO text means, in the zone. A date alone is its midnight there.

    Raises:
        RuleError: it is no ISO date, or a time without an offset that the zone skips.
    """
    if type(value) is not str:
        raise RuleError("type", f"a date is text, there is {kind_name(value)}")
    try:
        if len(value) == _CANONICAL_LENGTH and value[-1] == "Z" and value[10] == "T":
            return dt.datetime.fromisoformat(value).astimezone(zone)
        if is_day(value):
            return dt.datetime.combine(dt.date.fromisoformat(value), dt.time(), zone)
        read = parse_datetime(value, zone)
        if read.tzinfo is not zone:
            return read.astimezone(zone)
        return _at_wall(read.replace(tzinfo=None), zone, choice)
    except (ValueError, OverflowError):
        no_date()


def _at_wall(wall: dt.datetime, zone: dt.tzinfo, choice: ClockChange | None) -> dt.datetime:
    if zone is dt.UTC:
        return wall.replace(tzinfo=dt.UTC)
    try:
        return moment_of_wall(wall, zone, choice).astimezone(zone)
    except SkippedTimeError:
        skipped()


def moment_by_pattern(
    value: Value, reader: PatternReader, zone: dt.tzinfo, choice: ClockChange | None = None
) -> dt.datetime:
    """The moment that a text means by a pattern, in the zone; %z in the pattern overrules the zone.

    Raises:
        RuleError: the text does not follow the pattern, or the zone skips the time.
    """
    text = checked_text(value)
    try:
        read = reader.read(text)
        if read.offset is not None:
            return read.wall.replace(tzinfo=dt.timezone(read.offset)).astimezone(zone)
        if not reader.has_time:
            return read.wall.replace(tzinfo=zone)
        return _at_wall(read.wall, zone, choice)
    except (ValueError, OverflowError):
        raise RuleError("date", "a text does not follow the pattern of its date") from None


@functools.lru_cache(maxsize=512)
def form_writer(form: str) -> Callable[[dt.datetime], str]:
    """The function that writes a moment as date, datetime, time, or by a pattern.

    Raises:
        ValueError: it is none of these.
    """
    if form == "datetime":
        return canonical_datetime
    if form in ("date", DATE_PATTERN):
        return _date_text
    if form == "time":
        return _time_text
    return pattern_writer(form)


def _date_text(moment: dt.datetime) -> str:
    return moment.date().isoformat()


def _time_text(moment: dt.datetime) -> str:
    return moment.time().isoformat("microseconds")


def zone_of(name: Value) -> dt.tzinfo:
    """The zone that an expression names."""
    try:
        return time_zone(checked_text(name))
    except ValueError:
        raise RuleError("date", "there is no time zone of that name; use one like Europe/London") from None


def writer_of(pattern: Value) -> Callable[[dt.datetime], str]:
    """The writer that an expression names by its pattern."""
    try:
        return form_writer(checked_text(pattern))
    except ValueError:
        raise RuleError(
            "date", f"the pattern cannot be used; it takes date, datetime, time, or {VALID}"
        ) from None


def reader_of(pattern: Value) -> PatternReader:
    """The reader that an expression names by its pattern."""
    try:
        return pattern_reader(checked_text(pattern))
    except ValueError:
        raise RuleError(
            "date", f"the pattern cannot be used; it names year, month and day once, by {READABLE}"
        ) from None
