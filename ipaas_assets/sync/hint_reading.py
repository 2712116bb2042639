"""One batch of hints on its way: from the claim to the end of the hints, in one transaction with what was read."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, cast

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Lane, System
from ipaas_assets.sync.rows import Source
from ipaas_assets.sync.settling import Settling
from ipaas_assets.sync.storing import Incoming, Storing, read_by_id
from ipaas_resources.connectors.webhooks import KnowsCompanies, KnowsTables
from ipaas_resources.core import killpoints
from ipaas_resources.core.errors import (
    DatabaseUnavailableError,
    IpaasError,
    MissingRecordError,
    RecordError,
    RetryError,
    StopError,
    SystemBusyError,
)
from ipaas_resources.core.records import Change, ChangeKind
from ipaas_resources.store import hints as store
from ipaas_resources.store.hints import (
    PULL,
    PULL_ALL,
    UNPLACED,
    Claimed,
    HintBatch,
    Poll,
    PutBack,
    is_unplaced,
)

log = logging.getLogger(__name__)

#: Seconds until something that must be mended first is tried again.
_AFTER_STOP: Final = 60.0
#: From this attempt on, a batch that the system fails on is read in halves: one record may be what breaks it.
_SUSPICIOUS: Final = 3
#: Both halves and all quarters of them: a system that answers none of these is down.
_PARTS_UNANSWERED: Final = 6
#: Errors after which an attempt does not count: nothing was asked of the system.
_UNCHARGED: Final = frozenset({"throttled", "circuit_open"})


class HintsRead(msgspec.Struct, kw_only=True):
    """What became of some hints: claimed = read + again + asked + unwanted + nowhere + retried + dead + fenced."""

    claimed: int = 0
    read: int = 0  # records read and stored, or found to be as we knew them
    again: int = 0  # read, and told again meanwhile: due at once
    asked: int = 0  # left to a pull that was asked for
    unwanted: int = 0  # no active flow reads them
    nowhere: int = 0  # of a table or company that nobody knows here; see the dead row of their place
    retried: int = 0  # due again later
    dead: int = 0  # gave up; a pull was asked for
    fenced: int = 0  # another reader took the lease
    changed: int = 0  # of those read: news
    deleted: int = 0  # of those read: gone in the source
    set_aside: int = 0  # of those read: may not be used
    #: Whether more is due in the same place, as far as the claim could see. What is told meanwhile wakes readers itself.
    more: bool = False
    #: Entities whose poll is due now: (system, entity).
    polls: set[tuple[str, str]] = set()
    #: The last failure, '' where there was none.
    error: str = ""

    def add(self, other: HintsRead) -> None:
        """Sum two."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.polls |= other.polls
        self.error = other.error or self.error


_COUNTS: Final = tuple(name for name in HintsRead.__struct_fields__ if name not in {"polls", "error", "more"})


