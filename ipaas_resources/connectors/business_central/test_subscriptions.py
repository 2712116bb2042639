"""Subscriptions at the fake: who may subscribe, what is told when, and what each answer of the receiver does (1.9)."""

from __future__ import annotations

import datetime as dt
import json

import httpx
import pytest

from ipaas_resources.connectors.business_central.fake_notices import MOST_ITEMS
from ipaas_resources.connectors.business_central.fake_subscriptions import MOST, RETRIES
from ipaas_resources.connectors.business_central.tests import BUYER, DE, ITEM, ROUTE, UK, Bench
from ipaas_resources.connectors.fakes import Fault
from ipaas_resources.connectors.subscribing import Wanted
from ipaas_resources.core.errors import ConfigurationError, RetryError

HOOK = "http://127.0.0.1:7/hooks"


class Told:
    """A bench whose product sends to us, by plain HTTP on its API."""

    def __init__(self):
        self.bench = Bench()
        self.fake = self.bench.fake
        self.fake.tokens = None
        self.clock = self.bench.clock
        self.http = httpx.AsyncClient(transport=self.fake.transport(), base_url=ROUTE)
        self.status = 202
        self.token = None  # what a handshake is answered with; None: what it asks for
        self.got = []
        self.shaken = []
        self.fake.mailroom.transport = lambda: httpx.MockTransport(self._hear)

    async def _hear(self, request):
        token = request.url.params.get("validationToken")
        if token is not None:
            self.shaken.append(request)
            return httpx.Response(200, text=token if self.token is None else self.token)
        self.got.append(request)
        if self.status == 0:
            raise httpx.ReadTimeout("nothing", request=request)
        return httpx.Response(self.status)

    def resource(self, name="customers", company=UK):
        return f"/api/v2.0/companies({self.fake.company(company).id})/{name}"

    async def subscribe(self, hook="bc-1", name="customers", company=UK, **more):
        return await self.http.post(
            "/subscriptions",
            json={
                "notificationUrl": f"{HOOK}/{hook}",
                "resource": self.resource(name, company),
                "clientState": f"state of {hook}",
                **more,
            },
        )

    async def subscribed(self, *args, **more):
        answer = await self.subscribe(*args, **more)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def ids(self):
        return [row["subscriptionId"] for row in (await self.http.get("/subscriptions")).json()["value"]]

    async def wait(self, seconds=30.0):
        """Let time pass and the product send what is due; the items that came."""
        self.clock.advance(seconds)
        await self.fake.mailroom.send_due()
        got, self.got = self.got, []
        return [item for request in got for item in json.loads(request.content)["value"]]

    def rename(self, name="Adatum AG", identifier=BUYER):
        self.fake.sim_change("customers", UK, identifier, {"displayName": name})


@pytest.fixture
async def told():
    told = Told()
    yield told
    await told.http.aclose()
    await told.bench.connector.close()


