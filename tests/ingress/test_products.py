"""The products as senders against the real ingress, over HTTP: handshake, proof, and what each answer makes them do."""

from __future__ import annotations

import datetime as dt
import json

import httpx
import pytest

from ipaas_resources.connectors import webhooks
from ipaas_resources.connectors.business_central.tests import BUYER, UK
from ipaas_resources.connectors.business_central.tests import Bench as BusinessCentralBench
from ipaas_resources.connectors.calibration.tests import CalibrationFake
from ipaas_resources.connectors.dataverse.tests import Bench as DataverseBench
from ipaas_resources.connectors.subscribing import Wanted
from ipaas_resources.core.clock import ManualClock, SystemClock
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store.subscriptions import expect_handshake, retire_subscription

from .conftest import SECRET

STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENTITIES = {"bc": ("customers", "uk", "client_state"), "crm": ("accounts", "", "code")}


def wanted(hooks, system, secret=SECRET):
    entity, scope, proof = ENTITIES[system]
    return Wanted(
        subscription=f"{system}-1",
        system=system,
        entity=entity,
        scope=scope,
        url=f"http://127.0.0.1:{hooks.port}/hooks/{system}-1",
        proof=proof,
        secret=lambda: secret,
    )


async def pointers(hooks, connector):
    """What the inbox points to, delivery by delivery."""
    reader = webhooks.receiver(connector)
    return [reader.hints(row.body, row.headers) for row in await hooks.stored()]


@pytest.fixture
async def bc(hooks):
    bench = BusinessCentralBench()
    yield bench
    await bench.connector.close()


@pytest.fixture
async def crm(hooks):
    bench = DataverseBench()
    yield bench
    await bench.connector.close()


class TestBusinessCentral:
    async def subscribed(self, hooks, bench):
        assert await expect_handshake(hooks.database, "bc-1", seconds=30)
        return await bench.connector.subscribe(wanted(hooks, "bc"))

    async def tell(self, bench, seconds=30):
        bench.clock.advance(seconds)
        return await bench.fake.mailroom.send_due()

    async def test_nobody_subscribes_where_no_handshake_is_expected(self, hooks, bc):
        with pytest.raises(ConfigurationError, match="ingress"):
            await bc.connector.subscribe(wanted(hooks, "bc"))
        assert await bc.connector.list_subscriptions() == []

    async def test_a_change_is_in_the_inbox_once_it_was_told(self, hooks, bc):
        made = await self.subscribed(hooks, bc)
        assert bc.connector.is_current(made, wanted(hooks, "bc"))
        bc.fake.sim_change("customers", UK, BUYER, {"displayName": "Adatum AG"})
        assert await self.tell(bc, 29) == 0
        await self.tell(bc, 1)
        (seen,) = await pointers(hooks, "business_central")
        ((pointer,), unclear) = seen.pointers, seen.unclear
        assert (pointer.entity, pointer.company, pointer.record, unclear) == (
            "customers",
            bc.company,
            BUYER,
            "",
        )
        assert await bc.connector.list_subscriptions() != []

    async def test_it_may_be_renewed_and_taken_away(self, hooks, bc):
        made = await self.subscribed(hooks, bc)
        bc.clock.advance(86_400)
        assert await expect_handshake(hooks.database, "bc-1", seconds=30)
        renewed = await bc.connector.renew(made, wanted(hooks, "bc"))
        assert (renewed.expires_at - made.expires_at).total_seconds() == 86_400
        await bc.connector.unsubscribe(renewed)
        bc.fake.sim_change("customers", UK, BUYER, {"displayName": "Adatum AG"})
        await self.tell(bc)
        assert await hooks.stored() == []

    async def test_a_wrong_secret_of_ours_is_mended_and_nothing_is_lost(self, hooks, bc, monkeypatch):
        await self.subscribed(hooks, bc)
        monkeypatch.setenv("HOOK_SECRET", "wrong for a while")
        hooks.app._senders._looked_at = float("-inf")
        bc.fake.sim_change("customers", UK, BUYER, {"displayName": "Adatum AG"})
        await self.tell(bc)
        assert bc.fake.ledger.deliveries[-1].status == 503
        assert len(await bc.connector.list_subscriptions()) == 1, "503 keeps it"
        monkeypatch.setenv("HOOK_SECRET", SECRET)
        await self.tell(bc, 60)
        assert bc.fake.ledger.deliveries[-1].status == 202
        assert len(await hooks.stored()) == 1

    async def test_a_subscription_that_we_retired_is_deleted_by_the_404(self, hooks, bc):
        await self.subscribed(hooks, bc)
        await retire_subscription(hooks.database, "bc-1")
        hooks.app._senders._looked_at = float("-inf")
        bc.fake.sim_change("customers", UK, BUYER, {"displayName": "Adatum AG"})
        await self.tell(bc)
        assert bc.fake.ledger.deliveries[-1].status == 404
        assert await bc.connector.list_subscriptions() == []

    async def test_one_notification_repeated_is_one_row(self, hooks, bc):
        await self.subscribed(hooks, bc)
        bc.fake.mailroom.mischief.duplicate = 1.0
        bc.fake.sim_change("customers", UK, BUYER, {"displayName": "Adatum AG"})
        await self.tell(bc)
        sent = [one for one in bc.fake.ledger.deliveries if one.about != ("handshake",)]
        assert [one.status for one in sent] == [202, 202]
        assert len(await hooks.stored()) == 1


