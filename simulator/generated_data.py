"""Demo companies made up from a seed, for machines without the Contoso file: same shapes, same counts.

22 companies with 5 customers (numbers 10000 to 50000 in each, meaning different customers), 65 items, and the units
and payment terms that Business Central ships.
"""

from __future__ import annotations

import random
from decimal import Decimal

from simulator.chance import happens, seeded
from simulator.demo_data import (
    WORLDWIDE,
    CompanyRow,
    CustomerRow,
    DemoData,
    ItemCategoryRow,
    ItemRow,
    PaymentTermRow,
    UnitRow,
)

LOCALIZATIONS = (
    *(WORLDWIDE, "AT", "AU", "BE", "CA", "CH", "CZ", "DE", "DK", "ES", "FI"),
    *("FR", "GB", "IN", "IS", "IT", "MX", "NL", "NO", "NZ", "SE", "US"),
)
CUSTOMER_NUMBERS = ("10000", "20000", "30000", "40000", "50000")
ITEMS_PER_COMPANY = 65

_UNITS = (
    *(("HOUR", "Hour", "HUR"), ("DAY", "Day", "DAY"), ("PCS", "Piece", "EA"), ("CAN", "Can", "CA")),
    *(("BOX", "Box", "BX"), ("PALLET", "Pallet", "PF"), ("PACK", "Pack", "PK"), ("MILES", "Miles", "SMI")),
    *(("KM", "Kilometer", "KMT"), ("KG", "Kilogram", "KGM"), ("SET", "Set", "SET"), ("BAG", "Bag", "BAG")),
    *(("GR", "Gram", "GRM"), ("L", "Liter", "LTR"), ("T", "Tonne", "TN"), ("KWH", "KW Hour", "KWH")),
    *(("CM", "Centimeter", "CM"), ("M3", "Cubic metre", "M3"), ("ML", "Milliliter", "ML")),
)
_TERMS = (
    *(("CM", "<CM>", "Current Month"), ("COD", "<0D>", "Cash on delivery")),
    *(("1M(8D)", "<1M>", "1 Month/2% 8 days"), ("2 DAYS", "<2D>", "Net 2 days")),
    *(
        ("7 DAYS", "<7D>", "Net 7 days"),
        ("10 DAYS", "<10D>", "Net 10 days"),
        ("14 DAYS", "<14D>", "Net 14 days"),
    ),
    *(("15 DAYS", "<15D>", "Net 15 days"), ("21 DAYS", "<21D>", "Net 21 days")),
    *(("30 DAYS", "<30D>", "Net 30 days"), ("60 DAYS", "<60D>", "Net 60 days")),
)
_TERMS_IN_USE = ("14 DAYS", "1M(8D)", "CM", "30 DAYS", "14 DAYS", "COD")
_CATEGORIES = (
    *(("FURNITURE", "Office Furniture", ""), ("CHAIR", "Office Chair", "FURNITURE")),
    *(("DESK", "Office Desk", "FURNITURE"), ("PARTS", "Parts", ""), ("SERVICES", "Services", "")),
)

_SERVICES = (
    ("SER101", "Equipment Fee", "DAY"),
    ("SER102", "Repair", "HOUR"),
    ("SER203", "Project Fee", "HOUR"),
)

_FIRST = (
    "Ada",
    "Björn",
    "Chloé",
    "Dagný",
    "Emil",
    "Fátima",
    "Giò",
    "Håkon",
    "Ilse",
    "Jiří",
    "Karen",
    "Łucja",
    "María",
)
_LAST = (
    "Ångström",
    "Becquerel",
    "Curie",
    "Dvořák",
    "Euler",
    "Fermi",
    "Gauß",
    "Hertz",
    "Itō",
    "Joule",
    "Kelvin",
)
_TRADES = (
    "Aerospace",
    "Bearings",
    "Castings",
    "Dairies",
    "Engines",
    "Foundry",
    "Gauges",
    "Hydraulics",
    "Instruments",
)
_FORMS = ("Ltd.", "GmbH", "S.A.", "A/S", "Inc.", "Oy", "s.r.o.", "B.V.", "AB", "Pty Ltd")
_STREETS = (
    "Station Road",
    "Rue de la Gare",
    "Bahnhofstraße",
    "Calle Mayor",
    "Storgata",
    "Via Roma",
    "Nádražní",
)
_CITIES = (
    "Cambridge",
    "Zürich",
    "Kraków",
    "Malmö",
    "Århus",
    "Besançon",
    "Córdoba",
    "Reykjavík",
    "Ottawa",
    "Perth",
)
_ADJECTIVES = (
    "Adjustable",
    "Brushed",
    "Compact",
    "Digital",
    "Folding",
    "Heavy",
    "Insulated",
    "Modular",
    "Swivel",
)
_THINGS = (
    "airpot",
    "bracket",
    "chair",
    "desk",
    "element",
    "filter",
    "gasket",
    "housing",
    "lamp",
    "pump",
    "washer",
)


