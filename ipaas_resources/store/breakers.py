"""Circuit breakers that all processes share: a system that fails again and again is left alone, then tried once.

State lies in PostgreSQL, by its clock. A process looks at most once a second while it sends, and writes only what changes
something, so that systems that are well cost no statement per request.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
from typing import Any, Final, Literal

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from ipaas_resources.core.breaker import BreakerPolicy, Probe
from ipaas_resources.core.clock import Clock, SystemClock
from ipaas_resources.core.errors import CircuitOpenError, IpaasError
from ipaas_resources.store.database import Database

log = logging.getLogger(__name__)

#: Seconds for which what was read of the breakers is believed.
_BELIEVED: Final = 1.0
#: Longest wait that is named while a probe is under way: its answer may come at any moment.
_PROBE_WAIT: Final = 1.0


class BreakerState(msgspec.Struct, frozen=True, kw_only=True):
    """The breaker of a system that failed lately."""

    system: str
    state: Literal["closed", "open", "half_open"]
    failures: int  # in a row
    error: str  # the last failure, as a sentence
    opened_at: dt.datetime | None
    left: float  # seconds until it is worth to ask again whether something may be sent; 0: now
    probing: bool  # half open, and one request is under way

    def sentence(self) -> str:
        """What there is to say of one that is not closed.

        Without the seconds that are left: items that wait for one reason are counted by its text.
        """
        failed = f"System {self.system} failed {self.failures} times in a row"
        if self.state == "half_open":
            return (
                f"{failed} and the next request tries whether it serves again; nothing else is sent until that one is "
                "answered."
            )
        return (
            f"{failed}, so it is left alone for a while; nothing was sent. `ipaas systems reset-breaker {self.system}` "
            f"tries at once. Last failure: {self.error}"
        )


async def breaker_states(database: Database) -> list[BreakerState]:
    """Every system whose last request failed; the others are closed."""
    return [_state(row) for row in await database.rows("breakers_read")]


async def open_systems(database: Database) -> dict[str, float]:
    """Systems to which nothing may be sent now -> seconds until it is worth to ask again.

    A half-open one that nobody tries is not among them: whoever works on it next sends the probe.
    """
    return {each.system: each.left for each in await breaker_states(database) if each.left > 0}


async def reset_breaker(database: Database, system: str) -> bool:
    """Close it by hand; False: it was closed. Other processes learn of it within a second."""
    return bool(await database.rows("breaker_reset", system=system))


class Breakers:
    """The breakers as one process and event loop sees them."""

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        """Keep breakers in this database; `clock` only counts how old a look is."""
        self._database = database
        self._clock: Clock = clock or SystemClock()
        self._seen: dict[str, BreakerState] = {}
        self._seen_at = -math.inf
        self._look = asyncio.Lock()

    def of(self, system: str, policy: BreakerPolicy | None = None) -> SystemBreaker:
        """The breaker of one system."""
        return SystemBreaker(self, system, policy or BreakerPolicy())

    async def left(self, system: str) -> float:
        """Seconds until it is worth to claim work for this system; 0: now.

        Raises:
            DatabaseUnavailableError: nobody knows.
        """
        state = await self.look(system)
        return 0.0 if state is None else state.left

    async def look(self, system: str) -> BreakerState | None:
        """What is known of a system, at most a second old; None: its last request was answered."""
        if self._old():
            async with self._look:
                if self._old():
                    await self._read()
        state = self._seen.get(system)
        if state is None or not state.left:
            return state
        left = state.left - (self._clock.monotonic() - self._seen_at)
        if left > 0:
            return msgspec.structs.replace(state, left=left)
        # Its time ran out since the look: half open, and of a probe that was under way nobody heard.
        return msgspec.structs.replace(state, left=0.0, state="half_open", probing=False)

    def believed(self, system: str) -> BreakerState | None:
        """The same without asking the database."""
        return self._seen.get(system)

    def answered(self, system: str) -> None:
        """Believe that this one is closed, until the next look."""
        self._seen.pop(system, None)

    def forget(self) -> None:
        """Look again before the next request: something changed."""
        self._seen_at = -math.inf

    async def run(self, name: str, **parameters: Any) -> list[Any]:
        """One statement on the breakers."""
        return await self._database.rows(name, **parameters)

    def _old(self) -> bool:
        return self._clock.monotonic() - self._seen_at > _BELIEVED

    async def _read(self) -> None:
        asked_at = self._clock.monotonic()
        self._seen = {each.system: each for each in await breaker_states(self._database)}
        self._seen_at = asked_at


class SystemBreaker:
    """The breaker of one system. See core.breaker.Breaker."""

    def __init__(self, breakers: Breakers, system: str, policy: BreakerPolicy) -> None:
        self._breakers = breakers
        self._system = system
        self._policy = policy

    async def check(self) -> None:
        """Raises CircuitOpenError while nothing may be sent, DatabaseUnavailableError when nobody knows."""
        state = await self._breakers.look(self._system)
        if state is not None and state.left > 0:
            raise _refusal(state)

    async def enter(self, lease: float) -> Probe | None:
        """In the moment before a request is sent; a probe when it is the one that tries. Raises as `check` does."""
        state = await self._breakers.look(self._system)
        if state is None or state.state == "closed":
            return None
        if state.left > 0:
            raise _refusal(state)
        rows = await self._breakers.run("breaker_probe", system=self._system, lease=lease)
        self._breakers.forget()
        if rows:
            return Probe(rows[0].mark)
        # Another process was first: its probe is under way, or has closed the breaker already.
        state = await self._breakers.look(self._system)
        if state is None or state.state == "closed":
            return None
        raise _refusal(state)

    async def answered(self, probe: Probe | None) -> None:
        """The system answered: a probe closes the breaker, another request ends the row of failures."""
        if probe is not None:
            await self._record("breaker_probe_succeeded", mark=probe.mark)
            return
        state = self._breakers.believed(self._system)
        if state is not None and state.state == "closed":
            # Of the many that are answered now, one writes.
            self._breakers.answered(self._system)
            await self._record("breaker_succeeded")

    async def failed(self, probe: Probe | None, reason: str) -> None:
        """The system could not serve the request; enough of them in a row, or the probe, open the breaker."""
        seconds, most = self._policy.seconds, self._policy.failures
        if probe is not None and await self._record(
            "breaker_probe_failed", mark=probe.mark, seconds=seconds, error=reason
        ):
            return
        await self._record("breaker_failed", seconds=seconds, most=most, error=reason)

    async def unused(self, probe: Probe | None) -> None:
        """The request was not sent, or cancelled: another one may be the probe."""
        if probe is not None:
            await self._record("breaker_probe_unused", mark=probe.mark)

    async def _record(self, name: str, **parameters: Any) -> list[Any]:
        """Write it down. The fate of the request stands whatever becomes of this: a write that was applied was applied."""
        try:
            return await self._breakers.run(name, system=self._system, **parameters)
        except (IpaasError, SQLAlchemyError, OSError) as error:
            log.warning(
                "The breaker of system %s was not told how a request ended (%s); the next one tells it.",
                self._system,
                type(error).__name__,
            )
            return []
        finally:
            self._breakers.forget()


def _refusal(state: BreakerState) -> CircuitOpenError:
    return CircuitOpenError(state.sentence(), retry_after=max(state.left, 0.05))


def _state(row: Any) -> BreakerState:
    open_left, probe_left = row.open_left, row.probe_left
    state: Literal["closed", "open", "half_open"] = "closed"
    left = 0.0
    if open_left is not None:
        state = "open" if open_left > 0 else "half_open"
        left = max(0.0, open_left)
    probing = state == "half_open" and probe_left is not None and probe_left > 0
    if probing:
        left = min(probe_left, _PROBE_WAIT)
    return BreakerState(
        system=row.system,
        state=state,
        failures=row.failures,
        error=row.error or "",
        opened_at=row.opened_at,
        left=left,
        probing=probing,
    )
