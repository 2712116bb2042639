"""What a worker has under way: so many tasks at once in all, and so many of one kind."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from sensors.live.defects import told

log = logging.getLogger(__name__)


class Pool:
    """Tasks of one process. Whoever could not start something is told when there is room."""

    def __init__(self, on_room: Callable[[], None]) -> None:
        """`on_room` is called when a task ends for which something had to wait."""
        #: Most tasks at once; 0 lets nothing start. What runs already goes on.
        self.most = 1
        self._on_room = on_room
        self._running: Counter[Hashable] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._full = False
        self._ending = False
        self._again: set[Hashable] = set()

    @property
    def crowded(self) -> bool:
        """Whether work of another kind waits for room, or all has to end: who has done a piece of work makes way then."""
        return self._full or self._ending

    def __len__(self) -> int:
        """Tasks under way."""
        return len(self._tasks)

    def start(self, kind: Hashable, work: Callable[[], Coroutine[Any, Any, None]], *, most: int = 1) -> bool:
        """Start a task unless `most` of this kind, or too many in all, are under way."""
        if self._ending:
            return False
        if self._running[kind] >= most:
            self._again.add(kind)
            return False
        if len(self._tasks) >= self.most:
            self._full = True
            return False
        self._running[kind] += 1
        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(kind, ended))
        return True

    async def finish(self, *, within: float) -> None:
        """Let what is under way come to its end; what takes longer than these seconds is broken off."""
        self._ending = True
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=within)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _ended(self, kind: Hashable, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a piece of work met a defect: %s", told(error))
        self._running[kind] -= 1
        if not self._running[kind]:
            del self._running[kind]
        if self._full or kind in self._again:
            self._full = False
            self._again.discard(kind)
            self._on_room()
