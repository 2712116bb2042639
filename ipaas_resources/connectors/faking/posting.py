"""POST over plain HTTP/1.1 with connections that are kept: the cheapest sender that is still a real one.

A fake may have to send hundreds of deliveries a second beside everything else that it does; a whole HTTP client costs
ten times as much for each. TLS, and transports that tests put in place, go by httpx (sending.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from urllib.parse import urlsplit

#: Bytes of an answer's body that are read to keep the connection; nobody looks at them.
MOST_READ = 1 << 16
_PORT = 80
_INTERIM = range(100, 200)
_BODILESS = {204, 304}


class NoHttpError(OSError):
    """What came back is no HTTP answer."""


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Poster:
    """The connections of one sender, in one event loop."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[Connection]] = {}

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer. The caller bounds the time.

        Raises:
            OSError, EOFError: no connection, it ended before the answer, or the answer is no HTTP.
            ValueError: the request cannot be made of these headers.
        """
        parts = urlsplit(url)
        place = (parts.hostname or "", parts.port or _PORT)
        request = _request(
            parts.netloc, f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}", headers, body
        )
        kept = self._kept(place)
        if kept is not None:
            try:
                return await self._exchange(place, kept, request)
            except (ConnectionError, asyncio.IncompleteReadError) as lost:
                if isinstance(lost, asyncio.IncompleteReadError) and lost.partial:
                    raise
                # The receiver closed it while it was idle: that says nothing of this request.
        return await self._exchange(place, await asyncio.open_connection(*place), request)

    async def close(self) -> None:
        """End every connection."""
        for connections in self._idle.values():
            for _, writer in connections:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        self._idle.clear()

    def _kept(self, place: tuple[str, int]) -> Connection | None:
        connections = self._idle.get(place, [])
        while connections:
            reader, writer = connections.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None

    async def _exchange(self, place: tuple[str, int], connection: Connection, request: bytes) -> int:
        reader, writer = connection
        keep = False
        try:
            writer.write(request)
            await writer.drain()
            status, keep = await _answer(reader)
        finally:
            # Cancelled, broken or unread: whatever comes on it later belongs to no other request.
            if not keep:
                writer.close()
        if keep:
            self._idle.setdefault(place, []).append(connection)
        return status


def _request(host: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {target} HTTP/1.1", f"host: {host}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join(lines)
    if head.count("\r\n") != len(lines) - 1 or head.count("\n") != len(lines) - 1:
        raise ValueError("a header of the delivery holds a line break")
    return head.encode("latin-1") + b"\r\n\r\n" + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status of the answer, and whether the connection may be used again."""
    status = _INTERIM.start
    head: dict[str, str] = {}
    version = b""
    while status in _INTERIM:
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        except asyncio.LimitOverrunError:
            raise NoHttpError("the head of the answer does not end") from None
        version, _, rest = first.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise NoHttpError("the answer is no HTTP")
        status = int(rest[:3])
        pairs = (line.decode("latin-1").partition(":") for line in lines if line)
        head = {name.strip().lower(): value.strip() for name, _, value in pairs}
    keep = version == b"HTTP/1.1" and head.get("connection", "").lower() != "close"
    if status in _BODILESS:
        return status, keep
    length = head.get("content-length", "")
    if "transfer-encoding" in head or not length.isdigit() or int(length) > MOST_READ:
        return status, False  # a body without a known end, or a long one: not worth reading
    await reader.readexactly(int(length))
    return status, keep
