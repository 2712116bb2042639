"""What becomes of an item: from the decision and the product's answer to the row that settles it. Pure but for chance."""

from __future__ import annotations

from typing import Any

from ipaas_assets.sync.model import Decision, Options, OutcomeName, TargetWork
from ipaas_assets.sync.plan_lines import lines_by_key
from ipaas_assets.sync.waiting import Wait, missing_key
from ipaas_resources.core.clock import Ids
from ipaas_resources.core.errors import (
    CircuitOpenError,
    DatabaseUnavailableError,
    IpaasError,
    RetryError,
    ThrottledError,
)
from ipaas_resources.core.records import Operation, OperationKind, Outcome, WriteResult
from ipaas_resources.core.values import Document
from ipaas_resources.store.queue import Claimed, Link, ParkedItem, Settlement

#: Seconds between attempts after a failure that may pass, by attempt.
_BACKOFF = (1.0, 4.0, 16.0, 60.0, 300.0)
#: Shortest and longest time that a parked item sleeps without being woken: as long again as it has waited.
_PARKED_LEAST = 2.0
_PARKED_MOST = 60.0
#: Seconds until an item is tried again that was not sent because our own database restarted.
_RESTART = 1.0
#: Longest time that an item waits because its system is left alone.
_CIRCUIT_MOST = 30.0


#: Outcomes after which the link says what the target holds.
RECONCILED = frozenset(
    {
        OutcomeName.CREATED,
        OutcomeName.ADOPTED,
        OutcomeName.UPDATED,
        OutcomeName.DELETED,
        OutcomeName.DEACTIVATED,
        OutcomeName.NO_CHANGE,
        OutcomeName.FILTERED,
    }
)


class Settling:
    """Makes settlements."""

    def __init__(self, options: Options, ids: Ids) -> None:
        self._options = options
        self._ids = ids

    def of(
        self,
        work: TargetWork,
        item: Claimed,
        decision: Decision,
        result: WriteResult | None,
        intent: int,
        before: ParkedItem | None = None,
    ) -> tuple[Settlement, OutcomeName]:
        """The row that settles an item, and the outcome to count. `before`: what it waited for until now."""
        settlement, outcome = self._of(work, item, decision, result, intent, before)
        if not settlement.done and outcome not in RECONCILED:
            # Nothing was learned for the link: what had to be looked up still has to be.
            settlement.verify = settlement.verify or item.verify_target
            settlement.intent = settlement.intent or item.intent
        return settlement, outcome

    def _of(
        self,
        work: TargetWork,
        item: Claimed,
        decision: Decision,
        result: WriteResult | None,
        intent: int,
        before: ParkedItem | None,
    ) -> tuple[Settlement, OutcomeName]:
        base = Settlement(scope=item.scope, record=item.record, generation=item.generation, done=True)
        if (
            result is None
            or result.outcome is Outcome.APPLIED
            or (
                result.outcome is Outcome.MISSING
                and decision.operation is not None
                and decision.operation.kind is OperationKind.DELETE
            )
        ):
            return self._applied(work, item, decision, result, base, before)
        late = decision.operation is not None and write_may_arrive_late(work, decision.operation)
        return self._not_applied(work, item, result, base, intent, may_arrive_late=late)

    def _applied(
        self,
        work: TargetWork,
        item: Claimed,
        decision: Decision,
        result: WriteResult | None,
        base: Settlement,
        before: ParkedItem | None,
    ) -> tuple[Settlement, OutcomeName]:
        outcome = decision.outcome
        base.outcome = outcome.value
        base.changes = decision.changes
        if decision.error is not None:
            base.error_code, base.error = decision.error.code, decision.error.message
        elif decision.reason:
            base.error = decision.reason
        if outcome in {OutcomeName.DEAD, OutcomeName.REVIEW}:
            base.done, base.state, base.charge = False, outcome.value, True
            return base, outcome
        if result is not None or decision.link_state is not None or decision.sent is not None:
            self._link_changes(work, item, decision, result, base)
        if decision.ask is not None:
            base.done, base.state, base.charge = False, OutcomeName.REVIEW.value, True
            base.error_code, base.error = decision.ask.code, decision.ask.message
        elif decision.keep_parked is not None:
            wait = Wait(work, decision.keep_parked, missing_key(item, decision.keep_parked), before)
            return self._waits(base, outcome, wait)
        return base, outcome

    def _waits(self, base: Settlement, outcome: OutcomeName, wait: Wait) -> tuple[Settlement, OutcomeName]:
        """The item stays for a link that is missing: by itself for a while, then a person is asked."""
        base.done, base.waits_for, base.waits_key, base.wait_began = False, wait.link, wait.key, wait.began
        too_long = wait.too_long(self._options.park_limit)
        if too_long is not None:
            base.state, base.charge = OutcomeName.REVIEW.value, True
            base.error_code, base.error = too_long.code, too_long.message
            if outcome is not OutcomeName.PARKED:
                return base, outcome
            base.outcome = OutcomeName.REVIEW.value
            return base, OutcomeName.REVIEW
        # Waiting is no failure: charged, its attempts would be used up when the first write of it meets a busy system.
        base.state, base.charge = "parked", False
        asleep = min(_PARKED_MOST, max(_PARKED_LEAST, wait.seconds))
        base.due_in = asleep * (0.75 + 0.5 * self._ids.random())
        base.error_code = base.error_code or "unresolved_reference"
        if outcome is OutcomeName.PARKED and not wait.began:
            base.outcome = None  # it was told once that the item waits
        return base, outcome

    @staticmethod
    def _link_changes(
        work: TargetWork, item: Claimed, decision: Decision, result: WriteResult | None, base: Settlement
    ) -> None:
        link = item.link
        base.link = decision.link_state or (
            link.state if link is not None and link.state != "reserved" else None
        )
        if base.link is None:
            return
        base.sent = decision.sent
        base.lines = decision.lines
        base.forget_key = decision.forget_key or None
        if result is None:
            base.etag = link.etag if link is not None else None
            base.read_back = link.read_back if link is not None else None
            return
        base.target_scope = decision.target_scope
        base.target_id = result.id or (decision.operation.id if decision.operation is not None else None)
        base.etag = result.etag
        base.progress = None
        if result.document is not None:
            base.read_back = _read_back(decision, link, result.document)
            if decision.lines:
                base.lines = _with_line_ids(work, decision.lines, result.document)
        elif link is not None:
            base.read_back = {
                name: value
                for name, value in link.read_back.items()
                if decision.operation is None or name not in decision.operation.fields
            }

    def _not_applied(
        self,
        work: TargetWork,
        item: Claimed,
        result: WriteResult,
        base: Settlement,
        intent: int,
        *,
        may_arrive_late: bool,
    ) -> tuple[Settlement, OutcomeName]:
        error = result.error or IpaasError(f"{work.system.name} did not accept the record.")
        base.done, base.charge = False, True
        base.state = "due"
        # That a system is left alone is no event in the life of a record.
        base.outcome = None if isinstance(error, CircuitOpenError) else OutcomeName.RETRY.value
        base.error_code, base.error = error.code, error.message
        if result.progress and item.link is not None:
            base.link, base.progress, base.etag = item.link.state, result.progress, item.link.etag
            base.read_back = item.link.read_back
        elif result.progress:
            base.link, base.progress = "reserved", result.progress
        match result.outcome:
            case Outcome.REFUSED:
                base.state = "dead"
                base.outcome = OutcomeName.DEAD.value
                return base, OutcomeName.DEAD
            case Outcome.UNKNOWN:
                base.intent, base.verify = intent, True
                late = work.system.settle_wait if may_arrive_late else 0.0
                base.due_in = max(self.backoff(item.attempts), late)
                if item.attempts >= self._options.max_attempts:
                    # Never repeated for ever, and never called a failure: nobody knows what became of it.
                    base.state = base.outcome = OutcomeName.REVIEW.value
                    return base, OutcomeName.REVIEW
            case Outcome.EXISTS:
                base.verify = True
                base.due_in = max(1.0, work.system.search_lag)
            case Outcome.RELOAD | Outcome.MISSING:
                base.verify = True
                base.due_in = 0.0 if item.attempts < 3 else self.backoff(item.attempts)  # noqa: PLR2004
            case Outcome.STOP:
                # Our own database comes back by itself; everything else here waits for a person.
                restart = isinstance(error, DatabaseUnavailableError)
                base.charge, base.due_in = False, _RESTART if restart else 60.0
            case _:
                base.due_in = self.wait(error, item.attempts)
                base.charge = was_tried(error)
        if (
            item.attempts >= self._options.max_attempts
            and base.charge
            and result.outcome is not Outcome.UNKNOWN
        ):
            base.state = "dead"
            base.outcome = OutcomeName.DEAD.value
            return base, OutcomeName.DEAD
        return base, OutcomeName.RETRY

    def wait(self, error: IpaasError, attempts: int) -> float:
        """Seconds until an item is due again whose attempt ended in an error that may pass."""
        asked = error.retry_after if isinstance(error, RetryError) else None
        if asked is None:
            return self.backoff(attempts)
        # Claims look at the breaker themselves: an item must not wait on when it was closed by hand.
        return min(asked, _CIRCUIT_MOST) if isinstance(error, CircuitOpenError) else asked

    def backoff(self, attempts: int) -> float:
        seconds = _BACKOFF[min(max(attempts, 1), len(_BACKOFF)) - 1]
        return seconds * (0.75 + 0.5 * self._ids.random())


