"""The inbox: deliveries are committed in groups, and a repeat is seen by its key.

While one group is on its way to the disk the next one gathers, so the group grows with the load and a lone delivery
waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Self

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from ipaas_resources.core import killpoints
from ipaas_resources.core.errors import DatabaseUnavailableError, IpaasError, RetryError
from ipaas_resources.core.values import encode
from ipaas_resources.store.database import Database, query

_log = logging.getLogger(__name__)

#: PostgreSQL tells the listeners of this channel once per committed group; there is no payload.
CHANNEL = "ipaas_inbox"
#: Bytes of a delivery's key.
KEY_SIZE = 16

_GROUP = 500
_GROUP_BYTES = 8 << 20


class InboxFullError(RetryError):
    """More deliveries wait for their commit than this process holds; the sender tries again."""

    code = "inbox_full"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One proven delivery as it is stored."""

    subscription: str
    key: bytes | None  # KEY_SIZE bytes; None: nothing tells it from a repeat, so it counts in any case
    body: bytes
    headers: dict[str, str]
    trace_id: str


class _Waiting(msgspec.Struct, kw_only=True):
    delivery: Delivery
    done: asyncio.Future[bool]


class InboxWriter:
    """Commits deliveries; `async with` runs its one task. One writer per process, any number of processes."""

    def __init__(self, database: Database, *, most_waiting: int = 5000, most_bytes: int = 64 << 20) -> None:
        self._database = database
        self._most_waiting = most_waiting
        self._most_bytes = most_bytes
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        #: Groups committed, for benchmarks and tests.
        self.groups = 0

    async def __aenter__(self) -> Self:
        """Start."""
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Commit what waits, then end."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    def put(self, delivery: Delivery) -> asyncio.Future[bool]:
        """Hand a delivery over; the future is True once it is committed, False when it was committed before.

        A caller that stops waiting knows nothing: the commit may still happen.

        Raises:
            InboxFullError: too much waits already; nothing was taken. Through the future: DatabaseUnavailableError,
                StopError: not stored, as far as anybody knows.
        """
        size = len(delivery.body)
        if self._closing or len(self._waiting) >= self._most_waiting or self._bytes + size > self._most_bytes:
            raise InboxFullError("Too many deliveries wait for their commit; send it again later.")
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(delivery=delivery, done=future))
        self._bytes += size
        self._wake.set()
        return future

    async def _run(self) -> None:
        try:
            while self._waiting or not self._closing:
                if not self._waiting:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                group = self._next_group()
                try:
                    await self._commit(group)
                except IpaasError as error:
                    self._fail(group, error)
                except Exception as error:  # noqa: BLE001 - one group's fault must not end the taking of deliveries
                    # The text of a driver's error may quote what was to be stored, so its kind alone is told.
                    _log.error(
                        "A group of %s deliveries was not stored: %s", len(group), type(error).__name__
                    )
                    self._fail(
                        group, DatabaseUnavailableError("The delivery was not stored; send it again later.")
                    )
                finally:
                    self._bytes -= sum(len(one.delivery.body) for one in group)
        finally:
            # Cancelled in the middle: nobody is left who would answer those that wait.
            self._closing = True
            self._fail(
                self._waiting, InboxFullError("This process is ending; send the delivery again later.")
            )

    def _next_group(self) -> list[_Waiting]:
        size = count = 0
        for one in self._waiting[:_GROUP]:
            size += len(one.delivery.body)
            if count and size > _GROUP_BYTES:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _commit(self, group: list[_Waiting]) -> None:
        # A repeat that arrives in the same group shares the fate of the first.
        firsts: dict[tuple[str, bytes] | int, int] = {}
        numbers: list[int] = []
        chosen: list[Delivery] = []
        for one in group:
            delivery = one.delivery
            identity = (delivery.subscription, delivery.key) if delivery.key is not None else len(chosen)
            number = firsts.setdefault(identity, len(chosen) + 1)
            if number > len(chosen):
                chosen.append(delivery)
            numbers.append(number)
        new = await self._store(chosen)
        self.groups += 1
        for number, one in zip(numbers, group, strict=True):
            if not one.done.done():
                one.done.set_result(number in new)
            new.discard(number)

    async def _store(self, deliveries: list[Delivery]) -> set[int]:
        """Store in one transaction; the numbers, from 1, of those that were not stored before."""
        values = {
            "subscriptions": [each.subscription for each in deliveries],
            "keys": [each.key for each in deliveries],
            "bodies": [each.body for each in deliveries],
            "headers": [encode(each.headers).decode() for each in deliveries],
            "trace_ids": [each.trace_id for each in deliveries],
        }

        async def work(connection: AsyncConnection) -> set[int]:
            result = await connection.execute(query("inbox_put"), values)
            return {int(row.number) for row in result}

        killpoints.before("K02")
        new = await self._database.repeatable(work)
        killpoints.after("K02")
        return new

    @staticmethod
    def _fail(group: list[_Waiting], error: IpaasError) -> None:
        for one in group:
            if not one.done.done():
                one.done.set_exception(error)
                # Fetched here, for a caller may have gone: asyncio must not complain of it.
                one.done.exception()
