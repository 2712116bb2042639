"""A worker's sign of life, and its share of the lane's limit: what all machines together may have under way."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

import psutil

from ipaas_resources.store import workers
from ipaas_resources.store.database import Database

ROLE: Final = "worker"


def share_of(rank: int, living: int, limit: int) -> int:
    """Tasks that the worker of this rank may have under way, when so many workers of the lane live.

    The shares of all of them add up to the limit; with more workers than that the youngest ones stand by.

    >>> [share_of(rank, 3, 8) for rank in range(3)]
    [3, 3, 2]
    """
    return limit // living + (1 if rank < limit % living else 0)


class Heartbeat:
    """Of one worker of one lane."""

    def __init__(self, database: Database, *, lane: str, limit: int, worker: str) -> None:
        self._database = database
        self._lane = lane
        self._limit = limit
        self._worker = worker
        self._details: Callable[[], dict[str, Any]] = dict

    def tell(self, details: Callable[[], dict[str, Any]]) -> None:
        """What `ipaas status` is to show beside the sign of life."""
        self._details = details

    async def beat(self) -> int:
        """Give a sign of life; how much this worker may have under way now."""
        await workers.beat(
            self._database,
            worker=self._worker,
            role=ROLE,
            lane=self._lane,
            host=socket.gethostname(),
            pid=psutil.Process().pid,
            details=self._details(),
        )
        living = [
            each.worker
            for each in sorted(
                await workers.alive(self._database), key=lambda each: (each.started_at, each.worker)
            )
            if each.role == ROLE and each.lane == self._lane
        ]
        if self._worker not in living:  # the database stood still for longer than a sign of life is fresh
            return 0
        return share_of(living.index(self._worker), len(living), self._limit)

    async def leave(self) -> None:
        """The others take our share."""
        await workers.leave(self._database, self._worker)
