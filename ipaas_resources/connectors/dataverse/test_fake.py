"""The fake speaks as microsoft.md section 2 says, refusals included."""

import re

import httpx
import pytest

from ipaas_resources.connectors.dataverse.fake_errors import protection_fault
from ipaas_resources.connectors.dataverse.tests import URL, FakeDataverse, read_to_the_end
from ipaas_resources.core.clock import ManualClock

ONE = "00000000-0000-0000-0000-000000000001"
TWO = "00000000-0000-0000-0000-000000000002"
ACCOUNT = "Microsoft.Dynamics.CRM.account"


@pytest.fixture
def fake():
    fake = FakeDataverse(clock=ManualClock())
    fake.tokens.accept("t")
    return fake


@pytest.fixture
async def http(fake):
    headers = {"authorization": "Bearer t", "content-type": "application/json"}
    async with httpx.AsyncClient(transport=fake.transport(), base_url=URL, headers=headers) as client:
        yield client


def code(response):
    return response.json()["error"]["code"]


class TestPatch:
    """The table of 2.5."""

    async def test_without_a_condition_it_creates_or_updates(self, http):
        assert (await http.patch(f"accounts({ONE})", json={"name": "a"})).status_code == 204
        assert (await http.patch(f"accounts({ONE})", json={"name": "b"})).status_code == 204
        assert (await http.get(f"accounts({ONE})?$select=name")).json()["name"] == "b"

    async def test_representation_tells_created_from_updated(self, http):
        wish = {"prefer": "return=representation"}
        created = await http.patch(f"accounts({ONE})?$select=accountid", json={"name": "a"}, headers=wish)
        updated = await http.patch(f"accounts({ONE})?$select=accountid", json={"name": "b"}, headers=wish)
        assert (created.status_code, updated.status_code) == (201, 200)
        assert created.json()["accountid"] == ONE
        assert created.json()["@odata.etag"] != updated.json()["@odata.etag"]

    async def test_if_match_any_updates_only(self, http):
        absent = await http.patch(f"accounts({ONE})", json={"name": "a"}, headers={"if-match": "*"})
        assert (absent.status_code, code(absent)) == (404, "")
        await http.patch(f"accounts({ONE})", json={"name": "a"})
        present = await http.patch(f"accounts({ONE})", json={"name": "b"}, headers={"if-match": "*"})
        assert present.status_code == 204

    async def test_if_none_match_any_creates_only(self, http):
        first = await http.patch(f"accounts({ONE})", json={"name": "a"}, headers={"if-none-match": "*"})
        again = await http.patch(f"accounts({ONE})", json={"name": "b"}, headers={"if-none-match": "*"})
        assert (first.status_code, again.status_code) == (204, 412)
        assert (await http.get(f"accounts({ONE})")).json()["name"] == "a"

    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    async def test_an_old_version_is_412(self, http, method):
        etag = (await http.patch(f"accounts({ONE})", json={"name": "a"})).headers["etag"]
        await http.patch(f"accounts({ONE})", json={"name": "b"})
        answer = await http.request(
            method, f"accounts({ONE})", json={"name": "c"}, headers={"if-match": etag}
        )
        assert answer.status_code == 412
        assert "doesn't match the RowVersion" in answer.json()["error"]["message"]

    async def test_the_present_version_is_taken(self, http):
        etag = (await http.patch(f"accounts({ONE})", json={"name": "a"})).headers["etag"]
        assert re.fullmatch(r'W/"\d+"', etag)
        answer = await http.patch(f"accounts({ONE})", json={"name": "b"}, headers={"if-match": etag})
        assert answer.status_code == 204

    async def test_an_alternate_key_is_not_assumed(self, http):
        answer = await http.patch("accounts(accountnumber='ABC123')", json={"name": "a"})
        assert answer.status_code == 400

    async def test_an_unchanged_row_is_304(self, http):
        etag = (await http.patch(f"accounts({ONE})", json={"name": "a"})).headers["etag"]
        assert (await http.get(f"accounts({ONE})", headers={"if-none-match": etag})).status_code == 304


