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


ONE, TWO, THREE = (f"0000000{n}-aaaa-bbbb-cccc-dddddddddddd" for n in (1, 2, 3))


def pointers(headers=None, **more):
    body = json.dumps(context(PrimaryEntityId=ONE.upper()) | more).encode()
    found = RECEIVER.hints(body, headers or {})
    assert found.unclear == ""
    return [(pointer.table, pointer.record) for pointer in found.pointers]


def inputs(**parameters):
    return {"InputParameters": [{"key": name, "value": value} for name, value in parameters.items()]}


@pytest.mark.parametrize("message", ["Create", "Update", "Delete", "Assign", "SetState"])
def test_whatever_happened_to_a_record_it_is_read(message):
    target = {"LogicalName": "account", "Id": ONE, "Attributes": [{"key": "name", "value": "n"}]}
    assert pointers(MessageName=message, **inputs(Target=target)) == [("account", ONE)]


def test_the_other_record_of_a_merge_and_those_of_an_association_are_read_too():
    assert pointers(MessageName="Merge", **inputs(Target={"Id": ONE}, SubordinateId=TWO)) == [
        ("account", ONE),
        ("account", TWO),
    ]
    related = [{"LogicalName": "contact", "Id": TWO}, {"LogicalName": "contact", "Id": THREE}]
    assert pointers(MessageName="Associate", **inputs(RelatedEntities=related)) == [
        ("account", ONE),
        ("contact", TWO),
        ("contact", THREE),
    ]


def test_a_message_about_many_records_points_to_each():
    none = "00000000-0000-0000-0000-000000000000"
    many = {"Entities": [{"LogicalName": "account", "Id": ONE}, {"LogicalName": "account", "Id": TWO}]}
    assert pointers(MessageName="UpdateMultiple", PrimaryEntityId=none, **inputs(Targets=many)) == [
        ("account", ONE),
        ("account", TWO),
    ]
    made = {"OutputParameters": [{"key": "Ids", "value": [ONE, TWO]}]}
    assert pointers(MessageName="CreateMultiple", PrimaryEntityId=none, **made) == [
        ("account", ONE),
        ("account", TWO),
    ]


def test_what_the_product_left_out_of_a_large_body_is_found_by_reading_the_table():
    headers = {"x-ms-dynamics-msg-size-exceeded": "true"}
    # The record is named all the same.
    assert pointers(headers, MessageName="Update") == [("account", ONE)]
    none = "00000000-0000-0000-0000-000000000000"
    assert pointers(headers, MessageName="UpdateMultiple", PrimaryEntityId=none) == [("account", None)]
    assert pointers(headers, MessageName="Associate") == [("account", ONE), ("account", None)]


def test_a_table_that_the_body_does_not_name_is_taken_from_the_header():
    headers = {"x-ms-dynamics-entity-name": "account"}
    assert pointers(headers, PrimaryEntityName="none") == [("account", ONE)]


def test_names_and_ids_that_no_row_has_are_unclear():
    body = json.dumps(context(PrimaryEntityName="A B", PrimaryEntityId="1; DROP")).encode()
    found = RECEIVER.hints(body, {})
    assert found.pointers == ()
    assert found.unclear
