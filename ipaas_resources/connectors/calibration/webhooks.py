"""Deliveries of the calibration system are signed; see webhook.py for the two forms."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ipaas_resources.connectors.calibration import webhook
from ipaas_resources.connectors.webhooks import (
    Answers,
    NotProvenError,
    Pointer,
    Pointers,
    Proven,
    Request,
    Sender,
    delivery_key,
)


class CalibrationReceiver:
    """HMAC over the raw body, with a time that may be five minutes off."""

    proofs = ("signature",)
    answers = Answers()

    def handshake(self, request: Request) -> str | None:  # noqa: ARG002 - this product has none
        """None: the product does not ask."""
        return None

    def admit(self, request: Request, sender: Sender) -> None:
        """Nothing can be proven without the body, except that no signature is there."""
        if not sender.secrets or not any("signature" in name for name in request.headers):
            raise NotProvenError

    def prove(self, request: Request, body: bytes, sender: Sender, now: float) -> Proven:
        """The signature holds; the key is the id that was signed."""
        try:
            signed_id = webhook.authenticate(request.headers, body, sender.secrets, now)
        except webhook.SignatureError:
            raise NotProvenError from None
        try:
            name = webhook.delivery_key(signed_id, body)
        except webhook.UnknownEventError:
            # Genuine, but not understood: it is kept for a person, once.
            name = hashlib.sha256(body).hexdigest()
        return Proven(key=delivery_key(name), headers={})

    def hints(self, body: bytes, headers: Mapping[str, str]) -> Pointers:  # noqa: ARG002 - all stands in the body
        """The record of the event, and those that show it too."""
        try:
            found = webhook.hints(body)
            shown = webhook.shown_elsewhere(body)
        except webhook.UnknownEventError as error:
            return Pointers(unclear=error.message)
        return Pointers(
            pointers=tuple(Pointer(entity=entity, record=record) for entity, record in [*found, *shown])
        )


RECEIVER = CalibrationReceiver()
