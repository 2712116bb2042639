"""Time, chance and identity as arguments: the engine and `net/` never ask the machine themselves."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import secrets
import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> dt.datetime:
        """Wall-clock time, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> dt.datetime:
        """Wall-clock time, UTC."""
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that moves only when told to, or when somebody sleeps on it. For tests and simulations."""

    def __init__(self, start: dt.datetime | None = None) -> None:
        self._start = start or dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self._passed = 0.0
        self.slept: list[float] = []

    def now(self) -> dt.datetime:
        """Wall-clock time, UTC."""
        return self._start + dt.timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self._passed

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._passed += seconds

    async def sleep(self, seconds: float) -> None:
        """Let time pass at once; the event loop still gets its turn."""
        self.slept.append(seconds)
        self._passed += max(0.0, seconds)
        await asyncio.sleep(0)


class Ids(Protocol):
    """Where random identities and chance come from."""

    def trace_id(self) -> str:
        """A new trace id, 32 hex characters."""
        ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class SystemIds:
    """The machine's randomness."""

    def trace_id(self) -> str:
        """A new trace id, 32 hex characters (W3C trace-id form)."""
        return secrets.token_hex(16)

    def random(self) -> float:
        """A number in [0, 1)."""
        return random.random()  # noqa: S311 - jitter, not secrecy


class SeededIds:
    """The same identities for the same seed. For tests and simulations."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - jitter, not secrecy

    def trace_id(self) -> str:
        """A new trace id, 32 hex characters."""
        return f"{self._random.getrandbits(128):032x}"

    def random(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()
