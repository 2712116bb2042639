"""The subscriptions that a product listed, told apart: ours by the URL, and of each of ours the one to keep."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

from ipaas_resources.connectors.subscribing import Remote
from ipaas_resources.store.subscriptions import StoredSubscription


class AtProduct:
    """One listing, kept true while the round makes and takes away."""

    def __init__(self, listed: Sequence[Remote], prefix: str, now: dt.datetime) -> None:
        self._listed = list(listed)
        self._prefix = prefix
        self._now = now

    @property
    def count(self) -> int:
        """How many the product has in all."""
        return len(self._listed)

    def ids(self) -> list[str]:
        """Our ids that stand in their URLs, each once."""
        return sorted({name for name in map(self._name, self._listed) if name})

    @property
    def ours(self) -> int:
        """How many of them send to us."""
        return sum(1 for each in self._listed if self._name(each))

    def all(self, subscription: str, product_id: str | None = None) -> list[Remote]:
        """Those that send to this subscription's URL, and the one of this id wherever it sends: its URL is an older one."""
        return [
            each
            for each in self._listed
            if self._name(each) == subscription or (product_id is not None and each.product_id == product_id)
        ]

    def best(
        self, subscription: str, row: StoredSubscription | None, is_current: Callable[[Remote], bool]
    ) -> Remote | None:
        """The one to keep; None when there is none that still lives."""
        product_id = row.product_id if row is not None else None
        living = [
            each
            for each in self.all(subscription, product_id)
            if each.expires_at is None or each.expires_at > self._now
        ]
        # The id decides at last, so that two keepers at once choose the same one.
        living.sort(
            key=lambda each: (is_current(each), each.product_id == product_id, each.product_id), reverse=True
        )
        return living[0] if living else None

    def add(self, remote: Remote) -> None:
        """One that was made."""
        self._listed.append(remote)

    def gone(self, remote: Remote) -> None:
        """One that was taken away."""
        self._listed = [each for each in self._listed if each.product_id != remote.product_id]

    def _name(self, remote: Remote) -> str:
        if not remote.url.startswith(self._prefix):
            return ""
        return remote.url.removeprefix(self._prefix).partition("?")[0].partition("/")[0]