def was_tried(error: IpaasError) -> bool:
    """Whether an attempt that ended so counts: not when budget, circuit breaker or our database let nothing through."""
    return not isinstance(error, ThrottledError | CircuitOpenError | DatabaseUnavailableError)


def write_may_arrive_late(work: TargetWork, operation: Operation) -> bool:
    """True when a write whose answer was lost could still change the target after we have looked.

    A create under an id of ours is refused the second time, and a write that carries a version is refused once the
    record has moved on: those can be judged at once.
    """
    if operation.kind is OperationKind.CREATE:
        return work.capabilities.create != "client_key"
    return not (work.capabilities.conditional_updates and operation.etag is not None)


def _read_back(decision: Decision, link: Link | None, stored: Document) -> Document:
    """Where the target stored another form of what was sent: that form, beside those of fields not sent this time."""
    written = decision.operation.fields if decision.operation is not None else {}
    sent = decision.sent or {}
    known = (
        {} if link is None else {name: form for name, form in link.read_back.items() if name not in written}
    )
    return known | {
        name: stored[name]
        for name in written
        if name in stored and name in sent and stored[name] != sent[name] and not _is_marker(sent[name])
    }


def _is_marker(value: object) -> bool:
    """A file or a secret is stored as a marker, not as its value."""
    return isinstance(value, dict) and ("$file" in value or "$secret" in value)


def _with_line_ids(work: TargetWork, images: dict[str, Any], document: Document) -> dict[str, Any]:
    """The images with the ids that the target gave its lines."""
    result: dict[str, Any] = {}
    for name, lines in images.items():
        stored = lines_by_key(work, name, document)
        result[name] = {
            key: [stored[key]["$id"] if key in stored else line_id, values]
            for key, (line_id, values) in lines.items()
        }
    return result
