"""What a request tells the circuit breaker of its system, and what an open one does to it."""

import asyncio
import contextlib

import httpx
import pytest

from ipaas_resources.core.breaker import Probe
from ipaas_resources.core.errors import (
    CircuitOpenError,
    CredentialsError,
    IpaasError,
    ProtocolError,
    SystemBusyError,
    ThrottledError,
    UnknownOutcomeError,
    UnreachableError,
)

PROBE = Probe("7")


class Told:
    """A breaker that writes down what it hears; `opens` says what it answers."""

    def __init__(self):
        self.heard = []
        self.reasons = []
        self.leases = []
        self.probe = None
        self.open_at_check = False
        self.open_at_enter = False

    async def check(self):
        if self.open_at_check:
            raise CircuitOpenError("left alone", retry_after=9.0)

    async def enter(self, lease):
        if self.open_at_enter:
            raise CircuitOpenError("left alone", retry_after=9.0)
        self.leases.append(lease)
        return self.probe

    async def answered(self, probe):
        self.heard.append(("answered", probe))

    async def failed(self, probe, reason):
        self.heard.append(("failed", probe))
        self.reasons.append(reason)

    async def unused(self, probe):
        self.heard.append(("unused", probe))


@pytest.fixture
def told():
    return Told()


async def read(made):
    return await made.client.send("GET", "customers", kind="read", endpoint="customers")


async def write(made, **options):
    return await made.client.send("POST", "customers", kind="write", content=b"{}", **options)


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 409, 410, 412, 422])
async def test_any_answer_of_the_product_itself_is_an_answer(rig, told, status):
    made = rig([status], breaker=told)
    with contextlib.suppress(IpaasError):
        await read(made)
    assert told.heard == [("answered", None)]


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_being_asked_to_slow_down_is_an_answer_however_often(rig, told, kind):
    made = rig([429] * 4, breaker=told)
    with pytest.raises(ThrottledError):
        await (read(made) if kind == "read" else write(made))
    assert len(made.requests) == 4
    assert told.heard == [("answered", None)]


@pytest.mark.parametrize(
    "trouble",
    [500, 502, 503, 504, 408, httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.ReadTimeout("x")],
)
async def test_a_system_that_cannot_serve_is_one_failure_per_request_and_not_one_per_attempt(
    rig, told, trouble
):
    made = rig([trouble] * 4, breaker=told)
    with pytest.raises((SystemBusyError, UnreachableError)):
        await read(made)
    assert len(made.requests) == 4
    assert told.heard == [("failed", None)]
    assert "customers" in told.reasons[0]


@pytest.mark.parametrize("trouble", [500, 503, httpx.ReadTimeout("x"), httpx.ReadError("x")])
async def test_a_write_whose_outcome_is_unknown_is_a_failure(rig, told, trouble):
    made = rig([trouble], breaker=told)
    with pytest.raises(UnknownOutcomeError):
        await write(made)
    assert told.heard == [("failed", None)]


@pytest.mark.parametrize("status", [200, 404])
async def test_a_web_page_of_a_gateway_is_a_failure_whatever_its_status(rig, told, status):
    made = rig([httpx.Response(status, html="<h1>maintenance</h1>")], breaker=told)
    with pytest.raises(ProtocolError):
        await read(made)
    assert told.heard == [("failed", None)]
    assert "maintenance" not in told.reasons[0]


async def test_a_request_that_succeeds_in_the_end_is_an_answer(rig, told):
    made = rig([503, httpx.ConnectError("x"), 200], breaker=told)
    assert (await read(made)).status == 200
    assert told.heard == [("answered", None)]


async def test_nothing_is_sent_while_it_is_open(rig, told):
    told.open_at_check = True
    made = rig([], breaker=told)
    with pytest.raises(CircuitOpenError) as raised:
        await read(made)
    assert raised.value.retry_after == 9.0
    assert raised.value.code == "circuit_open"
    assert made.limits.granted == 0
    assert made.calls == []
    assert told.heard == [("unused", None)]


async def test_a_request_that_waited_for_its_permission_is_refused_when_it_opened_meanwhile(rig, told):
    told.open_at_enter = True
    made = rig([], breaker=told)
    with pytest.raises(CircuitOpenError):
        await write(made)
    assert made.limits.granted == 1
    assert made.requests == []
    assert told.heard == [("unused", None)]


async def test_a_request_stops_repeating_itself_when_it_opens(rig, told):
    def answer(_request):
        told.open_at_check = True
        return httpx.Response(503)

    made = rig(answer, breaker=told)
    with pytest.raises(CircuitOpenError):
        await read(made)
    assert len(made.requests) == 1


