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


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """Something to read: one record, or an entity."""

    #: Our name of the entity; '' where the delivery names a `table` that only the open connector can translate.
    entity: str = ""
    #: The product's name of the entity, as the connector's `entity_of` takes it.
    table: str = ""
    #: Our id of the record, exactly as the connector's reads give it; None: the changes of the whole entity.
    record: str | None = None
    #: The product's id of the company or division, as the connector's `scope_of` takes it; '' where it names none.
    company: str = ""
    #: With no record: read all of the entity, not only what changed.
    full: bool = False


class Pointers(msgspec.Struct, frozen=True, kw_only=True):
    """What a proven delivery points to."""

    pointers: tuple[Pointer, ...] = ()
    #: What of it was not understood, one sentence without a value of it; '': all was. The delivery is kept for a person.
    unclear: str = ""


class KnowsTables(Protocol):
    """A connector whose deliveries name tables by the product's own names."""

    async def entity_of(self, table: str) -> str | None:
        """Our entity of the product's table; None when the product has none of that name."""
        ...


class KnowsCompanies(Protocol):
    """A connector whose deliveries name companies or divisions by the product's own ids."""

    async def scope_of(self, company: str) -> str | None:
        """Our scope of the product's company; None when the system document names none for it."""
        ...


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

    def hints(self, body: bytes, headers: Mapping[str, str]) -> Pointers:
        """What a delivery that was proven points to, with the headers that `prove` kept. Pure; raises nothing.

        A payload names what to read and never where: no address in it is ever followed.
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
    "KnowsCompanies",
    "KnowsTables",
    "NotProvenError",
    "Pointer",
    "Pointers",
    "Proven",
    "Receiver",
    "Request",
    "Sender",
    "delivery_key",
    "derived",
    "matches",
    "receiver",
]
