"""Tests of the Business Central connector: the suite that every connector passes, then what this product does to you."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any, ClassVar

import httpx

from ipaas_resources.connectors import registry
from ipaas_resources.connectors.base import Environment, SystemDocument
from ipaas_resources.connectors.business_central.connector import create
from ipaas_resources.connectors.business_central.fake import FakeBusinessCentral, PartFault
from ipaas_resources.connectors.conformance import (
    CANARY_SECRET,
    ConformanceCase,
    ConnectorConformance,
    MemoryLimits,
)
from ipaas_resources.connectors.fakes import Fault, json_reply
from ipaas_resources.connectors.fakes_login import FakeLogin
from ipaas_resources.core.clock import ManualClock, SeededIds
from ipaas_resources.core.records import Found, Operation, OperationKind, WriteResult

UK = "CRONUS UK Ltd."
DE = "CRONUS DE GmbH"
API = "https://api.businesscentral.dynamics.com/v2.0/contoso/Production"
ROUTE = f"{API}/api/v2.0"
CLIENT = "11111111-2222-3333-4444-555555555555"
BUYER = "aaaaaaaa-0000-0000-0000-000000000001"
ITEM = "aaaaaaaa-0000-0000-0000-000000000002"
ORDER = "aaaaaaaa-0000-0000-0000-000000000003"
NOBODY = "99999999-9999-9999-9999-999999999999"
ZERO_GUID = "00000000-0000-0000-0000-000000000000"

__all__ = ["Bench", "BusinessCentralCase", "PartFault"]

_numbers = itertools.count(1)


class Hosts(httpx.AsyncBaseTransport):
    """The sign-in host and the product, each behind its name."""

    def __init__(self, fake: FakeBusinessCentral, login: FakeLogin) -> None:
        self._fake, self._login = fake.transport(), login.transport()

        self.sent: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        host = self._login if request.url.host.startswith("login.") else self._fake
        return await host.handle_async_request(request)


def make_fake(clock) -> FakeBusinessCentral:
    login = FakeLogin(clock=clock)
    login.add_client(CLIENT, CANARY_SECRET, "contoso")
    fake = FakeBusinessCentral(clock=clock, tokens=login.tokens)
    fake.login = login
    for name in (UK, DE):
        fake.add_company(name)
    fake.seed("customers", UK, {"id": BUYER, "number": "BUYER", "displayName": "Adatum"})
    fake.seed(
        "items",
        UK,
        {
            "id": ITEM,
            "number": "1000",
            "displayName": "Bicycle",
            "unitPrice": 4000,
            "baseUnitOfMeasureCode": "PCS",
        },
    )
    return fake


def system_document(**settings: Any) -> SystemDocument:
    return SystemDocument(
        system="bc",
        connector="business_central",
        settings={"base_url": API, "tenant_id": "contoso", "client_id": CLIENT, **settings},
        secrets={"client_secret": "env:BC_SECRET"},
        scopes={"uk": UK, "de": DE},
    )


class Bench:
    """The connector, its fake, and a record of what goes over the wire."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.fake = make_fake(self.clock)
        self.hosts = Hosts(self.fake, self.fake.login)
        self.limits = MemoryLimits(self.clock)
        self.document = system_document(**settings)
        self.connector = self.fresh()

    def fresh(self, document: SystemDocument | None = None):
        """Another connector, as another process would make it."""
        document = document or self.document
        return create(
            document,
            registry.manifest("business_central"),
            Environment(
                system="bc",
                clock=self.clock,
                ids=SeededIds(3),
                limits=self.limits,
                secret={"client_secret": CANARY_SECRET}.__getitem__,
                transport=lambda: self.hosts,
            ),
        )

    @property
    def company(self) -> str:
        return self.fake.company(UK).id

    async def scan(self, entity: str, cursor=None, **how: Any):
        """The pages of one scan."""
        return [page async for page in self.connector.changes(entity, "uk", cursor, **how)]

    async def write(self, entity: str, *operations: Operation) -> list[WriteResult]:
        return await self.connector.write(entity, "uk", operations)

    async def order(self, number: str = "WO-1", *lines: dict[str, Any]) -> Found:
        """A sales order with two lines (or these), as the connector sees it."""
        lines = lines or (
            {"lineType": "Item", "lineObjectNumber": "1000", "quantity": 2},
            {"lineType": "Comment", "description": "as found"},
        )
        identifier = self.fake.seed(
            "sales_orders",
            UK,
            {
                "number": f"SO{next(_numbers)}",
                "externalDocumentNumber": number,
                "customerId": BUYER,
                "salesOrderLines": list(lines),
            },
        )
        (found,) = await self.connector.read("sales_orders", "uk", [identifier])
        return found

    def stored(self, entity: str, identifier: str) -> dict[str, Any]:
        """A record as the product holds it, lines included."""
        (record,) = [r for r in self.fake.sim_records(entity, UK) if r["id"] == identifier]
        return record

    def posts(self, path: str = "$batch") -> list:
        return self.fake.ledger.requests("POST", path)