async def test_a_write_that_may_have_been_applied_stays_unknown_when_it_opens_before_the_repeat(rig, told):
    def answer(_request):
        told.open_at_check = True
        raise httpx.ReadTimeout("x")

    made = rig(answer, breaker=told)
    with pytest.raises(UnknownOutcomeError) as raised:
        await write(made, repeatable=True)
    assert raised.value.code == "circuit_open"
    assert len(made.requests) == 1


@pytest.mark.parametrize("trouble", [500, 503, httpx.ConnectError("x"), httpx.ReadTimeout("x")])
async def test_a_probe_is_one_request(rig, told, trouble):
    told.probe = PROBE
    made = rig([trouble], breaker=told)
    with pytest.raises((SystemBusyError, UnreachableError)):
        await read(made)
    assert len(made.requests) == 1
    assert made.clock.slept == []
    assert told.heard == [("failed", PROBE)]


async def test_a_probe_that_is_asked_to_slow_down_found_a_system_that_serves(rig, told):
    told.probe = PROBE
    made = rig([httpx.Response(429, headers={"retry-after": "7"})], breaker=told)
    with pytest.raises(ThrottledError):
        await read(made)
    assert made.limits.pauses == [7]
    assert told.heard == [("answered", PROBE)]


async def test_a_probe_is_given_more_time_than_its_attempt_may_take(rig, told):
    told.probe = PROBE
    made = rig([200], breaker=told)
    await read(made)
    assert told.leases == [made.client.timeouts.total + 5]


async def test_a_probe_may_renew_its_credentials_and_stays_the_same_probe(rig, told):
    class Auth:
        async def headers(self):
            return {"authorization": "x"}

        async def refused(self, _used):
            told.open_at_check = told.open_at_enter = True  # as it is for everybody else
            return True

    told.probe = PROBE
    made = rig([401, 200], breaker=told, auth=Auth())
    assert (await read(made)).status == 200
    assert told.heard == [("answered", PROBE)]


async def test_our_own_cancellation_says_nothing_and_frees_the_probe(rig, told):
    told.probe = PROBE
    under_way = asyncio.Event()

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            under_way.set()
            await asyncio.Event().wait()

    made = rig([], breaker=told, transport=Silent)
    asking = asyncio.create_task(read(made))
    await under_way.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert told.heard == [("unused", PROBE)]


async def test_a_cancellation_between_two_attempts_says_nothing_either(rig, told):
    made = rig([503], breaker=told)

    async def cancel(_seconds):
        raise asyncio.CancelledError

    made.clock.sleep = cancel
    with pytest.raises(asyncio.CancelledError):
        await read(made)
    assert told.heard == [("unused", None)]


async def test_a_budget_that_allows_no_request_says_nothing_about_the_system(rig, told):
    made = rig([], breaker=told)

    @contextlib.asynccontextmanager
    async def none_left(_key, _policy):
        raise ThrottledError("the budget allows no request now", retry_after=5)
        yield

    made.limits.request = none_left
    with pytest.raises(ThrottledError):
        await read(made)
    assert told.heard == [("unused", None)]


async def test_the_failure_of_another_system_that_an_upload_comes_from_is_not_this_ones(rig, told):
    async def source():
        yield b"begun"
        raise UnreachableError("the other system is away")

    made = rig([200], breaker=told)
    with pytest.raises(IpaasError):
        await made.client.send("PUT", "file", kind="write", content=source())
    assert told.heard == [("unused", None)]


@pytest.mark.parametrize(
    ("error", "heard"),
    [(UnreachableError("no sign-in"), "failed"), (CredentialsError("refused"), "unused")],
)
async def test_a_sign_in_that_cannot_be_reached_counts_as_the_system_and_a_refused_one_does_not(
    rig, told, error, heard
):
    class Auth:
        async def headers(self):
            raise error

    made = rig([], breaker=told, auth=Auth())
    with pytest.raises(type(error)):
        await read(made)
    assert told.heard == [(heard, None)]


async def test_a_download_tells_of_its_answer_at_once_and_of_its_breaking_off_as_well(rig, told):
    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self):
            yield b"begun"
            raise httpx.ReadError("gone")

    told.probe = PROBE
    made = rig([httpx.Response(200, stream=Broken())], breaker=told)
    pieces = made.client.stream("file")
    assert await anext(pieces) == b"begun"
    assert told.heard == [("answered", PROBE)]
    with pytest.raises(SystemBusyError):
        await anext(pieces)
    assert told.heard == [("answered", PROBE), ("failed", None)]
    assert told.leases[0] < 120


async def test_a_download_that_nobody_reads_to_its_end_is_no_failure(rig, told):
    made = rig([httpx.Response(200, content=b"x" * (3 << 20))], breaker=told)
    pieces = made.client.stream("file")
    await anext(pieces)
    await pieces.aclose()
    assert told.heard == [("answered", None), ("unused", None)]
