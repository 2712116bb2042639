"""Webhooks at the fake and by the connector: which change fires which step, what is sent, and what each answer does (2.8)."""

from __future__ import annotations

import json

import httpx
import msgspec
import pytest

from ipaas_resources.connectors.dataverse.fake_organization import A_PERSON
from ipaas_resources.connectors.dataverse.tests import Bench, create, update, write
from ipaas_resources.connectors.fakes import Fault
from ipaas_resources.connectors.subscribing import Remote, Wanted
from ipaas_resources.core.errors import ConfigurationError, CredentialsError

HOOK = "http://127.0.0.1:7/hooks/crm-1"
SECRET = "s3cret/+&="


def wanted(**more):
    fields = {
        "subscription": "crm-1",
        "system": "crm",
        "entity": "accounts",
        "scope": "",
        "url": HOOK,
        "proof": "code",
        "secret": lambda: SECRET,
    }
    return Wanted(**{**fields, **more})


class Told(Bench):
    """A bench whose product sends to us."""

    def __init__(self):
        super().__init__()
        self.status = 202
        self.got = []
        self.fake.mailroom.transport = lambda: httpx.MockTransport(self._hear)

    async def _hear(self, request):
        self.got.append(request)
        if self.status == 0:
            raise httpx.ReadTimeout("nothing", request=request)
        return httpx.Response(self.status)

    async def wait(self, seconds=1.0):
        """Let time pass and the product send what is due; the contexts that came."""
        self.clock.advance(seconds)
        await self.fake.mailroom.send_due()
        got, self.got = self.got, []
        return [json.loads(request.content) for request in got]

    @property
    def rows(self):
        return self.fake.webhooks.registrations.rows

    def add(self, **fields):
        return self.fake.sim_add("accounts", "", {"name": "Adatum", **fields})

    def failed(self):
        return [row["_owningextensionid_value"] for row in self.rows("asyncoperations")]


@pytest.fixture
async def told():
    told = Told()
    yield told
    await told.connector.close()


class TestTelling:
    async def test_what_is_sent_names_the_record_the_operation_and_what_changed(self, told):
        await told.connector.subscribe(wanted())
        identifier = told.add(creditlimit=5)
        told.clock.advance(1)
        await told.fake.mailroom.send_due()
        (request,) = told.got
        assert request.url.params["code"] == SECRET
        assert {
            name: request.headers[name]
            for name in ("x-ms-dynamics-entity-name", "x-ms-dynamics-request-name")
        } == {"x-ms-dynamics-entity-name": "account", "x-ms-dynamics-request-name": "Create"}
        context = json.loads(request.content)
        assert (context["MessageName"], context["PrimaryEntityName"], context["PrimaryEntityId"]) == (
            "Create",
            "account",
            identifier,
        )
        assert (context["Stage"], context["Mode"], context["Depth"]) == (40, 1, 1)
        assert request.headers["x-ms-correlation-request-id"] == context["CorrelationId"]
        ((parameter,),) = (context["InputParameters"],)
        attributes = {each["key"]: each["value"] for each in parameter["value"]["Attributes"]}
        assert attributes["name"] == "Adatum"
        assert attributes["creditlimit"] == {"Value": 5}
        assert context["OperationCreatedOn"].startswith("/Date(")

    async def test_an_update_holds_only_what_was_sent_and_a_delete_a_reference(self, told):
        await told.connector.subscribe(wanted())
        identifier = told.add()
        await told.wait()
        told.fake.sim_change("accounts", "", identifier, {"telephone1": "1"})
        (context,) = await told.wait()
        assert context["InputParameters"][0]["value"]["Attributes"] == [{"key": "telephone1", "value": "1"}]
        told.fake.sim_remove("accounts", "", identifier)
        (context,) = await told.wait()
        assert context["MessageName"] == "Delete"
        assert "Attributes" not in context["InputParameters"][0]["value"]

    async def test_our_own_writes_are_told_with_our_user_and_a_persons_with_theirs(self, told):
        await told.connector.subscribe(wanted())
        told.add()
        (by_hand,) = await told.wait()
        await write(told, create(1))
        (ours,) = await told.wait()
        who = (await told.connector.check()).detail
        assert ours["InitiatingUserId"] in who
        assert by_hand["InitiatingUserId"] == A_PERSON not in who

    async def test_bulk_messages_fire_the_step_of_each_row(self, told):
        await told.connector.subscribe(wanted())
        await write(told, *[create(number) for number in range(12)])
        contexts = await told.wait()
        assert told.paths().count("accounts/Microsoft.Dynamics.CRM.CreateMultiple") == 1
        assert [context["MessageName"] for context in contexts] == ["Create"] * 12
        assert len({context["OperationId"] for context in contexts}) == 12

    async def test_a_change_that_its_transaction_takes_back_is_not_told(self, told):
        await told.connector.subscribe(wanted())
        organization = told.fake.organization
        organization.journal = []
        told.add()
        for undo in reversed(organization.journal):
            undo()
        organization.journal = None
        assert await told.wait() == []

    async def test_other_tables_fire_nothing(self, told):
        await told.connector.subscribe(wanted())
        told.fake.sim_add("contacts", "", {"lastname": "Nobody"})
        assert await told.wait() == []
        assert told.fake.mailroom.waiting() == 0

    async def test_beyond_256_kb_the_parameters_go_and_a_header_says_so(self, told, monkeypatch):
        await told.connector.subscribe(wanted())
        monkeypatch.setattr("ipaas_resources.connectors.dataverse.fake_webhooks.LARGEST", 1500)
        small = told.add()
        big = told.add(description="x" * 1500)
        told.clock.advance(1)
        await told.fake.mailroom.send_due()
        by_id = {json.loads(request.content)["PrimaryEntityId"]: request for request in told.got}
        assert "x-ms-dynamics-msg-size-exceeded" not in by_id[small].headers
        assert "x-ms-dynamics-msg-size-exceeded" in by_id[big].headers
        removed = {"ParentContext", "InputParameters", "PreEntityImages", "PostEntityImages"}
        assert removed.isdisjoint(json.loads(by_id[big].content))
        assert removed <= set(json.loads(by_id[small].content))


