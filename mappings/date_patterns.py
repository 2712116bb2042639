"""Patterns of dates, %d.%m.%Y: how a date is written and read.

Own code, for strftime and strptime differ between systems and languages: years before 1000, names, unknown codes.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Callable
from typing import Final

import msgspec

DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July",
    "August", "September", "October", "November", "December",
)  # fmt: skip
NOON: Final = 12
LONGEST_PATTERN: Final = 100
LONGEST_DATE: Final = 200  # characters of a text that is read

Piece = str | Callable[[dt.datetime], str]


def _offset(moment: dt.datetime) -> str:
    offset = moment.utcoffset() or dt.timedelta()
    sign = "-" if offset < dt.timedelta() else "+"
    minutes, seconds = divmod(int(abs(offset).total_seconds()), 60)
    text = f"{sign}{minutes // 60:02d}{minutes % 60:02d}"
    return f"{text}{seconds:02d}" if seconds else text


_CODES: Final[dict[str, Callable[[dt.datetime], str]]] = {
    "Y": lambda moment: f"{moment.year:04d}",
    "y": lambda moment: f"{moment.year % 100:02d}",
    "m": lambda moment: f"{moment.month:02d}",
    "d": lambda moment: f"{moment.day:02d}",
    "H": lambda moment: f"{moment.hour:02d}",
    "I": lambda moment: f"{(moment.hour - 1) % NOON + 1:02d}",
    "p": lambda moment: "AM" if moment.hour < NOON else "PM",
    "M": lambda moment: f"{moment.minute:02d}",
    "S": lambda moment: f"{moment.second:02d}",
    "f": lambda moment: f"{moment.microsecond:06d}",
    "j": lambda moment: f"{moment.timetuple().tm_yday:03d}",
    "a": lambda moment: DAYS[moment.weekday()][:3],
    "A": lambda moment: DAYS[moment.weekday()],
    "b": lambda moment: MONTHS[moment.month - 1][:3],
    "B": lambda moment: MONTHS[moment.month - 1],
    "u": lambda moment: str(moment.isoweekday()),
    "V": lambda moment: f"{moment.isocalendar().week:02d}",
    "G": lambda moment: f"{moment.isocalendar().year:04d}",
    "z": _offset,
    "%": lambda _moment: "%",
}
VALID: Final = ", ".join(f"%{code}" for code in _CODES)

#: How a code is read: the digits at most (as many as that where another number touches it, else one or more).
_WIDTHS: Final = {"Y": 4, "y": 2, "m": 2, "d": 2, "H": 2, "I": 2, "M": 2, "S": 2, "f": 6, "j": 3}
_ALWAYS_FULL: Final = frozenset("Yy")
_NAMES: Final = {
    "a": tuple(day[:3] for day in DAYS),
    "A": DAYS,
    "b": tuple(month[:3] for month in MONTHS),
    "B": MONTHS,
    "p": ("AM", "PM"),
}
_DIGITS: Final = frozenset("0123456789")
_OFFSET: Final = re.compile(r"z|[+-][0-9]{2}:?[0-9]{2}")
_SMALL_NAMES: Final = {code: tuple(name.lower() for name in names) for code, names in _NAMES.items()}
READABLE: Final = ", ".join(f"%{code}" for code in (*_WIDTHS, *_NAMES, "z", "%"))


def _tokens(pattern: str) -> list[tuple[str, str]]:
    """(code, literal): one of the two is ''."""
    found: list[tuple[str, str]] = []
    rest = iter(pattern)
    for character in rest:
        if character != "%":
            found.append(("", character))
            continue
        code = next(rest, "")
        if code not in _CODES or not code:
            raise ValueError(f"%{code} is not a code of a date pattern. Valid: {VALID}")
        found.append(("", "%") if code == "%" else (code, ""))
    return found


def checked_pattern(pattern: str) -> str:
    """A pattern with known codes.

    Raises:
        ValueError: it has none, or one that is unknown, or is too long.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"the pattern is longer than {LONGEST_PATTERN} characters")
    if not any(code for code, _literal in _tokens(pattern)):
        raise ValueError(f"{pattern!r} is no form of a date; write a pattern like %d.%m.%Y")
    return pattern


@functools.lru_cache(maxsize=512)
def pattern_writer(pattern: str) -> Callable[[dt.datetime], str]:
    """The function that writes a moment by a pattern. Raises ValueError, see checked_pattern."""
    pieces: list[Piece] = [
        _CODES[code] if code else literal for code, literal in _tokens(checked_pattern(pattern))
    ]

    def write(moment: dt.datetime) -> str:
        return "".join([piece if piece.__class__ is str else piece(moment) for piece in pieces])  # type: ignore[operator]

    return write


class Read(msgspec.Struct, frozen=True):
    """A date and time as a text spells them, without a zone, and the offset from UTC where the text names one."""

    wall: dt.datetime
    offset: dt.timedelta | None


