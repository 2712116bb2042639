"""One system's subscriptions in one round: what is wanted against what the product listed."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from typing import Literal

import msgspec

from ipaas_assets.sync.at_product import AtProduct
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.wished import SECRET, SECRET_OLD, Wish, Wishes, covers, no_secret
from ipaas_resources.connectors.base import Connector, SystemDocument, WebhooksModel
from ipaas_resources.connectors.subscribing import (
    Remote,
    SubscriptionGoneError,
    SupportsSubscriptions,
    Wanted,
    supports_subscriptions,
)
from ipaas_resources.connectors.webhooks import derived
from ipaas_resources.core.errors import ConfigurationError, DatabaseUnavailableError, IpaasError, StopError
from ipaas_resources.secrets import resolve_secret
from ipaas_resources.store import subscriptions as store
from ipaas_resources.store.subscriptions import CatchUp, StoredSubscription, Subscription

_log = logging.getLogger(__name__)

#: Seconds for which a handshake is answered after a request was begun: it may wait for its budget before it leaves.
_HANDSHAKE_SECONDS = 300.0
#: Seconds between reads of an entity that only a webhook would tell of, while there is none.
STAND_IN_SECONDS = 900.0
_ID_LENGTH = 32

Action = Literal["kept", "made", "made again", "adopted", "renewed", "retired", "removed", "failed"]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one subscription in one round."""

    system: str
    entity: str  # '' with `removed`: nobody knows any more
    scope: str
    subscription: str  # '' where none could even be named: the secret is missing
    action: Action
    error: str = ""  # of `failed`: what happened and what to do
    expires_at: dt.datetime | None = None


