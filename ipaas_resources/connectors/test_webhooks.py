"""What the receivers share, and how they are found."""

from __future__ import annotations

import pytest

from ipaas_resources.connectors import registry
from ipaas_resources.connectors.webhooks import delivery_key, derived, matches, receiver
from ipaas_resources.core.errors import ConfigurationError


@pytest.mark.parametrize("connector", registry.names())
def test_every_connector_s_receiver_names_its_proofs_and_takes_no_other_status_for_accepted(connector):
    found = receiver(connector)
    assert found.proofs
    assert 200 <= found.answers.accepted < 300
    assert not [
        n for n in found.answers.__struct_fields__ if n != "accepted" and getattr(found.answers, n) < 400
    ]


def test_a_connector_without_webhooks_is_named():
    with pytest.raises(ConfigurationError, match="`nothing` takes no webhook"):
        receiver("nothing")


def test_an_empty_secret_matches_nothing_and_derives_nothing():
    assert not matches("", ["", ""])
    assert not matches("", [])
    assert derived("", "url", "s") == ""
    assert matches("é", ["a", "é"])


def test_the_parts_of_a_key_do_not_run_together():
    assert delivery_key("ab", "c") != delivery_key("a", "bc")


@pytest.mark.parametrize("connector", registry.names())
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b"{}",
        b'{"value": [[]]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"event": []}',
    ],
)
def test_a_proven_body_that_makes_no_sense_is_unclear_and_raises_nothing(connector, body):
    found = receiver(connector).hints(body, {})
    assert found.pointers == ()
    assert found.unclear


@pytest.mark.parametrize("connector", registry.names())
def test_what_is_unclear_is_told_without_a_value_of_the_body(connector):
    body = b'{"value": [{"resource": "canary-71"}], "event": "canary-71.x", "data": {}, "PrimaryEntityName": "Canary-71"}'
    assert "anary" not in receiver(connector).hints(body, {}).unclear
