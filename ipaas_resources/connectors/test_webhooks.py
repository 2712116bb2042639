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
