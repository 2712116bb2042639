"""One expression, template, date pattern or lookup key, evaluated on one record.

It goes the way of a flow: the text becomes a rule object, the rule is compiled by the code that compiles flows, and the
compiled function runs. A compiled function may be kept for the next record: it holds no more than what stands in the
text. Nothing of a record or a table is kept between two evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ValidationError

from ipaas_resources.core.values import Document, Value, canonical_number, escape_text
from mappings.codegen import Code, Shared
from mappings.expressions.guards import RuleError, too_large
from mappings.mapped import MISSING, Missing, RefUse
from mappings.rules import rule_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from mappings.mapped import LinkHit
    from mappings.rules import Rule

Kind = Literal["if", "when", "math", "python", "template", "date", "lookup"]

KINDS: Final[tuple[Kind, ...]] = ("if", "when", "math", "python", "template", "date", "lookup")

_TABLE: Final = "table"
_DEEPEST: Final = 100  # levels of a record
_KEPT: Final = 500  # compiled functions; most take 4 kB, the longest 100 kB
_LONGEST_KEPT: Final = 4_000  # characters, as long as an expression may be; templates may be longer


class RefusedExpressionError(ValueError):
    """The language does not take this text; the message names what, in words, and what to write instead."""

    class_name = "RefusedExpression"


def evaluate(kind: str, expr: str, record: Document, table: Mapping[str, Value] | None = None) -> Value:
    """What an expression makes of a record, by the code that flows run.

    `kind` says what `expr` is: `if` and `when` give true or false; `math` gives a number or null; `python` any value;
    `template` text; `date` is the form in which the field `value` comes out (`date`, `datetime`, `time` or a pattern,
    in UTC); `lookup` is the key into `table`, where a miss is null. The record is copied first and never changed.

    Raises:
        RefusedExpressionError: the text is not of the language, or the kind does not exist.
        RuleError: it cannot be calculated on this record; its `class_name` says why, its message holds no value.
    """
    if kind == "lookup" and table is None:
        raise RefusedExpressionError("a lookup needs a table: give it beside the record")
    kept = kind in KINDS and type(expr) is str and len(expr) <= _LONGEST_KEPT
    function = _kept(kind, expr) if kept else _compiled(_rule(kind, expr))
    if type(record) is not dict:
        raise RuleError("type", "the record is no object of names and values")
    document = _copied(record)
    return function(document, "", "", _Table(table or {}))


class _Table:
    """The resolver of an evaluation: one lookup table, no links."""

    def __init__(self, entries: Mapping[str, Value]) -> None:
        self._entries = entries

    def link(self, ref: RefUse, value: str) -> LinkHit | None:
        """There are no links here."""
        del ref, value
        return None

    def lookup(self, table: str, key: str) -> Value | Missing:
        """The entry, MISSING when there is none."""
        del table
        return _copied(self._entries[key]) if key in self._entries else MISSING


@lru_cache(maxsize=_KEPT)
def _kept(kind: str, expr: str) -> Callable[..., Value]:
    """The function of a text that was compiled before. A refusal is never kept."""
    return _compiled(_rule(kind, expr))


def _rule(kind: str, expr: str) -> Rule:
    words = rule_words()
    data: dict[str, Any]
    if kind in ("if", "when"):
        word = "if"
        data = {"if": expr, "then": True, "else": False}
    elif kind in ("math", "python", "template"):
        word = kind
        data = {kind: expr}
    elif kind == "date":
        word = "date"
        data = {"date": "value", "to": expr}
    elif kind == "lookup":
        word = "lookup"
        data = {"lookup": _TABLE, "of": {"python": expr}, "missing": "null"}
    else:
        raise RefusedExpressionError(f"{kind!r} is no kind of expression. Valid: {', '.join(KINDS)}")
    try:
        return words[word].parse(data)
    except ValidationError as error:
        raise RefusedExpressionError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    details = error.errors(include_url=False)[0]
    reason = details.get("ctx", {}).get("error")
    return str(reason) if reason is not None else "an expression is text; put it in quotes"


def _compiled(rule: Rule) -> Callable[..., Value]:
    shared = Shared("evaluation", "value")
    code = Code(shared)
    with code.making("value"):
        try:
            value = rule.compile(code)
        except ValueError as error:
            raise RefusedExpressionError(str(error)) from None
    lines = [
        *(line for function in shared.functions for line in function),
        "def evaluated(document, scope, record, resolve):",
        "    get = document.get",
        *(f"    {local} = get({field!r})" for field, local in code.reads.items()),
        f"    return {value}",
    ]
    namespace: dict[str, Any] = {"__builtins__": {}, "text_type": str, **shared.namespace}
    exec(compile("\n".join(lines), "<evaluation>", "exec"), namespace)  # noqa: S102 - see codegen.py
    function: Callable[..., Value] = namespace["evaluated"]
    return function


def _copied(value: Value, depth: int = 1) -> Value:
    """A copy made of plain values only.

    Raises:
        RuleError: there is a value that no record can hold.
    """
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return value
    if kind is str:
        # Canonical text is escaped already, so the escape character itself is nothing new.
        if escape_text(value.replace("\ue000", "")) != value.replace("\ue000", ""):
            raise RuleError("type", "the record holds a text that cannot be stored")
        return value
    if kind is Decimal:
        try:
            return canonical_number(value)
        except ValueError as error:
            raise RuleError("number", f"the record holds a number that cannot be stored: {error}") from None
    if depth > _DEEPEST:
        too_large(f"the record nests deeper than {_DEEPEST} levels")
    if kind is list:
        return [_copied(item, depth + 1) for item in value]
    if kind is dict:
        if any(type(key) is not str for key in value):
            raise RuleError("type", "the record holds a name that is no text")
        return {key: _copied(item, depth + 1) for key, item in value.items()}
    raise RuleError(
        "type", "the record holds a value of another kind than null, text, numbers, lists and objects"
    )
