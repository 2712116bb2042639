"""Reads of the connector that are Dataverse's own: change tracking, lookups, finding, service protection."""

import datetime as dt
from email.utils import format_datetime

import pytest

from ipaas_resources.connectors.dataverse.fake_errors import protection_fault
from ipaas_resources.connectors.dataverse.tests import URL, Bench
from ipaas_resources.connectors.fakes import Fault, Reply, dumps
from ipaas_resources.core.errors import (
    ContractError,
    CursorExpiredError,
    ProtocolError,
    SchemaError,
    ThrottledError,
)
from ipaas_resources.core.records import ChangeKind
from ipaas_resources.core.values import decode, encode

DAY = 86_400


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    await bench.connector.close()


async def scan(bench, entity="accounts", cursor=None, **how):
    return [
        page async for page in bench.connector.changes(entity, "", cursor and decode(encode(cursor)), **how)
    ]


def changes(pages):
    return [change for page in pages for change in page.changes]


def spy(bench, path):
    """Every request to that path from now on: its query and its `Prefer` header."""
    seen = []

    def look(request):
        if path in request.path:
            seen.append((request.raw_query.decode(), request.headers.get("prefer", "")))
        return False

    bench.fake.fail(Fault(match=look, times=-1, status=500))
    return seen


def altered(path, change, times=1):
    """A fault that edits the JSON of an answer."""

    def edit(reply):
        return Reply(reply.status, dumps(change(reply.json())), reply.headers)

    return Fault(path=path, method="GET", times=times, change=edit)


