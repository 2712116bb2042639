"""`of` beside an expression or a template: the rule whose value the name `value` then means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mappings.rules import AnyRule, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mappings.codegen import Code
    from mappings.kinds import Gives, SourceTypes

INPUT = "value"


class RuleWithInput(Rule):
    """A rule that may have an input of its own."""

    #: The rule that makes the input; None: `value` is a source field like any other.
    of: AnyRule | None = None

    def input(self, code: Code) -> str:
        """The Python expression of the input, '' where there is none."""
        return self.of.compile(code) if self.of is not None else ""

    def without_input(self, names: Iterable[str]) -> Iterator[str]:
        """The source values among the names that the rule reads."""
        yield from (name for name in names if self.of is None or name != INPUT)

    def input_parts(self) -> Iterator[tuple[str, Rule]]:
        """The rule of the input, with its word."""
        if self.of is not None:
            yield "of", self.of

    def input_types(self, types: SourceTypes) -> SourceTypes:
        """The source's fields, and what the input can be."""
        return types if self.of is None else _WithInput(types, self.of.gives(types))

    def input_explained(self) -> str:
        """What the input is, as the end of a sentence; '' where there is none."""
        return f", where value is {self.of.explain()}" if self.of is not None else ""


class _WithInput:
    def __init__(self, types: SourceTypes, value: Gives) -> None:
        self._types = types
        self._value = value

    def of(self, name: str) -> Gives:
        return self._value if name == INPUT else self._types.of(name)
