"""Deliveries of Dataverse: a key in the query or in a header, and the operation as the delivery's key."""

from __future__ import annotations

import json

import pytest

from ipaas_resources.connectors.dataverse import webhooks
from ipaas_resources.connectors.dataverse.webhooks import KEY_HEADER, RECEIVER
from ipaas_resources.connectors.webhooks import NotProvenError, Request, Sender

SECRET, OLD = "a-secret-of-ours", "the-one-before"


def sender(proof="code", secrets=(SECRET, OLD)):
    return Sender(subscription="crm-1", proof=proof, secrets=secrets)


def request(code=None, header=None, **headers):
    query = {} if code is None else {"code": code}
    headers = headers if header is None else headers | {KEY_HEADER: header}
    return Request(method="POST", subscription="crm-1", key="", query=query, headers=headers)


def context(**more):
    return {
        "OperationId": "8b3c2c9e-1b1a-4b5e-9a36-5c5f4b1d2a01",
        "CorrelationId": "c",
        "MessageName": "Update",
        "PrimaryEntityName": "account",
        "PrimaryEntityId": "a",
        "OwningExtension": {"Id": "step"},
    } | more


def key(document):
    return RECEIVER.prove(request(SECRET), json.dumps(document).encode(), sender(), 0.0).key


@pytest.mark.parametrize("secret", [SECRET, OLD])
def test_either_live_secret_lets_a_delivery_in_where_the_subscription_says(secret):
    RECEIVER.admit(request(code=secret), sender("code"))
    RECEIVER.admit(request(header=secret), sender("header"))


@pytest.mark.parametrize("given", [None, "", "x", SECRET[:-1], SECRET + "x", "é", "\ud800"])
def test_any_other_key_does_not(given):
    for proof, knock in (("code", request(code=given)), ("header", request(header=given))):
        with pytest.raises(NotProvenError):
            RECEIVER.admit(knock, sender(proof))
        with pytest.raises(NotProvenError):
            RECEIVER.prove(knock, b"{}", sender(proof), 0.0)


def test_the_key_counts_in_its_own_place_only():
    for proof, knock in (("code", request(header=SECRET)), ("header", request(code=SECRET))):
        with pytest.raises(NotProvenError):
            RECEIVER.admit(knock, sender(proof))
    with pytest.raises(NotProvenError):
        RECEIVER.admit(request(SECRET, SECRET), sender("anything"))


@pytest.mark.parametrize("secrets", [(), ("",)])
def test_without_a_secret_nothing_is_proven(secrets):
    for knock, proof in ((request(code=""), "code"), (request(header=""), "header")):
        with pytest.raises(NotProvenError):
            RECEIVER.admit(knock, sender(proof, secrets))


def test_a_repeat_has_the_key_of_the_first():
    assert key(context()) == key(context(InputParameters=[1]))
    assert len(key(context())) == 16


@pytest.mark.parametrize(
    "more",
    [
        {"OperationId": "other"},
        {"MessageName": "Delete"},
        {"PrimaryEntityId": "b"},
        {"OwningExtension": {"Id": "another"}},
    ],
)
def test_another_operation_step_message_or_record_is_another_delivery(more):
    assert key(context()) != key(context(**more))


@pytest.mark.parametrize(
    "document",
    [{}, [], context(OperationId=None), context(OperationId="00000000-0000-0000-0000-000000000000")],
)
def test_a_delivery_that_names_no_operation_is_never_a_repeat(document):
    assert key(document) is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_proven_body_that_cannot_be_read_is_kept(body):
    assert RECEIVER.prove(request(SECRET), body, sender(), 0.0).key is None


def test_nothing_is_parsed_before_the_proof(monkeypatch):
    def explode(_body):
        raise AssertionError("parsed")

    monkeypatch.setattr(webhooks, "decode_json", explode)
    with pytest.raises(NotProvenError):
        RECEIVER.prove(request("x"), b"{}", sender(), 0.0)


def test_only_the_product_s_own_headers_are_kept():
    given = request(SECRET, **{"x-ms-dynamics-msg-size-exceeded": "1", "authorization": "x"})
    assert RECEIVER.prove(given, b"{}", sender(), 0.0).headers == {"x-ms-dynamics-msg-size-exceeded": "1"}
