"""What became of deliveries: counted always, told in the log now and then, never with anything that was sent."""

from __future__ import annotations

import logging
from collections import Counter

from ipaas_resources.core.clock import Clock

_log = logging.getLogger(__name__)
#: Whoever sends rubbish a thousand times a second gets one line a minute.
_SECONDS_BETWEEN = 60.0
_QUIET = frozenset({"accepted", "repeated", "handshake"})


class Tally:
    """Counts by subscription and outcome. Ids that no subscription has are counted together: strangers choose them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.counts: Counter[tuple[str, str]] = Counter()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def add(self, subscription: str, outcome: str, why: str = "") -> None:
        """Count one; `why` is a sentence of ours for the log."""
        mark = (subscription, outcome)
        self.counts[mark] += 1
        if outcome in _QUIET:
            return
        now = self._clock.monotonic()
        told_at, told = self._told.get(mark, (float("-inf"), 0))
        if now - told_at < _SECONDS_BETWEEN:
            return
        self._told[mark] = (now, self.counts[mark])
        _log.warning(
            "Deliveries to %s: %s, %s since the last such line. %s",
            subscription or "unknown subscriptions",
            outcome.replace("_", " "),
            self.counts[mark] - told,
            why,
        )
