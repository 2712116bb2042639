"""A product that can be asked to send, over a dictionary; what it refuses and loses is set by the test."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from collections.abc import Awaitable, Callable

from ipaas_resources.connectors.base import WebhooksModel
from ipaas_resources.connectors.subscribing import Remote, SubscriptionGoneError, Wanted
from ipaas_resources.connectors.webhooks import derived
from ipaas_resources.core.clock import Clock
from ipaas_resources.core.errors import StopError
from tests.sync.product import Product

LIFETIME = 3 * 86_400.0


class Crash(BaseException):
    """The process dies here."""


class HooksProduct(Product):
    """Subscriptions by product id; like Business Central it calls the URL before it answers."""

    def __init__(
        self, clock: Clock, *, most: int | None = None, lifetime: float | None = LIFETIME, **options
    ):
        super().__init__(**options)
        self.manifest = self.manifest.model_copy(
            update={
                "webhooks": WebhooksModel(automatic=True, proof="client_state", lifetime=lifetime, most=most)
            }
        )
        self._clock_of_product = clock
        self._lifetime = lifetime
        self._numbers = itertools.count(1)
        self.there: dict[str, Remote] = {}
        self.asked: list[str] = []
        self.handshake: Callable[[str], Awaitable[bool]] | None = None
        #: Raised by the next call of this name, before or after it did its work.
        self.before: dict[str, BaseException] = {}
        self.after: dict[str, BaseException] = {}
        self.unsupported: set[str] = set()
        self.hold: asyncio.Event | None = None
        self.listing = asyncio.Event()

    def of(self, entity: str) -> list[Remote]:
        return [each for each in self.there.values() if each.resource.endswith(f"/{entity}")]

    def by_hand(self, product_id: str, url: str, resource: str = "/customers") -> None:
        """Somebody else subscribes."""
        self.there[product_id] = Remote(
            product_id=product_id, url=url, resource=resource, expires_at=self._until(), marks=("",)
        )

    # --- contract --------------------------------------------------------------------------------------------------

    async def subscribable(self, entity: str, scope: str) -> str:
        return f"{entity} has a composite key." if entity in self.unsupported else ""

    async def list_subscriptions(self) -> list[Remote]:
        self._fail(self.before, "list")
        listed = list(self.there.values())
        self.listing.set()
        if self.hold is not None:
            await self.hold.wait()
        return listed

    def is_current(self, remote: Remote, wanted: Wanted) -> bool:
        return remote.url == self._url(wanted) and remote.marks == self._marks(wanted)

    async def subscribe(self, wanted: Wanted) -> Remote:
        await self._call("subscribe", wanted)
        made = self._remote(f"p{next(self._numbers)}", wanted)
        self.there[made.product_id] = made
        self._fail(self.after, "subscribe")
        return made

    async def renew(self, remote: Remote, wanted: Wanted) -> Remote:
        await self._call("renew", wanted)
        if remote.product_id not in self.there:
            raise SubscriptionGoneError
        self.there[remote.product_id] = self._remote(remote.product_id, wanted)
        self._fail(self.after, "renew")
        return self.there[remote.product_id]

    async def unsubscribe(self, remote: Remote) -> None:
        self.asked.append("unsubscribe")
        self._fail(self.before, "unsubscribe")
        self.there.pop(remote.product_id, None)
        self._fail(self.after, "unsubscribe")

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _call(self, name: str, wanted: Wanted) -> None:
        self.asked.append(name)
        self._fail(self.before, name)
        if self.handshake is not None and not await self.handshake(self._url(wanted)):
            raise StopError("The URL did not echo the token of the handshake.", code="handshake")

    @staticmethod
    def _fail(faults: dict[str, BaseException], name: str) -> None:
        fault = faults.pop(name, None)
        if fault is not None:
            raise fault

    def _remote(self, product_id: str, wanted: Wanted) -> Remote:
        return Remote(
            product_id=product_id,
            url=self._url(wanted),
            resource=f"{wanted.scope}/{wanted.entity}",
            expires_at=self._until(),
            marks=self._marks(wanted),
        )

    def _until(self) -> dt.datetime | None:
        if self._lifetime is None:
            return None
        return self._clock_of_product.now() + dt.timedelta(seconds=self._lifetime)

    @staticmethod
    def _url(wanted: Wanted) -> str:
        return f"{wanted.url}/{derived(wanted.secret(), 'url', wanted.subscription)}"

    @staticmethod
    def _marks(wanted: Wanted) -> tuple[str, ...]:
        return (derived(wanted.secret(), "clientState", wanted.subscription),)
