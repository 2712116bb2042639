"""Reads, the product's own ways: what is written here was believed of the API, see README.md."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from ipaas_resources.connectors import registry
from ipaas_resources.connectors.calibration.tests import BERLIN, URL, OrdersAndAssetsCase
from ipaas_resources.connectors.calibration.times import local_floor
from ipaas_resources.connectors.conformance import Rig
from ipaas_resources.connectors.fakes import Fault, file_digest, json_reply, loads
from ipaas_resources.core.errors import (
    ContractError,
    CursorExpiredError,
    ProtocolError,
)
from ipaas_resources.core.limits import LimitPolicy
from ipaas_resources.core.records import file_ref
from ipaas_resources.core.values import encode_canonical


@pytest.fixture
async def rig():
    rig = Rig(OrdersAndAssetsCase())
    yield rig
    await rig.close()


async def order(rig, identifier):
    (found,) = await rig.read("work_orders", [identifier])
    return found.document


def without_nulls(value):
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


async def test_the_recorded_order_becomes_its_canonical_record(rig):
    fixture = loads((Path(__file__).parent / "fixtures" / "work_order.json").read_bytes())
    rig.fake.store.add("work_orders", fixture["order"])
    for item in fixture["items"]:
        rig.fake.store.add("work_items", {**item, "ServiceOrderId": 285227})
    rig.fake.store.tables["work_orders"].change(285227, fixture["order"], rig.clock.now())
    certificate = fixture["certificate"]
    rig.fake.store.add_document(certificate["content"].encode(), name=certificate["name"], order=285227)
    document = without_nulls(await order(rig, "285227"))
    assert file_ref(document.pop("Certificate")).name == certificate["name"]
    assert document == fixture["canonical"]
    assert encode_canonical(document)


async def test_an_order_is_one_record_with_its_items_and_newest_certificate(rig):
    (first,) = rig.case.seed(rig.fake, "work_orders", 1)
    assert (await order(rig, first))["Certificate"] is None
    rig.fake.store.add_document(b"one", name="CERT-1.pdf", order=int(first))
    guid = rig.fake.store.add_document(b"two", name="CERT-2.pdf", order=int(first))
    rig.fake.store.add_document(b"an invoice", name="INV.pdf", order=int(first), report_type=31)
    document = await order(rig, first)
    assert [item["OrderItemNumber"] for item in document["WorkItems"]] == [1, 2]
    assert document["WorkItems"][0]["ServiceCharge"] == 48
    assert document["GrandTotal"] == Decimal("129.12")
    certificate = file_ref(document["Certificate"])
    assert (certificate.id, certificate.name, certificate.revision) == (guid, "CERT-2.pdf", "0")
    assert [chunk async for chunk in rig.connector.open_file(certificate, "")] == [b"two"]


async def test_a_revised_certificate_is_another_value_though_its_guid_stays(rig):
    (first,) = rig.case.seed(rig.fake, "work_orders", 1)
    guid = rig.fake.store.add_document(b"one", name="CERT.pdf", order=int(first))
    before = (await order(rig, first))["Certificate"]
    rig.fake.store.add_document(b"two", name="CERT_rev1.pdf", order=int(first), revision_of=guid)
    after = (await order(rig, first))["Certificate"]
    assert before != after
    assert file_ref(after).revision == "1"


async def test_a_certificate_alone_makes_its_order_a_change(rig):
    ids = rig.case.seed(rig.fake, "work_orders", 3)
    rig.clock.advance(7 * 86_400)
    cursor = (await rig.scan()).cursor
    rig.clock.advance(7 * 86_400)
    rig.fake.store.add_document(b"late", name="CERT.pdf", order=int(ids[1]))
    rig.clock.advance(1)
    changes = (await rig.scan(cursor=cursor)).changes
    assert [change.id for change in changes] == [ids[1]]
    assert changes[0].document["Certificate"] is not None


async def test_a_touched_record_is_unchanged_in_its_bytes(rig):
    (first,) = rig.case.seed(rig.fake, "work_orders", 1)
    item = rig.fake.store.tables["work_items"].where(lambda row: True)[0]
    before = await rig.stable("work_orders", await order(rig, first))
    rig.clock.advance(60)
    rig.fake.store.change("work_items", item, {"UpdatedBy": "Ines"})
    after = await order(rig, first)
    assert after["LastUpdatedOn"] == "2026-01-01T00:01:00.000000Z"
    assert await rig.stable("work_orders", after) == before


async def test_items_are_not_read_where_nobody_asks_for_them(rig):
    rig.case.seed(rig.fake, "work_orders", 20)
    await rig.scan("work_orders", fields=["PoNumber"])
    assert rig.fake.ledger.requests(path="workitems") == []
    assert rig.fake.ledger.requests(path="documents") == []


async def test_items_are_read_side_by_side_up_to_what_the_system_document_allows():
    rig = Rig(OrdersAndAssetsCase())
    rig.fake.latency = 0.1
    rig.case.seed(rig.fake, "work_orders", 20)
    environment = rig.environment()
    environment.policy = LimitPolicy(requests=6000, window=300, concurrency=5)
    connector = registry.create(rig.document, environment)
    await rig.scan("work_orders", connector=connector)
    assert max(entry.concurrent for entry in rig.fake.ledger.entries) == 5
    await connector.close()
    await rig.close()


async def test_an_order_that_goes_away_during_the_scan_is_left_out(rig):
    ids = rig.case.seed(rig.fake, "work_orders", 3)
    rig.fake.fail(Fault(status=404, path=f"workorders/{ids[1]}/workitems"))
    assert (await rig.scan("work_orders")).ids == [ids[0], ids[2]]


async def test_a_long_history_is_read_in_growing_windows_without_gap_or_repeat(rig):
    store = rig.fake.store
    client = store.add("clients", {"CompanyName": "Acme"})
    days = [dt.datetime.fromisoformat("2009-06-01") + dt.timedelta(days=41 * n) for n in range(140)]
    edges = [dt.datetime.fromisoformat(day) for day in ("2010-01-01", "2010-04-01", "2010-09-28")]
    ids = [
        store.add(
            "work_orders", {"ClientCompanyId": client, "LastUpdatedOn": day.strftime("%Y-%m-%dT%H:%M:%S")}
        )
        for day in days + edges + [edge - dt.timedelta(seconds=1) for edge in edges]
    ]
    scan = await rig.scan("work_orders", fields=["PoNumber"], page_size=9)
    assert sorted(map(int, scan.ids)) == ids
    asked = rig.fake.ledger.requests(path="workorders")
    assert 3 < len(asked) < 12
    resumed = await rig.scan("work_orders", scan.pages[4].cursor, page_size=9)
    assert set(resumed.ids) == {change.id for page in scan.pages[5:] for change in page.changes}


async def test_a_window_too_heavy_for_the_product_is_halved(rig):
    rig.case.seed(rig.fake, "work_orders", 3)
    rig.fake.fail(Fault(status=504, path=r"workorders\?to=", times=4))
    assert len((await rig.scan("work_orders")).ids) == 3
    first, *_, last = [
        entry.query for entry in rig.fake.ledger.requests(path="workorders") if "to=" in entry.query
    ][:5]
    assert first > last


async def test_a_capped_list_is_asked_for_again_with_more(rig):
    rig.case.seed(rig.fake, "work_orders", 1)
    document = rig.document.model_copy(update={"settings": {"url": URL, "list_cap": 10}})
    connector = registry.create(document, rig.environment())
    for number in range(150):
        rig.fake.store.add("clients", {"CompanyName": f"C{number}"})
    scan = await rig.scan("clients", connector=connector)
    assert len(scan.ids) == 152
    takes = [entry.query for entry in rig.fake.ledger.requests(path="/api/service/clients")]
    assert takes == [f"model.take={take}" for take in (10, 40, 160)]
    await connector.close()


async def test_a_product_whose_clock_is_behind_loses_no_change(rig):
    rig.fake.skew = -600
    client = rig.fake.store.add("clients", {"CompanyName": "Acme"})
    cursor = (await rig.scan("clients")).cursor
    late = (rig.clock.now() - dt.timedelta(seconds=600)).strftime("%Y-%m-%dT%H:%M:%S")
    rig.fake.store.tables["clients"].change(
        client, {"CompanyName": "New", "UpdatedOnUtc": late}, rig.clock.now()
    )
    rig.clock.advance(3600)
    assert str(client) in (await rig.scan("clients", cursor)).ids


@pytest.mark.parametrize(
    ("moment", "floor"),
    [
        ("2026-06-01T10:00:00", "2026-06-01T12:00:00"),
        ("2026-10-24T23:59:00", "2026-10-25T01:59:00"),
        # From 00:00 UTC on, 02:00 to 03:00 comes twice that night: later orders may say 02:00 again.
        ("2026-10-25T00:30:00", "2026-10-25T01:30:00"),
        ("2026-10-25T01:10:00", "2026-10-25T02:10:00"),
        ("2026-03-29T00:30:00", "2026-03-29T01:30:00"),
    ],
)
def test_a_local_watermark_lies_before_everything_that_comes_later(moment, floor):
    start = dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC)
    found = local_floor(start, BERLIN)
    assert found == dt.datetime.fromisoformat(floor)
    for minute in range(180):
        later = (start + dt.timedelta(minutes=minute)).astimezone(BERLIN).replace(tzinfo=None)
        assert found <= later


async def test_times_take_the_tenants_zone_unless_they_say_utc(rig):
    item = {
        "OrderItemNumber": 1,
        "CreatedOnUtc": "2026-07-01T10:00:00",
        "CompletedOn": "2026-07-01T10:00:00.5",
    }
    identifier = rig.fake.sim_add("work_orders", "", {"WorkItems": [item]})
    (line,) = (await order(rig, identifier))["WorkItems"]
    assert line["CreatedOnUtc"] == "2026-07-01T10:00:00.000000Z"
    assert line["CompletedOn"] == "2026-07-01T08:00:00.500000Z"


async def test_a_record_with_a_value_of_the_wrong_type_is_set_aside_alone(rig):
    good = rig.case.plant(rig.fake, {})
    bad = rig.case.plant(
        rig.fake, {"PurchaseCost": "much", "PurchaseDate": "soon", "LifeSpanMonths": Decimal("1.5")}
    )
    huge = rig.case.plant(rig.fake, {"PurchaseCost": Decimal("1e-999")})
    (page,) = (await rig.scan("assets")).pages
    assert [change.id for change in page.changes] == [good]
    assert [(identifier, error.field) for identifier, error in page.faults] == [
        (bad, "PurchaseDate"),
        (huge, "PurchaseCost"),
    ]
    assert page.complete
    assert "soon" not in str(page.faults)
    (keys,) = await rig.all_keys("assets", ["PurchaseCost"])
    assert (keys.ids, keys.values) == ([good, bad, huge], [(None,), (None,), (None,)])
    (hits,) = await rig.connector.find("assets", "", ("LegacyIdentifier", "PurchaseCost"), [("Q", None)])
    assert hits == []
    with pytest.raises(ContractError):
        await rig.read("assets", [bad])


async def test_fields_that_the_product_adds_or_drops_change_no_document(rig):
    identifier = rig.case.plant(rig.fake, {})
    (before,) = await rig.read("assets", [identifier])

    def other_version(reply):
        row = {k: v for k, v in reply.json().items() if k != "Notes"}
        return json_reply({**row, "Sparkle": 1})

    rig.fake.fail(Fault(path="assets", change=other_version))
    (after,) = await rig.read("assets", [identifier])
    assert after == before


async def test_changed_assets_come_through_the_filter_and_are_read_whole(rig):
    ids = [rig.case.plant(rig.fake, {"Notes": str(n)}) for n in range(3)]
    cursor = (await rig.scan("assets")).cursor
    rig.clock.advance(40 * 86_400)
    with pytest.raises(CursorExpiredError):
        await rig.scan("assets", cursor)
    cursor = (await rig.scan("assets")).cursor
    rig.clock.advance(60)
    rig.fake.store.change("assets", int(ids[1]), {"Notes": "new"})
    new = rig.case.plant(rig.fake, {})
    documents = (await rig.scan("assets", cursor)).documents()
    assert sorted(documents) == sorted([ids[1], new])
    assert documents[ids[1]]["Notes"] == "new"


async def test_a_filter_whose_pages_never_end_is_a_protocol_error(rig):
    for _ in range(501):
        rig.case.plant(rig.fake, {})
    cursor = (await rig.scan("assets")).cursor
    rows = [{"AssetId": n} for n in range(500)]
    rig.fake.fail(Fault(path="byfilter", times=-1, change=lambda reply: json_reply(rows)))
    with pytest.raises(ProtocolError):
        await rig.scan("assets", cursor)


async def test_assets_are_resumed_client_by_client(rig):
    for number in range(2, 41):
        rig.fake.store.add("clients", {"CompanyId": number, "CompanyName": f"C{number}"})
    ids = {rig.case.plant(rig.fake, {"CompanyId": 1 + n % 40}) for n in range(113)}
    whole = await rig.scan("assets", page_size=3)
    assert set(whole.ids) == ids
    assert len(whole.ids) == 113
    for number, page in enumerate(whole.pages[:-1]):
        rest = await rig.scan("assets", page.cursor, page_size=3)
        assert rest.ids == [change.id for later in whole.pages[number + 1 :] for change in later.changes]
        assert rest.pages[-1].complete


async def test_certificates_are_documents_of_items_with_their_newest_revision(rig):
    (first,) = rig.case.seed(rig.fake, "work_orders", 1)
    items = rig.fake.store.tables["work_items"].where(lambda row: True)
    guid = rig.fake.store.add_document(b"a", name="A.pdf", order=int(first), item=items[0])
    rig.fake.store.add_document(b"b", name="A_rev1.pdf", order=int(first), item=items[0], revision_of=guid)
    rig.fake.store.add_document(("big", 300_000), name="B.pdf", order=int(first), item=items[1])
    rig.clock.advance(1)
    documents = (await rig.scan("certificates", page_size=1)).documents()
    assert sorted(one["FileName"] for one in documents.values()) == ["A_rev1.pdf", "B.pdf"]
    found = await rig.read("certificates", [*documents, f'["{items[0]}","{guid[:-1]}f"]', '["1/../2","x"]'])
    assert [one and one.document for one in found] == [*documents.values(), None, None]
    one = next(one for one in documents.values() if one["FileName"] == "B.pdf")
    assert (one["ReportType"], one["DocumentType"]) == ("AssetCertificate", "WorkOrder")
    size = 0
    async for chunk in rig.connector.open_file(file_ref(one["File"]), ""):
        size += len(chunk)
    assert size == 300_000
    assert await file_digest("big", 300_000)
    rig.clock.advance(86_400)
    cursor = (await rig.scan("certificates")).cursor
    rig.fake.store.add_document(b"c", name="C.pdf", order=int(first), item=items[1])
    rig.clock.advance(60)
    assert [c.document["FileName"] for c in (await rig.scan("certificates", cursor)).changes] == ["C.pdf"]


async def test_edited_items_are_seen_though_their_list_filters_by_creation(rig):
    rig.case.seed(rig.fake, "work_orders", 3)
    items = rig.fake.store.tables["work_items"].where(lambda row: True)
    scan = await rig.scan("work_items")
    assert sorted(map(int, scan.ids)) == items
    rig.clock.advance(86_400)
    cursor = (await rig.scan("work_items", scan.cursor)).cursor
    rig.clock.advance(86_400)
    rig.fake.store.change(
        "work_items", items[3], {"WorkStatus": "Completed", "AsLeftResult": "PassAdjustment"}
    )
    rig.clock.advance(1)
    documents = (await rig.scan("work_items", cursor)).documents()
    assert documents[str(items[3])]["AsLeftResult"] == "PassAdjustment"
    assert len(documents) == 2  # both items of the one order


@pytest.mark.parametrize("entity", ["employees", "vendors", "products", "forecasts"])
async def test_the_small_entities_are_read_listed_found_and_read_by_id(rig, entity):
    samples = {
        "employees": {"FirstName": "Ines", "LastName": "Berg", "LoginEmail": "ines@lab.example"},
        "vendors": {"CompanyName": "Nordic Reference Lab AS", "AccountNumberText": "V0007"},
        "products": {"ProductName": "Caliper", "UnitSalePrice": Decimal("48.0"), "IsStockItem": True},
        "forecasts": {"AssetId": 55001, "MaintenancePlanId": 610, "NextServiceDate": "2027-01-15T00:00:00"},
    }
    for _ in range(7):
        rig.fake.store.add(entity, samples[entity])
    scan = await rig.scan(entity, page_size=3)
    assert len(scan.documents()) == 7
    assert scan.pages[-1].complete
    ids = [str(one) for one in scan.ids]
    found = await rig.read(entity, ids[::-1])
    assert [one.id for one in found] == ids[::-1]
    assert found[0].document == scan.documents()[ids[-1]]
    name, value = next(iter(samples[entity].items()))
    (hits,) = await rig.connector.find(entity, "", (name,), [(value,)])
    assert {hit.id for hit in hits} == set(ids)
    pages = await rig.all_keys(entity)
    assert sorted(one for page in pages for one in page.ids) == sorted(ids)


@pytest.mark.parametrize("count", [1, 20])
async def test_a_find_gives_equal_keys_though_the_product_searches_loosely(rig, count):
    """The product finds parts of names, whatever their case; a key is equal as a whole, whatever its case."""
    exact = rig.fake.sim_add("clients", "", {"CompanyName": "acme"})
    rig.fake.sim_add("clients", "", {"CompanyName": "Acme Aerospace"})
    wanted = [("ACME",), *((f"none {n}",) for n in range(count - 1))]
    hits = await rig.connector.find("clients", "", ("CompanyName",), wanted)
    assert [[found.id for found in one] for one in hits] == [[exact], *([] for _ in wanted[1:])]
    assert await rig.connector.find("clients", "", ("LegacyId",), [(None,), ("",)]) == [[], []]
