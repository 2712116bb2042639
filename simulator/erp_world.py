"""The Business Central side of the world: companies and their customers, items, units and payment terms.

Records are as on the wire of API v2.0 (enum members OData-encoded, empty text "", empty GUID zeros), without ETag.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec

from simulator.chance import happens, seeded
from simulator.demo_data import CompanyRow, CustomerRow, DemoData, ItemRow
from simulator.made_ids import made_guid

Record = dict[str, Any]

NO_GUID = "00000000-0000-0000-0000-000000000000"
_WIRE_TYPE = {"Inventory": "Inventory", "Service": "Service", "Non-Inventory": "Non_x002D_Inventory"}
#: Long before any machine's clock: what the platform changes later is always newer.
_FIRST_CHANGE = dt.datetime(2025, 1, 6, 7, 0, tzinfo=dt.UTC)


class Company(msgspec.Struct, frozen=True, kw_only=True):
    """A company of the Business Central environment; `scope` is our short name for it."""

    scope: str
    id: str
    name: str
    display_name: str
    country: str


class ErpWorld(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in Business Central at the start: scope -> entity set -> records."""

    companies: list[Company]
    records: dict[str, dict[str, list[Record]]]

    def all(self, entity_set: str) -> Iterator[tuple[str, Record]]:
        """Every record of a set with its scope, company by company."""
        for company in self.companies:
            for record in self.records[company.scope][entity_set]:
                yield company.scope, record


def build_erp_world(data: DemoData, seed: int) -> ErpWorld:
    """The companies of the demo data; what Microsoft left empty (phones, credit) is made up from the seed."""
    chance = seeded("erp", seed)
    stamps = _stamps()
    companies = [_company(row) for row in data.company_information]
    customers = _by_localization(data.customers)
    items = _by_localization(data.items)
    records: dict[str, dict[str, list[Record]]] = {}
    for company, row in zip(companies, data.company_information, strict=True):
        name = row.localization
        # A country's payment terms may differ from the world-wide ones, their ids do not: the companies were copied
        # from one, and copying a company keeps the ids of its rows.
        terms: dict[str, Record] = {
            term.code: {
                "id": made_guid("paymentTerms", term.code),
                "code": term.code,
                "displayName": term.description,
                "dueDateCalculation": term.due_date_calculation.strip("<>"),
                "discountDateCalculation": term.discount_date_calculation.strip("<>"),
                "discountPercent": term.discount_percent,
                "calculateDiscountOnCreditMemos": term.calc_pmt_disc_on_cr_memos,
                "lastModifiedDateTime": next(stamps),
            }
            for term in data.terms(name)
        }
        units: dict[str, Record] = {
            unit.code: {
                "id": made_guid("unitsOfMeasure", unit.code),
                "code": unit.code,
                "displayName": unit.description,
                "internationalStandardCode": unit.international_standard_code,
                "symbol": "",
                "lastModifiedDateTime": next(stamps),
            }
            for unit in data.units(name)
        }
        records[company.scope] = {
            "paymentTerms": list(terms.values()),
            "unitsOfMeasure": list(units.values()),
            "itemCategories": [
                {
                    "id": made_guid("itemCategories", category.code),
                    "code": category.code,
                    "displayName": category.description,
                    "lastModifiedDateTime": next(stamps),
                }
                for category in data.categories(name)
            ],
            # The other tables that customers and items point into, as far as they are pointed at.
            "currencies": _coded("currencies", (row.currency_code for row in customers[name]), stamps),
            "taxGroups": _coded("taxGroups", (row.tax_group_code for row in items[name]), stamps),
            "generalProductPostingGroups": _coded(
                "generalProductPostingGroups",
                (row.general_product_posting_group_code for row in items[name]),
                stamps,
            ),
            "inventoryPostingGroups": _coded(
                "inventoryPostingGroups", (row.inventory_posting_group_code for row in items[name]), stamps
            ),
            "customers": [
                _customer(chance, company.scope, customer, terms, next(stamps))
                for customer in customers[name]
            ],
            "items": [_item(company.scope, item, units, next(stamps)) for item in items[name]],
        }
    return ErpWorld(companies=companies, records=records)


