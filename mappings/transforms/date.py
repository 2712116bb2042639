"""`date`: a date or a time in another form or zone."""

from __future__ import annotations

import datetime as dt
import functools
import zoneinfo
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

from pydantic import AfterValidator

from ipaas_resources.core.values import Value, canonical_datetime, parse_datetime
from mappings.expressions.guards import RuleError, kind_name
from mappings.kinds import TEXT, Gives, SourceTypes, kind
from mappings.rules import AnyRule, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mappings.codegen import Code

_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July",
    "August", "September", "October", "November", "December",
)  # fmt: skip

#: The codes of a pattern. Own code, for strftime differs between systems (years before 1000, local names).
_CODES: Final[dict[str, Callable[[dt.datetime], str]]] = {
    "Y": lambda moment: f"{moment.year:04d}",
    "y": lambda moment: f"{moment.year % 100:02d}",
    "m": lambda moment: f"{moment.month:02d}",
    "d": lambda moment: f"{moment.day:02d}",
    "H": lambda moment: f"{moment.hour:02d}",
    "I": lambda moment: f"{(moment.hour - 1) % 12 + 1:02d}",
    "p": lambda moment: "AM" if moment.hour < 12 else "PM",  # noqa: PLR2004 - noon
    "M": lambda moment: f"{moment.minute:02d}",
    "S": lambda moment: f"{moment.second:02d}",
    "f": lambda moment: f"{moment.microsecond:06d}",
    "j": lambda moment: f"{moment.timetuple().tm_yday:03d}",
    "a": lambda moment: _DAYS[moment.weekday()][:3],
    "A": lambda moment: _DAYS[moment.weekday()],
    "b": lambda moment: _MONTHS[moment.month - 1][:3],
    "B": lambda moment: _MONTHS[moment.month - 1],
    "u": lambda moment: str(moment.isoweekday()),
    "V": lambda moment: f"{moment.isocalendar().week:02d}",
    "G": lambda moment: f"{moment.isocalendar().year:04d}",
    "z": lambda moment: moment.strftime("%z"),
    "%": lambda _moment: "%",
}
_WORDS: Final = ("date", "datetime", "time")
_LONGEST_PATTERN: Final = 100
_DATE_PATTERN: Final = "%Y-%m-%d"  # what a canonical date looks like


def _pattern_pieces(pattern: str) -> list[str | Callable[[dt.datetime], str]]:
    pieces: list[str | Callable[[dt.datetime], str]] = []
    rest = iter(pattern)
    for character in rest:
        if character != "%":
            pieces.append(character)
            continue
        code = next(rest, "")
        if code not in _CODES or not code:
            valid = ", ".join(f"%{known}" for known in _CODES)
            raise ValueError(f"%{code} is not a code of a date pattern. Valid: {valid}")
        pieces.append(_CODES[code])
    return pieces


def checked_pattern(pattern: str) -> str:
    """The word or pattern of `to`.

    Raises:
        ValueError: it is neither date, datetime or time nor a pattern with known codes.
    """
    if pattern in _WORDS:
        return pattern
    if "%" not in pattern:
        raise ValueError(
            f"{pattern!r} is no form of a date. Valid: date, datetime, time, or a pattern like %d.%m.%Y"
        )
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(f"the pattern is longer than {_LONGEST_PATTERN} characters")
    _pattern_pieces(pattern)
    return pattern


def checked_zone(name: str) -> str:
    """The name of a time zone. Raises ValueError when there is none of that name."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone; use a name like Europe/London or UTC") from None
    return name


ZoneName = Annotated[str, AfterValidator(checked_zone)]

_DATE_LENGTH: Final = 10
_CANONICAL_LENGTH: Final = len("2026-01-15T13:58:10.123456Z")


def _moment(value: Value, zone: dt.tzinfo) -> dt.datetime:
    """The moment in the zone; a date alone is its midnight there."""
    if type(value) is not str:
        raise RuleError("type", f"a date is text, there is {kind_name(value)}")
    try:
        if len(value) == _DATE_LENGTH and value[4] == value[7] == "-":
            return dt.datetime.combine(dt.date.fromisoformat(value), dt.time(), zone)
        if len(value) == _CANONICAL_LENGTH and value[-1] == "Z" and value[10] == "T":
            return dt.datetime.fromisoformat(value).astimezone(zone)
        return parse_datetime(value, zone).astimezone(zone)
    except (ValueError, OverflowError):
        raise RuleError(
            "date", "a text is no ISO date; 2026-01-15 or 2026-01-15T13:58:10Z is needed"
        ) from None


@functools.cache
def date_writer(to: str, zone_name: str) -> Callable[[Value], str | None]:
    """The function that turns a canonical date or datetime into this form, in this zone. Null and "" are null."""
    zone: dt.tzinfo = dt.UTC if zone_name == "UTC" else zoneinfo.ZoneInfo(zone_name)
    write: Callable[[dt.datetime], str]
    if to == "datetime":
        write = canonical_datetime
    elif to == "date":
        write = _date_text
    elif to == "time":
        write = _time_text
    elif to == _DATE_PATTERN:
        write = _date_text
    else:
        pieces = _pattern_pieces(to)

        def write(moment: dt.datetime) -> str:
            return "".join([piece if piece.__class__ is str else piece(moment) for piece in pieces])  # type: ignore[operator]

    def converted(value: Value) -> str | None:
        if value is None or value == "":
            return None
        try:
            return write(_moment(value, zone))
        except OverflowError:
            raise RuleError("date", "the date leaves the years 1 to 9999 in this zone") from None

    return converted


def _date_text(moment: dt.datetime) -> str:
    return moment.date().isoformat()


def _time_text(moment: dt.datetime) -> str:
    return moment.strftime("%H:%M:%S.%f")


class Date(Rule):
    """A date or a time in another form or zone."""

    word: ClassVar[str] = "date"

    date: AnyRule
    to: Annotated[str, AfterValidator(checked_pattern)] = "date"
    tz: ZoneName = "UTC"

    def compile(self, code: Code) -> str:
        """A call of the writer for this form and zone."""
        return f"{code.shared.bind(date_writer(self.to, self.tz), 'date')}({self.date.compile(code)})"

    def explain(self) -> str:
        """In words."""
        form = {"date": "as a date", "datetime": "as a date and time", "time": "as a time of day"}
        return f"{self.date.explain()} {form.get(self.to, f'written as {self.to}')}, in the time of {self.tz}"

    def gives(self, types: SourceTypes) -> Gives:
        """A date, a time, or text of a pattern."""
        del types
        if self.to in _WORDS:
            return kind(self.to)
        return kind("date") if self.to == _DATE_PATTERN else TEXT

    def parts(self) -> Iterator[tuple[str, Rule]]:
        """The rule that gives the date."""
        yield "date", self.date


RULES = (Date,)
