"""Signs of life of a process that is no worker: `ipaas status` and the supervisor see by them that it works."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from ipaas_assets.workers import this_worker
from ipaas_resources.core.clock import Clock
from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.store import workers
from ipaas_resources.store.database import Database


@contextlib.asynccontextmanager
async def beating(
    database: Database, *, role: str, clock: Clock, details: Callable[[], dict[str, Any]] = dict
) -> AsyncIterator[None]:
    """Give signs of life while the block lasts. A database that is down does not end the block: it is no work."""
    worker = this_worker()
    task = asyncio.create_task(_beat(database, worker, role, clock, details))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        with contextlib.suppress(DatabaseUnavailableError):
            await workers.leave(database, worker)


async def _beat(
    database: Database, worker: str, role: str, clock: Clock, details: Callable[[], dict[str, Any]]
) -> None:
    while True:
        with contextlib.suppress(DatabaseUnavailableError):
            await workers.beat(
                database,
                worker=worker,
                role=role,
                lane=None,
                host=socket.gethostname(),
                pid=os.getpid(),
                details=details(),
            )
        await clock.sleep(workers.BEAT)
