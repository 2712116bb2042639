"""The contract between the engine and one kind of product.

A connector is the only place that knows a product's API. It speaks canonical values (`core/values.py`), raises the
errors of `core/errors.py`, and never touches the store. The engine hands it everything it needs in `Environment`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import httpx
import msgspec
from pydantic import BaseModel, ConfigDict, Field

from ipaas_resources.core.breaker import AlwaysClosed, Breaker, BreakerPolicy
from ipaas_resources.core.clock import Clock, Ids
from ipaas_resources.core.limits import LimitPolicy, Limits
from ipaas_resources.core.records import (
    CreateStrategy,
    Cursor,
    FileRef,
    Found,
    KeyPage,
    Operation,
    Page,
    WriteResult,
)
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.core.values import Document, Value


class EntityCapabilities(BaseModel):
    """What the engine may rely on for one entity; `manifest.yaml` gives defaults and exceptions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: What makes a create repeatable.
    create: CreateStrategy = "none"
    #: The target's own natural key fields, used for look-ups after an unknown outcome (natural_key entities).
    natural_key: tuple[str, ...] = ()
    #: ordered: `Change.order` grows with each version. opaque: only equality of `etag` means anything.
    versions: Literal["ordered", "opaque"] = "opaque"
    #: How deletes are seen: `tombstones` in the change feed, `listing` by comparing keys, `never`.
    deletes: Literal["tombstones", "listing", "never"] = "listing"
    #: Most operations of one write call.
    write_batch: int = 1
    #: Most keys of one find call, ids of one read call.
    find_batch: int = 50
    read_batch: int = 50
    #: Rows of one page of changes.
    page_size: int = 1000
    #: Updates carry the version and are refused when it is stale.
    conditional_updates: bool = False
    #: A write returns what the product stored.
    returns_document: bool = False
    #: Fields that switch a record off, and on again, for `on_delete: deactivate` (statecode 1, blocked "All").
    deactivate: Mapping[str, Any] = {}
    reactivate: Mapping[str, Any] = {}


class WebhooksModel(BaseModel):
    """What `manifest.yaml` says of deliveries that the product sends; see connectors/subscribing.py."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: True: the platform subscribes over the product's API. False: a person enters the URL in the product.
    automatic: bool
    #: How a delivery proves itself, one of the receiver's `proofs`; the first choice where there are several.
    proof: str
    #: Seconds that a subscription lives at the product; None: until it is deleted.
    lifetime: float | None = None
    #: Most subscriptions that the product takes in all, foreign ones included; None: no bound is known.
    most: int | None = None
    #: Where in the product a person enters the URL and the secret, and what to choose there. Sentences.
    by_hand: str = ""


class Manifest(BaseModel):
    """`manifest.yaml` of a connector's folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connector: str  # the folder's name
    title: str
    description: str = ""
    #: True when the product keeps several companies or divisions apart: records then carry a scope.
    scoped: bool = False
    #: Seconds the product may go on working on a request after we lost its answer.
    max_server_time: float = 120
    #: Seconds until a created record can be found by a query.
    search_lag: float = 0
    #: None: the product sends no deliveries that we take.
    webhooks: WebhooksModel | None = None
    #: What one credential may do; a system document may lower it or, told so by the vendor, raise it.
    limits: LimitPolicyModel
    #: Capabilities of every entity, then per entity.
    defaults: EntityCapabilities = EntityCapabilities()
    entities: Mapping[str, Mapping[str, Any]] = {}

    def capabilities(self, entity: str) -> EntityCapabilities:
        """What the engine may rely on for this entity."""
        return self.defaults.model_copy(
            update=EntityCapabilities.model_validate(dict(self.entities.get(entity, {}))).model_dump(
                include=set(self.entities.get(entity, {}))
            )
        )


class LimitPolicyModel(BaseModel):
    """The limits of a manifest or a system document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: int
    window: float
    concurrency: int

    def policy(self) -> LimitPolicy:
        """The form that `net/` works with."""
        return LimitPolicy(requests=self.requests, window=self.window, concurrency=self.concurrency)


class BreakerPolicyModel(BaseModel):
    """`breaker:` of a system document: when the system is left alone, and for how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failures: int = Field(default=5, ge=1, le=1000)  # in a row
    seconds: float = Field(default=300.0, gt=0, le=86_400)

    def policy(self) -> BreakerPolicy:
        """The form that the store works with."""
        return BreakerPolicy(failures=self.failures, seconds=self.seconds)


Manifest.model_rebuild()


class Environment(msgspec.Struct, kw_only=True):
    """What a connector gets from outside: nothing of it is asked of the machine."""

    system: str  # the system's id, for budgets, logs and errors
    clock: Clock
    ids: Ids
    limits: Limits
    #: Of the system; tests of other things have one that never opens.
    breaker: Breaker = msgspec.field(default_factory=AlwaysClosed)
    #: Resolves a secret reference of the system document (`client_secret`) to its value, at each use.
    secret: Callable[[str], str]
    #: Makes the HTTP transport; tests hand in one that speaks to a fake. None: the real one.
    transport: Callable[[], httpx.AsyncBaseTransport] | None = None
    #: PEM file of an extra certificate authority (the simulator's); verification is never switched off.
    ca_file: str | None = None
    policy: LimitPolicy | None = None  # the system document's limits; None: the manifest's
    #: Counts finished upstream requests by "read" or "write".
    count_call: Callable[[str], None] = lambda _kind: None


class EntityInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One line of what a system offers."""

    entity: str
    title: str = ""
    incremental: bool = False  # changes since a cursor, not only full reads
    writable: bool = False


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What `ipaas systems test` prints of a system that answered."""

    product: str
    detail: str
    scopes: tuple[str, ...] = ()


class Connector(Protocol):
    """One connected system."""

    manifest: Manifest

    async def check(self) -> Health:
        """Reach the system, sign in, see every configured scope.

        Raises:
            CredentialsError: it refused us. ConfigurationError: a scope does not exist. RetryError: not reachable.
        """
        ...

    async def scopes(self) -> Sequence[str]:
        """The scopes of the system document, `('',)` for a connector without scopes."""
        ...

    async def discover(self) -> Sequence[EntityInfo]:
        """Every entity that the system offers."""
        ...

    async def schema(self, entity: str) -> EntitySchema:
        """The live schema of one entity. Raises SchemaError when there is none of that name."""
        ...

    def changes(
        self,
        entity: str,
        scope: str,
        cursor: Cursor | None,
        *,
        page_size: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """Changes since the cursor, page by page; all records when it is None.

        `fields` narrows the read to these fields plus the key (None: all); the choice is baked into the cursor, so a
        caller that needs more fields starts a new scan.

        Raises:
            CursorExpiredError: start again with None. ProtocolError: the same page token came twice.
        """
        ...

    async def acknowledge(self, entity: str, scope: str, cursor: Cursor) -> None:
        """The page that carried this cursor is committed on our side (queues delete only now)."""
        ...

    async def read(self, entity: str, scope: str, ids: Sequence[str]) -> list[Found | None]:
        """The records of these ids, in their order; None where the system answered that there is none (404, 410)."""
        ...

    def keys(self, entity: str, scope: str, fields: Sequence[str] = ()) -> AsyncIterator[KeyPage]:
        """All record ids, with the values of these fields."""
        ...

    async def find(
        self, entity: str, scope: str, fields: Sequence[str], values: Sequence[tuple[Value, ...]]
    ) -> list[list[Found]]:
        """Per tuple of key values, every record that carries them. Text is compared as the product compares it."""
        ...

    async def write(self, entity: str, scope: str, operations: Sequence[Operation]) -> list[WriteResult]:
        """Send at most `write_batch` operations, one result per operation, in their order.

        Never raises for one operation's fate; raises StopError or RetryError only when nothing at all was sent.
        """
        ...

    def open_file(self, file: FileRef, scope: str) -> AsyncIterator[bytes]:
        """The bytes of a file field, in chunks of at most 1 MiB."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


FileOpener = Callable[[FileRef], AsyncIterator[bytes]]
"""Given to connectors that write file fields: opens the source of a file, whatever system holds it."""


class SupportsFiles(Protocol):
    """A connector whose entities have file fields that can be written."""

    open_source: FileOpener | None
    """Set by the engine before `write`: opens `Operation.files` in their source system."""


class SystemDocument(BaseModel):
    """The YAML document of one system."""

    model_config = ConfigDict(extra="forbid")

    system: str
    connector: str
    title: str = ""
    settings: dict[str, Any] = {}
    secrets: dict[str, str] = {}  # name -> reference: env:NAME or file:PATH
    scopes: dict[str, str] = {}  # our short name -> the product's name or id of the company, division, tenant
    limits: LimitPolicyModel | None = None
    breaker: BreakerPolicyModel | None = None  # None: after 5 failures in a row for 300 s
    enabled: bool = True
    #: PEM file of a private certificate authority that the system's hosts use, beside the public ones.
    ca_file: str | None = None
    timezone: str = "UTC"  # of times that the product sends without a zone
    #: Seconds; None: the manifest's. A system nearer than the product's cloud may answer sooner for sure.
    max_server_time: float | None = None
    search_lag: float | None = None
    sensitivity: dict[str, dict[str, Literal["none", "personal", "secret"]]] = {}  # entity -> field -> class


class ConnectorFactory(Protocol):
    """What `connectors/<name>/connector.py` exports as `create`."""

    def __call__(self, document: SystemDocument, manifest: Manifest, environment: Environment) -> Connector:
        """A connector for this system. Sends nothing yet.

        Raises:
            ConfigurationError: the settings are wrong, all faults named at once.
        """
        ...


__all__ = [
    "Connector",
    "ConnectorFactory",
    "Document",
    "EntityCapabilities",
    "EntityInfo",
    "Environment",
    "FileOpener",
    "Health",
    "LimitPolicyModel",
    "Manifest",
    "SupportsFiles",
    "SystemDocument",
    "WebhooksModel",
]
