"""Related records: pairs such as customerId / customerNumber are resolved, compared and filled, as API pages do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from ipaas_resources.connectors.business_central.catalogue import catalogue
from ipaas_resources.connectors.business_central.fake_errors import refused
from ipaas_resources.connectors.business_central.fake_rules import ZERO_GUID, blank
from ipaas_resources.connectors.business_central.fake_table import Row, Table

Tables = Callable[[str], Table]


class Relation(msgspec.Struct, frozen=True):
    """A field that names a record of another set, and the fields that follow it."""

    position: int
    name: str
    target: str  # entity set
    by: str  # its property: id, number or code
    stem: str  # customer of customerId
    follow: tuple[tuple[int, str], ...]  # (position, property of the related record)


@lru_cache(maxsize=256)
def relations_of(set_name: str) -> tuple[Relation, ...]:
    """The relations of an entity set, ids first: an id decides over a code."""
    columns = catalogue().sets[set_name].columns
    places = {
        name: position for position, name in enumerate(n for n, c in columns.items() if not c.filter_only)
    }
    found = []
    for name, column in columns.items():
        if column.ref is None:
            continue
        target, by = column.ref
        stem = _stem(name)
        theirs = catalogue().sets[target].columns
        candidates = {f"{stem}Id": "id", f"{stem}Number": "number", f"{stem}Code": "code"}
        candidates |= {f"{stem}Name": "displayName", f"{stem}DisplayName": "displayName"}
        follow = tuple(
            (places[field], source)
            for field, source in candidates.items()
            if field != name and field in places and source in theirs
        )
        found.append(Relation(places[name], name, target, by, stem, follow))
    return tuple(sorted(found, key=lambda relation: relation.by != "id"))


def _stem(name: str) -> str:
    for suffix in ("Id", "Number", "Code"):
        if name.endswith(suffix) and len(name) > len(suffix):
            return name.removesuffix(suffix)
    return name


def resolve(set_name: str, values: dict[int, Any], tables: Tables) -> dict[str, Row]:
    """Check the relations among these values and add what follows from them; the related records by stem.

    Raises:
        BusinessCentralError: there is no such record, or id and code of a pair disagree.
    """
    related: dict[str, Row] = {}
    for relation in relations_of(set_name):
        value = values.get(relation.position)
        if value is None:
            continue
        if value in ("", ZERO_GUID):
            _clear(set_name, values, relation)
            continue
        row = _find(relation, value, tables)
        if row is None:
            continue
        related.setdefault(relation.stem, row)
        names = tables(relation.target).index
        for position, source in relation.follow:
            theirs = row.values[names[source]]
            if source == "displayName":
                values[position] = theirs
            elif values.get(position, theirs) not in (theirs, "", ZERO_GUID):
                raise refused(f"The {relation.stem} values do not match to a specific {relation.target}.")
            else:
                values[position] = theirs
    return related


def _clear(set_name: str, values: dict[int, Any], relation: Relation) -> None:
    columns = [c for c in catalogue().sets[set_name].columns.values() if not c.filter_only]
    for position, _source in relation.follow:
        values.setdefault(position, blank(columns[position]))


def _find(relation: Relation, value: Any, tables: Tables) -> Row | None:
    table = tables(relation.target)
    if relation.by == "id":
        row = table.rows.get(value)
    else:
        if not table.rows:
            return (
                None  # a set that was never filled is not checked: not every scenario seeds its code tables
            )
        row = next(iter(table.equal(table.index[relation.by], [value])), None)
    if row is None:
        raise refused(
            f"The field {relation.name} of table {table.set.type_name} contains a value ({value}) that cannot be "
            f"found in the related table ({relation.target}).",
            "Internal_InvalidTableRelation",
        )
    return row


def copy_fields(row: Row, table: Table, pairs: Mapping[int, str], values: dict[int, Any]) -> None:
    """Fill fields that nobody set from a related record."""
    for position, source in pairs.items():
        if position not in values and source in table.index:
            values[position] = row.values[table.index[source]]
