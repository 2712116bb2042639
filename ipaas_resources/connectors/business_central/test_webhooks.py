"""Notifications of Business Central: the secret of the URL, then the clientState of every item."""

from __future__ import annotations

import json

import pytest

from ipaas_resources.connectors.business_central import webhooks
from ipaas_resources.connectors.business_central.webhooks import MOST_ITEMS, RECEIVER, client_state, url_key
from ipaas_resources.connectors.webhooks import NotProvenError, Pointer, Request, Sender

SECRET, OLD = "a-secret-of-ours", "the-one-before"
SENDER = Sender(subscription="bc-1", proof="client_state", secrets=(SECRET, OLD))


def request(key=None, method="POST", **query):
    key = url_key(SECRET, "bc-1") if key is None else key
    return Request(method=method, subscription="bc-1", key=key, query=query, headers={})


def item(number=1, state=None, **more):
    state = client_state(SECRET, "bc-1") if state is None else state
    return {
        "subscriptionId": "s",
        "clientState": state,
        "resource": f"api/v2.0/companies(c)/customers({number})",
        "changeType": "updated",
        "lastModifiedDateTime": "2026-01-15T12:54:26.057Z",
    } | more


def proven(*items, sender=SENDER):
    return RECEIVER.prove(request(), json.dumps({"value": list(items)}).encode(), sender, 0.0)


@pytest.mark.parametrize("secret", [SECRET, OLD])
def test_the_url_of_either_live_secret_lets_a_notification_in(secret):
    RECEIVER.admit(request(url_key(secret, "bc-1")), SENDER)
    assert proven(item(state=client_state(secret, "bc-1"))).key


@pytest.mark.parametrize(
    "key", ["", "x", url_key("other", "bc-1"), url_key(SECRET, "bc-2"), client_state(SECRET, "bc-1"), "é"]
)
def test_any_other_url_does_not(key):
    with pytest.raises(NotProvenError):
        RECEIVER.admit(request(key), SENDER)


@pytest.mark.parametrize("secrets", [(), ("",)])
def test_without_a_secret_nothing_is_proven(secrets):
    sender = Sender(subscription="bc-1", proof="client_state", secrets=secrets)
    for key in ("", url_key("", "bc-1")):
        with pytest.raises(NotProvenError):
            RECEIVER.admit(request(key), sender)
    with pytest.raises(NotProvenError):
        proven(item(state=""), sender=sender)


@pytest.mark.parametrize(
    "wrong", ["", "x", "é", "\ud800", url_key(SECRET, "bc-1"), client_state(SECRET, "bc-2"), 5, None]
)
def test_one_item_with_another_client_state_refuses_the_whole(wrong):
    forged = item(2) | {"clientState": wrong}
    for items in ([item(), forged], [forged, item()], [forged]):
        with pytest.raises(NotProvenError):
            proven(*items)


def test_a_key_in_the_url_tells_nothing_of_the_client_state():
    assert client_state(SECRET, "bc-1") != url_key(SECRET, "bc-1")
    assert client_state(SECRET, "bc-1") != client_state(SECRET, "bc-2")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"value":{}}', b'{"value":[]}', b'{"value":[1]}', b"\xff", b"[" * 100_000],
)
def test_a_body_that_is_no_notification_proves_nothing(body):
    with pytest.raises(NotProvenError):
        RECEIVER.prove(request(), body, SENDER, 0.0)


def test_every_truncation_of_a_notification_proves_nothing():
    body = json.dumps({"value": [item()]}).encode()
    for end in range(len(body)):
        with pytest.raises(NotProvenError):
            RECEIVER.prove(request(), body[:end], SENDER, 0.0)


def test_more_items_than_the_product_sends_prove_nothing():
    assert proven(*[item(number) for number in range(MOST_ITEMS)]).key
    with pytest.raises(NotProvenError):
        proven(*[item(number) for number in range(MOST_ITEMS + 1)])


def test_a_repeat_has_the_key_of_the_first_whatever_the_order_of_its_items():
    assert proven(item(1), item(2)).key == proven(item(2), item(1)).key
    assert len(proven(item()).key) == 16


@pytest.mark.parametrize("field", ["subscriptionId", "resource", "changeType", "lastModifiedDateTime"])
def test_a_change_that_differs_has_a_key_of_its_own(field):
    assert proven(item()).key != proven(item(**{field: "another"})).key


