"""Conformance: clients as source and target, orders as source, assets as target.

The product's own ways stand in test_reading.py, test_writing.py, test_setup.py and test_webhook.py; they get the fake
from here, because only `tests` may import it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar
from zoneinfo import ZoneInfo

import httpx

from ipaas_resources.connectors.base import SystemDocument
from ipaas_resources.connectors.calibration.entities import ENTITIES
from ipaas_resources.connectors.calibration.fake import CalibrationFake
from ipaas_resources.connectors.conformance import (
    CANARY_PERSON,
    CANARY_SECRET,
    ConformanceCase,
    ConnectorConformance,
)
from ipaas_resources.connectors.fakes import Fault, dumps

BERLIN = ZoneInfo("Europe/Berlin")
URL = "https://lab.qualer.example"
_PATHS = {
    "clients": r"^/api/service/clients(\?|$)",
    "work_orders": r"^/api/service/workorders(\?|$)",
    "assets": r"^/api/service/clients/(\d+/)?assets",
}


class CalibrationCase(ConformanceCase):
    secrets: ClassVar = {"CALIBRATION_TOKEN": CANARY_SECRET}
    no_links = "the product has no next links and no page tokens"
    no_token_expiry = "an API token does not expire"
    no_delete = "the product's API deletes no record"
    missing_id = "987654321"

    def document(self):
        return SystemDocument(
            system="lab",
            connector="calibration",
            settings={"url": URL},
            secrets={"api_token": "env:CALIBRATION_TOKEN"},
            timezone="Europe/Berlin",
        )

    def make_fake(self, clock):
        return CalibrationFake(clock=clock, tokens=[CANARY_SECRET], zone=BERLIN)

    def break_credentials(self, fake):
        fake.tokens.clear()

    def list_path(self, entity):
        return _PATHS[entity]

    def write_fault(self, **what):
        # Reads of this entity share the path; what changes something is never a GET.
        return Fault(path=_PATHS[self.writable], match=lambda request: request.method != "GET", **what)

    def seed(self, fake, entity, count):
        if entity == "work_orders":
            client = fake.store.add("clients", {"CompanyName": "Acme"})
            return [
                fake.sim_add(
                    entity,
                    "",
                    {
                        "ClientCompanyId": client,
                        "PoNumber": f"PO-{n}",
                        "GrandTotal": Decimal("129.120"),
                        "WorkItems": [
                            {"OrderItemNumber": 2},
                            {"OrderItemNumber": 1, "ServiceCharge": Decimal("48.0")},
                        ],
                        "certificate": f"CERT-{n}.pdf" if n % 2 else "",
                    },
                )
                for n in range(count)
            ]
        return [fake.sim_add(entity, "", {"CompanyName": f"Client {n}"}) for n in range(count)]

    def touch(self, fake, entity, identifier):
        field = "PoNumber" if entity == "work_orders" else "CustomClientName"
        before = fake.store.tables[entity].rows[int(identifier)][field]
        fake.store.change(entity, int(identifier), {field: f"{before}+"})

    def remove(self, fake, entity, identifier):
        fake.store.remove(entity, int(identifier))

    def stored(self, fake, identifier):
        return fake.store.tables[self.writable].rows[int(identifier)]

    async def raw_create(self, fake, number, extra):
        async with httpx.AsyncClient(transport=fake.transport(), base_url=URL) as client:
            return await client.post(
                f"/api/service/{self.posts_to}",
                content=dumps({**self.wire_fields(fake, number), **extra}),
                headers={"authorization": f"Api-Token {CANARY_SECRET}"},
            )

    posts_to: str

    def wire_fields(self, fake, number):
        return self.new_fields(number)


class ClientsCase(CalibrationCase):
    readable = "clients"
    writable = "clients"
    key_fields = ("LegacyId",)
    text_field = "CustomClientName"
    personal_field = "CompanyName"
    long_text_field = "CustomClientName"
    no_decimal = "clients have no decimal field"
    unreadable = ("CurrencyId", "euros-and-cents")
    enums = (("ClientStatus", "NotApproved", "NotApproved"),)
    read_only = ("AccountNumber", 7)
    posts_to = "clients"

    def plant(self, fake, fields):
        return fake.sim_add("clients", "", {"CompanyName": "Planted", "LegacyId": "P", **fields})

    def new_fields(self, number):
        return {
            "LegacyId": f"BC:{number:05d}",
            "CompanyName": f"Acme {number}",
            "CustomClientName": f"A{number}",
            "CurrencyId": 2,
        }

    def changed_fields(self, number):
        return {"CompanyName": f"Acme {number} renamed", "BillingAddress": address(City="Bremen")}

    def refused_fields(self):
        return {"ClientStatus": CANARY_PERSON}


def address(**parts):
    address = ENTITIES["clients"].field("BillingAddress")
    return {field.name: parts.get(field.name) for field in address.fields}


class OrdersAndAssetsCase(CalibrationCase):
    """Orders are read with two calls each; assets are created only."""

    readable = "work_orders"
    writable = "assets"
    key_fields = ("LegacyIdentifier",)
    text_field = "AssetName"
    personal_field = "SerialNumber"
    long_text_field = "AssetDescription"
    decimal_field = "PurchaseCost"
    unreadable = ("PurchaseDate", "last-spring")
    empties = (("PurchaseDate", "0001-01-01T00:00:00"),)
    enums = (("AssetStatus", "Retired", "Retired"),)
    read_only = ("CategoryName", "Calipers")
    no_update = "the product's API creates assets and does not change them"
    no_file_source = ""
    no_batched_find = "the product's filter of assets takes one value"
    requests_per_page = 12
    posts_to = "clients/assets"

    def make_fake(self, clock):
        fake = super().make_fake(clock)
        fake.store.add("clients", {"CompanyId": 1, "CompanyName": "Owner"})
        return fake

    def seed(self, fake, entity, count):
        if entity == "assets":
            return [self.plant(fake, {}) for _ in range(count)]
        return super().seed(fake, entity, count)

    def plant(self, fake, fields):
        return fake.sim_add("assets", "", {"CompanyId": 1, "LegacyIdentifier": "P", **fields})

    def new_fields(self, number):
        return {
            "LegacyIdentifier": f"FA:{number:05d}",
            "AssetName": f"Caliper {number}",
            "SiteId": CalibrationFake.site_of(1),
            "PurchaseDate": "2026-01-14T23:00:00.000000Z",
        }

    def changed_fields(self, number):
        raise NotImplementedError

    def refused_fields(self):
        return {"AssetStatus": CANARY_PERSON}

    def wire_fields(self, fake, number):
        return {**self.new_fields(number), "PurchaseDate": "2026-01-15T00:00:00"}

    def plant_file(self, fake, seed, size):
        order = int(self.seed(fake, "work_orders", 1)[0])
        fake.store.add_document((seed, size), name="CERT.pdf", order=order)
        return "work_orders", str(order), "Certificate"


class TestClientsConform(ConnectorConformance):
    case = ClientsCase()


class TestOrdersAndAssetsConform(ConnectorConformance):
    case = OrdersAndAssetsCase()