class BusinessCentralCase(ConformanceCase):
    """What both cases share."""

    scope = "uk"
    not_subscribable = "sales_order_lines"
    secrets: ClassVar = {"BC_SECRET": CANARY_SECRET}
    conflict_statuses = (409, 412)
    missing_id = NOBODY
    no_file_source = ""
    no_file_target = ""

    def document(self):
        return system_document()

    def make_fake(self, clock):
        fake = make_fake(clock)
        # The suite counts every record of an entity.
        fake.table("customers", UK).remove(fake.table("customers", UK).rows[BUYER])
        return fake

    def transport(self, fake):
        return Hosts(fake, fake.login)

    def break_credentials(self, fake):
        fake.login.clients[CLIENT].secret = "another"
        fake.tokens.expire_all()

    def expire_tokens(self, fake):
        fake.tokens.expire_all()

    def list_path(self, entity):
        name = {
            "customers": "customers",
            "sales_orders": "salesOrders",
            "document_attachments": "documentAttachments",
        }[entity]
        return rf"/companies\([^)]*\)/{name}(\?|$)"

    def write_fault(self, **what):
        return Fault(path=r"/\$batch$", method="POST", **what)

    def conflict_fault(self, status):
        return self.write_fault(
            status=status, json={"error": {"code": "Request_EntityChanged", "message": "x"}}
        )

    def loop_fault(self):
        def loop(reply):
            body = reply.json()
            body["@odata.nextLink"] = f"{ROUTE}/companies(x)/salesOrders?$skiptoken=same"
            return json_reply(body)

        return Fault(path=r"/customers|/salesOrders", method="GET", times=-1, change=loop)

    def foreign_link_fault(self, host):
        def lead_away(reply):
            body = reply.json()
            body["@odata.nextLink"] = f"https://{host}/customers?$skiptoken=x"
            return json_reply(body)

        return Fault(path=r"/customers|/salesOrders", method="GET", change=lead_away)

    def remove(self, fake, entity, identifier):
        fake.sim_remove(entity, UK, identifier)

    def stored(self, fake, identifier):
        table = fake.table(self.writable, UK)
        return table.document(table.rows[identifier])

    async def raw_create(self, fake, number, extra):
        fake.tokens.accept("raw")
        async with httpx.AsyncClient(
            transport=fake.transport(), headers={"Authorization": "Bearer raw"}
        ) as client:
            company = fake.company(UK).id
            name = fake.table(self.writable, UK).set.name
            return await client.post(
                f"{ROUTE}/companies({company})/{name}", json={**self.new_fields(number), **extra}
            )

    def plant_file(self, fake, seed, size):
        identifier = fake.seed(
            "document_attachments",
            UK,
            {"fileName": "certificate.pdf", "parentId": ITEM, "parentType": "Item"},
        )
        fake.put_file("document_attachments", UK, identifier, seed=seed, size=size)
        return "document_attachments", identifier, "attachmentContent"

    def file_operation(self, fake, file):
        fields = {"fileName": file.name, "parentType": "Item", "parentId": ITEM}
        return "document_attachments", Operation(
            kind=OperationKind.CREATE,
            key={"parentId": ITEM, "fileName": file.name},
            fields=fields,
            files={"attachmentContent": file},
        )

    def upload_fault(self, **what):
        return Fault(path=r"/attachmentContent$", method="PATCH", **what)

    def uploaded(self, fake):
        rows = fake.table("document_attachments", UK).by_creation()
        return [(row.file.size, row.file.sha256) for row in rows if row.file is not None]


