"""What the language answers to what it does not have: the way to say it here."""

from __future__ import annotations

import ast
import difflib
from typing import TYPE_CHECKING, Final

from mappings.expressions.functions import FUNCTIONS
from mappings.expressions.methods import METHODS
from mappings.faults import closest_name

if TYPE_CHECKING:
    from collections.abc import Iterable

_CONSTRUCTS: Final[dict[type[ast.AST], str]] = {
    ast.Attribute: "attribute access with a point",  # see _part
    ast.Lambda: "a lambda",
    ast.Set: "a set; write a list in square brackets",
    ast.SetComp: "a set comprehension; write unique([... for ...])",
    ast.GeneratorExp: "a generator on its own; write it in square brackets",
    ast.NamedExpr: "an assignment (:=)",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield from",
    ast.Starred: "a star",
    ast.Slice: "a slice in this place",
    ast.Is: "is, but with null; use ==",
    ast.IsNot: "is not, but with null; use !=",
    ast.MatMult: "the operator @",
    ast.BitAnd: "the operator &; write + between texts, and between conditions",
    ast.BitOr: "the operator |; use or",
    ast.BitXor: "the operator ^; use **",
    ast.LShift: "the operator <<",
    ast.RShift: "the operator >>",
    ast.Invert: "the operator ~; use not",
    # statements
    ast.While: "while; use for over range(n)",
    ast.FunctionDef: "def; a block cannot make functions",
    ast.AsyncFunctionDef: "async def",
    ast.ClassDef: "class",
    ast.Import: "import: nothing can be imported, the functions of docs/expressions.md are all there are",
    ast.ImportFrom: "import: nothing can be imported, the functions of docs/expressions.md are all there are",
    ast.Return: "return; end with the expression, or assign it to result",
    ast.Raise: "raise",
    ast.Try: "try",
    ast.TryStar: "try",
    ast.With: "with",
    ast.AsyncWith: "async with",
    ast.AsyncFor: "async for",
    ast.Delete: "del",
    ast.Assert: "assert",
    ast.Global: "global",
    ast.Nonlocal: "nonlocal",
    ast.Match: "match; use if and elif",
    ast.AnnAssign: "a type behind a colon; write name = value",
}

_INSTEAD: Final[dict[str, str]] = {
    # Python
    "decimal": "number(x)",
    "tuple": "a list in square brackets",
    "set": "unique(x)",
    "print": "nothing: the last expression is the value",
    "format": 'an f-string, such as f"{x:,.2f}"',
    "pow": "x ** n",
    "map": "[f(x) for x in items]",
    "filter": "[x for x in items if ...]",
    "next": "first(x)",
    "isinstance": "nothing like it: compare the value itself",
    "getattr": 'x.get("name")',
    # Excel
    "trim": "strip(x)",
    "concat": "a + b, or join(items)",
    "concatenate": "a + b, or join(items)",
    "textjoin": 'join(items, ", ")',
    "substitute": "replace(x, old, new)",
    "proper": "title_case(x)",
    "value": "number(x)",
    "numbervalue": "number(x)",
    "iferror": "a test before it, such as a / b if b else null",
    "ifna": "coalesce(x, y)",
    "isblank": "empty(x)",
    "isnull": "x == null",
    "if": "a if condition else b",
    "ifs": "a if condition else b if other else c",
    "switch": '{"A": 1, "B": 2}.get(x, 0)',
    "and": "a and b",
    "or": "a or b",
    "not": "not a",
    "true": "true",
    "false": "false",
    "search": "x.find(y)",
    "find": "x.find(y)",
    "rept": "x * n",
    "exact": "a == b",
    "average": "sum(x) / len(x)",
    "count": "len(x)",
    "counta": "len([y for y in x if not empty(y)])",
    "countif": "len([y for y in x if ...])",
    "sumif": "sum(y for y in x if ...)",
    "roundup": "ceil(x, n)",
    "rounddown": "floor(x, n)",
    "ceiling": "ceil(x)",
    "trunc": "int(x)",
    "mod": "a % b",
    "power": "a ** b",
    "vlookup": "a lookup rule",
    "xlookup": "a lookup rule",
    "datevalue": "date(x)",
    "nvl": "coalesce(x, y)",
    "length": "len(x)",
    "ucase": "upper(x)",
    "lcase": "lower(x)",
    "tostring": "text(x)",
    "tolower": "lower(x)",
    "toupper": "upper(x)",
}

