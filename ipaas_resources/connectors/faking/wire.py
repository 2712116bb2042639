"""Requests and answers of a fake, and the JSON it speaks: any text a product can hold, lone surrogates too."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from decimal import Decimal
from http import HTTPStatus
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import msgspec

from ipaas_resources.connectors.faking.ledger import Effect, EffectKind

if TYPE_CHECKING:
    from ipaas_resources.core.values import Value

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode
_TRACE = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-")


def loads(data: bytes) -> Value:
    """JSON to Python, numbers with a point as Decimal; escaped lone surrogates, which msgspec refuses, are read."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(data, parse_float=Decimal)


def dumps(value: Value) -> bytes:
    """Python to JSON, Decimals as numbers; a lone surrogate becomes its escape."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _dumps_ascii(msgspec.to_builtins(value, builtin_types=(Decimal,))).encode("ascii")


def _dumps_ascii(value: Value) -> str:
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_dumps_ascii(k)}:{_dumps_ascii(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_dumps_ascii, value)) + "]"
    if isinstance(value, Decimal):
        return format(value, "f")
    return json.dumps(value)


class Reply:
    """An answer. `body` is bytes, or chunks for what is too big to hold (then set `size` where it is known)."""

    __slots__ = ("body", "headers", "size", "status")

    def __init__(
        self,
        status: int = 200,
        body: bytes | AsyncIterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        *,
        content_type: str = "",
        size: int | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers: dict[str, str] = dict(headers) if headers else {}
        if content_type:
            self.headers["content-type"] = content_type
        self.size = len(body) if isinstance(body, bytes) else size

    def json(self) -> Value:
        """The parsed body, for faults that change an answer."""
        if not isinstance(self.body, bytes):
            raise TypeError("the answer is streamed")
        return loads(self.body)

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """Header pairs as ASGI and httpx take them."""
        pairs = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in self.headers.items()]
        if self.size is not None and self.status != HTTPStatus.NO_CONTENT:
            pairs.append((b"content-length", b"%d" % self.size))
        return pairs


def json_reply(value: Value, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer of JSON; `value` may be prepared JSON bytes."""
    body = value if isinstance(value, bytes) else dumps(value)
    return Reply(status, body, headers, content_type="application/json; charset=utf-8")


class AbortError(Exception):
    """Raised anywhere in a handler to answer at once, a product's error as a rule."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"answered with {reply.status}")
        self.reply = reply


class Request:
    """One request as the fake sees it. Header names are lower case; the query is parsed on first use."""

    __slots__ = (
        "_headers",
        "_pairs",
        "_query",
        "_raw_headers",
        "_stream",
        "body",
        "cut",
        "disconnected",
        "effects",
        "id",
        "method",
        "path",
        "principal",
        "raw_query",
        "read_timeout",
        "received",
    )

    def __init__(
        self,
        method: str,
        raw_path: bytes,
        raw_query: bytes,
        raw_headers: list[tuple[bytes, bytes]],
        stream: AsyncIterator[bytes],
        *,
        read_timeout: float | None = None,
    ) -> None:
        self.method = method
        self.path = unquote(raw_path.decode("ascii"))
        self.raw_query = raw_query
        self.body = b""
        self.effects: list[Effect] = []
        self.id = 0
        self.principal = ""
        self.received = 0
        #: Bytes of the body after which the connection breaks (a fault), None: never.
        self.cut: int | None = None
        self.read_timeout = read_timeout
        #: Waits until the caller has gone; None in process, where time is the clock's.
        self.disconnected: Any = None
        self._raw_headers = raw_headers
        self._headers: dict[str, str] | None = None
        self._query: dict[str, str] | None = None
        self._pairs: list[tuple[str, str]] | None = None
        self._stream = stream

    @property
    def headers(self) -> dict[str, str]:
        """Header values by lower-case name."""
        if self._headers is None:
            self._headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in self._raw_headers}
        return self._headers

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every query parameter, decoded, in order."""
        if self._pairs is None:
            self._pairs = parse_qsl(self.raw_query.decode("ascii"), keep_blank_values=True)
        return self._pairs

    @property
    def query(self) -> dict[str, str]:
        """Query parameters by name; the last one wins."""
        if self._query is None:
            self._query = dict(self.pairs)
        return self._query

    @property
    def trace_id(self) -> str:
        """The trace id that the caller sent: `traceparent` (W3C) or `x-trace-id`."""
        match = _TRACE.match(self.headers.get("traceparent", ""))
        return match[1] if match else self.headers.get("x-trace-id", "")

    def json(self) -> Value:
        """The parsed body. Raises ValueError (a msgspec or json error) when it is not JSON."""
        return loads(self.body)

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, for handlers of uploads; `received` counts along. See `FakeApp.streams`."""
        return self._counted()

    async def _counted(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            if self.cut is not None and self.received + len(chunk) > self.cut:
                part = chunk[: self.cut - self.received]
                self.received += len(part)
                if part:
                    yield part
                raise DropError
            self.received += len(chunk)
            yield chunk

    async def read(self) -> bytes:
        """Take the whole body in."""
        parts = [chunk async for chunk in self._counted()]
        self.body = parts[0] if len(parts) == 1 else b"".join(parts)
        return self.body

    async def digest(self) -> tuple[int, str]:
        """Size and SHA-256 (hex) of the body, taken in chunk by chunk and not held."""
        size, hashed = 0, hashlib.sha256()
        async for chunk in self._counted():
            size += len(chunk)
            hashed.update(chunk)
        return size, hashed.hexdigest()

    def effect(
        self,
        kind: EffectKind,
        entity: str,
        identifier: str,
        fields: Mapping[str, Any],
        *,
        scope: str = "",
        trace_id: str = "",
    ) -> None:
        """Note an accepted change; it enters the ledger with this request."""
        self.effects.append(
            Effect(kind=kind, entity=entity, scope=scope, id=identifier, fields=fields, trace_id=trace_id)
        )


class ConnectRefusedError(Exception):
    """The connection is refused before anything is sent."""


class DropError(Exception):
    """The connection is reset; whatever was applied stays applied."""


class HangError(Exception):
    """No answer comes before the caller loses patience."""


class TearError(Exception):
    """The answer breaks off in its middle."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("the answer is cut")
        self.reply = reply


_BLOCK = 1 << 16


async def file_chunks(seed: str, size: int, start: int = 0, chunk: int = 1 << 20) -> AsyncIterator[bytes]:
    """A made-up file of `size` bytes from byte `start` on, in chunks; equal for equal seeds and never held."""
    for position in range(start, size, chunk):
        yield _slice(seed, position, min(position + chunk, size))


def _slice(seed: str, start: int, end: int) -> bytes:
    first = start // _BLOCK
    blocks = b"".join(_block(seed, number) for number in range(first, (end - 1) // _BLOCK + 1))
    return blocks[start - first * _BLOCK : end - first * _BLOCK]


def _block(seed: str, number: int) -> bytes:
    # One digest repeated: quick to make, and no two blocks of a file are alike, so a swapped part shows.
    return hashlib.sha256(f"{seed}:{number}".encode()).digest() * (_BLOCK // 32)


async def file_digest(seed: str, size: int) -> str:
    """The SHA-256 (hex) of that made-up file."""
    hashed = hashlib.sha256()
    async for chunk in file_chunks(seed, size):
        hashed.update(chunk)
    return hashed.hexdigest()
