"""The rows of one entity set in one company, in the two orders that the API serves, with their JSON prepared."""

from __future__ import annotations

import base64
import bisect
import datetime as dt
from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.fakes import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ipaas_resources.connectors.business_central.catalogue import EntitySet

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Row:
    """One record. `values` stand in the order of the set's columns, as they go over the wire."""

    __slots__ = ("born", "dead", "file", "lines", "parent", "projected", "raw", "seq", "stamp", "values")

    def __init__(self, values: list[Any], born: int, parent: Row | None) -> None:
        self.values = values
        self.born = born  # place in the order of creation
        self.seq = 0  # the version: a new number with every write
        self.stamp = 0  # lastModifiedDateTime, milliseconds since 1970
        self.dead = False
        self.parent = parent
        self.lines: list[Row] | None = None  # of a document
        self.file: Any = None  # of a set with a stream property
        self.raw: bytes | None = None  # the JSON of the whole record
        self.projected: tuple[object, bytes] | None = None  # the JSON of the last $select

    @property
    def etag(self) -> str:
        """The concurrency token, weak and opaque as Business Central's."""
        text = base64.b64encode(b"19;%016d;1;00;" % self.seq).decode("ascii")
        return f'W/"{text}"'

    def forget_json(self) -> None:
        """The record changed."""
        self.raw = None
        self.projected = None


