"""What `net/` asks of the keeper of budgets: PostgreSQL at run time, memory in connector tests."""

from __future__ import annotations

import contextlib
from typing import Literal, Protocol

import msgspec

#: What a process works for. A share of each budget is kept for realtime.
BudgetLane = Literal["realtime", "polling", "batch"]


class BudgetKey(msgspec.Struct, frozen=True):
    """One budget: a system, the credential it counts by, and a scope ('' where the product counts per credential)."""

    system: str
    credential: str
    scope: str = ""


class LimitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a product allows one credential."""

    requests: int  # requests per window
    window: float  # seconds, sliding
    concurrency: int  # requests at once


class Limits(Protocol):
    """Grants permission for one request at a time, over all processes."""

    def request(self, key: BudgetKey, policy: LimitPolicy) -> contextlib.AbstractAsyncContextManager[None]:
        """Wait for a rate token and a concurrency permit; hold the permit while the request is under way."""
        ...

    async def not_before(self, key: BudgetKey, seconds: float) -> None:
        """The system asked for a pause: no process sends to this budget for that long."""
        ...

    def scarce(self, system: str) -> bool:
        """Whether requests to this system had to wait lately, here: who gathers more for each call then sends more."""
        ...


class Unlimited:
    """No limit at all, for tests of other things."""

    @contextlib.asynccontextmanager
    async def request(self, key: BudgetKey, policy: LimitPolicy):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """Grant at once."""
        del key, policy
        yield

    async def not_before(self, key: BudgetKey, seconds: float) -> None:
        """Remember nothing."""
        del key, seconds

    def scarce(self, system: str) -> bool:
        """Never."""
        del system
        return False
