"""The rows of the demo companies: Microsoft's Contoso demo data where it lies beside the repo, else generated rows.

`../shared/data/contoso_demo.json` (MIT, Copyright Microsoft Corporation; its README says how it was taken) holds 22
demo companies: the world-wide one (W1) and one per country. Some lists hold only what a country has of its own; the
rest of those lists is W1's.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import msgspec

DATA_FOLDER_VARIABLE = "IPAAS_SIMULATOR_DATA"
DATA_FILE = "contoso_demo.json"

#: The world-wide company: what it has, every company has.
WORLDWIDE = "W1"

_ZERO = Decimal(0)


class Row(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One row of a demo company; empty values are left out in the file."""

    localization: str


class CompanyRow(Row, frozen=True, kw_only=True, rename="camel"):
    """A demo company."""

    display_name: str
    country: str


class CustomerRow(Row, frozen=True, kw_only=True, rename="camel"):
    """A customer."""

    number: str
    display_name: str
    address_line1: str = ""
    address_line2: str = ""
    city: str = ""
    state: str = ""
    country: str = ""
    postal_code: str = ""
    email: str = ""
    contact: str = ""
    salesperson_code: str = ""
    payment_terms_code: str = ""
    currency_code: str = ""
    tax_liable: bool = False
    tax_registration_number: str = ""


class ItemRow(Row, frozen=True, kw_only=True, rename="camel"):
    """An item."""

    number: str
    description: str
    type: str = "Inventory"
    item_category_code: str = ""
    unit_price: Decimal = _ZERO
    unit_cost: Decimal = _ZERO
    tax_group_code: str = ""
    base_unit_of_measure_code: str = ""
    general_product_posting_group_code: str = ""
    inventory_posting_group_code: str = ""


class ItemCategoryRow(Row, frozen=True, kw_only=True, rename="camel"):
    """An item category."""

    code: str
    description: str
    parent_category: str = ""


class UnitRow(Row, frozen=True, kw_only=True, rename="camel"):
    """A unit of measure."""

    code: str
    description: str
    international_standard_code: str = ""


class PaymentTermRow(Row, frozen=True, kw_only=True, rename="camel"):
    """Payment terms."""

    code: str
    description: str
    due_date_calculation: str = ""
    discount_date_calculation: str = ""
    discount_percent: Decimal = _ZERO
    calc_pmt_disc_on_cr_memos: bool = False


class DemoData(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The lists of all companies that the simulated world is made of."""

    company_information: list[CompanyRow]
    customers: list[CustomerRow]
    items: list[ItemRow]
    item_categories: list[ItemCategoryRow]
    units_of_measure: list[UnitRow]
    payment_terms: list[PaymentTermRow]

    def units(self, localization: str) -> list[UnitRow]:
        """The units of one company."""
        return _with_worldwide(self.units_of_measure, localization)

    def terms(self, localization: str) -> list[PaymentTermRow]:
        """The payment terms of one company."""
        return _with_worldwide(self.payment_terms, localization)

    def categories(self, localization: str) -> list[ItemCategoryRow]:
        """The item categories of one company."""
        return _with_worldwide(self.item_categories, localization)


CodedRow = TypeVar("CodedRow", UnitRow, PaymentTermRow, ItemCategoryRow)


def _with_worldwide(rows: list[CodedRow], localization: str) -> list[CodedRow]:
    by_code = {row.code: row for row in rows if row.localization == WORLDWIDE}
    by_code.update({row.code: row for row in rows if row.localization == localization})
    return list(by_code.values())


def data_folder() -> Path:
    """Where the demo data is looked for: the variable's folder, else `shared/data` beside the repo."""
    named = os.environ.get(DATA_FOLDER_VARIABLE)
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def load_demo_data(folder: Path | None = None) -> DemoData | None:
    """Read the demo companies of a folder; None when the file is not there."""
    path = (folder or data_folder()) / DATA_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(content, type=DemoData)
