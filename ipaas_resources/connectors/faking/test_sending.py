"""The mailroom of a fake: when it sends, again or not, twice or never, and what the ledger says of it."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from ipaas_resources.connectors.fakes import FakeApp, json_reply, serve
from ipaas_resources.connectors.faking.ledger import Ledger
from ipaas_resources.connectors.faking.posting import Poster
from ipaas_resources.connectors.faking.sending import (
    MOST_AT_ONCE,
    Mailroom,
    Mischief,
    Parcel,
    may_send_to,
    shown,
)
from ipaas_resources.core.clock import ManualClock, SeededIds, SystemClock

URL = "http://127.0.0.1:1/hooks/lab-1/the-key?code=secret"


class Receiver:
    """Answers with the statuses in turn, the last one for ever; 0 answers nothing."""

    def __init__(self, *statuses):
        self.statuses = list(statuses or (202,))
        self.got = []

    def transport(self):
        return httpx.MockTransport(self.answer)

    async def answer(self, request):
        self.got.append(request)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if not status:
            raise httpx.ReadTimeout("nothing", request=request)
        return httpx.Response(status)


class Post:
    """A mailroom, its clock, its ledger and the receiver at the other end."""

    def __init__(self, *statuses, seed=0):
        self.clock = ManualClock()
        self.ledger = Ledger()
        self.receiver = Receiver(*statuses)
        self.room = Mailroom(self.clock, SeededIds(seed), self.ledger, transport=self.receiver.transport)

    def parcel(self, name="clients 1", *, heard=lambda _attempt, _status: None):
        return Parcel(
            url=URL,
            about=(name,),
            pack=lambda attempt: ({"x-name": name}, b"%d" % attempt),
            heard=heard,
            changed=self.clock.monotonic(),
        )

    def bodies(self):
        return [request.content for request in self.receiver.got]

    def names(self):
        return [request.headers["x-name"] for request in self.receiver.got]


async def test_a_parcel_leaves_when_it_is_due_and_not_before():
    post = Post()
    post.room.post(post.parcel(), delay=30)
    post.clock.advance(29.9)
    assert await post.room.send_due() == 0
    post.clock.advance(0.1)
    assert await post.room.send_due() == 1
    assert (post.bodies(), post.room.waiting()) == ([b"1"], 0)


async def test_the_product_says_after_each_answer_when_the_next_attempt_is():
    post = Post(503, 0, 200)
    heard = []

    def again(attempt, status):
        heard.append((attempt, status))
        return None if status == 200 else 60.0 * attempt

    post.room.post(post.parcel(heard=again))
    for wait in (0, 60, 120, 1000):
        post.clock.advance(wait)
        await post.room.send_due()
    assert heard == [(1, 503), (2, 0), (3, 200)]
    assert post.bodies() == [b"1", b"2", b"3"]
    assert [(one.attempt, one.status) for one in post.ledger.deliveries] == heard
    assert {name: n for name, n in post.ledger.counts.items() if n} == {
        "deliveries": 3,
        "delivery:503": 1,
        "delivery:0": 1,
        "delivery:200": 1,
    }


async def test_the_ledger_knows_when_a_change_was_made_and_hides_what_is_secret_in_the_url():
    post = Post()
    post.clock.advance(5)
    post.room.post(post.parcel(), delay=2)
    post.clock.advance(2)
    await post.room.send_due()
    (entry,) = post.ledger.deliveries
    assert (entry.changed, entry.at, entry.about) == (5, 7, ("clients 1",))
    assert entry.url == "http://127.0.0.1:1/hooks/lab-1"


async def test_some_are_sent_twice_some_never_and_all_in_another_order():
    post = Post(seed=7)
    post.room.mischief = Mischief(duplicate=0.3, shuffle=10, drop=0.2)
    names = [f"clients {number}" for number in range(200)]
    for name in names:
        post.room.post(post.parcel(name))
    for _ in range(100):
        post.clock.advance(0.1)
        await post.room.send_due()
    got = post.names()
    dropped = {one.about[0] for one in post.ledger.deliveries if one.fate == "dropped"}
    copies = [one.about[0] for one in post.ledger.deliveries if one.copy]
    assert set(got) == set(names) - dropped
    assert 20 < len(dropped) < 60
    assert 30 < len(copies) < 80
    assert sorted(got) == sorted([*set(got), *copies])
    first = list(dict.fromkeys(got))
    assert first != [name for name in names if name in set(first)]
    assert post.room.waiting() == 0


async def test_what_has_nothing_to_tell_any_more_is_not_sent():
    post = Post()
    post.room.post(Parcel(url=URL, about=(), pack=lambda _: None, heard=lambda _a, _s: None, changed=0))
    assert await post.room.send_due() == 0
    assert (post.receiver.got, post.ledger.deliveries) == ([], [])


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://127.0.0.1:8000/hooks/a", True),
        ("http://localhost/hooks/a", True),
        ("https://[::1]:3/hooks/a", True),
        ("http://127.8.8.8/x", True),
        ("https://example.com/hooks/a", False),
        ("http://127.0.0.1.example.com/", False),
        ("http://user@127.0.0.1/", False),
        ("http://10.0.0.1/", False),
        ("ftp://127.0.0.1/", False),
        ("/hooks/a", False),
        ("", False),
    ],
)
def test_a_fake_sends_to_this_machine_alone(url, allowed):
    assert may_send_to(url) is allowed


def test_an_address_is_shown_without_key_query_and_person():
    assert shown("https://me:pw@h.test:1/hooks/a/KEY?validationToken=1") == "https://h.test:1/hooks/a"


class Slow(FakeApp):
    """Tells the URL of every POST that it got one, and answers at once."""

    async def handle(self, request):
        if request.path.startswith("/hooks/"):
            return json_reply({}, 202)
        self.mailroom.post(
            Parcel(
                url=request.json()["url"],
                about=("things 1",),
                pack=lambda _: ({}, b"{}"),
                heard=lambda _a, _s: None,
                changed=self.clock.monotonic(),
            )
        )
        return json_reply({})


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the server is another thread
            await asyncio.sleep(0.01)


async def test_a_served_fake_sends_over_real_http_and_a_silent_receiver_does_not_hold_up_its_answers():
    held = asyncio.Event()

    async def silent(_reader, writer):
        await held.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender, receiver = Slow(clock=SystemClock()), Slow(clock=SystemClock())
    with serve(sender) as here, serve(receiver) as there:
        async with httpx.AsyncClient(timeout=10) as http:
            silent_ones = [f"http://127.0.0.1:{port}/hooks/x"] * (MOST_AT_ONCE + 1)
            for url in (*silent_ones, f"{there}/hooks/y"):
                assert (await http.post(here, json={"url": url})).status_code == 200
            await until(lambda: receiver.ledger.requests("POST", "/hooks/y"))
            await until(lambda: sender.ledger.deliveries)
            listed = (await http.get(f"{here}/_sim/deliveries")).json()["entries"]
            assert [(one["status"], one["about"]) for one in listed] == [(202, ["things 1"])]
            bent = await http.post(f"{here}/_sim/mischief", json={"drop": 1})
            assert bent.json() == {"duplicate": 0.0, "shuffle": 0.0, "drop": 1.0}
            await http.post(here, json={"url": f"{there}/hooks/y"})
            await until(lambda: len(sender.ledger.deliveries) == 2)
            assert sender.ledger.deliveries[1].fate == "dropped"
            wrong = await http.post(f"{here}/_sim/mischief", json={"lose": 1})
            assert wrong.status_code == 400
    held.set()
    server.close()
    with contextlib.suppress(ConnectionError):
        await server.wait_closed()
    assert len(receiver.ledger.requests("POST", "/hooks/y")) == 1


OK = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


class Line:
    """A server of scripted bytes: one list of answers per connection, the connection ends behind the last one."""

    def __init__(self, *connections):
        self.scripts = list(connections)
        self.got = []
        self.ended = asyncio.Event()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/hooks/a?code=1"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()

    async def _serve(self, reader, writer):
        number, answers = len(self.scripts), self.scripts.pop(0)
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            self.got.append((number, head, await reader.readexactly(length)))
            writer.write(answer)
            await writer.drain()
        writer.close()
        self.ended.set()


class TestPosting:
    async def test_one_connection_carries_many_requests(self):
        body = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        async with Line([OK, body, b"HTTP/1.1 204 No Content\r\n\r\n", OK]) as line:
            poster = Poster()
            statuses = [await poster.post(line.url, {"x-a": "1"}, b"%d" % n) for n in range(4)]
            await poster.close()
        assert statuses == [202, 200, 204, 202]
        assert [sent for _, _, sent in line.got] == [b"0", b"1", b"2", b"3"]
        assert line.got[0][1].startswith(b"POST /hooks/a?code=1 HTTP/1.1\r\nhost: 127.0.0.1:")
        assert b"x-a: 1\r\n" in line.got[0][1]

    @pytest.mark.parametrize(
        "first",
        [
            b"HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.0 202 Accepted\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 202 Accepted\r\n\r\nuntil the end",
            b"HTTP/1.1 202 Accepted\r\ncontent-length: 70000\r\n\r\n" + b"x" * 70_000,
        ],
        ids=["close", "http 1.0", "chunked", "no length", "long"],
    )
    async def test_a_connection_that_cannot_be_used_again_is_not(self, first):
        async with Line([first], [OK]) as line:
            poster = Poster()
            assert [await poster.post(line.url, {}, b"a") for _ in range(2)] == [202, 202]
            await poster.close()
        assert [number for number, _, _ in line.got] == [2, 1]

    async def test_one_that_the_receiver_closed_while_idle_is_replaced(self):
        async with Line([OK], [OK]) as line:
            poster = Poster()
            assert await poster.post(line.url, {}, b"a") == 202
            await line.ended.wait()
            assert await poster.post(line.url, {}, b"b") == 202
            await poster.close()
        assert [sent for _, _, sent in line.got] == [b"a", b"b"]

    async def test_interim_answers_are_passed_over(self):
        async with Line([b"HTTP/1.1 100 Continue\r\n\r\n" + OK]) as line:
            poster = Poster()
            assert await poster.post(line.url, {}, b"a") == 202
            await poster.close()

    @pytest.mark.parametrize(
        "answer",
        [b"", b"HTTP/1.1 20", b"220 smtp\r\n\r\n", b"x" * 200_000, b"HTTP/1.1 abc\r\n\r\n"],
        ids=["nothing", "cut", "other protocol", "endless head", "no status"],
    )
    async def test_what_is_no_answer_counts_as_none_and_the_sending_goes_on(self, answer):
        async with Line([answer], [OK]) as line:
            ledger = Ledger()
            clock = ManualClock()
            room = Mailroom(clock, SeededIds(0), ledger)
            parcel = Parcel(
                url=line.url,
                about=("a",),
                pack=lambda _: ({}, b"a"),
                heard=lambda _attempt, status: None if status else 1.0,
                changed=0,
            )
            room.post(parcel)
            await room.send_due()
            clock.advance(1)
            await room.send_due()
        assert [one.status for one in ledger.deliveries] == [0, 202]

    async def test_nobody_listening_counts_as_no_answer(self):
        async with Line() as line:
            url = line.url
        ledger = Ledger()
        room = Mailroom(ManualClock(), SeededIds(0), ledger)
        room.post(Parcel(url=url, about=(), pack=lambda _: ({}, b""), heard=lambda _a, _s: None, changed=0))
        await room.send_due()
        assert [one.status for one in ledger.deliveries] == [0]

    async def test_a_header_with_a_line_break_is_a_defect_of_the_fake(self):
        async with Line([OK]) as line:
            poster = Poster()
            with pytest.raises(ValueError, match="line break"):
                await poster.post(line.url, {"x-a": "1\r\nx-b: 2"}, b"a")
            await poster.close()