@pytest.mark.parametrize("value", [None, "", 5])
def test_an_item_that_does_not_name_its_change_is_never_a_repeat(value):
    assert proven(item(), item(2, lastModifiedDateTime=value)).key is None


def test_the_expiry_of_the_subscription_does_not_make_a_repeat_look_new():
    assert proven(item(expirationDateTime="a")).key == proven(item(expirationDateTime="b")).key


def test_a_handshake_is_seen_by_its_token():
    for method in ("POST", "GET"):
        assert RECEIVER.handshake(request(method=method, validationToken="t")) == "t"
    assert RECEIVER.handshake(request()) is None
    assert RECEIVER.handshake(request(method="DELETE", validationToken="t")) is None


def test_no_answer_makes_the_product_delete_its_subscriptions():
    answers = RECEIVER.answers
    for status in (getattr(answers, name) for name in answers.__struct_fields__):
        assert 200 <= status < 300 or status in {408, 429} or status >= 500


def test_the_url_is_proven_before_anything_is_parsed(monkeypatch):
    def explode(_body):
        raise AssertionError("parsed")

    monkeypatch.setattr(webhooks, "decode_json", explode)
    with pytest.raises(NotProvenError):
        RECEIVER.admit(request("x"), SENDER)


COMPANY, RECORD = "b18aed47-c385-49d2-b954-dbdf8ad71780", "130bbd17-dbb9-4790-9b12-2b0e9c9d22c3"


def hints(*items):
    found = RECEIVER.hints(json.dumps({"value": list(items)}).encode(), {})
    return found.pointers, found.unclear


def told(resource, kind="updated"):
    return {"resource": resource, "changeType": kind, "clientState": "c"}


@pytest.mark.parametrize(
    "before", ["", "/", "https://api.businesscentral.dynamics.com/v2.0/tenant/Production/"]
)
@pytest.mark.parametrize("kind", ["created", "updated", "deleted"])
def test_a_changed_record_is_pointed_to_by_our_names_whatever_stands_before_the_route(before, kind):
    resource = f"{before}api/v2.0/companies({COMPANY.upper()})/salesInvoices({RECORD.upper()})"
    assert hints(told(resource, kind)) == (
        (Pointer(entity="sales_invoices", record=RECORD, company=COMPANY),),
        "",
    )


@pytest.mark.parametrize(
    ("query", "full"),
    [
        ("", True),
        ("?$filter=lastModifiedDateTime%20gt%202018-10-26T12:54:26.057Z", False),
        ("?%24filter=lastModifiedDateTime%20gt%202018-10-26T12:54:26.057Z", False),
    ],
)
def test_a_collection_means_the_changes_of_the_set_and_without_a_filter_all_of_it(query, full):
    resource = f"api/v2.0/companies({COMPANY})/customers{query}"
    assert hints(told(resource, "collection")) == (
        (Pointer(entity="customers", company=COMPANY, full=full),),
        "",
    )


def test_a_key_that_is_no_guid_is_the_text_between_its_quotes():
    ((found,), _) = hints(told(f"api/v2.0/companies({COMPANY})/customers('A%20''B')"))
    assert found.record == "A 'B"


def test_several_items_make_several_pointers_and_the_same_record_one():
    one, two = (f"api/v2.0/companies({COMPANY})/customers({RECORD[:-1]}{n})" for n in (1, 2))
    found, unclear = hints(told(one), told(two), told("/" + one, "deleted"))
    assert [pointer.record[-1] for pointer in found] == ["1", "2"]
    assert unclear == ""


@pytest.mark.parametrize(
    "resource",
    [
        "",
        5,
        "api/v1.0/companies(x)/customers(y)",
        f"api/lab/calibration/v1.0/companies({COMPANY})/instruments({RECORD})",
        f"api/v2.0/companies({COMPANY})",
        f"api/v2.0/companies({COMPANY})/salesOrders({RECORD})/salesOrderLines({RECORD})",
        "api/v2.0/companies(CRONUS)/customers(1)",
    ],
)
def test_an_item_that_points_to_nothing_we_know_is_told_and_the_others_count(resource):
    good = told(f"api/v2.0/companies({COMPANY})/customers({RECORD})")
    found, unclear = hints(good, told(resource))
    assert [pointer.record for pointer in found] == [RECORD]
    assert unclear.startswith("1 of its 2 items")
