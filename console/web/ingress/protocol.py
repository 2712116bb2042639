"""uvicorn's HTTP protocol with bounds on the head of a request, which uvicorn itself does not have."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection whose request line and headers take too long or grow too large."""

    #: Seconds from the connection, or the first byte of a further request, to the end of its headers.
    head_seconds = 10.0
    #: Bytes of request line and headers, give or take one read from the socket.
    head_bytes = 64 << 10

    _head_timer: asyncio.TimerHandle | None = None
    _head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The sender is there: its head is due."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Some bytes."""
        self._head_size += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_size > self.head_bytes:
            self._end()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._head_done()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The sender is gone."""
        self._head_done()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_size = 0
        self._head_timer = self.loop.call_later(self.head_seconds, self._end)

    def _head_done(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end(self) -> None:
        self._head_done()
        if not self.transport.is_closing():
            self.transport.close()
