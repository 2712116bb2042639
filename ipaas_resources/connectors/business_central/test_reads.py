"""Reading Business Central: companies, schemas, scans, look-ups."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from urllib.parse import unquote_plus

import pytest

from ipaas_resources.connectors.business_central.catalogue import catalogue, entity_id
from ipaas_resources.connectors.business_central.drafts import _FILE_NAME
from ipaas_resources.connectors.business_central.entities import decode_member, encode_member
from ipaas_resources.connectors.business_central.tests import BUYER, DE, UK, ZERO_GUID, Bench, system_document
from ipaas_resources.connectors.fakes import Fault
from ipaas_resources.core.errors import ConfigurationError, CredentialsError, RefusedRecordError, SchemaError
from ipaas_resources.core.records import ChangeKind, file_ref
from mappings.characters import has_unfit

ENTITIES = Path(__file__).parent / "fixtures" / "entities.json"


def queries(bench: Bench, path: str) -> list[str]:
    return [unquote_plus(entry.query) for entry in bench.fake.ledger.requests("GET", path)]


class TestConfiguration:
    def test_every_fault_of_the_document_is_named_at_once(self, bench):
        document = system_document(
            base_url="http://bc.example/v2.0/t/p", login_url="http://login", surprise=1
        )
        del document.settings["client_id"]
        document.secrets.clear()
        document.scopes.clear()
        with pytest.raises(ConfigurationError) as told:
            bench.fresh(document)
        for fault in ("base_url", "https", "login_url", "surprise", "client_id", "client_secret", "scopes"):
            assert fault in str(told.value)

    def test_the_route_is_no_part_of_the_address(self, bench):
        with pytest.raises(ConfigurationError, match=r"api/v2\.0 is added"):
            bench.fresh(system_document(base_url="https://api.example/v2.0/t/Production/api/v2.0"))

    async def test_an_unknown_company_is_named_with_those_that_are_there(self, bench):
        document = system_document()
        document.scopes["fr"] = "CRONUS FR"
        with pytest.raises(ConfigurationError) as told:
            await bench.fresh(document).check()
        for name in ("fr", "CRONUS FR", UK, DE):
            assert name in str(told.value)

    async def test_an_unknown_scope_is_named_with_those_of_the_system(self, bench):
        with pytest.raises(ConfigurationError, match=r"`nowhere`.*uk, de"):
            await bench.connector.read("customers", "nowhere", [BUYER])

    async def test_a_company_is_named_by_its_id_as_well(self, bench):
        document = system_document()
        document.scopes["uk"] = bench.company.upper()
        (found,) = await bench.fresh(document).read("customers", "uk", [BUYER])
        assert found.document["number"] == "BUYER"

    async def test_companies_are_asked_for_once(self, bench):
        for scope in ("uk", "de", "uk"):
            await bench.connector.read("customers", scope, [BUYER])
        assert len([e for e in bench.fake.ledger.entries if e.path.endswith("/companies")]) == 1

    async def test_a_company_s_id_leads_back_to_our_scope_and_a_foreign_one_to_none(self, bench):
        assert await bench.connector.scope_of(bench.company.upper()) == "uk"
        assert await bench.connector.scope_of(ZERO_GUID) is None
        assert len([e for e in bench.fake.ledger.entries if e.path.endswith("/companies")]) == 1

    async def test_a_check_names_the_scopes_and_signs_in(self, bench):
        health = await bench.connector.check()
        assert health.scopes == ("uk", "de")
        assert bench.fake.login.issued == 1

    async def test_all_calls_count_against_the_application_whatever_the_company(self, bench):
        await bench.connector.read("customers", "uk", [BUYER])
        await bench.connector.read("customers", "de", [BUYER])
        (key,) = bench.limits._permits
        assert (key.system, key.scope) == ("bc", "")
        assert key.credential == bench.document.settings["client_id"]


class TestDiscovery:
    async def test_every_set_of_the_route_is_discovered_with_a_schema(self, bench):
        offered = {info.entity: info for info in await bench.connector.discover()}
        sets = [row["set"] for row in json.loads(ENTITIES.read_text())["sets"]]
        assert len(sets) == 146
        assert set(offered) == {entity_id(name) for name in sets}
        for name in ("customers", "sales_order_lines", "units_of_measure", "document_attachments"):
            assert name in offered
        assert not offered["sales_order_lines"].incremental
        assert offered["sales_orders"].incremental
        assert not offered["general_ledger_entries"].writable

    async def test_every_discovered_entity_can_be_read(self, bench):
        for info in await bench.connector.discover():
            pages = await bench.scan(info.entity)
            assert pages[-1].complete, info.entity

    async def test_lengths_enums_and_rights_come_from_metadata_and_catalogue(self, bench):
        customers = await bench.connector.schema("customers")
        assert customers.key == ("id",)
        number, name, blocked = (customers.field(n) for n in ("number", "displayName", "blocked"))
        assert number.max_length == 20
        assert name.required
        assert blocked.enum == ("", "Ship", "Invoice", "All")
        assert customers.field("balanceDue").readonly
        assert customers.field("id").readonly
        assert customers.field("lastModifiedDateTime").volatile
        assert customers.field("email").sensitivity == "personal"

    async def test_a_file_name_holds_the_characters_that_the_product_takes(self, bench):
        schema = await bench.connector.schema("document_attachments")
        assert schema.field("fileName").characters == "file_name"
        assert schema.field("parentId").characters == "any"
        for code in range(0x250):
            taken = _FILE_NAME.fullmatch(chr(code)) is not None
            assert has_unfit(chr(code), "file_name") != taken, hex(code)

    async def test_a_document_carries_its_lines(self, bench):
        for entity, lines in (
            ("sales_orders", "salesOrderLines"),
            ("sales_quotes", "salesQuoteLines"),
            ("sales_invoices", "salesInvoiceLines"),
            ("sales_credit_memos", "salesCreditMemoLines"),
            ("purchase_orders", "purchaseOrderLines"),
            ("purchase_invoices", "purchaseInvoiceLines"),
        ):
            field = (await bench.connector.schema(entity)).field(lines)
            assert (field.type, field.line_key) == ("lines", "sequence")
            sequence = next(each for each in field.fields if each.name == "sequence")
            assert sequence.creatable
            assert not sequence.updatable

    async def test_the_documents_own_sensitivity_wins(self, bench):
        document = system_document()
        document.sensitivity = {"customers": {"city": "personal", "email": "none"}}
        schema = await bench.fresh(document).schema("customers")
        assert (schema.field("city").sensitivity, schema.field("email").sensitivity) == ("personal", "none")

    async def test_metadata_is_read_once_and_again_when_it_is_old(self, bench):
        for _ in range(3):
            await bench.connector.schema("customers")
        assert len(bench.fake.ledger.requests("GET", "$metadata")) == 1
        bench.clock.advance(3601)
        await bench.connector.schema("customers")
        assert len(bench.fake.ledger.requests("GET", "$metadata")) == 2

    async def test_old_metadata_serves_on_while_new_cannot_be_had(self, bench):
        await bench.connector.schema("customers")
        bench.clock.advance(3601)
        bench.fake.fail(Fault(path="metadata", status=503, times=4))
        assert (await bench.connector.schema("customers")).field("number")
        assert (await bench.connector.schema("vendors")).field("number")
        assert bench.fake.faults[0].times == 0
        bench.clock.advance(61)
        await bench.connector.schema("customers")
        assert bench.fake.ledger.requests("GET", "$metadata")[-1].status == 200

    async def test_fields_that_are_new_or_gone_there_are_new_or_gone_here(self, bench):
        await bench.connector.schema("customers")
        bench.fake.set_metadata(
            lambda edmx: edmx.replace(
                b'<Property Name="website" Type="Edm.String" MaxLength="255" />',
                b'<Property Name="homePage" Type="Edm.String" MaxLength="80" />',
            )
        )
        bench.clock.advance(3601)
        schema = await bench.connector.schema("customers")
        assert schema.field("website") is None
        assert schema.field("homePage").max_length == 80

    async def test_a_set_that_nobody_has_catalogued_is_offered_all_the_same(self, bench):
        bench.fake.set_metadata(
            lambda edmx: (
                edmx.replace(b'"salespeoplePurchasers"', b'"brandNewThings"')
                .replace(b'"salespersonPurchaser"', b'"brandNewThing"')
                .replace(b"Microsoft.NAV.salespersonPurchaser", b"Microsoft.NAV.brandNewThing")
            )
        )
        schema = await bench.connector.schema("brand_new_things")
        assert schema.field("id").readonly
        assert schema.field("displayName").updatable

    async def test_a_field_that_the_product_no_longer_knows_is_a_schema_error_and_metadata_is_read_again(
        self, bench
    ):
        await bench.connector.schema("customers")
        refusal = {"error": {"code": "BadRequest", "message": "Could not find a property named 'x'"}}
        bench.fake.fail(Fault(path="/customers", status=400, json=refusal))
        with pytest.raises(SchemaError):
            await bench.scan("customers", fields=["displayName"])
        await bench.connector.schema("customers")
        assert len(bench.fake.ledger.requests("GET", "$metadata")) == 2


class TestScans:
    async def test_a_next_link_is_followed_as_it_came(self, bench):
        for number in range(7):
            bench.fake.seed("vendors", UK, {"number": f"V{number}"})
        pages = await bench.scan("vendors", page_size=3)
        assert [len(page.changes) for page in pages] == [3, 3, 1]
        (first, second, third) = bench.fake.ledger.requests("GET", "/vendors")
        assert "skiptoken" not in first.query
        assert pages[0].cursor["resume"].endswith(second.query)
        assert pages[1].cursor["resume"].endswith(third.query)
        assert all("aid=FIN" in entry.query for entry in (second, third))
        assert not any("$top" in q or "$skip=" in q for q in queries(bench, "/vendors"))

    async def test_an_incremental_scan_asks_from_the_watermark_on_in_order(self, bench):
        (page,) = await bench.scan("customers")
        await bench.scan("customers", page.cursor)
        query = queries(bench, "/customers")[-1]
        assert (
            "$filter=lastModifiedDateTime ge 2025-12-31T23:55:00" in query
        )  # 300 s before the first scan began
        assert "$orderby=lastModifiedDateTime asc" in query

    @pytest.mark.parametrize("skew", [-600.0, 600.0])
    async def test_the_watermark_goes_by_the_servers_clock(self, bench, skew):
        bench.fake.skew = skew
        (page,) = await bench.scan("customers")
        bench.clock.advance(1)
        identifier = bench.fake.seed("customers", UK, {"number": "C1"})
        bench.clock.advance(3600)
        (delta,) = await bench.scan("customers", page.cursor)
        assert identifier in [change.id for change in delta.changes]
        watermark = dt.datetime.fromisoformat(page.cursor["watermark"])
        assert watermark == dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=skew - 300)

    async def test_a_record_committed_late_with_an_earlier_time_is_not_lost(self, bench):
        bench.clock.advance(600)
        (page,) = await bench.scan("customers")
        bench.fake.skew = -200  # a long transaction: its records carry the time of their writing
        identifier = bench.fake.seed("customers", UK, {"number": "C1"})
        bench.fake.skew = 0
        (delta,) = await bench.scan("customers", page.cursor)
        assert identifier in [change.id for change in delta.changes]

    async def test_the_watermark_stays_until_the_scan_has_ended(self, bench):
        (page,) = await bench.scan("customers")
        for number in range(5):
            bench.fake.seed("customers", UK, {"number": f"C{number}"})
        pages = await bench.scan("customers", page.cursor, page_size=2)
        assert {p.cursor["watermark"] for p in pages[:-1]} == {page.cursor["watermark"]}
        assert not any(p.complete for p in pages)
        assert pages[-1].cursor["resume"] is None

    async def test_a_page_token_that_has_expired_begins_the_scan_again(self, bench):
        for number in range(5):
            bench.fake.seed("vendors", UK, {"number": f"V{number}"})
        pages = await bench.scan("vendors", page_size=2)
        refusal = {"error": {"code": "BadRequest_InvalidToken", "message": "The skip token is not valid."}}
        bench.fake.fail(Fault(path="skiptoken", status=400, json=refusal))
        again = await bench.scan("vendors", pages[0].cursor, page_size=2)
        assert len([change for page in again for change in page.changes]) == 5
        assert again[-1].complete

    async def test_a_page_that_takes_too_long_there_is_asked_for_in_smaller_ones(self, bench):
        for number in range(300):
            bench.fake.seed("vendors", UK, {"number": f"V{number:03d}"})
        bench.fake.fail(Fault(path="/vendors", status=504, times=4))
        pages = await bench.scan("vendors", page_size=400)
        assert [len(page.changes) for page in pages] == [100, 100, 100]
        assert pages[-1].complete

    async def test_an_entity_without_a_time_is_read_whole_each_time(self, bench):
        bench.fake.seed("contacts_information", UK, {"contactNumber": "C1"})
        (first,) = await bench.scan("contacts_information")
        (second,) = await bench.scan("contacts_information", first.cursor)
        assert first.complete
        assert second.complete
        assert len(second.changes) == 1

    async def test_lines_by_themselves_are_read_through_their_documents(self, bench):
        order = await bench.order()
        (page,) = await bench.scan("sales_order_lines")
        assert page.complete
        assert [change.document["documentId"] for change in page.changes] == [order.id, order.id]
        (found,) = await bench.connector.read("sales_order_lines", "uk", [page.changes[0].id])
        assert found.document == page.changes[0].document
        (keys,) = [page async for page in bench.connector.keys("sales_order_lines", "uk", ["sequence"])]
        assert keys.values == [(10_000,), (20_000,)]

    async def test_a_narrow_scan_asks_for_no_more_than_it_needs(self, bench):
        order = await bench.order()
        (page,) = await bench.scan("sales_orders", fields=["number"])
        assert page.changes[0].document == {"id": order.id, "number": order.document["number"]}
        assert queries(bench, "/salesOrders")[-1] == "$select=id,number"
        (delta,) = await bench.scan("sales_orders", page.cursor)  # the choice is in the cursor
        assert set(delta.changes[0].document) == {"id", "number"}
        (page,) = await bench.scan("sales_orders", fields=["salesOrderLines"])
        assert len(page.changes[0].document["salesOrderLines"]) == 2

    async def test_a_changed_line_is_a_change_of_its_document(self, bench):
        order = await bench.order()
        (page,) = await bench.scan("sales_orders")
        bench.clock.advance(3600)
        line = order.document["salesOrderLines"][0]
        bench.fake.sim_change("sales_order_lines", UK, line["id"], {"quantity": 5})
        (delta,) = await bench.scan("sales_orders", page.cursor)
        assert delta.changes[0].document["salesOrderLines"][0]["quantity"] == 5
        assert delta.changes[0].etag != order.etag

    async def test_a_record_that_breaks_its_schema_is_set_aside_and_the_others_go_on(self, bench):
        bad = bench.fake.seed("customers", UK, {"number": "BAD", "taxLiable": "perhaps"})
        (page,) = await bench.scan("customers")
        assert [change.id for change in page.changes] == [BUYER]
        ((identifier, fault),) = page.faults
        assert (identifier, fault.field) == (bad, "taxLiable")
        assert "perhaps" not in str(fault)

    async def test_blanks_are_null_and_texts_stay(self, bench):
        (found,) = await bench.connector.read("customers", "uk", [BUYER])
        assert found.document["currencyId"] is None
        assert found.document["city"] == ""
        assert found.document["blocked"] == ""
        order = await bench.order()
        assert order.document["requestedDeliveryDate"] is None

    async def test_no_scan_sees_a_delete_and_a_key_listing_does(self, bench):
        identifier = bench.fake.seed("customers", UK, {"number": "C1"})
        (page,) = await bench.scan("customers")
        bench.fake.sim_remove("customers", UK, identifier)
        (delta,) = await bench.scan("customers", page.cursor)
        assert [change.kind for change in delta.changes] == [
            ChangeKind.UPSERT
        ]  # the buyer, inside the overlap
        (keys,) = [page async for page in bench.connector.keys("customers", "uk", ["number"])]
        assert (keys.ids, keys.values, keys.complete) == ([BUYER], [("BUYER",)], True)
        assert queries(bench, "/customers")[-1] == "$select=id,number"

    async def test_a_content_is_a_file_reference_and_an_empty_one_is_null(self, bench):
        empty = bench.fake.seed("document_attachments", UK, {"fileName": "a.pdf", "parentId": BUYER})
        full = bench.fake.seed("document_attachments", UK, {"fileName": "b.pdf", "parentId": BUYER})
        bench.fake.put_file("document_attachments", UK, full, data=b"%PDF")
        one, two = await bench.connector.read("document_attachments", "uk", [empty, full])
        assert one.document["attachmentContent"] is None
        reference = file_ref(two.document["attachmentContent"])
        assert (reference.name, reference.size) == ("b.pdf", 4)
        assert b"".join([chunk async for chunk in bench.connector.open_file(reference, "uk")]) == b"%PDF"


class TestFinding:
    async def test_codes_are_found_without_case_and_texts_with(self, bench):
        hits = await bench.connector.find("customers", "uk", ["number"], [("buyer",), (" Buyer",), ("x",)])
        assert [[found.id for found in each] for each in hits] == [[BUYER], [BUYER], []]
        hits = await bench.connector.find("customers", "uk", ["displayName"], [("Adatum",), ("adatum",)])
        assert [[found.id for found in each] for each in hits] == [[BUYER], []]

    async def test_many_keys_share_a_request_and_no_address_grows_too_long(self, bench):
        names = [f"{'ä' * 40} {number}" for number in range(50)]
        ids = [
            bench.fake.seed("customers", UK, {"number": f"C{n}", "displayName": name})
            for n, name in enumerate(names)
        ]
        hits = await bench.connector.find("customers", "uk", ["displayName"], [(name,) for name in names])
        assert [[found.id for found in each] for each in hits] == [[identifier] for identifier in ids]
        requests = bench.fake.ledger.requests("GET", "/customers")
        assert 1 < len(requests) < 10
        assert max(len(entry.query) for entry in requests) < 7_000

    async def test_several_fields_go_as_single_queries_of_one_batch(self, bench):
        bench.fake.seed("item_variants", UK, {"itemId": BUYER, "code": "RED"})
        bench.fake.seed("item_variants", UK, {"itemId": BUYER, "code": "BLUE"})
        hits = await bench.connector.find(
            "item_variants", "uk", ["itemId", "code"], [(BUYER, "blue"), (ZERO_GUID, "RED"), (BUYER, "RED")]
        )
        assert [[found.document["code"] for found in each] for each in hits] == [["BLUE"], [], ["RED"]]
        assert len(bench.posts()) == 1

    async def test_a_batch_of_queries_holds_a_hundred(self, bench):
        values = [(BUYER, f"V{number}") for number in range(150)]
        assert await bench.connector.find("item_variants", "uk", ["itemId", "code"], values) == [[]] * 150
        assert len(bench.posts()) == 2

    async def test_null_is_looked_for_as_the_products_blank(self, bench):
        bench.fake.seed("customers", UK, {"number": "C1", "city": "Leeds", "currencyId": BUYER})
        (hits,) = await bench.connector.find("customers", "uk", ["currencyId"], [(None,)])
        assert [found.id for found in hits] == [BUYER]
        (hits,) = await bench.connector.find("customers", "uk", ["city"], [(None,)])
        assert [found.id for found in hits] == [BUYER]
        (hits,) = await bench.connector.find("customers", "uk", ["blocked"], [("",)])
        assert len(hits) == 2

    async def test_an_id_that_is_none_is_not_there(self, bench):
        assert await bench.connector.read("customers", "uk", ["C-7", BUYER.upper()]) != [None, None]
        assert (await bench.connector.read("customers", "uk", ["C-7"])) == [None]

    async def test_a_value_of_another_type_is_refused_here(self, bench):
        with pytest.raises(RefusedRecordError):
            await bench.connector.find("customers", "uk", ["creditLimit"], [("much",)])

    async def test_a_field_that_is_not_there_is_a_schema_error(self, bench):
        with pytest.raises(SchemaError):
            await bench.connector.find("customers", "uk", ["nothing"], [("x",)])


class TestSigningIn:
    async def test_a_token_for_another_service_is_refused(self, bench):
        with pytest.raises(CredentialsError):
            await bench.fresh(system_document(oauth_scope="https://graph.microsoft.com/.default")).check()

    async def test_one_token_serves_many_calls_and_companies(self, bench):
        await bench.scan("customers")
        await bench.connector.read("vendors", "de", [BUYER])
        assert bench.fake.login.issued == 1
        bench.clock.advance(3_600)
        await bench.scan("customers")
        assert bench.fake.login.issued == 2


def test_every_member_of_every_enum_is_decoded_and_encoded_back():
    members = {
        member
        for known in catalogue().sets.values()
        for column in known.columns.values()
        for member in column.members
    }
    assert len(members) > 150
    for member in members:
        assert encode_member(decode_member(member)) == member
    assert decode_member("_x0020_") == ""
    assert decode_member("Positive_x0020_Adjmt_x002E_") == "Positive Adjmt."


def test_the_catalogue_holds_what_the_reference_counts():
    known = catalogue().sets
    assert len(known) == 146
    assert sum(entity_set.documented for entity_set in known.values()) == 87
    assert sum(len(s.columns) for s in known.values() if s.documented) == 1415