class TestChangeTracking:
    async def test_the_initial_load_asks_for_tracking_and_repeats_its_page_size(self, bench):
        for number in range(5):
            bench.fake.sim_add("accounts", "", {"name": str(number)})
        seen = spy(bench, "/accounts")
        pages = await scan(bench, page_size=2)
        assert [len(page.changes) for page in pages] == [2, 2, 1]
        assert all("odata.track-changes" in prefer and "odata.maxpagesize=2" in prefer for _, prefer in seen)
        assert seen[0][0] == ""
        # The next link is used as it came, escapes and all.
        assert pages[0].cursor["resume"]["link"] == f"{URL}accounts?{seen[1][0]}"

    async def test_no_page_is_asked_beyond_5000_rows(self, bench):
        seen = spy(bench, "/accounts")
        await scan(bench, page_size=20_000)
        assert "odata.maxpagesize=5000" in seen[0][1]

    async def test_the_delta_link_stays_in_the_cursor_and_tells_deletes(self, bench):
        keep, gone, edited = (bench.fake.sim_add("accounts", "", {"name": name}) for name in "abc")
        cursor = (await scan(bench))[-1].cursor
        assert cursor["watermark"]["link"].startswith(f"{URL}accounts?$deltatoken=")
        bench.fake.sim_remove("accounts", "", gone)
        bench.fake.sim_change("accounts", "", edited, {"name": "C"})
        brief = bench.fake.sim_add("accounts", "", {"name": "brief"})
        bench.fake.sim_remove("accounts", "", brief)
        pages = await scan(bench, cursor=cursor)
        assert [(change.kind, change.id) for change in changes(pages)] == [
            (ChangeKind.UPSERT, edited),
            (ChangeKind.DELETE, gone),
            (ChangeKind.DELETE, brief),
        ]
        assert not any(page.complete for page in pages)
        assert keep not in {change.id for change in changes(pages)}
        assert changes(await scan(bench, cursor=pages[-1].cursor)) == []

    async def test_versions_are_ordered_and_the_etag_is_unchanged(self, bench):
        identifier = bench.fake.sim_add("accounts", "", {"name": "a"})
        first = changes(pages := await scan(bench))[0]
        assert first.etag == bench.fake.sim_record("accounts", identifier)["@odata.etag"]
        assert first.etag == f'W/"{first.order}"'
        bench.fake.sim_change("accounts", "", identifier, {"name": "b"})
        second = changes(await scan(bench, cursor=pages[-1].cursor))[0]
        assert second.order > first.order

    async def test_a_token_older_than_seven_days_asks_for_a_full_read(self, bench):
        bench.fake.sim_add("accounts", "", {"name": "a"})
        cursor = (await scan(bench))[-1].cursor
        bench.clock.advance(7 * DAY + 1)
        with pytest.raises(CursorExpiredError, match="accounts"):
            await scan(bench, cursor=cursor)
        pages = await scan(bench)
        assert len(changes(pages)) == 1
        assert pages[-1].complete

    async def test_a_lost_paging_cookie_of_a_delta_goes_back_to_its_delta_link(self, bench):
        ids = [bench.fake.sim_add("accounts", "", {"name": "a"}) for _ in range(5)]
        cursor = (await scan(bench))[-1].cursor
        for identifier in ids:
            bench.fake.sim_change("accounts", "", identifier, {"name": "b"})
        first = (await scan(bench, cursor=cursor, page_size=2))[0]
        bench.fake.fail(
            Fault(path="skiptoken", method="GET", status=400, json={"error": {"code": "", "message": ""}})
        )
        pages = await scan(bench, cursor=first.cursor)
        assert {change.id for change in changes(pages)} == set(ids)
        assert "link" in pages[-1].cursor["watermark"]

    async def test_a_lost_paging_cookie_of_the_initial_load_asks_for_a_new_one(self, bench):
        for _ in range(3):
            bench.fake.sim_add("accounts", "", {"name": "a"})
        first = (await scan(bench, page_size=2))[0]
        bench.fake.fail(Fault(path="skiptoken", method="GET", status=400))
        with pytest.raises(CursorExpiredError):
            await scan(bench, cursor=first.cursor)

    async def test_the_selection_is_baked_into_the_cursor(self, bench):
        identifier = bench.fake.sim_add("accounts", "", {"name": "a", "accountnumber": "1"})
        seen = spy(bench, "/accounts")
        pages = await scan(bench, fields=["name"])
        assert changes(pages)[0].document == {"accountid": identifier, "name": "a"}
        assert seen[0][0] in {"$select=accountid,name", "$select=name,accountid"}
        bench.fake.sim_change("accounts", "", identifier, {"name": "b"})
        (change,) = changes(await scan(bench, cursor=pages[-1].cursor, fields=["name", "accountnumber"]))
        assert change.document == {"accountid": identifier, "name": "b"}

    async def test_a_selected_column_that_goes_away_is_noticed(self, bench):
        bench.fake.sim_add("accounts", "", {"name": "a"})
        cursor = (await scan(bench, fields=["name", "fax"]))[-1].cursor
        bench.fake.organization.drop_column("account", "fax")
        with pytest.raises(CursorExpiredError):
            await scan(bench, cursor=cursor)
        with pytest.raises(SchemaError):
            await scan(bench, fields=["name", "fax"])

    async def test_a_field_that_never_was_is_a_schema_error(self, bench):
        with pytest.raises(SchemaError, match="nosuch"):
            await scan(bench, fields=["nosuch"])

    async def test_a_tracked_read_without_a_delta_link_is_a_protocol_error(self, bench):
        bench.fake.fail(altered("/accounts", lambda body: {"value": body["value"]}))
        with pytest.raises(ProtocolError, match="delta link"):
            await scan(bench)

    async def test_a_row_that_breaks_the_schema_is_set_aside_and_its_neighbours_go_on(self, bench):
        ids = sorted(bench.fake.sim_add("accounts", "", {"name": "a"}) for _ in range(3))

        def spoil(body):
            body["value"][1]["creditlimit"] = "not a number"
            return body

        bench.fake.fail(altered("/accounts", spoil, times=2))
        (page,) = await scan(bench)
        assert [change.id for change in page.changes] == [ids[0], ids[2]]
        ((identifier, error),) = page.faults
        assert (identifier, error.field) == (ids[1], "creditlimit")
        assert page.complete
        with pytest.raises(ContractError, match="creditlimit"):
            await bench.connector.read("accounts", "", ids)

    async def test_the_volatile_fields_are_marked(self, bench):
        schema = await bench.connector.schema("accounts")
        assert {field.name for field in schema.fields if field.volatile} == {"versionnumber", "modifiedon"}


