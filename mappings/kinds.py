"""What kinds of value a rule can make, as far as the schemas tell, and which kinds fit a target field."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from ipaas_resources.core.values import Value
from mappings.expressions.checker import LITERALS
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.language import Expression, source_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


def of_expression(expression: Expression, types: SourceTypes) -> Gives:
    """What an expression can give."""
    return _of_node(expression.tree, types)


def _of_node(node: ast.expr, types: SourceTypes) -> Gives:
    if isinstance(node, ast.Name) and node.id in LITERALS:
        return of_constant(LITERALS[node.id])
    name = source_name(node)
    return types.of(name) if name is not None else _GIVES[type(node)](node, types)


def _of_choice(node: ast.IfExp, types: SourceTypes) -> Gives:
    return _joined([node.body, node.orelse], types)


def _of_call(node: ast.Call, types: SourceTypes) -> Gives:
    assert isinstance(node.func, ast.Name)
    gives = FUNCTIONS[node.func.id].gives
    return _joined(node.args, types) if gives == "first" else kind(gives)


def _of_calculation(node: ast.BinOp, types: SourceTypes) -> Gives:
    if not isinstance(node.op, ast.Add):
        return NUMBER
    sides = _joined([node.left, node.right], types).kinds
    if sides <= _NUMBERS:
        return NUMBER
    return ANY if "any" in sides or sides & _NUMBERS else TEXT


def _joined(nodes: list[ast.expr], types: SourceTypes) -> Gives:
    found = NOTHING
    for node in nodes:
        found = found.joined(_of_node(node, types))
    return found


_GIVES: Final[Mapping[type[ast.expr], Callable[..., Gives]]] = {
    ast.Constant: lambda node, _types: of_constant(node.value),
    ast.Compare: lambda _node, _types: BOOLEAN,
    ast.UnaryOp: lambda node, _types: BOOLEAN if isinstance(node.op, ast.Not) else NUMBER,
    ast.IfExp: _of_choice,
    ast.BoolOp: lambda node, types: _joined(node.values, types),
    ast.BinOp: _of_calculation,
    ast.Call: _of_call,
}

_NUMBERS: Final = frozenset({"integer", "decimal", "number"})
_TEXTS: Final = frozenset({"text", "guid", "enum", "reference", "date", "datetime", "time"})

#: target type -> kinds that can fit it. What only may fit (a text into a reference) is let through: the row decides.
_FITS: Final[dict[str, frozenset[str]]] = {
    "text": _TEXTS,
    "integer": _NUMBERS,
    "decimal": _NUMBERS,
    "boolean": frozenset({"boolean"}),
    "date": frozenset({"date"}),
    "datetime": frozenset({"datetime"}),
    "time": frozenset({"time"}),
    "guid": frozenset({"guid", "reference", "text"}),
    "enum": frozenset({"enum", "text", "integer", "number"}),
    "reference": frozenset({"reference", "guid", "text", "integer", "number"}),
    "file": frozenset({"file"}),
    "lines": frozenset(),
    "object": frozenset({"object"}),
    "list": frozenset({"list"}),
}

_WAY_OUT: Final[dict[tuple[str, str], str]] = {
    ("date", "datetime"): "; write {date: FIELD, to: date}",
    ("datetime", "date"): "; write {date: FIELD, to: datetime}",
    ("date", "text"): "; write {date: FIELD, to: date}",
    ("datetime", "text"): "; write {date: FIELD, to: datetime}",
    ("integer", "text"): '; write {math: "number(FIELD)"}',
    ("decimal", "text"): '; write {math: "number(FIELD)"}',
    ("integer", "reference"): "; add as: number",
    ("text", "integer"): '; write {template: "{FIELD}"}',
    ("text", "decimal"): '; write {template: "{FIELD}"}',
    ("text", "number"): '; write {python: "text(...)"}',
    ("text", "boolean"): '; write {template: "{FIELD}"} or an if rule',
    ("boolean", "text"): "; write an if rule",
}


def misfit(gives: Gives, target: FieldSchema) -> str:
    """Why a rule's value cannot be in this target field, '' when it can."""
    if target.type == "any":
        return ""
    if target.type == "lines":
        return f"{target.name} holds lines; write its rules under lines:"
    wrong = sorted(gives.kinds - _FITS[target.type] - {"any"})
    # A constant text may spell a date.
    if wrong and not (
        gives.values and gives.kinds == {"text"} and target.type in ("date", "datetime", "time")
    ):
        return (
            f"the rule gives {_article(wrong[0])}, {target.name} takes {_article(target.type)}"
            f"{_WAY_OUT.get((target.type, wrong[0]), '')}"
        )
    return _misfit_values(gives, target)


def _misfit_values(gives: Gives, target: FieldSchema) -> str:
    if not gives.kinds and not target.nullable:
        return f"the rule gives null, {target.name} cannot be empty"
    values = gives.values or ()
    if (
        target.enum
        and not values
        and gives.kinds == {"text"}
        and not any(type(each) is str for each in target.enum)
    ):
        return f"the rule gives text, {target.name} takes one of the numbers {', '.join(map(str, target.enum))}; a lookup gives numbers with as: number"
    if target.enum is not None and values:
        listed = ", ".join(map(str, target.enum))
        if "enum" in gives.kinds:
            if not set(values) & set(target.enum):
                return (
                    f"none of the source's values is a value of {target.name}; use a lookup. Valid: {listed}"
                )
        elif wrong := [value for value in values if value not in target.enum]:
            return f"{wrong[0]!r} is not a value of {target.name}. Valid: {listed}"
    if target.max_length is not None and "enum" not in gives.kinds:
        too_long = [value for value in values if isinstance(value, str) and len(value) > target.max_length]
        if too_long:
            return f"the constant has {len(too_long[0])} characters, {target.name} takes {target.max_length}"
    return ""


def _article(name: str) -> str:
    if name in ("text", "lines"):
        return name
    return f"an {name}" if name[0] in "aeio" else f"a {name}"
