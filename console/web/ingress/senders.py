"""Who may send: the live subscriptions with their secrets resolved, kept for some seconds."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from ipaas_resources.connectors.webhooks import Receiver, Sender, receiver
from ipaas_resources.core.clock import Clock
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.secrets import resolve_secret
from ipaas_resources.store.database import Database
from ipaas_resources.store.subscriptions import Subscription, live_subscriptions

_log = logging.getLogger(__name__)
_FRESH_SECONDS = 5.0


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription as the ingress uses it."""

    sender: Sender
    receiver: Receiver


class Senders:
    """The live subscriptions. One look at the database serves everybody who asked before it began."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._rows: dict[str, Subscription] = {}
        self._known: dict[str, Known] = {}
        self._looked_at = float("-inf")
        self._lock = asyncio.Lock()

    def at_hand(self, subscription: str) -> Known | None:
        """The subscription as far as it was looked up in the last seconds; None: ask `get`."""
        if self._clock.monotonic() - self._looked_at > _FRESH_SECONDS:
            return None
        return self._known.get(subscription)

    def has_seen(self, subscription: str) -> bool:
        """Whether it is a subscription of ours, as far as anybody looked: strangers make up ids without end."""
        return subscription in self._rows

    async def get(self, subscription: str, *, since: float | None = None) -> Known | None:
        """The subscription of this id, None when no live one has it.

        Args:
            subscription: the id.
            since: what was looked up before this moment of the monotonic clock is too old.

        Raises:
            DatabaseUnavailableError: nobody knows.
            ConfigurationError: the subscription cannot be used: its system, its proof or its secrets are missing.
        """
        now = self._clock.monotonic()
        if since is not None or now - self._looked_at > _FRESH_SECONDS:
            await self._look(now if since is None else since)
        elif subscription not in self._rows:
            # It may have been made a moment ago, and a product that hears 404 takes its subscription away.
            await self._look(now)
        row = self._rows.get(subscription)
        if row is None:
            return None
        if subscription not in self._known:
            self._known[subscription] = _opened(row)
        return self._known[subscription]

    async def _look(self, since: float) -> None:
        async with self._lock:
            if self._looked_at >= since:
                return
            started = self._clock.monotonic()
            self._rows = await live_subscriptions(self._database)
            # Secrets are resolved anew, for what stands behind a reference may have changed.
            self._known = {}
            self._looked_at = started


def _opened(row: Subscription) -> Known:
    if row.connector is None:
        raise ConfigurationError(
            f"Subscription {row.subscription} belongs to the system {row.system}, which does not exist. "
            "Retire it, or add the system with `ipaas systems apply`."
        )
    found = receiver(row.connector)
    if row.proof not in found.proofs:
        raise ConfigurationError(
            f"Subscription {row.subscription} names the proof {row.proof!r}; the connector {row.connector} knows "
            f"{', '.join(found.proofs)}."
        )
    secrets: list[str] = []
    faults: list[str] = []
    for reference in filter(None, (row.secret, row.secret_old)):
        try:
            secrets.append(resolve_secret(reference, system=row.system, name="webhook secret"))
        except ConfigurationError as error:
            faults.append(error.message)
    if not secrets:
        raise ConfigurationError(" ".join(faults))
    for fault in faults:
        _log.warning("Subscription %s has one of its two secrets only: %s", row.subscription, fault)
    sender = Sender(subscription=row.subscription, proof=row.proof, secrets=tuple(secrets))
    return Known(sender=sender, receiver=found)
