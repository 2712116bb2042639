"""The window in which a flow may write: open exactly while the clock on the wall of its zone shows a time inside it.

By the clock on the wall, so that what a person reads off it is what happens where it is put forward or back: a time that
the clock shows twice is inside both times, and a window whose first time is skipped opens at the jump.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, PlainValidator

from mappings.rules import SpecModel
from mappings.zones import ZoneName, time_zone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.yaml_text import Yaml

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_MIDNIGHT: Final = dt.time()
_DAY: Final = dt.timedelta(days=1)
#: Days looked at: a window that opens on one day of the week finds its hour skipped by the clock at most once in a row.
_LOOK_AHEAD: Final = 17
#: Days for which time inside a window is counted; whatever waits for longer is late by any measure.
_LONGEST_COUNT: Final = dt.timedelta(days=400)


def _parse_days(value: Yaml) -> tuple[int, ...]:
    if isinstance(value, tuple):
        return value
    if value == "all":
        return tuple(range(len(_DAYS)))
    parts = value.split(",") if isinstance(value, str) else value
    days: set[int] = set()
    for part in parts if isinstance(parts, list) else [""]:
        first, dash, last = str(part).strip().lower().partition("-")
        last = last.strip() if dash else first.strip()
        if first.strip() not in _DAYS or last not in _DAYS:
            raise ValueError(f"days are written mon-fri, mon,wed or all. Valid: {', '.join(_DAYS)}")
        start, end = _DAYS.index(first.strip()), _DAYS.index(last)
        days.update(day % 7 for day in range(start, end + 1 if end >= start else end + 8))
    if not days:
        raise ValueError("a window has at least one day; leave `days` out for all of them")
    return tuple(sorted(days))


def _parse_opens(value: Yaml) -> dt.time:
    if isinstance(value, dt.time):
        return value
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a time of day is text such as "07:00"')
    return dt.time(int(match[1]), int(match[2]))


def _parse_closes(value: Yaml) -> dt.time:
    # The end of the day is the midnight after it.
    return _MIDNIGHT if value == "24:00" else _parse_opens(value)


class Window(SpecModel):
    """When a flow may write. Outside of it work is held, not lost.

    A window whose end is not after its start runs past midnight and belongs to the day on which it opens; one whose end
    is its start lasts 24 hours.
    """

    days: Annotated[tuple[int, ...], PlainValidator(_parse_days)] = (0, 1, 2, 3, 4, 5, 6)
    opens: Annotated[dt.time, PlainValidator(_parse_opens)] = Field(alias="from", default=_MIDNIGHT)
    closes: Annotated[dt.time, PlainValidator(_parse_closes)] = Field(alias="to", default=_MIDNIGHT)
    tz: ZoneName = "UTC"

    def is_open(self, moment: dt.datetime) -> bool:
        """True when the flow may write at this moment (with its zone)."""
        wall = moment.astimezone(time_zone(self.tz))
        today, time = wall.weekday() in self.days, wall.time()
        if self.closes > self.opens:
            return today and self.opens <= time < self.closes
        yesterday = (wall.weekday() - 1) % 7 in self.days
        return (today and time >= self.opens) or (yesterday and time < self.closes)

    def next_open(self, moment: dt.datetime) -> dt.datetime:
        """The moment itself while the window is open, else the moment (UTC) when it opens next."""
        return moment if self.is_open(moment) else self._next_edge(moment, opening=True)

    def next_close(self, moment: dt.datetime) -> dt.datetime | None:
        """The moment (UTC) when the window closes next; the moment itself while it is closed, None: it never does."""
        if not self.is_open(moment):
            return moment
        if self.closes == self.opens and len(self.days) == len(_DAYS):
            return None
        return self._next_edge(moment, opening=False)

    def open_between(self, since: dt.datetime, until: dt.datetime) -> dt.timedelta:
        """For how long of the time between two moments the window was open.

        Of more than a year the last part is counted alone: nobody waits for longer without being late.
        """
        total = dt.timedelta()
        at = max(since, until - _LONGEST_COUNT)
        while (at := self.next_open(at)) < until:
            end = self.next_close(at)
            end = until if end is None else min(end, until)
            total += end - at
            at = end
        return total

    def _next_edge(self, moment: dt.datetime, *, opening: bool) -> dt.datetime:
        for edge in self._edges(moment):
            if edge > moment and self.is_open(edge) is opening:
                return edge
        raise AssertionError("a window that can be closed opens, and closes again, within two weeks")

    def _edges(self, moment: dt.datetime) -> list[dt.datetime]:
        """Every moment around and after this one, in order, at which the window could change: its times, the zone's jumps."""
        zone = time_zone(self.tz)
        yesterday = moment.astimezone(zone).date() - _DAY
        found: set[dt.datetime] = set()
        for day in (yesterday + ahead * _DAY for ahead in range(_LOOK_AHEAD)):
            found.update(_jumps(zone, day))
            for time in (self.opens, self.closes):
                for fold in (0, 1):
                    found.add(dt.datetime.combine(day, time.replace(fold=fold), zone).astimezone(dt.UTC))
        return sorted(found)


def _jumps(zone: dt.tzinfo, day: dt.date) -> Iterator[dt.datetime]:
    """The moments (UTC) at which the zone's clock is put forward or back, between this day's noon and that before."""
    early = dt.datetime.combine(day - _DAY, dt.time(12), dt.UTC)
    late = early + _DAY
    before = early.astimezone(zone).utcoffset()
    if late.astimezone(zone).utcoffset() == before:
        return
    while late - early > dt.timedelta(seconds=1):
        middle = early + dt.timedelta(seconds=(late - early) // dt.timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    yield late


def in_words(moment: dt.datetime, tz: str, *, now: dt.datetime) -> str:
    """A coming moment as people of that zone write it: Mon 07:00 Europe/London; with its date when that is far off."""
    wall = moment.astimezone(time_zone(tz))
    date = f"{wall:%Y-%m-%d} " if moment - now >= 6 * _DAY else ""
    return f"{_DAYS[wall.weekday()].capitalize()} {date}{wall:%H:%M} {tz}"