class HintReading:
    """One claimed batch on its way."""

    def __init__(
        self, engine: Engine, system: System, batch: HintBatch, trace_id: str, run: int | None
    ) -> None:
        self._engine = engine
        self._database = engine.database
        self._system = system
        self._batch = batch
        self._trace_id = trace_id
        self._run = run
        self._place: tuple[str, str] | None = None  # (entity, scope), by our names
        self._changes: list[Change] = []
        self._faults: list[tuple[str, IpaasError]] = []
        self._failed: dict[str, SystemBusyError] = {}
        #: Neither settled nor put back yet.
        self._open = {hint.record: hint for hint in batch.hints}
        self._result = HintsRead(claimed=len(batch.hints))

    async def finish(self) -> HintsRead:
        """Read and settle, or put back with the reason."""
        most = self._engine.options.max_attempts
        worn = [hint for hint in self._batch.hints if hint.attempts > most]
        if worn and self._known_place() is not None:
            # Claimed again and again, and never settled: whoever reads it dies.
            error = IpaasError(
                "Whoever read this record ended in the middle of it, again and again; a pull was asked for.",
                code="reader_died",
            )
            await self._put_back(worn, error, charge=True)
        try:
            if self._open:
                await self._work(list(self._open.values()))
        except DatabaseUnavailableError:
            raise
        except RetryError as error:
            await self._put_back(list(self._open.values()), error, charge=error.code not in _UNCHARGED)
        except StopError as error:
            await self._put_back(list(self._open.values()), error, charge=False)
        return self._result

    async def _work(self, hints: list[Claimed]) -> None:
        self._place = await self._find_place()
        if self._place is None:
            await self._give_up_place()
            return
        source = await self._wanted_source(*self._place)
        if source is None:
            self._result.unwanted += await self._settle(hints)
            return
        pulls = [hint for hint in hints if hint.record in {PULL, PULL_ALL}]
        records = [hint for hint in hints if hint.record not in {PULL, PULL_ALL}]
        if self._system.connector.manifest.capabilities(source.entity).read_batch < 1:
            pulls, records = hints, []
        if pulls:
            whole = any(hint.record == PULL_ALL for hint in pulls)
            await self._leave_to_pull(pulls, whole=whole, reason="the product told of many changes at once")
        if records:
            await self._read_and_store(source, records)

    # --- where ---------------------------------------------------------------------------------------------------

    async def _find_place(self) -> tuple[str, str] | None:
        """Entity and scope by our names; None where the connector knows no such table or company."""
        entity: str | None = self._batch.entity
        scope: str | None = self._batch.scope
        if self._batch.entity.startswith(UNPLACED):
            tables = cast("KnowsTables", self._system.connector)
            entity = await tables.entity_of(self._batch.entity.removeprefix(UNPLACED))
        if self._batch.scope.startswith(UNPLACED):
            companies = cast("KnowsCompanies", self._system.connector)
            scope = await companies.scope_of(self._batch.scope.removeprefix(UNPLACED))
        return None if entity is None or scope is None else (entity, scope)

    async def _give_up_place(self) -> None:
        message = (
            f"System {self._system.name} was told of changes in {_shown(self._batch)}, which it does not have or which no "
            "scope of its document names. Add the scope, or end the subscription in the product."
        )
        self._result.nowhere += await store.bury_place(
            self._database, self._batch, error_code="unknown_place", error=message
        )
        self._result.claimed = self._result.nowhere
        self._result.error = message

    async def _wanted_source(self, entity: str, scope: str) -> Source | None:
        """What reading needs; None where no active flow reads it."""
        name = self._system.name
        flows = await store.flows_reading(self._database, name, entity)
        if not flows:
            return None
        source = await self._engine.source(name, entity, scope)
        if source.targets or flows - self._engine.flows.keys():
            # A flow that cannot be opened here raises nothing, but finds the record in the mirror once it is mended.
            return source
        source = await self._engine.fresh_source(name, entity, scope)
        return source if source.targets else None

    # --- reading -------------------------------------------------------------------------------------------------

    async def _read_and_store(self, source: Source, hints: list[Claimed]) -> None:
        (drawn,) = await self._database.rows("read_number_next")
        number = int(drawn[0])
        suspicious = max(hint.attempts for hint in hints) >= _SUSPICIOUS
        size = self._system.connector.manifest.capabilities(source.entity).read_batch
        ids = [hint.record for hint in hints]
        killpoints.before("K05")
        for start in range(0, len(ids), size):
            await self._read(source, ids[start : start + size], apart=suspicious)
        killpoints.after("K05")
        storing = Storing(
            self._database,
            source,
            lane=Lane.REALTIME,
            trace_id=self._trace_id,
            run=self._run,
            refresh=functools.partial(
                self._engine.fresh_source, source.system.name, source.entity, source.scope
            ),
        )
        traces = {hint.record: hint.trace_ids for hint in hints if hint.trace_ids}
        incoming = storing.prepare(self._changes, self._faults, number, traces=traces)
        await storing.sift(incoming)
        done = [hint for hint in hints if hint.record not in self._failed]
        doubted = await self._too_many_gone(source, incoming)
        if doubted:
            incoming.buried = []

        async def work(connection: AsyncConnection) -> tuple[int, int, int, int]:
            stored = await storing.write(connection, incoming)
            if doubted:
                await store.ask_polls(connection, [doubted])
            # Last, for whoever splits deliveries waits for these rows.
            gone, again = await store.settle_hints(connection, self._batch, done)
            return stored.changed, stored.deleted, gone, again

        killpoints.before("K06")
        changed, deleted, gone, again = await storing.commit(work)
        killpoints.after("K06")
        result = self._result
        result.changed += changed
        result.deleted += deleted
        result.read += gone
        self._count_settled(done, gone, again)
        result.set_aside += incoming.set_aside
        if doubted:
            result.polls.add((doubted.system, doubted.entity))
        if self._failed:
            error = next(iter(self._failed.values()))
            await self._put_back(list(self._open.values()), error, charge=True)

    async def _read(self, source: Source, ids: list[str], *, apart: bool) -> None:
        """Read these; a batch that one record makes fail is halved down to the one."""
        try:
            self._changes += await read_by_id(source, ids)
        except RecordError as error:
            if len(ids) > 1:
                for half in _halves(ids):
                    await self._read(source, half, apart=apart)
            elif isinstance(error, MissingRecordError):
                self._changes.append(Change(kind=ChangeKind.DELETE, id=ids[0]))
            else:
                self._faults.append((ids[0], error))
        except SystemBusyError:
            if not apart or len(ids) == 1:
                raise
            await self._read_apart(source, ids)

    async def _read_apart(self, source: Source, ids: list[str]) -> None:
        """Find the records that the system breaks on. Raises where it answers no part: then it is not the records."""
        parts = deque(_halves(ids))
        answered, failures = False, 0
        while parts:
            part = parts.popleft()
            try:
                await self._read(source, part, apart=False)
            except SystemBusyError as failure:
                failures += 1
                if not answered and failures >= _PARTS_UNANSWERED:
                    raise
                if len(part) == 1:
                    self._failed[part[0]] = failure
                else:
                    parts.extend(_halves(part))
            else:
                answered = True

    async def _too_many_gone(self, source: Source, incoming: Incoming) -> Poll | None:
        """A right that was taken from us looks like many deleted records: then a full pull decides, with its own bound."""
        if len(incoming.buried) <= self._engine.options.delete_always:
            return None
        (count,) = await self._database.rows(
            "mirror_count", system=source.system.name, entity=source.entity, scope=source.scope
        )
        if len(incoming.buried) <= int(count[0] * self._engine.options.delete_threshold):
            return None
        log.warning(
            "%s records of %s/%s that were told of are not there; a full pull decides whether they are deleted",
            len(incoming.buried),
            source.system.name,
            source.entity,
        )
        return Poll(
            system=source.system.name,
            entity=source.entity,
            scope=source.scope,
            whole=True,
            reason=f"{len(incoming.buried)} records that were told of are not there",
        )

    # --- ends ----------------------------------------------------------------------------------------------------

    async def _settle(self, hints: Sequence[Claimed], poll: Poll | None = None) -> int:
        """These need no read; how many of them are gone."""

        async def work(connection: AsyncConnection) -> tuple[int, int]:
            await store.ask_polls(connection, [] if poll is None else [poll])
            return await store.settle_hints(connection, self._batch, hints)

        gone, again = await self._database.repeatable(work)
        self._count_settled(hints, gone, again)
        return gone

    def _count_settled(self, hints: Sequence[Claimed], gone: int, again: int) -> None:
        self._result.again += again
        self._result.fenced += len(hints) - gone - again
        for hint in hints:
            del self._open[hint.record]

    async def _leave_to_pull(self, hints: Sequence[Claimed], *, whole: bool, reason: str) -> None:
        assert self._place is not None
        entity, scope = self._place
        poll = Poll(system=self._system.name, entity=entity, scope=scope, whole=whole, reason=reason)
        self._result.asked += await self._settle(hints, poll)
        self._result.polls.add((poll.system, poll.entity))

    async def _put_back(self, hints: Sequence[Claimed], error: IpaasError, *, charge: bool) -> None:
        """These were not read: due again later, or given up and left to a pull."""
        settling = Settling(self._engine.options, self._engine.ids)
        place = self._known_place()
        most = self._engine.options.max_attempts
        # Without a place no pull could be asked for, so such a hint never gives up.
        charge = charge and place is not None
        rows = [
            PutBack(
                record=hint.record,
                generation=hint.generation,
                due_in=_AFTER_STOP if isinstance(error, StopError) else settling.wait(error, hint.attempts),
                charge=charge,
                dead=charge and hint.attempts >= most,
                error_code=error.code,
                error=error.message,
            )
            for hint in hints
        ]
        polls: list[Poll] = []
        if place is not None and any(row.dead for row in rows):
            polls.append(
                Poll(
                    system=self._system.name,
                    entity=place[0],
                    scope=place[1],
                    whole=False,
                    reason="records that were told of could not be read one by one",
                )
            )

        async def work(connection: AsyncConnection) -> tuple[int, int]:
            await store.ask_polls(connection, polls)
            return await store.put_back_hints(connection, self._batch, rows)

        dead, due = await self._database.repeatable(work)
        self._result.dead += dead
        self._result.retried += due
        self._result.fenced += len(hints) - dead - due
        for hint in hints:
            del self._open[hint.record]
        self._result.polls |= {(poll.system, poll.entity) for poll in polls}
        self._result.error = error.message

    def _known_place(self) -> tuple[str, str] | None:
        if self._place is None and not is_unplaced(self._batch.entity, self._batch.scope):
            return self._batch.entity, self._batch.scope
        return self._place


def _halves(ids: list[str]) -> tuple[list[str], list[str]]:
    middle = len(ids) // 2
    return ids[:middle], ids[middle:]


def _shown(batch: HintBatch) -> str:
    """The place in words, the product's own names as they are."""
    table = batch.entity.removeprefix(UNPLACED)
    return f"{table} of company {batch.scope.removeprefix(UNPLACED)}" if batch.scope else table