def _company(row: CompanyRow) -> Company:
    return Company(
        scope=row.localization.lower(),
        id=made_guid("companies", row.localization),
        name=f"CRONUS {row.localization}",  # display names repeat, names do not
        display_name=row.display_name,
        country=row.country,
    )


def _customer(
    chance: random.Random, scope: str, row: CustomerRow, terms: dict[str, Record], changed: str
) -> Record:
    credit = Decimal(chance.randrange(0, 40)) * 2500 + Decimal(chance.choice((0, 0, 50, 75))) / 100
    # One customer in eight owes more than agreed.
    due = credit * Decimal("1.1") + 99 if happens(chance, 12) else credit * chance.randrange(0, 90) / 100
    return {
        "id": made_guid("customers", scope, row.number),
        "number": row.number,
        "displayName": row.display_name,
        "type": "Company",
        "addressLine1": row.address_line1,
        "addressLine2": row.address_line2,
        "city": row.city,
        "state": row.state,
        "country": row.country,
        "postalCode": row.postal_code,
        "phoneNumber": f"+{chance.randrange(1, 99)} {chance.randrange(100, 999)} {chance.randrange(10**5, 10**6)}",
        "email": row.email,
        "website": "",
        "salespersonCode": row.salesperson_code,
        "balanceDue": due.quantize(Decimal("0.01")),
        "creditLimit": credit,
        "taxLiable": row.tax_liable,
        "taxAreaId": NO_GUID,
        "taxAreaDisplayName": "",
        "taxRegistrationNumber": row.tax_registration_number,
        "currencyId": _related("currencies", row.currency_code),
        "currencyCode": row.currency_code,
        "paymentTermsId": terms[row.payment_terms_code]["id"] if row.payment_terms_code else NO_GUID,
        "shipmentMethodId": NO_GUID,
        "paymentMethodId": NO_GUID,
        "blocked": "_x0020_",
        "lastModifiedDateTime": changed,
    }


def _item(scope: str, row: ItemRow, units: dict[str, Record], changed: str) -> Record:
    category = row.item_category_code
    return {
        "id": made_guid("items", scope, row.number),
        "number": row.number,
        "displayName": row.description,
        "displayName2": "",
        "type": _WIRE_TYPE[row.type],
        "itemCategoryId": _related("itemCategories", category),
        "itemCategoryCode": category,
        "blocked": False,
        "gtin": "",
        "inventory": 0,
        "unitPrice": row.unit_price,
        "priceIncludesTax": False,
        "unitCost": row.unit_cost,
        "taxGroupId": _related("taxGroups", row.tax_group_code),
        "taxGroupCode": row.tax_group_code,
        "baseUnitOfMeasureId": units[row.base_unit_of_measure_code]["id"],
        "baseUnitOfMeasureCode": row.base_unit_of_measure_code,
        "generalProductPostingGroupId": _related(
            "generalProductPostingGroups", row.general_product_posting_group_code
        ),
        "generalProductPostingGroupCode": row.general_product_posting_group_code,
        "inventoryPostingGroupId": _related("inventoryPostingGroups", row.inventory_posting_group_code),
        "inventoryPostingGroupCode": row.inventory_posting_group_code,
        "lastModifiedDateTime": changed,
    }


def _related(entity_set: str, code: str) -> str:
    return made_guid(entity_set, code) if code else NO_GUID


def _coded(entity_set: str, codes: Iterable[str], stamps: Iterator[str]) -> list[Record]:
    name = "displayName" if entity_set in {"currencies", "taxGroups"} else "description"
    return [
        {
            "id": made_guid(entity_set, code),
            "code": code,
            name: code.capitalize(),
            "lastModifiedDateTime": next(stamps),
        }
        for code in sorted(set(codes) - {""})
    ]


def _stamps() -> Iterator[str]:
    """Ever later change times: 7 s and some milliseconds apart, so that records share a second now and then."""
    moment = _FIRST_CHANGE
    while True:
        yield moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        moment += dt.timedelta(milliseconds=437)


def _by_localization(rows: list[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row.localization, []).append(row)
    return grouped
