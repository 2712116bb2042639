"""The one way into the mirror, for pages of a pull and for records read by id: rows, tombstones, and the work they raise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from ipaas_assets.sync.model import Lane
from ipaas_assets.sync.rows import CHUNK, Row, Source, changed_rows, prepare
from ipaas_resources.core.errors import ContractError, IpaasError, RetryError
from ipaas_resources.core.records import Change, ChangeKind
from ipaas_resources.core.values import content_hash, encode
from ipaas_resources.store.database import Database, query
from ipaas_resources.store.reports import note_entity

T = TypeVar("T")


class _FlowsChangedError(Exception):
    """Another flow or version is active now: the page must raise work for it."""

    def __init__(self, active: dict[str, int]) -> None:
        super().__init__()
        self.active = active


class Buried(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One tombstone on its way into the mirror."""

    id: str
    ord: int | None
    traces: list[str] | None = None


class Incoming(msgspec.Struct, kw_only=True):
    """Records that were read together, after one read number was drawn."""

    number: int
    rows: list[Row]
    faults: list[Row]
    buried: list[Buried]
    #: Of the rows and faults, those that the mirror does not hold already; see `Storing.sift`.
    news: list[Row] = []

    @property
    def received(self) -> int:
        """Records that were read."""
        return len(self.rows) + len(self.faults) + len(self.buried)

    @property
    def present(self) -> list[str]:
        """Ids of the records that are there."""
        return [row.id for row in self.rows] + [row.id for row in self.faults]

    @property
    def set_aside(self) -> int:
        """News that may not be used."""
        return sum(1 for row in self.news if row.bad_code)


class Stored(msgspec.Struct, kw_only=True):
    """What came of it."""

    changed: int = 0
    deleted: int = 0


