"""How many steps an evaluation can take, reckoned from its tree.

Code without loops is bounded by its length; only the size of its operands can make it slow. So steps are counted for
(a) the rounds of loops and comprehensions, by the work in one round, and (b) primitives on large operands. A tree
without loops whose primitives together cannot charge MAX_STEPS is compiled without a counter.
"""

from __future__ import annotations

import ast
import itertools
from typing import TYPE_CHECKING, Final

from mappings.expressions.checker import LITERALS
from mappings.expressions.comparing import MOST_STEPS
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.guards import MAX_ITEMS, MAX_STEPS, MAX_TEXT
from mappings.expressions.methods import METHODS
from mappings.expressions.texts import CHARACTER_STEPS, COPY_STEPS, SEARCH_STEPS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mappings.expressions.function import Function

Comprehension = ast.ListComp | ast.DictComp | ast.GeneratorExp

_LOOPS: Final = (ast.For, ast.ListComp, ast.DictComp, ast.GeneratorExp)
_POWER_STEPS: Final = 3
#: Operators that work on up to 900 digits: an exact rest or power, not a rounded result.
_EXACT: Final = (ast.Pow, ast.FloorDiv, ast.Mod)


def needs_counter(nodes: Iterable[ast.AST]) -> bool:
    """True when the steps of these trees must be counted while they run."""
    most = 0
    for root in nodes:
        for node in ast.walk(root):
            if isinstance(node, _LOOPS):
                return True
            most += _most(node)
    return most > MAX_STEPS


def called(node: ast.Call) -> Function:
    """The function or method that a checked call means."""
    if isinstance(node.func, ast.Attribute):
        return METHODS[node.func.attr]
    assert isinstance(node.func, ast.Name)
    return FUNCTIONS[node.func.id]


def _most(node: ast.AST) -> int:
    """The most steps that the size of its operands can make this node charge, without the nodes inside it."""
    if isinstance(node, ast.Call):
        return called(node).steps
    if isinstance(node, ast.BinOp | ast.AugAssign):
        return COPY_STEPS
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return sum(
            _most_of_comparison(operator, *pair)
            for operator, pair in zip(node.ops, itertools.pairwise(sides), strict=True)
        )
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        return 4 * COPY_STEPS
    if isinstance(node, ast.JoinedStr | ast.FormattedValue):
        return COPY_STEPS
    return 0


def _most_of_comparison(operator: ast.cmpop, left: ast.expr, right: ast.expr) -> int:
    if isinstance(operator, ast.In | ast.NotIn):
        if isinstance(right, ast.List | ast.Tuple) and all(map(_is_literal, right.elts)):
            return len(right.elts)
        if isinstance(left, ast.Constant) and isinstance(left.value, str):
            # A text from a name, or among the items of a list.
            return CHARACTER_STEPS + (MAX_TEXT * min(len(left.value), 100) >> 12) + MAX_ITEMS
        return SEARCH_STEPS + MOST_STEPS // 4
    if _is_literal(left) or _is_literal(right):
        return 0  # what is not as short or as flat as the literal is not equal to it at the first look
    return MOST_STEPS // 4 if isinstance(operator, ast.Eq | ast.NotEq) else COPY_STEPS


def _is_literal(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id in LITERALS)


def work(node: ast.AST) -> int:
    """The steps of evaluating a tree once; the rounds of the loops in it charge for themselves."""
    if isinstance(node, Comprehension):
        return 1 + work(node.generators[0].iter)
    return _own_work(node) + sum(map(work, ast.iter_child_nodes(node)))


def round_work(node: Comprehension, level: int) -> int:
    """The steps of one round of the `for` at this level of a comprehension."""
    steps = 1 + sum(map(work, node.generators[level].ifs))
    if level + 1 < len(node.generators):
        return steps + work(node.generators[level + 1].iter)
    made = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
    return steps + sum(map(work, made))


def _own_work(node: ast.AST) -> int:
    if isinstance(node, ast.Call):
        return called(node).weight
    if isinstance(node, ast.BinOp):
        return _POWER_STEPS if isinstance(node.op, _EXACT) else 1
    if isinstance(node, ast.Compare):
        return len(node.ops)
    if isinstance(node, ast.List | ast.Tuple):
        return 1 + len(node.elts) // 8
    if isinstance(node, ast.Dict):
        return 1 + len(node.keys) // 4
    if isinstance(node, ast.FormattedValue):
        return 1 if node.format_spec is None else _POWER_STEPS
    if isinstance(node, ast.UnaryOp | ast.BoolOp | ast.IfExp | ast.Subscript | ast.JoinedStr):
        return 1
    return 0


def statement_work(node: ast.stmt) -> int:
    """The steps of a statement, without the suites inside it: they charge for themselves."""
    if isinstance(node, ast.If):
        is_elif = len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
        return 1 + work(node.test) + (statement_work(node.orelse[0]) if is_elif else 0)
    if isinstance(node, ast.For):
        return 1 + work(node.iter)
    if isinstance(node, ast.Assign | ast.Expr):
        return 1 + work(node.value)
    if isinstance(node, ast.AugAssign):
        return 1 + (_POWER_STEPS if isinstance(node.op, _EXACT) else 1) + work(node.value)
    return 0
