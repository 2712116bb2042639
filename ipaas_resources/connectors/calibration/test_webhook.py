"""Webhook signatures: the published vectors, and every way to be wrong (webhook_signatures.md, section 5)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipaas_resources.connectors.calibration import webhook
from ipaas_resources.connectors.calibration.fake_webhook import delivery
from ipaas_resources.connectors.calibration.tests import CalibrationFake
from ipaas_resources.connectors.calibration.webhook import SignatureError, UnknownEventError, verify
from ipaas_resources.core.clock import ManualClock

SPECS = Path(__file__).parents[4] / "shared" / "reference" / "specs"
LABSYNC = "lab-secret-1"
STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#: Taken from the vector file, so that these two count on every machine.
VECTORS = {
    "standard": (
        STANDARD,
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        b'{"test": 2432232314}',
        1614265330,
    ),
    "labsync": (
        "whsec_test",
        {
            "X-LabSync-Signature": "t=1700000000,v1=2f441ba4b3b2d50d28a9ab9d9fd8880376ecd1eb5d0435401553f5d8d0a5dcf8"
        },
        b'{"id":1}',
        1700000000,
    ),
}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=[LABSYNC, STANDARD], ids=["labsync", "standard"])
def secret(request):
    return request.param


def sent(clock, secret, identifier="285227"):
    return CalibrationFake(clock=clock).delivery("work_orders", identifier, secret)


def signature_header(headers):
    return next(name for name in headers if "signature" in name)


@pytest.mark.parametrize("form", VECTORS)
def test_the_vectors_prove_themselves_and_nothing_else_does(form):
    secret, headers, body, now = VECTORS[form]
    webhook.authenticate(headers, body, [secret], now)
    for changed in (body + b" ", body[:-1], b""):
        with pytest.raises(SignatureError):
            webhook.authenticate(headers, changed, [secret], now)


@pytest.mark.skipif(not SPECS.exists(), reason="the reference folder is not on this machine")
def test_the_vectors_are_those_of_the_reference():
    file = json.loads((SPECS / "webhook_vectors.json").read_text())
    kept = {"standard-webhooks": "standard", "labsync-or-stripe-form": "labsync"}
    seen = set()
    for vector in file["vectors"]:
        if vector["system"] in kept:
            seen.add(vector["system"])
            assert VECTORS[kept[vector["system"]]] == (
                vector["secret"],
                vector["headers"],
                vector["body"].encode(),
                vector["valid_at_unix"],
            )
    assert seen == set(kept)


def test_a_genuine_delivery_points_to_its_record(clock, secret):
    headers, body = sent(clock, secret)
    assert verify(headers, body, [secret], clock.now().timestamp()) == [("work_orders", "285227")]
    shouted = {name.upper(): value for name, value in headers.items()}
    assert verify(shouted, body, [secret], clock.now().timestamp()) == [("work_orders", "285227")]


def test_two_secrets_are_live_while_one_is_changed(clock, secret):
    headers, body = sent(clock, secret)
    now = clock.now().timestamp()
    assert verify(headers, body, ["the-new-one", secret], now)
    assert verify(headers, body, [secret, "the-new-one"], now)
    assert verify(headers, body, ["", "whsec_!!not base64", secret], now)
    for others in ([], [""], ["the-new-one"], ["whsec_!!not base64"], ["whsec_"]):
        with pytest.raises(SignatureError):
            verify(headers, body, others, now)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_delivery_is_stale_in_either_direction(clock, secret, seconds):
    headers, body = sent(clock, secret)
    now = clock.now().timestamp()
    edge = now + (300 if seconds > 0 else -300)
    assert verify(headers, body, [secret], edge)
    with pytest.raises(SignatureError):
        verify(headers, body, [secret], now + seconds)


def test_every_changed_byte_is_seen(clock, secret):
    headers, body = sent(clock, secret)
    for position in range(len(body)):
        changed = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
        with pytest.raises(SignatureError):
            verify(headers, changed, [secret], clock.now().timestamp())


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_id_and_time_are_signed_too(clock, name):
    headers, body = sent(clock, STANDARD)
    with pytest.raises(SignatureError):
        verify({**headers, name: headers[name][:-1] + "9"}, body, [STANDARD], clock.now().timestamp())


BROKEN = ["", "x", "v1,", "v1=", "t=,v1=", "t=abc,v1=00", ",,,", "v0,é", "é", "t=1\u0661,v1=00", "\ud800"]


@pytest.mark.parametrize("value", BROKEN)
def test_a_malformed_header_is_refused_and_breaks_nothing(clock, secret, value):
    headers, body = sent(clock, secret)
    with pytest.raises(SignatureError):
        verify({**headers, signature_header(headers): value}, body, [secret], clock.now().timestamp())


@pytest.mark.parametrize(
    "stamp", ["", "now", "1e9", "-5", " 1767225600", "1767225600.0", "١٧٦٧٢٢٥٦٠٠", "9" * 40]
)
def test_a_time_that_is_not_plain_seconds_is_refused(clock, stamp):
    headers, body = sent(clock, STANDARD)
    with pytest.raises(SignatureError):
        verify({**headers, "webhook-timestamp": stamp}, body, [STANDARD], clock.now().timestamp())


def test_a_missing_header_is_refused(clock, secret):
    headers, body = sent(clock, secret)
    for name in set(headers) - {"content-type"}:
        left = {other: value for other, value in headers.items() if other != name}
        with pytest.raises(SignatureError):
            verify(left, body, [secret], clock.now().timestamp())


def test_a_truncated_signature_is_refused(clock, secret):
    headers, body = sent(clock, secret)
    name = signature_header(headers)
    with pytest.raises(SignatureError):
        verify({**headers, name: headers[name][:-4]}, body, [secret], clock.now().timestamp())


def test_only_the_known_scheme_counts_but_it_may_stand_among_others(clock):
    now = clock.now().timestamp()
    headers, body = sent(clock, LABSYNC)
    value = headers["x-labsync-signature"]
    stamp, _, mac = value.partition(",")
    assert verify({"x-labsync-signature": f"{stamp},v0=aa,v1=bb,{mac}"}, body, [LABSYNC], now)
    for other in (value.replace("v1=", "v0="), f"{stamp},{stamp},{mac}"):
        with pytest.raises(SignatureError):
            verify({"x-labsync-signature": other}, body, [LABSYNC], now)
    headers, body = sent(clock, STANDARD)
    value = headers["webhook-signature"]
    assert verify({**headers, "webhook-signature": f"v1a,AAAA v1,BBBB {value}"}, body, [STANDARD], now)
    with pytest.raises(SignatureError):
        verify({**headers, "webhook-signature": value.replace("v1,", "v1a,")}, body, [STANDARD], now)


def test_nothing_is_parsed_before_the_proof(clock, secret, monkeypatch):
    def explode(body):
        raise AssertionError("parsed")

    monkeypatch.setattr(webhook, "decode_json", explode)
    with pytest.raises(SignatureError):
        verify({}, b"{}", [secret], clock.now().timestamp())


def test_a_body_beyond_the_limit_is_refused_unhashed(clock, secret):
    headers, body = sent(clock, secret)
    with pytest.raises(SignatureError):
        verify(headers, body + b" " * webhook.LARGEST_BODY, [secret], clock.now().timestamp())


def test_the_same_delivery_twice_has_one_key_and_another_has_its_own(clock, secret):
    fake = CalibrationFake(clock=clock)
    first, second = (fake.delivery("clients", "4101", secret) for _ in range(2))
    now = clock.now().timestamp()
    keys = [
        webhook.delivery_key(webhook.authenticate(headers, body, [secret], now), body)
        for headers, body in (first, first, second)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_an_unsigned_id_does_not_make_a_repeat_look_new(clock):
    headers, body = sent(clock, LABSYNC)
    signed = webhook.authenticate(
        {**headers, "webhook-id": "forged"}, body, [LABSYNC], clock.now().timestamp()
    )
    assert webhook.delivery_key(signed, body) == "evt_000001"
    assert webhook.delivery_key("", b'{"event": "job.created"}') != webhook.delivery_key("", b"{}")


def proven(clock, event, data):
    headers, body = delivery(LABSYNC, event, data, number=1, now=clock.now())
    return verify(headers, body, [LABSYNC], clock.now().timestamp())


def test_events_become_hints(clock):
    issued = {
        "ServiceOrderId": 285227,
        "CertificateNumber": "CERT-1",
        "Guid": "1d0c2d57-5e07-4b6f-8a7b-9b8f7a0c2e21",
    }
    assert proven(clock, "certificate.issued", issued) == [("work_orders", "285227")]
    assert proven(clock, "job.completed", {"ServiceOrderId": 1, "OrderStatus": "Completed"}) == [
        ("work_orders", "1")
    ]
    assert proven(clock, "client.updated", {"CompanyId": 4101}) == [("clients", "4101")]


def test_an_event_that_is_not_wanted_and_one_that_is_not_known_do_not_look_alike(clock):
    assert proven(clock, "invoice.paid", {"InvoiceId": 5}) == []
    with pytest.raises(UnknownEventError):
        proven(clock, "robot.exploded", {"RobotId": 5})


@pytest.mark.parametrize(
    "data", [{}, {"ServiceOrderId": "1"}, {"ServiceOrderId": True}, {"ServiceOrderId": -1}, []]
)
def test_a_genuine_delivery_without_a_usable_id_is_unknown(clock, data):
    with pytest.raises(UnknownEventError):
        proven(clock, "job.completed", data)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b'{"event": 5, "data": {}}', b"\xff", b"[" * 100_000]
)
def test_a_genuine_body_that_is_no_event_is_unknown(body):
    with pytest.raises(UnknownEventError):
        webhook.hints(body)
