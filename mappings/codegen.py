"""The source text of a compiled target while it is being written.

Nothing that a person wrote becomes part of the source unless it went through `repr` of an exact str, int or bool, or
stands in the namespace under a name of ours: field names, constants and texts can never turn into code.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mappings.mapped import RefUse
    from mappings.rules import Rule

_SMALL = 200  # longer constants go to the namespace: the source stays readable in a traceback


class Shared:
    """What all functions of one target have in common."""

    def __init__(self, flow: str, target: str) -> None:
        self.flow = flow
        self.target = target
        self.namespace: dict[str, Any] = {}
        self.references: list[RefUse] = []
        self.lookups: dict[str, None] = {}
        #: Functions of single rules, as lines of source: they stand before those of the target.
        self.functions: list[list[str]] = []
        self._names: dict[int, str] = {}

    def bind(self, value: object, prefix: str = "k") -> str:
        """A name of ours for this object."""
        known = self._names.get(id(value))
        if known is not None:
            return known
        name = f"{prefix}_{len(self.namespace)}"
        self.namespace[name] = value
        self._names[id(value)] = name
        return name

    def define(self, parameters: Sequence[str], body: Sequence[str]) -> str:
        """Put a function of its own beside the target's; its name."""
        name = f"rule_{len(self.functions)}"
        self.functions.append([f"def {name}({', '.join(parameters)}):", *body])
        return name


class Code:
    """One function: what it reads, and the rule that is being compiled now."""

    def __init__(self, shared: Shared, *, each: str = "", knows_id: bool = True) -> None:
        self.shared = shared
        self.knows_id = knows_id
        #: The lines field of the source whose rows this function maps, '' for the document itself.
        self.each = each
        #: source field -> local variable; of the row, in lines
        self.reads: dict[str, str] = {}
        #: field of the document around the row -> local variable
        self.parent_reads: dict[str, str] = {}
        #: The field that is being made, as it is called in messages: name, salesOrderLines.quantity, $scope.
        self.field = ""
        #: Source fields that the current rule reads, in order, as lineage names them.
        self.sources: dict[str, None] = {}
        #: True when the current rule may leave its field out.
        self.may_be_absent = False
        #: What the current rule resolves: the use, and the rule whose value names the other record.
        self.links: list[tuple[RefUse, Rule]] = []
        self._temporaries = 0

    @contextlib.contextmanager
    def making(self, field: str) -> Iterator[None]:
        """Compile the rule of this field; `sources`, `links` and `may_be_absent` are about it."""
        self.field = field
        self.sources = {}
        self.links = []
        self.may_be_absent = False
        yield

    def read(self, name: str) -> str:
        """The local variable that holds a source value.

        `name` is a field of the record (of the line, in line rules), or $scope, $id, $parent.FIELD.
        """
        if name == "$scope":
            return "scope"
        if name == "$id":
            if not self.knows_id:
                raise ValueError(
                    "$id cannot be used in a condition on the record; write the condition on its fields"
                )
            return "record"
        if name.startswith("$parent."):
            if not self.each:
                raise ValueError(f"{name} works in the rules of lines only; write {name[8:]}")
            field = name.removeprefix("$parent.")
            self.sources[field] = None
            return self.parent_reads.setdefault(field, f"parent{len(self.parent_reads)}")
        self.sources[f"{self.each}.{name}" if self.each else name] = None
        return self.reads.setdefault(name, f"field{len(self.reads)}")

    def holder(self, *, parent: bool = False) -> str:
        """The local variable of the record (of the line, in line rules) or of the document around the line."""
        return "row" if self.each and not parent else "document"

    def define(self, parameters: Sequence[str], body: Sequence[str]) -> str:
        """Put a function of its own beside the target's; its name."""
        return self.shared.define(parameters, body)

    def temporary(self) -> str:
        """A new local variable."""
        self._temporaries += 1
        return f"tmp{self._temporaries}"

    def constant(self, value: object) -> str:
        """An expression for a constant value."""
        if value is None or value is True or value is False:
            return repr(value)
        if type(value) is int and abs(value) < 1 << 63:
            return repr(value) if value >= 0 else f"({value!r})"
        if type(value) is str and len(value) <= _SMALL:
            return repr(value)
        # Written out, so that each record gets a list or object of its own.
        if type(value) is list:
            return f"[{', '.join(self.constant(item) for item in value)}]"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{key!r}: {self.constant(item)}' for key, item in value.items())}}}"
        return self.shared.bind(value)

    def helper(self, function: Callable[..., Any]) -> str:
        """The name under which a function of ours is called."""
        return self.shared.bind(function, function.__name__.strip("_"))
