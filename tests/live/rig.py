"""Live workers over the products and the database of a rig, as tasks of the test."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Lane
from sensors.live.worker import Feed, LiveWorker, WorkerOptions
from tests.sync.rig import Rig

_SECONDS = 20.0


async def eventually(
    condition: Callable[[], Any], what: str = "the condition", seconds: float = _SECONDS
) -> Any:
    """Wait until the condition holds; what it said."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = condition()
                if inspect.isawaitable(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what} did not come within {seconds} s") from None


class Running:
    """One worker that runs as a task."""

    def __init__(self, worker: LiveWorker, stop: asyncio.Event, task: asyncio.Task[None]) -> None:
        self.worker = worker
        self.stop = stop
        self.task = task

    async def end(self) -> None:
        """As SIGTERM ends it."""
        self.stop.set()
        await self.task


@contextlib.asynccontextmanager
async def live(
    world: Rig,
    lane: Lane = Lane.REALTIME,
    *,
    name: str = "one",
    feeds: list[Feed] | None = None,
    **options: Any,
) -> AsyncIterator[Running]:
    """A worker of this lane, ended at the end of the block."""
    made: list[Engine] = []

    def open_engine() -> Engine:
        engine = world.new_engine()
        made.append(engine)
        return engine

    worker = LiveWorker(
        world.database,
        world.app_url,
        open_engine,
        WorkerOptions(lane=lane, **options),
        worker=name,
        feeds=feeds or [],
    )
    stop = asyncio.Event()
    running = Running(worker, stop, asyncio.create_task(worker.run(stop)))
    try:
        await eventually(lambda: made and made[-1].flows is not None, "the worker's start")
        yield running
    finally:
        stop.set()
        await running.task
