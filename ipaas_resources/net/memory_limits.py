"""Budgets of one process, in memory: for tests and for commands that run beside no other process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from ipaas_resources.core.errors import ThrottledError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ipaas_resources.core.clock import Clock
    from ipaas_resources.core.limits import BudgetKey, LimitPolicy

#: Seconds for which a wait is remembered.
_LATELY = 1.0
#: Seconds that the window is taken to be longer, because a product counts arrivals and we count departures.
_SLACK_SHARE = 1 / 30
_LONGEST_SLACK = 2.0


class _Budget:
    def __init__(self, concurrency: int) -> None:
        self.permits = asyncio.Semaphore(concurrency)
        self.gate = asyncio.Lock()  # first come, first served
        self.sent: deque[float] = deque()


class MemoryLimits:
    """Enforces each policy exactly, within this process."""

    def __init__(self, clock: Clock, *, patience: float = 60.0) -> None:
        """Keep budgets by this clock; a request that would wait longer than `patience` seconds is refused."""
        self._clock = clock
        self._patience = patience
        self._budgets: dict[BudgetKey, _Budget] = {}
        self._not_before: dict[BudgetKey, float] = {}
        self._waited: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def request(self, key: BudgetKey, policy: LimitPolicy) -> AsyncIterator[None]:
        """Wait for a rate token and a concurrency permit; hold the permit while the request is under way.

        Raises:
            ThrottledError: the wait would be longer than the patience.
        """
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._budgets[key] = _Budget(policy.concurrency)
        if budget.permits.locked():
            self._waited[key.system] = self._clock.monotonic()
        async with budget.permits:
            async with budget.gate:
                await self._token(key, budget, policy)
            yield

    async def not_before(self, key: BudgetKey, seconds: float) -> None:
        """Nothing is sent to this budget for that long."""
        until = self._clock.monotonic() + seconds
        self._not_before[key] = max(self._not_before.get(key, 0.0), until)

    def scarce(self, system: str) -> bool:
        """Whether a request to this system had to wait within the last second."""
        waited = self._waited.get(system)
        return waited is not None and self._clock.monotonic() - waited < _LATELY

    async def _token(self, key: BudgetKey, budget: _Budget, policy: LimitPolicy) -> None:
        window = policy.window + min(_LONGEST_SLACK, policy.window * _SLACK_SHARE)
        while True:
            now = self._clock.monotonic()
            while budget.sent and budget.sent[0] + window <= now:
                budget.sent.popleft()
            full = len(budget.sent) >= policy.requests
            due = max(self._not_before.get(key, 0.0), budget.sent[0] + window if full else 0.0)
            if due <= now:
                budget.sent.append(now)
                return
            if due - now > self._patience:
                message = f"The budget of system {key.system} allows no request for {due - now:.0f} seconds."
                raise ThrottledError(message, retry_after=due - now)
            await self._clock.sleep(due - now)
            self._waited[key.system] = self._clock.monotonic()
