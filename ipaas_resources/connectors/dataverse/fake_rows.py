"""What the platform does to a row beyond the values given: versions, moments, states, twins, names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipaas_resources.connectors.dataverse.fake_store import Row

if TYPE_CHECKING:
    from ipaas_resources.connectors.dataverse.fake_organization import Organization, Prepared
    from ipaas_resources.connectors.dataverse.fake_store import Rows
    from ipaas_resources.core.values import Value

Values = dict[str, "Value"]


def insert(
    organization: Organization, rows: Rows, identifier: str, given: Values, forced: Values | None = None
) -> None:
    """A new row of checked values; `forced` replaces what the platform would set."""
    prepared = organization.prepared(rows.table)
    version = organization.next_version()
    values = prepared.template | {name: value for name, value in given.items() if value is not None}
    moment = organization.moment()
    values[rows.table.primary] = identifier
    values["createdon"] = values["modifiedon"] = moment
    values["versionnumber"] = version
    if "overriddencreatedon" in values:
        values["createdon"], values["overriddencreatedon"] = values["overriddencreatedon"], moment
    _derive(prepared, given, values, values)
    if forced:
        values |= forced
    row = Row(identifier, values, version)
    organization.done(rows.add(row))
    organization.recent.note((rows.table.name, identifier))
    organization.tell("Create", rows.table, row, {**given, **(forced or {})})


def change(organization: Organization, rows: Rows, row: Row, given: Values) -> None:
    """Set checked values; every update makes a new version, changed or not."""
    prepared = organization.prepared(rows.table)
    version = organization.next_version()
    values = {
        "modifiedon": organization.moment(),
        "modifiedby": ("systemuser", organization.user),
        **given,
        "versionnumber": version,
    }
    _derive(prepared, given, {**row.values, **given}, values)
    state = given.get("statecode")
    if state is not None and "statuscode" not in given and state in prepared.states:
        values["statuscode"] = prepared.states[state]
    organization.done(rows.change(row, values, version))
    organization.tell("Update", rows.table, row, given)


def remove(organization: Organization, rows: Rows, row: Row) -> None:
    """Delete a row."""
    organization.done(rows.remove(row, organization.next_version()))
    organization.tell("Delete", rows.table, row, {})


def _derive(prepared: Prepared, given: Values, whole: Values, values: Values) -> None:
    if prepared.twins:
        for name in prepared.twins.keys() & given.keys():
            if given[name] is not None or name in whole:
                values[prepared.twins[name]] = given[name]
    if prepared.named and ("firstname" in given or "lastname" in given):
        names = (whole.get("firstname"), whole.get("lastname"))
        values["fullname"] = " ".join(str(name) for name in names if name) or None
