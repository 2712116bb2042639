"""Bodies come in within bounds: bytes of one, seconds of one, bytes of all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import msgspec

from ipaas_resources.connectors.webhooks import Answers

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

#: For trouble of ours: every product tries again.
AGAIN = 503


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one sender may cost."""

    body_bytes: int = 1 << 20
    #: Seconds for the whole body, however it dribbles in.
    body_seconds: float = 10.0
    #: Seconds for one step that waits for the database; the shortest patience of a product is five in all.
    database_seconds: float = 4.0
    #: Bytes of all bodies that are being read or wait for their commit.
    held_bytes: int = 64 << 20


class Refused(Exception):  # noqa: N818 - no error: the early end of a delivery
    """The delivery is not taken: how that is counted, the status for the sender, a sentence for the log."""

    def __init__(self, outcome: str, status: int, why: str = "") -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.status = status
        self.why = why


class SenderGoneError(Exception):
    """The sender hung up before the end of its body."""


class Bodies:
    """All bodies that this process holds."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.held = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reading]:
        """One body; its bytes count until the block ends."""
        reading = Reading(self)
        try:
            yield reading
        finally:
            self.held -= reading.size


class Reading:
    """One body that comes in."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.size = 0

    async def whole(self, declared: str | None, receive: Receive, answers: Answers) -> bytes:
        """The body. `declared` is the Content-Length, digits only.

        Raises:
            Refused: too large, too slow, or too much is held already. SenderGoneError: it was cut short.
        """
        bounds = self._bodies.bounds
        if declared is not None and int(declared) > bounds.body_bytes:
            raise Refused("too_large", answers.too_large)
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(bounds.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise SenderGoneError
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    self.size += len(chunk)
                    self._bodies.held += len(chunk)
                    if self.size > bounds.body_bytes:
                        raise Refused("too_large", answers.too_large)
                    if self._bodies.held > bounds.held_bytes:
                        raise Refused("overloaded", AGAIN)
                    chunks.append(chunk)
        except TimeoutError:
            raise Refused("slow", answers.slow) from None
        return b"".join(chunks)
