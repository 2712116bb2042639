"""The demo world: Microsoft's demo companies where they are at hand, made-up ones of the same shapes where not."""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from simulator import demo_data
from simulator.crm_world import UNIT_GROUPS
from simulator.generated_data import LOCALIZATIONS, generate_demo_data
from simulator.lab_catalogue import FINISHED, ORDERS
from simulator.world import World, build_world


@pytest.fixture(scope="module", params=["found", "generated"])
def world(request, tmp_path_factory) -> World:
    """Once with the shared data beside the repo (where it is there), once without."""
    if request.param == "found":
        return build_world()
    return build_world(folder=tmp_path_factory.mktemp("no data here"))


def test_without_the_shared_data_the_world_is_generated(monkeypatch, tmp_path):
    monkeypatch.setenv(demo_data.DATA_FOLDER_VARIABLE, str(tmp_path))
    assert demo_data.load_demo_data() is None
    assert build_world().origin == "generated"


def test_the_shared_data_is_looked_for_beside_the_repo(monkeypatch):
    monkeypatch.delenv(demo_data.DATA_FOLDER_VARIABLE, raising=False)
    repository = Path(demo_data.__file__).resolve().parent.parent
    assert demo_data.data_folder() == repository.parent / "shared" / "data"


def test_the_flows_have_more_than_two_thousand_source_records(world):
    assert world.counts() == {"customers": 110, "items": 1430, "work_orders": 520}
    assert sum(world.counts().values()) >= 2_000


def test_every_company_has_the_same_customer_numbers_and_means_others_by_them(world):
    assert len(world.erp.companies) == 22
    numbers = {
        company.scope: [one["number"] for one in world.erp.records[company.scope]["customers"]]
        for company in world.erp.companies
    }
    assert set(map(tuple, numbers.values())) == {("10000", "20000", "30000", "40000", "50000")}
    first = [one for _, one in world.erp.all("customers") if one["number"] == "10000"]
    assert len({one["id"] for one in first}) == 22
    assert len({(one["displayName"], one["postalCode"], one["city"]) for one in first}) >= 3


def test_company_names_are_unique_for_display_names_are_not(world):
    assert len({company.name for company in world.erp.companies}) == 22
    assert len({company.id for company in world.erp.companies}) == 22


def test_the_generator_has_the_shapes_and_counts_of_the_shared_data():
    found = demo_data.load_demo_data()
    if found is None:
        pytest.skip("the shared data is not beside this repo")
    made = generate_demo_data(7)
    for name in ("company_information", "customers", "items"):
        assert Counter(row.localization for row in getattr(made, name)) == Counter(
            row.localization for row in getattr(found, name)
        )
    assert tuple(row.localization for row in found.company_information) == LOCALIZATIONS
    assert {row.code for row in made.units_of_measure} == {row.code for row in found.units_of_measure}
    worldwide = {row.code for row in found.payment_terms if row.localization == demo_data.WORLDWIDE}
    assert {row.code for row in made.payment_terms} == worldwide
    services = {row.number for row in found.items if row.type == "Service"}
    assert {row.number for row in made.items if row.type == "Service"} == services


def test_a_seed_gives_the_same_world_and_another_seed_another(tmp_path):
    assert build_world(3, tmp_path) == build_world(3, tmp_path)
    assert build_world(3, tmp_path) != build_world(4, tmp_path)


def test_customers_have_the_fields_of_the_api_and_resolve_their_payment_terms(world):
    for scope, customer in world.erp.all("customers"):
        assert len(customer) == 27
        terms = {one["id"] for one in world.erp.records[scope]["paymentTerms"]}
        assert customer["paymentTermsId"] in terms
        assert isinstance(customer["creditLimit"], Decimal)
    over = sum(one["balanceDue"] > one["creditLimit"] for _, one in world.erp.all("customers"))
    assert 0 < over < 55, "some customers owe more than agreed, not most"
    assert sum(not one["email"] for _, one in world.erp.all("customers")) == 5


def test_items_have_units_that_the_crm_knows(world):
    for scope, item in world.erp.all("items"):
        assert len(item) == 22
        units = {one["code"]: one["id"] for one in world.erp.records[scope]["unitsOfMeasure"]}
        assert units[item["baseUnitOfMeasureCode"]] == item["baseUnitOfMeasureId"]
        assert item["baseUnitOfMeasureCode"] in UNIT_GROUPS


def test_work_orders_belong_to_clients_that_carry_the_key_of_their_customer(world):
    clients = {client["CompanyId"]: client for client in world.lab.clients}
    customers = {f"{scope}:{one['number']}" for scope, one in world.erp.all("customers")}
    assert len(clients) == 44
    assert {client["LegacyId"] for client in clients.values()} < customers
    assert {order["ClientCompanyId"] for order in world.lab.work_orders} == set(clients)
    for order in world.lab.work_orders:
        assert order["ClientLegacyId"] == clients[order["ClientCompanyId"]]["LegacyId"]


def test_work_orders_have_one_to_five_items_that_their_totals_sum_up(world):
    assert len(world.lab.work_orders) == ORDERS == 520
    sizes = Counter(len(order["WorkItems"]) for order in world.lab.work_orders)
    assert set(sizes) == {1, 2, 3, 4, 5}
    assets = {asset["AssetId"]: asset["CompanyId"] for asset in world.lab.assets}
    for order in world.lab.work_orders:
        assert all(assets[item["AssetId"]] == order["ClientCompanyId"] for item in order["WorkItems"])
        charged = sum(item["ServiceCharge"] + item["RepairsCharge"] for item in order["WorkItems"])
        assert order["ServiceTotal"] == charged
        assert [item["OrderItemNumber"] for item in order["WorkItems"]] == list(
            range(1, len(order["WorkItems"]) + 1)
        )
    assert len({order["CustomOrderNumber"] for order in world.lab.work_orders}) == 520


def test_finished_orders_have_a_certificate_that_is_a_pdf(world):
    finished = {o["ServiceOrderId"] for o in world.lab.work_orders if o["OrderStatus"] in FINISHED}
    assert set(world.lab.certificates) == finished
    assert len({one.content for one in world.lab.certificates.values()}) == len(finished) == 300
    for certificate in world.lab.certificates.values():
        assert_is_pdf(certificate.content)


def assert_is_pdf(content: bytes) -> None:
    """What a reader does first: the trailer, the cross-reference table, the objects it points at."""
    assert content.startswith(b"%PDF-1.4")
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", content)[1])
    header = re.match(rb"xref\n0 (\d+)\n", content[start:])
    entries = content[start + header.end() :].split(b"\n")[: int(header[1])]
    for number, entry in enumerate(entries[1:], start=1):
        assert content[int(entry[:10]) :].startswith(b"%d 0 obj" % number)
    length = int(re.search(rb"/Length (\d+)", content)[1])
    stream = content[content.index(b"stream\n") + 7 : content.index(b"\nendstream")]
    assert len(stream) == length
    assert stream.count(b"BT ") == stream.count(b" ET")


def test_some_orders_are_placed_in_summer_before_the_day_begins_in_utc(world):
    late = [
        order
        for order in world.lab.work_orders
        if order["CreatedOn"] > "2025-04" and order["CreatedOn"][11:13] == "00"
    ]
    assert late, "an order date taken from UTC would never be told from the lab's own"
