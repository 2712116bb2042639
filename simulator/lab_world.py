"""The calibration lab's side of the world: its clients, their instruments, its people; its orders are in `lab_orders`.

Field names are those of the Qualer API (specs/qualer_swagger2.json).
"""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal

import msgspec

from simulator.chance import happens, seeded
from simulator.erp_world import Company, ErpWorld, Record
from simulator.lab_catalogue import EMPLOYEES, INSTRUMENT_TYPES, VENDORS, InstrumentType
from simulator.lab_orders import Certificate, build_work_orders

#: How many customers of each company were clients of the lab before the first sync.
CLIENTS_PER_COMPANY = 2


class LabWorld(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in the calibration system at the start. A work order holds its items under `WorkItems`."""

    clients: list[Record]
    products: list[Record]
    assets: list[Record]
    employees: list[Record]
    vendors: list[Record]
    forecasts: list[Record]
    work_orders: list[Record]
    certificates: dict[int, Certificate]  # by ServiceOrderId


def build_lab_world(erp: ErpWorld, seed: int) -> LabWorld:
    """A lab that already serves two customers of every company and has 520 work orders of theirs.

    The clients it knows carry the ERP's key in LegacyId, so the first sync adopts them; the others it creates.
    """
    chance = seeded("lab", seed)
    clients = [
        _client(chance, number, company, customer)
        for number, (company, customer) in enumerate(_first_clients(chance, erp), start=4101)
    ]
    products = [_product(number, kind) for number, kind in enumerate(INSTRUMENT_TYPES, start=3300)]
    assets: dict[int, list[Record]] = {}
    number = 55001
    for client in clients:
        assets[client["CompanyId"]] = [
            _asset(chance, number + offset, client, chance.choice(products))
            for offset in range(chance.randint(6, 12))
        ]
        number += 20
    owned = [asset for each in assets.values() for asset in each]
    orders, certificates = build_work_orders(chance, clients, assets)
    return LabWorld(
        clients=clients,
        products=products,
        assets=owned,
        employees=[_employee(index, *person) for index, person in enumerate(EMPLOYEES, start=77)],
        vendors=[
            {
                "CompanyId": index,
                "AccountNumberText": account,
                "CompanyName": name,
                "UpdatedOnUtc": "2025-01-02T12:00:00",
            }
            for index, (account, name) in enumerate(VENDORS, start=9007)
        ],
        forecasts=[_forecast(chance, index, asset) for index, asset in enumerate(owned, start=700)],
        work_orders=orders,
        certificates=certificates,
    )


def legacy_id(scope: str, number: str) -> str:
    """How the lab writes down which customer of which company a client is."""
    return f"{scope}:{number}"


def _first_clients(chance: random.Random, erp: ErpWorld) -> list[tuple[Company, Record]]:
    found: list[tuple[Company, Record]] = []
    for company in erp.companies:
        customers = erp.records[company.scope]["customers"]
        chosen = sorted(chance.sample(range(len(customers)), CLIENTS_PER_COMPANY))
        found += [(company, customers[index]) for index in chosen]
    return found


def _client(chance: random.Random, number: int, company: Company, customer: Record) -> Record:
    # The lab wrote names and addresses down by hand: some in capitals, some with an old address.
    name: str = customer["displayName"]
    moved = happens(chance, 25)
    return {
        "CompanyId": number,
        "AccountNumber": number,
        "AccountNumberText": f"{company.scope.upper()}-{customer['number']}",
        "CompanyName": name.upper() if happens(chance, 30) else name,
        "CustomClientName": name,
        "ClientStatus": "Approved",
        "LegacyId": legacy_id(company.scope, customer["number"]),
        "CurrencyId": 2,
        "DomainName": f"client{number}",
        "UpdatedOnUtc": "2025-01-03T09:30:00",
        "BillingAddress": {
            "Address1": "Old Works Lane 1" if moved else customer["addressLine1"],
            "Address2": customer["addressLine2"],
            "City": customer["city"],
            "ZipPostalCode": customer["postalCode"],
            "Country": customer["country"],
        },
        "ShippingAddress": None,
    }


def _product(number: int, kind: InstrumentType) -> Record:
    return {
        "ProductId": number,
        "ManufacturerName": kind.manufacturer,
        "ProductName": kind.name,
        "ManufacturerPartNumber": kind.part_number,
        "ProductCode": kind.code,
        "CategoryName": kind.category,
        "ParentCategoryName": kind.discipline,
        "UnitSalePrice": kind.charge,
    }


def _asset(chance: random.Random, number: int, client: Record, product: Record) -> Record:
    bought = dt.date(2018, 1, 1) + dt.timedelta(days=chance.randrange(0, 2300))
    cost = Decimal(chance.randrange(4_000, 900_000)) / 100
    return {
        "AssetId": number,
        "CompanyId": client["CompanyId"],
        "EquipmentId": f"EQ-{number}",
        "SerialNumber": f"{chance.randrange(10**6, 10**7)}",
        "AssetTag": f"{client['CompanyId']}-{number % 100:03}",
        "AssetStatus": "Active",
        "AssetName": product["ProductName"],
        "ProductId": product["ProductId"],
        "ProductManufacturer": product["ManufacturerName"],
        "ManufacturerPartNumber": product["ManufacturerPartNumber"],
        "CategoryName": product["CategoryName"],
        "RootCategoryName": product["ParentCategoryName"],
        "Location": f"Hall {chance.randint(1, 6)}",
        "PurchaseDate": f"{bought.isoformat()}T00:00:00",
        "PurchaseCost": cost,
        "DepreciationBasis": cost,
        "LifeSpanMonths": chance.choice((60, 96, 120)),
    }


def _forecast(chance: random.Random, number: int, asset: Record) -> Record:
    due = dt.date(2025, 9, 1) + dt.timedelta(days=chance.randrange(0, 400))
    return {
        "AssetId": asset["AssetId"],
        "MaintenancePlanId": 610,
        "MaintenancePlanName": "Annual calibration",
        "MaintenanceTaskId": number,
        "MaintenanceTaskName": "Calibration",
        "CompanyId": asset["CompanyId"],
        "SerialNumber": asset["SerialNumber"],
        "AssetTag": asset["AssetTag"],
        "EquipmentId": asset["EquipmentId"],
        "AssetName": asset["AssetName"],
        "CategoryName": asset["CategoryName"],
        "ManufacturerName": asset["ProductManufacturer"],
        "NextServiceDate": f"{due.isoformat()}T00:00:00",
        "IntervalCycle": "Months",
        "IntervalLength": chance.choice((6, 12, 24)),
    }


def _employee(number: int, first: str, last: str, title: str) -> Record:
    return {
        "EmployeeId": number,
        "FirstName": first,
        "LastName": last,
        "LoginEmail": f"employee.{number}@lab.example",
        "Alias": first[0] + last[0],
        "Title": title,
        "IsLocked": False,
        "IsDeleted": False,
        "CultureName": "en-GB",
    }
