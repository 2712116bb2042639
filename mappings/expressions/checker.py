"""The allowlist of expressions: node classes, operators, functions, methods. What is not here does not exist."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from mappings.expressions.formats import parse_format
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.guards import MAX_ITEMS
from mappings.expressions.hints import construct, unknown_function, unknown_method
from mappings.expressions.literals import check_constant, check_storable
from mappings.expressions.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable

    from mappings.expressions.function import Function
    from mappings.expressions.sources import Source

MAX_DEPTH: Final = 60  # of the tree; the generated source nests twice as deep, and Python reads 200 levels

OPERATORS: Final = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
COMPARISONS: Final = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)
UNARY: Final = (ast.Not, ast.USub, ast.UAdd)

#: Spelled as YAML and JSON spell them; the Python spellings are constants for the parser anyway.
LITERALS: Final = {"true": True, "false": False, "null": None}
#: How Excel and SQL spell them. As fields they would be null in silence; record["TRUE"] is for a field of that name.
_SPELLED_OTHERWISE: Final = {word: word.lower() for word in ("TRUE", "FALSE", "NULL", "Null")}
#: What stands for a document, never for a value.
HOLDERS: Final = ("record", "parent")


def check(root: ast.expr, source: Source, depth: int = 1) -> None:
    """Walk a tree once; literals with a point become Decimal.

    Raises:
        ValueError: it says something outside the language.
    """
    pending: list[tuple[ast.expr, int]] = [(root, depth)]
    while pending:
        node, level = pending.pop()
        if level > MAX_DEPTH:
            raise ValueError(f"the expression nests deeper than {MAX_DEPTH} levels")
        pending.extend((inner, level + 1) for inner in _node(node, source))


def is_null(node: ast.expr) -> bool:
    """True for null and None."""
    if isinstance(node, ast.Name):
        return LITERALS.get(node.id, "") is None
    return isinstance(node, ast.Constant) and node.value is None


def holder_key(node: ast.expr) -> tuple[str, str] | None:
    """(record or parent, the name) for record["name"] and record.get("name"...), None for every other node."""
    if isinstance(node, ast.Subscript):
        holder, key = node.value, node.slice
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        holder, key = node.func.value, node.args[0]
    else:
        return None
    if not isinstance(holder, ast.Name) or holder.id not in HOLDERS:
        return None
    assert isinstance(key, ast.Constant)
    assert isinstance(key.value, str)
    return holder.id, key.value


def check_operator(operator: ast.AST, allowed: tuple[type[ast.AST], ...]) -> None:
    """Raises ValueError for an operator outside the list."""
    if type(operator) not in allowed:
        raise ValueError(f"an expression cannot use {construct(operator)}")


def check_target(node: ast.expr, source: Source) -> list[str]:
    """The names that a loop or an assignment gives a value: a name, or several between commas.

    Raises:
        ValueError: it is something else, or a name that has another meaning.
    """
    if isinstance(node, ast.Tuple):
        if not node.elts:
            raise ValueError("there is no name to take the value")
        return [name for each in node.elts for name in _one_target(each, source)]
    return _one_target(node, source)


def _one_target(node: ast.expr, source: Source) -> list[str]:
    if not isinstance(node, ast.Name):
        raise ValueError("only names take values: x, or x, y; a part of a value is never changed")  # noqa: TRY004
    _name(node, source)
    if node.id in LITERALS:
        raise ValueError(f"{node.id} is a value and cannot be a name")
    return [node.id]


def _node(node: ast.expr, source: Source) -> list[ast.expr]:
    """Check one node; its inner nodes are checked next."""
    node_check = _NODES.get(type(node))
    if node_check is None:
        raise ValueError(f"an expression cannot use {construct(node)}")
    return node_check(node, source)


def _calculation(node: ast.BinOp, _source: Source) -> list[ast.expr]:
    check_operator(node.op, OPERATORS)
    return [node.left, node.right]


def _all_or_any(node: ast.BoolOp, _source: Source) -> list[ast.expr]:
    return list(node.values)


def _unary(node: ast.UnaryOp, _source: Source) -> list[ast.expr]:
    check_operator(node.op, UNARY)
    return [node.operand]


def _choice(node: ast.IfExp, _source: Source) -> list[ast.expr]:
    return [node.test, node.body, node.orelse]


def _listing(node: ast.List | ast.Tuple, _source: Source) -> list[ast.expr]:
    if len(node.elts) > MAX_ITEMS:
        raise ValueError(f"a list in an expression has at most {MAX_ITEMS} items")
    return list(node.elts)


def _object(node: ast.Dict, _source: Source) -> list[ast.expr]:
    inner: list[ast.expr] = []
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            raise ValueError("an expression cannot use ** in an object; write its names one by one")
        if isinstance(key, ast.Constant) and not isinstance(key.value, str):
            raise ValueError("a name in an object is text; put it in quotes")  # noqa: TRY004 - see parse
        inner += [key, value]
    return inner


def _compare(node: ast.Compare, _source: Source) -> list[ast.expr]:
    left = node.left
    for operator, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(operator, ast.Is | ast.IsNot) and (is_null(right) or is_null(left)):
            left = right
            continue
        check_operator(operator, COMPARISONS)
        left = right
    return [node.left, *node.comparators]


def _spelled_plainly(node: ast.Name, source: Source) -> None:
    # The parser folds names to their plainest characters (NFKC): what is checked must be what a person sees.
    if not source.spells(node, node.id):
        raise ValueError(
            f"the name {node.id!r} is written with look-alike characters; type it plainly, or write record[...]"
        )


def _name(node: ast.Name, source: Source) -> list[ast.expr]:
    name = node.id
    _spelled_plainly(node, source)
    if name.startswith("__") or name.endswith("__"):
        raise ValueError(
            f"the name {name!r} cannot be used: names with two underscores mean Python's inner parts"
        )
    if name in _SPELLED_OTHERWISE:
        raise ValueError(
            f'write {_SPELLED_OTHERWISE[name]} in small letters; record["{name}"] is the field of that name'
        )
    if name in HOLDERS:
        raise ValueError(f'{name} alone is no value; write {name}["Any name"]')
    return []


def _call(node: ast.Call, source: Source) -> list[ast.expr]:
    if isinstance(node.func, ast.Attribute):
        return _method_call(node, node.func, source)
    if not isinstance(node.func, ast.Name):
        raise ValueError("only a function or a method of the list can be called")  # noqa: TRY004 - see parse
    _spelled_plainly(node.func, source)
    name = node.func.id
    function = FUNCTIONS.get(name)
    if function is None:
        raise ValueError(unknown_function(name))
    return _arguments(node, name, function)


def _method_call(node: ast.Call, func: ast.Attribute, source: Source) -> list[ast.expr]:
    name = func.attr
    if not source.spells_method(func):
        raise ValueError(f"the name {name!r} is written with look-alike characters; type it plainly")
    if name.startswith("_"):
        raise ValueError(
            f"the name {name!r} cannot be used: no name behind a point begins with an underscore"
        )
    method = METHODS.get(name)
    if method is None:
        raise ValueError(unknown_method(name))
    if isinstance(func.value, ast.Name) and func.value.id in HOLDERS:
        return _record_get(node, func.value, name, source)
    return [func.value, *_arguments(node, name, method)]


def _record_get(node: ast.Call, holder: ast.Name, name: str, source: Source) -> list[ast.expr]:
    _spelled_plainly(holder, source)
    if name != "get":
        raise ValueError(f'{holder.id} has the method get only: {holder.id}.get("Any name", default)')
    _arguments(node, "get", METHODS["get"])
    key = node.args[0]
    _check_key(holder.id, key.value if isinstance(key, ast.Constant) else None)
    return node.args[1:]


def _arguments(node: ast.Call, name: str, function: Function) -> list[ast.expr]:
    if node.keywords:
        raise ValueError(f"{name} takes no named arguments: {function.says}")
    if not function.least <= len(node.args) <= function.most:
        raise ValueError(f"{name} does not take {len(node.args)} values: {function.says}")
    if len(node.args) == 1 and isinstance(node.args[0], ast.GeneratorExp):
        return _comprehension_parts([node.args[0].elt], node.args[0].generators)
    return list(node.args)


def _check_key(holder: str, key: object) -> None:
    if not isinstance(key, str):
        raise ValueError(f'{holder}[...] reaches a field by its name, a text in quotes: {holder}["Any name"]')  # noqa: TRY004
    if key.startswith("$") and (holder != "record" or key not in ("$scope", "$id")):
        raise ValueError(f'{holder}["{key}"] does not exist; there are record["$scope"] and record["$id"]')
    if not key:
        raise ValueError(f'{holder}[""] names no field')
    check_storable(key)


def _subscript(node: ast.Subscript, source: Source) -> list[ast.expr]:
    if isinstance(node.value, ast.Name) and node.value.id in HOLDERS:
        _spelled_plainly(node.value, source)
        _check_key(node.value.id, node.slice.value if isinstance(node.slice, ast.Constant) else None)
        return []
    if isinstance(node.slice, ast.Slice):
        bounds = (node.slice.lower, node.slice.upper, node.slice.step)
        return [node.value, *(bound for bound in bounds if bound is not None)]
    if isinstance(node.slice, ast.Tuple):
        raise ValueError("square brackets take one position or name: x[0][1], not x[0, 1]")  # noqa: TRY004
    return [node.value, node.slice]


def _comprehension(node: ast.ListComp, _source: Source) -> list[ast.expr]:
    return _comprehension_parts([node.elt], node.generators)


def _object_comprehension(node: ast.DictComp, _source: Source) -> list[ast.expr]:
    return _comprehension_parts([node.key, node.value], node.generators)


class _Target(ast.expr):
    """Stands in the walk for a name that takes a value."""

    def __init__(self, target: ast.expr) -> None:
        self.target = target


def _comprehension_parts(made: list[ast.expr], generators: list[ast.comprehension]) -> list[ast.expr]:
    inner = list(made)
    for each in generators:
        if each.is_async:
            raise ValueError("an expression cannot use async for")
        inner += [_Target(each.target), each.iter, *each.ifs]
    return inner


def _taking(node: _Target, source: Source) -> list[ast.expr]:
    check_target(node.target, source)
    return []


def _f_string(node: ast.JoinedStr, _source: Source) -> list[ast.expr]:
    return list(node.values)


def _f_value(node: ast.FormattedValue, _source: Source) -> list[ast.expr]:
    if node.conversion != -1:
        raise ValueError(f"an f-string cannot use !{chr(node.conversion)}; write the value alone")
    if node.format_spec is not None:
        parse_format(format_text(node.format_spec))
    return [node.value]


def format_text(spec: ast.expr) -> str:
    """What stands behind the colon in the braces of an f-string.

    Raises:
        ValueError: it holds braces of its own.
    """
    assert isinstance(spec, ast.JoinedStr)
    text = ""
    for part in spec.values:
        if not isinstance(part, ast.Constant):
            raise ValueError("the format in an f-string is written out; it cannot hold values of its own")  # noqa: TRY004
        text += str(part.value)
    check_storable(text)
    return text


_NODES: Final[dict[type[ast.expr], Callable[..., list[ast.expr]]]] = {
    ast.Constant: check_constant,
    ast.Name: _name,
    ast.Subscript: _subscript,
    ast.BinOp: _calculation,
    ast.BoolOp: _all_or_any,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.IfExp: _choice,
    ast.Call: _call,
    ast.List: _listing,
    ast.Tuple: _listing,
    ast.Dict: _object,
    ast.ListComp: _comprehension,
    ast.DictComp: _object_comprehension,
    ast.JoinedStr: _f_string,
    ast.FormattedValue: _f_value,
    _Target: _taking,
}
"""Every node an expression may hold, with its check. What is not here does not exist."""
