"""What the fake product takes in a write (the request models of specs/qualer_swagger2.json) and how it refuses."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.calibration import enums
from ipaas_resources.connectors.fakes import AbortError, json_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipaas_resources.connectors.fakes import Reply

_COMPANY = {
    "AccountNumberText": str,
    "DomainName": str,
    "CurrencyId": int,
    "CompanyName": str,
    "BillingAddress": dict,
    "ShippingAddress": dict,
}
_CLIENT = _COMPANY | {
    "ClientStatus": str,
    "CustomClientName": str,
    "LegacyId": str,
    "AccountRepresentativeEmployeeId": int,
    "AccountRepresentativeSiteId": int,
    "AccountManagerEmployeeId": int,
}
_VENDOR = _COMPANY | {"CustomVendorName": str}
_EMPLOYEE = dict.fromkeys(
    [
        "FirstName",
        "LastName",
        "SubscriptionEmail",
        "MobilePhone",
        "OfficePhone",
        "Alias",
        "Title",
        "CultureName",
        "CultureUiName",
        "ImageUrl",
    ],
    str,
)
_TEXT_OF_ASSET = (
    "Manufacturer ManufacturerPartNumber SerialNumber AssetTag AssetUser AssetStatus AssetName AssetDescription "
    "AssetMaker Location RetirementReason Barcode LegacyIdentifier Condition Criticality PurchaseDate ActivationDate "
    "RetirementDate"
)
_ASSET = (
    dict.fromkeys(_TEXT_OF_ASSET.split(), str)
    | dict.fromkeys(["SiteId", "ProductId", "CategoryId", "LifeSpanMonths", "DepreciationMethod"], int)
    | dict.fromkeys(["PurchaseCost", "DepreciationBasis", "SalvageValue"], Decimal)
)
#: Model -> field -> type.
MODELS: Mapping[str, Mapping[str, type]] = {
    "client": _CLIENT,
    "client_edit": _CLIENT | {"CompanyId": int},
    "vendor": _VENDOR,
    "vendor_edit": _VENDOR | {"CompanyId": int},
    "employee": _EMPLOYEE | {"LoginEmail": str, "Password": str},
    "employee_edit": _EMPLOYEE,
    "asset": _ASSET,
    "status": {"ServiceOrderStatus": str, "ResetStatus": bool, "Email": str, "Password": str},
    "payment": {"PaymentStatus": str, "InvoicedOn": str},
}
_REQUIRED = {
    "client": ("CompanyName",),
    "client_edit": ("CompanyId", "CompanyName"),
    "vendor": ("CompanyName",),
    "vendor_edit": ("CompanyId", "CompanyName"),
    "employee": ("LoginEmail", "FirstName", "LastName"),
    "employee_edit": ("FirstName", "LastName"),
    "asset": ("SiteId",),
    "status": ("ServiceOrderStatus",),
    "payment": ("PaymentStatus",),
}
_ENUMS: Mapping[str, tuple[str, ...]] = {
    "ClientStatus": enums.CLIENT_STATUS,
    "AssetStatus": enums.ASSET_STATUS,
    "ServiceOrderStatus": enums.ORDER_STATUS,
    "PaymentStatus": enums.PAYMENT_STATUS,
}


def invalid(faults: Mapping[str, str]) -> Reply:
    """ASP.NET's 400: a ModelState that names the fields."""
    state = {f"model.{name}": [text] for name, text in faults.items()}
    return json_reply({"Message": "The request is invalid.", "ModelState": state}, 400)


def missing() -> Reply:
    """404."""
    return json_reply({"Message": "The resource was not found."}, 404)


def checked(model: str, body: Any) -> dict[str, Any]:
    """The body, when the product takes it.

    Raises:
        AbortError: it answers 400.
    """
    if not isinstance(body, dict):
        raise AbortError(invalid({"": "The body is no object."}))
    types = MODELS[model]
    faults = {name: "The field does not exist or is read-only." for name in body if name not in types}
    for name, value in body.items():
        if value is None or name in faults:
            continue
        fault = _fault(name, value, types[name])
        if fault:
            faults[name] = fault
    for name in _REQUIRED[model]:
        if body.get(name) in (None, ""):
            faults[name] = f"The {name} field is required."
    if faults:
        raise AbortError(invalid(faults))
    return body


def _fault(name: str, value: object, wanted: type) -> str:
    kinds = (int, Decimal) if wanted is Decimal else wanted
    if not isinstance(value, kinds) or (isinstance(value, bool) and wanted is not bool):
        return f"The value is not valid for {name}."  # as ASP.NET does, without the value
    if name in _ENUMS and value not in _ENUMS[name]:
        # The product does quote the value: connectors must not pass such texts on.
        return f"The value '{value}' is not valid for {name}."
    return ""
