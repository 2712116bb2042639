"""Records that wait for others: which link an item waits for, which items a new link wakes, and for how long one waits.

The wake-up comes after the commit of the link. A crash between the two costs the time until the item looks by itself, a
minute at most.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

from ipaas_assets.sync.lookup import References
from ipaas_assets.sync.model import Decision, OutcomeName, TargetWork
from ipaas_resources.core.errors import ReviewNeededError
from ipaas_resources.core.values import Document
from ipaas_resources.store import queue
from ipaas_resources.store.database import Database
from ipaas_resources.store.queue import Batch, Claimed, ParkedItem, Settlement
from mappings.expressions.guards import as_text
from mappings.mapped import Unresolved

REFERENCE_MISSING = "reference_missing"
_LINKING = frozenset({OutcomeName.CREATED.value, OutcomeName.ADOPTED.value})


def link_name(missing: Unresolved) -> str:
    """The flow.target whose link is missing."""
    return f"{missing.ref.flow}.{missing.ref.target}"


def waits_key(by: str, scope: str, value: str) -> str:
    """Which link of a flow target: the one whose record in that scope has this value in the field (`id`: has this id).

    A digest: a value of any length fits into the index, and none of a person stands in the queue.
    """
    return hashlib.blake2b(f"{by}\x1f{scope}\x1f{value}".encode(), digest_size=16).hexdigest()


def missing_key(item: Claimed, missing: Unresolved) -> str:
    """The same, of the reference of an item."""
    return waits_key(missing.ref.by, item.scope, missing.value)


async def parked_before(
    database: Database, work: TargetWork, batch: Batch, decisions: Sequence[Decision]
) -> dict[tuple[str, str], ParkedItem]:
    """Of the items that will wait now, what they waited for until this attempt, by (scope, record)."""
    records = [
        (item.scope, item.record)
        for item, decision in zip(batch.items, decisions, strict=True)
        if decision.keep_parked is not None
    ]
    return await queue.parked_items(database, work.queue, records) if records else {}


async def wake(
    database: Database,
    work: TargetWork,
    batch: Batch,
    decisions: Sequence[Decision],
    settlements: Sequence[Settlement],
    sides: dict[str, tuple[str, str]],
) -> None:
    """After a batch is settled: what waits for links that it made is due, and what it parked in vain."""
    made: set[str] = set()
    parked: list[tuple[Claimed, Unresolved]] = []
    for item, decision, settlement in zip(batch.items, decisions, settlements, strict=True):
        if settlement.outcome in _LINKING:
            made.update(_link_keys(work, item, decision, settlement))
        if settlement.wait_began and decision.keep_parked is not None:
            parked.append((item, decision.keep_parked))
    if made:
        await queue.wake_waiting(database, work.name, made)
    if parked:
        await _wake_found(database, work, parked, sides)


def _link_keys(work: TargetWork, item: Claimed, decision: Decision, settlement: Settlement) -> Iterator[str]:
    """By which keys others may wait for the link that was made: from either side of it, by id or by a field."""
    yield waits_key("id", item.scope, item.record)
    if settlement.target_id is not None:
        yield waits_key("id", decision.target_scope, settlement.target_id)
    for field in work.named_by:
        for scope, document in ((item.scope, item.document), (decision.target_scope, decision.sent)):
            value = _named(document, field)
            if value:
                yield waits_key(field, scope, value)


def _named(document: Document | None, field: str) -> str:
    value = None if document is None else document.get(field)
    return "" if value is None or isinstance(value, dict | list) else as_text(value)


async def _wake_found(
    database: Database,
    work: TargetWork,
    parked: Sequence[tuple[Claimed, Unresolved]],
    sides: dict[str, tuple[str, str]],
) -> None:
    """Wake those items, that wait since just now, whose link has appeared since they were mapped.

    Whoever made it had looked for waiting items before these were stored as such. Both look after their own commit, so
    one of the two sees the other.
    """
    references = References({})
    for item, missing in parked:
        references.at(item.scope).link(missing.ref, missing.value)
    await references.fetch(database, work, sides)
    found: dict[str, set[str]] = defaultdict(set)
    for item, missing in parked:
        if references.at(item.scope).link(missing.ref, missing.value) is not None:
            found[link_name(missing)].add(missing_key(item, missing))
    for link, keys in found.items():
        await queue.wake_waiting(database, link, keys)


class Wait:
    """For how long one item has waited for one link, and whether that is too long."""

    def __init__(self, work: TargetWork, missing: Unresolved, key: str, before: ParkedItem | None) -> None:
        """`before`: what the item waited for until this attempt."""
        self._work = work
        self._missing = missing
        self.link = link_name(missing)
        self.key = key
        #: It did not wait for this link before.
        self.began = before is None or before.link != self.link or before.key not in {key, None}
        self._since = None if self.began or before is None else before.since
        self._moment = None if before is None else before.moment

    @property
    def seconds(self) -> float:
        """How long it has waited, by the clock."""
        return 0.0 if self._since is None or self._moment is None else _seconds(self._moment - self._since)

    def too_long(self, limit: float) -> ReviewNeededError | None:
        """What a person is told once it has waited for longer than the flow allows (or `limit` seconds).

        Time outside of the flow's window does not count: nobody looked then.
        """
        if self._since is None or self._moment is None:
            return None
        flow = self._work.flow.flow
        most = _seconds(flow.park) if flow.park is not None else limit
        waited = self._moment - self._since
        if flow.window is not None and _seconds(waited) > most:
            waited = flow.window.open_between(self._since, self._moment)
        if _seconds(waited) <= most:
            return None
        return ReviewNeededError(
            f"Field {self._missing.field!r} of {self._work.name} has waited for more than {_span(most)} for a record that "
            f"{self.link} has not linked; bring that record there, or correct the reference in the source.",
            code=REFERENCE_MISSING,
        )


def _seconds(span: dt.timedelta) -> float:
    return span.total_seconds()


def _span(seconds: float) -> str:
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