#: What gives another value at every run. A rule must give the same for the same record, or nothing could be compared.
_NEVER_THE_SAME: Final = frozenset(
    {
        *("today", "now", "utcnow", "getdate", "getutcdate", "sysdate", "curdate", "current_date"),
        *("current_timestamp", "rand", "random", "randint", "randbetween", "uuid", "uuid4", "guid", "newid"),
    }
)
_NEAR: Final = 8  # names that are listed for one that there is not
_NEAR_ENOUGH: Final = 0.4  # of difflib's likeness

_CHANGERS: Final = frozenset({"append", "extend", "insert", "add"})
_OTHER_CHANGERS: Final = frozenset(
    {"update", "pop", "popitem", "remove", "clear", "setdefault", "sort", "reverse"}
)


def construct(node: ast.AST) -> str:
    """What a part of the text is called that the language does not have."""
    if isinstance(node, ast.Attribute):
        return f"{_CONSTRUCTS[ast.Attribute]}; {_part(node)}"
    return _CONSTRUCTS.get(type(node)) or f"the Python construct {type(node).__name__}"


def _part(node: ast.Attribute) -> str:
    """How the part behind a point is reached here."""
    called = "a method is called with brackets, such as x.upper()"
    if node.attr in METHODS or node.attr.startswith("_") or not isinstance(node.value, ast.Name):
        return called
    holder, key = node.value.id, f'["{node.attr}"]'
    if holder in ("record", "parent"):
        return f"write {holder}{key}"
    return f"write {holder}{key}, of a list [x{key} for x in {holder}]; {called}"


def _never_the_same(kind: str, name: str) -> str:
    return (
        f"there is no {kind} {name!r}: a rule gives the same result whenever it runs; "
        "take the value from a field of the record"
    )


def _nearest(what: str, name: str, known: Iterable[str]) -> str:
    """What was probably meant, a few names like it, and where all of them stand."""
    hint = closest_name(name, known)
    near = difflib.get_close_matches(name.lower(), known, n=_NEAR, cutoff=_NEAR_ENOUGH)
    listed = f" Near it: {', '.join(near)}." if near else ""
    return f"{f'; did you mean {hint}?' if hint else '.'}{listed} All {what} stand in docs/expressions.md"


def unknown_function(name: str) -> str:
    """The sentence for a function that there is not."""
    if name.lower() in FUNCTIONS:
        return (
            f"there is no function {name!r}; did you mean {name.lower()}? Names are written in small letters"
        )
    instead = _INSTEAD.get(name.lower())
    if instead is not None:
        return f"there is no function {name!r}; write {instead}"
    if name.lower() in _NEVER_THE_SAME:
        return _never_the_same("function", name)
    if name in METHODS:
        return f"there is no function {name!r}; it is a method: {METHODS[name].says}"
    return f"there is no function {name!r}{_nearest('functions', name, FUNCTIONS)}"


def unknown_method(name: str) -> str:
    """The sentence for a method that there is not."""
    if name.lower() in _NEVER_THE_SAME:
        return _never_the_same("method", name)
    if name in _CHANGERS:
        return f"there is no method {name!r}: nothing changes in place; write x = x + [y]"
    if name in _OTHER_CHANGERS:
        return f"there is no method {name!r}: nothing changes in place; make a new list, such as [y for y in x if ...]"
    if name in ("format", "format_map"):
        return f'there is no method {name!r}; write an f-string, such as f"{{x:,.2f}}"'
    if name in FUNCTIONS:
        return f"there is no method {name!r}; it is a function: {FUNCTIONS[name].says}"
    return f"there is no method {name!r}{_nearest('methods', name, METHODS)}"
