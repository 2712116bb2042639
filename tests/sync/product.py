"""A product for engine tests: the connector contract over a dictionary, with a ledger and faults drawn by seed.

It stands for the upstream of the fault simulation (reference: fault model, levels L1 and L2): no wire, so that hundreds
of seeds are cheap. What a product does on the wire is tested by the conformance suite against the real fakes.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from ipaas_resources.connectors.base import EntityInfo, Health, LimitPolicyModel, Manifest
from ipaas_resources.core.errors import RefusedRecordError, SystemBusyError, UnknownOutcomeError
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
from ipaas_resources.core.schema import EntitySchema, FieldSchema

CUSTOMER = EntitySchema(
    entity="customers",
    key=("id",),
    fields=(
        FieldSchema(name="id", type="text", creatable=False, updatable=False),
        FieldSchema(name="number", type="text", max_length=20),
        FieldSchema(name="name", type="text", max_length=40),
        FieldSchema(name="balance", type="decimal"),
        FieldSchema(name="parent", type="text"),
        FieldSchema(name="email", type="text", sensitivity="personal"),
        FieldSchema(name="touched", type="integer", volatile=True, creatable=False, updatable=False),
    ),
)


class Effect(msgspec.Struct):
    """What one write did."""

    kind: str
    scope: str
    id: str
    fields: dict[str, Any]


class Faults(msgspec.Struct, kw_only=True):
    """Chances per call or per operation."""

    lost_answer: float = 0.0  # applied, then the answer is lost
    lost_request: float = 0.0  # never applied, the caller cannot know
    busy: float = 0.0
    refused: float = 0.0
    lag_calls: int = 0  # a created record is found only after so many more calls


class Product:
    """Records by (scope, id); as a source it hands out changes, as a target it takes writes."""

    open_source: Any = None

    def __init__(
        self,
        *,
        create: str = "natural_key",
        scopes: Sequence[str] = ("",),
        seed: int = 0,
        faults: Faults | None = None,
        page: int = 3,
        batch: int = 4,
        find: int = 5,
        schema: EntitySchema = CUSTOMER,
        versions: str = "opaque",
    ) -> None:
        self.manifest = Manifest(
            connector="product",
            title="Product",
            limits=LimitPolicyModel(requests=1000, window=1, concurrency=10),
            max_server_time=0.0,
            defaults={
                "create": create,
                "natural_key": ("number",),
                "write_batch": batch,
                "find_batch": find,
                "read_batch": find,
                "page_size": page,
                "conditional_updates": True,
                "returns_document": True,
                "versions": versions,
                "deactivate": {"name": "(off)"},
                "reactivate": {},
            },
        )
        self._scopes = tuple(scopes)
        self._random = random.Random(seed)
        self.faults = faults or Faults()
        self._page = page
        self.live_schema = schema
        self.records: dict[tuple[str, str], dict[str, Any]] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._changed: dict[tuple[str, str], int] = {}
        self._clock = 0
        self._calls = 0
        self._visible: dict[tuple[str, str], int] = defaultdict(int)
        self._next = 0
        self.ledger: list[Effect] = []
        self.calls: list[str] = []
        self.incomplete = False
        self.hold_page: Any = None

    # --- by hand ---------------------------------------------------------------------------------------------------

    def put(self, record: str, scope: str = "", **fields: Any) -> None:
        """Somebody edits the product by hand."""
        self._clock += 1
        key = (scope, record)
        self.records[key] = {**self.records.get(key, {"id": record, "touched": 0}), **fields}
        self._versions[key] = self._changed[key] = self._clock

    def drop(self, record: str, scope: str = "") -> None:
        """Somebody deletes a record by hand."""
        del self.records[scope, record]

    def by(self, field: str, value: Any, scope: str = "") -> list[dict[str, Any]]:
        """Records of that value."""
        return [each for (at, _), each in self.records.items() if at == scope and each.get(field) == value]

    # --- contract: reading -----------------------------------------------------------------------------------------

    async def check(self) -> Health:
        return Health(product="Product", detail="in memory")

    async def scopes(self) -> Sequence[str]:
        return self._scopes

    async def discover(self) -> Sequence[EntityInfo]:
        return [EntityInfo(entity="customers", incremental=True, writable=True)]

    async def schema(self, entity: str) -> EntitySchema:
        return self.live_schema

    async def changes(
        self,
        entity: str,
        scope: str,
        cursor: Cursor | None,
        *,
        page_size: int | None = None,
        fields: Any = None,
    ) -> AsyncIterator[Page]:
        full = cursor is None or cursor.get("full", False)
        since = -1 if cursor is None else cursor["since"]
        start = self._clock if cursor is None else cursor.get("start", self._clock)
        after = "" if cursor is None else cursor.get("after", "")
        while True:
            self.calls.append("changes")
            self._may_be_busy()
            rows = sorted(
                record
                for (at, record) in self.records
                if at == scope and self._changed[at, record] >= since and record > after
            )
            part, rest = rows[: self._page], rows[self._page :]
            changes = [self._change(scope, record) for record in part]
            if rest:
                after = part[-1]
                resume = {"since": since, "start": start, "after": after, "full": full}
                yield Page(changes=changes, cursor=resume, more=True)
                if self.hold_page is not None:
                    await self.hold_page()
                continue
            yield Page(
                changes=changes, cursor={"since": start}, more=False, complete=full and not self.incomplete
            )
            return

    def _change(self, scope: str, record: str) -> Change:
        return Change(
            kind=ChangeKind.UPSERT,
            id=record,
            document=dict(self.records[scope, record]),
            etag=str(self._versions[scope, record]),
            order=self._versions[scope, record]
            if self.manifest.capabilities("customers").versions == "ordered"
            else None,
        )

    async def acknowledge(self, entity: str, scope: str, cursor: Cursor) -> None:
        return

    async def read(self, entity: str, scope: str, ids: Sequence[str]) -> list[Found | None]:
        self.calls.append("read")
        self._may_be_busy()
        return [self._found(scope, record) if (scope, record) in self.records else None for record in ids]

    def _found(self, scope: str, record: str) -> Found:
        return Found(
            id=record, document=dict(self.records[scope, record]), etag=str(self._versions[scope, record])
        )

    async def keys(self, entity: str, scope: str, fields: Sequence[str] = ()) -> AsyncIterator[KeyPage]:
        self.calls.append("keys")
        rows = [
            record
            for (at, record) in self.records
            if at == scope and self._calls >= self._visible[at, record]
        ]
        yield KeyPage(
            ids=rows,
            values=[tuple(self.records[scope, record].get(field) for field in fields) for record in rows],
            more=False,
            complete=True,
        )

    async def find(
        self, entity: str, scope: str, fields: Sequence[str], values: Sequence[tuple[Any, ...]]
    ) -> list[list[Found]]:
        self.calls.append("find")
        self._calls += 1
        self._may_be_busy()
        found: dict[tuple[Any, ...], list[Found]] = {value: [] for value in values}
        for (at, record), document in self.records.items():
            value = tuple(document.get(field) for field in fields)
            if value in found and at == scope and self._calls >= self._visible[at, record]:
                found[value].append(self._found(scope, record))
        return [found[value] for value in values]

    def open_file(self, file: Any, scope: str) -> AsyncIterator[bytes]:
        raise AssertionError("no files here")

    async def close(self) -> None:
        return

    # --- contract: writing -----------------------------------------------------------------------------------------

    async def write(self, entity: str, scope: str, operations: Sequence[Operation]) -> list[WriteResult]:
        self.calls.append("write")
        self._calls += 1
        self._may_be_busy()
        if self._random.random() < self.faults.lost_request:
            raise UnknownOutcomeError
        results = [self._apply(scope, operation) for operation in operations]
        if self._random.random() < self.faults.lost_answer:
            raise UnknownOutcomeError
        return results

    def _may_be_busy(self) -> None:
        if self._random.random() < self.faults.busy:
            raise SystemBusyError

    def _apply(self, scope: str, operation: Operation) -> WriteResult:
        if self._random.random() < self.faults.refused:
            return WriteResult(outcome=Outcome.REFUSED, error=RefusedRecordError("The product refuses it."))
        if operation.kind is OperationKind.CREATE:
            return self._create(scope, operation)
        key = (scope, operation.id or "")
        if key not in self.records:
            return WriteResult(outcome=Outcome.MISSING)
        if operation.etag is not None and operation.etag != str(self._versions[key]):
            return WriteResult(outcome=Outcome.RELOAD)
        if operation.kind is OperationKind.DELETE:
            del self.records[key]
            self.ledger.append(Effect("delete", scope, key[1], {}))
            return WriteResult(outcome=Outcome.APPLIED, id=key[1])
        self.put(key[1], scope, **operation.fields)
        self.ledger.append(Effect("update", scope, key[1], dict(operation.fields)))
        return self._written(scope, key[1])

    def _create(self, scope: str, operation: Operation) -> WriteResult:
        record = operation.id
        if record is None:
            self._next += 1
            record = f"made-{self._next}"
        elif (scope, record) in self.records:
            return WriteResult(outcome=Outcome.EXISTS)
        self.put(record, scope, **operation.fields)
        self._visible[scope, record] = self._calls + self.faults.lag_calls
        self.ledger.append(Effect("create", scope, record, dict(operation.fields)))
        return self._written(scope, record)

    def _written(self, scope: str, record: str) -> WriteResult:
        found = self._found(scope, record)
        return WriteResult(outcome=Outcome.APPLIED, id=record, etag=found.etag, document=found.document)
