"""First contact: targets that are not empty. 30 % of what the flows will make is there already, under foreign ids.

Ten of these records stand there twice, as they do in any CRM that people type into: nobody but a person can say which
one is meant, so the platform must create no third and touch neither.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from simulator.chance import seeded
from simulator.crm_world import UNIT_GROUPS, unit_group_id, unit_id
from simulator.erp_world import Record
from simulator.expected import NOT_AN_ORDER
from simulator.world import World

SHARE = 0.3
#: Entity -> how many of its pre-filled records stand there twice.
TWICE = {"accounts": 2, "contacts": 1, "products": 5, "salesOrders": 2}

Chosen = TypeVar("Chosen")


class Foreign(msgspec.Struct, frozen=True, kw_only=True):
    """A target record that somebody else made, once or twice."""

    system: str
    entity: str
    scope: str = ""
    key: str  # the value of its natural key
    copies: list[Record]  # one, or two that differ in their ids alone

    @property
    def ambiguous(self) -> bool:
        """Whether a person has to choose."""
        return len(self.copies) > 1


def foreign_records(world: World) -> list[Foreign]:
    """The pre-filled records of a world; the same world gives the same ones."""
    chance = seeded("prefill", world.seed)
    return [
        *_accounts(chance, world),
        *_contacts(chance, world),
        *_products(chance, world),
        *_sales_orders(chance, world),
    ]


def _accounts(chance: random.Random, world: World) -> list[Foreign]:
    return [
        Foreign(
            system="crm",
            entity="accounts",
            key=f"{scope}-{customer['number']}",
            copies=_copies(
                chance,
                "accountid",
                {
                    "accountnumber": f"{scope}-{customer['number']}",
                    "name": f"{customer['displayName']} (old)",
                    "fax": "+44 20 7946 0000",  # nobody's but the CRM's
                    "address1_city": customer["city"],
                },
                twice=twice,
            ),
        )
        for (scope, customer), twice in _choose(chance, list(world.erp.all("customers")), TWICE["accounts"])
    ]


def _contacts(chance: random.Random, world: World) -> list[Foreign]:
    reachable = [pair for pair in world.erp.all("customers") if pair[1]["email"]]
    return [
        Foreign(
            system="crm",
            entity="contacts",
            key=f"{scope}-{customer['number']}",
            copies=_copies(
                chance,
                "contactid",
                {
                    "externaluseridentifier": f"{scope}-{customer['number']}",
                    "lastname": "Office",
                    "mobilephone": "+44 7700 900000",
                },
                twice=twice,
            ),
        )
        for (scope, customer), twice in _choose(chance, reachable, TWICE["contacts"])
    ]


def _products(chance: random.Random, world: World) -> list[Foreign]:
    found = []
    for (scope, item), twice in _choose(chance, list(world.erp.all("items")), TWICE["products"]):
        unit = item["baseUnitOfMeasureCode"]
        record = {
            "productnumber": f"{scope}-{item['number']}",
            "name": item["displayName"],
            "price": 1,
            "size": "see catalogue",
            "defaultuomid": unit_id(unit),
            "defaultuomscheduleid": unit_group_id(UNIT_GROUPS[unit]),
        }
        copies = _copies(chance, "productid", record, twice=twice)
        found.append(Foreign(system="crm", entity="products", key=record["productnumber"], copies=copies))
    return found


def _sales_orders(chance: random.Random, world: World) -> list[Foreign]:
    customers = {(scope, customer["number"]): customer for scope, customer in world.erp.all("customers")}
    orders = [order for order in world.lab.work_orders if order["OrderStatus"] not in NOT_AN_ORDER]
    found = []
    for order, twice in _choose(chance, orders, TWICE["salesOrders"]):
        scope, _, number = order["ClientLegacyId"].partition(":")
        customer = customers[scope, number]
        record = {
            "number": f"S-{order['ServiceOrderId']}",
            "externalDocumentNumber": order["CustomOrderNumber"],
            "orderDate": "2025-01-01",
            "customerId": customer["id"],
            "customerNumber": number,
            "customerName": customer["displayName"],
            # Somebody has typed in the first line of every second order, at an old price.
            "salesOrderLines": [
                {
                    "sequence": 10_000,
                    "lineType": "Item",
                    "lineObjectNumber": "SER101",
                    "description": "as agreed by phone",
                    "quantity": 1,
                    "unitPrice": 1,
                }
            ]
            if order["ServiceOrderId"] % 2
            else [],
        }
        found.append(
            Foreign(
                system="bc",
                entity="salesOrders",
                scope=scope,
                key=order["CustomOrderNumber"],
                copies=_copies(chance, "id", record, twice=twice),
            )
        )
    return found


def _choose(chance: random.Random, records: Sequence[Chosen], twice: int) -> list[tuple[Chosen, bool]]:
    picked = chance.sample(records, round(len(records) * SHARE))
    return [(record, number < twice) for number, record in enumerate(picked)]


def _copies(chance: random.Random, id_field: str, record: Record, *, twice: bool) -> list[Record]:
    # Ids like those a product gives: random, version 4.
    return [
        {id_field: str(uuid.UUID(int=chance.getrandbits(128), version=4)), **record}
        for _ in range(2 if twice else 1)
    ]
