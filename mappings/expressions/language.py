"""What an expression or a block may say: text in, a checked tree out.

The text is parsed with `ast` and walked against the allowlists of checker.py and statements.py. Limits on length and
nesting come before the parser.
"""

from __future__ import annotations

import ast
import io
import re
import textwrap
import tokenize
import warnings
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pydantic_core import core_schema

from mappings.expressions.checker import check
from mappings.expressions.names import Names, names_of_block, names_of_expression
from mappings.expressions.sources import Source
from mappings.expressions.statements import BARE_COMMA, check_block
from mappings.expressions.unreadable import advice, compares_with_one_sign

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKER_VERSION: Final = 2
"""Which language a rule was checked against; it goes up when a text changes its meaning or is no longer taken."""

MAX_SOURCE: Final = 4_000  # characters
MAX_BRACKETS: Final = 40  # open at once
MAX_INDENTS: Final = 20  # of a block, one inside the other
_MOST_ELIFS: Final = 60


class Expression:  # noqa: PLW1641 - compared, never a key
    """A checked expression."""

    __slots__ = ("names", "source", "tree")

    def __init__(self, source: str, tree: ast.expr) -> None:
        self.source = source
        self.tree = tree
        self.names: Names = names_of_expression(tree)

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.source == self.source

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, Expression) else parse(value)
        )


class Block:  # noqa: PLW1641 - compared, never a key
    """A checked block: several statements; the last expression, or `result`, is its value."""

    __slots__ = ("names", "source", "statements")

    def __init__(self, source: str, statements: list[ast.stmt]) -> None:
        self.source = source
        self.statements = statements
        self.names: Names = names_of_block(statements)

    def __repr__(self) -> str:
        return f"Block({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and other.source == self.source


def source_names(program: Expression | Block) -> Iterator[str]:
    """Every source value that an expression or a block may read, each once: fields, $scope, $id, $parent.FIELD."""
    yield from program.names.reads


def parse(source: object) -> Expression:
    """Check an expression.

    Raises:
        ValueError: it says something outside the language; the message names what, in words.
    """
    text = _limited(source)
    try:
        return _expression(text)
    except SyntaxError as error:
        _refuse_syntax(text, error)


def parse_program(source: object) -> Expression | Block:
    """Check an expression, or a block of statements: what can be read as an expression is one.

    Raises:
        ValueError: it says something outside the language; the message names what, in words.
    """
    text = _limited(source)
    try:
        return _expression(text)
    except SyntaxError as error:
        as_expression = error
    _limit_indents(text)
    block = text.strip("\n") + "\n"
    if block[0] in " \t":
        # Only then: it would change the blank lines in a text over several lines.
        block = textwrap.dedent(block)
    try:
        statements: list[ast.stmt] = _parsed(block, "exec").body
    except SyntaxError as error:
        _refuse_block(text, as_expression, error)
    check_block(statements, Source(block))
    return Block(text, statements)


def _limited(source: object) -> str:
    if not isinstance(source, str):
        raise ValueError("an expression is text; put it in quotes")  # noqa: TRY004 - pydantic collects ValueErrors
    if len(source) > MAX_SOURCE:
        raise ValueError(f"the expression is longer than {MAX_SOURCE} characters")
    if not source.strip():
        raise ValueError("the expression is empty")
    depth = 0
    for character in source:
        if character in "([{":
            depth += 1
            if depth > MAX_BRACKETS:
                raise ValueError(f"the expression opens more than {MAX_BRACKETS} brackets at once")
        elif character in ")]}":
            depth -= 1
    return source


def _limit_indents(text: str) -> None:
    widths = [0]
    for line in text.splitlines():
        if not line.strip():
            continue
        width = len(line) - len(line.lstrip())
        while width < widths[-1]:
            widths.pop()
        if width > widths[-1]:
            widths.append(width)
            if len(widths) > MAX_INDENTS:
                raise ValueError(f"the block is indented more than {MAX_INDENTS} times")
    if len(re.findall(r"\belif\b", text)) > _MOST_ELIFS:
        raise ValueError(f"a block has at most {_MOST_ELIFS} elif; write an object and .get(...)")


def _expression(source: str) -> Expression:
    """The checked expression. Raises SyntaxError when it cannot be read as one."""
    # In brackets, so that an expression may run over several lines.
    text = f"({source}\n)"
    tree: ast.expr = _parsed(text, "eval").body
    if isinstance(tree, ast.Tuple) and not tree.elts and (tree.lineno, tree.col_offset) == (1, 0):
        raise ValueError("the expression is empty")
    if (
        isinstance(tree, ast.Tuple)
        and (tree.lineno, tree.col_offset) == (1, 0)
        and _is_one_bracket(tree, text)
    ):
        raise ValueError(BARE_COMMA)
    if (tree.lineno, tree.col_offset) == (1, 0) and not _is_one_bracket(tree, text):
        raise ValueError("the expression cannot be read: its brackets do not match")
    check(tree, Source(text))
    return Expression(source, tree)


def _parsed(text: str, mode: str) -> Any:
    try:
        # What Python only warns of ("\d", `1if x`) is not part of this language.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # With a name the parser would open a file of that name, to quote from it, when it refuses a block.
            return ast.parse(text, filename="", mode=mode)
    except (ValueError, MemoryError, RecursionError):
        raise ValueError(
            "the expression cannot be read: it nests too deeply or holds odd characters"
        ) from None


def _is_one_bracket(tree: ast.expr, text: str) -> bool:
    """True when the bracket that we put in front is closed by the one that we put behind."""
    if not isinstance(tree, ast.Tuple | ast.GeneratorExp):
        return False
    depth = 0
    tokens = [
        token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.OP
    ]
    for token in tokens[:-1]:
        depth += (token.string in "([{") - (token.string in ")]}")
        if depth == 0:
            return False
    return True


def _refuse_syntax(source: str, error: SyntaxError) -> NoReturn:
    if re.search(r"\$\w", source):
        raise ValueError('the expression cannot be read: write record["$scope"] instead of $scope') from None
    if said := advice(source):
        raise ValueError(f"the expression cannot be read: {said}") from None
    if re.search(r"(?<![=!<>])=(?!=)", source):
        raise ValueError(
            "the expression cannot be read: an assignment has no place here; compare with =="
        ) from None
    where = f" at character {max(1, (error.offset or 2) - 1)}" if error.lineno == 1 else ""
    # The parser's own words may quote the source; they are short and tell the most.
    raise ValueError(f"the expression cannot be read{where}: {error.msg}") from None


_STATEMENT: Final = re.compile(
    # Possessive, or a text of spaces and line ends would be looked at once from each of its characters.
    r"^[ \t]*+(?:(?:if|for|while|elif|else|def|class|try|with|import|from|return|pass|break|continue)\b|[\w, ]++[-+*/%]*=(?!=))",
    re.MULTILINE,
)


def _refuse_block(source: str, as_expression: SyntaxError, as_block: SyntaxError) -> NoReturn:
    if _STATEMENT.search(source) is None or re.search(r"\$\w", source) or compares_with_one_sign(source):
        _refuse_syntax(source, as_expression)
    if said := advice(source):
        raise ValueError(f"the block cannot be read: {said}") from None
    where = f" in line {as_block.lineno}" if as_block.lineno else ""
    # The parser would also propose :=, which is no part of the language.
    what = "compare with ==" if "Maybe you meant '=='" in as_block.msg else as_block.msg
    raise ValueError(f"the block cannot be read{where}: {what}") from None