def generate_demo_data(seed: int) -> DemoData:
    """Rows of the same shapes and counts as Microsoft's; the same seed gives the same rows on every machine."""
    chance = seeded("demo data", seed)
    return DemoData(
        company_information=[_company(name) for name in LOCALIZATIONS],
        customers=[_customer(chance, name, number) for name in LOCALIZATIONS for number in CUSTOMER_NUMBERS],
        items=[_item(chance, name, index) for name in LOCALIZATIONS for index in range(ITEMS_PER_COMPANY)],
        item_categories=[
            ItemCategoryRow(localization=WORLDWIDE, code=code, description=text, parent_category=parent)
            for code, text, parent in _CATEGORIES
        ],
        units_of_measure=[
            UnitRow(localization=WORLDWIDE, code=code, description=text, international_standard_code=standard)
            for code, text, standard in _UNITS
        ],
        payment_terms=[
            PaymentTermRow(
                localization=WORLDWIDE,
                code=code,
                due_date_calculation=due,
                description=text,
                discount_date_calculation="<8D>" if code == "1M(8D)" else "",
                discount_percent=Decimal(2) if code == "1M(8D)" else Decimal(0),
            )
            for code, due, text in _TERMS
        ],
    )


def _company(localization: str) -> CompanyRow:
    country = "GB" if localization == WORLDWIDE else localization
    return CompanyRow(localization=localization, display_name="CRONUS International Ltd.", country=country)


def _customer(chance: random.Random, localization: str, number: str) -> CustomerRow:
    first, last = chance.choice(_FIRST), chance.choice(_LAST)
    # Like the original: five customers without an address of their own to write to.
    reachable = not (number == "50000" and localization in {"CH", "FI", "IS", "NO", "SE"})
    return CustomerRow(
        localization=localization,
        number=number,
        display_name=f"{last} {chance.choice(_TRADES)} {chance.choice(_FORMS)}",
        address_line1=f"{chance.choice(_STREETS)} {chance.randint(1, 199)}",
        address_line2="Building 2" if happens(chance, 30) else "",
        city=chance.choice(_CITIES),
        country="GB" if localization == WORLDWIDE else localization,
        postal_code=f"{chance.randint(1000, 99999)}",
        email=f"contact.{number}@{localization.lower()}.example" if reachable else "",
        contact=f"{first} {last}",
        salesperson_code="JO",
        payment_terms_code=chance.choice(_TERMS_IN_USE),
        tax_registration_number=f"{localization}{chance.randint(10**8, 10**9 - 1)}",
    )


def _item(chance: random.Random, localization: str, index: int) -> ItemRow:
    if index < len(_SERVICES):
        # Every company sells the same three services: the work orders are charged by them.
        number, text, unit = _SERVICES[index]
        return ItemRow(
            localization=localization,
            number=number,
            description=text,
            type="Service",
            unit_price=Decimal(chance.randint(10, 100)),
            item_category_code="SERVICES",
            base_unit_of_measure_code=unit,
            general_product_posting_group_code="SERVICES",
        )
    cents = chance.randint(5, 99_999)
    return ItemRow(
        localization=localization,
        number=f"G-{1000 + index}",
        description=f"{chance.choice(_ADJECTIVES)} {chance.choice(_THINGS)} {index}",
        type="Non-Inventory" if index % 13 == 0 else "Inventory",
        unit_price=Decimal(cents) / 100,
        unit_cost=Decimal(cents * 7 // 10) / 100,
        item_category_code=chance.choice(("CHAIR", "DESK", "PARTS", "")),
        base_unit_of_measure_code="CAN" if index in {10, 20, 30} else "PCS",
        general_product_posting_group_code="RETAIL",
        inventory_posting_group_code="" if index % 13 == 0 else "RESALE",
    )
