"""What kinds of value an expression can give, as far as the source's schema tells."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from mappings.expressions.checker import LITERALS
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.language import Expression, source_name
from mappings.kinds import ANY, BOOLEAN, NOTHING, NUMBER, NUMBERS, TEXT, Gives, SourceTypes, kind, of_constant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
    if sides <= NUMBERS:
        return NUMBER
    return ANY if "any" in sides or sides & NUMBERS else TEXT


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