class TestSubscribing:
    async def test_the_receiver_is_asked_and_says_the_token_back(self, told):
        row = await told.subscribed()
        (asked,) = told.shaken
        assert asked.method == "POST"
        assert str(asked.url).startswith(f"{HOOK}/bc-1?validationToken=")
        assert row["clientState"] == "state of bc-1"
        assert row["expirationDateTime"] == "2026-01-04T00:00:00Z", "three days"
        assert await told.ids() == [row["subscriptionId"]]

    async def test_a_receiver_that_says_something_else_or_nothing_is_not_subscribed(self, told):
        for token in ("", "another", '"quoted"'):
            told.token = token
            assert (await told.subscribe()).status_code == 400
        told.fake.mailroom.transport = lambda: httpx.MockTransport(lambda _: httpx.Response(503))
        assert (await told.subscribe()).status_code == 400
        assert await told.ids() == []

    @pytest.mark.parametrize(
        "change",
        [
            {"notificationUrl": "https://example.com/hooks/x"},
            {"notificationUrl": None},
            {"resource": "/api/v2.0/customers"},
            {"resource": f"/api/v2.0/companies({'0' * 8}-0000-0000-0000-{'0' * 12})/customers"},
            {"clientState": "x" * 2049},
            {"colour": "red"},
        ],
        ids=str,
    )
    async def test_what_cannot_be_is_refused(self, told, change):
        assert (await told.subscribe(**change)).status_code == 400

    @pytest.mark.parametrize("name", ["salesOrderLines", "customerSales", "documentAttachments", "nosuch"])
    async def test_what_the_list_of_supported_resources_lacks_cannot_be_subscribed(self, told, name):
        base = ROUTE.removesuffix("/api/v2.0")
        company = told.fake.company(UK).id
        url = f"{base}/api/microsoft/runtime/beta/companies({company})/webhookSupportedResources"
        listed = (await told.http.get(url, params={"$filter": "resource eq 'v2.0*'"})).json()["value"]
        assert {"resource": "v2.0/customers"} in listed
        assert {"resource": f"v2.0/{name}"} not in listed
        assert (await told.subscribe(name=name)).status_code == 400

    async def test_two_hundred_and_no_more(self, told):
        for number in range(MOST):
            await told.subscribed(f"bc-{number}")
        assert (await told.subscribe("one-more")).status_code == 400
        connector = told.bench.connector
        with pytest.raises(ConfigurationError, match="at most 200"):
            await connector.subscribe(our_wish())
        assert len(await connector.list_subscriptions()) == MOST

    async def test_change_and_delete_need_the_version_and_a_change_asks_again(self, told):
        row = await told.subscribed()
        path = f"/subscriptions('{row['subscriptionId']}')"
        body = {"clientState": "another"}
        assert (await told.http.patch(path, json=body)).status_code == 400
        assert (await told.http.patch(path, json=body, headers={"if-match": 'W/"x"'})).status_code == 409
        told.clock.advance(86_400)
        renewed = await told.http.patch(path, json=body, headers={"if-match": row["@odata.etag"]})
        assert renewed.json()["expirationDateTime"] == "2026-01-05T00:00:00Z"
        assert renewed.json()["clientState"] == "another"
        assert len(told.shaken) == 2
        told.token = "no"
        refused = await told.http.patch(path, json=body, headers={"if-match": "*"})
        assert refused.status_code == 400
        assert (await told.http.delete(path)).status_code == 400
        assert (await told.http.delete(path, headers={"if-match": "*"})).status_code == 204
        assert (await told.http.delete(path, headers={"if-match": "*"})).status_code == 404

    async def test_after_three_days_it_is_gone_and_nobody_is_told(self, told):
        row = await told.subscribed()
        told.clock.advance(3 * 86_400)
        told.rename()
        assert await told.wait() == []
        path = f"/subscriptions('{row['subscriptionId']}')"
        assert (await told.http.patch(path, json={}, headers={"if-match": "*"})).status_code == 404
        assert await told.ids() == []