class TestAnswers:
    @pytest.mark.parametrize("status", [502, 503, 504])
    async def test_a_gateways_trouble_gets_one_more_attempt_and_no_third(self, told, status):
        await told.connector.subscribe(wanted())
        told.status = status
        told.add()
        (first,) = await told.wait()
        (second,) = await told.wait(5)
        assert first == second, "the same operation"
        assert await told.wait(100_000) == []
        assert len(told.failed()) == 1

    async def test_the_one_more_attempt_may_do_it(self, told):
        await told.connector.subscribe(wanted())
        told.status = 503
        told.add()
        await told.wait()
        told.status = 200
        assert len(await told.wait(5)) == 1
        assert told.failed() == []

    @pytest.mark.parametrize("status", [0, 301, 400, 401, 404, 408, 413, 429, 500])
    async def test_everything_else_is_a_failed_job_that_nobody_repeats(self, told, status):
        await told.connector.subscribe(wanted())
        told.status = status
        told.add()
        await told.wait()
        assert await told.wait(100_000) == []
        (step,) = told.failed()
        query = f"asyncoperations?$filter=statuscode eq 31 and _owningextensionid_value eq {step}"
        answer = await told.connector._api.client.send("GET", query.replace(" ", "%20"), kind="read")
        assert len(answer.json()["value"]) == 1


