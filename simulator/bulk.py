"""Any number of Business Central customers for benchmarks: 27 fields, about 865 bytes of JSON each, prepared beforehand.

A benchmark measures the platform, so nothing of a record may be made while the clock runs: rows and their JSON are
there before the simulator says that it is ready.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from simulator.erp_world import NO_GUID, Company
from simulator.made_ids import made_guid

if TYPE_CHECKING:
    from ipaas_resources.connectors.business_central.fake import FakeBusinessCentral

#: The company of the generated customers; the scope carries the same name.
BULK_COMPANY = Company(
    scope="bulk", id=made_guid("companies", "bulk"), name="BULK", display_name="Bulk customers", country="GB"
)
#: Bytes of one record as the API sends it, `@odata.etag` included.
RECORD_BYTES = 865  # on average

_FIRST_ID = 0x0B01_0000_0000_5000_8000_0000_0000_0000
_CITIES = ("Cambridge", "Zürich", "København", "Besançon", "Kraków", "Reykjavík", "Córdoba", "Ottawa")
_TRADES = ("Aerospace", "Bearings", "Castings", "Dairies", "Engines", "Foundry", "Gauges", "Hydraulics")


def add_bulk_customers(fake: FakeBusinessCentral, count: int) -> None:
    """Fill the bulk company with customers; the same count gives the same ones."""
    company = fake.add_company(BULK_COMPANY.name, BULK_COMPANY.id)
    table = company.table("customers")
    terms = made_guid("paymentTerms", "14 DAYS")
    fake.seed(
        "paymentTerms", BULK_COMPANY.name, {"id": terms, "code": "14 DAYS", "displayName": "Net 14 days"}
    )
    stamp = fake.stamp()
    for number in range(count):
        name = f"{_TRADES[number % 8]} {number:07d} Ltd."
        record = {
            "id": bulk_customer_id(number),
            "number": f"B{number:08d}",
            "displayName": name,
            "type": "Company",
            "addressLine1": f"Park {number % 997:03d}, B {number % 89:02d}",
            "addressLine2": "",
            "city": _CITIES[number % 8],
            "state": "",
            "country": "GB",
            "postalCode": f"CB{number % 10} {number % 10}AA",
            "phoneNumber": f"+44 1223 {number % 1_000_000:06d}",
            "email": f"post@c{number:07d}.example",
            "website": "",
            "salespersonCode": "JO",
            "balanceDue": Decimal(number % 997_300).scaleb(-2),
            "creditLimit": number % 50 * 2_500,
            "taxLiable": bool(number % 2),
            "taxAreaId": NO_GUID,
            "taxAreaDisplayName": "",
            "taxRegistrationNumber": "",
            "currencyId": NO_GUID,
            "currencyCode": "",
            "paymentTermsId": terms,
            "shipmentMethodId": NO_GUID,
            "paymentMethodId": NO_GUID,
            "blocked": "_x0020_",
            "lastModifiedDateTime": "",
        }
        row = table.insert([record[name] for name in table.names], stamp)
        table.json(row)


def bulk_customer_id(number: int) -> str:
    """The id of the customer with this running number."""
    digits = f"{_FIRST_ID + number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
