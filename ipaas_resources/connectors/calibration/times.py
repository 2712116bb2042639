"""Time in the product's queries: watermarks in its zone, and windows that slice a long history."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from ipaas_resources.core.errors import ProtocolError, SystemBusyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ipaas_resources.connectors.calibration.client import Rows

    FetchWindow = Callable[[dt.datetime | None, dt.datetime | None], Awaitable[Rows]]

_SECOND = dt.timedelta(seconds=1)
_HOUR = dt.timedelta(hours=1)
#: A list of this many rows is no burden; one of MANY is.
_FEW, _MANY = 500, 5_000
_SHORTEST = dt.timedelta(days=1)


def local_floor(moment: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """A time of day in `zone`, without zone, which nothing at or after `moment` is before.

    In the hour before clocks are set back, later moments carry earlier times of day.
    """
    here = moment.astimezone(zone)
    later = (moment + _HOUR).astimezone(zone)
    fallen = (here.utcoffset() or dt.timedelta()) - (later.utcoffset() or dt.timedelta())
    return here.replace(tzinfo=None) - max(fallen, dt.timedelta())


def text(local: dt.datetime) -> str:
    """The product's spelling: seconds, no zone."""
    return local.replace(tzinfo=None).isoformat(timespec="seconds")


class Window:
    """Rows of one slice of history: of [start, end), open at the top when `end` is None."""

    __slots__ = ("answer", "end", "rows", "start")

    def __init__(
        self, answer: Rows, rows: list[dict[str, Any]], start: dt.datetime, end: dt.datetime | None
    ) -> None:
        self.answer = answer
        self.rows = rows
        self.start = start
        self.end = end


async def windows(
    fetch: FetchWindow, field: str | None, start: dt.datetime, now: dt.datetime, *, first: bool
) -> AsyncIterator[Window]:
    """All of history from `start` on, in windows that grow while they are light and shrink when they are heavy.

    `fetch(after, before)` asks for times strictly between (None: no bound); a window asks for a second more at its
    start and keeps the rows whose `field` lies inside, so no row is missed or doubled at an edge. Without a `field` (documents carry
    no time) the rows of an edge may come twice. The first window (`first`) takes in all that is older, the last has
    no upper bound, so a row that moves up during the scan is seen there. Times are naive, in the product's zone.

    Raises:
        SystemBusyError: two windows in a row could not be had, the second half the length of the first.
    """
    length = dt.timedelta(days=90)
    failed = False
    while True:
        end: dt.datetime | None = start + length
        if end is not None and end >= now:
            end = None
        lower = None if first else start
        try:
            answer = await fetch(None if first else start - _SECOND, end)
        except (SystemBusyError, ProtocolError):
            length = min(length, now - start if end is None else length) / 2
            if failed or length < _SHORTEST:
                raise
            failed = True
            continue
        failed = False
        yield Window(answer, _inside(answer.rows, field, lower, end), start, end)
        if end is None:
            return
        if len(answer.rows) < _FEW:
            length *= 2
        elif len(answer.rows) > _MANY:
            length = max(length / 2, _SHORTEST)
        start, first = end, False


def _inside(
    rows: list[dict[str, Any]], field: str | None, lower: dt.datetime | None, end: dt.datetime | None
) -> list[dict[str, Any]]:
    if field is None:
        return rows
    low, high = text(lower) if lower is not None else "", text(end) if end is not None else "~"
    return [row for row in rows if low <= str(row.get(field) or "") < high]
