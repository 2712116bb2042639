"""Deliveries of Dataverse are not signed: a key in the query (WebhookKey) or in a header (HttpHeader).

The product repeats a delivery once, and only after 502, 503 or 504; whatever else is refused is a failed system job that
the poll makes good. Trouble of ours is therefore 503, and everything that a repeat cannot mend has its own status.
"""

from __future__ import annotations

from typing import Any

from ipaas_resources.connectors.webhooks import (
    Answers,
    NotProvenError,
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
