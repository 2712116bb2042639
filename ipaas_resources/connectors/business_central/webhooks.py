"""Notifications of Business Central are not signed: a secret in the URL, then the clientState of every item.

The product deletes every subscription of a URL that answers anything but 2xx, 408, 429 or 5xx, and drops what it had to
tell. So whoever fails the proof hears 503: a stranger learns nothing by it, and a genuine notification that meets a
wrong secret is sent again for hours while somebody mends it. One URL per subscription keeps the harm to one.
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
    derived,
    matches,
)
from ipaas_resources.net.body import MalformedBodyError, decode_json

#: The product sends at most 1,000 items; more make one `collection` item.
MOST_ITEMS = 1000
_AGAIN = 503
_KEYS = ("subscriptionId", "resource", "changeType", "lastModifiedDateTime")


def url_key(secret: str, subscription: str) -> str:
    """What follows the subscription in its notificationUrl."""
    return derived(secret, "url", subscription)


def client_state(secret: str, subscription: str) -> str:
    """The clientState to subscribe with."""
    return derived(secret, "clientState", subscription)


class BusinessCentralReceiver:
    """Secret URL and clientState."""

    proofs = ("client_state",)
    answers = Answers(
        not_proven=_AGAIN,
        too_large=_AGAIN,
        compressed=_AGAIN,
        slow=_AGAIN,
        wrong_method=_AGAIN,
        malformed=_AGAIN,
    )

    def handshake(self, request: Request) -> str | None:
        """The validationToken. The product does not say by which method it asks."""
        return request.query.get("validationToken") if request.method in {"POST", "GET"} else None

    def admit(self, request: Request, sender: Sender) -> None:
        """The secret of the URL."""
        if not matches(request.key, [url_key(one, sender.subscription) for one in sender.secrets]):
            raise NotProvenError

    def prove(self, request: Request, body: bytes, sender: Sender, now: float) -> Proven:  # noqa: ARG002 - unsigned, no time
        """Every item carries the clientState; the ids of what changed make the key."""
        wanted = [client_state(one, sender.subscription) for one in sender.secrets]
        items = _items(body)
        right = True
        for item in items:
            # All are looked at, so that the time taken does not tell which one was wrong.
            right &= matches(_text(item, "clientState"), wanted)
        if not right:
            raise NotProvenError
        names = [[_text(item, name) for name in _KEYS] for item in items]
        if not all(all(each) for each in names):
            return Proven(key=None, headers={})
        return Proven(key=delivery_key(*sorted("\x1e".join(each) for each in names)), headers={})


def _items(body: bytes) -> list[dict[str, Any]]:
    """The items of a notification, at least one and no more than the product sends."""
    try:
        document = decode_json(body)
    except MalformedBodyError:
        raise NotProvenError from None
    items = document.get("value") if isinstance(document, dict) else None
    if not isinstance(items, list) or not 0 < len(items) <= MOST_ITEMS:
        raise NotProvenError
    if not all(isinstance(item, dict) for item in items):
        raise NotProvenError
    return items


def _text(item: dict[str, Any], name: str) -> str:
    value = item.get(name)
    return value if isinstance(value, str) else ""


RECEIVER = BusinessCentralReceiver()
