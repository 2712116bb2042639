"""The contract between the ingress and one kind of product: who proves what, and which answer does no harm.

A connector that takes deliveries has a module `webhooks.py` beside its `connector.py`, with a `RECEIVER`. It sees raw
headers and raw bytes; nothing is parsed before the proof. Where the proof stands inside the body, what the URL carries
is proven first and the parse is capped.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Protocol, cast

import msgspec

from ipaas_resources.core.errors import ConfigurationError, IpaasError

#: Bytes of a delivery's key, as the inbox stores it.
KEY_SIZE = 16


class NotProvenError(IpaasError):
    """The delivery does not prove where it comes from: nothing of it is stored, no detail is answered or logged."""

    code = "webhook_not_proven"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request before its body."""

    method: str
    subscription: str
    key: str  # what follows the subscription in the path: /hooks/{subscription}/{key}; '' where nothing does
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case; a repeated header's values are joined by ", "


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscription says of its sender."""

    subscription: str
    proof: str  # one of the receiver's `proofs`
    secrets: tuple[str, ...]  # the live ones, two while one is being changed; empty ones prove nothing


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that is proven."""

    #: KEY_SIZE bytes that every repeat of this delivery shares and no other has; None: each one counts.
    key: bytes | None
    #: The few headers that the drain needs.
    headers: Mapping[str, str]


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """The status for each end of a delivery: what a sender does with a status differs from product to product.

    Trouble of ours is 503 for everybody, and so is a subscription that cannot be looked up.
    """

    accepted: int = 202
    not_proven: int = 401
    too_large: int = 413
    compressed: int = 415
    slow: int = 408
    wrong_method: int = 405
    malformed: int = 400


class Receiver(Protocol):
    """The proof of one kind of product; `RECEIVER` of its `webhooks.py`."""

    proofs: Sequence[str]  # kinds that a subscription may name
    answers: Answers

    def handshake(self, request: Request) -> str | None:
        """The token that a validation handshake wants back; None when the request is none. Checks no proof."""
        ...

    def admit(self, request: Request, sender: Sender) -> None:
        """Prove what can be proven before the body is read, for handshakes too.

        Raises:
            NotProvenError: this is not the sender.
        """
        ...

    def prove(self, request: Request, body: bytes, sender: Sender, now: float) -> Proven:
        """Prove the delivery; `now` is in seconds since 1970.

        Raises:
            NotProvenError: nothing proves it.
        """
        ...


@cache
def receiver(connector: str) -> Receiver:
    """The receiver of a connector's deliveries.

    Raises:
        ConfigurationError: the product sends none that we take.
    """
    name = f"ipaas_resources.connectors.{connector}.webhooks"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in {name, name.rpartition(".")[0]}:
            raise
        raise ConfigurationError(f"The connector `{connector}` takes no webhook deliveries.") from None
    return cast("Receiver", module.RECEIVER)


def matches(given: str, wanted: Sequence[str]) -> bool:
    """Whether a text is one of those wanted, compared as bytes and in constant time; an empty one never matches."""
    raw = given.encode("utf-8", "surrogatepass")
    equal = False
    for one in wanted:
        equal |= bool(one) and hmac.compare_digest(raw, one.encode("utf-8", "surrogatepass"))
    return equal


def derived(secret: str, purpose: str, subscription: str) -> str:
    """A token of 256 bits for one purpose of one subscription, '' for an empty secret.

    A product that does not sign gets two of them, one in the URL and one in the body: whoever reads the URL in some
    proxy's log cannot tell the other.
    """
    if not secret:
        return ""
    text = f"ipaas webhook\x1f{purpose}\x1f{subscription}"
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def delivery_key(*parts: str) -> bytes:
    """The key of what these parts say together."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()[:KEY_SIZE]


__all__ = [
    "KEY_SIZE",
    "Answers",
    "NotProvenError",
    "Proven",
    "Receiver",
    "Request",
    "Sender",
    "delivery_key",
    "derived",
    "matches",
    "receiver",
]
