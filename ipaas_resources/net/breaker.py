"""What one request tells the circuit breaker of its system, over all its attempts."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from ipaas_resources.core.breaker import Breaker, Probe


class _Fate(enum.Enum):
    NOTHING = enum.auto()  # not sent, or broken off by ourselves
    ANSWERED = enum.auto()
    FAILED = enum.auto()


class Guard:
    """`async with` one logical request: the fate of its last attempt is what the breaker hears at the end."""

    def __init__(self, breaker: Breaker, *, lease: float) -> None:
        """`lease`: seconds that one attempt may take at most; see Breaker.enter."""
        self._breaker = breaker
        self._lease = lease
        self._probe: Probe | None = None
        self._fate = _Fate.NOTHING
        self._reason = ""

    @property
    def probing(self) -> bool:
        """Whether this is the one request that tries: it is sent once, for a system that is ill gets no more."""
        return self._probe is not None

    async def begin(self) -> None:
        """Another attempt begins; nothing is known of it yet.

        Raises:
            CircuitOpenError: nothing may be sent now. DatabaseUnavailableError: nobody knows.
        """
        self._fate = _Fate.NOTHING
        if self._probe is None:
            await self._breaker.check()

    async def enter(self) -> None:
        """The attempt has its permission and is sent next: the breaker may have opened while it waited.

        Raises:
            the errors of `begin`.
        """
        if self._probe is None:
            self._probe = await self._breaker.enter(self._lease)

    def answered(self) -> None:
        """The system answered the attempt, be it with a refusal or a wish to wait."""
        self._fate = _Fate.ANSWERED

    def failed(self, reason: str) -> None:
        """The system could not be reached, was silent, or said that it cannot serve."""
        self._fate, self._reason = _Fate.FAILED, reason

    async def tell(self) -> None:
        """Tell the breaker what is known so far; what follows is told anew."""
        fate, probe = self._fate, self._probe
        self._fate, self._probe = _Fate.NOTHING, None
        match fate:
            case _Fate.ANSWERED:
                await self._breaker.answered(probe)
            case _Fate.FAILED:
                await self._breaker.failed(probe, self._reason)
            case _Fate.NOTHING:
                await self._breaker.unused(probe)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            # We broke it off, perhaps while it waited for its next attempt: that says nothing about the system.
            self._fate = _Fate.NOTHING
        await self.tell()
