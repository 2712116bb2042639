"""Deliveries of Dataverse are not signed: a key in the query (WebhookKey) or in a header (HttpHeader).

The product repeats a delivery once, and only after 502, 503 or 504; whatever else is refused is a failed system job that
the poll makes good. Trouble of ours is therefore 503, and everything that a repeat cannot mend has its own status.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ipaas_resources.connectors.webhooks import (
    Answers,
    NotProvenError,
    Pointer,
    Pointers,
    Proven,
    Request,
    Sender,
    delivery_key,
    matches,
)
from ipaas_resources.net.body import MalformedBodyError, decode_json

#: The header of an endpoint that is registered with the authentication type HttpHeader.
KEY_HEADER = "x-ipaas-key"
_KEPT = (
    "x-ms-dynamics-organization",
    "x-ms-dynamics-entity-name",
    "x-ms-dynamics-request-name",
    "x-ms-correlation-request-id",
    "x-ms-dynamics-msg-size-exceeded",
)
_NO_OPERATION = "00000000-0000-0000-0000-000000000000"
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,127}")
_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: Request parameters that hold references: of the record itself (Target, EntityMoniker for a change of state), of several
#: (Targets of CreateMultiple and its like, RelatedEntities of Associate).
_REFERENCES = ("Target", "EntityMoniker", "Targets", "RelatedEntities")
#: Another record of the same table that the message changes: the one that a Merge switches off.
_OF_THE_SAME_TABLE = ("SubordinateId",)
_TOO_LARGE = "x-ms-dynamics-msg-size-exceeded"


class DataverseReceiver:
    """A key beside the body; the whole proof stands before the body is read."""

    proofs = ("code", "header")
    answers = Answers(slow=503)

    def handshake(self, request: Request) -> str | None:  # noqa: ARG002 - this product has none
        """None: the product does not ask."""
        return None

    def admit(self, request: Request, sender: Sender) -> None:
        """The key, where the subscription says that it stands."""
        given = (
            request.query.get("code", "") if sender.proof == "code" else request.headers.get(KEY_HEADER, "")
        )
        if sender.proof not in self.proofs or not matches(given, sender.secrets):
            raise NotProvenError

    def prove(self, request: Request, body: bytes, sender: Sender, now: float) -> Proven:  # noqa: ARG002 - unsigned, no time
        """Proven by the key; what the product calls the operation makes the delivery's key."""
        self.admit(request, sender)
        kept = {name: request.headers[name] for name in _KEPT if name in request.headers}
        return Proven(key=_key(body), headers=kept)

    def hints(self, body: bytes, headers: Mapping[str, str]) -> Pointers:
        """The primary record and every other one that the message names; the table where it names none.

        Whatever the message did, the record is read: one that was deleted is not there any more. Over 256 KB the
        product leaves the parameters out and says so in a header; what they named is found by reading the table.
        """
        try:
            context = decode_json(body)
        except MalformedBodyError:
            return Pointers(unclear="It is not JSON.")
        if not isinstance(context, dict):
            return Pointers(unclear="It is no execution context.")
        table = _table(context.get("PrimaryEntityName")) or _table(headers.get("x-ms-dynamics-entity-name"))
        records = list(dict.fromkeys(_records(context, table)))
        pointers = [Pointer(table=name, record=record) for name, record in records]
        message = context.get("MessageName")
        several = isinstance(message, str) and message.endswith(("Multiple", "ssociate"))
        if table and (not records or (several and _TOO_LARGE in headers)):
            pointers.append(Pointer(table=table))
        return Pointers(
            pointers=tuple(pointers), unclear="" if pointers else "It names no table and no record."
        )


def _records(context: dict[str, Any], table: str) -> Iterator[tuple[str, str]]:
    """(table, id) of everything that an execution context names."""
    primary = _guid(context.get("PrimaryEntityId"))
    if table and primary:
        yield table, primary
    for name, value in _parameters(context, "InputParameters"):
        if name in _REFERENCES:
            yield from _references(value, table)
        elif name in _OF_THE_SAME_TABLE and table and (other := _guid(value)):
            yield table, other
    for name, value in _parameters(context, "OutputParameters"):
        # What CreateMultiple made.
        if name == "Ids" and table and isinstance(value, list):
            yield from ((table, identifier) for each in value if (identifier := _guid(each)))


def _parameters(context: dict[str, Any], which: str) -> Iterator[tuple[str, Any]]:
    pairs = context.get(which)
    for pair in pairs if isinstance(pairs, list) else []:
        if isinstance(pair, dict) and isinstance(pair.get("key"), str):
            yield pair["key"], pair.get("value")


def _references(value: Any, table: str) -> Iterator[tuple[str, str]]:
    """A reference, an entity, a list of either, or a collection of entities."""
    if isinstance(value, dict):
        identifier = _guid(value.get("Id"))
        name = _table(value.get("LogicalName")) or table
        if identifier and name:
            yield name, identifier
        value = value.get("Entities")
    if isinstance(value, list):
        for each in value:
            if isinstance(each, dict):
                yield from _references({**each, "Entities": None}, table)


def _table(value: Any) -> str:
    """A table's logical name. Messages without a table of their own call it `none`."""
    return value if isinstance(value, str) and value != "none" and _TABLE.fullmatch(value) else ""


def _guid(value: Any) -> str:
    """An id as rows carry it, '' for what is none."""
    text = value.lower() if isinstance(value, str) else ""
    return text if _GUID.fullmatch(text) and text != _NO_OPERATION else ""


def _key(body: bytes) -> bytes | None:
    """The operation (one asynchronous job, its repeat included) with the step and the record; None where it names none."""
    try:
        context = decode_json(body)
    except MalformedBodyError:
        return None
    if not isinstance(context, dict):
        return None
    step = context.get("OwningExtension")
    parts: list[Any] = [
        context.get("OperationId"),
        step.get("Id") if isinstance(step, dict) else "",
        context.get("CorrelationId"),
        context.get("MessageName"),
        context.get("PrimaryEntityName"),
        context.get("PrimaryEntityId"),
    ]
    operation = parts[0]
    if not isinstance(operation, str) or operation in {"", _NO_OPERATION}:
        return None
    return delivery_key(*(part if isinstance(part, str) else "" for part in parts))


RECEIVER = DataverseReceiver()
