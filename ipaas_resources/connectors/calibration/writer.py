"""Writes: one call per record, except that an update is a read, a merge and a PUT of the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.calibration.client import concurrently
from ipaas_resources.connectors.calibration.convert import wire_value
from ipaas_resources.connectors.calibration.entities import schema_of
from ipaas_resources.core.errors import IpaasError, MissingRecordError, RefusedRecordError
from ipaas_resources.core.records import Operation, OperationKind, Outcome, WriteResult
from ipaas_resources.net.statuses import outcome_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.base import Manifest
    from ipaas_resources.connectors.calibration.client import CalibrationClient
    from ipaas_resources.connectors.calibration.finder import Finder
    from ipaas_resources.core.schema import EntitySchema
    from ipaas_resources.core.values import Document, Value

#: Where records are created and changed. Vendors and clients are changed at their list, with the id in the body.
_CREATE = {
    "clients": "api/service/clients",
    "vendors": "api/service/vendors",
    "assets": "api/service/clients/assets",
    "employees": "api/employees",
}
#: Names that differ between what is read and what is written (swagger: VendorCompanyResponseModel, Sponsored...Model).
_WRITE_NAMES = {"vendors": {"CustomName": "CustomVendorName"}}


class Writer:
    """Writes to one tenant."""

    def __init__(self, client: CalibrationClient, finder: Finder, manifest: Manifest) -> None:
        self._client = client
        self._finder = finder
        self._manifest = manifest

    async def write(self, entity: str, operations: Sequence[Operation]) -> list[WriteResult]:
        """One result per operation, in their order; the calls run side by side within the budget."""
        schema = schema_of(entity)
        return await concurrently(operations, lambda one: self._one(schema, one), self._client.width)

    async def _one(self, schema: EntitySchema, operation: Operation) -> WriteResult:
        try:
            if operation.kind is OperationKind.CREATE:
                return await self._create(schema, operation)
            if operation.kind is OperationKind.DELETE:
                raise RefusedRecordError(
                    f"{schema.entity} cannot be deleted through the product's API; choose another on_delete policy.",
                    code="not_deletable",
                )
            if schema.entity == "work_orders":
                return await self._change_order(schema, operation)
            return await self._update(schema, operation)
        except IpaasError as error:
            return WriteResult(outcome=outcome_of(error), id=operation.id, error=error)

    async def _create(self, schema: EntitySchema, operation: Operation) -> WriteResult:
        body = self._body(schema, operation.fields, creating=True)
        path = _CREATE[schema.entity]
        if operation.repeated and operation.key:
            taken = await self._holder(schema, operation)
            if taken is not None:
                return taken
        answer = await self._client.write("POST", path, body, endpoint=path, trace_id=operation.trace_id)
        made = answer.json()
        identifier = made.get("Id") if isinstance(made, dict) else None
        if type(identifier) is not int:
            raise answer.broken("it names no id of the new record")
        return WriteResult(outcome=Outcome.APPLIED, id=str(identifier))

    async def _holder(self, schema: EntitySchema, operation: Operation) -> WriteResult | None:
        """Who holds the natural key already: the product itself does not keep it unique."""
        names = self._manifest.capabilities(schema.entity).natural_key
        values = tuple(operation.key.get(name) for name in names)
        (hits,) = await self._finder.find(schema.entity, names, [values])
        if not hits:
            return None
        return WriteResult(outcome=Outcome.EXISTS, id=hits[0].id if len(hits) == 1 else None)

    async def _update(self, schema: EntitySchema, operation: Operation) -> WriteResult:
        """A PUT sets every field that may be written, so the present ones are read and merged first."""
        changed = self._body(schema, operation.fields, creating=False)
        identifier = _integer_id(operation)
        path = _CREATE[schema.entity]
        present = await self._client.row(f"{path}/{identifier}", endpoint=f"{path}/{{id}}")
        if present is None:
            raise MissingRecordError(f"The record of {schema.entity} does not exist any more.")
        names = _WRITE_NAMES.get(schema.entity, {})
        row = present.rows[0]
        body: dict[str, Any] = {
            names.get(field.name, field.name): row.get(field.name)
            for field in schema.fields
            if field.updatable
        }
        for name, value in changed.items():
            before = body.get(name)
            # An address is given in part: the parts that were not named stay.
            body[name] = (
                {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
            )
        if schema.entity != "employees":
            body[schema.key[0]] = identifier
        target = f"{path}/{identifier}" if schema.entity == "employees" else path
        await self._client.write("PUT", target, body, endpoint=path, trace_id=operation.trace_id)
        return WriteResult(outcome=Outcome.APPLIED, id=operation.id)

    async def _change_order(self, schema: EntitySchema, operation: Operation) -> WriteResult:
        """Status and payment status have a call each; what is done already stands in `progress`."""
        body = self._body(schema, operation.fields, creating=False)
        done: Document = dict(operation.progress)
        path = f"api/service/workorders/{_integer_id(operation)}"
        steps = {
            "status": {"ServiceOrderStatus": body["OrderStatus"]} if "OrderStatus" in body else {},
            "payments/status": {name: body[name] for name in ("PaymentStatus", "InvoicedOn") if name in body},
        }
        for step, values in steps.items():
            if not values or done.get(step):
                continue
            try:
                await self._client.write(
                    "PUT",
                    f"{path}/{step}",
                    values,
                    endpoint=f"workorders/{{id}}/{step}",
                    trace_id=operation.trace_id,
                )
            except IpaasError as error:
                return WriteResult(outcome=outcome_of(error), id=operation.id, error=error, progress=done)
            done[step] = True
        return WriteResult(outcome=Outcome.APPLIED, id=operation.id)

    def _body(self, schema: EntitySchema, fields: Document, *, creating: bool) -> dict[str, Value]:
        """The wire form of the fields.

        Raises:
            RefusedRecordError: a field does not exist, may not be written, or holds a value of another type.
        """
        if not (schema.creatable if creating else schema.updatable):
            verb = "created" if creating else "updated"
            raise RefusedRecordError(
                f"{schema.entity} cannot be {verb} through the product's API; correct the flow.",
                code="not_writable",
            )
        names = _WRITE_NAMES.get(schema.entity, {})
        body: dict[str, Value] = {}
        for name, value in fields.items():
            field = schema.field(name)
            if field is None or not (field.creatable if creating else field.updatable):
                why = "has no such field" if field is None else "does not take it in this write"
                raise RefusedRecordError(
                    f"Field {name} was not sent: {schema.entity} {why}; correct the mapping.",
                    code="unknown_field" if field is None else "read_only_field",
                    field=name,
                )
            try:
                body[names.get(name, name)] = wire_value(field, value, self._client.zone)
            except ValueError:
                raise RefusedRecordError(
                    f"Field {name} of {schema.entity} takes a value of type {field.type}; correct the mapping.",
                    code="wrong_type",
                    field=name,
                ) from None
        return body


def _integer_id(operation: Operation) -> int:
    identifier = operation.id or ""
    if not (identifier.isascii() and identifier.isdigit()):
        raise MissingRecordError("No record of this product has an id that is not a number.")
    return int(identifier)
