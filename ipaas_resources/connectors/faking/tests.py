"""The fake machinery is the judge of everything else, so it is judged first."""

from __future__ import annotations

import json
import time
from decimal import Decimal

import httpx
import pytest

from ipaas_resources.connectors.fakes import (
    FakeApp,
    Fault,
    Recent,
    Reply,
    Request,
    Tokens,
    dumps,
    file_chunks,
    file_digest,
    json_reply,
    loads,
    serve,
)
from ipaas_resources.core.clock import ManualClock
from ipaas_resources.core.limits import LimitPolicy

PAGE = dumps({"value": [{"id": str(n), "name": "x" * 200} for n in range(1000)]})


class Shop(FakeApp):
    """Notes can be added, uploaded and listed."""

    def __init__(self, clock=None):
        super().__init__(clock=clock)
        self.notes = {}
        self.uploads = []

    async def handle(self, request: Request) -> Reply:
        if request.path == "/page":
            return json_reply(PAGE)
        if request.path == "/file":
            return Reply(200, file_chunks("a", 3_000_000), size=3_000_000)
        if request.path == "/upload":
            self.uploads.append(await request.digest())
            return Reply(204)
        if request.method == "POST":
            return self.add(request)
        return json_reply({"notes": list(self.notes.values()), "query": request.query})

    def add(self, request):
        for note in request.json():
            self.notes[note["id"]] = note
            request.effect("create", "notes", note["id"], note)
        return json_reply({"added": len(self.notes)}, 201)

    def streams(self, request: Request) -> bool:
        return request.path == "/upload"

    def sim_records(self, entity, scope):
        return list(self.notes.values())

    def sim_add(self, entity, scope, fields):
        self.notes[fields["id"]] = fields
        return fields["id"]

    def sim_change(self, entity, scope, identifier, fields):
        self.notes[identifier] = self.notes[identifier] | fields

    def sim_remove(self, entity, scope, identifier):
        del self.notes[identifier]


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def shop(clock):
    return Shop(clock)


@pytest.fixture
async def client(shop):
    async with httpx.AsyncClient(transport=shop.transport(), base_url="http://shop.example") as client:
        yield client


ONE = [{"id": "1", "name": "n"}]


async def test_effects_enter_the_ledger_with_their_request(shop, client):
    trace = "0af7651916cd43dd8448eb211c80319c"
    await client.post("/notes?a=b", json=ONE, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    entry = shop.ledger.entries[0]
    assert (entry.method, entry.path, entry.query, entry.status) == ("POST", "/notes", "a=b", 201)
    assert entry.trace_id == trace
    assert [(e.kind, e.entity, e.id) for e in shop.ledger.writes("notes")] == [("create", "notes", "1")]
    assert shop.ledger.counts["effect:create"] == 1


async def test_a_fault_strikes_after_skip_and_only_as_often_as_told(shop, client):
    shop.fail(Fault(status=503, method="GET", path=r"^/notes\?q=1", skip=1, times=2))
    statuses = [(await client.get("/notes?q=1")).status_code for _ in range(4)]
    assert statuses == [200, 503, 503, 200]
    assert (await client.get("/notes?q=2")).status_code == 200


async def test_a_reset_after_handling_keeps_the_effect_and_tells_nobody(shop, client):
    shop.fail(Fault(drop=True, after=True))
    with pytest.raises(httpx.ReadError):
        await client.post("/notes", json=ONE)
    assert "1" in shop.notes
    assert (shop.ledger.entries[0].status, len(shop.ledger.entries[0].effects)) == (0, 1)


async def test_a_reset_before_handling_leaves_no_effect(shop, client):
    shop.fail(Fault(drop=True))
    with pytest.raises(httpx.ReadError):
        await client.post("/notes", json=ONE)
    assert not shop.notes
    assert not shop.ledger.writes()


async def test_a_refused_connection_never_reaches_the_ledger(shop, client):
    shop.fail(Fault(refuse=True))
    with pytest.raises(httpx.ConnectError):
        await client.get("/notes")
    assert not shop.ledger.entries
    assert shop.ledger.counts["refused_connections"] == 1


async def test_silence_lasts_as_long_as_the_callers_read_timeout(shop, client, clock):
    shop.fail(Fault(hang=True))
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/notes", timeout=30)
    assert clock.monotonic() == 30


async def test_a_request_can_apply_long_after_its_caller_gave_up(shop, client, clock):
    shop.fail(Fault(hang=True, late=60))
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/notes", json=ONE, timeout=30)
    clock.advance(29)
    assert (await client.get("/notes")).json()["notes"] == []
    clock.advance(2)
    assert (await client.get("/notes")).json()["notes"] == ONE
    assert len(shop.ledger.entries[0].effects) == 1
    assert shop.ledger.counts["effect:create"] == 1


async def test_a_delay_beyond_the_timeout_still_applies(shop, client, clock):
    shop.fail(Fault(delay=45))
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/notes", json=ONE, timeout=30)
    assert not shop.notes
    clock.advance(15)
    await shop.settle()
    assert "1" in shop.notes


async def test_a_torn_answer_is_a_protocol_error_not_a_short_body(shop, client):
    shop.fail(Fault(tear=True), Fault(tear=True, path="/file"))
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/page")
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/file")


async def test_an_answer_can_be_edited(shop, client):
    shop.fail(Fault(change=lambda reply: json_reply(reply.json() | {"next": "http://evil.example/"})))
    assert (await client.get("/notes")).json()["next"] == "http://evil.example/"


async def test_an_upload_is_hashed_and_not_held_and_can_be_cut(shop, client):
    size = 5_000_001
    await client.post("/upload", content=file_chunks("seed", size))
    assert shop.uploads == [(size, await file_digest("seed", size))]
    shop.fail(Fault(cut=1_500_000))
    with pytest.raises(httpx.ReadError):
        await client.post("/upload", content=file_chunks("seed", size))
    assert shop.ledger.entries[-1].received == 1_500_000


async def test_a_made_up_file_can_be_opened_anywhere():
    whole = b"".join([c async for c in file_chunks("s", 300_000)])
    rest = b"".join([c async for c in file_chunks("s", 300_000, start=123_457, chunk=70_000)])
    assert rest == whole[123_457:]


async def test_limits_answer_with_the_wait_until_the_window_has_room(shop, client, clock):
    shop.limits, shop.limits_on = LimitPolicy(requests=2, window=10, concurrency=5), True
    await client.get("/notes")
    clock.advance(4)
    await client.get("/notes")
    refused = await client.get("/notes")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "6")
    assert shop.ledger.entries[-1].retry_after == 6
    clock.advance(6)
    assert (await client.get("/notes")).status_code == 200


