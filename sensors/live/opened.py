"""What a worker has opened of the registry: engine and flow targets of one moment, closed when nobody uses them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, Self

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Lane
from sensors.live.targets import Targets

#: Seconds that a new one waits for its flows before it takes the place of the one before: no gap for those that answer.
_OPENING: Final = 5.0


class RetiredError(Exception):
    """Another one has taken its place: whoever looks again finds that one."""


class Opened:
    """Of one moment of the registry."""

    def __init__(self, engine: Engine, targets: Targets, registry: str, schemas: str) -> None:
        self.engine = engine
        self.targets = targets
        self._registry = registry
        self._schemas = schemas
        self._since = engine.clock.monotonic()
        self._users = 0
        self._retired = False

    @classmethod
    async def open(cls, engine: Engine, lane: Lane, *, on_ready: Callable[[], None]) -> Self:
        """Open the registry as it is now.

        Raises:
            DatabaseUnavailableError: it cannot be read.
        """
        targets = Targets(engine, lane, on_ready=on_ready)
        try:
            # Read before what it stands for: a change in between is found by the next look.
            (before,) = await engine.database.rows("registry_stamp")
            await engine.load()
            targets.open()
            await targets.opened(within=_OPENING)
            # Read after: opening stores the schemas that it meets.
            (after,) = await engine.database.rows("registry_stamp")
        except BaseException:  # a stop too: what was opened is closed, then it is raised on
            await targets.close()
            await engine.close()
            raise
        return cls(engine, targets, before.registry, after.schemas)

    @property
    def retired(self) -> bool:
        """Whether another one has taken its place."""
        return self._retired

    async def is_current(self, *, most: float) -> bool:
        """Whether the registry is as it was and no more than so many seconds old."""
        (now,) = await self.engine.database.rows("registry_stamp")
        fresh = self.engine.clock.monotonic() - self._since < most
        return fresh and (now.registry, now.schemas) == (self._registry, self._schemas)

    @contextlib.asynccontextmanager
    async def used(self) -> AsyncIterator[Engine]:
        """Keep it open inside the block.

        Raises:
            RetiredError: whoever looked for work with it was too slow; it is closed, or will be at any moment.
        """
        if self._retired:
            # What was claimed with closed connections would be held, and not worked on, until its lease ends.
            raise RetiredError
        self._users += 1
        try:
            yield self.engine
        finally:
            self._users -= 1
            await self._close_if_idle()

    async def retire(self) -> None:
        """Close it as soon as nobody uses it."""
        self._retired = True
        await self._close_if_idle()

    async def _close_if_idle(self) -> None:
        if self._retired and not self._users:
            await self.targets.close()
            await self.engine.close()
