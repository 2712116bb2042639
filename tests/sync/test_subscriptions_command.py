"""`ipaas subscriptions`: what a person types, and what they read."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from click.testing import CliRunner

from console.cli.commands import subscriptions as command
from ipaas_resources.core.clock import SystemClock
from ipaas_resources.core.errors import ConfigurationError, RetryError
from ipaas_resources.store import registry, subscriptions
from ipaas_resources.store.database import Database
from ipaas_resources.store.registry import StoredSystem
from tests.sync.hooks_product import HooksProduct
from tests.sync.rig import rig
from tests.sync.test_subscribing import SECRET, flow

URL = "https://ipaas.example.com"


@pytest.fixture
def product():
    return HooksProduct(SystemClock())


@pytest.fixture
def run_command(fresh_database, monkeypatch, product):
    """`ipaas subscriptions` on a rig that the command itself opens, as it would open the platform."""
    monkeypatch.setenv("ERP_HOOKS", SECRET)
    monkeypatch.setenv("IPAAS_PUBLIC_URL", URL)

    @contextlib.asynccontextmanager
    async def opened(_settings=None, *, load=True):
        async with rig(fresh_database, source=product) as made:
            for name, connector, scopes in (
                ("erp", "product", {}),
                ("cal", "calibration", {}),
                ("bc", "business_central", {"uk": "CRONUS"}),
            ):
                await registry.save_systems(
                    made.database,
                    [
                        StoredSystem(
                            system=name,
                            connector=connector,
                            document={
                                "system": name,
                                "connector": connector,
                                "secrets": {"webhook": "env:ERP_HOOKS"},
                                "scopes": scopes,
                                "enabled": name != "bc",
                            },
                            text="",
                            paused=False,
                        )
                    ],
                )
            made.products = {"cal": HooksProduct(SystemClock()), "bc": product, **made.products}
            if not await registry.active_flows(made.database):
                await made.apply(flow())
            elif load:
                await made.open()
            if made.engine is None:
                await made.open()
            made.engine.clock = product._clock_of_product
            yield made.engine

    monkeypatch.setattr(command, "engine", opened)

    def run(*arguments):
        return CliRunner().invoke(command.subscriptions, list(arguments))

    return run


def listed(run_command, *arguments):
    return json.loads(run_command("list", "--json", *arguments).output)


def test_a_round_by_hand_says_what_it_did_and_the_list_shows_no_key(run_command, product):
    result = run_command("keep")
    assert result.exit_code == 0, result.output
    assert result.output.split() == ["erp/customers", "made"]
    (row,) = listed(run_command)
    (remote,) = product.there.values()
    assert (row["state"], row["entity"], row["error"]) == ("live", "customers", None)
    assert row["url"] == f"{URL}/hooks/{row['subscription']}/***"
    assert row["expires_at"] == remote.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert row["last_seen_at"]
    shown = run_command("list").output
    assert "erp/customers" in shown
    assert remote.url.rpartition("/")[2] not in f"{shown}{row}"


def test_a_failure_is_told_and_is_the_exit_code(run_command, product):
    product.unsupported.add("customers")
    result = run_command("keep", "--json")
    assert result.exit_code == 1
    (kept,) = json.loads(result.output)
    assert (kept["action"], kept["error"]) == ("failed", "customers has a composite key.")
    assert listed(run_command)[0]["state"] == "failing"


def test_beside_another_keeper_it_says_that_one_is_at_it(run_command, fresh_database):
    async def beside():
        database = Database(fresh_database.app)
        try:
            async with subscriptions.only_keeper(database) as ours:
                assert ours
                return await asyncio.to_thread(run_command, "keep")
        finally:
            await database.close()

    result = asyncio.run(beside())
    assert isinstance(result.exception, RetryError)
    assert "Another process" in str(result.exception)


def test_without_a_public_address_nothing_can_be_kept(run_command, monkeypatch):
    monkeypatch.delenv("IPAAS_PUBLIC_URL")
    result = run_command("keep")
    assert isinstance(result.exception, ConfigurationError)
    assert "IPAAS_PUBLIC_URL" in str(result.exception)


def test_one_made_by_hand_says_what_to_enter_in_the_product_and_goes_when_removed(run_command):
    result = run_command("add", "cal", "--secret", "env:ERP_HOOKS")
    assert result.exit_code == 0, result.output
    (row,) = listed(run_command)
    assert f"URL:    {URL}/hooks/{row['subscription']}\n" in result.output
    assert "the product's webhook screen" in result.output
    assert SECRET not in result.output
    assert (row["state"], row["url"]) == ("by hand", f"{URL}/hooks/{row['subscription']}")
    assert run_command("remove", row["subscription"]).exit_code == 0
    assert listed(run_command) == []
    assert [each["state"] for each in listed(run_command, "--retired")] == ["retired"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "nobody", "--secret", "env:ERP_HOOKS"], "There is no system 'nobody'"),
        (["add", "cal", "--secret", "canary"], "--secret is a reference"),
        (["add", "cal", "--secret", "env:ERP_HOOKS", "--proof", "magic"], "has no proof 'magic'"),
        (["add", "cal", "--secret", "env:ERP_HOOKS", "--scope", "uk"], "no scope 'uk'"),
        (["add", "bc", "--secret", "env:ERP_HOOKS"], "subscribed by the platform alone"),
        (["add", "erp", "--secret", "env:ERP_HOOKS"], "There is no connector `product`"),
        (["remove", "nobody"], "There is no live subscription 'nobody'"),
    ],
)
def test_a_wrong_command_says_what_is_wrong_and_stores_nothing(run_command, arguments, said):
    result = run_command(*arguments)
    assert isinstance(result.exception, ConfigurationError)
    assert said in str(result.exception)
    assert "canary" not in str(result.exception)
    assert listed(run_command, "--retired") == []


def test_one_that_the_platform_made_is_not_removed_by_hand(run_command):
    run_command("keep")
    (row,) = listed(run_command)
    result = run_command("remove", row["subscription"])
    assert "would make it again" in str(result.exception)
    assert listed(run_command) == [row]


def test_a_secret_that_cannot_be_read_here_may_be_readable_where_the_ingress_runs(run_command):
    result = run_command("add", "cal", "--secret", "env:ELSEWHERE")
    assert result.exit_code == 0
    assert "ELSEWHERE, which is not set" in result.stderr
    assert len(listed(run_command)) == 1
