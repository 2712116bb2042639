"""Request bodies: bytes that can be sent again, and streams that may not be."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

#: Largest piece of a stream in either direction.
CHUNK = 1 << 20

Content = bytes | AsyncIterable[bytes] | None


class Body:
    """The content of one request over all its attempts."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._started = False

    @property
    def resendable(self) -> bool:
        """Whether another attempt can send the same bytes: a generator that has begun cannot start over."""
        return not (self._started and isinstance(self._content, AsyncIterator))

    def for_attempt(self) -> bytes | AsyncIterator[bytes] | None:
        """What one attempt sends."""
        if self._content is None or isinstance(self._content, bytes):
            return self._content
        return self._pieces(self._content)

    async def _pieces(self, content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        self._started = True
        async for chunk in content:
            for piece in pieces(chunk):
                yield piece


def pieces(chunk: bytes) -> list[bytes]:
    """The chunk in parts of at most CHUNK bytes; nothing for an empty one."""
    if len(chunk) <= CHUNK:
        return [chunk] if chunk else []
    view = memoryview(chunk)
    return [bytes(view[start : start + CHUNK]) for start in range(0, len(chunk), CHUNK)]