class PatternReader:
    """Reads dates by one pattern. Numbers may lack leading zeros where no other number touches them."""

    def __init__(self, pattern: str) -> None:
        tokens = _tokens(checked_pattern(pattern))
        self.codes = tuple(code for code, _literal in tokens if code)
        self._check(self.codes)
        #: (code, literal in small letters, digits at least)
        self._pieces: list[tuple[str, str, int]] = []
        for place, (code, literal) in enumerate(tokens):
            if code:
                self._pieces.append((code, "", _least(tokens, place)))
            elif self._pieces and not self._pieces[-1][0]:
                self._pieces[-1] = ("", self._pieces[-1][1] + _small(literal), 0)
            else:
                self._pieces.append(("", _small(literal), 0))
        self.has_time = not {"H", "I"}.isdisjoint(self.codes)

    @staticmethod
    def _check(codes: tuple[str, ...]) -> None:
        unknown = [code for code in codes if code not in _WIDTHS and code not in _NAMES and code != "z"]
        if unknown:
            raise ValueError(f"%{unknown[0]} can be written, not read. Valid: {READABLE}")
        if len(set(codes)) < len(codes):
            raise ValueError("a code stands twice in the pattern")
        has = set(codes)
        if len(has & {"Y", "y"}) != 1:
            raise ValueError("the pattern needs one year, %Y or %y")
        by_month = len(has & {"m", "b", "B"}) == 1 and "d" in has
        if by_month == ("j" in has) or ("j" in has and has & {"m", "b", "B", "d"}):
            raise ValueError("the pattern needs one month and a day (%m and %d), or the day of the year (%j)")
        if len(has & {"H", "I"}) > 1 or ("I" in has) != ("p" in has):
            raise ValueError("hours are %H, or %I with %p")

    def read(self, text: str) -> Read:
        """What the text spells.

        Raises:
            ValueError: it does not follow the pattern, or there is no such date.
        """
        if len(text) > LONGEST_DATE:
            raise ValueError("the text is longer than a date")
        found = self._found(text.strip())
        number = {code: int(found[code]) for code in found if code in _WIDTHS}
        day = self._day(found, number)
        hour = number.get("H", 0)
        if "I" in number:
            if not 1 <= number["I"] <= NOON:
                raise ValueError("hours with AM and PM go from 1 to 12")
            hour = number["I"] % NOON + (NOON if found["p"].upper() == "PM" else 0)
        micros = int(found["f"].ljust(6, "0")) if "f" in found else 0
        wall = dt.datetime.combine(day, dt.time(hour, number.get("M", 0), number.get("S", 0), micros))
        return Read(wall, _read_offset(found["z"]) if "z" in found else None)

    def _found(self, text: str) -> dict[str, str]:
        """What stands at each code. Read from left to right: no number is followed by a digit that is not its own."""
        found: dict[str, str] = {}
        small = _small(text)
        at = 0
        for code, literal, least in self._pieces:
            if not code:
                if not small.startswith(literal, at):
                    raise ValueError("the text does not follow the pattern")
                at += len(literal)
            else:
                end = _end_of(code, least, small, at)
                found[code] = text[at:end]
                at = end
        if at != len(text):
            raise ValueError("the text goes on after the pattern")
        return found

    @staticmethod
    def _day(found: dict[str, str], number: dict[str, int]) -> dt.date:
        # Two digits of a year as POSIX has it: 69 to 99 are of the last century.
        year = number["Y"] if "Y" in number else number["y"] + (1900 if number["y"] >= 69 else 2000)  # noqa: PLR2004
        if "j" in number:
            day = dt.date(year, 1, 1) + dt.timedelta(days=number["j"] - 1)
            if day.year != year:
                raise ValueError("the year has no such day")
        else:
            month = number["m"] if "m" in number else _name_place(found, "b", "B") + 1
            day = dt.date(year, month, number["d"])
        if ("a" in found or "A" in found) and _name_place(found, "a", "A") != day.weekday():
            raise ValueError("the name of the day is that of another day")
        return day


def _least(tokens: list[tuple[str, str]], place: int) -> int:
    """How many digits a number has at least: all of them where another number touches it."""
    code = tokens[place][0]
    if code not in _WIDTHS:
        return 0
    touched = _is_number(tokens, place - 1) or _is_number(tokens, place + 1)
    return _WIDTHS[code] if touched or code in _ALWAYS_FULL else 1


def _small(text: str) -> str:
    """The text in small letters, character for character: the small letter of some is two, which would shift places."""
    if text.isascii():
        return text.lower()
    return "".join(small if len(small := letter.lower()) == 1 else letter for letter in text)


def _end_of(code: str, least: int, text: str, at: int) -> int:
    """Where the piece of a code ends that begins at `at` of a text in small letters."""
    width = _WIDTHS.get(code)
    if width is not None:
        end = at
        while end < at + width and text[end : end + 1] in _DIGITS:
            end += 1
        if end - at < least:
            raise ValueError("the text lacks the digits of the pattern")
        return end
    if code == "z":
        match = _OFFSET.match(text, at)
        if match is None:
            raise ValueError("the text names no offset")
        return match.end()
    for name in _SMALL_NAMES[code]:
        if text.startswith(name, at):
            return at + len(name)
    raise ValueError("the text has no name where the pattern has one")


def _is_number(tokens: list[tuple[str, str]], place: int) -> bool:
    if not 0 <= place < len(tokens):
        return False
    code, literal = tokens[place]
    return code in _WIDTHS or literal.isdigit()


def _name_place(found: dict[str, str], short: str, long: str) -> int:
    name = (found[short] if short in found else found[long]).lower()
    return _SMALL_NAMES[short if short in found else long].index(name)


def _read_offset(text: str) -> dt.timedelta:
    if text in "Zz":
        return dt.timedelta()
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours >= 24 or minutes >= 60:  # noqa: PLR2004 - a day and an hour
        raise ValueError("there is no such offset")
    return dt.timedelta(hours=hours, minutes=minutes) * (-1 if text[0] == "-" else 1)


@functools.lru_cache(maxsize=512)
def pattern_reader(pattern: str) -> PatternReader:
    """The reader of a pattern.

    Raises:
        ValueError: a code is unknown or cannot be read, or the pattern does not make a whole date.
    """
    return PatternReader(pattern)
