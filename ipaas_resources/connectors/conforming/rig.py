"""One connector, its fake and a clock, joined the way the engine joins them."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING

import anyio
import httpx
import msgspec
import pytest

from ipaas_resources.connectors import registry
from ipaas_resources.connectors.base import Environment
from ipaas_resources.core.breaker import AlwaysClosed
from ipaas_resources.core.clock import ManualClock, SeededIds
from ipaas_resources.core.errors import CircuitOpenError, RetryError
from ipaas_resources.core.ids import derived_guid
from ipaas_resources.core.records import (
    Change,
    ChangeKind,
    Cursor,
    Found,
    KeyPage,
    Operation,
    OperationKind,
    Outcome,
    Page,
    WriteResult,
)
from ipaas_resources.core.values import decode, encode, encode_canonical

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from ipaas_resources.connectors.base import Connector
    from ipaas_resources.connectors.conforming.case import ConformanceCase
    from ipaas_resources.core.breaker import Probe
    from ipaas_resources.core.errors import RecordError
    from ipaas_resources.core.limits import BudgetKey, LimitPolicy
    from ipaas_resources.core.schema import EntitySchema
    from ipaas_resources.core.values import Document

#: How often a patient caller comes back before the suite calls it a livelock.
PATIENCE = 25
#: Longer than any overlap of a watermark: records older than this must not be seen again.
LONG_AGO = 7 * 86_400.0


class MemoryLimits:
    """The budget keeper of one process: permits and "not before", on the test's clock."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._permits: dict[BudgetKey, anyio.Semaphore] = {}
        self._not_before: defaultdict[BudgetKey, float] = defaultdict(float)
        self.granted = 0

    @contextlib.asynccontextmanager
    async def request(self, key: BudgetKey, policy: LimitPolicy) -> AsyncIterator[None]:
        """Wait for the end of a pause, then for a permit."""
        if key not in self._permits:
            self._permits[key] = anyio.Semaphore(policy.concurrency)
        async with self._permits[key]:
            while (wait := self._not_before[key] - self._clock.monotonic()) > 0:
                await self._clock.sleep(wait)
            self.granted += 1
            yield

    async def not_before(self, key: BudgetKey, seconds: float) -> None:
        """Let nobody through for that long."""
        self._not_before[key] = max(self._not_before[key], self._clock.monotonic() + seconds)

    def scarce(self, system: str) -> bool:
        """Never: the suite gathers nothing."""
        del system
        return False


class Fuse(AlwaysClosed):
    """A circuit breaker that is opened by hand."""

    open = False

    async def check(self) -> None:
        """Refuse while it is open."""
        if self.open:
            raise CircuitOpenError(retry_after=300.0)

    async def enter(self, lease: float) -> Probe | None:
        """Refuse while it is open."""
        await self.check()
        return await super().enter(lease)


class Recorder(httpx.AsyncBaseTransport):
    """Notes the host and the sign-in of every request before it goes on."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.sent: list[tuple[str, str]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Note and pass on."""
        self.sent.append((request.url.host, request.headers.get("authorization", "")))
        return await self._inner.handle_async_request(request)


class Scan(msgspec.Struct):
    """What one reading of an entity gave."""

    pages: list[Page]

    @property
    def changes(self) -> list[Change]:
        """All changes in order."""
        return [change for page in self.pages for change in page.changes]

    @property
    def faults(self) -> list[tuple[str, RecordError]]:
        """Records that could not be read, and why."""
        return [fault for page in self.pages for fault in page.faults]

    @property
    def ids(self) -> list[str | None]:
        """Their record ids in order, repeats included."""
        return [change.id for change in self.changes]

    @property
    def cursor(self) -> Cursor:
        """Where the next scan begins."""
        return self.pages[-1].cursor

    def documents(self) -> dict[str, Document]:
        """The last document per record; deleted ones are gone."""
        found: dict[str, Document] = {}
        for change in self.changes:
            if change.kind is ChangeKind.DELETE:
                found.pop(change.id or "", None)
            elif change.document is not None:
                found[change.id or ""] = change.document
        return found


