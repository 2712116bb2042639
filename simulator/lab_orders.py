"""The work orders of the simulated lab with their items, and the certificates it issues for them.

Field names are those of the Qualer API (specs/qualer_swagger2.json). Times are the lab's local time without a zone,
as that product sends them; fields that end in Utc are UTC.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from simulator.chance import happens
from simulator.erp_world import Record
from simulator.lab_catalogue import EMPLOYEES, FINISHED, INSTRUMENT_TYPES, ORDER_STATUSES, SERVICE_TYPES
from simulator.made_ids import made_guid
from simulator.pdf import pdf_document

#: The zone of the lab's times.
LAB_ZONE = "Europe/London"
_ZONE = ZoneInfo(LAB_ZONE)
_FIRST_ORDER = dt.datetime(2025, 1, 6, 8, 0)  # noqa: DTZ001 - the lab's times carry no zone


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate document of a work order."""

    name: str
    content: bytes


def build_work_orders(
    chance: random.Random, clients: list[Record], assets: dict[int, list[Record]]
) -> tuple[list[Record], dict[int, Certificate]]:
    statuses = [status for status, count in ORDER_STATUSES for _ in range(count)]
    chance.shuffle(statuses)
    orders: list[Record] = []
    certificates: dict[int, Certificate] = {}
    created = _FIRST_ORDER
    item_number = 990_001
    for index, status in enumerate(statuses):
        # Spread over seven months, so that summer time takes part, and round the clock, for the portal never sleeps.
        created += dt.timedelta(minutes=chance.randrange(300, 850))
        if created.hour in {1, 2}:  # no order in the hour that summer time skips or repeats
            created += dt.timedelta(hours=2)
        client = clients[index % len(clients)] if index < len(clients) else chance.choice(clients)
        owned = assets[client["CompanyId"]]
        order = _order(chance, 285_227 + index, client, status, created)
        chosen = chance.sample(owned, chance.randint(1, 5))
        order["WorkItems"] = [
            _work_item(chance, item_number + offset, order, offset + 1, asset)
            for offset, asset in enumerate(chosen)
        ]
        item_number += len(chosen)
        _total(order)
        orders.append(order)
        if status in FINISHED:
            certificates[order["ServiceOrderId"]] = certificate_of(order, order["WorkItems"])
    return orders, certificates


def _order(
    chance: random.Random, number: int, client: Record, status: str, created: dt.datetime
) -> dict[str, Any]:
    desired = (created + dt.timedelta(days=chance.randint(7, 40))).replace(hour=0, minute=0)
    completed = created + dt.timedelta(days=chance.randint(2, 20), minutes=17) if status in FINISHED else None
    updated = (completed or created + dt.timedelta(hours=5)) + dt.timedelta(seconds=chance.randint(1, 59))
    running = number - 285_226
    return {
        "ServiceOrderId": number,
        "ServiceOrderNumber": 4600 + running,
        "CustomOrderNumber": f"WO-{created.year}-{running:04}",
        "LegacyOrderNumber": None,
        "ClientCompanyId": client["CompanyId"],
        "ClientCompanyName": client["CompanyName"],
        "ClientLegacyId": client["LegacyId"],
        "OrderStatus": status,
        "PaymentStatus": "Invoiced" if status == "Closed" else "NotInvoiced",
        "ShipmentStatus": "Delivered" if status == "Closed" else "NotShipped",
        "PoNumber": f"PO-{chance.randrange(1000, 9999)}",
        "CreatedOn": created.isoformat(),
        "DesiredDate": desired.isoformat(),
        "CompletedOn": completed.isoformat() if completed else None,
        "LastUpdatedOn": updated.isoformat(),
        "Guid": made_guid("workOrders", str(number)),
    }


def _work_item(chance: random.Random, number: int, order: Record, line: int, asset: Record) -> Record:
    kind = INSTRUMENT_TYPES[asset["ProductId"] - 3300]
    service = chance.choices([name for name, _ in SERVICE_TYPES], [weight for _, weight in SERVICE_TYPES])[0]
    done = order["OrderStatus"] in FINISHED
    adjusted = done and happens(chance, 10)
    service_date = order["CompletedOn"][:10] if done else None
    return {
        "WorkItemId": number,
        "ServiceOrderId": order["ServiceOrderId"],
        "OrderItemNumber": line,
        "AssetId": asset["AssetId"],
        "AssetName": asset["AssetName"],
        "EquipmentId": asset["EquipmentId"],
        "SerialNumber": asset["SerialNumber"],
        "ServiceType": service,
        "ServiceLevelCode": "ISO17025" if happens(chance, 70) else "STD",
        "WorkStatus": "Completed" if done else "New",
        "AsFoundResult": ("Fail" if adjusted else "Pass") if done else "NotAvailable",
        "AsLeftResult": "Pass" if done else "NotAvailable",
        "ResultStatus": ("PassAdjustment" if adjusted else "Pass") if done else "NotAvailable",
        "CertificateNumber": f"CERT-{order['CustomOrderNumber'][3:]}-{line}" if done else None,
        "ServiceDate": f"{service_date}T00:00:00" if done else None,
        "NextServiceDate": f"{int(order['CompletedOn'][:4]) + 1}{order['CompletedOn'][4:8]}01T00:00:00"
        if done
        else None,
        "CompletedByName": f"{EMPLOYEES[number % 4][0]} {EMPLOYEES[number % 4][1]}" if done else None,
        "ServiceCharge": kind.charge,
        "RepairsCharge": Decimal(chance.randrange(1_500, 20_000)) / 100
        if service == "Repair"
        else Decimal(0),
        "PartsCharge": Decimal(chance.randrange(0, 9_000)) / 100
        if adjusted or service == "Repair"
        else Decimal(0),
        "CreatedOnUtc": _utc(order["CreatedOn"]),
        "UpdatedOnUtc": _utc(order["LastUpdatedOn"]),
    }


def _utc(local: str) -> str:
    moment = dt.datetime.fromisoformat(local).replace(tzinfo=_ZONE)
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat()


def _total(order: Record) -> None:
    items = order["WorkItems"]
    services = sum((item["ServiceCharge"] + item["RepairsCharge"] for item in items), Decimal(0))
    parts = sum((item["PartsCharge"] for item in items), Decimal(0))
    shipping = Decimal("12.5")
    tax = ((services + parts + shipping) * Decimal("0.2")).quantize(Decimal("0.01"))
    order |= {
        "ServiceTotal": services,
        "PartsTotal": parts,
        "ShippingFee": shipping,
        "EffectiveTaxRate": Decimal("0.2"),
        "TaxAmount": tax,
        "GrandTotal": services + parts + shipping + tax,
    }


def certificate_of(order: Record, items: Sequence[Record], revision: int = 0) -> Certificate:
    """The certificate that the lab issues for a finished work order and its items."""
    number = f"CERT-{order['CustomOrderNumber'][3:]}"
    suffix = f"_rev{revision}" if revision else ""
    lines = [
        f"Work order {order['CustomOrderNumber']}, revision {revision}",
        f"Client: {order['ClientCompanyName']}",
        f"Completed: {(order['CompletedOn'] or '')[:10]}",
        "",
    ]
    lines += [
        f"{item['OrderItemNumber']}. {item['AssetName']}, serial {item['SerialNumber']}: "
        f"as found {item['AsFoundResult']}, as left {item['AsLeftResult']}"
        for item in items
    ]
    return Certificate(
        name=f"{number}{suffix}.pdf", content=pdf_document(f"Calibration certificate {number}", lines)
    )
