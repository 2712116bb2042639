"""What a fake did, in order: the judge of every promise about requests and effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

EffectKind = Literal["create", "update", "delete", "file"]


class Effect(msgspec.Struct, kw_only=True, gc=False):
    """One change that the fake accepted. `fields` are as on the wire, by reference: never edit them."""

    kind: EffectKind
    entity: str
    scope: str = ""
    id: str
    fields: Mapping[str, Any] = {}
    trace_id: str = ""


class LedgerEntry(msgspec.Struct, kw_only=True, gc=False):
    """One request that reached the fake.

    `status` is what the caller was told; 0 means that the answer was lost (reset, torn, timed out), whatever
    `effects` were applied. `concurrent` counts the requests under way when this one began, itself included.
    """

    at: float  # the clock's monotonic seconds when the request came in
    done: float = 0.0  # the same when its effects had been applied and its answer was ready
    request_id: int
    method: str
    path: str
    query: str = ""
    status: int = 0
    effects: list[Effect] = []
    trace_id: str = ""
    host: str = ""
    principal: str = ""
    concurrent: int = 1
    received: int = 0  # bytes of the request's body that arrived
    retry_after: float | None = None  # seconds that the answer asked the caller to wait


class DeliveryEntry(msgspec.Struct, kw_only=True, gc=False):
    """One attempt of the fake to tell a receiver something (a webhook). Times are the clock's monotonic seconds."""

    number: int  # grows with every attempt, in the order of their ends
    at: float  # when it was sent
    answered: float  # when the answer was in, or patience at its end
    changed: float  # when the oldest change that it tells of was made
    url: str  # of the receiver, without its secrets
    about: tuple[str, ...]  # what it tells of: "work_orders 285227"
    attempt: int = 1
    status: int = 0  # 0: no answer
    fate: str = "sent"  # sent | dropped (it never left, on purpose)
    copy: bool = False  # sent a second time on purpose
    size: int = 0  # bytes of the body


class Ledger:
    """All requests since the start or the last `clear`, oldest first. Stores references, copies nothing."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []
        #: What the fake itself sent, oldest first.
        self.deliveries: list[DeliveryEntry] = []
        #: Running totals: "requests", "reads", "writes", "status:<n>", "effect:<kind>", "refused_connections",
        #: "deliveries" (attempts) and "delivery:<status>", "delivery:dropped".
        self.counts: Counter[str] = Counter()

    def add(self, entry: LedgerEntry) -> None:
        """Note a finished request."""
        self.entries.append(entry)
        counts = self.counts
        counts["requests"] += 1
        counts["reads" if entry.method in ("GET", "HEAD") else "writes"] += 1
        counts[f"status:{entry.status}"] += 1
        self.count(entry.effects)

    def count(self, effects: Iterable[Effect]) -> None:
        """Add effects to the totals."""
        for effect in effects:
            self.counts[f"effect:{effect.kind}"] += 1

    def delivered(self, entry: DeliveryEntry) -> None:
        """Note an attempt to deliver."""
        self.deliveries.append(entry)
        self.counts["deliveries"] += 1
        self.counts[f"delivery:{entry.status if entry.fate == 'sent' else entry.fate}"] += 1

    def writes(self, entity: str | None = None) -> list[Effect]:
        """Every accepted effect, of one entity where one is named, in order."""
        return [
            effect
            for entry in self.entries
            for effect in entry.effects
            if entity is None or effect.entity == entity
        ]

    def requests(self, method: str | None = None, path: str = "") -> list[LedgerEntry]:
        """The requests of that method whose path contains `path`."""
        return [
            entry
            for entry in self.entries
            if (method is None or entry.method == method) and path in entry.path
        ]

    def since(self, request_id: int) -> Iterator[LedgerEntry]:
        """Entries with a greater request id, in order of their end."""
        return (entry for entry in self.entries if entry.request_id > request_id)

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self.deliveries.clear()
        self.counts.clear()
