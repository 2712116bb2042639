"""The customers that benchmarks move."""

from __future__ import annotations

import msgspec
import pytest

from ipaas_resources.connectors.business_central.fake import FakeBusinessCentral
from simulator.bulk import BULK_COMPANY, RECORD_BYTES, add_bulk_customers, bulk_customer_id


@pytest.fixture(scope="module")
def fake():
    made = FakeBusinessCentral()
    add_bulk_customers(made, 1_000)
    return made


def test_records_are_as_large_as_a_real_customer(fake):
    table = fake.table("customers", BULK_COMPANY.name)
    sizes = [len(table.json(row)) for row in table.by_creation()]
    assert len(sizes) == 1_000
    assert abs(sum(sizes) / len(sizes) - RECORD_BYTES) < 10


def test_their_json_is_prepared(fake):
    table = fake.table("customers", BULK_COMPANY.name)
    assert all(row.raw is not None for row in table.by_creation())


def test_they_have_27_fields_of_their_own(fake):
    records = fake.sim_records("customers", BULK_COMPANY.name)
    assert {len(record) for record in records} == {27}
    for field in ("id", "number", "email"):
        assert len({record[field] for record in records}) == 1_000
    assert records[7]["id"] == bulk_customer_id(7)
    assert len({msgspec.json.encode(record) for record in records}) == 1_000
