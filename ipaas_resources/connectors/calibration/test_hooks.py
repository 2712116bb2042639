"""The product tells of every change: which event, signed how, sent again when, and what its screen takes."""

from __future__ import annotations

import json

import httpx
import pytest

from ipaas_resources.connectors.calibration import webhook
from ipaas_resources.connectors.calibration.fake_hooks import RETRIES
from ipaas_resources.connectors.calibration.tests import CalibrationFake
from ipaas_resources.core.clock import ManualClock

URL = "http://127.0.0.1:9/hooks/lab-1"
LABSYNC = "lab-secret-1"
STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TOKEN = {"authorization": "Api-Token demo-token"}


class Lab:
    """The fake with one receiver that notes what it got."""

    def __init__(self):
        self.clock = ManualClock()
        self.fake = CalibrationFake(clock=self.clock)
        self.status = 202
        self.got = []
        self.fake.mailroom.transport = lambda: httpx.MockTransport(self._take)

    async def _take(self, request):
        self.got.append(request)
        return httpx.Response(self.status)

    async def sent(self):
        """What was sent since the last look: (event, data)."""
        await self.fake.mailroom.send_due()
        got, self.got = self.got, []
        return sorted((event["event"], event["data"]) for event in (json.loads(one.content) for one in got))

    def api(self):
        return httpx.AsyncClient(transport=self.fake.transport(), base_url="https://lab.test", headers=TOKEN)


@pytest.fixture
def lab():
    return Lab()


@pytest.mark.parametrize("secret", [LABSYNC, STANDARD], ids=["labsync", "standard"])
async def test_a_delivery_proves_itself_in_the_form_of_its_secret(lab, secret):
    lab.fake.hooks.add(URL, secret)
    client = lab.fake.sim_add("clients", "", {"CompanyName": "Adatum"})
    await lab.fake.mailroom.send_due()
    (request,) = lab.got
    now = lab.clock.now().timestamp()
    assert webhook.verify(request.headers, request.content, [secret], now) == [("clients", client)]
    assert ("webhook-signature" in request.headers) == (secret == STANDARD)
    assert b"Adatum" not in request.content


async def test_every_change_is_told_whoever_makes_it(lab):
    lab.fake.hooks.add(URL, LABSYNC)
    client = int(lab.fake.sim_add("clients", "", {"CompanyName": "Adatum"}))
    assert await lab.sent() == [("client.created", {"CompanyId": client})]
    lab.fake.sim_change("clients", "", str(client), {"CompanyName": "Adatum AG"})
    assert await lab.sent() == [("client.updated", {"CompanyId": client})]
    async with lab.api() as http:
        # Our own writes come back to us: the product does not know who "we" are.
        made = (await http.post("/api/service/clients", json={"CompanyName": "Fabrikam"})).json()["Id"]
    assert await lab.sent() == [("client.created", {"CompanyId": made})]
    lab.fake.sim_remove("clients", "", str(client))
    assert await lab.sent() == [("client.deleted", {"CompanyId": client})]


async def test_an_item_tells_of_itself_and_of_its_order_and_a_certificate_of_its_order(lab):
    order = int(lab.fake.sim_add("work_orders", "", {}))
    lab.fake.hooks.add(URL, LABSYNC)
    item = lab.fake.store.add("work_items", {"ServiceOrderId": order})
    assert await lab.sent() == [
        ("job.updated", {"ServiceOrderId": order}),
        ("job_item.created", {"WorkItemId": item}),
    ]
    lab.fake.store.add_document(b"%PDF", name="c.pdf", order=order)
    assert await lab.sent() == [("certificate.issued", {"ServiceOrderId": order})]


async def test_a_hook_may_be_for_some_entities_and_what_no_event_tells_is_not_told(lab):
    lab.fake.hooks.add(URL, LABSYNC, frozenset({"work_orders"}))
    lab.fake.sim_add("clients", "", {"CompanyName": "Adatum"})
    lab.fake.sim_add("forecasts", "", {})
    order = int(lab.fake.sim_add("work_orders", "", {}))
    assert await lab.sent() == [("job.created", {"ServiceOrderId": order})]


async def test_what_is_not_taken_is_sent_six_times_more_and_signed_anew_each_time(lab):
    lab.fake.hooks.add(URL, LABSYNC)
    lab.status = 503
    lab.fake.sim_add("clients", "", {"CompanyName": "Adatum"})
    await lab.fake.mailroom.send_due()
    for wait in RETRIES:
        lab.clock.advance(wait - 1)
        assert await lab.fake.mailroom.send_due() == 0
        lab.clock.advance(1)
        assert await lab.fake.mailroom.send_due() == 1
        # Fresh by its own time, though the change is a day old.
        webhook.verify(lab.got[-1].headers, lab.got[-1].content, [LABSYNC], lab.clock.now().timestamp())
    assert len({one.content for one in lab.got}) == 1, "the same event, with the same id and time"
    assert len({one.headers["x-labsync-signature"] for one in lab.got}) == 7
    assert lab.fake.mailroom.waiting() == 0


async def test_one_that_is_taken_late_is_not_sent_again(lab):
    lab.fake.hooks.add(URL, LABSYNC)
    lab.status = 500
    lab.fake.sim_add("clients", "", {"CompanyName": "Adatum"})
    await lab.fake.mailroom.send_due()
    lab.status = 200
    lab.clock.advance(30)
    await lab.fake.mailroom.send_due()
    assert [one.status for one in lab.fake.ledger.deliveries] == [500, 200]
    assert lab.fake.mailroom.waiting() == 0


async def test_events_of_a_later_life_of_the_product_do_not_look_like_repeats(lab):
    ids = set()
    for _ in range(2):
        fake = CalibrationFake(clock=lab.clock)
        fake.mailroom.transport = lambda: httpx.MockTransport(lab._take)
        fake.hooks.add(URL, LABSYNC)
        fake.sim_add("clients", "", {"CompanyName": "Adatum"})
        await fake.mailroom.send_due()
        ids.add(json.loads(lab.got[-1].content)["id"])
        lab.clock.advance(0.5)
    assert len(ids) == 2


async def test_the_screen_takes_hooks_shows_no_secret_and_forgets_them(lab):
    async with lab.api() as http:
        made = await http.post("/_sim/hooks", json={"url": f"{URL}?a=KEY", "secret": LABSYNC})
        assert made.json() == {"hook": 1}
        shown = (await http.get("/_sim/hooks")).text
        assert json.loads(shown) == {"hooks": [{"hook": 1, "url": URL, "entities": []}]}
        # What is under way when the hook goes is not sent either.
        lab.fake.sim_add("clients", "", {"CompanyName": "Adatum"})
        assert (await http.delete("/_sim/hooks?hook=1")).status_code == 200
        assert await lab.sent() == []
        assert (await http.delete("/_sim/hooks?hook=1")).status_code == 404
        for wrong in (
            {"url": "https://example.com/hooks/a", "secret": LABSYNC},
            {"url": URL, "secret": ""},
            {"url": URL, "secret": LABSYNC, "entities": ["forecasts"]},
            {"url": URL},
        ):
            assert (await http.post("/_sim/hooks", json=wrong)).status_code == 400
        assert (await http.get("/_sim/hooks")).json() == {"hooks": []}
