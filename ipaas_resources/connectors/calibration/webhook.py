"""Inbound webhooks: proof first, then the hints in them (webhook_signatures.md).

Two forms, LabSync and Standard Webhooks. Which one a sender uses is seen by its header; that is safe, because each
form signs with a key of its own (the text of the secret, the bytes behind `whsec_`). Deliveries carry ids only; each
becomes a read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Any

from ipaas_resources.core.errors import IpaasError
from ipaas_resources.net.body import MalformedBodyError, decode_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Hint = tuple[str, str]
"""(entity, record id): read this record."""

#: Seconds that a delivery's own time may be off, past and future.
FRESH = 300
#: Bytes of a body that are looked at.
LARGEST_BODY = 1 << 20

_SECONDS = re.compile(r"\d{1,12}", re.ASCII)
_STANDARD = "whsec_"

#: What the event is about, by the part of its name before the dot: entity and the field that carries the id.
_SUBJECTS = {
    "job": ("work_orders", "ServiceOrderId"),
    # A certificate is a field of its order.
    "certificate": ("work_orders", "ServiceOrderId"),
    "job_item": ("work_items", "WorkItemId"),
    "client": ("clients", "CompanyId"),
    "vendor": ("vendors", "CompanyId"),
    "asset": ("assets", "AssetId"),
    "employee": ("employees", "EmployeeId"),
    "product": ("products", "ProductId"),
}
#: Known events that no entity here follows (app-labsync.thailabhub.com/en/features/api).
_NOT_WANTED = frozenset({"invoice", "portal", "lab"})


class SignatureError(IpaasError):
    """The delivery does not prove where it comes from: answer 401 and store nothing of it."""

    code = "webhook_signature"


class UnknownEventError(IpaasError):
    """The delivery is genuine, but tells of something we do not know: keep it and extend the connector."""

    code = "webhook_unknown_event"


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> list[Hint]:
    """The records that a delivery points to, once it is proven; nothing is parsed before.

    Args:
        headers: of the request, in any case.
        body: the raw bytes.
        secrets: the live ones, two while a secret is being changed.
        now: seconds since 1970.

    Raises:
        SignatureError: missing, malformed, stale or wrong; the message names no detail of it.
        UnknownEventError: proven, but not understood.
    """
    authenticate(headers, body, secrets, now)
    return hints(body)


def authenticate(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> str:
    """The delivery's id as far as it was signed apart from the body, else ''; see `delivery_key`.

    Raises:
        SignatureError: nothing proves it.
    """
    if len(body) > LARGEST_BODY:
        raise SignatureError("The delivery is larger than 1 MiB.")
    lower = {name.lower(): value for name, value in headers.items()}
    for secret in filter(None, secrets):
        if _labsync(secret, lower, body, now):
            return ""
        if secret.startswith(_STANDARD) and _standard(secret, lower, body, now):
            return lower["webhook-id"]
    raise SignatureError


def _labsync(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """`X-LabSync-Signature: t=..,v1=..`: hex HMAC of `t.body`; unknown schemes are passed over."""
    pairs = [part.strip().partition("=") for part in headers.get("x-labsync-signature", "").split(",")]
    stamps = [value for name, _, value in pairs if name == "t"]
    if len(stamps) != 1 or not _fresh(stamps[0], now):
        return False
    want = hmac.new(secret.encode(), stamps[0].encode() + b"." + body, hashlib.sha256).hexdigest().encode()
    return _any_equal(want, [value for name, _, value in pairs if name == "v1"])


def _standard(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Standard Webhooks: base64 HMAC of `id.timestamp.body` with the decoded secret; any `v1,` may match."""
    try:
        key = base64.b64decode(secret.removeprefix(_STANDARD), validate=True)
    except (binascii.Error, ValueError):
        return False
    name, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not key or not name or not _fresh(stamp, now):
        return False
    signed = f"{name}.{stamp}.".encode("utf-8", "replace") + body
    want = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    given = headers.get("webhook-signature", "").split()
    return _any_equal(want, [one.removeprefix("v1,") for one in given if one.startswith("v1,")])


def _any_equal(want: bytes, given: Sequence[str]) -> bool:
    """Compares all of them in constant time; bytes, because compare_digest refuses text that is not ASCII."""
    equal = False
    for one in given:
        equal |= hmac.compare_digest(want, one.encode("utf-8", "replace"))
    return equal


def _fresh(stamp: str, now: float) -> bool:
    return _SECONDS.fullmatch(stamp) is not None and abs(now - int(stamp)) <= FRESH


def delivery_key(signed_id: str, body: bytes) -> str:
    """What makes a delivery the same as an earlier one: the id that was signed, in a header or in the body.

    Args:
        signed_id: what `authenticate` returned; a `webhook-id` header that was not signed counts for nothing.
        body: proven.
    """
    if signed_id:
        return signed_id
    name = _event(body).get("id")
    return name if isinstance(name, str) and name else hashlib.sha256(body).hexdigest()


def hints(body: bytes) -> list[Hint]:
    """The records that a proven body points to; none for a known event that concerns no entity here.

    Raises:
        UnknownEventError: the event, or its shape, is not known.
    """
    event = _event(body)
    name, data = event.get("event"), event.get("data")
    if not isinstance(name, str) or not isinstance(data, dict):
        raise UnknownEventError("The delivery names no event or carries no data.")
    subject = name.partition(".")[0]
    if subject in _NOT_WANTED:
        return []
    if subject not in _SUBJECTS:
        raise UnknownEventError
    entity, field = _SUBJECTS[subject]
    identifier = data.get(field)
    if type(identifier) is not int or identifier < 0:
        raise UnknownEventError(f"The delivery about {entity} carries no {field}.")
    return [(entity, str(identifier))]


def shown_elsewhere(body: bytes) -> list[tuple[str, str | None]]:
    """What else shows the record of a known event: (entity, record id), None for whatever changed in the entity.

    An item is a line of its order. A certificate is found by its item, which its event does not name.
    """
    event = _event(body)
    subject = str(event.get("event")).partition(".")[0]
    order = event["data"].get("ServiceOrderId") if isinstance(event.get("data"), dict) else None
    if subject == "job_item" and type(order) is int and order >= 0:
        return [("work_orders", str(order))]
    return [("certificates", None)] if subject == "certificate" else []


def _event(body: bytes) -> dict[str, Any]:
    try:
        event = decode_json(body)
    except MalformedBodyError:
        raise UnknownEventError("The delivery is genuine, but it is not JSON.") from None
    if not isinstance(event, dict):
        raise UnknownEventError("The delivery is genuine, but it is no object.")
    return event