class Sequence64:
    """Numbers that only grow, one counter for a whole environment: versions, order of creation."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def next(self) -> int:
        """The next number."""
        self.value += 1
        return self.value


class Table:
    """The rows of one entity set in one company."""

    def __init__(self, entity_set: EntitySet, numbers: Sequence64) -> None:
        self.set = entity_set
        self.names = [column.name for column in entity_set.columns.values() if not column.filter_only]
        self.index = {name: position for position, name in enumerate(self.names)}
        self.rows: dict[str, Row] = {}
        self.streams = [c.name for c in entity_set.columns.values() if c.type == "stream"]
        self.base = ""  # URL of the set, for the links of stream properties
        self._key = self.index[entity_set.key[0]] if entity_set.key else -1
        self._stamp = self.index.get(entity_set.cursor) if entity_set.cursor else None
        if self._stamp is None:
            self._stamp = next((i for n, i in self.index.items() if n.endswith("fiedDateTime")), None)
        self._numbers = numbers
        self._created: list[Row] = []  # by `born`; the dead are skipped
        self._modified: list[tuple[int, int, Row]] = []  # (stamp, seq, row); stale entries are skipped
        self._lookups: dict[int, tuple[Callable[[Any], Any], dict[Any, list[Row]]]] = {}
        #: How the values of AL Code fields are stored and compared, by position.
        self.folds: dict[int, Callable[[Any], Any]] = {
            i: _fold for n, i in self.index.items() if entity_set.columns[n].code
        }

    # Writing -----------------------------------------------------------------------------------------------------

    def insert(self, values: list[Any], stamp: int, parent: Row | None = None) -> Row:
        """Add a row; its id is in its values."""
        row = Row(values, self._numbers.next(), parent)
        self.rows[values[self._key]] = row
        self._created.append(row)
        for position, (fold, found) in self._lookups.items():
            found.setdefault(fold(values[position]), []).append(row)
        self._touched(row, stamp)
        return row

    def change(self, row: Row, changes: dict[int, Any], stamp: int) -> None:
        """Set values by position; a new version even when nothing differs."""
        for position, value in changes.items():
            if position in self._lookups:
                fold, found = self._lookups[position]
                found[fold(row.values[position])].remove(row)
                found.setdefault(fold(value), []).append(row)
            row.values[position] = value
        self._touched(row, stamp)

    def remove(self, row: Row) -> None:
        """Delete a row."""
        row.dead = True
        del self.rows[row.values[self._key]]
        for position, (fold, found) in self._lookups.items():
            found[fold(row.values[position])].remove(row)

    def undo_change(self, row: Row, values: list[Any], seq: int, stamp: int) -> None:
        """Bring back an earlier version, token included."""
        for position, (fold, found) in self._lookups.items():
            found[fold(row.values[position])].remove(row)
            found.setdefault(fold(values[position]), []).append(row)
        row.values, row.seq, row.stamp = values, seq, stamp
        row.forget_json()
        bisect.insort(self._modified, (stamp, seq, row), key=_stamp)

    def undo_remove(self, row: Row) -> None:
        """Bring back a deleted row."""
        row.dead = False
        self.rows[row.values[self._key]] = row
        for position, (fold, found) in self._lookups.items():
            found.setdefault(fold(row.values[position]), []).append(row)
        if row not in self._created:  # it was swept meanwhile
            bisect.insort(self._created, row, key=_born)
            bisect.insort(self._modified, (row.stamp, row.seq, row), key=_stamp)

    def _touched(self, row: Row, stamp: int) -> None:
        row.seq = self._numbers.next()
        row.stamp = stamp
        row.forget_json()
        if self._stamp is not None:
            row.values[self._stamp] = wire_time(stamp)
        entry = (stamp, row.seq, row)
        log = self._modified
        if not log or log[-1][0] <= stamp:
            log.append(entry)
        else:  # the clock went back
            bisect.insort(log, entry, key=_stamp)
        if len(log) > 2 * len(self.rows) + 64:
            self._modified = [e for e in log if e[2].seq == e[1] and not e[2].dead]
        if len(self._created) > 2 * len(self.rows) + 64:
            self._created = [r for r in self._created if not r.dead]

    # Reading -----------------------------------------------------------------------------------------------------

    def by_creation(self, after: int = 0) -> Iterator[Row]:
        """Rows in their stable order, from the one after `born`."""
        start = bisect.bisect_right(self._created, after, key=_born) if after else 0
        created = self._created
        return (created[i] for i in range(start, len(created)) if not created[i].dead)

    def by_change(self, since: int = 0, after: tuple[int, int] | None = None) -> Iterator[Row]:
        """Rows by (stamp, seq), those of stamp >= since; `after` continues behind that entry."""
        log = self._modified
        if after is not None:
            start = bisect.bisect_right(log, after, key=_stamp)
        else:
            start = bisect.bisect_left(log, (since, 0), key=_stamp) if since else 0
        return (
            log[i][2] for i in range(start, len(log)) if log[i][2].seq == log[i][1] and not log[i][2].dead
        )

    def equal(self, position: int, values: Sequence[Any]) -> list[Row]:
        """Rows whose value is one of these, in order of creation; an index is made at the first call."""
        if position not in self._lookups:
            fold = self.folds.get(position, _same)
            found: dict[Any, list[Row]] = {}
            for row in self.by_creation():
                found.setdefault(fold(row.values[position]), []).append(row)
            self._lookups[position] = (fold, found)
        fold, found = self._lookups[position]
        rows = {id(row): row for value in values for row in found.get(fold(value), ())}
        return sorted(rows.values(), key=_born)

    # JSON --------------------------------------------------------------------------------------------------------

    def json(self, row: Row, select: frozenset[str] | None = None) -> bytes:
        """The record as JSON, `@odata.etag` first; kept until the record changes."""
        if select is None:
            if row.raw is None:
                row.raw = self._encode(row, None)
            return row.raw
        if row.projected is None or row.projected[0] != select:
            row.projected = (select, self._encode(row, select))
        return row.projected[1]

    def document(self, row: Row) -> dict[str, Any]:
        """The record as it goes over the wire, without its token."""
        return {
            name: value
            for name, value in zip(self.names, row.values, strict=True)
            if name not in self.streams
        }

    def _encode(self, row: Row, select: frozenset[str] | None) -> bytes:
        record: dict[str, Any] = {"@odata.etag": row.etag}
        values = row.values
        for position, name in enumerate(self.names):
            if select is not None and name not in select:
                continue
            if name in self.streams:
                link = f"{self.base}({values[self._key]})/{name}"
                record[f"{name}@odata.mediaEditLink"] = link
                record[f"{name}@odata.mediaReadLink"] = link
            else:
                record[name] = values[position]
        return dumps(record)


def wire_time(stamp: int) -> str:
    """Milliseconds since 1970 as Business Central writes a time: no trailing zeros in the fraction."""
    moment = _EPOCH + dt.timedelta(milliseconds=stamp)
    fraction = f"{moment.microsecond // 1000:03d}".rstrip("0")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{'.' + fraction if fraction else ''}Z"


def sql_stamp(moment: dt.datetime) -> int:
    """A time as SQL's datetime keeps it: rounded to 1/300 s (milliseconds end in 0, 3 or 7)."""
    exact = (moment - _EPOCH) // dt.timedelta(milliseconds=1)
    return round(round(exact * 3 / 10) * 10 / 3)


def _born(row: Row) -> int:
    return row.born


def _stamp(entry: tuple[int, int, Row]) -> tuple[int, int]:
    return (entry[0], entry[1])


def _fold(value: Any) -> Any:
    return value.strip().upper() if isinstance(value, str) else value


def _same(value: Any) -> Any:
    return value
