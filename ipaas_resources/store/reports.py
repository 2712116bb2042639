"""What the live lane did and Dagster has not been told: summed, told by one reporter, taken away after it was told."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Final, Self

import msgspec
import psycopg
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.core.values import decode, encode
from ipaas_resources.store.database import Database, query

#: Rows beyond which they are summed up where they lie, and how many at a time.
_MANY: Final = 1_000
_CHUNK: Final = 10_000
#: The number of the lock that makes a reporter the only one.
_LOCK: Final = 0x1BAA5_04
_SECONDS_TO_CONNECT: Final = 10


class DueReport(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one asset since it was last told of.

    A flow target, or with an empty `target` a source entity: then `flow` is `system/entity` and the counts say what was
    found there (changed, deleted).
    """

    flow: str
    target: str
    flow_version: int
    counts: dict[str, int]
    trace_id: str  # the newest one
    since: dt.datetime  # of the oldest row
    reports: list[int]  # the rows that are in these sums

    @property
    def asset(self) -> tuple[str, str]:
        """What is told of, as (flow, target)."""
        return self.flow, self.target


async def due_reports(database: Database, *, held: Iterable[tuple[str, str]] = ()) -> list[DueReport]:
    """What is to be told, the longest waiting first; without the assets in `held`."""
    await compact(database)
    rows = await database.rows(
        "reports_due",
        held=encode([{"flow": flow, "target": target} for flow, target in held]).decode(),
    )
    return [
        DueReport(
            flow=row.flow,
            target=row.target,
            flow_version=row.flow_version,
            # No counts: a row that says nothing happened; it is told as that and goes.
            counts={name: int(many) for name, many in decode((row.counts or "{}").encode()).items()},
            trace_id=row.trace_id,
            since=row.since,
            reports=list(row.reports),
        )
        for row in rows
    ]


async def told(database: Database, report: DueReport) -> None:
    """Dagster has it: exactly the rows that were in the sums go; what was settled meanwhile stays."""
    await database.rows("reports_told", reports=report.reports)


async def compact(database: Database) -> None:
    """Sum up what lies there where it is many rows."""
    while (await database.rows("reports_many", most=_MANY))[0].many:
        (row,) = await database.rows("reports_compact", chunk=_CHUNK)
        if row.kept * 2 > row.gone:
            return  # as many assets as rows: nothing more to gain


async def note_entity(
    connection: AsyncConnection, *, system: str, entity: str, counts: Mapping[str, int], trace_id: str
) -> None:
    """Say in this transaction that the live lane found changes in a source entity (`changed`, `deleted`)."""
    happened = {name: many for name, many in counts.items() if many}
    if happened:
        await connection.execute(
            query("report_note"),
            {"entity": f"{system}/{entity}", "counts": encode(happened).decode(), "trace_id": trace_id},
        )


class ReporterLock:
    """Held by one process over all machines, on a connection of its own: PostgreSQL gives it back when that ends."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, url: str) -> Self:
        """A connection that may ask for the lock. Raises DatabaseUnavailableError."""
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            return cls(
                await psycopg.AsyncConnection.connect(
                    plain, autocommit=True, connect_timeout=_SECONDS_TO_CONNECT
                )
            )
        except psycopg.OperationalError:
            # The driver's text names the login; the sentence says what to do.
            raise _unavailable() from None

    async def take(self) -> bool:
        """Take the lock; False: another process has it."""
        return bool(await self._ask("SELECT pg_try_advisory_lock(%s)", [_LOCK]))

    async def check(self) -> None:
        """Raise DatabaseUnavailableError when the connection, and with it the lock, is gone."""
        await self._ask("SELECT 1", [])

    async def close(self) -> None:
        """Give the lock back."""
        await self._connection.close()

    async def _ask(self, statement: str, parameters: list[int]) -> object:
        try:
            cursor = await self._connection.execute(statement.encode(), parameters)
            row = await cursor.fetchone()
        except psycopg.OperationalError:
            raise _unavailable() from None
        return row[0] if row else None


def _unavailable() -> DatabaseUnavailableError:
    return DatabaseUnavailableError(
        "The PostgreSQL server does not answer or closed the connection of the reporter; it tries again."
    )