@pytest.mark.parametrize("wait", ["17", "Thu, 01 Jan 2026 00:00:17 GMT"])
async def test_the_ledger_knows_how_long_a_caller_was_asked_to_wait(shop, client, wait):
    shop.fail(Fault(status=429, headers={"retry-after": wait}))
    assert (await client.get("/notes")).status_code == 429
    assert shop.ledger.entries[-1].retry_after == 17


async def test_a_created_record_is_hidden_from_queries_for_the_search_lag(shop, clock):
    shop.search_lag = 5
    recent = Recent(shop)
    recent.note("1")
    clock.advance(4.9)
    assert recent.hidden() == {"1"}
    clock.advance(0.1)
    assert recent.hidden() == frozenset()


async def test_a_token_is_valid_until_it_expires(clock):
    tokens = Tokens(clock)
    token = tokens.issue(10)
    assert tokens.valid(f"Bearer {token}")
    clock.advance(10)
    assert not tokens.valid(f"Bearer {token}")


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "😀", "مرحبا", "\ue000", '"\\/\n'])
def test_any_text_survives_the_wire(text):
    assert loads(dumps({"t": [text, Decimal("12345678901234567.89")]})) == {
        "t": [text, Decimal("12345678901234567.89")]
    }
    assert json.loads(dumps(text)) == text


async def test_another_process_can_steer_and_read_the_fake(shop, client):
    assert (await client.post("/_sim/faults", json={"status": 500, "path": "/notes"})).json() == {"faults": 1}
    assert (await client.get("/notes")).status_code == 500
    await client.post("/notes", content=dumps([{"id": "\ud800", "d": Decimal("1.5")}]))
    answer = loads((await client.get("/_sim/ledger?since=1")).content)
    assert answer["entries"][0]["effects"][0]["fields"] == {"id": "\ud800", "d": Decimal("1.5")}
    assert answer["next"] == 2
    assert (await client.get("/_sim/counts")).json()["requests"] == 2
    await client.post("/_sim/settings", json={"latency": 0.5})
    assert shop.latency == 0.5
    assert (await client.post("/_sim/settings", json={"speed": 1})).status_code == 400
    assert (await client.post("/_sim/faults", json={"stauts": 1})).status_code == 400
    await client.post("/_sim/reset")
    assert not shop.ledger.entries


async def test_records_are_changed_by_hand_outside_the_ledger(shop, client):
    assert (await client.post("/_sim/records/notes", json={"id": "7"})).json() == {"id": "7"}
    await client.patch("/_sim/records/notes?id=7", json={"name": "n"})
    assert (await client.get("/_sim/records/notes")).json() == {"records": [{"id": "7", "name": "n"}]}
    assert (await client.delete("/_sim/records/notes?id=7")).status_code == 200
    assert (await client.delete("/_sim/records/notes?id=7")).status_code == 404
    assert not shop.ledger.entries


def test_the_same_faults_happen_over_real_http():
    shop = Shop()
    with serve(shop) as url, httpx.Client(base_url=url, timeout=5) as client:
        assert client.get("/notes?a=%20b").json()["query"] == {"a": " b"}
        shop.fail(Fault(drop=True, after=True))
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            client.post("/notes", json=ONE)
        assert client.get("/notes").json()["notes"] == ONE
        shop.fail(Fault(tear=True))
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            client.get("/page")
        shop.fail(Fault(hang=True))
        with pytest.raises(httpx.ReadTimeout):
            client.get("/notes", timeout=0.2)
        shop.fail(Fault(cut=100_000))
        with pytest.raises((httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)):
            client.post("/upload", content=iter([b"x" * 65_536] * 100))
        assert len(client.get("/file").content) == 3_000_000


async def test_a_page_and_a_batch_of_1000_are_quick(shop, client):
    batch = dumps([{"id": str(n), "name": "x" * 100} for n in range(1000)])

    async def best(call):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            await call()
            times.append(time.perf_counter() - start)
        return min(times)

    assert await best(lambda: client.get("/page")) < 0.005
    assert await best(lambda: client.post("/notes", content=batch)) < 0.02
