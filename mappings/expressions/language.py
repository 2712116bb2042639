"""What an expression may say: text in, a checked tree out.

The text is parsed with `ast` and walked against the allowlist of checker.py. Limits on length and nesting come before
the parser.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import TYPE_CHECKING, Final, NoReturn

from pydantic_core import core_schema

from mappings.expressions.checker import LITERALS, check

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SOURCE: Final = 4_000  # characters
MAX_BRACKETS: Final = 40  # open at once


class Expression:  # noqa: PLW1641 - compared, never a key
    """A checked expression."""

    __slots__ = ("source", "tree")

    def __init__(self, source: str, tree: ast.expr) -> None:
        self.source = source
        self.tree = tree

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.source == self.source

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, Expression) else parse(value)
        )


def source_name(node: ast.AST) -> str | None:
    """The source value that a node of a checked tree reads, None when it reads none itself."""
    if isinstance(node, ast.Name):
        return None if node.id in LITERALS else node.id
    if isinstance(node, ast.Subscript):
        assert isinstance(node.value, ast.Name)
        assert isinstance(node.slice, ast.Constant)
        key = node.slice.value
        assert isinstance(key, str)
        return key if node.value.id == "record" else f"$parent.{key}"
    return None


def source_names(expression: Expression) -> Iterator[str]:
    """Every source value that an expression reads, each once."""
    called = {id(node.func) for node in ast.walk(expression.tree) if isinstance(node, ast.Call)}
    holders = {id(node.value) for node in ast.walk(expression.tree) if isinstance(node, ast.Subscript)}
    names = (
        source_name(node)
        for node in ast.walk(expression.tree)
        if id(node) not in called and id(node) not in holders
    )
    yield from dict.fromkeys(name for name in names if name is not None)


def parse(source: object) -> Expression:
    """Check an expression.

    Raises:
        ValueError: it says something outside the language; the message names what, in words.
    """
    if not isinstance(source, str):
        raise ValueError("an expression is text; put it in quotes")  # noqa: TRY004 - pydantic collects ValueErrors
    if len(source) > MAX_SOURCE:
        raise ValueError(f"the expression is longer than {MAX_SOURCE} characters")
    if not source.strip():
        raise ValueError("the expression is empty")
    _limit_nesting(source)
    # In brackets, so that an expression may run over several lines.
    text = f"({source}\n)"
    try:
        # What Python only warns of ("\d", `1if x`) is not part of this language.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        _refuse_syntax(source, error)
    except (ValueError, MemoryError, RecursionError):
        raise ValueError(
            "the expression cannot be read: it nests too deeply or holds odd characters"
        ) from None
    if (tree.lineno, tree.col_offset) == (1, 0) and not isinstance(tree, ast.Tuple | ast.GeneratorExp):
        raise ValueError("the expression cannot be read: its brackets do not match")
    check(tree, text)
    return Expression(source, tree)


def _limit_nesting(source: str) -> None:
    depth = 0
    for character in source:
        if character in "([{":
            depth += 1
            if depth > MAX_BRACKETS:
                raise ValueError(f"the expression opens more than {MAX_BRACKETS} brackets at once")
        elif character in ")]}":
            depth -= 1


def _refuse_syntax(source: str, error: SyntaxError) -> NoReturn:
    if re.search(r"\$\w", source):
        raise ValueError('the expression cannot be read: write record["$scope"] instead of $scope') from None
    if re.search(r"(?<![=!<>])=(?!=)", source):
        raise ValueError(
            "the expression cannot be read: an assignment has no place here; compare with =="
        ) from None
    where = f" at character {max(1, (error.offset or 2) - 1)}" if error.lineno == 1 else ""
    # The parser's own words may quote the source; they are short and tell the most.
    raise ValueError(f"the expression cannot be read{where}: {error.msg}") from None
