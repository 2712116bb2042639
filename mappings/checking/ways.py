"""The ways in which a rule makes its value, and those that can give nothing but an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mappings.expressions.gives import of_expression
from mappings.kinds import NUMBERS
from mappings.transforms.date import Date
from mappings.transforms.if_ import If
from mappings.transforms.lookup import Lookup
from mappings.transforms.math_ import Math
from mappings.transforms.ref import Ref
from mappings.transforms.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mappings.faults import Path
    from mappings.kinds import Gives, SourceTypes
    from mappings.rules import Rule

#: Kinds that are no single value: they have no text, no number and no date.
_STRUCTURES: Final = frozenset({"file", "lines", "list", "object"})
_NO_DATES: Final = _STRUCTURES | NUMBERS | {"boolean", "guid", "time"}


def ways(path: Path, rule: Rule) -> Iterator[tuple[Path, Rule]]:
    """The rules one of which makes the value, each with its place: both sides of an `if`, else the rule itself."""
    if isinstance(rule, If):
        yield from ways((*path, "then"), rule.then)
        yield from ways((*path, "else"), rule.otherwise)
    else:
        yield path, rule


def input_faults(path: Path, rule: Rule, types: SourceTypes) -> Iterator[tuple[Path, str]]:
    """Where a rule can give nothing but an error for any record, and why. Rules inside it are not looked at."""
    if isinstance(rule, Template):
        for name in rule.reads():
            if (wrong := _only(types.of(name), _STRUCTURES)) is not None:
                yield path, f"{name} is of type {wrong} and cannot stand in a text"
    elif isinstance(rule, Math):
        gives = of_expression(rule.math, rule.input_types(types))
        if gives.kinds and not gives.kinds & (NUMBERS | {"any"}):
            yield (
                path,
                f"the calculation gives {min(gives.kinds)}, not a number; write number(...), or python",
            )
    elif isinstance(rule, Date):
        if (wrong := _only(rule.date.gives(types), _NO_DATES)) is not None:
            yield (*path, "date"), f"a date is needed here, the rule gives {wrong}"
    elif isinstance(rule, Lookup | Ref) and (wrong := _only(rule.of.gives(types), _STRUCTURES)) is not None:
        yield (*path, "of"), f"a single value is needed here, the rule gives {wrong}"


def _only(gives: Gives, kinds: frozenset[str]) -> str | None:
    """The first of these kinds where nothing else can come, None otherwise."""
    return min(gives.kinds) if gives.kinds and gives.kinds <= kinds else None
