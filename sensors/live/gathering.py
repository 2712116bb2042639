"""Near a system's budget each call is made to carry more records."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from ipaas_resources.core.clock import Clock

#: Seconds between two calls for the same thing while calls are short. Business Central and Dataverse allow 20 a second in
#: the long run; what comes in meanwhile goes with the next call, and what comes after a pause goes at once.
_APART: Final = 0.055


class Gathering:
    """When the last call of each kind was begun."""

    def __init__(self) -> None:
        self._begun: dict[Hashable, float] = {}

    async def begin(self, kind: Hashable, clock: Clock, *, scarce: bool) -> None:
        """Wait until the next call of this kind may begin: at once, unless calls are short."""
        now = clock.monotonic()
        left = self._begun.get(kind, now - _APART) + _APART - now
        if scarce and left > 0:
            # The moment is taken before the wait, so that two who wait do not call together.
            self._begun[kind] = now + left
            await clock.sleep(left)
        else:
            self._begun[kind] = now
