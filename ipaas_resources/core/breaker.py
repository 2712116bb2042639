"""What `net/` asks of a circuit breaker: PostgreSQL at run time, nothing at all in connector tests."""

from __future__ import annotations

from typing import Protocol

import msgspec


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a system is left alone, and for how long."""

    failures: int = 5  # requests in a row that found the system unable to serve
    seconds: float = 300.0  # until one request tries again


class Probe(msgspec.Struct, frozen=True):
    """The one request that may try whether a system serves again. `mark` tells it from a later one."""

    mark: str


class Breaker(Protocol):
    """The circuit breaker of one system, shared by all processes.

    Closed: requests go. Open: none goes. Half open: one goes, the probe; its fate closes the breaker or opens it again.
    """

    async def check(self) -> None:
        """Asked before a request waits for anything, so that none waits in vain.

        Raises:
            CircuitOpenError: nothing may be sent now. DatabaseUnavailableError: nobody knows.
        """
        ...

    async def enter(self, lease: float) -> Probe | None:
        """In the moment before a request is sent; a probe when this request is the one that tries.

        Args:
            lease: seconds after which a probe that said nothing counts as dead, and another may try.

        Raises:
            CircuitOpenError: it may not be sent. DatabaseUnavailableError: nobody knows.
        """
        ...

    async def answered(self, probe: Probe | None) -> None:
        """The system answered, be it with a refusal."""
        ...

    async def failed(self, probe: Probe | None, reason: str) -> None:
        """The system could not serve the request. `reason` is a sentence that may be stored and shown."""
        ...

    async def unused(self, probe: Probe | None) -> None:
        """The request ended without a word on the system: it was not sent, or cancelled."""
        ...


class AlwaysClosed:
    """Lets every request go: for tests of other things, and for hosts that are no system."""

    async def check(self) -> None:
        """Nothing is ever open."""

    async def enter(self, lease: float) -> Probe | None:
        """Never a probe."""
        del lease
        return None

    async def answered(self, probe: Probe | None) -> None:
        """Remember nothing."""
        del probe

    async def failed(self, probe: Probe | None, reason: str) -> None:
        """Remember nothing."""
        del probe, reason

    async def unused(self, probe: Probe | None) -> None:
        """Remember nothing."""
        del probe
