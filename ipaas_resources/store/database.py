"""Connections of the run-time role, and the queries that stand in `queries/*.sql`."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ipaas_resources.core.errors import DatabaseUnavailableError, StopError
from ipaas_resources.core.values import decode, encode

T = TypeVar("T")
_QUERIES = Path(__file__).parent / "queries"
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)

_DISK_FULL = ("No space left on device", "Disk quota exceeded")
#: Deadlock and serialization failure: PostgreSQL undid the transaction, the same one may run again.
_REPEATABLE = ("40P01", "40001")
_REPEATS = 5
#: The server ended the session of a transaction that stood still: this process was paused for longer than that.
_STOOD_STILL = {"25P03", "25P04"}
#: Seconds that a restart of the server may take, and between the looks whether it is back.
RESTART = 30.0
_LOOK_AGAIN = 0.25


@cache
def query(name: str) -> sa.TextClause:
    """The query `-- name: <name>` of `queries/*.sql`."""
    return sa.text(_all_queries()[name])


@cache
def _all_queries() -> dict[str, str]:
    queries: dict[str, str] = {}
    for path in sorted(_QUERIES.glob("*.sql")):
        parts = _NAME.split(path.read_text(encoding="utf-8"))
        queries.update(zip(parts[1::2], parts[2::2], strict=True))
    return queries


def database_error(error: BaseException) -> DatabaseUnavailableError | None:
    """What a driver error means for the whole platform, None when it concerns one statement."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(cause, "sqlstate", None) or ""
    # A server that cannot even let us in names no code; its text says why.
    if state == "53100" or (not state and any(sign in str(cause) for sign in _DISK_FULL)):
        return DatabaseUnavailableError(
            "The disk of the PostgreSQL server is full: nothing of this step was stored. Free space and start again.",
            code="disk_full",
        )
    if (
        state[:2] in {"08", "57"}
        or state in _STOOD_STILL
        or (isinstance(cause, psycopg.OperationalError) and not state)
    ):
        return DatabaseUnavailableError(
            "The PostgreSQL server does not answer or closed the connection: nothing of this step was stored. "
            "Check with `ipaas doctor` that it runs, then start again."
        )
    return None


@contextlib.contextmanager
def _mapped_errors() -> Iterator[None]:
    """Errors of the driver that concern the whole platform, by our name."""
    try:
        yield
    except (DBAPIError, psycopg.OperationalError, OSError) as error:
        mapped = database_error(error)
        if mapped is None:
            raise
        raise mapped from error


class Database:
    """The run-time connection pool. `begin()` is one transaction; nobody holds it across a network call."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=10,
            # An error of a statement must not show the records that it carried.
            hide_parameters=True,
            # Numbers of documents stay exact; the default of both would make floats of them.
            json_serializer=lambda value: encode(value).decode(),
            json_deserializer=decode,
            connect_args={
                "prepare_threshold": 3,
                "options": "-c jit=off -c statement_timeout=120000 -c lock_timeout=30000"
                " -c idle_in_transaction_session_timeout=60000",
            },
        )
        # The same pool. A statement that stands alone is a transaction by itself: saying BEGIN and COMMIT around it
        # would be two more round trips, and the live lane asks hundreds of times a second.
        self._alone = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One transaction.

        Raises:
            DatabaseUnavailableError: the server is down or its disk is full; nothing was committed.
        """
        with _mapped_errors():
            async with self.engine.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def _statement(self) -> AsyncIterator[AsyncConnection]:
        """A connection for one statement, which is committed by itself. Raises as `begin` does."""
        with _mapped_errors():
            async with self._alone.connect() as connection:
                yield connection

    async def repeatable(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run one transaction; after a deadlock run it again, for PostgreSQL has undone it."""
        return await self._repeated(self.begin, work)

    async def _repeated(
        self,
        opening: Callable[[], contextlib.AbstractAsyncContextManager[AsyncConnection]],
        work: Callable[[AsyncConnection], Awaitable[T]],
    ) -> T:
        for attempt in range(_REPEATS):
            try:
                async with opening() as connection:
                    return await work(connection)
            except DBAPIError as error:
                state = getattr(error.orig, "sqlstate", None)
                if state not in _REPEATABLE or attempt == _REPEATS - 1:
                    # PostgreSQL's DETAIL and CONTEXT quote the rows, so neither they nor the cause are passed on.
                    raise StopError(
                        f"The database refused a statement ({type(error.orig).__name__}, SQLSTATE {state}); nothing of "
                        "this step was stored. This is a defect of the platform: report it with this code.",
                        code="database_statement",
                    ) from None
                await asyncio.sleep(0)
        raise AssertionError("unreachable")

    async def surely(self, step: Callable[[], Awaitable[T]], *, within: float) -> T:
        """Do a step that may be repeated, also when the server restarts meanwhile; gives up after these seconds.

        For what nobody else knows: who holds a claim, what became of a write.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        while True:
            try:
                return await step()
            except DatabaseUnavailableError as error:
                # A full disk does not mend itself.
                if error.code == "disk_full" or loop.time() > until:
                    raise
                await asyncio.sleep(_LOOK_AGAIN)

    async def rows(self, name: str, **parameters: Any) -> list[Any]:
        """The rows of one named query in a transaction of its own."""

        async def run(connection: AsyncConnection) -> list[Any]:
            result = await connection.execute(query(name), parameters)
            return list(result.all()) if result.returns_rows else []

        return await self._repeated(self._statement, run)

    async def close(self) -> None:
        """Give the connections back."""
        await self.engine.dispose()
