"""The words of one run: a flow target ready to work, options, counts, what a plan decides."""

from __future__ import annotations

import contextlib
import enum
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from ipaas_resources.connectors.base import Connector, EntityCapabilities, SystemDocument
from ipaas_resources.core.clock import Clock
from ipaas_resources.core.errors import AskPersonError, IpaasError
from ipaas_resources.core.records import Operation
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.core.values import Document
from ipaas_resources.store.queue import QueueOf
from mappings.compiler import CompiledFlow, CompiledTarget
from mappings.fitting import Fitting
from mappings.mapped import Unresolved

Mode = Literal["incremental", "full", "replan"]


class Lane(enum.IntEnum):
    """What raised an item decides its lane; the lower the more urgent."""

    REALTIME = 0
    POLLING = 1
    BATCH = 2


class OutcomeName(enum.StrEnum):
    """What became of one work item, as counted, stored in sync events and shown."""

    CREATED = "created"
    ADOPTED = "adopted"
    UPDATED = "updated"
    DELETED = "deleted"
    DEACTIVATED = "deactivated"
    NO_CHANGE = "no_change"
    FILTERED = "filtered"
    DEAD = "dead"
    REVIEW = "review"
    PARKED = "parked"
    RETRY = "retry"


#: Outcomes after which the item is gone; the others leave it in the queue.
SETTLED = frozenset(
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


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine works; the defaults fit production."""

    lease: float = 180.0  # seconds a claim or a pull holds; longer than any single request may take
    batch: int = 1000  # items claimed together
    writers: int = 3  # batches of one flow target under way at once
    max_attempts: int = 8
    patience: float = 30.0  # seconds a run waits for its own retries before it ends with items pending
    delete_threshold: float = 0.2  # share of a mirror that one listing may miss before a person has to look
    delete_always: int = 10  # so many missing records are always believed
    park_limit: float = 86_400.0  # seconds that a record waits for one it refers to before a person is asked


class System(msgspec.Struct, kw_only=True):
    """One connected system, opened."""

    document: SystemDocument
    connector: Connector
    paused: bool = False

    @property
    def name(self) -> str:
        """The system's id."""
        return self.document.system

    @property
    def settle_wait(self) -> float:
        """Seconds after a lost answer until looking tells the truth: longest server time plus search lag."""
        own, lag = self.document.max_server_time, self.document.search_lag
        manifest = self.connector.manifest
        return (manifest.max_server_time if own is None else own) + (
            manifest.search_lag if lag is None else lag
        )

    @property
    def search_lag(self) -> float:
        """Seconds until a created record can be found by a query."""
        return (
            self.connector.manifest.search_lag
            if self.document.search_lag is None
            else self.document.search_lag
        )


class TargetWork(msgspec.Struct, kw_only=True):
    """Everything that working on one target of one flow version needs."""

    version: int
    flow: CompiledFlow
    target: CompiledTarget
    queue: QueueOf
    system: System
    capabilities: EntityCapabilities
    schema: EntitySchema
    #: What texts go through that the schema may not take as the rules make them.
    fitting: Fitting
    #: Fields whose values may not stand in events, logs or errors.
    masked: frozenset[str]
    #: Why nothing may be written now: a rule uses a field that one side no longer has.
    broken: str | None = None
    #: Fields beside the id by which references of other records name the records that this target links.
    named_by: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The target with its flow: flow.target."""
        return f"{self.queue.flow}.{self.queue.target}"


class Decision(msgspec.Struct, kw_only=True):
    """What the plan says about one item: an operation to send, or an outcome without one."""

    outcome: OutcomeName
    operation: Operation | None = None
    target_scope: str = ""
    #: Values the link holds as sent once the operation is applied (all owned fields).
    sent: Document | None = None
    #: Field -> (before, after) of what the operation changes, masked where it must be.
    changes: dict[str, list[Any]] | None = None
    #: The record's first write: it needs its link row reserved.
    reserve: bool = False
    key: str | None = None  # natural key text of a create or adoption
    forget_key: bool = False  # the key fields change: the reservation by key ends
    #: Asked of a person about what is written: fields were left out. The item stays for review after the write.
    ask: AskPersonError | None = None
    keep_parked: Unresolved | None = None  # a reference that is still missing after this write
    lines: dict[str, Any] | None = None
    link_state: str | None = None  # the link's state after a successful write, or now when nothing is sent
    error: IpaasError | None = None
    reason: str = ""


class Counts(msgspec.Struct, kw_only=True):
    """What one run did."""

    received: int = 0  # changes read from the source
    changed: int = 0  # of them with news
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    reads: int = 0  # upstream calls
    writes: int = 0
    fenced: int = 0
    seconds: float = 0.0
    #: Where the time went: stage -> seconds, summed over all workers of the run (they overlap).
    stages: dict[str, float] = msgspec.field(default_factory=dict)
    per_target: dict[str, Counter[str]] = msgspec.field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str, clock: Clock) -> Iterator[None]:
        """Add the time inside the block to a stage."""
        started = clock.monotonic()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + clock.monotonic() - started

    def add(self, target: str, outcome: OutcomeName, many: int = 1) -> None:
        """Count items of one target."""
        self.outcomes[outcome.value] += many
        self.per_target.setdefault(target, Counter())[outcome.value] += many
