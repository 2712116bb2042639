"""A checked expression -> Python source made of our names, literals by `repr`, and calls to guarded operators."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Final

from mappings.expressions import operators
from mappings.expressions.checker import LITERALS
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.language import Expression, source_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mappings.codegen import Code

_BINARY: Final[Mapping[type[ast.operator], Callable[..., Any]]] = {
    ast.Add: operators.add,
    ast.Sub: operators.subtract,
    ast.Mult: operators.multiply,
    ast.Div: operators.divide,
    ast.FloorDiv: operators.floor_divide,
    ast.Mod: operators.modulo,
    ast.Pow: operators.power,
}
_COMPARE: Final[Mapping[type[ast.cmpop], Callable[..., Any]]] = {
    ast.Eq: operators.equal,
    ast.NotEq: operators.unequal,
    ast.Lt: operators.less,
    ast.LtE: operators.less_or_equal,
    ast.Gt: operators.greater,
    ast.GtE: operators.greater_or_equal,
    ast.In: operators.inside,
}
_PLAIN_EQUALITY: Final[Mapping[type[ast.cmpop], str]] = {ast.Eq: "==", ast.NotEq: "!="}


def emit(expression: Expression, code: Code) -> str:
    """The Python expression that evaluates this one inside the function of `code`."""
    return _emit(expression.tree, code)


def _emit(node: ast.expr, code: Code) -> str:
    return _EMITTERS[type(node)](node, code)


def _constant(node: ast.Constant, code: Code) -> str:
    return code.constant(node.value)


def _read(node: ast.Name | ast.Subscript, code: Code) -> str:
    if isinstance(node, ast.Name) and node.id in LITERALS:
        return repr(LITERALS[node.id])
    name = source_name(node)
    assert name is not None
    return code.read(name)


def _calculation(node: ast.BinOp, code: Code) -> str:
    function = code.helper(_BINARY[type(node.op)])
    return f"{function}({_emit(node.left, code)}, {_emit(node.right, code)})"


def _all_or_any(node: ast.BoolOp, code: Code) -> str:
    word = " and " if isinstance(node.op, ast.And) else " or "
    return f"({word.join(_emit(value, code) for value in node.values)})"


def _choice(node: ast.IfExp, code: Code) -> str:
    test, body, otherwise = (_emit(part, code) for part in (node.test, node.body, node.orelse))
    return f"({body} if {test} else {otherwise})"


def _call(node: ast.Call, code: Code) -> str:
    assert isinstance(node.func, ast.Name)
    function = code.helper(FUNCTIONS[node.func.id].call)
    return f"{function}({', '.join(_emit(argument, code) for argument in node.args)})"


def _unary(node: ast.UnaryOp, code: Code) -> str:
    operand = _emit(node.operand, code)
    if isinstance(node.op, ast.Not):
        return f"(not {operand})"
    function = operators.negate if isinstance(node.op, ast.USub) else operators.positive
    return f"{code.helper(function)}({operand})"


def _compare(node: ast.Compare, code: Code) -> str:
    """A comparison; in a chain (0 <= x <= 5) the values in the middle are computed once."""
    parts: list[str] = []
    left_node: ast.expr = node.left
    left = _emit(left_node, code)
    last = len(node.ops) - 1
    for index, (operator, right_node) in enumerate(zip(node.ops, node.comparators, strict=True)):
        if isinstance(right_node, ast.List):
            right = f"[{', '.join(_emit(item, code) for item in right_node.elts)}]"
        else:
            right = _emit(right_node, code)
        again = right
        if index < last and not right.isidentifier():
            again = code.temporary()
            right = f"({again} := {right})"
        parts.append(_comparison(operator, (left_node, left), (right_node, right), code))
        left_node, left = right_node, again
    return parts[0] if len(parts) == 1 else f"({' and '.join(parts)})"


def _comparison(
    operator: ast.cmpop, left: tuple[ast.expr, str], right: tuple[ast.expr, str], code: Code
) -> str:
    symbol = _PLAIN_EQUALITY.get(type(operator))
    if symbol and (_is_plain(left[0]) or _is_plain(right[0])):
        # With a text or null on one side Python's own == means the same and costs a tenth.
        return f"({left[1]} {symbol} {right[1]})"
    if isinstance(operator, ast.NotIn):
        return f"(not {code.helper(operators.inside)}({left[1]}, {right[1]}))"
    if isinstance(operator, ast.In) and isinstance(right[0], ast.List) and all(map(_is_plain, right[0].elts)):
        return f"({left[1]} in {_as_tuple(right[1])})"
    return f"{code.helper(_COMPARE[type(operator)])}({left[1]}, {right[1]})"


def _as_tuple(listing: str) -> str:
    return f"({listing[1:-1]},)" if listing != "[]" else "()"


def _is_plain(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return LITERALS.get(node.id, "") is None
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, str))


_EMITTERS: Final[Mapping[type[ast.expr], Callable[..., str]]] = {
    ast.Constant: _constant,
    ast.Name: _read,
    ast.Subscript: _read,
    ast.BinOp: _calculation,
    ast.BoolOp: _all_or_any,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.IfExp: _choice,
    ast.Call: _call,
}
