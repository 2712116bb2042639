"""`date`: a date or a time in another form or zone."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from ipaas_resources.core.values import Value
from mappings.date_patterns import checked_pattern as checked_own_pattern
from mappings.date_patterns import pattern_reader
from mappings.expressions.moments import (
    DATE_PATTERN,
    FORMS,
    form_writer,
    moment_by_pattern,
    moment_in,
    out_of_years,
)
from mappings.kinds import TEXT, Gives, SourceTypes, kind
from mappings.rules import AnyRule, Rule, SpecModel
from mappings.zones import ClockChange, ZoneName, checked_zone, time_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mappings.codegen import Code
    from mappings.yaml_text import Yaml

__all__ = ["RULES", "Date", "DateSource", "ZoneName", "checked_pattern", "checked_zone", "date_writer"]


def checked_pattern(pattern: str) -> str:
    """The word or pattern of `to`.

    Raises:
        ValueError: it is neither date, datetime or time nor a pattern with known codes.
    """
    if pattern in FORMS:
        return pattern
    if "%" not in pattern:
        raise ValueError(
            f"{pattern!r} is no form of a date. Valid: date, datetime, time, or a pattern like %d.%m.%Y"
        )
    return checked_own_pattern(pattern)


def _readable(pattern: str) -> str:
    pattern_reader(pattern)
    return pattern


def _named_by_pattern(value: Yaml) -> Yaml:
    return {"pattern": value} if isinstance(value, str) else value


class DateSource(SpecModel):
    """How the source writes its dates, where it is not the ISO form in the zone of the rule."""

    pattern: Annotated[str, AfterValidator(_readable)] | None = None
    tz: ZoneName | None = None
    #: What is meant by a time that a clock shows twice or skips; None: the earlier, and an error.
    clock_change: ClockChange | None = None


@functools.lru_cache(maxsize=1_024)
def date_writer(
    to: str,
    zone_name: str,
    *,
    pattern: str | None = None,
    from_zone: str | None = None,
    clock_change: ClockChange | None = None,
) -> Callable[[Value], str | None]:
    """The function that turns a date or datetime into this form, in this zone. Null and "" are null.

    `pattern`, `from_zone` and `clock_change` say how it is read: see DateSource.
    """
    zone = time_zone(zone_name)
    near = zone if from_zone is None else time_zone(from_zone)
    write = form_writer(to)
    reader = None if pattern is None else pattern_reader(pattern)

    def converted(value: Value) -> str | None:
        if value is None or value == "":
            return None
        moment = (
            moment_in(value, near, clock_change)
            if reader is None
            else moment_by_pattern(value, reader, near, clock_change)
        )
        try:
            return write(moment if near is zone else moment.astimezone(zone))
        except OverflowError:
            out_of_years()

    return converted


class Date(Rule):
    """A date or a time in another form or zone."""

    word: ClassVar[str] = "date"

    date: AnyRule
    to: Annotated[str, AfterValidator(checked_pattern)] = "date"
    tz: ZoneName = "UTC"
    from_: Annotated[DateSource | None, BeforeValidator(_named_by_pattern)] = Field(
        alias="from", default=None
    )

    def compile(self, code: Code) -> str:
        """A call of the writer for this form and zone."""
        source = self.from_ or DateSource()
        writer = date_writer(
            self.to,
            self.tz,
            pattern=source.pattern,
            from_zone=source.tz,
            clock_change=source.clock_change,
        )
        return f"{code.shared.bind(writer, 'date')}({self.date.compile(code)})"

    def explain(self) -> str:
        """In words."""
        form = {"date": "as a date", "datetime": "as a date and time", "time": "as a time of day"}
        source = self.from_ or DateSource()
        read = f", read as {source.pattern}" if source.pattern else ""
        near = f", from the time of {source.tz}" if source.tz else ""
        written = form.get(self.to, f"written as {self.to}")
        return f"{self.date.explain()}{read}{near} {written}, in the time of {self.tz}"

    def gives(self, types: SourceTypes) -> Gives:
        """A date, a time, or text of a pattern."""
        del types
        if self.to in FORMS:
            return kind(self.to)
        return kind("date") if self.to == DATE_PATTERN else TEXT

    def parts(self) -> Iterator[tuple[str, Rule]]:
        """The rule that gives the date."""
        yield "date", self.date


RULES = (Date,)
