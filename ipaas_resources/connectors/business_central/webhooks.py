"""Notifications of Business Central are not signed: a secret in the URL, then the clientState of every item.

The product deletes every subscription of a URL that answers anything but 2xx, 408, 429 or 5xx, and drops what it had to
tell. So whoever fails the proof hears 503: a stranger learns nothing by it, and a genuine notification that meets a
wrong secret is sent again for hours while somebody mends it. One URL per subscription keeps the harm to one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from ipaas_resources.connectors.business_central.catalogue import entity_id
from ipaas_resources.connectors.webhooks import (
    Answers,
    NotProvenError,
    Pointer,
    Pointers,
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
#: `api/v2.0/companies(id)/customers(id)`, with or without a slash or an address before it (microsoft.md 1.9).
_RESOURCE = re.compile(
    r"(?:.*/)?api/v2\.0/companies\((?P<company>[0-9a-fA-F-]{36})\)/(?P<set>[A-Za-z][A-Za-z0-9]*)"
    r"(?:\((?P<key>[^()]+)\))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_COLLECTION = "collection"
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

    def hints(self, body: bytes, headers: Mapping[str, str]) -> Pointers:  # noqa: ARG002 - all stands in the body
        """One pointer per item: a record, or the whole set for a `collection`.

        A deleted record is read like any other: the product then answers that there is none.
        """
        try:
            items = _items(body)
        except NotProvenError:
            return Pointers(unclear="It is no list of notifications.")
        found = [_pointer(item) for item in items]
        clear = tuple(dict.fromkeys(each for each in found if each is not None))
        unclear = ""
        if None in found:
            unclear = f"{found.count(None)} of its {len(found)} items name no record or set below a company of API v2.0."
        return Pointers(pointers=clear, unclear=unclear)


def _pointer(item: dict[str, Any]) -> Pointer | None:
    match = _RESOURCE.fullmatch(_text(item, "resource"))
    if match is None:
        return None
    entity, company, key = entity_id(match["set"]), match["company"].lower(), match["key"]
    if key is None or _text(item, "changeType") == _COLLECTION:
        # Without a filter the product says "read all of it": something was deleted, or the set has no time of change.
        filtered = "$filter=" in unquote(match["query"] or "")
        return Pointer(entity=entity, company=company, full=key is None and not filtered)
    record = key.lower()
    if not _GUID.fullmatch(record):
        record = unquote(key).removeprefix("'").removesuffix("'").replace("''", "'")
    return Pointer(entity=entity, company=company, record=record)


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
