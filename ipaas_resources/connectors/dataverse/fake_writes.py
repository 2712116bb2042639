"""Writes of the fake: create, the PATCH table of microsoft.md 2.5, delete, and the *Multiple messages of 2.6.

Not done: cascades. A lookup keeps the id of a row that was deleted since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipaas_resources.connectors.dataverse import fake_reads, fake_rows
from ipaas_resources.connectors.dataverse.fake_errors import (
    RefusedError,
    bad_payload,
    bad_url,
    key_taken,
    no_such_row,
    version_mismatch,
)
from ipaas_resources.connectors.dataverse.fake_organization import reference_of
from ipaas_resources.connectors.dataverse.fake_render import etag
from ipaas_resources.connectors.dataverse.fake_values import GUID
from ipaas_resources.connectors.fakes import Effect, Reply, json_reply

if TYPE_CHECKING:
    from ipaas_resources.connectors.dataverse.fake_call import Call
    from ipaas_resources.connectors.dataverse.fake_organization import Organization
    from ipaas_resources.connectors.dataverse.fake_store import Row, Rows
    from ipaas_resources.connectors.faking.ledger import EffectKind
    from ipaas_resources.core.values import Value

Body = dict[str, "Value"]
_BIND = "@odata.bind"


class Writes:
    """The writes that one request asks of one table."""

    def __init__(self, organization: Organization, call: Call, rows: Rows) -> None:
        self._organization = organization
        self._call = call
        self._rows = rows
        self._table = rows.table
        self._prepared = organization.prepared(rows.table)

    def create(self) -> Reply:
        """`POST accounts`."""
        body = self._call.json(self._table.name)
        identifier = self._own_id(body)
        values = self._checked(body, creating=True)
        if identifier in self._rows.by_id:
            raise key_taken(bulk=True)
        self._insert(identifier, values, body)
        return self._answer(identifier, 201)

    def patch(self, identifier: str) -> Reply:
        """`PATCH accounts(id)`: an upsert, unless If-Match or If-None-Match says otherwise."""
        headers = self._call.headers
        wanted, unless = headers.get("if-match"), headers.get("if-none-match")
        body = self._call.json(self._table.name)
        if body.get(self._table.primary, identifier) != identifier:
            raise bad_payload(self._table.name, "The key in the body is not that of the URL.")
        row = self._rows.by_id.get(identifier)
        if row is None:
            if wanted is not None:
                raise RefusedError(404, "", f"{self._table.name} With Id = {identifier} Does Not Exist")
            self._insert(identifier, self._checked(body, creating=True), body)
            return self._answer(identifier, 201)
        if unless == "*":
            raise key_taken()
        if wanted not in {None, "*", etag(row.version)}:
            raise version_mismatch()
        self._organization.allow("Write", self._table.name, identifier)
        self._update(row, self._checked(body, creating=False), body)
        return self._answer(identifier, 200)

    def delete(self, identifier: str) -> Reply:
        """`DELETE accounts(id)`."""
        row = self._rows.by_id.get(identifier)
        if row is None:
            raise no_such_row(self._table.name, identifier)
        if self._call.headers.get("if-match") not in {None, "*", etag(row.version)}:
            raise version_mismatch()
        self._organization.allow("Delete", self._table.name, identifier)
        fake_rows.remove(self._organization, self._rows, row)
        self._note("delete", identifier, {})
        return Reply(204)

    def create_multiple(self) -> Reply:
        """`CreateMultiple`: all or nothing; answers the ids."""
        made = [(self._own_id(body), self._checked(body, creating=True), body) for body in self._targets()]
        ids = [identifier for identifier, _values, _body in made]
        if len(set(ids)) < len(ids) or not self._rows.by_id.keys().isdisjoint(ids):
            raise key_taken(bulk=True)
        for identifier, values, body in made:
            self._insert(identifier, values, body)
        context = f"{self._call.service_root}$metadata#Microsoft.Dynamics.CRM.CreateMultipleResponse"
        return json_reply({"@odata.context": context, "Ids": ids})

    def update_multiple(self) -> Reply:
        """`UpdateMultiple`: all or nothing; answers nothing."""
        self._update_all(self._targets(), upsert=False)
        return Reply(204)

    def upsert_multiple(self) -> Reply:
        """`UpsertMultiple`: what is not there, or no longer, is created."""
        self._update_all(self._targets(), upsert=True)
        return Reply(204)

    def _update_all(self, targets: list[Body], *, upsert: bool) -> None:
        made: list[tuple[str, Row | None, Body, Body]] = []
        for body in targets:
            identifier = body.get(self._table.primary)
            if not isinstance(identifier, str) or GUID.fullmatch(identifier) is None:
                raise bad_payload(self._table.name, "A target names no row.")
            row = self._rows.by_id.get(identifier.lower())
            if row is None and not upsert:
                raise no_such_row(self._table.name, identifier)
            made.append((identifier.lower(), row, self._checked(body, creating=row is None), body))
        for identifier, row, values, body in made:
            if row is None:
                self._insert(identifier, values, body)
            else:
                self._update(row, values, body)

    def _targets(self) -> list[Body]:
        table = self._table
        if not table.bulk:
            raise bad_url(f"Resource not found for the segment '{self._call.path.rpartition('/')[2]}'.", 404)
        targets = self._call.json(table.name).get("Targets")
        if not isinstance(targets, list) or not targets:
            raise bad_payload(table.name, "Required field 'Targets' is missing.")
        kinds = (f"Microsoft.Dynamics.CRM.{table.name}", f"#Microsoft.Dynamics.CRM.{table.name}")
        for body in targets:
            if not isinstance(body, dict) or body.get("@odata.type") not in kinds:
                raise bad_payload(
                    table.name, "A target of the collection names no '@odata.type' of this table."
                )
        return targets

    def _own_id(self, body: Body) -> str:
        given = body.get(self._table.primary)
        if given is None:
            return self._organization.new_id()
        if not isinstance(given, str) or GUID.fullmatch(given) is None:
            raise bad_payload(self._table.name, "The key is no Edm.Guid.")
        return given.lower()

    def _checked(self, body: Body, *, creating: bool) -> Body:
        """The stored values of a body, by column name."""
        table, prepared = self._table, self._prepared
        if creating and not table.creatable:
            raise RefusedError(
                405, "0x80040800", f"The 'Create' method does not support entities of type '{table.name}'."
            )
        self._organization.allow("Create" if creating else "Write", table.name)
        checks = prepared.create if creating else prepared.update
        values: Body = {}
        for name, value in body.items():
            check = checks.get(name)
            if check is not None:
                values[name] = check(value)
            elif name.endswith(_BIND):
                column, reference = self._bound(name[: -len(_BIND)], value, creating=creating)
                values[column] = reference
            elif name != table.primary and "@" not in name:
                raise self._not_writable(name)
        if creating:
            missing = [name for name in sorted(prepared.required) if values.get(name) is None]
            if missing:
                raise RefusedError(
                    400, "0x80040203", f"The column '{missing[0]}' of '{table.name}' is required."
                )
        return values

    def _not_writable(self, name: str) -> RefusedError:
        table = self._table
        if name in table.columns or name in table.by_wire():
            return bad_payload(table.name, f"The property '{name}' cannot be written in this request.")
        return bad_payload(
            table.name,
            f"Invalid property '{name}' was found in entity 'Microsoft.Dynamics.CRM.{table.name}'.",
        )

    def _bound(self, navigation: str, value: Value, *, creating: bool) -> tuple[str, Value]:
        """Column and stored value of a `navigation@odata.bind`."""
        table = self._table
        known = self._prepared.navigation.get(navigation)
        if known is None:
            raise bad_payload(
                table.name,
                f"An undeclared property '{navigation}' which only has property annotations in the payload but no "
                "property value was found in the payload.",
            )
        column, targets = known
        if not (column.creatable if creating else column.updatable):
            raise self._not_writable(column.name)
        if value is None:
            return column.name, None
        if not isinstance(value, str):
            raise bad_payload(table.name, f"The value of '{navigation}{_BIND}' is no URL.")
        target = self._call.references.get(value, value)
        reference = reference_of(self._organization, table.name, navigation, targets, target)
        if not self._organization.exists(reference):
            raise no_such_row(*reference)
        return column.name, reference

    def _insert(self, identifier: str, values: Body, body: Body) -> None:
        fake_rows.insert(self._organization, self._rows, identifier, values)
        self._note("create", identifier, body)

    def _update(self, row: Row, values: Body, body: Body) -> None:
        fake_rows.change(self._organization, self._rows, row, values)
        self._note("update", row.id, body)

    def _answer(self, identifier: str, status: int) -> Reply:
        call = self._call
        tag = etag(self._rows.by_id[identifier].version)
        if call.preferences.get("return") == "representation":
            call.headers = {name: value for name, value in call.headers.items() if name != "if-none-match"}
            reply = fake_reads.one(self._organization, call, self._rows, identifier)
            reply.status = status
        else:
            reply = Reply(204)
            reply.headers["odata-entityid"] = f"{call.service_root}{self._table.entity_set}({identifier})"
        reply.headers["odata-version"] = "4.0"
        reply.headers["etag"] = tag
        return reply

    def _note(self, kind: EffectKind, identifier: str, fields: Body) -> None:
        effect = Effect(
            kind=kind,
            entity=self._table.entity_set,
            id=identifier,
            fields=fields,
            trace_id=self._call.trace_id,
        )
        self._call.effects.append(effect)
