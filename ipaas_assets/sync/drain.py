"""The drain: claim, map, look, plan, reserve and intend, write, settle. One batch of one flow target at a time."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from contextlib import AbstractContextManager

import msgspec

from ipaas_assets.sync.lookup import FirstContact, References
from ipaas_assets.sync.mapping import map_batch
from ipaas_assets.sync.model import Counts, Decision, Lane, Options, OutcomeName, TargetWork
from ipaas_assets.sync.plan import decide
from ipaas_assets.sync.settling import Settling, was_tried, write_may_arrive_late
from ipaas_assets.sync.waiting import parked_before, wake
from ipaas_resources.core import killpoints
from ipaas_resources.core.clock import Clock, Ids
from ipaas_resources.core.errors import (
    AskPersonError,
    CircuitOpenError,
    DatabaseUnavailableError,
    IpaasError,
    LeaseLostError,
    RetryError,
    StopError,
    UnknownOutcomeError,
)
from ipaas_resources.core.records import Operation, OperationKind, Outcome, WriteResult
from ipaas_resources.core.values import encode_canonical
from ipaas_resources.store import queue, registry
from ipaas_resources.store.database import RESTART, Database
from ipaas_resources.store.queue import Batch, Opened, Reservation, Settled, Settlement

log = logging.getLogger(__name__)

#: No request is sent unless this much of the lease is left, in seconds or as a share of short leases.
_LEASE_RESERVE = 60.0
#: Seconds until items are tried again that wait for the writes of the version before.
_SWITCHING = 0.2


class Drain:
    """Works off the items of flow targets. Holds nothing that a crash could lose."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        ids: Ids,
        options: Options,
        sides: dict[str, tuple[str, str]],
        run: int | None,
        trace_id: str,
        lane: Lane | None = None,
    ) -> None:
        """`lane`: items of this lane alone; None: of all of them."""
        self._database = database
        self._lane = lane
        self._clock = clock
        self._ids = ids
        self._options = options
        self._sides = sides
        self._run = run
        self._trace_id = trace_id
        self._settling = Settling(options, ids)
        self.first_contact = FirstContact(database)
        self.counts = Counts()
        #: After a batch: whether more was due, as far as it could see. What is raised meanwhile is told by the database.
        self.more = False

    async def one_batch(self, work: TargetWork) -> int:
        """Claim and settle one batch; how many items it held, 0 when nothing was due.

        Raises:
            StopError: the target system cannot be worked with (credentials, configuration); its items stay queued.
        """
        killpoints.before("K12")
        with self._stage("claim"):
            batch = await self._claim(work)
        if batch is None:
            self.more = False
            return 0
        self.more = batch.alone or len(batch.items) >= self._options.batch
        started = self._clock.monotonic()
        try:
            await self._work(work, batch, started)
        except RetryError as error:
            # A look-up failed before anything was sent: the items come back later.
            await self._put_back(work, batch, error, charge=was_tried(error))
        except StopError as error:
            # What was sent and could not be settled lapses with its intent, and is looked for in the target then.
            if not batch.sent and not isinstance(error, LeaseLostError):
                await self._put_back(work, batch, error, charge=False)
            raise
        killpoints.after("K12")
        return len(batch.items)

    async def _claim(self, work: TargetWork) -> Batch | None:
        return await queue.claim(
            self._database,
            work.queue,
            batch=self._options.batch,
            lease=self._options.lease,
            wait=work.system.settle_wait,
            trace_id=self._trace_id,
            lane=self._lane,
        )

    async def _work(self, work: TargetWork, batch: Batch, started: float) -> None:
        with self._stage("map"):
            # Read after the claim: a table is changed before its records are raised, so a raised item sees the new one.
            tables = await registry.load_lookups(self._database, work.target.lookups)
            references = References(tables)
            killpoints.before("K07")
            mapped = await map_batch(self._database, work, batch.items, references, self._sides)
            killpoints.after("K07")
        with self._stage("look"):
            seen = await self.first_contact.look(work, batch.items, mapped)
        with self._stage("plan"):
            decisions = [
                decide(work, item, image, look)
                for item, image, look in zip(batch.items, mapped, seen, strict=True)
            ]
        sends = [number for number, decision in enumerate(decisions) if decision.operation is not None]
        with self._stage("intend"):
            opened = await self._open_intent(work, batch, decisions, sends)
        if opened.switching:
            await self._settle_unsent(work, batch, _as_they_were(batch, due_in=_SWITCHING))
            return
        if opened.intent is None:
            await self._release(work, batch)
            return
        with self._stage("write"):
            results = await self._send(work, batch, decisions, started)
        with self._stage("settle"):
            await self._settle(work, batch, decisions, results, opened.intent)

    def _stage(self, name: str) -> AbstractContextManager[None]:
        return self.counts.stage(name, self._clock)

    async def _open_intent(
        self, work: TargetWork, batch: Batch, decisions: list[Decision], sends: list[int]
    ) -> Opened:
        """Commit what is about to be sent.

        The version is checked even when nothing is sent: an old worker would settle the items that a new version raised
        as unchanged. A switch raises its items after it, so what is raised after this check moves their generation.
        """
        reservations, writes = [], []
        for number in sends:
            item, decision = batch.items[number], decisions[number]
            operation = decision.operation
            assert operation is not None
            if decision.reserve:
                reservations.append(
                    Reservation(
                        scope=item.scope,
                        record=item.record,
                        target_scope=decision.target_scope,
                        target_id=operation.id,
                        target_key=decision.key,
                    )
                )
            if _is_write(operation):
                writes.append(
                    [
                        item.scope,
                        item.record,
                        operation.kind.value,
                        operation.id,
                        _body_hash(operation),
                        write_may_arrive_late(work, operation),
                    ]
                )
        opened = await queue.open_intent(
            self._database,
            work.queue,
            version=work.version,
            batch=batch,
            reservations=reservations,
            writes=writes,
        )
        for number in sends:
            item = batch.items[number]
            if (item.scope, item.record) in opened.taken:
                error = AskPersonError(
                    f"Another source record is linked to the same record of {work.system.name} or is making it now. "
                    "Correct the key in the source, or merge the two, then replay.",
                    code="target_taken",
                )
                decisions[number] = Decision(outcome=OutcomeName.REVIEW, error=error)
        return opened

    async def _send(
        self, work: TargetWork, batch: Batch, decisions: list[Decision], started: float
    ) -> dict[int, WriteResult]:
        """Send what the intent holds, in the connector's largest safe batches, scope by scope."""
        results: dict[int, WriteResult] = {}
        by_scope: dict[str, list[int]] = defaultdict(list)
        for number, decision in enumerate(decisions):
            if decision.operation is None:
                continue
            if _is_write(decision.operation):
                by_scope[decision.target_scope].append(number)
            else:
                results[number] = WriteResult(
                    outcome=Outcome.APPLIED, id=decision.operation.id, etag=decision.operation.etag
                )
        size = work.capabilities.write_batch
        for scope, numbers in by_scope.items():
            for start in range(0, len(numbers), size):
                part = numbers[start : start + size]
                started = await self._ensure_lease(work, batch, started)
                batch.sent = True
                results.update(await self._write(work, scope, part, decisions))
        return results

    async def _write(
        self, work: TargetWork, scope: str, part: list[int], decisions: list[Decision]
    ) -> dict[int, WriteResult]:
        operations = [operation for number in part if (operation := decisions[number].operation) is not None]
        try:
            answers = await work.system.connector.write(work.queue.target_entity, scope, operations)
        except DatabaseUnavailableError as error:
            # The budget could not be read, so nothing was sent.
            answers = [WriteResult(outcome=Outcome.RETRY, error=error)] * len(part)
        except UnknownOutcomeError as error:
            answers = [WriteResult(outcome=Outcome.UNKNOWN, error=error)] * len(part)
        except RetryError as error:
            answers = [WriteResult(outcome=Outcome.RETRY, error=error)] * len(part)
        except StopError as error:
            answers = [WriteResult(outcome=Outcome.STOP, error=error)] * len(part)
        return dict(zip(part, answers, strict=True))

    async def _ensure_lease(self, work: TargetWork, batch: Batch, started: float) -> float:
        """No request is sent unless the remaining lease exceeds the time it may take. Returns when the lease began."""
        left = self._options.lease - (self._clock.monotonic() - started)
        if left > min(_LEASE_RESERVE, self._options.lease * 0.7):
            return started
        asked = self._clock.monotonic()  # before the statement: never believe more than the database gave
        if not await queue.extend_lease(self._database, work.queue, batch, lease=self._options.lease):
            raise LeaseLostError(
                f"Another worker took over items of {work.name} while this one was slow; nothing more was sent."
            )
        return asked

    async def _settle(
        self,
        work: TargetWork,
        batch: Batch,
        decisions: list[Decision],
        results: dict[int, WriteResult],
        intent: int,
    ) -> None:
        before = await parked_before(self._database, work, batch, decisions)
        settlements: list[Settlement] = []
        outcomes: list[OutcomeName] = []
        unknown = False
        stop: IpaasError | None = None
        for number, (item, decision) in enumerate(zip(batch.items, decisions, strict=True)):
            result = results.get(number)
            settlement, outcome = self._settling.of(
                work, item, decision, result, intent, before.get((item.scope, item.record))
            )
            settlements.append(settlement)
            outcomes.append(outcome)
            if result is None:
                continue
            unknown = unknown or result.outcome is Outcome.UNKNOWN
            if result.outcome is Outcome.STOP:
                stop = result.error
        if any(outcome is OutcomeName.DEAD for outcome in outcomes):
            killpoints.before("K13")
        settled = await self._settle_surely(
            work, batch, settlements, intent=intent or None, intent_state="unknown" if unknown else "settled"
        )
        fenced = settled.fenced
        if any(outcome is OutcomeName.DEAD for outcome in outcomes):
            killpoints.after("K13")
        self.counts.fenced += len(fenced)
        for item, outcome in zip(batch.items, outcomes, strict=True):
            if (item.scope, item.record) not in fenced:
                self.counts.add(work.queue.target, outcome)
        await wake(self._database, work, batch, decisions, settlements, self._sides)
        if isinstance(stop, StopError):
            raise stop

    async def _put_back(self, work: TargetWork, batch: Batch, error: IpaasError, *, charge: bool) -> None:
        """Nothing was sent: every item is due again later, or dead when it used up its attempts."""
        # That a system is left alone is no event in the life of a record.
        told = not isinstance(error, CircuitOpenError)
        settlements = []
        for item in batch.items:
            dead = charge and item.attempts >= self._options.max_attempts
            settlements.append(
                Settlement(
                    scope=item.scope,
                    record=item.record,
                    generation=item.generation,
                    done=False,
                    state="dead" if dead else "due",
                    due_in=self._settling.wait(error, item.attempts),
                    verify=item.verify_target,
                    intent=item.intent,
                    charge=charge,
                    outcome=(OutcomeName.DEAD if dead else OutcomeName.RETRY).value if told else None,
                    error_code=error.code,
                    error=error.message,
                )
            )
            self.counts.add(work.queue.target, OutcomeName.DEAD if dead else OutcomeName.RETRY)
        await self._settle_unsent(work, batch, settlements)

    async def _release(self, work: TargetWork, batch: Batch) -> None:
        """The flow was switched or disabled while we planned: the items are due at once, for whoever may work on them."""
        await self._settle_unsent(work, batch, _as_they_were(batch))
        raise LeaseLostError(
            f"Flow {work.queue.flow} was switched or disabled; nothing of it was sent.", code="flow_switched"
        )

    async def _settle_unsent(self, work: TargetWork, batch: Batch, settlements: list[Settlement]) -> None:
        await self._settle_surely(work, batch, settlements, intent=None, intent_state="settled")

    async def _settle_surely(
        self,
        work: TargetWork,
        batch: Batch,
        settlements: list[Settlement],
        *,
        intent: int | None,
        intent_state: str,
    ) -> Settled:
        """Settle, also when the database restarts meanwhile: what became of the batch is known here alone.

        Repeating is safe: a settlement that was committed although its answer was lost owns no item any more, and those
        are looked at in the target.
        """

        async def settle() -> Settled:
            return await queue.settle(
                self._database,
                work.queue,
                token=batch.token,
                version=work.version,
                intent=intent,
                intent_state=intent_state,
                run=self._run,
                trace_id=self._trace_id,
                settlements=settlements,
            )

        settled = await self._database.surely(settle, within=min(RESTART, self._options.lease / 2))
        self.more = self.more or bool(settled.due)
        return settled


def _as_they_were(batch: Batch, *, due_in: float = 0.0) -> list[Settlement]:
    """Every item goes back into the queue as if it had not been claimed."""
    return [
        Settlement(
            scope=item.scope,
            record=item.record,
            generation=item.generation,
            done=False,
            due_in=due_in,
            verify=item.verify_target,
            intent=item.intent,
            charge=False,
        )
        for item in batch.items
    ]


def _is_write(operation: Operation) -> bool:
    """False for an adoption that has nothing to send."""
    return (
        operation.kind is not OperationKind.UPDATE
        or bool(operation.fields)
        or bool(operation.lines)
        or bool(operation.files)
    )


def _body_hash(operation: Operation) -> str:
    body = encode_canonical(
        [operation.kind.value, operation.id, operation.fields, msgspec.to_builtins(operation.lines)]
    )
    return hashlib.blake2b(body, digest_size=16).hexdigest()