class TestDataverse:
    async def tell(self, bench, seconds=1):
        bench.clock.advance(seconds)
        return await bench.fake.mailroom.send_due()

    async def test_a_change_is_in_the_inbox_and_the_url_carries_the_code(self, hooks, crm):
        await crm.connector.subscribe(wanted(hooks, "crm"))
        identifier = crm.fake.sim_add("accounts", "", {"name": "Adatum"})
        crm.fake.sim_change("accounts", "", identifier, {"name": "Adatum AG"})
        crm.fake.sim_remove("accounts", "", identifier)
        crm.fake.sim_add("contacts", "", {"lastname": "Nobody follows"})
        assert await self.tell(crm) == 3
        assert [one.status for one in crm.fake.ledger.deliveries] == [202] * 3
        seen = await pointers(hooks, "dataverse")
        assert [(p.table, p.record) for each in seen for p in each.pointers] == [("account", identifier)] * 3
        assert SECRET not in repr(crm.fake.ledger.deliveries)

    async def test_a_wrong_code_is_a_failed_job_and_no_repeat(self, hooks, crm):
        made = await crm.connector.subscribe(wanted(hooks, "crm", "another secret"))
        crm.fake.sim_add("accounts", "", {"name": "Adatum"})
        assert await self.tell(crm) == 1
        assert await self.tell(crm, 1000) == 0
        (job,) = crm.fake.webhooks.registrations.rows("asyncoperations")
        assert job["statuscode"] == 31
        assert await hooks.stored() == []
        assert (await crm.connector.list_subscriptions())[0].product_id == made.product_id


@pytest.mark.parametrize("secret", [SECRET, STANDARD], ids=["labsync", "standard"])
class TestCalibration:
    async def test_every_change_is_proven_and_in_the_inbox(self, hooks, monkeypatch, secret):
        monkeypatch.setenv("HOOK_SECRET", secret)
        lab = CalibrationFake(clock=SystemClock())
        lab.hooks.add(f"http://127.0.0.1:{hooks.port}/hooks/lab-1", secret)
        client = lab.sim_add("clients", "", {"CompanyName": "Adatum"})
        async with httpx.AsyncClient(
            transport=lab.transport(),
            base_url="https://lab.test",
            headers={"authorization": "Api-Token demo-token"},
        ) as http:
            ours = (await http.post("/api/service/clients", json={"CompanyName": "Fabrikam"})).json()["Id"]
        await lab.mailroom.send_due()
        assert [one.status for one in lab.ledger.deliveries] == [202, 202]
        seen = await pointers(hooks, "calibration")
        assert {(p.entity, p.record) for each in seen for p in each.pointers} == {
            ("clients", client),
            ("clients", str(ours)),
        }
        assert all(b"Adatum" not in row.body for row in await hooks.stored())

    async def test_what_we_did_not_take_comes_again_with_a_fresh_signature(self, hooks, monkeypatch, secret):
        monkeypatch.setenv("HOOK_SECRET", secret)
        monkeypatch.setenv("HOOK_OLD", "")
        # The product's clock is an hour behind: 401, until it is put right.
        clock = ManualClock(SystemClock().now() - dt.timedelta(hours=1))
        lab = CalibrationFake(clock=clock)
        lab.hooks.add(f"http://127.0.0.1:{hooks.port}/hooks/lab-1", secret)
        lab.sim_add("clients", "", {"CompanyName": "Adatum"})
        await lab.mailroom.send_due()
        assert [one.status for one in lab.ledger.deliveries] == [401]
        clock.advance(3600)
        assert await lab.mailroom.send_due() == 1
        assert [one.status for one in lab.ledger.deliveries] == [401, 202]
        (row,) = await hooks.stored()
        assert json.loads(row.body)["event"] == "client.created"