class TestTelling:
    async def test_a_change_is_told_half_a_minute_later_with_the_id_alone(self, told):
        row = await told.subscribed()
        told.rename()
        assert await told.wait(29) == []
        await told.fake.mailroom.send_due()
        told.clock.advance(1)
        await told.fake.mailroom.send_due()
        (request,) = told.got
        assert request.headers["content-type"] == "application/json"
        assert {"clientrequestid", "x-ms-correlation-id"} <= set(request.headers)
        (item,) = json.loads(request.content)["value"]
        assert item == {
            "subscriptionId": row["subscriptionId"],
            "clientState": "state of bc-1",
            "expirationDateTime": row["expirationDateTime"],
            "resource": f"{told.resource().removeprefix('/')}({BUYER})",
            "changeType": "updated",
            "lastModifiedDateTime": item["lastModifiedDateTime"],
        }
        assert b"Adatum" not in request.content
        own = told.bench.stored("customers", BUYER)["lastModifiedDateTime"]
        assert item["lastModifiedDateTime"] < own, "the time of queueing, not a cursor"

    async def test_changes_of_one_record_are_one_item_and_the_wait_counts_from_the_first(self, told):
        await told.subscribed()
        for name in ("A", "B", "C"):
            told.rename(name)
            told.clock.advance(9)
        (item,) = await told.wait(3)
        assert item["changeType"] == "updated"
        made = told.fake.sim_add("customers", UK, {"displayName": "New"})
        told.rename("Newer", made)
        gone = told.fake.sim_add("customers", UK, {"displayName": "Short"})
        told.fake.sim_remove("customers", UK, gone)
        items = await told.wait()
        assert [(item["changeType"], item["resource"][-37:-1]) for item in items] == [
            ("created", made),
            ("deleted", gone),
        ]

    async def test_other_companies_sets_and_a_write_of_ours(self, told):
        await told.subscribed()
        told.fake.sim_change("items", UK, ITEM, {"displayName": "Trike"})
        told.fake.sim_add("customers", DE, {"displayName": "Elsewhere"})
        assert await told.wait() == []
        made = await told.http.post(
            f"/companies({told.bench.company})/customers", json={"displayName": "By us"}
        )
        (item,) = await told.wait()
        assert item["changeType"] == "created"
        assert made.json()["id"] in item["resource"]

    async def test_a_line_tells_of_its_document(self, told):
        await told.subscribed(name="salesOrders")
        order = told.fake.seed(
            "sales_orders", UK, {"number": "SO9", "customerId": BUYER, "salesOrderLines": []}
        )
        await told.wait()
        told.fake.company(UK).lines_touch_header = False
        answer = await told.http.post(
            f"/companies({told.bench.company})/salesOrders({order})/salesOrderLines",
            json={"lineType": "Comment", "description": "found"},
        )
        assert answer.status_code == 201, answer.text
        (item,) = await told.wait()
        assert (item["changeType"], item["resource"][-37:-1]) == ("updated", order)

    async def test_what_a_snapshot_batch_takes_back_is_not_told(self, told):
        await told.subscribed()
        company = f"companies({told.bench.company})"
        requests = [
            {"id": "1", "method": "POST", "url": f"{company}/customers", "body": {"displayName": "A"}},
            {"id": "2", "method": "POST", "url": f"{company}/customers", "body": {"nosuch": 1}},
        ]
        for request in requests:
            request["headers"] = {"content-type": "application/json"}
        batch = await told.http.post(
            "/$batch", json={"requests": requests}, headers={"isolation": "snapshot"}
        )
        assert [part["status"] for part in batch.json()["responses"]] == [201, 400]
        assert await told.wait() == []
        # The same without the snapshot stays, and is told.
        await told.http.post("/$batch", json={"requests": requests})
        assert [item["changeType"] for item in await told.wait()] == ["created"]

    async def test_subscriptions_of_one_url_share_a_notification(self, told):
        rows = [await told.subscribed(name=name) for name in ("customers", "items")]
        await told.subscribed("bc-2")
        told.rename()
        told.fake.sim_change("items", UK, ITEM, {"displayName": "Trike"})
        told.clock.advance(30)
        await told.fake.mailroom.send_due()
        by_url = {str(each.url): json.loads(each.content)["value"] for each in told.got}
        assert {url.rpartition("/")[2]: len(items) for url, items in by_url.items()} == {"bc-1": 2, "bc-2": 1}
        assert {item["subscriptionId"] for item in by_url[f"{HOOK}/bc-1"]} == {
            row["subscriptionId"] for row in rows
        }

    async def test_too_many_records_become_one_collection_item_since_the_first_change(self, told):
        await told.subscribed()
        for number in range(MOST_ITEMS):
            told.fake.sim_add("customers", UK, {"displayName": f"N{number}"})
        assert len(await told.wait()) == MOST_ITEMS
        for number in range(MOST_ITEMS + 1):
            told.fake.sim_add("customers", UK, {"displayName": f"M{number}"})
        (item,) = await told.wait()
        assert item["changeType"] == "collection"
        path, _, since = item["resource"].partition("?$filter=lastModifiedDateTime%20gt%20")
        assert path == told.resource().removeprefix("/")
        first = told.bench.fake.table("customers", UK)
        changed = sorted(row.values[first.index["lastModifiedDateTime"]] for row in first.rows.values())
        assert since < changed[-(MOST_ITEMS + 1)], "the first of them lies behind it"
        dt.datetime.fromisoformat(since)

    async def test_with_a_delete_among_them_the_whole_set_has_to_be_read(self, told):
        await told.subscribed()
        for number in range(MOST_ITEMS + 1):
            told.fake.sim_add("customers", UK, {"displayName": f"M{number}"})
        told.fake.sim_remove("customers", UK, BUYER)
        (item,) = await told.wait()
        assert (item["changeType"], item["resource"]) == ("collection", told.resource().removeprefix("/"))


