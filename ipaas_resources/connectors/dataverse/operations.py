"""Operations made ready to send: checked on our side, their lookups told apart, their bodies built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.connectors.dataverse.lookups import split
from ipaas_resources.core.errors import ProtocolError, RefusedRecordError
from ipaas_resources.core.records import Operation, OperationKind
from ipaas_resources.net.body import MalformedBodyError, encode_json
from ipaas_resources.net.canonical import guid
from ipaas_resources.net.odata.etag import if_match, only_create
from ipaas_resources.net.odata.parts import PartRequest
from ipaas_resources.net.odata.query import address, any_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.dataverse.api import Api
    from ipaas_resources.connectors.dataverse.lookups import Lookup
    from ipaas_resources.connectors.dataverse.metadata import Table
    from ipaas_resources.connectors.dataverse.view import View
    from ipaas_resources.core.values import Document

#: Ids of one question "which table holds them", questions of one `$batch`, and answers that are remembered.
_ASKED_AT_ONCE, _QUESTIONS, _REMEMBERED = 50, 1000, 50_000


class Ready(msgspec.Struct, kw_only=True):
    """An operation and the body that carries it. `place`: its number among the operations of the call."""

    place: int
    operation: Operation
    id: str
    condition: dict[str, str]  # If-Match or If-None-Match: a write without one could create what was deleted
    body: bytes = b"{}"  # a JSON object
    binds: bool = False  # it refers to other records, so "not found" may speak of one of those

    @property
    def creates(self) -> bool:
        """Whether it makes a new record."""
        return self.operation.kind is OperationKind.CREATE


class Owners:
    """Remembers which table holds an id, for lookups that may lead to several."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, str] = {}

    async def settle(self, view: View, operations: Sequence[Operation]) -> None:
        """Find out what is not known yet about plain ids in polymorphic lookups, in one request as a rule.

        Raises:
            the errors of HttpClient.send for a read: nothing was written.
        """
        asked: dict[str, dict[str, None]] = {}  # entity -> ids
        for lookup in _polymorphic(view):
            for operation in operations:
                identifier = _unplaced(lookup, operation.fields)
                if identifier is not None and identifier not in self._known:
                    for entity in lookup.targets:
                        asked.setdefault(entity, {})[identifier] = None
        questions = [
            (entity, chunk) for entity, ids in asked.items() for chunk in _chunks(list(ids), _ASKED_AT_ONCE)
        ]
        for some in _chunks(questions, _QUESTIONS):
            await self._ask(view, some)

    def entity_of(self, identifier: str) -> str | None:
        """The entity that holds the id, as far as is known."""
        return self._known.get(identifier)

    async def _ask(self, view: View, questions: Sequence[tuple[str, list[str]]]) -> None:
        keys = view.table.target_keys
        parts = [
            PartRequest(
                method="GET",
                url=address(entity, select=(keys[entity],), filter=any_of(keys[entity], ids, "guid")),
            )
            for entity, ids in questions
        ]
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        for (entity, _ids), answer in zip(questions, await self._api.read_batch(parts), strict=True):
            error = self._api.part_error(answer, write=False)
            if error is not None:
                raise error
            try:
                self._known.update((row[keys[entity]].lower(), entity) for row in answer.json()["value"])
            except (MalformedBodyError, KeyError, TypeError, AttributeError):
                raise ProtocolError(
                    f"A look for records of {entity} was answered with no list of them."
                ) from None


def make_ready(view: View, owners: Owners, place: int, operation: Operation) -> Ready:
    """Check an operation and build its body.

    Raises:
        RefusedRecordError, ContractError: the operation cannot be sent; names the field.
    """
    table = view.table
    if operation.lines or operation.files:
        raise RefusedRecordError(
            f"{table.entity} takes neither lines nor files here; write the table of the lines as a target of its own."
        )
    if operation.id is None:
        raise RefusedRecordError(f"A write to {table.entity} needs the id of its record, creates too.")
    try:
        identifier = guid(operation.id)
    except ValueError:
        raise RefusedRecordError(f"An id of {table.entity} is a GUID, this one is not.") from None
    condition = only_create() if operation.kind is OperationKind.CREATE else if_match(operation.etag)
    ready = Ready(place=place, operation=operation, id=identifier, condition=condition)
    if operation.kind is not OperationKind.DELETE:
        ready.body = _encoded(table.entity, _body(view, owners, operation))
        ready.binds = not table.lookups.keys().isdisjoint(operation.fields)
    return ready


def _encoded(entity: str, body: dict[str, Any]) -> bytes:
    try:
        return encode_json(body)
    except (TypeError, ValueError, OverflowError):
        raise RefusedRecordError(
            f"A value for {entity} cannot be written as JSON; correct its rule."
        ) from None


def _body(view: View, owners: Owners, operation: Operation) -> dict[str, Any]:
    table, create = view.table, operation.kind is OperationKind.CREATE
    allowed = table.creatable_fields if create else table.updatable_fields
    if not operation.fields.keys() <= allowed:
        _refuse_unwritable(table, operation.fields, create=create)
    fields = operation.fields
    if not table.lookups.keys().isdisjoint(fields):
        fields = _placed(table, owners, fields, create=create)
    return view.body(fields, create=create)


def _refuse_unwritable(table: Table, fields: Document, *, create: bool) -> None:
    allowed = table.creatable_fields if create else table.updatable_fields
    for name in fields:
        if name in allowed:
            continue
        if table.schema.field(name) is None:
            raise RefusedRecordError(
                f"{table.entity} has no field {name}; discover it again, then correct the mapping.",
                field=name,
            )
        when = "when a record is created" if create else "once a record exists"
        raise RefusedRecordError(
            f"{table.entity}.{name} cannot be written {when}; take it out of the mapping.", field=name
        )


def _placed(table: Table, owners: Owners, fields: Document, *, create: bool) -> Document:
    """The fields with the table named in each polymorphic lookup; empty lookups of a create are left out."""
    placed = dict(fields)
    for name in table.lookups.keys() & fields.keys():
        lookup, value = table.lookups[name], fields[name]
        if value is None:
            if create:
                del placed[name]
            continue
        identifier = _unplaced(lookup, fields)
        if identifier is not None:
            entity = owners.entity_of(identifier)
            if entity is None:
                raise RefusedRecordError(
                    f"{table.entity}.{name} leads to a record that is in none of {', '.join(lookup.targets)}; write that "
                    "record first.",
                    field=name,
                )
            placed[name] = {"entity": entity, "id": identifier}
        elif lookup.polymorphic and split(value)[0] is None and lookup.companion in fields:
            placed[name] = {"entity": fields[lookup.companion], "id": value}
    return placed


def _polymorphic(view: View) -> list[Lookup]:
    return [lookup for lookup in view.table.lookups.values() if lookup.polymorphic]


def _unplaced(lookup: Lookup, fields: Document) -> str | None:
    """The plain id in a polymorphic lookup whose table nobody names; None when there is nothing to find out."""
    value = fields.get(lookup.name)
    if value is None or not lookup.polymorphic or fields.get(lookup.companion) is not None:
        return None
    entity, identifier = split(value)
    if entity is not None:
        return None
    try:
        return guid(identifier)
    except ValueError:
        return None


def _chunks(items: Sequence[Any], size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]
