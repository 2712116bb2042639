"""`lookup`: the entry of a lookup table. What a miss does is said in the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec
from pydantic import Field, PlainValidator

from ipaas_resources.core.values import Value
from mappings.kinds import NUMBER, TEXT, Gives, SourceTypes, of_constant
from mappings.rules import AnyRule, As, Rule
from mappings.runtime import entry_number, lookup_or_default, lookup_or_flag, lookup_or_null

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.codegen import Code


class Default(msgspec.Struct, frozen=True):
    """What stands in for a missing entry."""

    value: Value


Miss = Literal["null", "flag"] | Default


def _missing(value: Value) -> Miss:
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


class Lookup(Rule):
    """The entry of a lookup table."""

    word: ClassVar[str] = "lookup"

    lookup: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
    of: AnyRule
    missing: Annotated[Miss, PlainValidator(_missing)]
    #: The tables are text; `number` makes a number of the entry, for targets that take one.
    as_: As = Field(alias="as", default="text")

    def compile(self, code: Code) -> str:
        """A call of the resolver."""
        code.shared.lookups[self.lookup] = None
        entry = self._entry(code, code.constant(self.lookup), self.of.compile(code))
        return f"{code.helper(entry_number)}({entry})" if self.as_ == "number" else entry

    def _entry(self, code: Code, table: str, key: str) -> str:
        if isinstance(self.missing, Default):
            default = code.constant(self.missing.value)
            return f"{code.helper(lookup_or_default)}(resolve, {table}, {key}, {default})"
        if self.missing == "null":
            return f"{code.helper(lookup_or_null)}(resolve, {table}, {key})"
        code.may_be_absent = True
        field = code.constant(code.field)
        return f"{code.helper(lookup_or_flag)}(resolve, {table}, {key}, flags, {field})"

    def explain(self) -> str:
        """In words."""
        if isinstance(self.missing, Default):
            miss = f"becomes {self.missing.value!r}"
        else:
            miss = "becomes empty" if self.missing == "null" else "is left out and flagged for a person"
        return f"the entry of the lookup table {self.lookup} for {self.of.explain()}; a missing entry {miss}"

    def gives(self, types: SourceTypes) -> Gives:
        """Text, or the default."""
        del types
        entry = TEXT if self.as_ == "text" else NUMBER
        return entry.joined(of_constant(self.missing.value)) if isinstance(self.missing, Default) else entry

    def parts(self) -> Iterator[tuple[str, Rule]]:
        """The rule of the key."""
        yield "of", self.of


RULES = (Lookup,)
