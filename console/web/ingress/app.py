"""POST /hooks/{subscription}: proof, commit, answer.

Raw ASGI: a framework in between would read, parse or log what nobody has proven yet. Accepted means committed. Every
trouble of ours is 503, which every product takes for "again, later"; the other answers are the connector's, because one
wrong status makes some products delete their subscriptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from console.web.ingress.bodies import AGAIN, Bodies, Bounds, Message, Receive, Refused, SenderGoneError
from console.web.ingress.senders import Known, Senders
from console.web.ingress.tally import Tally
from ipaas_resources.connectors.webhooks import NotProvenError, Request, Sender
from ipaas_resources.core import killpoints
from ipaas_resources.core.clock import Clock, Ids
from ipaas_resources.core.errors import IpaasError
from ipaas_resources.store.database import Database
from ipaas_resources.store.inbox import Delivery, InboxWriter
from ipaas_resources.store.subscriptions import handshake_expected

Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

_log = logging.getLogger(__name__)
_PATH = re.compile(r"/hooks/([A-Za-z0-9_-]{1,64})(?:/([A-Za-z0-9_-]{1,128}))?", re.ASCII)
_PLAIN = re.compile(r"[\x20-\x7e]{0,256}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)
_MOST_FIELDS = 16
_LONGEST_TOKEN = 2048
_NOT_FOUND = 404


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the sender hears."""

    status: int
    text: bytes = b""
    #: The rest of the body is not read: the connection ends with the answer.
    close: bool = False


class Ingress:
    """The ASGI application."""

    def __init__(
        self, database: Database, writer: InboxWriter, *, clock: Clock, ids: Ids, bounds: Bounds | None = None
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._ids = ids
        self._bounds = bounds or Bounds()
        self._senders = Senders(database, clock)
        self._bodies = Bodies(self._bounds)
        self.tally = Tally(clock)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Take one request."""
        if scope["type"] != "http":
            raise ValueError(f"The ingress speaks HTTP, not {scope['type']}.")
        trace_id = self._ids.trace_id()
        path = _PATH.fullmatch(scope["path"])
        subscription = path[1] if path else ""
        try:
            answer = await self._take(scope, receive, path, trace_id)
        except SenderGoneError:
            self._count(subscription, "cut_short")
            return
        except Refused as refused:
            self._count(subscription, refused.outcome, refused.why)
            answer = Answer(status=refused.status, close=True)
        except IpaasError as error:
            self._count(subscription, "unavailable", error.message)
            answer = Answer(status=AGAIN, close=True)
        except Exception as error:  # noqa: BLE001 - the last resort: a sender tries again, a person finds the line
            # The error's text may quote what was sent, so its kind alone is told.
            _log.error("Delivery %s met a defect of the platform: %s", trace_id, type(error).__name__)
            self._count(subscription, "defect")
            answer = Answer(status=AGAIN, close=True)
        await _send(send, answer, trace_id)

    def _count(self, subscription: str, outcome: str, why: str = "") -> None:
        self.tally.add(subscription if self._senders.has_seen(subscription) else "", outcome, why)

    async def _take(
        self, scope: Message, receive: Receive, path: re.Match[str] | None, trace_id: str
    ) -> Answer:
        if path is None:
            raise Refused("unknown", _NOT_FOUND)
        asked = self._clock.monotonic()
        subscription = path[1]
        known = self._senders.at_hand(subscription)
        if known is None:
            async with self._soon():
                known = await self._senders.get(subscription)
        if known is None:
            raise Refused("unknown", _NOT_FOUND)
        answers = known.receiver.answers
        request = _request(scope, subscription, path[2] or "")
        if request is None:
            raise Refused("malformed", answers.malformed)
        await self._prove(known, asked, lambda sender: known.receiver.admit(request, sender))
        token = known.receiver.handshake(request)
        if token is not None:
            return await self._handshake(subscription, token, answers.not_proven)
        if request.method != "POST":
            raise Refused("wrong_method", answers.wrong_method)
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused("compressed", answers.compressed)
        return await self._accept(known, request, asked, receive, trace_id)

    async def _accept(
        self, known: Known, request: Request, asked: float, receive: Receive, trace_id: str
    ) -> Answer:
        """Read, prove and commit the body of a request that was let in."""
        answers = known.receiver.answers
        with self._bodies.reading() as reading:
            body = await reading.whole(request.headers.get("content-length"), receive, answers)
            killpoints.after("K01")
            now = self._clock.now().timestamp()
            proven = await self._prove(
                known, asked, lambda sender: known.receiver.prove(request, body, sender, now)
            )
            delivery = Delivery(
                subscription=request.subscription,
                key=proven.key,
                body=body,
                # jsonb refuses some of what a header may hold.
                headers={n: v for n, v in proven.headers.items() if _PLAIN.fullmatch(v)},
                trace_id=trace_id,
            )
            async with self._soon():
                # The sender of one that comes too late tries again and meets its own key.
                new = await self._writer.put(delivery)
        self.tally.add(request.subscription, "accepted" if new else "repeated")
        killpoints.before("K03")
        return Answer(status=answers.accepted)

    async def _prove(self, known: Known, asked: float, step: Callable[[Sender], T]) -> T:
        """One step of the proof; before anybody is refused, the secrets are looked up anew."""
        try:
            return step(known.sender)
        except NotProvenError:
            async with self._soon():
                again = await self._senders.get(known.sender.subscription, since=asked)
        try:
            if again is not None and again.sender != known.sender:
                return step(again.sender)
        except NotProvenError:
            pass
        raise Refused("not_proven", known.receiver.answers.not_proven)

    async def _handshake(self, subscription: str, token: str, refused: int) -> Answer:
        async with self._soon():
            expected = await handshake_expected(self._database, subscription)
        if not expected or len(token) > _LONGEST_TOKEN:
            raise Refused("handshake_not_expected", refused)
        self.tally.add(subscription, "handshake")
        return Answer(status=200, text=token.encode("utf-8", "replace"))

    @contextlib.asynccontextmanager
    async def _soon(self) -> AsyncIterator[None]:
        """Bounds what waits for the database: a product gives up on us after some seconds."""
        try:
            async with asyncio.timeout(self._bounds.database_seconds):
                yield
        except TimeoutError:
            why = "The database did not answer in time; see its log and `ipaas doctor`."
            raise Refused("database_late", AGAIN, why) from None


def _request(scope: Message, subscription: str, key: str) -> Request | None:
    """The request before its body; None when it is malformed, which no product's own request is."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "content-length" in headers and (
        "transfer-encoding" in headers or not _DIGITS.fullmatch(headers["content-length"])
    ):
        # Two lengths: a proxy and we might disagree where the request ends.
        return None
    query: dict[str, str] = {}
    if scope["query_string"]:
        try:
            pairs = parse_qsl(
                scope["query_string"].decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
            )
        except ValueError:
            return None
        query = dict(pairs)
        if len(query) != len(pairs):
            return None
    return Request(method=scope["method"], subscription=subscription, key=key, query=query, headers=headers)


async def _send(send: Send, answer: Answer, trace_id: str) -> None:
    headers = [
        (b"content-length", str(len(answer.text)).encode()),
        (b"x-trace-id", trace_id.encode()),
    ]
    if answer.text:
        # It is what a sender sent: no browser may take it for a page.
        headers += [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    if answer.close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.text})
    killpoints.after("K03")
