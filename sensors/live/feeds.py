"""What lanes look after beside the queue: deliveries, polls, subscriptions, what new versions of flows owe."""

from __future__ import annotations

import contextlib
import functools
import logging
from typing import Final

from ipaas_assets.sync import hints, polling
from ipaas_assets.sync.remap import raise_pending
from ipaas_assets.sync.subscribing import keep_subscriptions
from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.store.inbox import CHANNEL
from ipaas_resources.store.polling import PollState
from sensors.live.defects import told
from sensors.live.gathering import Gathering
from sensors.live.opened import Opened, RetiredError
from sensors.live.pool import Pool

log = logging.getLogger(__name__)

#: Batches of one place that are read at once.
_READERS: Final = 4
#: Seconds between looks into the inbox while nothing is told.
_DELIVERIES: Final = 0.5
#: Seconds between two rounds over the subscriptions.
_ROUND: Final = 60.0
#: Seconds between looks at what is to be polled, and at what new versions owe.
_POLLS: Final = 1.0
_OWED: Final = 1.0
#: Seconds for which the hints of a system that cannot be opened here are left alone.
_LEFT_ALONE: Final = 30.0
#: The loops see a database that does not answer too, say it once, and go on when it does. What was opened and retired
#: meanwhile is replaced: the next look goes by the new one.
_QUIET: Final = (DatabaseUnavailableError, RetiredError)


class Deliveries:
    """Takes deliveries out of the inbox and reads the records that they point to."""

    channel = CHANNEL

    def __init__(self) -> None:
        self._seen: Opened | None = None
        self._gathering = Gathering()
        #: Places of systems that are not open here -> when they are tried again.
        self._alone: dict[tuple[str, str, str], float] = {}

    async def look(self, opened: Opened, pool: Pool) -> float:
        """Split some of what was delivered, then start reading; seconds until the next look."""
        if opened is not self._seen:
            self._seen, self._alone = opened, {}
        # Not all of it: where more comes in than can be split, nothing would ever be read.
        split = await hints.split(opened.engine.database)
        now = opened.engine.clock.monotonic()
        for group in await hints.due_hint_groups(opened.engine.database):
            kind = (group.system, group.entity, group.scope)
            if self._alone.get(kind, now) <= now:
                pool.start(kind, functools.partial(self._read, opened, *kind, pool), most=_READERS)
        return 0.0 if split.more else _DELIVERIES

    async def _read(self, opened: Opened, system: str, entity: str, scope: str, pool: Pool) -> None:
        """Batch after batch of one place until nothing is due there, or others want the turn."""
        try:
            async with opened.used() as engine:
                while not pool.crowded and not opened.retired:
                    scarce = engine.limits.scarce(system)
                    await self._gathering.begin((system, entity, scope), engine.clock, scarce=scarce)
                    done = await hints.read_group(
                        engine, system, entity, scope, trace_id=engine.ids.trace_id()
                    )
                    if done.error:
                        log.warning("%s/%s: %s", system, entity, done.error)
                    if not done.claimed and done.error:
                        # It stays due: without a pause we would try again at once, for ever.
                        self._alone[system, entity, scope] = engine.clock.monotonic() + _LEFT_ALONE
                    if not done.more or done.retried:
                        return
        except _QUIET:
            return
        except Exception as error:  # noqa: BLE001 - a defect with one entity must not end the work on the others
            log.error(  # noqa: TRY400 - its text may quote a record
                "the records of %s/%s could not be read; they are tried again: %s",
                system,
                entity,
                told(error),
            )


class Polls:
    """Polls what is due."""

    channel = ""

    async def look(self, opened: Opened, pool: Pool) -> float:
        """Start every poll that is due."""
        for due in await polling.due_polls(opened.engine):
            wanted = due.wanted
            pool.start((wanted.system, wanted.entity, wanted.scope), functools.partial(_poll, opened, due))
        return _POLLS


async def _poll(opened: Opened, due: PollState) -> None:
    with contextlib.suppress(*_QUIET):
        async with opened.used() as engine:
            await polling.poll(engine, due)


class Subscriptions:
    """Makes, renews and heals what products send us by."""

    channel = ""

    def __init__(self, public_url: str | None) -> None:
        self._public_url = public_url
        self._next = 0.0
        self._seen: Opened | None = None

    async def look(self, opened: Opened, pool: Pool) -> float:
        """A round a minute, and at once after the registry changed."""
        now = opened.engine.clock.monotonic()
        if now >= self._next or opened is not self._seen:
            if not pool.start("subscriptions", functools.partial(self._round, opened)):
                # We are told when there is room. The moment of the round may be long past: no measure of how long to wait.
                return _POLLS
            self._next, self._seen = now + _ROUND, opened
        return self._next - now

    async def _round(self, opened: Opened) -> None:
        try:
            async with opened.used() as engine:
                kept = await keep_subscriptions(engine, public_url=self._public_url)
        except _QUIET:
            return
        for each in kept:
            if each.error:
                log.warning("%s/%s %s: %s", each.system, each.entity, each.scope, each.error)


class Owed:
    """Raises the records that a new version of a flow, or of a lookup table, writes otherwise."""

    channel = ""

    async def look(self, opened: Opened, pool: Pool) -> float:
        """Start it unless it is under way."""
        pool.start("owed", functools.partial(self._raise, opened))
        return _OWED

    async def _raise(self, opened: Opened) -> None:
        try:
            async with opened.used() as engine:
                left: dict[str, str] = {}
                raised = await raise_pending(engine, left=left)
        except _QUIET:
            return
        if raised:
            log.info("%s records raised for new versions of flows", raised)