class TestUntrackedTables:
    async def test_the_first_read_is_complete_and_the_next_one_reaches_back(self, bench):
        bench.fake.sim_add("uoms", "", {"name": "old"})
        bench.clock.advance(DAY)
        first = await scan(bench, "uoms")
        assert first[-1].complete
        bench.fake.sim_add("uoms", "", {"name": "same second"})
        seen = spy(bench, "/uoms")
        second = await scan(bench, "uoms", first[-1].cursor)
        assert [change.document["name"] for change in changes(second)] == ["same second"]
        assert not second[-1].complete
        assert "modifiedon%20ge%202026-01-01T23:55:00" in seen[0][0]

    async def test_a_server_clock_behind_ours_loses_nothing(self, bench):
        bench.fake.sim_add("uoms", "", {"name": "a"})
        behind = bench.clock.now() - dt.timedelta(hours=2)

        def tell(reply):
            return Reply(reply.status, reply.body, {**reply.headers, "date": format_datetime(behind)})

        bench.fake.fail(Fault(path="/uoms", change=tell))
        cursor = (await scan(bench, "uoms"))[-1].cursor
        assert cursor["watermark"]["since"] == "2025-12-31T21:55:00.000000Z"

    async def test_the_watermark_is_the_start_of_the_scan(self, bench):
        for number in range(3):
            bench.fake.sim_add("uoms", "", {"name": str(number)})
        pages = []
        async for page in bench.connector.changes("uoms", "", None, page_size=1):
            pages.append(page)
            bench.clock.advance(3600)
        assert pages[-1].cursor["watermark"]["since"] == "2025-12-31T23:55:00.000000Z"

    async def test_deletes_are_seen_by_listing_and_the_manifest_says_so(self, bench):
        assert bench.connector.manifest.capabilities("uoms").deletes == "tombstones"
        await bench.connector.schema("uoms")
        assert bench.connector.manifest.capabilities("uoms").deletes == "listing"
        await bench.connector.schema("accounts")
        assert bench.connector.manifest.capabilities("accounts").deletes == "tombstones"


class TestLookups:
    async def test_a_lookup_is_the_plain_id(self, bench):
        contact = bench.fake.sim_add("contacts", "", {"lastname": "L"})
        bench.fake.sim_add("accounts", "", {"name": "a", "primarycontactid": contact})
        (change,) = changes(await scan(bench, fields=["primarycontactid"]))
        assert change.document["primarycontactid"] == contact

    async def test_a_polymorphic_lookup_has_a_companion_that_names_the_entity(self, bench):
        account = bench.fake.sim_add("accounts", "", {"name": "a"})
        parent = {"parentcustomerid_account@odata.bind": f"/accounts({account})"}
        one = bench.fake.sim_add("contacts", "", {"lastname": "1", **parent})
        two = bench.fake.sim_add("contacts", "", {"lastname": "2"})
        fields = ["parentcustomerid", "parentcustomeridtype"]
        documents = {
            change.id: change.document for change in changes(await scan(bench, "contacts", fields=fields))
        }
        assert documents[one] == {
            "contactid": one,
            "parentcustomerid": account,
            "parentcustomeridtype": "accounts",
        }
        assert documents[two] == {"contactid": two, "parentcustomerid": None, "parentcustomeridtype": None}
        (found,) = await bench.connector.read("contacts", "", [one])
        assert found.document["parentcustomeridtype"] == "accounts"
        assert found.document["owneridtype"] == "systemusers"

    async def test_annotations_are_asked_for_only_where_a_companion_is_read(self, bench):
        seen = spy(bench, "/contacts")
        await scan(bench, "contacts", fields=["lastname"])
        await scan(bench, "contacts", fields=["parentcustomeridtype"])
        assert ["lookuplogicalname" in prefer for _, prefer in seen] == [False, True]
        assert "_parentcustomerid_value" in seen[1][0]


class TestByIds:
    async def test_ids_are_read_in_groups(self, bench):
        ids = [bench.fake.sim_add("accounts", "", {"name": str(n)}) for n in range(120)]
        await bench.connector.read("accounts", "", ids[:1])
        before = len(bench.fake.ledger.entries)
        found = await bench.connector.read("accounts", "", [identifier.upper() for identifier in ids])
        assert [one.id for one in found] == ids
        assert len(bench.fake.ledger.entries) - before == 3

    async def test_what_is_no_guid_is_nobody(self, bench):
        await bench.connector.schema("accounts")
        before = len(bench.fake.ledger.entries)
        assert await bench.connector.read("accounts", "", ["C-7", "' or 1 eq 1"]) == [None, None]
        assert len(bench.fake.ledger.entries) == before

    async def test_long_text_is_read_whole(self, bench):
        text = "0123456789" * 1_000
        identifier = bench.fake.sim_add("annotations", "", {"notetext": text})
        (found,) = await bench.connector.read("annotations", "", [identifier])
        assert found.document["notetext"] == text


