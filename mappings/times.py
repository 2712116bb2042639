"""The times of a flow: durations (15s, 4h), cron lines, and the window in which a flow may write."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, Field, PlainValidator

from mappings.rules import SpecModel
from mappings.zones import ZoneName, time_zone

if TYPE_CHECKING:
    from mappings.yaml_text import Yaml

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])")


def parse_duration(value: Yaml) -> dt.timedelta:
    """A duration such as 15s, 15m, 4h, 2d.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, dt.timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError("this is no duration; write a number and s, m, h or d, such as 15s or 4h")
    return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})


Duration = Annotated[dt.timedelta, PlainValidator(parse_duration)]

_CRON_FIELDS: Final = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 7),
)
_CRON_PART: Final = re.compile(r"(?:\*|([0-9]{1,2})(?:-([0-9]{1,2}))?)(?:/([0-9]{1,2}))?")


def checked_cron(line: str) -> str:
    """A cron line of five fields, such as 0 2 * * 0.

    Raises:
        ValueError: it is none; the message names the field.
    """
    fields = line.split()
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError("a schedule has five fields: minute, hour, day of the month, month, day of the week")
    for field, (name, low, high) in zip(fields, _CRON_FIELDS, strict=True):
        for part in field.split(","):
            match = _CRON_PART.fullmatch(part)
            numbers = [int(number) for number in match.groups()[:2] if number] if match else []
            in_range = all(low <= number <= high for number in numbers) and numbers == sorted(numbers)
            if match is None or not in_range or match[3] == "0":
                raise ValueError(
                    f"{part!r} is no {name} of a schedule; use *, a number from {low} to {high}, 1-5, or */15"
                )
    return " ".join(fields)


Cron = Annotated[str, AfterValidator(checked_cron)]

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


def _parse_days(value: Yaml) -> tuple[int, ...]:
    if isinstance(value, tuple):
        return value
    parts = value.split(",") if isinstance(value, str) else value
    days: set[int] = set()
    for part in parts if isinstance(parts, list) else [""]:
        first, dash, last = str(part).strip().lower().partition("-")
        last = last if dash else first
        if first not in _DAYS or last not in _DAYS:
            raise ValueError(f"days are written mon-fri or mon,wed. Valid: {', '.join(_DAYS)}")
        start, end = _DAYS.index(first), _DAYS.index(last)
        days.update(day % 7 for day in range(start, end + 1 if end >= start else end + 8))
    return tuple(sorted(days))


def _parse_time(value: Yaml) -> dt.time:
    if isinstance(value, dt.time):
        return value
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a time of day is text such as "07:00"')
    return dt.time(int(match[1]), int(match[2]))


_MOST_DAYS_AHEAD: Final = 9


class Window(SpecModel):
    """When a flow may write. Outside of it work is held, not lost.

    A window whose end is not after its start runs past midnight and belongs to the day on which it opens.
    """

    days: Annotated[tuple[int, ...], PlainValidator(_parse_days)] = (0, 1, 2, 3, 4, 5, 6)
    opens: Annotated[dt.time, PlainValidator(_parse_time)] = Field(alias="from", default=dt.time())
    closes: Annotated[dt.time, PlainValidator(_parse_time)] = Field(alias="to", default=dt.time())
    tz: ZoneName = "UTC"

    def is_open(self, moment: dt.datetime) -> bool:
        """True when the flow may write at this moment (with its zone)."""
        return self.next_open(moment) == moment

    def next_open(self, moment: dt.datetime) -> dt.datetime:
        """The moment itself while the window is open, else the moment (UTC) when it opens next."""
        zone = time_zone(self.tz)
        today = moment.astimezone(zone).date()
        for ahead in range(-1, _MOST_DAYS_AHEAD):
            day = today + dt.timedelta(days=ahead)
            if day.weekday() not in self.days:
                continue
            # Wall-clock times are combined per day, so a window opens at 07:00 on both sides of a clock change.
            start = dt.datetime.combine(day, self.opens, zone).astimezone(dt.UTC)
            end_day = day if self.closes > self.opens else day + dt.timedelta(days=1)
            end = dt.datetime.combine(end_day, self.closes, zone).astimezone(dt.UTC)
            if start <= moment < end:
                return moment
            if moment < start:
                return start
        raise AssertionError("a window has at least one day in nine")
