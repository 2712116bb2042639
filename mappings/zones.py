"""Named time zones, and what a clock on the wall means where it is put forward or back.

The zones come from the tzdata package alone, never from the machine, so that every machine gives the same answer.
"""

from __future__ import annotations

import datetime as dt
import functools
import importlib.resources
import zoneinfo
from importlib.resources.abc import Traversable
from typing import Annotated, Final, Literal

from pydantic import AfterValidator

ClockChange = Literal["earlier", "later"]
"""Which moment is meant by a time that the clock shows twice or skips."""

CLOCK_CHANGES: Final[tuple[ClockChange, ...]] = ("earlier", "later")


class SkippedTimeError(ValueError):
    """A clock that is put forward never shows this time."""


@functools.cache
def zone_names() -> frozenset[str]:
    """Every zone there is."""
    return frozenset(_folder().joinpath("zones").read_text("utf-8").split())


@functools.cache
def _folder() -> Traversable:
    return importlib.resources.files("tzdata")


@functools.cache
def time_zone(name: str) -> dt.tzinfo:
    """The zone of this name.

    Raises:
        ValueError: there is none; names are spelled exactly, Europe/London.
    """
    if name == "UTC":
        return dt.UTC
    if name not in zone_names():
        raise ValueError("there is no time zone of that name; use one like Europe/London or UTC")
    with _folder().joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file, key=name)


def checked_zone(name: str) -> str:
    """The name of a time zone. Raises ValueError when there is none of that name."""
    try:
        time_zone(name)
    except ValueError:
        raise ValueError(f"{name!r} is no time zone; use a name like Europe/London or UTC") from None
    return name


ZoneName = Annotated[str, AfterValidator(checked_zone)]


def moment_of_wall(wall: dt.datetime, zone: dt.tzinfo, choice: ClockChange | None = None) -> dt.datetime:
    """The moment (UTC) at which a clock in the zone shows this time (without a zone).

    A time that the clock shows twice is the earlier one unless `choice` says later. A time that it skips is the
    moment reckoned with the offset after the change (earlier) or before it (later).

    Raises:
        SkippedTimeError: the clock skips the time and no choice is made.
        OverflowError: the moment leaves the years 1 to 9999.
    """
    first = wall.replace(tzinfo=zone, fold=0)
    second = wall.replace(tzinfo=zone, fold=1)
    before, after = first.utcoffset(), second.utcoffset()
    assert before is not None
    assert after is not None
    if before < after and choice is None:
        raise SkippedTimeError("the clock of the zone skips this time")
    earlier, later = (first, second) if before >= after else (second, first)
    return (later if choice == "later" else earlier).astimezone(dt.UTC)