class TestFind:
    async def find(self, bench, fields, *values):
        hits = await bench.connector.find("accounts", "", fields, values)
        return [sorted(found.document["name"] for found in each) for each in hits]

    async def test_text_is_compared_as_the_database_compares_it(self, bench):
        for name, number in (("lower", "abc"), ("upper", "ABC "), ("accent", "ábc"), ("other", "abcd")):
            bench.fake.sim_add("accounts", "", {"name": name, "accountnumber": number})
        assert await self.find(bench, ("accountnumber",), ("Abc",), ("ABCD",), ("abc",)) == [
            ["accent", "lower", "upper"],
            ["other"],
            ["accent", "lower", "upper"],
        ]

    async def test_several_fields_are_one_key(self, bench):
        for name, number, city in (("a", "1", "Ulm"), ("b", "1", "Bonn"), ("c", "2", "Ulm")):
            bench.fake.sim_add("accounts", "", {"name": name, "accountnumber": number, "address1_city": city})
        fields = ("accountnumber", "address1_city")
        assert await self.find(bench, fields, ("1", "Bonn"), ("2", "Bonn"), ("1", "ulm")) == [
            ["b"],
            [],
            ["a"],
        ]

    async def test_keys_of_other_types(self, bench):
        contact = bench.fake.sim_add("contacts", "", {"lastname": "L"})
        bench.fake.sim_add(
            "accounts",
            "",
            {"name": "a", "numberofemployees": 7, "primarycontactid": contact, "accountcategorycode": 2},
        )
        for field, value in (
            ("numberofemployees", 7),
            ("primarycontactid", contact),
            ("accountcategorycode", 2),
        ):
            assert await self.find(bench, (field,), (value,)) == [["a"]], field
        assert await self.find(bench, ("fax",), (None,)) == [["a"]]

    async def test_what_no_record_can_carry_is_not_asked(self, bench):
        await bench.connector.schema("accounts")
        before = len(bench.fake.ledger.entries)
        impossible = [("x" * 21,), (7,), ("\ue000d800",)]
        assert await self.find(bench, ("accountnumber",), *impossible) == [[], [], []]
        assert len(bench.fake.ledger.entries) == before

    async def test_a_row_that_fits_no_asked_value_is_asked_for_alone(self, bench):
        for number in "123":
            bench.fake.sim_add("accounts", "", {"name": number, "accountnumber": number})

        def respell(body):
            # The database may call equal what our folding does not.
            for row in body["value"]:
                row["accountnumber"] = {"2": "II"}.get(row["accountnumber"], row["accountnumber"])
            return body

        bench.fake.fail(altered(r"filter=.*accountnumber", respell, times=-1))
        assert await self.find(bench, ("accountnumber",), ("1",), ("2",), ("3",)) == [["1"], ["2"], ["3"]]

    async def test_long_keys_go_in_several_addresses(self, bench):
        names = [f"{number:03}" + "ö" * 150 for number in range(60)]
        for name in names:
            bench.fake.sim_add("accounts", "", {"name": name})
        await bench.connector.schema("accounts")
        seen = spy(bench, "/accounts")
        assert await self.find(bench, ("name",), *[(name,) for name in names]) == [[name] for name in names]
        assert max(len(query) for query, _ in seen) < 9_000

    async def test_a_companion_cannot_be_searched(self, bench):
        with pytest.raises(SchemaError):
            await bench.connector.find("contacts", "", ("parentcustomeridtype",), [("accounts",)])
        with pytest.raises(SchemaError):
            await bench.connector.find("contacts", "", ("nosuch",), [("a",)])


class TestServiceProtection:
    @pytest.mark.parametrize("reason", ["requests", "time", "concurrency"])
    async def test_each_limit_is_waited_out(self, bench, reason):
        bench.fake.sim_add("accounts", "", {"name": "a"})
        await bench.connector.schema("accounts")
        bench.fake.fail(protection_fault(reason, 20, path="/accounts"))
        before = bench.clock.monotonic()
        assert len(changes(await scan(bench))) == 1
        assert bench.clock.monotonic() - before >= 20

    async def test_a_long_pause_is_told_with_its_code(self, bench):
        await bench.connector.schema("accounts")
        bench.fake.fail(protection_fault("time", 299, path="/accounts"))
        with pytest.raises(ThrottledError) as caught:
            await scan(bench)
        assert caught.value.retry_after == 299
        assert caught.value.code == "0x80072321"

    async def test_the_budget_is_one_per_application(self, bench):
        await scan(bench)
        (key,) = bench.limits._permits
        assert (key.system, key.credential, key.scope) == ("crm", "11111111-aaaa-bbbb-cccc-000000000001", "")
        policy = bench.connector.manifest.limits.policy()
        assert (policy.requests, policy.window, policy.concurrency) == (6000, 300, 52)


async def test_a_table_s_logical_name_leads_to_our_entity_and_is_asked_for_once(bench):
    asked = spy(bench, "EntityDefinitions")
    assert await bench.connector.entity_of("account") == "accounts"
    assert await bench.connector.entity_of("contact") == "contacts"
    assert len(asked) == 1
    # A table may have been made since: an unknown one is looked for again.
    assert await bench.connector.entity_of("ghost") is None
    assert len(asked) == 2
