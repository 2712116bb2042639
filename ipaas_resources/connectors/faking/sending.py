"""A fake as the sender of webhooks: real HTTP, on its own time, never in the way of the fake's answers.

A product fills `Parcel`s and posts them; `Mailroom` sends each when it is due, asks the parcel what the answer means and
notes every attempt in the ledger. Over HTTP the server's lifespan runs it (`running`); a test with a clock of its own
calls `send_due`.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import ipaddress
import itertools
import ssl
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import msgspec

from ipaas_resources.connectors.faking.ledger import DeliveryEntry, Ledger
from ipaas_resources.connectors.faking.posting import Poster

if TYPE_CHECKING:
    from ipaas_resources.core.clock import Clock, Ids

#: Deliveries to one receiver that are under way at a time.
MOST_AT_ONCE = 64
#: Seconds until a receiver that says nothing counts as silent, where the product names no time.
PATIENCE = 30.0
#: What the ledger says of an attempt that got no answer.
NO_ANSWER = 0

_SHOWN_SEGMENTS = 2

Content = tuple[Mapping[str, str], bytes]
Post = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]
"""URL, headers, body -> status."""


class Parcel(msgspec.Struct, kw_only=True):
    """What a product tells one receiver, through all its attempts."""

    url: str
    #: What it tells of, for the ledger: "work_orders 285227".
    about: tuple[str, ...]
    #: Headers and body of the attempt of this number, from 1: made when it is sent, for signatures carry the time.
    #: None: there is nothing to tell any more.
    pack: Callable[[int], Content | None]
    #: Number of the attempt and its status (NO_ANSWER) -> seconds until the next attempt; None: there is none.
    heard: Callable[[int, int], float | None]
    changed: float  # the clock's monotonic seconds when the oldest change in it was made
    patience: float = PATIENCE
    attempt: int = 1


class Mischief(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What happens to first attempts on their way (fault F13); retries are left alone."""

    duplicate: float = 0.0  # share that is sent twice
    shuffle: float = 0.0  # seconds; each one is held back for a random part of it
    drop: float = 0.0  # share that never leaves, and of which the product thinks that it arrived