class TestAnswers:
    @pytest.mark.parametrize("status", [0, 408, 429, 500, 503, 599])
    async def test_trouble_is_tried_again_for_a_day_then_the_subscription_goes(self, told, status):
        await told.subscribed()
        await told.subscribed("bc-2")
        other = await told.subscribed("bc-3", name="items")
        told.status = status
        told.rename()
        assert len(await told.wait()) == 2
        for seconds in RETRIES:
            assert await told.wait(seconds - 1) == []
            assert len(await told.wait(1)) == 2
            assert len(await told.ids()) in (1, 3)
        assert await told.ids() == [other["subscriptionId"]]
        attempts = [entry.attempt for entry in told.fake.ledger.deliveries if "handshake" not in entry.about]
        assert sorted(attempts) == sorted([1, 2, 3, 4, 5, 6] * 2)
        assert told.fake.mailroom.waiting() == 0

    async def test_a_repeat_that_is_taken_keeps_the_subscription(self, told):
        await told.subscribed()
        told.status = 503
        told.rename()
        (first,) = await told.wait()
        told.status = 200
        (second,) = await told.wait(60)
        assert first == second
        assert len(await told.ids()) == 1
        assert told.fake.mailroom.waiting() == 0

    @pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410, 413])
    async def test_any_other_answer_deletes_every_subscription_of_that_url(self, told, status):
        for name in ("customers", "items"):
            await told.subscribed(name=name)
        kept = await told.subscribed("bc-2", name="items")
        told.status = status
        told.rename()
        assert len(await told.wait()) == 1
        assert await told.ids() == [kept["subscriptionId"]]
        assert told.fake.mailroom.waiting() == 0
        told.status = 202
        told.rename("again")
        assert await told.wait(100_000) == []


class TestByHand:
    async def test_somebody_deletes_it_behind_our_back_and_sets_the_delay(self, told):
        row = await told.subscribed()
        control = ROUTE.partition("/v2.0/")[0] + "/_sim"
        listed = (await told.http.get(f"{control}/subscriptions")).json()["subscriptions"]
        assert listed == [
            {
                "id": row["subscriptionId"],
                "url": f"{HOOK}/bc-1",
                "resource": told.resource(),
                "expires": row["expirationDateTime"],
            }
        ]
        assert (await told.http.post(f"{control}/notifications", json={"delay": 0.5})).json() == {
            "delay": 0.5
        }
        told.rename()
        assert len(await told.wait(0.5)) == 1
        told.rename("B")
        gone = await told.http.delete(f"{control}/subscriptions", params={"id": row["subscriptionId"]})
        assert gone.status_code == 200
        assert await told.wait() == []
        assert await told.ids() == []
        again = await told.http.delete(f"{control}/subscriptions", params={"id": row["subscriptionId"]})
        assert again.status_code == 404


async def test_the_connector_asks_what_can_be_subscribed_once_an_hour(bench):
    connector = bench.connector
    for entity in ("customers", "sales_orders", "fixed_assets"):
        assert await connector.subscribable(entity, "uk") == ""
    for entity in ("sales_order_lines", "customer_sales", "companies", "tax_groups"):
        assert "polled" in await connector.subscribable(entity, "de")
    assert len(bench.fake.ledger.requests("GET", "webhookSupportedResources")) == 1
    bench.clock.advance(3601)
    await connector.subscribable("customers", "uk")
    assert len(bench.fake.ledger.requests("GET", "webhookSupportedResources")) == 2


def our_wish(**more):
    fields = {
        "subscription": "s",
        "system": "bc",
        "entity": "customers",
        "scope": "uk",
        "url": f"{HOOK}/s",
        "proof": "client_state",
        "secret": lambda: "secret",
    }
    return Wanted(**{**fields, **more})


def echoing(bench):
    """Handshakes are answered."""
    bench.fake.mailroom.transport = lambda: httpx.MockTransport(
        lambda request: httpx.Response(200, text=request.url.params["validationToken"])
    )


@pytest.mark.parametrize(
    "other",
    [
        {"scope": "de"},
        {"entity": "items"},
        {"secret": lambda: "another"},
        {"url": f"{HOOK}/t"},
        {"subscription": "t"},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_a_subscription_is_current_for_one_wish_alone(bench, other):
    echoing(bench)
    await bench.connector.subscribe(our_wish())
    (listed,) = await bench.connector.list_subscriptions()
    assert bench.connector.is_current(listed, our_wish())
    assert not bench.connector.is_current(listed, our_wish(**other))


async def test_a_state_that_somebody_else_set_is_not_ours(bench):
    echoing(bench)
    await bench.connector.subscribe(our_wish())
    (row,) = bench.fake.subscriptions.rows()
    bench.fake.subscriptions._kept[row["subscriptionId"]].state = "somebody else's"
    (listed,) = await bench.connector.list_subscriptions()
    assert not bench.connector.is_current(listed, our_wish())


async def test_a_subscription_that_somebody_changes_meanwhile_is_looked_at_again(bench):
    echoing(bench)
    made = await bench.connector.subscribe(our_wish())
    bench.fake.fail(Fault(method="PATCH", path="subscriptions", status=409))
    with pytest.raises(RetryError):
        await bench.connector.renew(made, our_wish())
