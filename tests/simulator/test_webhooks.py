"""The running simulator as a sender of webhooks: hooks at the lab's screen, subscriptions dropped, deliveries bent."""

from __future__ import annotations

import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from ruamel.yaml import YAML

from ipaas_resources.connectors.calibration import webhook
from ipaas_resources.core.clock import SystemClock
from simulator.client import ControlError
from simulator.systems import BC_CLIENT, TENANT

from .test_server import http, secret, sign_in

__all__ = ["http"]  # the fixture
PATIENCE = 20


class Receiver:
    """Takes deliveries on loopback, in a thread; says every validation token back."""

    def __init__(self):
        self.got = queue.Queue()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                token = parse_qs(urlsplit(self.path).query).get("validationToken", [""])[0].encode()
                if not token:
                    outer.got.put((dict(self.headers.items()), body))
                self.send_response(200)
                self.send_header("content-length", str(len(token)))
                self.end_headers()
                self.wfile.write(token)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/s-1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def next(self):
        return self.got.get(timeout=PATIENCE)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def hook(client, receiver):
    number = client.add_hook(receiver.url, client.webhook_secret("cal"), ["clients"])
    yield number
    client.remove_hook(number)


def until_delivered(client, system, count, since):
    """The attempts since then, once there are so many: the receiver hears of one before the ledger does."""
    found, end = [], time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = client.deliveries(system, since)
        if len(found) >= count:
            return found
    raise AssertionError(f"{len(found)} of {count} deliveries are in the ledger")


def newest(client, system):
    return max((one["number"] for one in client.deliveries(system)), default=0)


def test_the_system_documents_refer_to_a_webhook_secret_each(running):
    for system in ("bc", "crm", "cal"):
        document = YAML(typ="safe").load(Path(running.ready.systems) / f"{system}.yaml")
        assert document["secrets"]["webhook"] == running.ready.secrets[f"{system}_webhook_secret"]
        assert len(secret(running, f"{system}_webhook_secret")) >= 32
    assert len({secret(running, f"{system}_webhook_secret") for system in ("bc", "crm", "cal")}) == 3


def test_a_change_at_the_lab_is_told_at_once_signed_and_by_id_alone(client, receiver, hook):
    since = newest(client, "cal")
    made = client.add("cal", "clients", {"CompanyName": "Told of"})
    headers, body = receiver.next()
    now = SystemClock().now().timestamp()
    assert webhook.verify(headers, body, [client.webhook_secret("cal")], now) == [("clients", made)]
    assert b"Told of" not in body
    (entry,) = until_delivered(client, "cal", 1, since)
    assert (entry["status"], entry["about"], entry["attempt"]) == (200, [f"clients {made}"], 1)
    assert entry["changed"] <= entry["at"] <= entry["answered"]
    client.remove("cal", "clients", made)
    assert json.loads(receiver.next()[1])["event"] == "client.deleted"


def test_deliveries_are_lost_or_doubled_on_demand(client, receiver, hook):
    since = newest(client, "cal")
    try:
        client.mischief("cal", drop=1)
        lost = client.add("cal", "clients", {"CompanyName": "Lost"})
        client.mischief("cal", duplicate=1)
        twice = client.add("cal", "clients", {"CompanyName": "Twice"})
        bodies = [receiver.next()[1] for _ in range(2)]
        assert bodies[0] == bodies[1]
        assert json.loads(bodies[0])["data"] == {"CompanyId": int(twice)}
        entries = until_delivered(client, "cal", 3, since)
        assert [(one["about"], one["fate"]) for one in entries[:1]] == [([f"clients {lost}"], "dropped")]
        assert sorted(one["copy"] for one in entries[1:]) == [False, True]
    finally:
        client.mischief("cal")
    assert receiver.got.empty()
    for identifier in (lost, twice):
        client.remove("cal", "clients", identifier)


def test_business_central_shakes_hands_tells_and_can_be_made_to_forget(client, running, http, receiver):
    token = sign_in(http, running, BC_CLIENT, secret(running, "bc_client_secret")).json()["access_token"]
    http.headers["authorization"] = f"Bearer {token}"
    route = f"{running.ready.urls.bc}/v2.0/{TENANT}/Production/api/v2.0"
    companies = {one["name"]: one["id"] for one in http.get(f"{route}/companies").json()["value"]}
    company = companies[running.ready.scopes["bulk"]]
    answer = http.post(
        f"{route}/subscriptions",
        json={"notificationUrl": receiver.url, "resource": f"/api/v2.0/companies({company})/customers"},
    )
    assert answer.status_code == 201, answer.text
    client.set_notification_delay("bc", 0.05)
    try:
        made = client.add("bc", "customers", {"displayName": "Told of"}, "bulk")
        (item,) = json.loads(receiver.next()[1])["value"]
        assert (item["changeType"], made in item["resource"]) == ("created", True)
    finally:
        client.set_notification_delay("bc", 30)
    (listed,) = client.subscriptions("bc")
    assert listed["id"] == answer.json()["subscriptionId"]
    client.drop_subscription("bc", listed["id"])
    assert client.subscriptions("bc") == []
    client.remove("bc", "customers", made, "bulk")
    with pytest.raises(ControlError, match="404"):
        client.drop_subscription("bc", listed["id"])


def test_dataverse_lists_nothing_before_somebody_registers(client):
    assert client.subscriptions("crm") == []
    client.set_notification_delay("crm", 1)


def test_nobody_beyond_this_machine_is_told(client):
    with pytest.raises(ControlError, match="this machine"):
        client.add_hook("https://example.com/hooks/a", "secret")


def test_a_control_that_a_product_does_not_have_is_not_there(client):
    with pytest.raises((ControlError, httpx.HTTPError), match="404"):
        client._call("login", "GET", "hooks")
