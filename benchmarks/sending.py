"""A sender of signed deliveries (calibration form) over many connections, cheap enough not to be what is measured.

Plain protocols instead of an HTTP client: one costs more per request than the ingress does. A delivery that is not
accepted is sent again after a pause, as products do; each attempt is counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Self, cast

#: Seconds before a delivery that was not accepted is sent again, and between attempts to connect.
PAUSE = 0.25
_STATUS = slice(9, 12)  # of `HTTP/1.1 202`
_HEAD_END = b"\r\n\r\n"
_ACCEPTED = range(200, 300)


class Delivery:
    """One signed request and its fate; times are seconds of the machine's monotonic clock."""

    __slots__ = ("accepted_at", "attempts", "due_at", "request", "status", "taken_at")

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.due_at = 0.0  # when it was handed over
        self.taken_at = 0.0  # when it last went onto a connection
        self.accepted_at = 0.0
        self.status = 0
        self.attempts = 0


def client_changed(secret: bytes, *, host: str, subscription: str, event: str, client: int) -> bytes:
    """A whole HTTP request: the signed, id-only delivery that tells of a changed client."""
    stamp = str(int(time.time()))
    body = (
        f'{{"event":"client.updated","id":"{event}","created":"2026-01-15T13:58:10Z",'
        f'"data":{{"CompanyId":{client}}}}}'
    ).encode()
    mac = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    head = (
        f"POST /hooks/{subscription} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"X-LabSync-Signature: t={stamp},v1={mac}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Sender:
    """Connections to one ingress, each with one delivery under way. Use it as an async context manager."""

    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._wanted = connections
        self._waiting: deque[Delivery] = deque()
        self._free: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._gone = asyncio.Event()
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.statuses: Counter[int] = Counter()  # 0: the connection ended without an answer

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(self._connect() for _ in range(self._wanted)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._all):
            connection.transport.close()
        if self._all:
            await self._gone.wait()

    def send(self, delivery: Delivery) -> None:
        """Hand a delivery over; it goes out as soon as a connection is free."""
        delivery.due_at = time.monotonic()
        self._under_way += 1
        self._quiet.clear()
        self._queue(delivery)

    async def all_accepted(self, within: float) -> bool:
        """Wait until everything handed over was accepted; False when that takes longer than so many seconds."""
        if self._under_way == 0:
            return True
        try:
            await asyncio.wait_for(self._quiet.wait(), within)
        except TimeoutError:
            return False
        return True

    def _queue(self, delivery: Delivery) -> None:
        if self._free:
            self._free.pop().take(delivery)
        else:
            self._waiting.append(delivery)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            try:
                await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
            except OSError:
                # The ingress is being started again.
                await asyncio.sleep(PAUSE)
            else:
                return

    # What connections tell.

    def opened(self, connection: _Connection) -> None:
        self._all.add(connection)
        self.free(connection)

    def free(self, connection: _Connection) -> None:
        if self._waiting:
            connection.take(self._waiting.popleft())
        else:
            self._free.append(connection)

    def answered(self, delivery: Delivery, status: int) -> None:
        self.statuses[status] += 1
        delivery.status = status
        if status in _ACCEPTED:
            delivery.accepted_at = time.monotonic()
            self._under_way -= 1
            if self._under_way == 0:
                self._quiet.set()
        elif not self._closing:
            asyncio.get_running_loop().call_later(PAUSE, self._queue, delivery)

    def lost(self, connection: _Connection, delivery: Delivery | None) -> None:
        self._all.discard(connection)
        if not self._all:
            self._gone.set()
        if connection in self._free:
            self._free.remove(connection)
        if delivery is not None:
            self.answered(delivery, 0)
        if not self._closing:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


class _Connection(asyncio.Protocol):
    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._buffer = b""
        self._under_way: Delivery | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self._sender.opened(self)

    def take(self, delivery: Delivery) -> None:
        self._under_way = delivery
        delivery.attempts += 1
        delivery.taken_at = time.monotonic()
        self.transport.write(delivery.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        # Answers of the ingress have no body, so the empty line ends them.
        if not self._buffer.endswith(_HEAD_END) or self._under_way is None:
            return
        head, self._buffer = self._buffer, b""
        delivery, self._under_way = self._under_way, None
        self._sender.answered(delivery, int(head[_STATUS]))
        if b"connection: close" in head.lower():
            self.transport.close()  # it comes back through connection_lost
        else:
            self._sender.free(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        delivery, self._under_way = self._under_way, None
        self._sender.lost(self, delivery)


async def burst(
    port: int, connections: int, requests: Sequence[bytes], *, within: float
) -> tuple[list[Delivery], float]:
    """Send all of them as fast as the connections go; the deliveries and how many seconds it took.

    Raises:
        TimeoutError: not all were accepted within so many seconds.
    """
    deliveries = [Delivery(request) for request in requests]
    async with Sender(port, connections) as sender:
        started = time.monotonic()
        for delivery in deliveries:
            sender.send(delivery)
        if not await sender.all_accepted(within):
            raise TimeoutError(f"not every delivery was accepted; the answers were {dict(sender.statuses)}")
        return deliveries, time.monotonic() - started


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile; 0.0 of nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    rank = -int(-share * len(ordered) // 1)
    return ordered[min(len(ordered), max(1, rank)) - 1]


def milliseconds(seconds: float) -> float:
    """For figures."""
    return round(1000 * seconds, 2)
