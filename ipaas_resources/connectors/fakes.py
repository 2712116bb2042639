"""What every connector's fake is built on: a raw ASGI app that keeps a ledger and can be told to fail.

A fake subclasses `FakeApp` and implements `handle`; `authorize`, `throttled` and the `sim_` methods are hooks. It is
reached in process by `transport()`, over HTTP by `serve(app)`. Imported by tests and `simulator` alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.faking.control import PREFIX, ProductControl, control
from ipaas_resources.connectors.faking.faults import Fault
from ipaas_resources.connectors.faking.ledger import DeliveryEntry, Effect, Ledger, LedgerEntry
from ipaas_resources.connectors.faking.sending import Mailroom
from ipaas_resources.connectors.faking.transport import InProcessTransport, asgi, serve
from ipaas_resources.connectors.faking.wire import (
    AbortError,
    ConnectRefusedError,
    DropError,
    HangError,
    Reply,
    Request,
    TearError,
    dumps,
    file_chunks,
    file_digest,
    json_reply,
    loads,
)
from ipaas_resources.core.clock import Clock, Ids, SeededIds, SystemClock

if TYPE_CHECKING:
    import httpx

    from ipaas_resources.connectors.faking.transport import Receive, Send
    from ipaas_resources.core.limits import LimitPolicy


class FakeApp:
    """One fake product. Everything is off until told: faults, limits, latency, search lag."""

    #: What the product allows one principal; used only while `limits_on`.
    limits: LimitPolicy | None = None

    def __init__(self, *, clock: Clock | None = None, ids: Ids | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.ids: Ids = ids or SeededIds(0)
        self.ledger = Ledger()
        #: Sends what the product tells others (webhooks).
        self.mailroom = Mailroom(self.clock, self.ids, self.ledger)
        self.faults: list[Fault] = []
        self.latency = 0.0  # seconds added to each answer
        self.search_lag = 0.0  # seconds until a created record is found by a query, see Recent
        self.limits_on = False
        self.in_flight = 0
        self._number = 0
        self._usage: dict[str, _Usage] = {}
        self._late: list[tuple[float, Request]] = []

    # What a product fills in -------------------------------------------------------------------------------------

    async def handle(self, request: Request) -> Reply:
        """Answer a request as the product does; raise AbortError(reply) from anywhere to answer at once."""
        raise NotImplementedError

    def authorize(self, request: Request) -> Reply | None:
        """The product's refusal of a caller, None to let it in. Open unless overridden."""
        del request
        return None

    def principal(self, request: Request) -> str:
        """Whom limits count: the credential as a rule."""
        return request.headers.get("authorization", "")

    def throttled(self, request: Request, reason: str, retry_after: float) -> Reply:
        """The product's answer beyond a limit; `reason` is "requests" or "concurrency"."""
        del request
        return json_reply({"error": reason}, 429, {"retry-after": str(math.ceil(retry_after))})

    def streams(self, request: Request) -> bool:
        """True when the handler takes the body in by `request.chunks()` or `request.digest()` (uploads)."""
        del request
        return False

    def sim_records(self, entity: str, scope: str) -> Iterable[Mapping[str, Any]]:
        """All records of an entity, as on the wire. KeyError for an entity that is not there."""
        raise NotImplementedError("this fake lists no records by hand")

    def sim_add(self, entity: str, scope: str, fields: dict[str, Any]) -> str:
        """Add a record by hand, as a person at the product would; its id."""
        raise NotImplementedError("this fake adds no records by hand")

    def sim_change(self, entity: str, scope: str, identifier: str, fields: dict[str, Any]) -> None:
        """Change a record by hand. KeyError when it is not there."""
        raise NotImplementedError("this fake changes no records by hand")

    def sim_remove(self, entity: str, scope: str, identifier: str) -> None:
        """Delete a record by hand. KeyError when it is not there."""
        raise NotImplementedError("this fake deletes no records by hand")

    def sim_controls(self) -> Mapping[tuple[str, str], ProductControl]:
        """Control endpoints of this product alone, by method and name: what people do at its screens."""
        return {}

    # What tests and the simulator use ----------------------------------------------------------------------------

    def transport(self) -> httpx.AsyncBaseTransport:
        """A transport for httpx that runs this app in process, failures included."""
        return InProcessTransport(self)

    def fail(self, *faults: Fault) -> None:
        """Order faults; they strike in this order."""
        self.faults.extend(faults)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI."""
        await asgi(self, scope, receive, send)

    # How a request goes ------------------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Reply:
        """Take one request through faults, limits, sign-in and `handle`; one ledger entry each.

        Raises:
            ConnectRefusedError, DropError, HangError, TearError: the connection fails instead of answering.
        """
        if request.path.startswith(PREFIX):
            return await control(self, request)
        if self._late:
            await self._apply_late()
        fault = self._struck_by(request) if self.faults else None
        if fault is not None and fault.refuse:
            self.ledger.counts["refused_connections"] += 1
            raise ConnectRefusedError
        self._number += 1
        request.id = self._number
        request.principal = self.principal(request)
        entry = LedgerEntry(
            at=self.clock.monotonic(),
            request_id=request.id,
            method=request.method,
            path=request.path,
            query=request.raw_query.decode("ascii"),
            effects=request.effects,
            trace_id=request.trace_id,
            host=request.headers.get("host", ""),
            principal=request.principal,
        )
        self.in_flight += 1
        entry.concurrent = self.in_flight
        try:
            reply = await (self._answer(request) if fault is None else self._fail(request, fault))
            entry.status = reply.status
            if reply.status in (429, 503):
                entry.retry_after = self._seconds(reply.headers.get("retry-after", ""))
            return reply
        finally:
            self.in_flight -= 1
            entry.done = self.clock.monotonic()
            entry.received = request.received
            self.ledger.add(entry)

    async def _answer(self, request: Request) -> Reply:
        if self.latency:
            await self.clock.sleep(self.latency)
        if not self.streams(request):
            await request.read()
        if self.limits_on and self.limits is not None:
            return await self._within_limits(request, self.limits)
        return await self._admitted(request)

    async def _admitted(self, request: Request) -> Reply:
        refusal = self.authorize(request)
        if refusal is not None:
            return refusal
        try:
            return await self.handle(request)
        except AbortError as stopped:
            return stopped.reply

    async def _within_limits(self, request: Request, policy: LimitPolicy) -> Reply:
        usage = self._usage.setdefault(request.principal, _Usage())
        now = self.clock.monotonic()
        sent = usage.sent
        while sent and sent[0] <= now - policy.window:
            sent.popleft()
        if usage.running >= policy.concurrency:
            return self.throttled(request, "concurrency", 1.0)
        if len(sent) >= policy.requests:
            return self.throttled(request, "requests", sent[0] + policy.window - now)
        sent.append(now)
        usage.running += 1
        try:
            return await self._admitted(request)
        finally:
            usage.running -= 1

    async def _fail(self, request: Request, fault: Fault) -> Reply:
        request.cut = fault.cut
        if fault.delay:
            await self._pause(request, fault.delay)
        if not fault.after and (fault.drop or fault.status or fault.hang):
            if fault.late is not None:
                await request.read()
                self._late.append((self.clock.monotonic() + fault.late, request))
            return await self._break(request, fault, None)
        reply = await self._answer(request)
        return await self._break(request, fault, reply)

    async def _break(self, request: Request, fault: Fault, reply: Reply | None) -> Reply:
        if fault.hang:
            if request.disconnected is None:
                await self.clock.sleep(request.read_timeout or 0.0)
            raise HangError
        if fault.drop:
            raise DropError
        if fault.status:
            return fault.reply()
        if reply is None:
            raise ValueError("the fault names nothing that happens")
        if fault.tear:
            raise TearError(reply)
        return fault.change(reply) if fault.change is not None else reply

    async def _pause(self, request: Request, seconds: float) -> None:
        # In process nobody else watches the caller's timeout; over HTTP the caller does that itself.
        patience = request.read_timeout
        if request.disconnected is None and patience is not None and seconds >= patience:
            await request.read()
            await self.clock.sleep(patience)
            self._late.append((self.clock.monotonic() + seconds - patience, request))
            raise HangError
        await self.clock.sleep(seconds)

    def _struck_by(self, request: Request) -> Fault | None:
        for fault in self.faults:
            if fault.strikes(request, self.ids.random() if fault.rate < 1 else 0.0):
                return fault
        return None

    async def _apply_late(self) -> None:
        """Do what callers gave up on: the product went on working (fault F04)."""
        now = self.clock.monotonic()
        due = [request for at, request in self._late if at <= now]
        self._late = [(at, request) for at, request in self._late if at > now]
        for request in due:
            already = len(request.effects)
            await self._admitted(request)  # its effects join the ledger entry that it already has
            self.ledger.count(request.effects[already:])

    def _seconds(self, retry_after: str) -> float | None:
        if retry_after.isdigit():
            return float(retry_after)
        try:
            return (parsedate_to_datetime(retry_after) - self.clock.now()).total_seconds()
        except ValueError:
            return None

    async def settle(self) -> None:
        """Apply every late request that is due by the clock, without a new request."""
        await self._apply_late()


class _Usage:
    __slots__ = ("running", "sent")

    def __init__(self) -> None:
        self.sent: deque[float] = deque()
        self.running = 0


class Recent:
    """Ids created so lately that a query does not find them yet; reads by id do."""

    def __init__(self, app: FakeApp) -> None:
        self._app = app
        self._born: dict[Hashable, float] = {}

    def note(self, key: Hashable) -> None:
        """A record was created now."""
        if self._app.search_lag > 0:
            self._born[key] = self._app.clock.monotonic()

    def hidden(self) -> frozenset[Hashable]:
        """Keys that queries must leave out now; empty without search lag, so asking is free."""
        if not self._born:
            return frozenset()
        oldest = self._app.clock.monotonic() - self._app.search_lag
        self._born = {key: born for key, born in self._born.items() if born > oldest}
        return frozenset(self._born)


class Tokens:
    """Access tokens that a fake has given out, by expiry on its clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._expires: dict[str, float] = {}
        self.issued = 0

    def issue(self, lifetime: float, prefix: str = "token") -> str:
        """A new token, good for `lifetime` seconds."""
        self.issued += 1
        token = f"{prefix}-{self.issued}"
        self._expires[token] = self._clock.monotonic() + lifetime
        return token

    def accept(self, token: str, lifetime: float = 1e9) -> None:
        """Let this token in, whoever issued it."""
        self._expires[token] = self._clock.monotonic() + lifetime

    def valid(self, authorization: str) -> bool:
        """True for `Bearer <token>` with a token that has not expired."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and self._expires.get(token, -1.0) > self._clock.monotonic()

    def expire_all(self) -> None:
        """Every token given out so far is refused from now on."""
        self._expires.clear()


Handler = Callable[[Request], Awaitable[Reply]]

__all__ = [
    "AbortError",
    "DeliveryEntry",
    "DropError",
    "Effect",
    "FakeApp",
    "Fault",
    "Handler",
    "Ledger",
    "LedgerEntry",
    "Recent",
    "Reply",
    "Request",
    "Tokens",
    "dumps",
    "file_chunks",
    "file_digest",
    "json_reply",
    "loads",
    "serve",
]