class TestKeeping:
    async def current(self, told, want):
        (listed,) = await told.connector.list_subscriptions()
        return told.connector.is_current(listed, want)

    async def test_one_endpoint_and_a_step_for_each_message(self, told):
        made = await told.connector.subscribe(wanted())
        (endpoint,) = told.rows("serviceendpoints")
        assert endpoint["serviceendpointid"] == made.product_id
        assert (endpoint["contract"], endpoint["authtype"], endpoint["url"]) == (8, 4, HOOK)
        assert SECRET not in json.dumps(
            told.rows("serviceendpoints") + told.rows("sdkmessageprocessingsteps")
        )
        steps = told.rows("sdkmessageprocessingsteps")
        assert sorted(step["name"] for step in steps) == [
            "ipaas crm-1: Create account",
            "ipaas crm-1: Delete account",
            "ipaas crm-1: Update account",
        ]
        assert {(step["stage"], step["mode"], step["asyncautodelete"]) for step in steps} == {(40, 1, True)}
        assert (made.resource, made.expires_at) == ("account", None)

    @pytest.mark.parametrize(
        "harm",
        [
            lambda steps: steps.pop(next(iter(steps))),
            lambda steps: next(iter(steps.values())).update(statecode=1),
            lambda steps: [step.update(filteringattributes="name") for step in steps.values()],
            lambda steps: steps.clear(),
        ],
        ids=["a step is gone", "a step is switched off", "steps are narrowed", "all steps are gone"],
    )
    async def test_what_somebody_did_to_the_steps_is_seen_and_mended(self, told, harm):
        made = await told.connector.subscribe(wanted())
        assert await self.current(told, wanted())
        harm(told.fake.webhooks.registrations._rows["sdkmessageprocessingsteps"])
        assert not await self.current(told, wanted())
        renewed = await told.connector.renew(Remote(product_id=made.product_id, url=""), wanted())
        assert told.connector.is_current(renewed, wanted())
        assert await self.current(told, wanted())
        identifier = told.add()
        told.fake.sim_change("accounts", "", identifier, {"telephone1": "1"})
        told.fake.sim_remove("accounts", "", identifier)
        assert [context["MessageName"] for context in await told.wait()] == ["Create", "Update", "Delete"]

    async def test_a_round_that_broke_off_is_completed(self, told):
        told.fake.fail(Fault(method="POST", path="sdkmessageprocessingsteps", skip=1, status=503, times=-1))
        with pytest.raises(Exception, match="503"):
            await told.connector.subscribe(wanted())
        told.fake.faults.clear()
        (listed,) = await told.connector.list_subscriptions()
        assert (listed.url, told.connector.is_current(listed, wanted())) == (HOOK, False)
        await told.connector.renew(listed, wanted())
        assert await self.current(told, wanted())
        assert len(told.rows("sdkmessageprocessingsteps")) == 3

    async def test_a_step_that_is_there_twice_is_one_again(self, told):
        made = await told.connector.subscribe(wanted())
        steps = told.fake.webhooks.registrations._rows["sdkmessageprocessingsteps"]
        first = next(iter(steps.values()))
        twin = {**first, "sdkmessageprocessingstepid": "00000000-0000-4000-8000-00000000000a"}
        steps[twin["sdkmessageprocessingstepid"]] = twin
        what = told.fake.webhooks.registrations._what
        what[twin["sdkmessageprocessingstepid"]] = what[first["sdkmessageprocessingstepid"]]
        assert not await self.current(told, wanted())
        await told.connector.renew(made, wanted())
        assert len(told.rows("sdkmessageprocessingsteps")) == 3

    async def test_foreign_endpoints_are_listed_and_left_alone(self, told):
        await told.connector._api.client.send(
            "POST",
            "serviceendpoints",
            kind="write",
            content=json.dumps(
                {
                    "name": "somebody else",
                    "url": "http://127.0.0.1:9/x",
                    "contract": 8,
                    "authtype": 4,
                    "authvalue": "k",
                }
            ).encode(),
        )
        made = await told.connector.subscribe(wanted())
        listed = {each.url: each for each in await told.connector.list_subscriptions()}
        assert set(listed) == {HOOK, "http://127.0.0.1:9/x"}
        await told.connector.unsubscribe(made)
        (left,) = await told.connector.list_subscriptions()
        assert left.url == "http://127.0.0.1:9/x"
        assert told.rows("sdkmessageprocessingsteps") == []

    async def test_a_key_in_a_header_is_the_other_proof(self, told):
        made = await told.connector.subscribe(wanted(proof="header"))
        assert not told.connector.is_current(made, wanted())
        told.add()
        told.clock.advance(1)
        await told.fake.mailroom.send_due()
        (request,) = told.got
        assert request.headers["x-ipaas-key"] == SECRET
        assert not request.url.query

    async def test_what_cannot_be_registered_is_told_before_anything_is_made(self, told):
        for want, said in (
            (wanted(url="https://hooks.example.com:8443/hooks/crm-1"), "80 and 443"),
            (wanted(secret=lambda: ""), "secret"),
            (wanted(proof="signature"), "code or header"),
            (wanted(entity="roles"), "polled"),
        ):
            with pytest.raises(ConfigurationError, match=said):
                await told.connector.subscribe(want)
        assert told.rows("serviceendpoints") == []

    async def test_a_role_without_the_right_is_told_as_such(self, told):
        told.fake.organization.denied.add("prvCreateserviceendpoint")
        with pytest.raises(CredentialsError):
            await told.connector.subscribe(wanted())

    async def test_the_steps_of_many_endpoints_come_in_one_request(self, told):
        for number in range(5):
            name = f"crm-{number}"
            await told.connector.subscribe(wanted(subscription=name, url=HOOK.replace("crm-1", name)))
        before = len(told.fake.ledger.entries)
        listed = await told.connector.list_subscriptions()
        assert len(told.fake.ledger.entries) - before == 2
        for number, each in enumerate(sorted(listed, key=lambda remote: remote.url)):
            name = f"crm-{number}"
            want = wanted(subscription=name, url=HOOK.replace("crm-1", name))
            assert told.connector.is_current(msgspec.structs.replace(each), want)


class TestFiltering:
    async def test_a_step_for_some_columns_fires_for_those_alone(self, told):
        made = await told.connector.subscribe(wanted())
        steps = told.fake.webhooks.registrations._rows["sdkmessageprocessingsteps"]
        for step in steps.values():
            step["filteringattributes"] = "telephone1, name"
        identifier = told.add()
        await told.wait()
        told.fake.sim_change("accounts", "", identifier, {"description": "x"})
        assert await told.wait() == []
        await write(told, update(identifier, telephone1="2"))
        assert len(await told.wait()) == 1
        assert made.product_id


async def test_the_controls_show_delay_and_drop(told):
    made = await told.connector.subscribe(wanted())
    async with httpx.AsyncClient(transport=told.fake.transport(), base_url="https://contoso.crm4") as http:
        (listed,) = (await http.get("/_sim/subscriptions")).json()["subscriptions"]
        assert (listed["id"], listed["url"], len(listed["steps"])) == (made.product_id, HOOK, 3)
        await http.post("/_sim/notifications", json={"delay": 0})
        told.add()
        assert len(await told.wait(0)) == 1
        assert (
            await http.delete("/_sim/subscriptions", params={"id": listed["steps"][0]})
        ).status_code == 200
        assert len(told.rows("sdkmessageprocessingsteps")) == 2
        assert (await http.delete("/_sim/subscriptions", params={"id": made.product_id})).status_code == 200
        assert (await http.delete("/_sim/subscriptions", params={"id": made.product_id})).status_code == 404
    assert told.rows("sdkmessageprocessingsteps") == []
    told.add()
    assert await told.wait() == []
