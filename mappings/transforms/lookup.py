"""`lookup`: the entry of a lookup table. What a miss does is said in the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

import msgspec
from pydantic import Field, PlainValidator

from ipaas_resources.core.values import Value
from mappings.expressions.guards import RuleError
from mappings.kinds import NUMBER, TEXT, Gives, SourceTypes, of_constant
from mappings.rules import AnyRule, As, Rule
from mappings.runtime import entry_number, lookup_or_default, lookup_or_flag, lookup_or_null

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mappings.codegen import Code


class Default(msgspec.Struct, frozen=True):
    """What stands in for a missing entry."""

    value: Value


Miss = Literal["null", "flag"] | Default


def parse_missing(value: Value) -> Miss:
    """What `missing` says of a rule. Raises ValueError when it says something else."""
    if value is None or value == "null":
        return "null"  # YAML reads a bare null as the value, not as the word
    if value == "flag":
        return "flag"
    if isinstance(value, Default):
        return value
    if (
        isinstance(value, dict)
        and set(value) == {"default"}
        and not isinstance(value["default"], list | dict)
    ):
        return Default(value["default"])
    raise ValueError("this says what a missing entry does. Valid: null, flag, {default: VALUE}")


def entry_part(entry: Value, part: str, table: str, default: Value = None) -> Value:
    """One column of an entry of a table with several; a miss is `default`.

    Raises:
        RuleError: the table has no such column.
    """
    if entry is None or entry is _MISS:
        return default if entry is _MISS else None
    if type(entry) is not dict or part not in entry:
        raise RuleError("item", f"the lookup table {table} has no column {part}")
    return entry[part]


_MISS: Final = Default(None)
"""What stands for a missing entry until its part was looked for: no entry can be this object."""


class Lookup(Rule):
    """The entry of a lookup table."""

    word: ClassVar[str] = "lookup"

    lookup: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
    of: AnyRule
    missing: Annotated[Miss, PlainValidator(parse_missing)]
    #: The tables are text; `number` makes a number of the entry, for targets that take one.
    as_: As = Field(alias="as", default="text")

    #: The column that is meant, of a table with several value columns.
    part: Annotated[str, Field(min_length=1, max_length=100)] | None = None

    def compile(self, code: Code) -> str:
        """A call of the resolver."""
        code.shared.lookups[self.lookup] = None
        entry = self._entry(code, code.constant(self.lookup), self.of.compile(code))
        return f"{code.helper(entry_number)}({entry})" if self.as_ == "number" else entry

    def _entry(self, code: Code, table: str, key: str) -> str:
        if self.missing == "flag":
            code.may_be_absent = True
            field = code.constant(code.field)
            return self._part(
                code, table, f"{code.helper(lookup_or_flag)}(resolve, {table}, {key}, flags, {field})"
            )
        if isinstance(self.missing, Default):
            default = code.constant(self.missing.value)
            if self.part is None:
                return f"{code.helper(lookup_or_default)}(resolve, {table}, {key}, {default})"
            miss = code.shared.bind(_MISS, "miss")
            found = f"{code.helper(lookup_or_default)}(resolve, {table}, {key}, {miss})"
            return self._part(code, table, found, default)
        return self._part(code, table, f"{code.helper(lookup_or_null)}(resolve, {table}, {key})")

    def _part(self, code: Code, table: str, entry: str, default: str = "None") -> str:
        if self.part is None:
            return entry
        return f"{code.helper(entry_part)}({entry}, {code.constant(self.part)}, {table}, {default})"

    def cell(self, entry: Value) -> Value:
        """What of a table's entry this rule gives."""
        return entry if self.part is None else entry.get(self.part) if isinstance(entry, dict) else None

    def column_fault(self, rows: Mapping[str, Value]) -> str:
        """Why the column that is named, or not named, is none of the table's, '' when it is one."""
        columns = next((list(entry) for entry in rows.values() if isinstance(entry, dict)), [])
        if self.part is None:
            return f"the lookup table has several columns; name one: {', '.join(columns)}" if columns else ""
        if rows and self.part not in columns:
            valid = (
                f". Valid: {', '.join(columns)}"
                if columns
                else "; it has one column of values, leave part out"
            )
            return f"the lookup table {self.lookup} has no column {self.part!r}{valid}"
        return ""

    def explain(self) -> str:
        """In words."""
        if isinstance(self.missing, Default):
            miss = f"becomes {self.missing.value!r}"
        else:
            miss = "becomes empty" if self.missing == "null" else "is left out and flagged for a person"
        what = f"the column {self.part}" if self.part else "the entry"
        return f"{what} of the lookup table {self.lookup} for {self.of.explain()}; a missing entry {miss}"

    def gives(self, types: SourceTypes) -> Gives:
        """Text, or the default."""
        del types
        entry = TEXT if self.as_ == "text" else NUMBER
        return entry.joined(of_constant(self.missing.value)) if isinstance(self.missing, Default) else entry

    def parts(self) -> Iterator[tuple[str, Rule]]:
        """The rule of the key."""
        yield "of", self.of


RULES = (Lookup,)
