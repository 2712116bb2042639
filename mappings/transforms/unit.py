"""`unit`: the UN/ECE Recommendation 20 code of a unit of measure, however it is spelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, PlainValidator

from ipaas_resources.core.values import Value
from mappings.expressions.guards import RuleError, kind_name
from mappings.kinds import Gives, SourceTypes, of_constant, text_of
from mappings.mapped import Flag, Missing, Resolver
from mappings.rules import AnyRule, Rule
from mappings.runtime import AbsentError
from mappings.transforms.lookup import Default, Miss, parse_missing
from mappings.units.catalogue import unit_named
from mappings.units.spelling import folded, meaning_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.codegen import Code

LONGEST_CODE = 3  # characters of a code of UN/ECE Recommendation 20

_REASONS = {
    "unknown": "the source value is no unit of measure that is known",
    "several": "the source value can mean several units of measure",
    "deleted": "the source value is a unit code that UN/ECE Recommendation 20 has deleted",
}


def unit_or_default(resolve: Resolver, table: str | None, value: Value, default: Value) -> Value:
    """The code of a unit; `default` for what is not known for certain. Null and "" are null."""
    found = _find(resolve, table, value)
    return found if found not in _REASONS else default


def unit_or_flag(resolve: Resolver, table: str | None, value: Value, flags: list[Flag], field: str) -> Value:
    """The code of a unit; what is not known for certain leaves the field out and asks for a person."""
    found = _find(resolve, table, value)
    if found in _REASONS:
        way_out = f"add it to the lookup table {table}" if table else "name a lookup table under variants:"
        flags.append(Flag(field, f"{_REASONS[found]}; {way_out}"))
        raise AbsentError
    return found


def _find(resolve: Resolver, table: str | None, value: Value) -> str | None:
    """The code, or one of _REASONS (codes are capitals and digits, so the two never meet)."""
    if value is None or value == "":
        return None
    if type(value) is not str:
        raise RuleError("type", f"a unit of measure is text, there is {kind_name(value)}")
    if table is not None:
        for key in dict.fromkeys((value, value.strip(), folded(value))):
            entry = resolve.lookup(table, key)
            if not isinstance(entry, Missing):
                return _of_entry(table, entry)
    found = meaning_of(value)
    return found.code or found.why


def _of_entry(table: str, entry: Value) -> str:
    if type(entry) is str and unit_named(entry) is not None:
        return entry
    raise RuleError("unit", f"the lookup table {table} gives something that is no code of UN/ECE Rec 20")


class UnitOfMeasure(Rule):
    """The code of a unit of measure."""

    word: ClassVar[str] = "unit"

    unit: AnyRule
    #: What happens to a value that is no unit, or may be several.
    missing: Annotated[Miss, PlainValidator(parse_missing)]
    #: A lookup table of the company's own spellings; it goes before everything else.
    variants: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)] | None = None

    def compile(self, code: Code) -> str:
        """A call of the reader of units."""
        if self.variants is not None:
            code.shared.lookups[self.variants] = None
        value, table = self.unit.compile(code), code.constant(self.variants)
        if isinstance(self.missing, Default) or self.missing == "null":
            default = code.constant(self.missing.value if isinstance(self.missing, Default) else None)
            return f"{code.helper(unit_or_default)}(resolve, {table}, {value}, {default})"
        code.may_be_absent = True
        return f"{code.helper(unit_or_flag)}(resolve, {table}, {value}, flags, {code.constant(code.field)})"

    def explain(self) -> str:
        """In words."""
        own = f", by the lookup table {self.variants} first" if self.variants else ""
        if isinstance(self.missing, Default):
            miss = f"becomes {self.missing.value!r}"
        else:
            miss = "becomes empty" if self.missing == "null" else "is left out and flagged for a person"
        return f"the UN/ECE Rec 20 code of the unit {self.unit.explain()}{own}; an unknown one {miss}"

    def gives(self, types: SourceTypes) -> Gives:
        """Text, or the default."""
        del types
        code = text_of(LONGEST_CODE)
        return code.joined(of_constant(self.missing.value)) if isinstance(self.missing, Default) else code

    def parts(self) -> Iterator[tuple[str, Rule]]:
        """The rule of the spelling."""
        yield "unit", self.unit


RULES = (UnitOfMeasure,)
