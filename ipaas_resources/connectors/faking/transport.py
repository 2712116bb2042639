"""Two ways to reach a fake: inside the process with the failures of a real connection, and over real HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx

from ipaas_resources.connectors.faking.wire import (
    ConnectRefusedError,
    DropError,
    HangError,
    Reply,
    Request,
    TearError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from ipaas_resources.connectors.fakes import FakeApp

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]


class InProcessTransport(httpx.AsyncBaseTransport):
    """Runs a fake as if it stood at the far end of a connection.

    Refused connections raise httpx.ConnectError, resets httpx.ReadError, silence httpx.ReadTimeout (after the
    request's own read timeout has passed on the fake's clock), half an answer httpx.RemoteProtocolError.
    """

    def __init__(self, app: FakeApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request, or fail the way a network fails."""
        raw_path, _, raw_query = request.url.raw_path.partition(b"?")
        timeout = request.extensions.get("timeout", {}).get("read")
        stream = request.stream
        if not isinstance(stream, httpx.AsyncByteStream):
            raise TypeError("the request's body is not an async stream")
        seen = Request(
            request.method,
            raw_path,
            raw_query,
            request.headers.raw,
            stream.__aiter__(),
            read_timeout=timeout,
        )
        try:
            reply = await self._app.answer(seen)
        except ConnectRefusedError:
            raise httpx.ConnectError("connection refused", request=request) from None
        except DropError:
            raise httpx.ReadError("connection reset by peer", request=request) from None
        except HangError:
            raise httpx.ReadTimeout("the answer did not come in time", request=request) from None
        except TearError as torn:
            return _response(torn.reply, request, torn=True)
        return _response(reply, request, torn=False)


def _response(reply: Reply, request: httpx.Request, *, torn: bool) -> httpx.Response:
    body = reply.body
    if isinstance(body, bytes) and not torn:
        return httpx.Response(reply.status, headers=reply.raw_headers(), content=body, request=request)
    return httpx.Response(
        reply.status, headers=reply.raw_headers(), stream=_Stream(reply, torn=torn), request=request
    )


class _Stream(httpx.AsyncByteStream):
    def __init__(self, reply: Reply, *, torn: bool) -> None:
        self._reply, self._torn = reply, torn

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in body_chunks(self._reply, torn=self._torn):
            yield chunk
        if self._torn:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


async def body_chunks(reply: Reply, *, torn: bool) -> AsyncIterator[bytes]:
    """The chunks of an answer; of a torn one half the bytes, or the first chunk of a stream."""
    body = reply.body
    if isinstance(body, bytes):
        yield body[: len(body) // 2] if torn else body
        return
    async for chunk in body:
        yield chunk
        if torn:
            return


async def asgi(app: FakeApp, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI face of a fake."""
    if scope["type"] == "lifespan":
        await _lifespan(app, receive, send)
        return
    if scope["type"] != "http":
        raise ValueError("a fake speaks HTTP only")
    raw_path = scope.get("raw_path") or scope["path"].encode()
    request = Request(
        scope["method"], raw_path.partition(b"?")[0], scope["query_string"], scope["headers"], _body(receive)
    )
    request.disconnected = receive
    try:
        reply = await app.answer(request)
    except TearError as torn:
        await _send(torn.reply, send, torn=True)
        _abort(receive)
        return
    except (ConnectRefusedError, DropError, HangError) as lost:
        if isinstance(lost, HangError):
            await _gone(receive)
        _abort(receive)
        return
    await _send(reply, send, torn=False)


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DropError
        if chunk := message.get("body", b""):
            yield chunk
        more = message.get("more_body", False)


async def _send(reply: Reply, send: Send, *, torn: bool) -> None:
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.raw_headers()})
    if isinstance(reply.body, bytes) and not torn:
        await send({"type": "http.response.body", "body": reply.body})
        return
    async for chunk in body_chunks(reply, torn=torn):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    if not torn:
        await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _abort(receive: Receive) -> None:
    # ASGI has no word for a reset. uvicorn's `receive` is a method of the cycle that owns the transport; under
    # another server nothing happens here and that server closes the connection, because the answer is incomplete.
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()


async def _lifespan(app: FakeApp, receive: Receive, send: Send) -> None:
    """The server's life is the mailroom's."""
    await receive()
    async with app.mailroom.running():
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


@contextlib.contextmanager
def serve(
    app: FakeApp, *, host: str = "127.0.0.1", port: int = 0, certificate: str = "", key: str = ""
) -> Iterator[str]:
    """Serve a fake over real HTTP in a thread of its own; yields its base URL without a trailing slash.

    The socket listens before the thread runs, so the first request needs no waiting. With `certificate` and `key`
    (PEM files) it speaks TLS. Give the app a SystemClock: its clock must bear another thread.
    """
    import uvicorn  # noqa: PLC0415 - in-process tests need no server

    listener = socket.create_server((host, port), backlog=256)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="critical",
            access_log=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=certificate or None,
            ssl_keyfile=key or None,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
