"""What kinds of value a rule can make, as far as the schemas tell."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from ipaas_resources.core.values import Value, unescape_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.core.schema import FieldSchema


class Gives(msgspec.Struct, frozen=True):
    """What can come out of a rule. None of a limit: nobody knows it."""

    #: Field types of core/schema.py, and "number": whole or not, as the calculation goes. Empty: only null.
    kinds: frozenset[str]
    #: Every value that can come out, where it is known: constants, members of an enum.
    values: tuple[Value, ...] | None = None
    #: Characters of the longest text, where the schemas bound it.
    max_length: int | None = None
    #: Most digits after the point of a number.
    scale: int | None = None
    minimum: float | None = None
    maximum: float | None = None

    def joined(self, other: Gives) -> Gives:
        """Either of the two."""
        if not self.kinds or not other.kinds:
            return other if not self.kinds else self
        both = None if self.values is None or other.values is None else (*self.values, *other.values)
        return Gives(
            self.kinds | other.kinds,
            both,
            _larger(text_length(self), text_length(other)),
            _larger(digits_after_point(self), digits_after_point(other)),
            None if self.minimum is None or other.minimum is None else min(self.minimum, other.minimum),
            None if self.maximum is None or other.maximum is None else max(self.maximum, other.maximum),
        )


NOTHING: Final = Gives(frozenset())
ANY: Final = Gives(frozenset({"any"}))
TEXT: Final = Gives(frozenset({"text"}))
NUMBER: Final = Gives(frozenset({"number"}))
BOOLEAN: Final = Gives(frozenset({"boolean"}))


NUMBERS: Final = frozenset({"integer", "decimal", "number"})

#: Characters of the canonical text of kinds that have one length; see core/values.py.
_LENGTHS: Final = {"boolean": 5, "date": 10, "datetime": 27, "time": 15, "guid": 36}


def _larger(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def kind(name: str) -> Gives:
    """Values of one kind."""
    return Gives(frozenset({name}))


def text_of(max_length: int | None) -> Gives:
    """Text of at most so many characters."""
    return Gives(frozenset({"text"}), max_length=max_length)


def text_length(gives: Gives) -> int | None:
    """The most characters that the values have as text, None where nobody knows. Null is no text."""
    if gives.values is not None:
        return max((characters(value) for value in gives.values), default=0)
    if gives.max_length is not None:
        return gives.max_length
    lengths = [_LENGTHS.get(name) for name in gives.kinds]
    known = [length for length in lengths if length is not None]
    return max(known, default=0) if len(known) == len(lengths) else None


def characters(value: Value) -> int:
    """The characters of one value written as text; escaped characters count as one. Lists and objects have none."""
    if isinstance(value, str):
        return len(unescape_text(value))
    if value is None or isinstance(value, list | dict):
        return 0
    return _LENGTHS["boolean"] if isinstance(value, bool) else len(f"{value:f}")


def digits_after_point(gives: Gives) -> int | None:
    """The most digits after the point that the numbers have, 0 where there are none, None where nobody knows."""
    if gives.kinds & NUMBERS <= {"integer"}:
        return 0
    if gives.values is not None:
        return max((scale_of(value) for value in gives.values), default=0)
    return gives.scale


def number_of(gives: Gives) -> Gives:
    """The number that a calculation makes of such values, as precise as they are."""
    known = gives.kinds and gives.kinds <= NUMBERS
    return Gives(NUMBER.kinds, scale=digits_after_point(gives) if known else None)


def scale_of(value: Value) -> int:
    """Digits after the point of a canonical number, 0 for anything else."""
    if not isinstance(value, Decimal):
        return 0
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def of_constant(value: Value) -> Gives:
    """A constant."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        name = "boolean"
    elif isinstance(value, int):
        name = "integer"
    elif isinstance(value, str):
        name = "text"
    elif isinstance(value, list | dict):
        name = "list" if isinstance(value, list) else "object"
    else:
        name = "decimal"
    return Gives(frozenset({name}), (value,))


def of_field(field: FieldSchema) -> Gives:
    """A field of the source."""
    if field.type == "enum" and field.enum is not None:
        return Gives(frozenset({"enum"}), tuple(field.enum))
    return Gives(
        frozenset({field.type}),
        max_length=field.max_length if field.type in ("text", "reference") else None,
        scale=field.scale if field.type == "decimal" else None,
        minimum=field.minimum,
        maximum=field.maximum,
    )


class SourceTypes(Protocol):
    """Knows the source's fields."""

    def of(self, name: str) -> Gives:
        """What a source value can be; ANY for one that does not exist (that is a fault of its own)."""
        ...


class FieldTypes:
    """The fields of a source record (or of its lines), for the rules' own reckoning of what they give."""

    def __init__(self, fields: Sequence[FieldSchema], parent: Sequence[FieldSchema] = ()) -> None:
        self._fields = {field.name: of_field(field) for field in fields}
        self._parent = {field.name: of_field(field) for field in parent}

    def of(self, name: str) -> Gives:
        """What a field holds; $scope and $id are text."""
        if name in ("$scope", "$id"):
            return TEXT
        if name.startswith("$parent."):
            return self._parent.get(name.removeprefix("$parent."), ANY)
        return self._fields.get(name, ANY)