class TestValues:
    @pytest.mark.parametrize(
        ("body", "wanted"),
        [
            ({"nosuchcolumn": 1}, "0x80048d19"),
            ({"createdon": "2026-01-01T00:00:00Z"}, "0x80048d19"),
            ({"versionnumber": 1}, "0x80048d19"),
            ({"statecode": 1}, "0x80048d19"),  # set by an update only
            ({"creditlimit_base": 1}, "0x80048d19"),
            ({"name": "n" * 161}, "0x80044331"),
            ({"accountcategorycode": 99}, "0x8004431a"),
            ({"accountcategorycode": "Standard"}, "0x80048d19"),
            ({"numberofemployees": "many"}, "0x80048d19"),
            ({"creditlimit": 922337203685478}, "0x80044330"),
            ({"primarycontactid": ONE}, "0x80048d19"),
            ({"primaryContactId@odata.bind": f"/contacts({ONE})"}, "0x80048d19"),  # capitals count
            ({"primarycontactid@odata.bind": f"/contacts({ONE})"}, "0x80040217"),
            ({"primarycontactid@odata.bind": f"/accounts({ONE})"}, "0x80048d19"),
        ],
    )
    async def test_what_does_not_fit_is_refused(self, fake, http, body, wanted):
        answer = await http.post("accounts", json={"name": "a", **body})
        assert answer.is_client_error
        assert code(answer) == wanted
        assert fake.ledger.writes() == []

    async def test_a_required_column_is_insisted_on(self, http):
        assert (await http.post("products", json={"name": "a"})).status_code == 400
        assert (await http.post("products", json={"name": "a", "productnumber": "1"})).status_code == 204

    async def test_stored_values_are_the_platforms_own(self, fake, http):
        body = {
            "name": "",
            "creditlimit": 10.005,
            "telephone1": "x",
            "lastonholdtime": "2026-01-01T10:00:00.987+02:00",
        }
        await http.patch(f"accounts({ONE})", json=body)
        row = fake.sim_record("accounts", ONE)
        assert row["name"] is None
        assert str(row["creditlimit"]) == "10.00"
        assert row["creditlimit_base"] == row["creditlimit"]
        assert row["lastonholdtime"] == "2026-01-01T08:00:00Z"
        assert (row["statecode"], row["statuscode"]) == (0, 1)
        assert row["_ownerid_value"] == fake.organization.user

    async def test_a_state_brings_its_status(self, fake, http):
        await http.patch(f"accounts({ONE})", json={"name": "a"})
        await http.patch(f"accounts({ONE})", json={"statecode": 1})
        assert fake.sim_record("accounts", ONE)["statuscode"] == 2

    async def test_overriddencreatedon_moves_the_creation(self, fake, http):
        await http.patch(
            f"accounts({ONE})", json={"name": "a", "overriddencreatedon": "2019-05-05T00:00:00Z"}
        )
        assert fake.sim_record("accounts", ONE)["createdon"] == "2019-05-05T00:00:00Z"

    async def test_annotations_come_when_asked(self, fake, http):
        contact = fake.sim_add("contacts", "", {"firstname": "Ada", "lastname": "L"})
        await http.patch(
            f"accounts({ONE})", json={"name": "a", "primarycontactid@odata.bind": f"/contacts({contact})"}
        )
        wish = {"prefer": 'odata.include-annotations="*"'}
        row = (await http.get("accounts?$select=statecode,_primarycontactid_value", headers=wish)).json()[
            "value"
        ][0]
        assert row["_primarycontactid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "contact"
        assert row["_primarycontactid_value@OData.Community.Display.V1.FormattedValue"] == "Ada L"
        assert row["statecode@OData.Community.Display.V1.FormattedValue"] == "Active"
        plain = (await http.get("accounts?$select=statecode")).json()["value"][0]
        assert set(plain) == {"@odata.etag", "statecode", "accountid"}


class TestLists:
    async def test_a_page_holds_5000_rows_at_most(self, fake, http):
        for number in range(5001):
            fake.sim_add("uoms", "", {"name": str(number)})
        first = (await http.get("uoms?$select=name", headers={"prefer": "odata.maxpagesize=9000"})).json()
        assert len(first["value"]) == 5000
        rest = (await http.get(first["@odata.nextLink"])).json()
        assert len(rest["value"]) == 1
        assert "@odata.nextLink" not in rest
        assert len({row["uomid"] for row in first["value"] + rest["value"]}) == 5001
        assert (await http.get("uoms/$count")).text == "5000"

    @pytest.mark.parametrize(
        ("condition", "wanted"),
        [
            ("accountnumber eq 'a1'", {"1"}),
            ("accountnumber eq 'A1' or accountnumber eq 'É3 '", {"1", "3"}),
            ("name eq 'O''Brien'", {"2"}),
            ("startswith(name,'o') and numberofemployees gt 1", {"2"}),
            ("contains(name,'rie') or endswith(accountnumber,'3')", {"2", "3"}),
            ("not (accountnumber eq 'A1')", {"2", "3"}),
            ("numberofemployees ge 2 and numberofemployees le 3", {"2", "3"}),
            ("name eq null", {"3"}),
            ("accountnumber ne 'A1' and creditonhold eq true", {"2"}),
            ("createdon ge 2026-01-01T00:00:00Z and createdon lt 2026-01-01T00:00:01Z", {"1", "2", "3"}),
            (f"accountid eq {ONE}", {"1"}),
        ],
    )
    async def test_filters(self, fake, http, condition, wanted):
        fake.sim_add(
            "accounts", "", {"accountid": ONE, "name": "A", "accountnumber": "A1", "numberofemployees": 1}
        )
        fake.sim_add(
            "accounts",
            "",
            {"name": "O'Brien", "accountnumber": "B2", "numberofemployees": 2, "creditonhold": True},
        )
        fake.sim_add("accounts", "", {"accountnumber": "e3", "numberofemployees": 3})
        answer = await http.get("accounts", params={"$filter": condition, "$select": "numberofemployees"})
        assert {str(row["numberofemployees"]) for row in answer.json()["value"]} == wanted

    @pytest.mark.parametrize(
        "query",
        [
            "$select=nosuch",
            "$filter=nosuch eq 1",
            "$filter=name eq",
            "$skip=5",
            "$filter=name xx 'a'",
            "$skiptoken=x",
        ],
    )
    async def test_a_wrong_query_is_400(self, http, query):
        assert (await http.get(f"accounts?{query}")).status_code == 400

    async def test_order_and_top(self, fake, http):
        for name in "bca":
            fake.sim_add("accounts", "", {"name": name})
        rows = (await http.get("accounts?$select=name&$orderby=name desc&$top=2")).json()["value"]
        assert [row["name"] for row in rows] == ["c", "b"]


class TestChangeTracking:
    async def test_a_delta_tells_changes_then_deletions(self, fake, http):
        ids = [fake.sim_add("accounts", "", {"name": str(n)}) for n in range(5)]
        rows, link = await read_to_the_end(
            http, "accounts?$select=name", prefer="odata.track-changes,odata.maxpagesize=2"
        )
        assert sorted(row["name"] for row in rows) == ["0", "1", "2", "3", "4"]
        fake.sim_remove("accounts", "", ids[0])
        fake.sim_change("accounts", "", ids[3], {"name": "three"})
        brief = fake.sim_add("accounts", "", {"name": "brief"})
        fake.sim_remove("accounts", "", brief)
        rows, link = await read_to_the_end(http, link, prefer="odata.maxpagesize=1")
        assert rows[0]["name"] == "three"
        assert [(row["id"], row["reason"]) for row in rows[1:]] == [(ids[0], "deleted"), (brief, "deleted")]
        assert rows[1]["@odata.context"].endswith("#accounts/$deletedEntity")
        assert await read_to_the_end(http, link) == ([], link)

    async def test_changes_during_the_initial_load_are_in_the_first_delta(self, fake, http):
        ids = sorted(fake.sim_add("accounts", "", {"name": str(n)}) for n in range(4))
        first = (
            await http.get(
                "accounts?$select=name", headers={"prefer": "odata.track-changes,odata.maxpagesize=2"}
            )
        ).json()
        fake.sim_change("accounts", "", ids[0], {"name": "late"})
        _, link = await read_to_the_end(http, first["@odata.nextLink"], prefer="odata.maxpagesize=2")
        rows, _ = await read_to_the_end(http, link)
        assert [row["name"] for row in rows] == ["late"]

    @pytest.mark.parametrize("option", ["$filter=name eq 'a'", "$orderby=name", "$top=5"])
    async def test_other_options_are_refused(self, http, option):
        answer = await http.get(f"accounts?{option}", headers={"prefer": "odata.track-changes"})
        assert answer.status_code == 400

    async def test_a_token_lives_seven_days(self, fake, http):
        _, link = await read_to_the_end(http, "accounts", prefer="odata.track-changes")
        fake.clock.advance(7 * 86_400)
        assert (await http.get(link)).status_code == 200
        fake.clock.advance(1)
        answer = await http.get(link)
        assert (answer.status_code, code(answer)) == (400, "0x80044352")

    async def test_an_untracked_table_refuses(self, http):
        assert (await http.get("uoms", headers={"prefer": "odata.track-changes"})).status_code == 400


class TestDoors:
    async def test_no_token_is_401(self, http):
        assert (await http.get("WhoAmI", headers={"authorization": "Bearer other"})).status_code == 401

    async def test_a_token_for_another_resource_is_401(self, fake, http):
        wrong = fake.tokens.issue(60, "client@https://other.example")
        right = fake.tokens.issue(60, f"client@{URL.removesuffix('/api/data/v9.2/')}")
        statuses = [
            (await http.get("WhoAmI", headers={"authorization": f"Bearer {token}"})).status_code
            for token in (wrong, right)
        ]
        assert statuses == [401, 200]

    async def test_an_unknown_table_is_404(self, http):
        assert (await http.get("nosuch")).status_code == 404

    async def test_requests_beyond_the_limit_are_429_with_their_code(self, fake, http):
        fake.limits_on = True
        fake.limits = type(fake).limits.__class__(requests=2, window=300.0, concurrency=52)
        statuses = [(await http.get("WhoAmI")) for _ in range(3)]
        assert [answer.status_code for answer in statuses] == [200, 200, 429]
        assert code(statuses[2]) == "0x80072322"
        assert statuses[2].headers["retry-after"] == "300"
        fake.clock.advance(301)
        assert (await http.get("WhoAmI")).status_code == 200

    @pytest.mark.parametrize(
        ("reason", "wanted"),
        [("requests", "0x80072322"), ("time", "0x80072321"), ("concurrency", "0x80072326")],
    )
    async def test_all_three_limits_can_be_ordered(self, fake, http, reason, wanted):
        fake.fail(protection_fault(reason, 9))
        answer = await http.get("WhoAmI")
        assert (answer.status_code, answer.headers["retry-after"], code(answer)) == (429, "9", wanted)

    async def test_created_rows_hide_from_queries_for_the_search_lag(self, fake, http):
        fake.search_lag = 5
        await http.patch(f"accounts({ONE})", json={"name": "a"})
        assert (await http.get("accounts")).json()["value"] == []
        assert (await http.get(f"accounts({ONE})")).status_code == 200
        fake.clock.advance(6)
        assert len((await http.get("accounts")).json()["value"]) == 1
