"""The allowlist of the expression language: node classes, operators, functions. What is not here does not exist."""

from __future__ import annotations

import ast
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from ipaas_resources.core.values import escape_text
from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.guards import MAX_BITS
from mappings.expressions.operators import DIGITS
from mappings.faults import closest_name

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH: Final = 60  # of the tree; the generated source nests twice as deep, and Python reads 200 levels
_LARGEST_EXPONENT: Final = 30

OPERATORS: Final = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
COMPARISONS: Final = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)
UNARY: Final = (ast.Not, ast.USub, ast.UAdd)

#: Spelled as YAML and JSON spell them; the Python spellings are constants for the parser anyway.
LITERALS: Final = {"true": True, "false": False, "null": None}

_CONSTRUCTS: Final[dict[type[ast.AST], str]] = {
    ast.Attribute: "attribute access with a point; write upper(x) instead of x.upper()",
    ast.Lambda: "a lambda",
    ast.ListComp: "a list comprehension",
    ast.SetComp: "a set comprehension",
    ast.DictComp: "a dict comprehension",
    ast.GeneratorExp: "a generator expression",
    ast.NamedExpr: "an assignment (:=)",
    ast.JoinedStr: "an f-string; use a template rule",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield from",
    ast.Starred: "a star argument",
    ast.Dict: "a dict",
    ast.Set: "a set",
    ast.Tuple: "a tuple; write a list in square brackets",
    ast.Slice: "a slice; use left, right or mid",
    ast.Is: "is; use ==",
    ast.IsNot: "is not; use !=",
    ast.MatMult: "the operator @",
    ast.BitAnd: "the operator &; use and",
    ast.BitOr: "the operator |; use or",
    ast.BitXor: "the operator ^; use **",
    ast.LShift: "the operator <<",
    ast.RShift: "the operator >>",
    ast.Invert: "the operator ~; use not",
}


def _say(node: ast.AST) -> str:
    kind = type(node)
    return _CONSTRUCTS.get(kind) or f"the Python construct {kind.__name__}"


class Source:
    """The text that a tree was parsed from, ready to be cut out by node."""

    def __init__(self, text: str) -> None:
        # The parser counts lines as the file reader does, and columns in bytes.
        self._lines = [line.encode() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]

    def of(self, node: ast.expr) -> str:
        """What stands in the text for a node that does not run over lines."""
        return self._lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()


def check(root: ast.expr, text: str) -> None:
    """Walk a tree once; literals with a point become Decimal. `text` is what it was parsed from.

    Raises:
        ValueError: it says something outside the language.
    """
    source = Source(text)
    pending: list[tuple[ast.expr, int]] = [(root, 1)]
    while pending:
        node, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"the expression nests deeper than {MAX_DEPTH} levels")
        pending.extend((inner, depth + 1) for inner in _node(node, source))


def _node(node: ast.expr, source: Source) -> list[ast.expr]:
    """Check one node; its inner nodes are checked next."""
    node_check = _NODES.get(type(node))
    if node_check is None:
        raise ValueError(f"an expression cannot use {_say(node)}")
    return node_check(node, source)


def _calculation(node: ast.BinOp, _source: Source) -> list[ast.expr]:
    _operator(node.op, OPERATORS)
    return [node.left, node.right]


def _all_or_any(node: ast.BoolOp, _source: Source) -> list[ast.expr]:
    return list(node.values)


def _unary(node: ast.UnaryOp, _source: Source) -> list[ast.expr]:
    _operator(node.op, UNARY)
    return [node.operand]


def _choice(node: ast.IfExp, _source: Source) -> list[ast.expr]:
    return [node.test, node.body, node.orelse]


def _list(_node: ast.List, _source: Source) -> list[ast.expr]:
    raise ValueError("a list stands on the right of in only")


def _operator(operator: ast.AST, allowed: tuple[type[ast.AST], ...]) -> None:
    if type(operator) not in allowed:
        raise ValueError(f"an expression cannot use {_say(operator)}")


