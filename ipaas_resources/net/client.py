"""The one HTTP client: every request of every connector goes through `HttpClient`.

It pins the host, asks for permission from the budget, adds our identity, sends again what may be sent again, and turns
each fate of a request into an error that says what happens next. Requests carry the trace id in the W3C `traceparent`
header.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

import msgspec

from ipaas_resources.core import killpoints
from ipaas_resources.core.breaker import AlwaysClosed
from ipaas_resources.core.errors import (
    IpaasError,
    RetryError,
    SystemBusyError,
    ThrottledError,
    UnknownOutcomeError,
    UnreachableError,
)
from ipaas_resources.net.breaker import Guard
from ipaas_resources.net.call import Call
from ipaas_resources.net.content import Body, Content, pieces
from ipaas_resources.net.origin import Origin
from ipaas_resources.net.request_log import log_attempt, safe_code
from ipaas_resources.net.response import Kind, Response, broken_answer
from ipaas_resources.net.retry import RetryPolicy, retry_after_seconds
from ipaas_resources.net.statuses import Verdict, error_for, verdict_of
from ipaas_resources.net.trace import HEADER as TRACE_HEADER
from ipaas_resources.net.trace import trace_header
from ipaas_resources.net.transport import (
    BrokenAnswerError,
    LostError,
    Timeouts,
    Wire,
    default_transport,
    read_capped,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping

    import httpx

    from ipaas_resources.core.breaker import Breaker
    from ipaas_resources.core.clock import Clock, Ids
    from ipaas_resources.core.limits import BudgetKey, LimitPolicy, Limits
    from ipaas_resources.net.auth import Auth

__all__ = ["HttpClient", "Response", "RetryPolicy", "Timeouts"]

#: Bytes of an answer that are held in memory; larger things are streamed.
LARGEST_ANSWER = 64 << 20
#: Bytes of an error answer that are looked at.
LARGEST_ERROR = 1 << 20
#: Seconds that a download may take in all; silence in between is bounded by the read timeout.
LONGEST_DOWNLOAD = 3600.0
#: Seconds more than an attempt may take, after which a request that tries whether a system serves again counts as dead.
_PROBE_MARGIN = 5.0


class HttpClient:
    """Sends the requests of one system."""

    def __init__(
        self,
        *,
        system: str,
        base_url: str,
        clock: Clock,
        ids: Ids,
        limits: Limits,
        budget: BudgetKey,
        policy: LimitPolicy,
        breaker: Breaker | None = None,
        auth: Auth | None = None,
        headers: Mapping[str, str] | None = None,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
        ca_file: str | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        largest_answer: int = LARGEST_ANSWER,
        explain: Callable[[Response], tuple[str, str] | None] | None = None,
        count_call: Callable[[str], None] = lambda _kind: None,
    ) -> None:
        """A client for one system; nothing is sent yet.

        Args:
            system: its id, for budgets, logs and messages.
            base_url: the address below which relative URLs lie; scheme, host and port are pinned to it.
            clock: measures and waits. ids: chance for jitter.
            limits: keeper of the budget. budget, policy: which one, and what the product allows.
            breaker: of the system; None for a host that is no system, and in tests of other things.
            auth: makes the headers that identify us, asked before each attempt.
            headers: sent with every request.
            transport: makes the HTTP transport; None: the real one, with TLS verified by `ca_file` too.
            timeouts: of each attempt. retry: when an attempt is followed by another.
            largest_answer: bytes of an answer that `send` holds in memory.
            explain: reads an error answer: the product's code, and a sentence that may be stored and shown ('' for
                none); never the body itself.
            count_call: called with "read" or "write" for each attempt that was sent.

        Raises:
            ConfigurationError: the address or the CA file is wrong.
        """
        self.system = system
        self.timeouts = timeouts or Timeouts()
        self._origin = Origin(system, base_url)
        self._clock = clock
        self._ids = ids
        self._limits = limits
        self._budget = budget
        self._policy = policy
        self._breaker: Breaker = breaker or AlwaysClosed()
        self._auth = auth
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "gzip",
            "user-agent": "ipaas",
            **{name.lower(): value for name, value in (headers or {}).items()},
        }
        # One more than may be under way at once, so that a budget that was raised meets a free connection.
        self._wire = Wire(transport or (lambda: default_transport(ca_file, policy.concurrency + 1)))
        self._retry = retry or RetryPolicy()
        self._largest_answer = largest_answer
        self._explain = explain
        self._count_call = count_call

    async def send(
        self,
        method: str,
        url: str,
        *,
        kind: Literal["read", "write"],
        headers: Mapping[str, str] | None = None,
        content: Content = None,
        accept: Collection[int] = (),
        repeatable: bool | None = None,
        trace_id: str = "",
        endpoint: str = "",
        timeouts: Timeouts | None = None,
    ) -> Response:
        """Send one request, again where that is safe, and return the whole answer.

        Args:
            method: HTTP method.
            url: path below the base address, or an absolute link of the same scheme, host and port, used verbatim.
            kind: "write" when it may change something there.
            headers: of this request.
            content: the body; a stream is sent in pieces of at most 1 MiB. A generator can be sent once only, any
                other async iterable again.
            accept: error statuses that are returned instead of raised.
            repeatable: whether sending it twice does no more than sending it once. None: reads yes, writes no.
            trace_id: of the record or page that it serves.
            endpoint: its name in logs ("customers"); never a value of a record.
            timeouts: instead of the client's.

        Raises:
            ThrottledError, UnreachableError, SystemBusyError: nothing was applied; the attempts are used up, or the
                system asked for a longer pause (`retry_after`).
            CircuitOpenError: the system failed again and again, so nothing is sent to it now.
            UnknownOutcomeError: a write that may have been applied.
            CredentialsError: 401, 403. MissingRecordError: 404, 410. ReloadError: 409, 412.
            RefusedRecordError: any other 4xx. ProtocolError: a link to another host, or an unreadable answer.
        """
        call = self._call(
            method,
            url,
            kind,
            headers=headers or {},
            content=content,
            trace_id=trace_id,
            endpoint=endpoint,
            timeouts=timeouts or self.timeouts,
            longest=(timeouts or self.timeouts).total,
        )
        if repeatable is not None:
            call.repeatable = repeatable
        with call.honest():
            async with call.guard:
                while True:
                    try:
                        async with self._exchange(call) as wire:
                            answer = await self._read(call, wire)
                    except LostError as lost:
                        await self._again_or_raise(call, self._lost(call, lost), None)
                        continue
                    if await self._settled(call, answer, accept):
                        return answer

    async def stream(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        endpoint: str = "",
        trace_id: str = "",
        timeouts: Timeouts | None = None,
    ) -> AsyncIterator[bytes]:
        """Download in pieces of at most 1 MiB. Attempts repeat only until the first piece.

        Raises:
            the errors of `send` for a read; SystemBusyError when the download breaks off: start it again.
        """
        timeouts = timeouts or msgspec.structs.replace(self.timeouts, total=LONGEST_DOWNLOAD)
        call = self._call(
            "GET",
            url,
            "read",
            headers={"accept": "*/*", **(headers or {})},
            content=None,
            trace_id=trace_id,
            endpoint=endpoint,
            timeouts=timeouts,
            # The first piece of an answer says all that a probe is sent for.
            longest=timeouts.pool + timeouts.connect + timeouts.write + timeouts.read,
        )
        begun = False
        async with call.guard:
            while True:
                try:
                    async with self._exchange(call) as wire:
                        if verdict_of(wire.status_code) is Verdict.DONE:
                            call.guard.answered()
                            await call.guard.tell()
                            async for chunk in wire.aiter_bytes():
                                for piece in pieces(chunk):
                                    begun = True
                                    yield piece
                            self._record(call)
                            return
                        answer = await self._read(call, wire)
                except LostError as lost:
                    error = self._lost(call, lost)
                    if begun:
                        raise error from lost
                    await self._again_or_raise(call, error, None)
                    continue
                await self._settled(call, answer, ())

    async def close(self) -> None:
        """Give the connections back."""
        await self._wire.close()

    def _call(
        self,
        method: str,
        url: str,
        kind: Kind,
        *,
        headers: Mapping[str, str],
        content: Content,
        trace_id: str,
        endpoint: str,
        timeouts: Timeouts,
        longest: float,
    ) -> Call:
        target = self._origin.resolve(url)
        endpoint = endpoint or self._origin.endpoint(target)
        combined = self._headers | {name.lower(): value for name, value in headers.items()}
        if isinstance(content, bytes):
            combined.setdefault("content-type", "application/json")
        trace = trace_header(trace_id, self._ids.random())
        if trace is not None:
            combined[TRACE_HEADER] = trace
        return Call(
            method=method,
            url=target,
            kind=kind,
            headers=combined,
            body=Body(content),
            timeouts=timeouts,
            endpoint=endpoint,
            what=f"{self.system} {method} {endpoint}",
            trace_id=trace_id,
            repeatable=kind == "read",
            guard=Guard(self._breaker, lease=longest + _PROBE_MARGIN),
        )

    @contextlib.asynccontextmanager
    async def _exchange(self, call: Call) -> AsyncIterator[httpx.Response]:
        """One attempt, sent with permission and identity.

        Raises:
            LostError: it brought no whole answer. IpaasError: it was not sent, or its answer is unreadable.
        """
        call.attempt += 1
        call.status = None
        call.started = self._clock.monotonic()
        try:
            await call.guard.begin()
            call.identity = await self._identity(call)
            async with self._limits.request(self._budget, self._policy):
                await call.guard.enter()
                call.started = self._clock.monotonic()
                async with self._wire.exchange(
                    call.method,
                    call.url,
                    call.headers | call.identity,
                    call.body,
                    call.timeouts,
                    write=call.write,
                ) as wire:
                    call.status = wire.status_code
                    yield wire
        except BrokenAnswerError as broken:
            self._record(call, failure=broken.reason)
            call.guard.failed(f"{call.what} was answered with {broken.status}, but {broken.reason}.")
            error = broken_answer(call.kind, call.what, broken.status, broken.reason)
            raise error from broken
        except IpaasError as error:
            # Not sent (no identity, no permission), broken off by the source of an upload, or not readable.
            self._record(call, failure=error.code, sent=call.status is not None)
            raise

    async def _identity(self, call: Call) -> dict[str, str]:
        if self._auth is None:
            return {}
        try:
            return await self._auth.headers()
        except (UnreachableError, SystemBusyError) as error:
            # Without its sign-in the system serves nobody either.
            call.guard.failed(error.message)
            raise

    async def _read(self, call: Call, wire: httpx.Response) -> Response:
        """The whole answer; of an error only as much as an explanation needs."""
        done = verdict_of(wire.status_code) is Verdict.DONE
        content = await read_capped(wire, self._largest_answer if done else LARGEST_ERROR)
        if call.write:
            killpoints.before("K10")
        if content is None and done:
            call.guard.answered()
            raise broken_answer(
                call.kind, call.what, wire.status_code, f"it is larger than {self._largest_answer} bytes"
            )
        answer = Response(
            status=wire.status_code,
            headers={name.lower(): value for name, value in wire.headers.items()},
            content=content or b"",
            kind=call.kind,
            what=call.what,
            repeated=call.maybe_applied,
        )
        if call.write:
            killpoints.after("K10")
        return answer

    async def _settled(self, call: Call, answer: Response, accept: Collection[int]) -> bool:
        """True: the caller gets this answer. False: the request is to be sent again, now. Raises what it means."""
        verdict = verdict_of(answer.status)
        html = answer.headers.get("content-type", "").lower().startswith("text/html")
        if html and verdict in {Verdict.DONE, Verdict.MISSING}:
            # Not the product speaks here. "Not found" from a gateway must never look like a record that is gone.
            self._record(call, failure="html")
            call.guard.failed(f"{call.what} was answered with a web page, as of a sign-in or a gateway.")
            raise answer.broken("it is a web page, as of a sign-in or a gateway")
        if verdict is Verdict.BUSY:
            call.guard.failed(f"{call.what} was answered with {answer.status}.")
        else:
            call.guard.answered()
        if verdict is Verdict.DONE or answer.status in accept:
            self._record(call)
            return True
        code, explanation = self._explained(answer)
        self._record(call, code=code)
        if answer.status == 401 and await self._renewed(call):  # noqa: PLR2004 - the status has no better name
            return False
        wish = retry_after_seconds(answer.headers, self._clock.now())
        error = error_for(
            answer.status,
            write=call.write,
            what=call.what,
            code=code,
            explanation=explanation,
            retry_after=wish,
        )
        if error is None:  # pragma: no cover - only Verdict.DONE has no error
            return True
        await self._again_or_raise(call, error, wish)
        return False

    def _explained(self, answer: Response) -> tuple[str | None, str]:
        explained = self._explain(answer) if self._explain is not None else None
        return (safe_code(explained[0]), explained[1]) if explained is not None else (None, "")

    async def _renewed(self, call: Call) -> bool:
        """Whether new credentials make one more attempt worth while; it counts as the same attempt."""
        if call.renewed or self._auth is None or not call.body.resendable:
            return False
        call.renewed = True
        if not await self._auth.refused(call.identity):
            return False
        call.attempt -= 1
        return True

    async def _again_or_raise(self, call: Call, error: IpaasError, wish: float | None) -> None:
        """Wait for the next attempt; raise the error when there is none."""
        again = call.again(error) and not call.guard.probing
        delay = self._retry.delay(call.attempt, self._ids.random(), wish) if again else None
        # A system that slows us down without naming a time means at least our own delay.
        pause = delay if wish is None and isinstance(error, ThrottledError) else wish
        if pause and isinstance(error, RetryError | UnknownOutcomeError):
            # All processes that share the budget hear of it, also when this one gives up.
            await self._limits.not_before(self._budget, pause)
        if delay is None or not call.body.resendable:
            raise error
        await self._clock.sleep(delay)

    def _lost(self, call: Call, lost: LostError) -> IpaasError:
        self._record(call, failure=lost.reason, sent=lost.sent)
        error = call.lost(lost)
        call.guard.failed(error.message)
        return error

    def _record(
        self, call: Call, *, code: str | None = None, failure: str | None = None, sent: bool = True
    ) -> None:
        """Count and log the attempt."""
        if sent:
            self._count_call(call.kind)
        log_attempt(
            system=self.system,
            endpoint=call.endpoint,
            method=call.method,
            status=call.status,
            code=code,
            milliseconds=(self._clock.monotonic() - call.started) * 1000,
            attempt=call.attempt,
            trace_id=call.trace_id,
            failure=failure,
        )
