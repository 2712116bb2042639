"""`rollup` of a flow's lines: source lines with equal fields become one before the rules of the lines run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Self

import msgspec
from pydantic import BeforeValidator, Field, model_validator

from ipaas_resources.core.values import encode_canonical
from mappings.expressions.comparing import NUMBERS
from mappings.expressions.groups import group_key, total
from mappings.expressions.guards import MAX_ITEMS, RuleError, as_text, too_large
from mappings.expressions.operators import number_result
from mappings.rules import SpecModel

if TYPE_CHECKING:
    from ipaas_resources.core.values import Document, Value
    from mappings.yaml_text import Yaml

_Name = Annotated[str, Field(min_length=1, max_length=200)]


def _listed(value: Yaml) -> Yaml:
    return [value] if isinstance(value, str) else value


_Names = Annotated[tuple[_Name, ...], BeforeValidator(_listed)]


class RollUp(SpecModel):
    """Which source lines become one, and what becomes of their fields."""

    by: Annotated[_Names, Field(min_length=1)]
    #: Fields that are added up.
    sum: _Names = ()
    #: Fields of which the first line's value is taken where the lines differ.
    first: _Names = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [*self.by, *self.sum, *self.first]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands in more than one place of the rollup")
        parent = [name for name in names if name.startswith("$")]
        if parent:
            raise ValueError(f"a rollup is about fields of the line; {parent[0]} is none")
        return self

    def plan(self, reads: Iterable[str]) -> RollUpPlan:
        """How lines are rolled up whose rules read these fields."""
        settled = {*self.by, *self.sum, *self.first}
        same = tuple(name for name in reads if name not in settled and not name.startswith("$"))
        return RollUpPlan(self.by, self.sum, same)


class RollUpPlan(msgspec.Struct, frozen=True):
    """What a compiled flow knows of a rollup."""

    by: tuple[str, ...]
    sums: tuple[str, ...]
    same: tuple[str, ...]  # read by rules, neither summed nor taken from the first: must not differ


def rolled_up(rows: list[Document], plan: RollUpPlan) -> list[Document]:
    """One line per group, in the order in which the groups begin. The rows themselves stay as they are.

    Raises:
        RuleError: a line has no key, a group differs in a field that rules read, or a sum cannot be made.
    """
    if len(rows) > MAX_ITEMS:
        too_large(f"more than {MAX_ITEMS} lines are to be rolled up")
    groups: dict[str | tuple[str, ...], list[Document]] = {}
    for row in rows:
        groups.setdefault(_key(row, plan.by), []).append(row)
    return [_merged(group, plan) for group in groups.values()]


def _key(row: Document, by: tuple[str, ...]) -> str | tuple[str, ...]:
    if len(by) == 1:
        return group_key(row.get(by[0]))
    parts = tuple(as_text(row.get(name)) for name in by)
    # An item without a variant is a group of its own; a line with nothing at all is none.
    if not any(parts):
        raise RuleError("lines", "a line has no key to roll it up by; leave such lines out with when:")
    return parts


def _merged(group: list[Document], plan: RollUpPlan) -> Document:
    merged = dict(group[0])
    for name in plan.sums:
        values = [row.get(name) for row in group]
        if any(value is not None for value in values):
            merged[name] = number_result(total(values))
    if len(group) > 1:
        differing = [
            name
            for name in plan.same
            if not all(_equal(row.get(name), group[0].get(name)) for row in group[1:])
        ]
        if differing:
            them = "it" if len(differing) == 1 else "each"
            raise RuleError(
                "lines",
                f"lines that are rolled up differ in {', '.join(differing)}; "
                f"add {them} to sum: or first: of the rollup",
            )
    return merged


def _equal(a: Value, b: Value) -> bool:
    if type(a) is type(b) is str or (type(a) in NUMBERS and type(b) in NUMBERS):
        return bool(a == b)
    return encode_canonical(a) == encode_canonical(b)
