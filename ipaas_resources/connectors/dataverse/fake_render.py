"""Rows of the fake as JSON bytes, prepared once per row and shape and joined into pages."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ipaas_resources.connectors.dataverse.fake_errors import unknown_property
from ipaas_resources.connectors.dataverse.fake_schema import CHOICES, HIDDEN, LOOKUPS, Column, Table
from ipaas_resources.connectors.fakes import dumps

if TYPE_CHECKING:
    from ipaas_resources.connectors.dataverse.fake_store import Reference, Row
    from ipaas_resources.core.values import Value

_LOOKUP_NAME = "Microsoft.Dynamics.CRM.lookuplogicalname"
_NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"
_LABEL = "OData.Community.Display.V1.FormattedValue"

#: Finds the primary name of a row, for labels of lookups.
NameOf = Callable[["Reference"], "Value"]


def etag(version: int) -> str:
    """The concurrency token of a version."""
    return f'W/"{version}"'


class Shape:
    """What a read shows of each row of one table: the selected columns, and the annotations asked for."""

    def __init__(
        self, number: int, table: Table, selected: tuple[str, ...] | None, annotations: str, name_of: NameOf
    ) -> None:
        self.number = number
        columns = table.by_wire()
        if selected is not None:
            for wire in selected:
                if wire not in columns:
                    raise unknown_property(table.name, wire)
            # Dataverse adds the key to every selection.
            columns = {wire: columns[wire] for wire in (*selected, table.primary)}
        self._plain = [
            (c.wire, c.name) for c in columns.values() if c.kind not in LOOKUPS and c.name not in _COMPUTED
        ]
        self._computed = [c.name for c in columns.values() if c.name in _COMPUTED]
        self._lookups = [(c.wire, c) for c in columns.values() if c.kind in LOOKUPS]
        self._choices = [c for c in columns.values() if c.kind in CHOICES and c.options]
        self._navigation = {column.name: name for name, (column, _targets) in table.navigation().items()}
        wanted = [pattern.strip() for pattern in annotations.split(",")] if annotations else []
        self._named = _asked(_LOOKUP_NAME, wanted)
        self._associated = _asked(_NAVIGATION, wanted)
        self._labelled = _asked(_LABEL, wanted)
        self._name_of = name_of
        # A lookup's label changes with another row, so such renderings are not kept.
        self._keep = not (self._labelled and self._lookups)

    def body(self, row: Row) -> bytes:
        """The row as JSON."""
        known = row.rendered.get(self.number)
        if known is not None:
            return known
        body = dumps(self.document(row))
        return row.keep(self.number, body) if self._keep else body

    def document(self, row: Row) -> dict[str, Value]:
        """The row as it travels."""
        held = row.values.get
        document: dict[str, Value] = {"@odata.etag": etag(row.version)}
        for wire, name in self._plain:
            document[wire] = held(name)
        for name in self._computed:
            document[name] = _COMPUTED[name](row.values)
        for wire, column in self._lookups:
            reference = held(column.name)
            document[wire] = None if reference is None else reference[1]
            if reference is not None:
                self._annotate(document, wire, column, reference)
        if self._labelled:
            for column in self._choices:
                value = held(column.name)
                if value is not None and column.options is not None:
                    document[f"{column.wire}@{_LABEL}"] = column.options.get(value)
        return document

    def _annotate(self, document: dict[str, Value], wire: str, column: Column, reference: Reference) -> None:
        if self._named:
            document[f"{wire}@{_LOOKUP_NAME}"] = reference[0]
        if self._associated:
            document[f"{wire}@{_NAVIGATION}"] = self._navigation[column.name]
        if self._labelled:
            document[f"{wire}@{_LABEL}"] = self._name_of(reference)


def _asked(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _joined(separator: str, *names: str) -> Callable[[Mapping[str, Value]], Value]:
    def compute(values: Mapping[str, Value]) -> Value:
        return separator.join(str(values[name]) for name in names if values.get(name)) or None

    return compute


# What the platform makes of other columns; only rows that show them pay for it.
_COMPUTED: Mapping[str, Callable[[Mapping[str, Value]], Value]] = {
    f"address{number}_composite": _joined(
        "\r\n",
        *(
            f"address{number}_{part}"
            for part in ("line1", "line2", "line3", "city", "stateorprovince", "postalcode", "country")
        ),
    )
    for number in (1, 2, 3)
}


def readable(table: Table) -> list[str]:
    """The properties that a read without `$select` shows."""
    return [column.wire for column in table.columns.values() if column.kind not in HIDDEN]


class Shapes:
    """The shapes in use, made once per (table edition, selection, annotations)."""

    def __init__(self, name_of: NameOf) -> None:
        self._name_of = name_of
        self._made: dict[tuple[str, int, tuple[str, ...] | None, str], Shape] = {}

    def get(self, table: Table, selected: tuple[str, ...] | None, annotations: str) -> Shape:
        """The shape of a read."""
        key = (table.name, table.edition, selected, annotations)
        shape = self._made.get(key)
        if shape is None:
            shape = self._made[key] = Shape(len(self._made), table, selected, annotations, self._name_of)
        return shape
