"""The rows of one fake table: versions, the change log behind delta links, tombstones, indexes, and undo."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaas_resources.connectors.dataverse.fake_schema import Table
    from ipaas_resources.core.values import Value

Undo = Callable[[], None]
Reference = tuple[str, str]  # table, row id: the stored value of a lookup

_LOG_SLACK = 1000
_RENDERINGS_KEPT = 2


class Row:
    """One row. `values` holds what is not null, by column name; a lookup's value is a Reference."""

    __slots__ = ("id", "rendered", "values", "version")

    def __init__(self, identifier: str, values: dict[str, Value], version: int) -> None:
        self.id = identifier
        self.values = values
        self.version = version
        #: Prepared bytes by shape (see fake_render), emptied with every change.
        self.rendered: dict[int, bytes] = {}

    def keep(self, shape: int, body: bytes) -> bytes:
        """Remember a rendering; the few shapes in use at a time fit, others push them out."""
        if len(self.rendered) >= _RENDERINGS_KEPT:
            self.rendered.clear()
        self.rendered[shape] = body
        return body


def fold(text: str) -> str:
    """Text as the database compares it: without case, accents and trailing blanks."""
    if text.isascii():
        return text.lower().rstrip(" ")
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold().rstrip(" ")


def index_key(value: Value) -> Value:
    """What equal values share: folded text, the id of a reference."""
    if isinstance(value, str):
        return fold(value)
    return value[1] if isinstance(value, tuple) else value


class Rows:
    """The rows of one table, by id."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.by_id: dict[str, Row] = {}
        self.tombstones: dict[str, int] = {}  # id -> version of its deletion
        #: Version of the last change of anything here.
        self.version = 0
        self._log: list[tuple[int, str]] = []
        self._order: list[str] = []
        self._ordered = True
        self._indexes: dict[str, dict[Value, set[str]]] = {}

    def add(self, row: Row) -> Undo:
        """Insert a new row."""
        tombstone = self.tombstones.pop(row.id, None)
        self.by_id[row.id] = row
        self._order.append(row.id)
        self._ordered = False
        self._note(row.version, row.id)
        if self._indexes:
            self._index(row)

        def undo() -> None:
            self._drop(row)
            if tombstone is not None:
                self.tombstones[row.id] = tombstone

        return undo

    def change(self, row: Row, values: dict[str, Value], version: int) -> Undo:
        """Set columns of a row; None clears one."""
        before, before_version = row.values, row.version
        after = {**before, **values}
        for name, value in values.items():
            if value is None:
                del after[name]
        self._replace(row, after, version)
        self._note(version, row.id)

        def undo() -> None:
            # Not noted again: the entry of the earlier version is still in the log, which must stay in order.
            self._replace(row, before, before_version)

        return undo

    def remove(self, row: Row, version: int) -> Undo:
        """Delete a row; it leaves a tombstone."""
        self._drop(row)
        self.tombstones[row.id] = version
        self.version = version

        def undo() -> None:
            del self.tombstones[row.id]
            self.by_id[row.id] = row
            self._order.append(row.id)
            self._ordered = False
            self._index(row)

        return undo

    def ids(self) -> list[str]:
        """All ids in key order, the order of a plain query."""
        if not self._ordered or len(self._order) != len(self.by_id):
            # Sorting a sorted list with a tail is cheap; sorting the dict anew is not.
            self._order = [
                identifier for identifier in dict.fromkeys(self._order) if identifier in self.by_id
            ]
            self._order.sort()
            self._ordered = True
        return self._order

    def after(self, identifier: str) -> Iterator[str]:
        """Ids behind this one, in key order."""
        order = self.ids()
        return iter(order[bisect_right(order, identifier) :])

    def changed(self, since: int, until: int) -> Iterator[tuple[int, Row]]:
        """Rows whose last change lies in (since, until], in order of that change."""
        self._compact()
        log = self._log
        for position in range(bisect_right(log, (since, "\uffff")), len(log)):
            version, identifier = log[position]
            if version > until:
                return
            row = self.by_id.get(identifier)
            if row is not None and row.version == version:
                yield version, row

    def deleted(self, since: int, until: int) -> list[tuple[int, str]]:
        """(version, id) of rows deleted in (since, until], in that order."""
        return sorted((v, i) for i, v in self.tombstones.items() if since < v <= until)

    def find(self, column: str, value: Value) -> set[str]:
        """Ids of the rows that hold this value, by an index made on first use."""
        index = self._indexes.get(column)
        if index is None:
            index = self._indexes[column] = {}
            for row in self.by_id.values():
                if (held := row.values.get(column)) is not None:
                    index.setdefault(index_key(held), set()).add(row.id)
        return index.get(index_key(value), set())

    def _note(self, version: int, identifier: str) -> None:
        self.version = version
        self._log.append((version, identifier))

    def _compact(self) -> None:
        if len(self._log) > 2 * len(self.by_id) + _LOG_SLACK:
            rows = self.by_id
            self._log = [
                entry for entry in self._log if entry[1] in rows and rows[entry[1]].version == entry[0]
            ]

    def _replace(self, row: Row, values: dict[str, Value], version: int) -> None:
        self._unindex(row)
        row.values, row.version = values, version
        row.rendered.clear()
        self._index(row)

    def _drop(self, row: Row) -> None:
        del self.by_id[row.id]
        self._unindex(row)

    def _index(self, row: Row) -> None:
        for column, index in self._indexes.items():
            if (held := row.values.get(column)) is not None:
                index.setdefault(index_key(held), set()).add(row.id)

    def _unindex(self, row: Row) -> None:
        for column, index in self._indexes.items():
            if (held := row.values.get(column)) is not None:
                index[index_key(held)].discard(row.id)
