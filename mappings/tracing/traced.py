"""The words of a trace: what one record makes in one target, field by field, ready to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ipaas_resources.core.values import Value

if TYPE_CHECKING:
    from ipaas_resources.core.schema import FieldSchema

ProblemKind = Literal["error", "flag", "unresolved", "misfit"]
"""error: the record is set aside. flag, unresolved: the field is left out. misfit: the target does not take the value."""


class Problem(msgspec.Struct, frozen=True):
    """Why a field, a condition or the lines would not be written as they are."""

    kind: ProblemKind
    message: str  # a sentence without a value of the record


class UsedLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link that a rule followed."""

    link: str  # flow.target
    by: str  # what `value` names of the near record: "id", or a field
    value: str
    id: str | None = None  # of the record at the other side; None: not linked
    scope: str | None = None


class UsedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A lookup table's entry that a rule asked for."""

    table: str
    key: str
    found: bool
    entry: Value = None


class Step(msgspec.Struct, frozen=True):
    """What a rule inside a rule gave: the key of a lookup, whether a condition held, the branch that was taken."""

    word: str
    value: Value


class FieldTrace(msgspec.Struct, kw_only=True):
    """One field of the target, or of a line of it."""

    field: str  # as messages name it: name, salesOrderLines.quantity, $scope
    is_key: bool
    word: str  # the rule's word: lookup, math, ...
    says: str  # the rule as the end of a sentence: "<field> is ..."
    inputs: dict[str, Value]  # what it reads, by the name that the rule uses
    steps: list[Step] = []
    links: list[UsedLink] = []
    entries: list[UsedEntry] = []
    #: False: the field is left out; `problems` say why.
    has_value: bool = False
    value: Value = None
    type: str = ""  # of the value: text, integer, decimal, boolean, list, object, file, null
    takes: str = ""  # what the target takes, "text(40)"; '' where its schema is not known
    problems: list[Problem] = []


class ConditionTrace(msgspec.Struct, kw_only=True):
    """One `when`."""

    place: str  # when, targets.account.when, targets.order.lines.salesOrderLines.when
    expression: str
    inputs: dict[str, Value]
    holds: bool | None  # None: it cannot be told, see `problems`
    problems: list[Problem] = []


class LineTrace(msgspec.Struct, kw_only=True):
    """One line of the source document."""

    number: int  # from 1, as it stands in the source; of a rolled-up line, as it comes out of the roll-up
    when: ConditionTrace | None
    #: Made by the roll-up, of one or more lines of the source.
    is_rolled_up: bool = False
    #: False: no line is made of it.
    is_made: bool = False
    fields: list[FieldTrace] = []


class LinesTrace(msgspec.Struct, kw_only=True):
    """One lines field of the target."""

    field: str
    each: str  # the source's lines field
    lines: list[LineTrace]
    problems: list[Problem] = []


class TargetTrace(msgspec.Struct, kw_only=True):
    """What one record makes in one target."""

    flow: str
    target: str
    system: str
    entity: str
    conditions: list[ConditionTrace]
    #: Whether the record belongs into the target; None: a condition fails.
    passes: bool | None
    scope: FieldTrace | None  # None: the flow names none
    fields: list[FieldTrace]  # key fields first
    lines: list[LinesTrace]

    def every_field(self) -> Iterator[FieldTrace]:
        """The scope, the fields, and those of all lines."""
        if self.scope is not None:
            yield self.scope
        yield from self.fields
        for lines in self.lines:
            for line in lines.lines:
                yield from line.fields


def value_type(value: Value) -> str:
    """The kind of a canonical value, in one word."""
    if isinstance(value, dict):
        return "file" if "$file" in value else "object"
    return _TYPES.get(type(value), "unknown")


_TYPES: Final[Mapping[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    Decimal: "decimal",
    str: "text",
    list: "list",
}


def described(field: FieldSchema) -> str:
    """A field's type with its limits, for people: text(40), decimal with 2 digits, enum."""
    if field.max_length is not None:
        return f"{field.type}({field.max_length})"
    return f"{field.type} with {field.scale} digits" if field.scale is not None else field.type
