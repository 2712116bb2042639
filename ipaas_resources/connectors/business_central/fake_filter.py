"""$filter of the fake: the operators and functions that Business Central has, and its refusals.

`or` joins conditions on ONE field only; `any` and `all` are silently ignored, as the product does (BC
webservices/use-filter-expressions-in-odata-uris.md, odata-known-limitations.md).
"""

from __future__ import annotations

import datetime as dt
import operator
import re
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.connectors.business_central.fake_errors import BusinessCentralError, bad_request
from ipaas_resources.connectors.business_central.fake_table import Row, Table

if TYPE_CHECKING:
    from ipaas_resources.connectors.business_central.catalogue import Column

Test = Callable[[Row], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')"
    r"|(?P<guid>[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})"
    r"|(?P<time>\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d))"
    r"|(?P<date>\d{4}-\d\d-\d\d)"
    r"|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<word>[A-Za-z_][\w/.]*)"
    r"|(?P<sign>[(),:]))"
)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_FUNCTIONS: dict[str, Callable[[str, str], bool]] = {
    "startswith": str.startswith,
    "endswith": str.endswith,
    "contains": operator.contains,
}


class Condition(msgspec.Struct, kw_only=True):
    """One node: its test, the fields it looks at, and what an index could answer of it."""

    test: Test
    fields: frozenset[str]
    equals: tuple[int, list[Any]] | None = None  # (position, values): exactly these
    since: int | None = None  # lastModifiedDateTime at or after this stamp


class FilterParser:
    """Reads one $filter for one table."""

    def __init__(self, table: Table, text: str) -> None:
        self._table = table
        self._tokens = _tokens(text)
        self._at = 0

    def parse(self) -> Condition:
        """The whole expression. Raises BusinessCentralError with the product's refusal."""
        found = self._any_of()
        if self._at != len(self._tokens):
            raise _syntax()
        return found

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, sign: str) -> None:
        if self._next() != ("sign", sign):
            raise _syntax()

    def _any_of(self) -> Condition:
        parts = [self._all_of()]
        while self._peek() == ("word", "or"):
            self._next()
            parts.append(self._all_of())
        if len(parts) == 1:
            return parts[0]
        fields = frozenset[str]().union(*(part.fields for part in parts))
        if len(fields) > 1:
            raise bad_request(
                "The 'OR' operator is not supported on distinct fields on an OData filter.",
                "BadRequest_MethodNotImplemented",
            )
        tests = [part.test for part in parts]
        equals = None
        if all(part.equals is not None for part in parts):
            values = [value for part in parts if part.equals for value in part.equals[1]]
            equals = (parts[0].equals[0], values) if parts[0].equals else None
        return Condition(test=lambda row: any(test(row) for test in tests), fields=fields, equals=equals)

    def _all_of(self) -> Condition:
        parts = [self._one()]
        while self._peek() == ("word", "and"):
            self._next()
            parts.append(self._one())
        if len(parts) == 1:
            return parts[0]
        tests = [part.test for part in parts]
        return Condition(
            test=lambda row: all(test(row) for test in tests),
            fields=frozenset[str]().union(*(part.fields for part in parts)),
            equals=next((part.equals for part in parts if part.equals is not None), None),
            since=next((part.since for part in parts if part.since is not None), None),
        )

    def _one(self) -> Condition:
        kind, word = self._peek()
        if (kind, word) == ("sign", "("):
            self._next()
            inner = self._any_of()
            self._expect(")")
            return inner
        if kind != "word":
            raise _syntax()
        if word.endswith(("/any", "/all")):
            return self._ignored_lambda()
        if word in _FUNCTIONS:
            return self._function()
        return self._comparison()

    def _ignored_lambda(self) -> Condition:
        self._next()
        self._expect("(")
        depth = 1
        while depth:
            kind, word = self._next()
            if kind == "end":
                raise _syntax()
            depth += {"(": 1, ")": -1}.get(word, 0) if kind == "sign" else 0
        return Condition(test=lambda _row: True, fields=frozenset())

    def _function(self) -> Condition:
        _, name = self._next()
        self._expect("(")
        column, value_of, _ = self._operand()
        self._expect(",")
        kind, literal = self._next()
        self._expect(")")
        if kind != "text":
            raise _syntax()
        test, wanted = _FUNCTIONS[name], _value(column, kind, literal)
        return Condition(test=lambda row: test(value_of(row), wanted), fields=frozenset((column.name,)))

    def _comparison(self) -> Condition:
        column, value_of, plain = self._operand()
        kind, word = self._next()
        if kind == "word" and word == "in":
            raise bad_request("The operator 'in' needs $schemaversion=2.1.", "BadRequest_NotFound")
        compare = _OPERATORS.get(word)
        literal_kind, literal = self._next()
        if compare is None or literal_kind in ("end", "sign"):
            raise _syntax()
        wanted = _value(column, literal_kind, literal)
        position = self._table.index[column.name]
        equals = (position, [wanted]) if word == "eq" and plain else None
        since = None
        if column.name == self._table.set.cursor:
            equals, wanted = None, _stamp(literal)
            since = int(wanted) if word in ("ge", "gt") else None
        return Condition(
            test=lambda row: compare(value_of(row), wanted),
            fields=frozenset((column.name,)),
            equals=equals,
            since=since,
        )

    def _operand(self) -> tuple[Column, Callable[[Row], Any], bool]:
        """The column, how a row's value of it is had, and whether that is the stored value itself."""
        kind, word = self._next()
        fold: Callable[[str], str] | None = None
        if kind == "word" and word in ("tolower", "toupper"):
            fold = str.lower if word == "tolower" else str.upper
            self._expect("(")
            kind, word = self._next()
            self._expect(")")
        if kind != "word":
            raise _syntax()
        column = self._table.set.columns.get(word)
        if column is None or column.type == "stream" or word not in self._table.index:
            raise bad_request(
                f"Could not find a property named '{word}' on type 'Microsoft.NAV.{self._table.set.type_name}'."
            )
        if word == self._table.set.cursor:
            return column, lambda row: row.stamp, True
        position = self._table.index[word]
        if fold is not None:
            change = fold
            return column, lambda row: change(row.values[position]), False
        return column, lambda row: row.values[position], True


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _syntax(at)
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens


def _syntax(at: int = 0) -> BusinessCentralError:
    return bad_request(f"Bad Request - Error in query syntax at position {at}.", "BadRequest_NotFound")


def _value(column: Column, kind: str, literal: str) -> Any:
    match column.type, kind:
        case (("text" | "enum"), "text"):
            value = literal[1:-1].replace("''", "'")
            return value.strip().upper() if column.code else value
        case "guid", "guid":
            return literal.lower()
        case (("decimal" | "integer" | "long"), "number"):
            return Decimal(literal)
        case "boolean", "word" if literal in ("true", "false"):
            return literal == "true"
        case "date", "date":
            return literal
        case "datetime", ("time" | "date"):
            return literal
    raise bad_request(
        f"A binary operator with incompatible types was detected. Found operand types for '{column.name}'."
    )


def _stamp(literal: str) -> float:
    """Milliseconds since 1970, fractions kept: a row's stamp has none."""
    moment = dt.datetime.fromisoformat(literal if "T" in literal else literal + "T00:00:00Z")
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(milliseconds=1)