class Rig:
    """A connector on the test bench."""

    def __init__(self, case: ConformanceCase) -> None:
        self.case = case
        self.clock = ManualClock()
        self.fake = case.make_fake(self.clock)
        self.limits = MemoryLimits(self.clock)
        self.breaker = Fuse()
        self.recorder = Recorder(case.transport(self.fake))
        self.document = case.document()
        self.manifest = registry.manifest(self.document.connector)
        self._open: list[Connector] = []
        self.connector = self.fresh()

    def fresh(self) -> Connector:
        """Another connector of the same system, as another process would make it."""
        connector = registry.create(self.document, self.environment())
        self._open.append(connector)
        return connector

    def environment(self) -> Environment:
        """What the engine hands a connector."""
        return Environment(
            system=self.document.system,
            clock=self.clock,
            ids=SeededIds(7),
            limits=self.limits,
            breaker=self.breaker,
            secret=self._secret,
            transport=lambda: self.recorder,
        )

    def _secret(self, name: str) -> str:
        reference = self.document.secrets.get(name, name)
        return self.case.secrets[reference.partition(":")[2] or reference]

    async def close(self) -> None:
        """Give everything back."""
        for connector in self._open:
            await connector.close()

    # Reading ----------------------------------------------------------------------------------------------------

    async def scan(
        self,
        entity: str | None = None,
        cursor: Cursor | None = None,
        *,
        page_size: int | None = None,
        fields: Sequence[str] | None = None,
        on_page: Callable[[int], Awaitable[None]] | None = None,
        connector: Connector | None = None,
    ) -> Scan:
        """Read to the end; a wait that the system asks for is waited, and the scan goes on from its last page."""
        pages: list[Page] = []
        for _ in range(PATIENCE):
            try:
                source = (connector or self.connector).changes(
                    entity or self.case.readable, self.case.scope, cursor, page_size=page_size, fields=fields
                )
                async for page in source:
                    pages.append(page)
                    cursor = stored_cursor(page.cursor)
                    if on_page is not None:
                        await on_page(len(pages))
            except RetryError as error:
                await self.clock.sleep(error.retry_after or 30)
            else:
                return Scan(pages)
        pytest.fail(f"the scan did not end within {PATIENCE} attempts")

    async def all_keys(self, entity: str, fields: Sequence[str] = ()) -> list[KeyPage]:
        """Every page of a key listing."""
        return [page async for page in self.connector.keys(entity, self.case.scope, fields)]

    async def read(self, entity: str, ids: Sequence[str]) -> list[Found | None]:
        """Records by id."""
        return await self.connector.read(entity, self.case.scope, ids)

    async def find(self, fields: Sequence[str], values: Sequence[tuple[object, ...]]) -> list[list[Found]]:
        """Records of the writable entity by key."""
        return await self.connector.find(self.case.writable, self.case.scope, fields, values)

    async def schema(self, entity: str) -> EntitySchema:
        """The schema of an entity."""
        return await self.connector.schema(entity)

    async def stable(self, entity: str, document: Document | None) -> bytes:
        """The canonical bytes that are hashed: the document without its volatile fields."""
        assert document is not None, "the record came without a document"
        volatile = {field.name for field in (await self.schema(entity)).fields if field.volatile}
        return encode_canonical({name: value for name, value in document.items() if name not in volatile})

    # Writing ----------------------------------------------------------------------------------------------------

    def create(self, number: int, fields: Document | None = None, *, repeated: bool = False) -> Operation:
        """A create of the writable entity, the way the engine builds it."""
        case = self.case
        strategy = self.manifest.capabilities(case.writable).create
        values = case.new_fields(number) | (fields or {})
        return Operation(
            kind=OperationKind.CREATE,
            id=derived_guid("conformance", "target", case.scope, str(number))
            if strategy == "client_key"
            else None,
            key={name: values[name] for name in case.key_fields} if strategy == "natural_key" else {},
            fields=values,
            repeated=repeated,
            trace_id=f"{number:032x}",
        )

    async def write(self, *operations: Operation) -> list[WriteResult]:
        """Send operations; a pause that the system asks for before anything was sent is waited."""
        for _ in range(PATIENCE):
            try:
                return await self.connector.write(self.case.writable, self.case.scope, operations)
            except RetryError as error:
                await self.clock.sleep(error.retry_after or 30)
        pytest.fail(f"the write did not go through within {PATIENCE} attempts")

    async def insist(self, *operations: Operation) -> list[WriteResult]:
        """Send operations and, as the engine does, send again those that were surely not applied."""
        results = await self.write(*operations)
        for _ in range(PATIENCE):
            again = [n for n, result in enumerate(results) if result.outcome is Outcome.RETRY]
            if not again:
                return results
            await self.clock.sleep(30)
            for n, result in zip(again, await self.write(*(operations[n] for n in again)), strict=True):
                results[n] = result
        pytest.fail(f"an operation was still to be retried after {PATIENCE} attempts")

    async def created(self, number: int) -> WriteResult:
        """A record made by the connector."""
        (result,) = await self.insist(self.create(number))
        assert result.outcome is Outcome.APPLIED, result.error
        assert result.id is not None
        return result

    async def wait_until_known(self) -> None:
        """Let the time pass after which the outcome of a lost write can be looked up."""
        self.clock.advance(self.manifest.max_server_time)
        await self.fake.settle()
        self.clock.advance(max(self.manifest.search_lag, self.fake.search_lag) + 1)

    async def look(self, number: int) -> list[Found]:
        """What the target holds of `new_fields(number)`, looked up the way the engine resolves an intent."""
        if self.manifest.capabilities(self.case.writable).create == "client_key":
            (found,) = await self.read(self.case.writable, [self.create(number).id or ""])
            return [found] if found else []
        (hits,) = await self.find(self.case.key_fields, [self.case.key_values(number)])
        return hits

    def creates(self) -> int:
        """How many creates of the writable entity the fake accepted."""
        return sum(effect.kind == "create" for effect in self.fake.ledger.writes(self.case.writable))

    def assert_waits_were_kept(self) -> None:
        """Nobody sent before the time that the system had named was over."""
        entries = self.fake.ledger.entries
        for asked in entries:
            if asked.retry_after is None:
                continue
            for later in entries:
                if later.request_id > asked.request_id and later.principal == asked.principal:
                    assert later.at >= asked.at + asked.retry_after, (
                        f"request {later.request_id} came {later.at - asked.at} s after a wait of {asked.retry_after} s"
                    )


def stored_cursor(cursor: Cursor) -> Cursor:
    """The cursor as it comes back from the store: through JSON."""
    back: Cursor = decode(encode(cursor))
    return back


def need(reason: str) -> None:
    """Skip a test that the case declares not applicable, with its reason."""
    if reason:
        pytest.skip(reason)
