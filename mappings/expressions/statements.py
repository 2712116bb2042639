"""The allowlist of statements: what a block of a python rule may hold. What is not here does not exist."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

import msgspec

from mappings.expressions.checker import OPERATORS, check, check_operator, check_target
from mappings.expressions.hints import construct
from mappings.expressions.names import RESULT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mappings.expressions.sources import Source

MAX_NESTING: Final = 10  # suites inside each other; Python compiles 20
_SUITE_DEPTH: Final = 3  # what a suite adds to the depth of the expressions in it


#: `balance > 1,5` would be a list of two, and a list is true: a condition that always holds.
BARE_COMMA: Final = (
    "a comma stands outside of brackets; write decimals with a point (1.5), or a list as [1, 5]"
)


def check_block(statements: Sequence[ast.stmt], source: Source) -> None:
    """Walk the statements of a block.

    Raises:
        ValueError: they say something outside the language, or give no value.
    """
    if not statements:
        raise ValueError("the block is empty")
    _Check(source).suite(statements, _Place())
    if not isinstance(statements[-1], ast.Expr) and not _assigns_result(statements):
        raise ValueError(
            "the block gives no value; end it with an expression, or assign the value to the name result"
            + (
                "; to compare, write =="
                if isinstance(statements[-1], ast.Assign) and len(statements) == 1
                else ""
            )
        )


def _assigns_result(statements: Sequence[ast.stmt]) -> bool:
    return any(
        isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == RESULT
        for statement in statements
        for node in ast.walk(statement)
    )


class _Place(msgspec.Struct, frozen=True):
    """Where a statement stands."""

    nesting: int = 0  # suites around it
    in_loop: bool = False

    def inside(self, *, loop: bool = False) -> _Place:
        """The place of a suite that stands in a statement here."""
        return _Place(self.nesting + 1, self.in_loop or loop)


class _Check:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._checks: dict[type[ast.stmt], Callable[..., None]] = {
            ast.Assign: self._assign,
            ast.AugAssign: self._change,
            ast.If: self._if,
            ast.For: self._for,
            ast.Break: self._jump,
            ast.Continue: self._jump,
            ast.Pass: self._nothing,
            ast.Expr: self._expression,
        }

    def suite(self, statements: Sequence[ast.stmt], place: _Place) -> None:
        if place.nesting > MAX_NESTING:
            raise ValueError(f"a block nests deeper than {MAX_NESTING} levels")
        for index, statement in enumerate(statements):
            check_statement = self._checks.get(type(statement))
            if check_statement is None:
                raise ValueError(f"a block cannot use {construct(statement)}")
            check_statement(statement, place)
            if isinstance(statement, ast.Break | ast.Continue) and index < len(statements) - 1:
                raise ValueError("nothing behind break or continue is ever reached; take it out")

    def _value(self, node: ast.expr, place: _Place) -> None:
        check(node, self._source, 1 + _SUITE_DEPTH * place.nesting)

    def _assign(self, node: ast.Assign, place: _Place) -> None:
        for target in node.targets:
            check_target(target, self._source)
        if not any(isinstance(target, ast.Tuple) for target in node.targets):
            _no_bare_comma(node.value)
        self._value(node.value, place)

    def _change(self, node: ast.AugAssign, place: _Place) -> None:
        check_operator(node.op, OPERATORS)
        if not isinstance(node.target, ast.Name):
            raise ValueError("only a name can be changed so: x += y; a part of a value is never changed")  # noqa: TRY004
        check_target(node.target, self._source)
        self._value(node.value, place)

    def _if(self, node: ast.If, place: _Place) -> None:
        self._value(node.test, place)
        self.suite(node.body, place.inside())
        # An elif stands in the tree as an if inside else, and on the page beside its if.
        is_elif = len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
        self.suite(node.orelse, place if is_elif else place.inside())

    def _for(self, node: ast.For, place: _Place) -> None:
        if node.orelse:
            raise ValueError("a for loop has no else here; write what follows below it")
        check_target(node.target, self._source)
        self._value(node.iter, place)
        self.suite(node.body, place.inside(loop=True))

    def _jump(self, node: ast.stmt, place: _Place) -> None:
        if not place.in_loop:
            word = "break" if isinstance(node, ast.Break) else "continue"
            raise ValueError(f"{word} stands outside of a loop")

    def _nothing(self, _node: ast.Pass, _place: _Place) -> None:
        return

    def _expression(self, node: ast.Expr, place: _Place) -> None:
        _no_bare_comma(node.value)
        self._value(node.value, place)


def _no_bare_comma(node: ast.expr) -> None:
    if (
        isinstance(node, ast.Tuple)
        and node.elts
        and (node.lineno, node.col_offset) == (node.elts[0].lineno, node.elts[0].col_offset)
    ):
        raise ValueError(BARE_COMMA)
