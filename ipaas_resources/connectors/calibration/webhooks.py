"""Deliveries of the calibration system are signed; see webhook.py for the two forms."""

from __future__ import annotations

import hashlib

from ipaas_resources.connectors.calibration import webhook
from ipaas_resources.connectors.webhooks import (
    Answers,
    NotProvenError,
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


RECEIVER = CalibrationReceiver()