class Keeper:
    """One round of one system."""

    def __init__(
        self,
        engine: Engine,
        document: SystemDocument,
        connector: Connector,
        declared: WebhooksModel,
        public_url: str,
    ) -> None:
        self._engine = engine
        self._database = engine.database
        self._document = document
        self._system = document.system
        self._connector = connector
        self._declared = declared
        self._prefix = f"{public_url}/hooks/" if public_url else ""
        self._now = engine.clock.now()

    async def round(self, wishes: Wishes, rows: Sequence[StoredSubscription]) -> list[Kept]:
        """Everything there is to do.

        Args:
            wishes: of the system.
            rows: its live ones, read before the product is asked what it has.
        """
        by_hand = [row for row in rows if not row.managed]
        wanted = [
            wish
            for wish in wishes.of(self._system, list(await self._connector.scopes()))
            if not any(covers(row, wish) for row in by_hand)
        ]
        if not self._prefix or not supports_subscriptions(self._connector):
            for wish in wanted:
                await self._stand_in(wish)
            return []
        product: SupportsSubscriptions = self._connector
        managed = [row for row in rows if row.managed]
        try:
            listed = await product.list_subscriptions()
        except DatabaseUnavailableError:
            raise
        except IpaasError as error:
            return await self._none_seen(wanted, managed, error.message)
        at_product = AtProduct(listed, self._prefix, self._now)
        by_wish = _row_per_wish(managed)
        wished = {(wish.entity, wish.scope) for wish in wanted}
        # Taking away comes first: a product takes so many and no more.
        kept = []
        for row in managed:
            is_wished = by_wish[row.entity, row.scope] is row and (row.entity, row.scope) in wished
            if not is_wished and row.entity not in wishes.unknown:
                kept.append(await self._retire(product, row, at_product))
        for wish in wanted:
            kept += await self._keep(product, wish, by_wish.get((wish.entity, wish.scope)), at_product)
        # At the end: what a lost database made has been adopted by now.
        return kept + await self._remove_orphans(product, at_product)

    async def _none_seen(
        self, wanted: Sequence[Wish], managed: Sequence[StoredSubscription], error: str
    ) -> list[Kept]:
        """The product does not say what it has: nothing is changed, everything is in doubt."""
        await store.note_error(self._database, [row.subscription for row in managed], error)
        for wish in wanted:
            await self._stand_in(wish)
        ids = {(row.entity, row.scope): row.subscription for row in managed}
        for wish in wanted:
            ids.setdefault((wish.entity, wish.scope), "")
        return [
            self._kept(entity, scope, subscription, "failed", error=error)
            for (entity, scope), subscription in sorted(ids.items())
        ]

    async def _stand_in(self, wish: Wish) -> None:
        if wish.polled:
            return
        entity = CatchUp(
            system=self._system,
            entity=wish.entity,
            scope=wish.scope,
            reason=f"no subscription is live and no flow polls it: every {STAND_IN_SECONDS / 60:.0f} min",
        )
        await store.stand_in(self._database, entity, seconds=STAND_IN_SECONDS)

    # --- one that is wanted ----------------------------------------------------------------------------------------

    async def _keep(
        self,
        product: SupportsSubscriptions,
        wish: Wish,
        row: StoredSubscription | None,
        at_product: AtProduct,
    ) -> list[Kept]:
        subscription = row.subscription if row is not None else ""
        try:
            given = self._given(wish, row)
            subscription = given.subscription
            action, remote = await self._ensure(product, given, row, at_product)
        except DatabaseUnavailableError:
            raise
        except IpaasError as error:
            await store.note_error(self._database, [subscription], error.message)
            await self._stand_in(wish)
            return [self._kept(wish.entity, wish.scope, subscription, "failed", error=error.message)]
        one = self._kept(wish.entity, wish.scope, subscription, action, expires_at=remote.expires_at)
        # Two keepers at once, or one that died, may have made it twice.
        extras = [each for each in at_product.all(subscription) if each.product_id != remote.product_id]
        return [one, *[await self._remove(product, at_product, extra, subscription) for extra in extras]]

    def _given(self, wish: Wish, row: StoredSubscription | None) -> Subscription:
        """The row as it has to be. Raises ConfigurationError where the secret is missing."""
        reference = self._document.secrets.get(SECRET)
        if reference is None:
            raise ConfigurationError(no_secret(self._system))
        # Of the secret: nobody guesses it, and a database that was lost finds its subscriptions again.
        subscription = (
            row.subscription
            if row is not None
            else derived(self._secret(reference), "id", f"{self._system}\x1f{wish.entity}\x1f{wish.scope}")[
                :_ID_LENGTH
            ]
        )
        old = self._document.secrets.get(SECRET_OLD)
        if old is None and row is not None:
            # The product still sends with the one before, until it has taken the new one.
            old = row.secret if row.secret != reference else row.secret_old
        return Subscription(
            subscription=subscription,
            system=self._system,
            connector=None,
            proof=self._declared.proof,
            secret=reference,
            secret_old=old,
            entity=wish.entity,
            scope=wish.scope,
        )

    def _secret(self, reference: str) -> str:
        return resolve_secret(reference, system=self._system, name=SECRET)

    async def _ensure(
        self,
        product: SupportsSubscriptions,
        given: Subscription,
        row: StoredSubscription | None,
        at_product: AtProduct,
    ) -> tuple[Action, Remote]:
        """Have it at the product as it is wanted, and in the store as it is at the product."""
        wanted = Wanted(
            subscription=given.subscription,
            system=self._system,
            entity=given.entity,
            scope=given.scope,
            url=f"{self._prefix}{given.subscription}",
            proof=given.proof,
            secret=lambda: self._secret(given.secret),
        )
        wanted.secret()  # a missing one is said before anything is stored or sent
        remote = at_product.best(given.subscription, row, lambda each: product.is_current(each, wanted))
        is_current = remote is not None and product.is_current(remote, wanted)
        action: Action
        if remote is None:
            action = "made" if row is None or row.product_id is None else "made again"
            remote = await self._make(product, wanted, given, at_product)
        elif not is_current or self._half_over(remote):
            await self._prepare(given)
            try:
                remote = await product.renew(remote, wanted)
                action = "renewed" if is_current else "made again"
            except SubscriptionGoneError:
                at_product.gone(remote)
                remote = await self._make(product, wanted, given, at_product)
                action = "made again"
        else:
            action = "kept" if row is not None and row.product_id == remote.product_id else "adopted"
            if row is None or not _same(row, given):
                await self._prepare(given, seconds=0.0)
        await self._found(given, remote, action)
        return action, remote

    async def _make(
        self, product: SupportsSubscriptions, wanted: Wanted, given: Subscription, at_product: AtProduct
    ) -> Remote:
        reason = await product.subscribable(wanted.entity, wanted.scope)
        if reason:
            # The row is where the reason can be seen.
            await self._prepare(given, seconds=0.0)
            raise StopError(reason, code="not_subscribable")
        most = self._declared.most
        if most is not None and at_product.count >= most:
            await self._prepare(given, seconds=0.0)
            raise StopError(
                f"{self._system} takes at most {most} subscriptions in all and has {at_product.count}, "
                f"{at_product.ours} of them made by the platform. Take some away there, or let fewer entities and "
                "scopes be told of by webhooks.",
                code="too_many_subscriptions",
            )
        await self._prepare(given)
        remote = await product.subscribe(wanted)
        at_product.add(remote)
        return remote

    async def _prepare(self, given: Subscription, *, seconds: float = _HANDSHAKE_SECONDS) -> None:
        await store.prepare(self._database, given, seconds=seconds)

    async def _found(self, given: Subscription, remote: Remote, action: Action) -> None:
        reason = _CATCH_UP.get(action)
        await store.found(
            self._database,
            given.subscription,
            product_id=remote.product_id,
            resource=remote.resource,
            etag=remote.etag,
            expires_at=remote.expires_at,
            # A round in which nothing had to change: nothing sent with the secret before is still under way.
            secret_old=self._document.secrets.get(SECRET_OLD) if action == "kept" else given.secret_old,
            catch_up=None
            if reason is None
            else CatchUp(system=self._system, entity=given.entity, scope=given.scope, reason=reason),
        )
        if action != "kept":
            _log.info("Subscription %s of %s/%s: %s", given.subscription, self._system, given.entity, action)

    def _half_over(self, remote: Remote) -> bool:
        if remote.expires_at is None or self._declared.lifetime is None:
            return False
        return remote.expires_at - self._now <= dt.timedelta(seconds=self._declared.lifetime / 2)

    # --- those that are not ----------------------------------------------------------------------------------------

    async def _retire(
        self, product: SupportsSubscriptions, row: StoredSubscription, at_product: AtProduct
    ) -> Kept:
        """First there, then here: a product that hears 404 may take other subscriptions away, or count failures."""
        try:
            for remote in at_product.all(row.subscription, row.product_id):
                await product.unsubscribe(remote)
                at_product.gone(remote)
        except DatabaseUnavailableError:
            raise
        except IpaasError as error:
            await store.note_error(self._database, [row.subscription], error.message)
            return self._kept(row.entity, row.scope, row.subscription, "failed", error=error.message)
        await store.retire_subscription(self._database, row.subscription)
        return self._kept(row.entity, row.scope, row.subscription, "retired")

    async def _remove_orphans(self, product: SupportsSubscriptions, at_product: AtProduct) -> list[Kept]:
        """Those that send to our URL and that nobody here knows; looked up anew, for a row may have been made since."""
        ids = at_product.ids()
        live = await store.among_live(self._database, ids)
        return [
            await self._remove(product, at_product, remote, subscription)
            for subscription in ids
            if subscription not in live
            for remote in at_product.all(subscription)
        ]

    async def _remove(
        self, product: SupportsSubscriptions, at_product: AtProduct, remote: Remote, subscription: str
    ) -> Kept:
        try:
            await product.unsubscribe(remote)
        except DatabaseUnavailableError:
            raise
        except IpaasError as error:
            return self._kept("", "", subscription, "failed", error=error.message)
        at_product.gone(remote)
        return self._kept("", "", subscription, "removed")

    def _kept(
        self,
        entity: str,
        scope: str,
        subscription: str,
        action: Action,
        *,
        error: str = "",
        expires_at: dt.datetime | None = None,
    ) -> Kept:
        return Kept(
            system=self._system,
            entity=entity,
            scope=scope,
            subscription=subscription,
            action=action,
            error=error,
            expires_at=expires_at,
        )


#: What a poll is told of the gap, by what was done.
_CATCH_UP: dict[Action, str] = {
    "made": "subscribed just now: what changed before is read",
    "made again": "its subscription was lost or out of date: what was missed is read",
    "adopted": "its subscription was found at the product: what was missed is read",
}


def _row_per_wish(rows: Sequence[StoredSubscription]) -> dict[tuple[str, str], StoredSubscription]:
    """One row per entity and scope: the one that the product knows, where there are two."""
    return {
        (row.entity, row.scope): row
        for row in sorted(rows, key=lambda row: (row.product_id is not None, row.subscription))
    }


def _same(row: StoredSubscription, given: Subscription) -> bool:
    """Whether the row is as it has to be."""
    return (row.secret, row.secret_old, row.proof) == (given.secret, given.secret_old, given.proof)
