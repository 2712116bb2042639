"""One attempt of one request on the wire, and what a failure says about whether it was sent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import httpx
import msgspec

from ipaas_resources.core import killpoints
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.net.tls import trust

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ipaas_resources.net.content import Body

#: Seconds after which an idle connection is given up. Short of what servers allow (75 s is usual), because a request
#: that meets a connection in the moment of its closing is lost, and a lost write costs a look.
KEEP_ALIVE = 20.0
#: Connections of one pool, see Pools.
_POOL_SIZE = 8


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. `read` and `write` bound the silence between two pieces, `total` the whole attempt."""

    connect: float = 10.0
    read: float = 30.0
    write: float = 30.0
    pool: float = 30.0
    total: float = 300.0


class LostError(Exception):
    """An attempt that brought no whole answer. `sent`: the system may have received the request."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class BrokenAnswerError(Exception):
    """An answer came whole, but cannot be read. `status` is its status."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


#: Failures before the first byte of the request: name resolution, connecting, TLS, and waiting for a connection.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def default_transport(ca_file: str | None, connections: int) -> httpx.AsyncBaseTransport:
    """HTTP/1.1 with pools of its own; no proxy from the environment, verification always on."""
    context = trust(ca_file)

    def make(size: int) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            http1=True,
            http2=False,
            retries=0,
            limits=httpx.Limits(
                max_connections=size, max_keepalive_connections=size, keepalive_expiry=KEEP_ALIVE
            ),
        )

    return Pools(make, connections)


class Pools(httpx.AsyncBaseTransport):
    """Connections in pools of a few each. The first pool with room is taken, so that warm connections are used again.

    Whenever a request begins or ends, httpcore looks at each connection of its pool, and for each idle one at all of them
    again: with 64 connections in one pool a request cost 10 ms of CPU (seen).
    """

    def __init__(self, make: Callable[[int], httpx.AsyncBaseTransport], connections: int) -> None:
        """`make` makes the transport of one pool of so many connections; `connections` is the most in all."""
        self._make = make
        self._left = connections
        self._pools: list[_Pool] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it by a pool that has room; where none has, it waits in the one with the fewest under way."""
        await self._drop_unused()
        pool = self._with_room()
        pool.busy += 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:  # a cancellation too: the place in the pool is given back, then it is raised on
            self._done(pool)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Watched(response.stream, lambda: self._done(pool))
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        pools, self._pools = self._pools, []
        for pool in pools:
            self._left += pool.size
            await pool.transport.aclose()

    def _with_room(self) -> _Pool:
        for pool in self._pools:
            if pool.busy < pool.size:
                return pool
        if self._left > 0:
            size = min(_POOL_SIZE, self._left)
            self._left -= size
            self._pools.append(_Pool(self._make(size), size))
            return self._pools[-1]
        return min(self._pools, key=lambda pool: pool.busy / pool.size)

    def _done(self, pool: _Pool) -> None:
        pool.busy -= 1
        pool.used_at = asyncio.get_running_loop().time()

    async def _drop_unused(self) -> None:
        """The last pool goes when a burst is over: nobody else would notice that the system closed its connections."""
        last = self._pools[-1] if len(self._pools) > 1 else None
        if last is None or last.busy or asyncio.get_running_loop().time() - last.used_at < KEEP_ALIVE:
            return
        self._pools.pop()
        self._left += last.size
        await last.transport.aclose()


class _Pool:
    def __init__(self, transport: httpx.AsyncBaseTransport, size: int) -> None:
        self.transport = transport
        self.size = size
        self.busy = 0
        self.used_at = 0.0


class _Watched(httpx.AsyncByteStream):
    """An answer's body that tells once when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, on_close: Callable[[], None]) -> None:
        self._stream = stream
        self._on_close: Callable[[], None] | None = on_close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        on_close, self._on_close = self._on_close, None
        try:
            await self._stream.aclose()
        finally:
            if on_close is not None:
                on_close()


class Wire:
    """Sends attempts. Made of a bare transport: a client would add cookies, redirects and its own logging."""

    def __init__(self, make: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._make = make
        self._transport: httpx.AsyncBaseTransport | None = None

    @contextlib.asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        body: Body,
        timeouts: Timeouts,
        *,
        write: bool,
    ) -> AsyncIterator[httpx.Response]:
        """Send the request; the body of the answer is read inside the context.

        Raises:
            LostError: no answer, or not all of it. BrokenAnswerError: its encoding is wrong.
            ConfigurationError: a header cannot be sent.
        """
        if self._transport is None:
            self._transport = self._make()
        request = _request(method, url, headers, body, timeouts)
        status = 0
        try:
            async with asyncio.timeout(timeouts.total):
                if write:
                    killpoints.before("K09")
                response = await self._transport.handle_async_request(request)
                status = response.status_code
                if write:
                    killpoints.after("K09")
                try:
                    yield response
                finally:
                    await response.aclose()
        except _NOT_SENT as error:
            raise LostError(_name(error), sent=False) from error
        except httpx.DecodingError as error:
            raise BrokenAnswerError("its content encoding is damaged", status) from error
        except (httpx.TransportError, TimeoutError) as error:
            raise LostError(_name(error), sent=True) from error

    async def close(self) -> None:
        """Give the connections back."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None


def _request(
    method: str, url: httpx.URL, headers: Mapping[str, str], body: Body, timeouts: Timeouts
) -> httpx.Request:
    limits = {
        "connect": timeouts.connect,
        "read": timeouts.read,
        "write": timeouts.write,
        "pool": timeouts.pool,
    }
    try:
        for value in headers.values():
            _check(value)
        return httpx.Request(
            method, url, headers=dict(headers), content=body.for_attempt(), extensions={"timeout": limits}
        )
    except UnicodeEncodeError:
        message = (
            "A header of the request holds characters that HTTP forbids; check the secrets of the system."
        )
        raise ConfigurationError(message) from None


def _check(value: str) -> None:
    if not value.isprintable():
        raise UnicodeEncodeError("ascii", "", 0, 0, "control character")


async def read_capped(response: httpx.Response, cap: int) -> bytes | None:
    """The whole body; None as soon as it is longer than `cap` bytes."""
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > cap:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > cap:
            return None
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _name(error: BaseException) -> str:
    """The kind of failure; its text may name addresses or hold bytes."""
    return type(error).__name__