class Storing:
    """Stores records of one entity and scope."""

    def __init__(
        self,
        database: Database,
        source: Source,
        *,
        lane: Lane,
        trace_id: str,
        run: int | None,
        refresh: Callable[[], Awaitable[Source]] | None,
    ) -> None:
        """`trace_id` stands on what has none of its own; `refresh` reads the active flows again."""
        self._database = database
        self.source = source
        self._lane = lane
        self._trace_id = trace_id
        self._run = run
        self._refresh = refresh
        fields = source.schema.fields
        self._volatile = frozenset(field.name for field in fields if field.volatile)
        self._secret = frozenset(field.name for field in fields if field.sensitivity == "secret")
        self._capabilities = source.system.connector.manifest.capabilities(source.entity)
        self._ordered = self._capabilities.versions == "ordered"

    def prepare(
        self,
        changes: list[Change],
        faults: Sequence[tuple[str, IpaasError]],
        number: int,
        *,
        traces: Mapping[str, list[str]] | None = None,
    ) -> Incoming:
        """Rows, hashed, one per record: of a record that stands there several times, the last word counts."""
        traces = traces or {}
        bad = {record: _fault_row(record, error, number) for record, error in faults}
        last = {change.id: change for change in changes if change.id is not None}
        gone = {record: change for record, change in last.items() if change.kind is ChangeKind.DELETE}
        rows = [
            row
            for row in prepare(changes, number, self._volatile, self._secret)
            if row.id not in gone and row.id not in bad
        ]
        for row in [*rows, *bad.values()]:
            row.traces = traces.get(row.id)
        return Incoming(
            number=number,
            rows=rows,
            faults=list(bad.values()),
            buried=[
                Buried(id=record, ord=self._tombstone_order(change, number), traces=traces.get(record))
                for record, change in gone.items()
            ],
        )

    async def sift(self, incoming: Incoming, *, first: bool = False) -> None:
        """Keep what is news to the mirror, and hold it against the contract. `first`: all of it is news."""
        news = (
            incoming.rows
            if first
            else await changed_rows(self._database, self.source, incoming.rows, ordered=self._ordered)
        )
        self._check(news)
        if incoming.faults:
            news = news + await changed_rows(self._database, self.source, incoming.faults, ordered=False)
        incoming.news = news

    async def commit(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run one transaction that raises work; once more where the active flows changed since they were read.

        Raises:
            RetryError: they are being changed again and again.
        """

        async def checked(connection: AsyncConnection) -> T:
            await self._check_flows(connection)
            return await work(connection)

        try:
            return await self._database.repeatable(checked)
        except _FlowsChangedError as changed:
            assert self._refresh is not None
            self.source = await self._refresh()
            # A registry that still disagrees (a flow that cannot be built under its stored source) must not hold
            # the page for ever: these versions are taken as they are.
            self.source.versions = changed.active
            try:
                return await self._database.repeatable(checked)
            except _FlowsChangedError:
                raise RetryError(
                    f"The flows of {self.source.system.name}/{self.source.entity} are being changed again and "
                    "again while it is read; the next run reads on from here."
                ) from None

    async def write(self, connection: AsyncConnection, incoming: Incoming) -> Stored:
        """The statements of one transaction, inside `commit`: mirror, tombstones, work items."""
        stored = Stored()
        base = {
            "system": self.source.system.name,
            "scope": self.source.scope,
            "entity": self.source.entity,
            "trace_id": self._trace_id,
            "lane": int(self._lane),
            "read_number": incoming.number,
            "targets": encode(self.source.targets).decode(),
        }
        for start in range(0, len(incoming.news), CHUNK):
            rows = encode(incoming.news[start : start + CHUNK]).decode()
            result = await connection.execute(query("page_store"), {**base, "run": self._run, "rows": rows})
            stored.changed += int(result.one().news)
        if incoming.buried:
            rows = encode(incoming.buried).decode()
            result = await connection.execute(query("tombstones_store"), {**base, "rows": rows})
            stored.deleted += int(result.one().news)
        if self._run is None and self._lane is not Lane.BATCH:
            # The live lane: no run tells Dagster of it, so the reporter does.
            await note_entity(
                connection,
                system=self.source.system.name,
                entity=self.source.entity,
                counts={"changed": stored.changed, "deleted": stored.deleted},
                trace_id=self._trace_id,
            )
        return stored

    async def _check_flows(self, connection: AsyncConnection) -> None:
        """Work is raised for exactly the flows that are active when it commits."""
        name = f"{self.source.system.name}/{self.source.entity}"
        rows = await connection.execute(
            query("flows_of_entity"),
            {"name": name, "system": self.source.system.name, "entity": self.source.entity},
        )
        active = {row.flow: row.active_version for row in rows if row.flow not in self.source.broken}
        if active != self.source.versions and self._refresh is not None:
            raise _FlowsChangedError(active)

    def _check(self, news: list[Row]) -> None:
        """Only new or changed rows meet the contract; a row that breaks it is set aside with the reason."""
        for index, violations in self.source.contract.check([row.doc for row in news]).items():
            if news[index].bad_code is not None:
                continue
            first = violations[0]
            news[index].bad_code = ContractError.code
            news[index].bad_error = (
                f"Field {first.field!r} of {self.source.system.name}/{self.source.entity}: {first.reason}"
                + (f" (and {len(violations) - 1} more)" if len(violations) > 1 else "")
                + ". Correct the record in the source, or refresh the schema if the source changed it."
            )

    def _tombstone_order(self, change: Change, number: int) -> int | None:
        if change.order is not None:
            return change.order
        return None if self._ordered else number


def _fault_row(record: str, error: IpaasError, number: int) -> Row:
    return Row(
        id=record,
        doc={},
        hash=content_hash(error.message.encode()).hex(),
        etag=None,
        ord=number,
        bad_code=error.code,
        bad_error=error.message,
    )


async def read_by_id(source: Source, ids: Sequence[str]) -> list[Change]:
    """The records of these ids as changes, a delete for each that is not there; one call of the connector."""
    found = await source.system.connector.read(source.entity, source.scope, ids)
    return [
        Change(kind=ChangeKind.DELETE, id=record)
        if row is None
        else Change(kind=ChangeKind.UPSERT, id=record, document=row.document, etag=row.etag, order=row.order)
        for record, row in zip(ids, found, strict=True)
    ]