def _compare(node: ast.Compare, _source: Source) -> list[ast.expr]:
    for operator in node.ops:
        _operator(operator, COMPARISONS)
    inner = [node.left]
    for operator, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(operator, ast.In | ast.NotIn) and isinstance(right, ast.List):
            if right is not node.comparators[-1]:
                raise ValueError("a comparison ends after in [...]; put it in brackets to go on")
            inner.extend(right.elts)
        else:
            inner.append(right)
    return inner


def _spelled_plainly(node: ast.Name, source: Source) -> None:
    # The parser folds names to their plainest characters (NFKC): what is checked must be what a person sees.
    if source.of(node) != node.id:
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
    if name in ("record", "parent"):
        raise ValueError(f'{name} alone is no value; write {name}["Any name"]')
    return []


def _call(node: ast.Call, source: Source) -> list[ast.expr]:
    if isinstance(node.func, ast.Attribute):
        raise ValueError(f"an expression cannot use {_say(node.func)}")  # noqa: TRY004 - see parse
    if not isinstance(node.func, ast.Name):
        raise ValueError("only a function of the list can be called")  # noqa: TRY004 - see parse
    _spelled_plainly(node.func, source)
    name = node.func.id
    function = FUNCTIONS.get(name)
    if function is None:
        hint = closest_name(name, FUNCTIONS)
        raise ValueError(
            f"there is no function {name!r}{f'; did you mean {hint}?' if hint else '.'} "
            f"Functions: {', '.join(FUNCTIONS)}"
        )
    if node.keywords:
        raise ValueError(f"{name} takes no named arguments: {function.says}")
    if not function.least <= len(node.args) <= function.most:
        raise ValueError(f"{name} does not take {len(node.args)} values: {function.says}")
    return list(node.args)


def _subscript(node: ast.Subscript, source: Source) -> list[ast.expr]:
    holder = node.value.id if isinstance(node.value, ast.Name) else ""
    key = node.slice.value if isinstance(node.slice, ast.Constant) else None
    if isinstance(node.slice, ast.Slice):
        raise ValueError(f"an expression cannot use {_say(node.slice)}")  # noqa: TRY004 - see parse
    if holder not in ("record", "parent") or not isinstance(key, str):
        raise ValueError('square brackets reach a field by its name only: record["Any name"]')
    assert isinstance(node.value, ast.Name)
    _spelled_plainly(node.value, source)
    if key.startswith("$") and (holder != "record" or key not in ("$scope", "$id")):
        raise ValueError(f'{holder}["{key}"] does not exist; there are record["$scope"] and record["$id"]')
    if not key:
        raise ValueError(f'{holder}[""] names no field')
    return []


def _constant(node: ast.Constant, source: Source) -> list[ast.expr]:
    value: object = node.value
    if isinstance(value, float):
        # Decimal is not among the types that the parser makes; the emitter takes any plain value.
        node.value = _decimal(node, source)  # type: ignore[assignment]
    elif isinstance(value, str):
        if escape_text(value) != value:
            raise ValueError("a text in the expression holds a character that cannot be stored")
    elif type(value) is int:
        if value.bit_length() > MAX_BITS:
            raise ValueError(f"a number in the expression has more than {MAX_BITS} bits")
    elif value is not None and type(value) is not bool:
        raise ValueError(f"an expression cannot use a literal of the kind {type(value).__name__}")
    return []


def _decimal(node: ast.Constant, source: Source) -> Decimal:
    # The parser made a float of it; the digits stand in the source.
    literal = source.of(node).replace("_", "")
    try:
        number = Decimal(literal)
    except InvalidOperation:
        raise ValueError("a number in the expression cannot be read") from None
    if len(number.as_tuple().digits) > DIGITS or abs(number.adjusted()) > _LARGEST_EXPONENT:
        raise ValueError(f"a number in the expression has more than {DIGITS} digits or a large exponent")
    return number


_NODES: Final[dict[type[ast.expr], Callable[..., list[ast.expr]]]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Subscript: _subscript,
    ast.BinOp: _calculation,
    ast.BoolOp: _all_or_any,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.IfExp: _choice,
    ast.Call: _call,
    ast.List: _list,
}
"""Every node an expression may hold, with its check. What is not here does not exist."""
