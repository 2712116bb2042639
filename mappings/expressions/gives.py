"""What kinds of value an expression or a block can give, as far as the source's schema tells."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from mappings.bounds import added, bounded, multiplied, sliced
from mappings.expressions.checker import LITERALS, holder_key
from mappings.expressions.language import Block, Expression
from mappings.expressions.meter import called
from mappings.kinds import (
    ANY,
    BOOLEAN,
    NOTHING,
    NUMBER,
    NUMBERS,
    TEXT,
    Gives,
    SourceTypes,
    characters,
    kind,
    number_of,
    of_constant,
    text_length,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LIST: Final = kind("list")
_OBJECT: Final = kind("object")


def of_expression(program: Expression | Block, types: SourceTypes) -> Gives:
    """What an expression or a block can give."""
    if isinstance(program, Expression):
        return _of_node(program.tree, types)
    last = program.statements[-1]
    if not isinstance(last, ast.Expr):
        return ANY
    return _of_node(last.value, _Assigned(types, program.names.assigned))


class _Assigned:
    """The source's fields; a name that a block assigned can be anything."""

    def __init__(self, types: SourceTypes, assigned: Sequence[str]) -> None:
        self._types = types
        self._assigned = frozenset(assigned)

    def of(self, name: str) -> Gives:
        return ANY if name in self._assigned else self._types.of(name)


def _of_node(node: ast.expr, types: SourceTypes) -> Gives:
    return _GIVES[type(node)](node, types)


def _of_name(node: ast.Name, types: SourceTypes) -> Gives:
    return of_constant(LITERALS[node.id]) if node.id in LITERALS else types.of(node.id)


def _of_field(read: tuple[str, str], types: SourceTypes) -> Gives:
    holder, key = read
    return types.of(key if holder == "record" else f"$parent.{key}")


def _of_subscript(node: ast.Subscript, types: SourceTypes) -> Gives:
    read = holder_key(node)
    if read is not None:
        return _of_field(read, types)
    value = _of_node(node.value, types)
    if not isinstance(node.slice, ast.Slice):
        return ANY
    if value.kinds & {"any", "list"}:
        return _LIST if value.kinds == {"list"} else ANY
    return sliced(text_of(text_length(value)), _place(node.slice.lower, 0), _place(node.slice.upper, None))


def _place(node: ast.expr | None, absent: int | None) -> int | None:
    """The place that a slice names, None where only a record tells it."""
    if node is None:
        return absent
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None


def _of_choice(node: ast.IfExp, types: SourceTypes) -> Gives:
    return _joined([node.body, node.orelse], types)


def _of_call(node: ast.Call, types: SourceTypes) -> Gives:
    read = holder_key(node)
    if read is not None:
        return _of_field(read, types).joined(_joined(node.args[1:], types))
    gives = called(node).gives
    if gives == "any" or (gives == "item" and len(node.args) == 1):
        return ANY
    if gives in ("first", "item"):
        return _joined(node.args, types)
    name, given = ast.unparse(node.func), node.args
    if isinstance(node.func, ast.Attribute):
        name, given = node.func.attr, [node.func.value, *node.args]
    return bounded(name, [_of_node(each, types) for each in given], kind(gives))


def _of_calculation(node: ast.BinOp, types: SourceTypes) -> Gives:
    left, right = _of_node(node.left, types), _of_node(node.right, types)
    if not isinstance(node.op, ast.Add | ast.Mult):
        return added(left, right, NUMBER) if isinstance(node.op, ast.Sub) else NUMBER
    sides = left.kinds | right.kinds
    if sides <= NUMBERS:
        return (multiplied if isinstance(node.op, ast.Mult) else added)(left, right, NUMBER)
    if isinstance(node.op, ast.Mult):
        return ANY
    if sides == {"list"}:
        return _LIST
    return ANY if sides & {"any", "list"} or sides & NUMBERS else added(left, right, TEXT)


def _of_unary(node: ast.UnaryOp, types: SourceTypes) -> Gives:
    return BOOLEAN if isinstance(node.op, ast.Not) else number_of(_of_node(node.operand, types))


def _of_format(node: ast.JoinedStr, types: SourceTypes) -> Gives:
    """An f-string, no longer than its parts together; a part with a format may be any length."""
    longest = 0
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            length = text_length(_of_node(part.value, types)) if part.format_spec is None else None
        else:
            length = characters(part.value) if isinstance(part, ast.Constant) else None
        if length is None:
            return TEXT
        longest += length
    return text_of(longest)


def _joined(nodes: Sequence[ast.expr], types: SourceTypes) -> Gives:
    found = NOTHING
    for node in nodes:
        found = found.joined(_of_node(node, types))
    return found


_GIVES: Final[Mapping[type[ast.expr], Callable[..., Gives]]] = {
    ast.Constant: lambda node, _types: of_constant(node.value),
    ast.Name: _of_name,
    ast.Subscript: _of_subscript,
    ast.Compare: lambda _node, _types: BOOLEAN,
    ast.UnaryOp: _of_unary,
    ast.IfExp: _of_choice,
    ast.BoolOp: lambda node, types: _joined(node.values, types),
    ast.BinOp: _of_calculation,
    ast.Call: _of_call,
    ast.List: lambda _node, _types: _LIST,
    ast.Tuple: lambda _node, _types: _LIST,
    ast.ListComp: lambda _node, _types: _LIST,
    ast.GeneratorExp: lambda _node, _types: _LIST,
    ast.Dict: lambda _node, _types: _OBJECT,
    ast.DictComp: lambda _node, _types: _OBJECT,
    ast.JoinedStr: _of_format,
}