class Mailroom:
    """Sends the parcels of one fake."""

    def __init__(
        self,
        clock: Clock,
        ids: Ids,
        ledger: Ledger,
        *,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
    ) -> None:
        """`transport` makes the HTTP transport; None: the real one."""
        self.mischief = Mischief()
        self._clock = clock
        self._ids = ids
        self._ledger = ledger
        #: Makes the HTTP transport; None: the real one. A test may set another.
        self.transport = transport
        self._due: list[tuple[float, int, Parcel, bool]] = []
        self._lock = threading.Lock()  # a test may change records from another thread than the server's
        self._numbers = itertools.count(1)
        self._sent = itertools.count(1)
        self._trust: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None

    def post(self, parcel: Parcel, delay: float = 0.0) -> None:
        """Send this in `delay` seconds. Returns at once, in any thread."""
        mischief, copies = self.mischief, [delay]
        if mischief.drop and self._ids.random() < mischief.drop:
            self._note(parcel, fate="dropped")
            return
        if mischief.duplicate and self._ids.random() < mischief.duplicate:
            copies.append(delay)
        for number, wait in enumerate(copies):
            held = mischief.shuffle * self._ids.random() if mischief.shuffle else 0.0
            # A copy has attempts of its own, as a product that sends twice has.
            self._put(msgspec.structs.replace(parcel), wait + held, copy=number > 0)

    def call_at(self, delay: float, action: Callable[[], None]) -> None:
        """Do this in `delay` seconds, as parcels are sent: for products that gather before they tell."""

        def nothing(_attempt: int) -> Content | None:
            action()
            return None

        self._put(_errand(nothing, self._clock.monotonic()), delay, copy=False)

    def waiting(self) -> int:
        """How many parcels and errands are not sent yet."""
        return len(self._due)

    async def send_due(self) -> int:
        """Send everything that is due by the clock; how many attempts were made. For tests with a clock of their own."""
        made = 0
        async with self._posting() as post:
            while due := self._take():
                made += sum(await asyncio.gather(*(self._send(post, *one) for one in due)))
        return made

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sends for as long as the block lasts; what is not sent at its end is not sent."""
        sending = asyncio.create_task(self.run())
        try:
            yield
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending

    async def run(self) -> None:
        """Send until cancelled. Waits by the event loop's time: the clock has to be the machine's."""
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        # For each receiver its own: one that is silent must not keep the others waiting.
        rooms: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(MOST_AT_ONCE))
        try:
            # A defect in a product's parcel ends the group, and with it the sending: nothing fails in silence.
            async with self._posting() as post, asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()
                    for parcel, copy in self._take():
                        group.create_task(self._in_turn(rooms[parcel.url], post, parcel, copy=copy))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._next_in()):
                            await self._wake.wait()
        finally:
            self._loop = self._wake = None

    async def ask(self, url: str, *, patience: float) -> httpx.Response | None:
        """POST without a body and return the answer; None when none comes. For handshakes, which a caller waits for."""
        at = self._clock.monotonic()
        answer: httpx.Response | None = None
        async with self._client() as client:
            with contextlib.suppress(httpx.HTTPError, TimeoutError):
                async with asyncio.timeout(patience):
                    answer = await client.post(url, timeout=patience)
        parcel = msgspec.structs.replace(_errand(lambda _attempt: None, at), url=url, about=("handshake",))
        self._note(parcel, at=at, status=answer.status_code if answer is not None else NO_ANSWER)
        return answer

    @contextlib.asynccontextmanager
    async def _posting(self) -> AsyncIterator[Post]:
        """How a request is sent: by kept connections of our own, by httpx where there is TLS or a test's transport."""
        poster = Poster()
        client: httpx.AsyncClient | None = None

        async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
            nonlocal client
            if self.transport is None and url.startswith("http://"):
                return await poster.post(url, headers, body)
            client = client or self._client()
            return (await client.post(url, content=body, headers=dict(headers))).status_code

        try:
            yield post
        finally:
            await poster.close()
            if client is not None:
                await client.aclose()

    # How -----------------------------------------------------------------------------------------------------------

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=MOST_AT_ONCE, max_keepalive_connections=MOST_AT_ONCE)
        transport = self.transport() if self.transport is not None else None
        # Made once: reading the authorities takes as long as many deliveries.
        self._trust = self._trust or ssl.create_default_context()
        return httpx.AsyncClient(
            limits=limits,
            transport=transport,
            verify=self._trust,
            trust_env=False,
            follow_redirects=False,
            timeout=PATIENCE,
        )

    def _put(self, parcel: Parcel, delay: float, *, copy: bool) -> None:
        with self._lock:
            entry = (self._clock.monotonic() + max(0.0, delay), next(self._numbers), parcel, copy)
            heapq.heappush(self._due, entry)
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None:
            loop.call_soon_threadsafe(wake.set)

    def _take(self) -> list[tuple[Parcel, bool]]:
        now = self._clock.monotonic()
        taken = []
        with self._lock:
            while self._due and self._due[0][0] <= now:
                _, _, parcel, copy = heapq.heappop(self._due)
                taken.append((parcel, copy))
        return taken

    def _next_in(self) -> float | None:
        with self._lock:
            return max(0.0, self._due[0][0] - self._clock.monotonic()) if self._due else None

    async def _in_turn(self, room: asyncio.Semaphore, post: Post, parcel: Parcel, *, copy: bool) -> None:
        async with room:
            await self._send(post, parcel, copy)

    async def _send(self, post: Post, parcel: Parcel, copy: bool) -> bool:  # noqa: FBT001 - from the queue
        """One attempt; True when it left."""
        content = parcel.pack(parcel.attempt)
        if content is None:
            return False
        headers, body = content
        at = self._clock.monotonic()
        try:
            async with asyncio.timeout(parcel.patience):
                status = await post(parcel.url, headers, body)
        except (httpx.HTTPError, OSError, EOFError, TimeoutError):
            status = NO_ANSWER
        self._note(parcel, at=at, status=status, copy=copy, size=len(body))
        again = parcel.heard(parcel.attempt, status)
        if again is not None:
            self._put(msgspec.structs.replace(parcel, attempt=parcel.attempt + 1), again, copy=copy)
        return True

    def _note(
        self,
        parcel: Parcel,
        *,
        at: float | None = None,
        status: int = NO_ANSWER,
        fate: str = "sent",
        copy: bool = False,
        size: int = 0,
    ) -> None:
        now = self._clock.monotonic()
        self._ledger.delivered(
            DeliveryEntry(
                number=next(self._sent),
                at=now if at is None else at,
                answered=now,
                changed=parcel.changed,
                url=shown(parcel.url),
                about=parcel.about,
                attempt=parcel.attempt,
                status=status,
                fate=fate,
                copy=copy,
                size=size,
            )
        )


def _errand(pack: Callable[[int], Content | None], now: float) -> Parcel:
    return Parcel(url="", about=(), pack=pack, heard=lambda _attempt, _status: None, changed=now)


def shown(url: str) -> str:
    """An address without what is secret in it: the query, and what follows /hooks/{subscription}."""
    parts = urlsplit(url)
    segments = parts.path.strip("/").split("/")[:_SHOWN_SEGMENTS]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{'/'.join(segments)}"


def may_send_to(url: str) -> bool:
    """Whether a product may be told to send there: this machine alone, for a fake must never call a stranger."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.username or not parts.hostname:
        return False
    if parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return False


__all__ = [
    "MOST_AT_ONCE",
    "NO_ANSWER",
    "PATIENCE",
    "Content",
    "Mailroom",
    "Mischief",
    "Parcel",
    "may_send_to",
    "shown",
]
