"""The flow targets that a live worker may work on, as the registry says now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from ipaas_assets.sync.engine import ActiveFlow, Engine
from ipaas_assets.sync.model import Lane, TargetWork
from ipaas_resources.core.errors import DatabaseUnavailableError, IpaasError, RetryError
from ipaas_resources.core.values import encode
from sensors.live.defects import told

log = logging.getLogger(__name__)

#: Seconds until a flow that could not be opened is tried again: its system did not answer, or something is to be mended.
_AGAIN_SOON: Final = 5.0
_AGAIN_LATER: Final = 30.0
#: Seconds for which a target that stopped (credentials, configuration) is left alone.
_LEFT_ALONE: Final = 30.0


class _Waiting(msgspec.Struct):
    until: float
    reason: str


class Targets:
    """Of one engine. A flow that cannot be opened waits; it never holds up the others."""

    def __init__(self, engine: Engine, lane: Lane, *, on_ready: Callable[[], None]) -> None:
        """`on_ready` is called when a flow was opened that could not be before."""
        self._engine = engine
        self._lane = lane
        self._on_ready = on_ready
        self._works: dict[str, list[TargetWork]] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._alone: dict[str, float] = {}

    def open(self) -> None:
        """Begin to open every flow that is worked on live, each for itself: a system that does not answer takes its time."""
        for flow in self._engine.flows.values():
            if _is_live(flow):
                self._begin(flow)

    async def opened(self, *, within: float) -> None:
        """Wait until every flow was opened or has to wait, but no longer than these seconds."""
        if self._opening:
            await asyncio.wait(set(self._opening), timeout=within)

    def is_parent(self, work: TargetWork) -> bool:
        """Whether other targets of the flow wait for this one, record by record."""
        siblings = self._works.get(work.queue.flow, [])
        return any(work.queue.target in each.queue.parents for each in siblings)

    def leave_alone(self, work: TargetWork) -> None:
        """Claim nothing of this target for a while."""
        self._alone[work.name] = self._engine.clock.monotonic() + _LEFT_ALONE

    @property
    def reasons(self) -> dict[str, str]:
        """Flows that wait, and why."""
        return {name: waiting.reason for name, waiting in self._waiting.items()}

    async def due(self, shut: Collection[str], held: Collection[tuple[str, str]]) -> list[TargetWork]:
        """Targets with an item of the lane that can be claimed now.

        Args:
            shut: systems that nothing is sent to, for their breaker is open.
            held: (flow, target) pairs that wait for their window, or for a person.
        """
        self._open_again()
        now = self._engine.clock.monotonic()
        works = [
            work
            for works in self._works.values()
            for work in works
            if (work.queue.flow, work.queue.target) not in held
            and work.queue.target_system not in shut
            and self._alone.get(work.name, 0.0) <= now
        ]
        if not works:
            return []
        rows = await self._engine.database.rows(
            "due_targets",
            lane=int(self._lane),
            targets=encode(
                [
                    {
                        "n": number,
                        "flow": work.queue.flow,
                        "target": work.queue.target,
                        "parents": work.queue.parents,
                    }
                    for number, work in enumerate(works)
                ]
            ).decode(),
        )
        return [works[row.n] for row in rows]

    async def close(self) -> None:
        """Give up what is being opened."""
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _open_again(self) -> None:
        now = self._engine.clock.monotonic()
        for name, waiting in self._waiting.items():
            if waiting.until <= now:
                waiting.until = float("inf")  # until this attempt has come to its end
                self._begin(self._engine.flows[name])

    def _begin(self, flow: ActiveFlow) -> None:
        task = asyncio.create_task(self._open(flow))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, flow: ActiveFlow) -> None:
        try:
            self._works[flow.name] = await self._engine.works(flow)
        except IpaasError as error:
            self._wait(flow, error.message, _AGAIN_SOON if _may_pass(error) else _AGAIN_LATER)
        except Exception as error:  # noqa: BLE001 - a defect with one flow must not end the work on the others
            log.error("flow %s could not be opened: %s", flow.name, told(error))  # noqa: TRY400 - no values
            self._wait(flow, f"It could not be opened ({type(error).__name__}); see the log.", _AGAIN_LATER)
        else:
            if self._waiting.pop(flow.name, None) is not None:
                log.info("flow %s goes on", flow.name)
            self._on_ready()

    def _wait(self, flow: ActiveFlow, reason: str, pause: float) -> None:
        known = self._waiting.get(flow.name)
        if known is None or known.reason != reason:
            log.warning("flow %s waits: %s", flow.name, reason)
        self._waiting[flow.name] = _Waiting(self._engine.clock.monotonic() + pause, reason)


def _may_pass(error: IpaasError) -> bool:
    return isinstance(error, RetryError | DatabaseUnavailableError)


def _is_live(flow: ActiveFlow) -> bool:
    """Flows with `mode: run` are Dagster's."""
    return flow.stored.enabled and flow.compiled.flow.mode == "live"
