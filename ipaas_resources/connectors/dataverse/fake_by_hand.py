"""Edits of the fake that no API request makes: what a person does there, and what tests and the demo fill it with.

Fields are given as in a request body (`name`, `primarycontactid@odata.bind`), or lookups by column name with the row's
id, or `{"entity": "contacts", "id": ...}`. System columns may be set too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipaas_resources.connectors.dataverse.fake_errors import RefusedError
from ipaas_resources.connectors.dataverse.fake_organization import find_table, reference_of
from ipaas_resources.connectors.dataverse.fake_rows import change, insert, remove
from ipaas_resources.connectors.dataverse.fake_schema import LOOKUPS
from ipaas_resources.connectors.dataverse.fake_values import checker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ipaas_resources.connectors.dataverse.fake_organization import Organization
    from ipaas_resources.connectors.dataverse.fake_schema import Column, Table
    from ipaas_resources.connectors.dataverse.fake_store import Reference, Rows
    from ipaas_resources.core.values import Value

_BIND = "@odata.bind"


def records(organization: Organization, entity: str) -> Iterable[Mapping[str, Value]]:
    """Every row as a read without `$select` shows it. KeyError for an unknown entity."""
    rows = find_table(organization, entity)
    shape = organization.shapes.get(rows.table, None, "")
    return [shape.document(row) for row in rows.by_id.values()]


def record(organization: Organization, entity: str, identifier: str) -> Mapping[str, Value]:
    """One row as a read shows it. KeyError when it is not there."""
    rows = find_table(organization, entity)
    return organization.shapes.get(rows.table, None, "").document(rows.by_id[identifier])


def add(organization: Organization, entity: str, fields: Mapping[str, Value]) -> str:
    """A new row; its id. ValueError says what does not fit."""
    rows = find_table(organization, entity)
    values = _values(organization, rows, fields)
    identifier = values.pop(rows.table.primary, None) or organization.new_id()
    if identifier in rows.by_id:
        raise ValueError(f"{entity} has a record of this id already")
    with organization.by_a_person():
        insert(organization, rows, identifier, values, forced=_given(values))
    return str(identifier)


def edit(organization: Organization, entity: str, identifier: str, fields: Mapping[str, Value]) -> None:
    """Change a row. KeyError when it is not there; ValueError says what does not fit."""
    rows = find_table(organization, entity)
    with organization.by_a_person():
        change(organization, rows, rows.by_id[identifier], _values(organization, rows, fields))


def delete(organization: Organization, entity: str, identifier: str) -> None:
    """Delete a row. KeyError when it is not there."""
    rows = find_table(organization, entity)
    with organization.by_a_person():
        remove(organization, rows, rows.by_id[identifier])


def spoil(organization: Organization, entity: str, identifier: str, column: str, value: Value) -> None:
    """Leave a value that breaks its column's type, as nothing but a fault of the product can."""
    rows = find_table(organization, entity)
    organization.done(rows.change(rows.by_id[identifier], {column: value}, organization.next_version()))


def _given(values: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None}


def _values(organization: Organization, rows: Rows, fields: Mapping[str, Value]) -> dict[str, Value]:
    table = rows.table
    values: dict[str, Value] = {}
    navigation = organization.prepared(table).navigation
    for name, value in fields.items():
        bound = navigation.get(name.removesuffix(_BIND)) if name.endswith(_BIND) else None
        column = bound[0] if bound else table.columns.get(name)
        if column is None:
            raise ValueError(f"{table.entity_set} has no column {name}")
        try:
            values[column.name] = _value(organization, table, column, value)
        except RefusedError as refused:
            raise ValueError(refused.message) from refused
    return values


def _value(organization: Organization, table: Table, column: Column, value: Value) -> Value:
    if column.kind not in LOOKUPS:
        return checker(table, column)(value)
    return None if value is None else _reference(organization, table, column, value)


def _reference(organization: Organization, table: Table, column: Column, value: Value) -> Reference:
    if isinstance(value, str) and "(" in value:
        return reference_of(organization, table.name, column.name, column.targets, value)
    if isinstance(value, dict):
        return find_table(organization, value["entity"]).table.name, value["id"]
    if len(column.targets) != 1:
        raise ValueError(f"{column.name} may lead to several tables: name one")
    return column.targets[0], value