class CustomerCase(BusinessCentralCase):
    """Plain records."""

    readable = "customers"
    writable = "customers"
    key_fields = ("number",)
    text_field = "displayName"
    personal_field = "email"
    decimal_field = "creditLimit"
    decimals = (Decimal("12345678901234567.89"), Decimal("0.1"), Decimal(-7))
    no_decimal = ""
    empties = (("currencyId", ZERO_GUID), ("paymentTermsId", ZERO_GUID))
    enums = (
        ("type", "Person", "Person"),
        ("blocked", "_x0020_", ""),
        ("blocked", "All", "All"),
    )
    read_only = ("balanceDue", 77)
    unreadable = ("taxLiable", "perhaps")
    no_duplicate_keys = "a customer's number is its key"
    no_taken_key = ""

    def seed(self, fake, entity, count):
        return [
            fake.seed(
                entity, UK, {"number": f"C{next(_numbers):05d}", "displayName": "Customer", "city": "Leeds"}
            )
            for _ in range(count)
        ]

    def plant(self, fake, fields):
        record = {"number": f"P{next(_numbers):05d}", "displayName": "Planted", **fields}
        return fake.seed("customers", UK, record)

    def touch(self, fake, entity, identifier):
        fake.sim_change(entity, UK, identifier, {"displayName": f"Changed {next(_numbers)}"})

    def new_fields(self, number):
        return {"number": f"N{number:04d}", "displayName": f"Customer {number}", "city": "York"}

    def changed_fields(self, number):
        return {"city": f"Hull {number}"}

    def refused_fields(self):
        return {"city": "x" * 31}


class OrderCase(BusinessCentralCase):
    """Documents with lines."""

    readable = "sales_orders"
    writable = "sales_orders"
    key_fields = ("externalDocumentNumber",)
    text_field = "shipToName"
    personal_field = "shipToContact"
    decimal_field = "discountAmount"
    no_decimal = ""
    empties = (("requestedDeliveryDate", "0001-01-01"), ("currencyId", ZERO_GUID))
    enums = (("status", "In_x0020_Review", "In Review"),)
    read_only = ("number", "S-ORD1")
    unreadable = ("pricesIncludeTax", "perhaps")

    def make_fake(self, clock):
        return make_fake(clock)

    def seed(self, fake, entity, count):
        return [
            fake.seed(
                entity,
                UK,
                {
                    "number": f"SO{next(_numbers):05d}",
                    "externalDocumentNumber": f"WO-{next(_numbers)}",
                    "customerId": BUYER,
                    "salesOrderLines": [
                        {"lineType": "Item", "lineObjectNumber": "1000", "quantity": 2},
                        {"lineType": "Comment", "description": "as found"},
                    ],
                },
            )
            for _ in range(count)
        ]

    def plant(self, fake, fields):
        record = {"number": f"SO{next(_numbers):05d}", "customerId": BUYER, **fields}
        return fake.seed("sales_orders", UK, record)

    def touch(self, fake, entity, identifier):
        fake.sim_change(entity, UK, identifier, {"shipToName": f"Changed {next(_numbers)}"})

    def new_fields(self, number):
        return {
            "externalDocumentNumber": f"WO{number:04d}",
            "customerId": BUYER,
            "shipToName": f"Lab {number}",
        }

    def changed_fields(self, number):
        return {"shipToCity": f"Hull {number}"}

    def refused_fields(self):
        return {"shipToCity": "x" * 31}


class TestCustomers(ConnectorConformance):
    case = CustomerCase()


class TestOrders(ConnectorConformance):
    case = OrderCase()
