"""Business Central subscribed, told of and healed: the connector, its fake as the sender, and the ingress over HTTP."""

from __future__ import annotations

import pytest

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.subscribing import keep_subscriptions
from ipaas_resources.connectors.business_central.tests import BUYER, UK, Hosts, make_fake, system_document
from ipaas_resources.connectors.conformance import CANARY_SECRET
from ipaas_resources.core.clock import ManualClock, SeededIds
from ipaas_resources.core.limits import Unlimited
from ipaas_resources.store import registry, versions
from ipaas_resources.store.registry import StoredSystem
from ipaas_resources.store.subscriptions import all_subscriptions
from ipaas_resources.store.versions import About, NewFlow

DAY = 86_400.0
FLOW = """
flow: customers_out
source: {system: bc, entity: customers, scopes: [uk]}
trigger: {webhook: true}
targets:
  account:
    system: crm
    entity: accounts
    key: {accountnumber: number}
    fields: {name: displayName}
"""


class Site:
    """Business Central, the platform's keeper, and the ingress that products reach."""

    def __init__(self, hooks, engine, fake, clock):
        self.hooks, self.engine, self.fake, self.clock = hooks, engine, fake, clock
        self.url = f"http://127.0.0.1:{hooks.port}"

    async def keep(self):
        return [each.action for each in await keep_subscriptions(self.engine, public_url=self.url)]

    async def rename(self, name):
        """Somebody edits the customer, and the product's half minute passes."""
        self.fake.sim_change("customers", UK, BUYER, {"displayName": name})
        self.clock.advance(31)
        await self.fake.mailroom.send_due()

    def statuses(self):
        """What the fake heard to its notifications, handshakes left out."""
        return [each.status for each in self.fake.ledger.deliveries if each.about != ("handshake",)]

    async def poll_reasons(self):
        async with self.hooks.database.begin() as connection:
            rows = await connection.exec_driver_sql(
                "SELECT entity, scope, poll_reason FROM entity_state WHERE poll_due_at <= now()"
            )
            return [tuple(row) for row in rows]


@pytest.fixture
async def site(start, monkeypatch):
    monkeypatch.setenv("BC_SECRET", CANARY_SECRET)
    monkeypatch.setenv("BC_HOOKS", "a-secret-of-the-webhooks")
    hooks = await start(arranged=False)
    document = system_document().model_dump(mode="json", exclude_unset=True)
    document["secrets"]["webhook"] = "env:BC_HOOKS"
    await registry.save_systems(
        hooks.database,
        [StoredSystem(system="bc", connector="business_central", document=document, text="", paused=False)],
    )
    await versions.save_documents(
        hooks.database,
        [
            NewFlow(
                flow="customers_out",
                text=FLOW,
                source_system="bc",
                source_entity="customers",
                exclusive_group=None,
            )
        ],
        about=About(actor="test", origin="file"),
    )
    clock = ManualClock()
    fake = make_fake(clock)
    engine = Engine(
        hooks.database,
        clock=clock,
        ids=SeededIds(5),
        limits=Unlimited(),
        transports={"bc": lambda: Hosts(fake, fake.login)},
    )
    await engine.load()
    yield Site(hooks, engine, fake, clock)
    await engine.close()


async def test_a_change_is_told_to_the_ingress_once_the_flow_is_subscribed(site):
    assert await site.keep() == ["made"]
    await site.rename("Adatum Ltd.")
    assert site.statuses() == [202]
    assert [row.subscription for row in await site.hooks.stored()] == [
        each.subscription for each in await all_subscriptions(site.hooks.database)
    ]


async def test_a_subscription_deleted_behind_our_back_heals_and_what_was_missed_is_read(site):
    await site.keep()
    async with site.hooks.database.begin() as connection:
        await connection.exec_driver_sql("UPDATE entity_state SET poll_due_at = NULL")
    (there,) = site.fake.subscriptions.rows()
    site.fake.subscriptions.remove(there["subscriptionId"])
    await site.rename("Nobody is told of this")
    assert await site.keep() == ["made again"]
    assert await site.poll_reasons() == [
        ("customers", "uk", "its subscription was lost or out of date: what was missed is read")
    ]
    await site.rename("Adatum AG")
    assert site.statuses() == [202]


async def test_it_lives_on_past_its_three_days_without_a_gap(site):
    await site.keep()
    seen = []
    for _ in range(8):
        site.clock.advance(DAY)
        seen += await site.keep()
        await site.rename(f"Adatum {site.clock.monotonic()}")
    assert seen.count("renewed") == 4
    assert set(seen) == {"renewed", "kept"}
    assert site.statuses() == [202] * 8
    assert len(site.fake.subscriptions.rows()) == 1


async def test_a_new_secret_is_taken_over_without_a_refused_notification(site, monkeypatch):
    await site.keep()
    monkeypatch.setenv("BC_HOOKS_NEXT", "the-next-secret-of-the-webhooks")
    (stored,) = await registry.list_systems(site.hooks.database)
    document = {**stored.document, "secrets": {**stored.document["secrets"], "webhook": "env:BC_HOOKS_NEXT"}}
    await registry.save_systems(
        site.hooks.database,
        [StoredSystem(system="bc", connector=stored.connector, document=document, text="", paused=False)],
    )
    site.fake.sim_change("customers", UK, BUYER, {"displayName": "Told with the new one"})
    assert await site.keep() == ["made again"]
    site.clock.advance(31)
    await site.fake.mailroom.send_due()
    assert await site.keep() == ["kept"]
    await site.rename("Told after the old one has gone")
    assert site.statuses() == [202, 202]


async def test_when_no_flow_wants_it_any_more_the_product_has_none_of_ours(site):
    await site.keep()
    await registry.set_enabled(site.hooks.database, "customers_out", enabled=False)
    assert await site.keep() == ["retired"]
    assert site.fake.subscriptions.rows() == []


async def test_an_ingress_that_cannot_be_reached_is_an_error_in_words_and_no_subscription(site):
    site.url = "http://127.0.0.1:9"
    (kept,) = await keep_subscriptions(site.engine, public_url=site.url)
    assert kept.action == "failed"
    assert "validation" in kept.error
    assert site.fake.subscriptions.rows() == []
    site.url = f"http://127.0.0.1:{site.hooks.port}"
    assert await site.keep() == ["made"]
