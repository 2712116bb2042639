"""The contract between the keeper of subscriptions and one kind of product: who asks a product to send, and where to.

A connector whose product can be asked over its API says so in its manifest (`webhooks: {automatic: true, ...}`) and its
`Connector` has the methods below. Where the product has a screen only, the manifest says `automatic: false` and
`by_hand`: what a person enters there; `ipaas subscriptions add` prints it with the URL.

A connector keeps no state: the keeper (`ipaas_assets/sync/subscribing.py`) stores what it is told, one subscription and
one URL per (system, entity, scope). Before `subscribe` and `renew` it commits that a handshake may come, so the product
can call back while the request is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeGuard

import msgspec

from ipaas_resources.core.errors import IpaasError


class SubscriptionGoneError(IpaasError):
    """The product has no such subscription any more: the keeper makes a new one and reads what was missed."""

    code = "subscription_gone"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription as the platform wants it."""

    subscription: str  # our id, the part of the URL after /hooks/; [A-Za-z0-9_-], at most 64
    system: str
    entity: str  # our name of the entity
    scope: str  # our name of the scope, '' where the product has none
    #: {public url}/hooks/{subscription}, without a slash at its end. The connector adds its key in the path, if any.
    url: str
    #: How a delivery proves itself, one of the receiver's `proofs` (connectors/webhooks.py); from the manifest.
    proof: str
    #: The secret that the proof is made of (`webhooks.derived`, the receiver's own helpers). Asked for at each use, so
    #: that it stands in no struct that a log might show.
    secret: Callable[[], str]


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription as the product has it."""

    #: The product's id of it, whatever `renew` and `unsubscribe` need; at most some hundred characters.
    product_id: str
    #: Where it sends to, complete, as the product tells it; may hold a key, so it is shown nowhere.
    url: str
    #: What is subscribed, as the product names it; shown to people.
    resource: str = ""
    #: UTC; None: it does not expire.
    expires_at: datetime | None = None
    etag: str | None = None
    #: For the connector's own `is_current`: a mark of the proof, the parts found. Never stored, shown nowhere.
    marks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Remote(product_id={self.product_id!r}, resource={self.resource!r}, expires_at={self.expires_at})"


class SupportsSubscriptions(Protocol):
    """A connector whose product is asked over its API to send deliveries.

    All methods raise the errors of `core/errors.py`, and never name a URL, key or secret in one. A request whose outcome is
    unknown (UnknownOutcomeError) needs no probe here: the next round lists what there is and adopts it by its URL.
    """

    async def subscribable(self, entity: str, scope: str) -> str:
        """Why the product cannot send changes of this entity, one sentence; '' when it can.

        Raises:
            RetryError, StopError: nobody knows now.
        """
        ...

    async def list_subscriptions(self) -> Sequence[Remote]:
        """Every subscription that our credential can see, in every scope and on every API route in use, complete.

        Foreign ones too: the keeper tells ours by the URL and never touches the others. One whose parts are there in
        part only (an endpoint without its steps) is listed, and `is_current` says no.
        """
        ...

    def is_current(self, remote: Remote, wanted: Wanted) -> bool:
        """Whether it is what is wanted: complete, this URL with its key, this proof, this resource. Sends nothing.

        A product that does not give a secret back marks the one it was given in something that it does give back (a
        name), with a derived value that tells nothing of the secret.
        """
        ...

    async def subscribe(self, wanted: Wanted) -> Remote:
        """Make it. The product may call the URL before this returns.

        Raises:
            StopError: refused (the handshake failed, the resource is not supported, too many); the message says which.
            RetryError: not made, later. UnknownOutcomeError: perhaps made.
        """
        ...

    async def renew(self, remote: Remote, wanted: Wanted) -> Remote:
        """Give it a new lifetime and everything that `wanted` says (URL, proof); also completes one that is in part there.

        Raises:
            SubscriptionGoneError: the product has none of this id. StopError, RetryError, UnknownOutcomeError as above.
        """
        ...

    async def unsubscribe(self, remote: Remote) -> None:
        """Take it away with all its parts. One that is gone already is no error. `remote` may carry `product_id` alone."""
        ...


def supports_subscriptions(connector: Any) -> TypeGuard[SupportsSubscriptions]:
    """Whether this connector subscribes by itself."""
    declared = connector.manifest.webhooks
    return declared is not None and declared.automatic


__all__ = ["Remote", "SubscriptionGoneError", "SupportsSubscriptions", "Wanted", "supports_subscriptions"]
