"""The calibration system's receiver: the signature of webhook.py, and a key for every delivery."""

from __future__ import annotations

import pytest

from ipaas_resources.connectors.calibration.fake_webhook import delivery
from ipaas_resources.connectors.calibration.webhooks import RECEIVER
from ipaas_resources.connectors.webhooks import NotProvenError, Pointer, Request, Sender
from ipaas_resources.core.clock import ManualClock

LABSYNC = "lab-secret-1"
STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = ManualClock().now()


@pytest.fixture(params=[LABSYNC, STANDARD], ids=["labsync", "standard"])
def secret(request):
    return request.param


def sent(secret, number=1):
    return delivery(secret, "job.updated", {"ServiceOrderId": 7}, number=number, now=NOW)


def prove(headers, body, *secrets, later=0):
    request = Request(method="POST", subscription="lab-1", key="", query={}, headers=headers)
    sender = Sender(subscription="lab-1", proof="signature", secrets=secrets)
    RECEIVER.admit(request, sender)
    return RECEIVER.prove(request, body, sender, NOW.timestamp() + later)


def test_a_signed_delivery_is_proven_by_either_live_secret(secret):
    headers, body = sent(secret)
    assert prove(headers, body, secret).key == prove(headers, body, "another", secret).key


def test_a_wrong_secret_a_changed_or_truncated_body_and_no_secret_prove_nothing(secret):
    headers, body = sent(secret)
    for given, secrets in (
        (body, ("another",)),
        (body, ("",)),
        (body, ()),
        (body[:-1], (secret,)),
        (body + b" ", (secret,)),
    ):
        with pytest.raises(NotProvenError):
            prove(headers, given, *secrets)


@pytest.mark.parametrize("later", [-301, 301])
def test_an_old_time_and_one_ahead_prove_nothing(secret, later):
    headers, body = sent(secret)
    assert prove(headers, body, secret, later=299 if later > 0 else -299)
    with pytest.raises(NotProvenError):
        prove(headers, body, secret, later=later)


def test_a_request_without_any_signature_is_refused_before_its_body(secret):
    headers = {"content-type": "application/json"}
    request = Request(method="POST", subscription="lab-1", key="", query={}, headers=headers)
    with pytest.raises(NotProvenError):
        RECEIVER.admit(request, Sender(subscription="lab-1", proof="signature", secrets=(secret,)))


def test_a_second_signature_may_stand_beside_the_right_one():
    headers, body = sent(LABSYNC)
    name = "x-labsync-signature"
    stamp, _, mac = headers[name].partition(",")
    assert prove({name: f"{stamp},v1=00,{mac}"}, body, LABSYNC)
    headers, body = sent(STANDARD)
    name = "webhook-signature"
    # A header that came twice, joined as HTTP joins them.
    assert prove(headers | {name: f"v1,AAAA, {headers[name]}"}, body, STANDARD)
    with pytest.raises(NotProvenError):
        prove(headers | {"webhook-id": f"{headers['webhook-id']}, evt_2"}, body, STANDARD)


def test_a_replay_has_the_key_of_the_first_and_another_delivery_its_own(secret):
    first, second = sent(secret), sent(secret, number=2)
    assert prove(*first, secret).key == prove(*first, secret, later=60).key
    assert prove(*first, secret).key != prove(*second, secret).key
    assert len(prove(*first, secret).key) == 16


def test_an_unsigned_id_does_not_make_a_replay_look_new():
    headers, body = sent(LABSYNC)
    assert prove(headers | {"webhook-id": "forged"}, body, LABSYNC).key == prove(headers, body, LABSYNC).key


def pointers(event, **data):
    _, body = delivery(LABSYNC, event, data, number=1, now=NOW)
    found = RECEIVER.hints(body, {})
    assert found.unclear == ""
    return found.pointers


def test_an_event_points_to_its_record_and_to_where_it_is_shown_too():
    assert pointers("client.updated", CompanyId=4101) == (Pointer(entity="clients", record="4101"),)
    assert pointers("job_item.updated", WorkItemId=5, ServiceOrderId=7) == (
        Pointer(entity="work_items", record="5"),
        Pointer(entity="work_orders", record="7"),
    )
    assert pointers("job_item.updated", WorkItemId=5) == (Pointer(entity="work_items", record="5"),)
    # A certificate is a field of its order, and a record that only a pull can find.
    assert pointers("certificate.issued", ServiceOrderId=7) == (
        Pointer(entity="work_orders", record="7"),
        Pointer(entity="certificates"),
    )
    assert pointers("invoice.paid", InvoiceId=1) == ()


def test_an_event_that_is_not_known_is_unclear():
    _, body = delivery(LABSYNC, "robot.exploded", {"RobotId": 1}, number=1, now=NOW)
    found = RECEIVER.hints(body, {})
    assert found.pointers == ()
    assert found.unclear
