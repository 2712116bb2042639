"""`$filter` of the fake: parsed once per request to a test over rows, with the ids that an index can name beforehand.

Offered: eq ne gt ge lt le, and or not, startswith endswith contains, null true false, text, numbers, GUIDs, moments.
Text is compared as the database does it, see fake_store.fold.
"""

from __future__ import annotations

import operator
import re
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn

from ipaas_resources.connectors.dataverse.fake_errors import bad_url, unknown_property
from ipaas_resources.connectors.dataverse.fake_store import Row, Rows, fold, index_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ipaas_resources.connectors.dataverse.fake_schema import Column, Table
    from ipaas_resources.core.values import Value

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')"
    r"|(?P<guid>[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})"
    r"|(?P<moment>\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?)"
    r"|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_.]*(?:/[A-Za-z_][A-Za-z0-9_]*)*(?:'[^']*')?)"
    r"|(?P<mark>[(),]))"
)
_COMPARE: Mapping[str, Callable[[Value, Value], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_TEXT_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "startswith": str.startswith,
    "endswith": str.endswith,
    "contains": str.__contains__,
}
_DEEPEST = 100


class Condition:
    """One node: a test of a row, and the ids outside which no row can pass (None: nobody knows)."""

    __slots__ = ("candidates", "test")

    def __init__(self, test: Callable[[Row], bool], candidates: Callable[[Rows], set[str] | None]) -> None:
        self.test = test
        self.candidates = candidates


def _anywhere(_rows: Rows) -> set[str] | None:
    return None


def parse(text: str, table: Table) -> Condition:
    """The condition of a `$filter`. Raises RefusedError, as the product does, when it is wrong."""
    parser = _Parser(text, table)
    condition = parser.either(0)
    if parser.peek():
        _syntax(text)
    return condition


def select(condition: Condition, rows: Rows) -> list[str]:
    """Ids of the rows that pass, in key order."""
    named = condition.candidates(rows)
    ids = rows.ids() if named is None else sorted(named)
    return [identifier for identifier in ids if condition.test(rows.by_id[identifier])]


def _syntax(text: str) -> NoReturn:
    raise bad_url(f"Syntax error in the filter of {len(text)} characters.")


class _Parser:
    def __init__(self, text: str, table: Table) -> None:
        self._text = text
        self._table = table
        self._columns = table.by_wire()
        self._tokens: list[tuple[str, str]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                _syntax(text)
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self._at = 0

    def peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            _syntax(self._text)
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, mark: str) -> None:
        if self._next()[1] != mark:
            _syntax(self._text)

    def either(self, depth: int) -> Condition:
        parts = [self._both(depth)]
        while self.peek() == "or":
            self._at += 1
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else _any_of(parts)

    def _both(self, depth: int) -> Condition:
        parts = [self._one(depth)]
        while self.peek() == "and":
            self._at += 1
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else _all_of(parts)

    def _one(self, depth: int) -> Condition:
        if depth > _DEEPEST:
            raise bad_url("The node count limit of the filter has been exceeded.")
        kind, word = self._next()
        if word == "(" and kind == "mark":
            inner = self.either(depth + 1)
            self._expect(")")
            return inner
        if word == "not":
            refused = self._one(depth + 1).test
            return Condition(lambda row: not refused(row), _anywhere)
        if kind != "word":
            _syntax(self._text)
        if word in _TEXT_TESTS:
            return self._text_test(_TEXT_TESTS[word])
        return self._comparison(self._column(word))

    def _text_test(self, passes: Callable[[str, str], bool]) -> Condition:
        self._expect("(")
        name = self._column(self._next()[1]).name
        self._expect(",")
        wanted = self._literal()
        self._expect(")")
        if not isinstance(wanted, str):
            _syntax(self._text)
        folded = fold(wanted)

        def test(row: Row) -> bool:
            held = row.values.get(name)
            return isinstance(held, str) and passes(fold(held), folded)

        return Condition(test, _anywhere)

    def _comparison(self, column: Column) -> Condition:
        sign = self._next()[1]
        wanted = self._literal()
        if sign == "eq":
            return _equals(column.name, self._table.primary, wanted)
        if sign == "ne":
            equal = _equals(column.name, self._table.primary, wanted).test
            return Condition(lambda row: not equal(row), _anywhere)
        if sign not in _COMPARE or wanted is None:
            _syntax(self._text)
        return _ordered(column.name, _COMPARE[sign], _comparable(wanted))

    def _column(self, wire: str) -> Column:
        column = self._columns.get(wire)
        if column is None:
            raise unknown_property(self._table.name, wire)
        return column

    def _literal(self) -> Value:
        kind, text = self._next()
        match kind:
            case "text":
                return text[1:-1].replace("''", "'")
            case "guid":
                return text.lower()
            case "moment":
                return text
            case "number":
                return Decimal(text) if "." in text else int(text)
            case "word" if text in _WORDS:
                return _WORDS[text]
        return _syntax(self._text)


_WORDS: Mapping[str, Value] = {"null": None, "true": True, "false": False}


def _any_of(parts: list[Condition]) -> Condition:
    tests = [part.test for part in parts]

    def candidates(rows: Rows) -> set[str] | None:
        found: set[str] = set()
        for part in parts:
            named = part.candidates(rows)
            if named is None:
                return None
            found |= named
        return found

    return Condition(lambda row: any(test(row) for test in tests), candidates)


def _all_of(parts: list[Condition]) -> Condition:
    tests = [part.test for part in parts]

    def candidates(rows: Rows) -> set[str] | None:
        named = [found for part in parts if (found := part.candidates(rows)) is not None]
        return min(named, key=len) if named else None

    return Condition(lambda row: all(test(row) for test in tests), candidates)


def _equals(name: str, primary: str, wanted: Value) -> Condition:
    if wanted is None:
        return Condition(lambda row: row.values.get(name) is None, _anywhere)
    key = index_key(wanted)

    def test(row: Row) -> bool:
        held = row.values.get(name)
        return held is not None and bool(index_key(held) == key)

    def candidates(rows: Rows) -> set[str] | None:
        if name == primary:
            return {wanted} & rows.by_id.keys()
        return rows.find(name, wanted)

    return Condition(test, candidates)


def _ordered(name: str, passes: Callable[[Value, Value], bool], wanted: Value) -> Condition:
    def test(row: Row) -> bool:
        held = row.values.get(name)
        if held is None or isinstance(held, tuple):
            return False
        value = _comparable(held)
        return isinstance(value, str) == isinstance(wanted, str) and passes(value, wanted)

    return Condition(test, _anywhere)


def _comparable(value: Value) -> Value:
    # Moments compare as text once the zone letter is gone: a fraction then follows its own second.
    if isinstance(value, str):
        return fold(value).removesuffix("z")
    return value
