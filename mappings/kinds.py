"""What kinds of value a rule can make, as far as the schemas tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from ipaas_resources.core.values import Value

if TYPE_CHECKING:
    from ipaas_resources.core.schema import FieldSchema


class Gives(msgspec.Struct, frozen=True):
    """What can come out of a rule."""

    #: Field types of core/schema.py, and "number": whole or not, as the calculation goes. Empty: only null.
    kinds: frozenset[str]
    #: Every value that can come out, where it is known: constants, members of an enum.
    values: tuple[Value, ...] | None = None

    def joined(self, other: Gives) -> Gives:
        """Either of the two."""
        if not self.kinds or not other.kinds:
            return other if not self.kinds else self
        both = None if self.values is None or other.values is None else (*self.values, *other.values)
        return Gives(self.kinds | other.kinds, both)


NOTHING: Final = Gives(frozenset())
ANY: Final = Gives(frozenset({"any"}))
TEXT: Final = Gives(frozenset({"text"}))
NUMBER: Final = Gives(frozenset({"number"}))
BOOLEAN: Final = Gives(frozenset({"boolean"}))


NUMBERS: Final = frozenset({"integer", "decimal", "number"})


def kind(name: str) -> Gives:
    """Values of one kind."""
    return Gives(frozenset({name}))


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
    return kind(field.type)


class SourceTypes(Protocol):
    """Knows the source's fields."""

    def of(self, name: str) -> Gives:
        """What a source value can be; ANY for one that does not exist (that is a fault of its own)."""
        ...
