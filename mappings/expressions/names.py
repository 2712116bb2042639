"""Which fields of the record a tree reads. A name that a loop, a comprehension or an assignment gave a value is none."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

import msgspec

from mappings.expressions.checker import LITERALS, holder_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESULT: Final = "result"
"""The name whose value a block gives when it does not end with an expression."""


class Names(msgspec.Struct, frozen=True):
    """What the names of a tree are."""

    #: Fields that may be read, in order, as rules name them: FIELD, $scope, $id, $parent.FIELD.
    reads: tuple[str, ...]
    #: Names that the block assigns, in order.
    assigned: tuple[str, ...] = ()
    #: Assigned names that may be read before: they start as the field of that name.
    starts: frozenset[str] = frozenset()
    #: True when `result` may be given without ever having been assigned: then it is null.
    result_may_be_unset: bool = False


def names_of_expression(tree: ast.expr) -> Names:
    """The fields that an expression reads."""
    reader = _Reader(())
    reader.expression(tree, frozenset())
    return Names(tuple(reader.reads))


def names_of_block(statements: Sequence[ast.stmt]) -> Names:
    """The fields that a block may read: a name that surely was assigned before is none."""
    assigned = tuple(dict.fromkeys(_assigned(statements)))
    reader = _Reader(assigned)
    known = reader.suite(statements, frozenset())
    ends_with_value = isinstance(statements[-1], ast.Expr)
    return Names(
        tuple(reader.reads),
        assigned,
        frozenset(reader.starts),
        not ends_with_value and RESULT not in known,
    )


def target_names(node: ast.expr) -> list[str]:
    """The names that take a value."""
    nodes = node.elts if isinstance(node, ast.Tuple) else [node]
    return [each.id for each in nodes if isinstance(each, ast.Name)]


def _assigned(statements: Iterable[ast.stmt]) -> Iterable[str]:
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    yield from target_names(target)
            elif isinstance(node, ast.AugAssign | ast.For):
                yield from target_names(node.target)


class _Reader:
    """Walks a tree in the order in which it runs; `known` are the names that surely have a value of their own."""

    def __init__(self, assigned: tuple[str, ...]) -> None:
        self._assigned = frozenset(assigned)
        self.reads: dict[str, None] = {}
        self.starts: set[str] = set()

    # --- statements

    def suite(self, statements: Sequence[ast.stmt], known: frozenset[str]) -> frozenset[str]:
        """The names that surely have a value after these statements."""
        for statement in statements:
            known = self._statement(statement, known)
        return known

    def _statement(self, node: ast.stmt, known: frozenset[str]) -> frozenset[str]:
        if isinstance(node, ast.Assign):
            self.expression(node.value, known)
            return known.union(*(target_names(target) for target in node.targets))
        if isinstance(node, ast.AugAssign):
            self.expression(node.target, known)
            self.expression(node.value, known)
            return known.union(target_names(node.target))
        if isinstance(node, ast.If):
            self.expression(node.test, known)
            return self.suite(node.body, known) & self.suite(node.orelse, known)
        if isinstance(node, ast.For):
            self.expression(node.iter, known)
            self.suite(node.body, known.union(target_names(node.target)))
            return known  # there may be no round at all
        if isinstance(node, ast.Break | ast.Continue):
            return self._assigned  # nothing runs after it, so nothing is missing there
        if isinstance(node, ast.Expr):
            self.expression(node.value, known)
        return known

    # --- expressions

    def expression(self, node: ast.AST, known: frozenset[str]) -> None:
        """Note what an expression reads."""
        if isinstance(node, ast.Name):
            self._name(node.id, known)
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
            self._comprehension(node, known)
        elif isinstance(node, ast.Call | ast.Subscript):
            self._call_or_subscript(node, known)
        else:
            for inner in ast.iter_child_nodes(node):
                self.expression(inner, known)

    def _name(self, name: str, known: frozenset[str]) -> None:
        if name in LITERALS or name in known:
            return
        self.reads[name] = None
        if name in self._assigned:
            self.starts.add(name)

    def _call_or_subscript(self, node: ast.Call | ast.Subscript, known: frozenset[str]) -> None:
        read = holder_key(node)
        inner: list[ast.AST]
        if read is not None:
            holder, key = read
            self.reads[key if holder == "record" else f"$parent.{key}"] = None
            inner = list(node.args[1:]) if isinstance(node, ast.Call) else []
        elif isinstance(node, ast.Call):
            inner = [*([node.func.value] if isinstance(node.func, ast.Attribute) else []), *node.args]
        else:
            inner = [node.value, node.slice]
        for each in inner:
            self.expression(each, known)

    def _comprehension(
        self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp, known: frozenset[str]
    ) -> None:
        for each in node.generators:
            self.expression(each.iter, known)
            known = known.union(target_names(each.target))
            for condition in each.ifs:
                self.expression(condition, known)
        for made in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.expression(made, known)
