"""The times of a flow: durations (15s, 4h) and cron lines."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, PlainValidator

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
