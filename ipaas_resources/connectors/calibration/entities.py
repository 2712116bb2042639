"""The entities of the product, transcribed from its public API description (specs/qualer_swagger2.json).

Field names are those of the wire. One table row per field: name, type, and what an API call may do with it.
"""

from __future__ import annotations

from ipaas_resources.connectors.calibration.enums import (
    ASSET_STATUS,
    CLIENT_STATUS,
    DOCUMENT_TYPE,
    ORDER_STATUS,
    PAYMENT_STATUS,
    REPORT_TYPE,
    RESULT_STATUS,
    SHIPMENT_STATUS,
    WORK_STATUS,
)
from ipaas_resources.core.errors import SchemaError
from ipaas_resources.core.schema import EntitySchema, FieldSchema, FieldType

_TYPES: dict[str, FieldType] = {
    "t": "text",
    "i": "integer",
    "d": "decimal",
    "b": "boolean",
    "w": "datetime",
    "g": "guid",
    "l": "list",
}


def _fields(table: str) -> tuple[FieldSchema, ...]:
    """Rows of `Name:type flags`; types t i d b w(hen) g l, flags c(reate) u(pdate) r(equired) p(ersonal) v(olatile)."""
    return tuple(_field(entry) for entry in table.split())


def _field(entry: str) -> FieldSchema:
    name, _, rest = entry.partition(":")
    kind, flags = rest[:1], rest[1:]
    return FieldSchema(
        name=name,
        type=_TYPES[kind],
        creatable="c" in flags,
        updatable="u" in flags,
        required="r" in flags,
        nullable="r" not in flags,
        volatile="v" in flags,
        sensitivity="personal" if "p" in flags else "none",
    )


def _enum(name: str, members: tuple[str | int, ...], flags: str = "") -> FieldSchema:
    return FieldSchema(name=name, type="enum", enum=members, creatable="c" in flags, updatable="u" in flags)


_ADDRESS = _fields(
    "FirstName:tp LastName:tp Email:tp Company:t City:tp Address1:tp Address2:tp ZipPostalCode:tp PhoneNumber:tp "
    "FaxNumber:tp Attention1:tp Attention2:tp Country:t StateProvince:t StateProvinceAbbreviation:t"
)


def _address(name: str, *, writable: bool) -> FieldSchema:
    return FieldSchema(
        name=name,
        type="object",
        fields=_ADDRESS,
        creatable=writable,
        updatable=writable,
        sensitivity="personal",
    )


def _addresses(*, writable: bool) -> tuple[FieldSchema, ...]:
    return _address("BillingAddress", writable=writable), _address("ShippingAddress", writable=writable)


CLIENTS = EntitySchema(
    entity="clients",
    title="Clients (customers)",
    key=("CompanyId",),
    deletable=False,
    fields=(
        *_fields(
            "CompanyId:i AccountNumberText:tcu AccountNumber:i CurrencyId:icu CompanyName:tcur CompanyDescription:t "
            "DomainName:tcu CustomClientName:tcu LegacyId:tcu UpdatedOnUtc:wv AccountRepresentativeEmployeeId:icu "
            "AccountRepresentativeSiteId:icu AccountManagerEmployeeId:icu Attributes:l"
        ),
        _enum("ClientStatus", CLIENT_STATUS, "cu"),
        *_addresses(writable=True),
    ),
)

VENDORS = EntitySchema(
    entity="vendors",
    title="Vendors",
    key=("CompanyId",),
    deletable=False,
    fields=(
        *_fields(
            "CompanyId:i AccountNumberText:tcu AccountNumber:i CurrencyId:icu CompanyName:tcur DomainName:tcu "
            "CustomName:tcu UpdatedOnUtc:wv"
        ),
        *_addresses(writable=True),
    ),
)

EMPLOYEES = EntitySchema(
    entity="employees",
    title="Employees (technicians)",
    key=("EmployeeId",),
    deletable=False,
    fields=_fields(
        "EmployeeId:i FirstName:tcurp LastName:tcurp CompanyId:i LoginEmail:tcrp Departments:l "
        "SubscriptionEmail:tcup SubscriptionPhone:tp OfficePhone:tcup IsLocked:b ImageUrl:tcu Alias:tcup Title:tcu "
        "IsDeleted:b LastSeenDateUtc:wv CultureName:tcu CultureUiName:tcu"
    ),
)

ASSETS = EntitySchema(
    entity="assets",
    title="Assets (instruments)",
    key=("AssetId",),
    updatable=False,
    deletable=False,
    fields=(
        *_fields(
            "AssetId:i CompanyId:i SerialNumber:tc AssetUser:tcp AssetTag:tc EquipmentId:t AssetName:tc "
            "AssetDescription:tc AssetMaker:tc Location:tc RoomNumber:t Barcode:tc LegacyIdentifier:tc "
            "RootCategoryName:t CategoryName:t Class:t CustodianEmail:tp CustodianFirstName:tp CustodianLastName:tp "
            "CustodianName:tp Department:t Station:t Notes:t DocumentNumber:t DocumentSection:t "
            "CumulativeServiceCost:d ProductId:ic ManufacturerPartNumber:tc ProductName:t ProductDescription:t "
            "ProductManufacturer:t SiteName:t SiteId:icr Condition:tc Criticality:tc Pool:t PurchaseDate:wc "
            "PurchaseCost:dc LifeSpanMonths:ic ActivationDate:wc DepreciationBasis:dc DepreciationMethod:ic "
            "RetirementDate:wc SalvageValue:dc RetirmentReason:t CompositeParentId:i CompositeChildCount:i"
        ),
        _enum("AssetStatus", ASSET_STATUS, "c"),
    ),
)

# Marks of who touched an item last are left out of a document's lines: a touch alone is no change of the document.
_ITEM_TOUCH = _fields("UpdatedById:iv UpdatedBy:tpv UpdatedOnUtc:wv")
_ITEM = (
    *_fields(
        "WorkItemId:i ClientNotes:t ServiceComments:t PrivateComments:t OrderItemNumber:i ServiceOrderId:i "
        "ChannelCount:i ServiceTotal:d RepairsTotal:d PartsTotal:d PartsTotalBeforeDiscount:d OverrideServiceTotal:b "
        "OverrideRepairsTotal:b OverridePartsTotal:b ServiceType:t DocumentNumber:t DocumentSection:t "
        "CustomWorkStatus:t IsLimited:b CheckedOn:w CheckedByName:tp CheckedById:i CompletedOn:w CompletedByName:tp "
        "CompletedById:i AsFoundCheck:t AsLeftCheck:t ItemResultStatus:t ItemAsFoundResult:t ItemAsLeftResult:t "
        "AsFoundSpecification:i AsLeftSpecification:i CreatedOnUtc:w EquipmentId:t ServiceLevel:t ServiceLevelCode:t "
        "ServiceLevelDocumentNumber:t ServiceLevelDocumentSection:t NextServiceLevel:t NextServiceLevelCode:t "
        "SerialNumber:t SerialNumberChange:t AssetTag:t AssetUser:tp AssetTagChange:t AssetUserChange:tp AssetId:i "
        "AssetName:t AssetDescription:t AssetSiteName:t AssetSiteId:i AssetCompanyName:t AssetCompanyId:i "
        "ClientCompanyId:i VendorCompanyId:i ServiceNotes:t ProviderTechnician:tp ProviderPhone:tp ProviderCompany:t "
        "ServiceCharge:d RepairsCharge:d PartsCharge:d PartsChargeBeforeDiscount:d CustomOrderNumber:t "
        "CertificateNumber:t ServiceDate:w DueDate:w NextServiceDate:w MaintenanceTask:t MaintenancePlan:t "
        "ServiceOptions:l VendorTag:t LegacyId:t AssetOwnership:t"
    ),
    _enum("WorkStatus", WORK_STATUS),
    _enum("ResultStatus", RESULT_STATUS),
    _enum("AsFoundResult", RESULT_STATUS),
    _enum("AsLeftResult", RESULT_STATUS),
)

WORK_ITEMS = EntitySchema(
    entity="work_items",
    title="Work items",
    key=("WorkItemId",),
    creatable=False,
    updatable=False,
    deletable=False,
    fields=(*_ITEM, *_ITEM_TOUCH),
)

_PERSONS = (
    "Owner Submited SignOff VendorSignOff Approved Accepted ReadyForQualityControl QualityControl Created Completed "
    "Shipped Delivered Invoiced Paid Cancelled Closed"
)
_ORDER_PERSONS = " ".join(
    "OwnerName:tp OwnerId:i" if who == "Owner" else f"{who}ByName:tp {who}ById:i" for who in _PERSONS.split()
)

WORK_ORDERS = EntitySchema(
    entity="work_orders",
    title="Service orders with their work items",
    key=("ServiceOrderId",),
    creatable=False,
    deletable=False,
    fields=(
        *_fields(
            "ServiceOrderId:i ParentOrderId:i ClientLegacyId:t ClientCompanyId:i ClientCompanyName:t ClientDomainName:t "
            f"ClientAlternativeNames:t {_ORDER_PERSONS} LateFeeById:i ServiceComments:t ServicePrivateComments:t "
            "CreatedOn:w ApprovedOn:w SignOffOn:w VendorSignOffOn:w CompletedOn:w SubmitedOn:w ShippedOn:w AcceptedOn:w "
            "ReadyForQualityControlOn:w QualityControlOn:w DeliveredOn:w InvoicedOn:wu LastInvoicedOn:w PaymentDueOn:w "
            "PaidOn:w LateFeeOn:w CancelledOn:w ClosedOn:w LastUpdatedOn:wv LastUpdatedBy:tpv PoNumber:t SecondaryPo:t "
            "ServiceTotal:d RepairsTotal:d PartsTotal:d PartsTotalBeforeDiscount:d PartsDiscountTotal:d "
            "EffectiveTaxRate:d TaxAmount:d ShippingFee:d TravelCharge:d LateFee:d IsTaxExempt:b ServiceDiscount:d "
            "TradeInCredit:d PrepaidCredit:d GrandTotal:d PaidAmount:d RemainingBalance:d ServiceDiscountDetails:t "
            "TradeInCreditDetails:t PrepaidCreditDetails:t PaymentNotes:t ServiceOrderNumber:i LegacyOrderNumber:t "
            "CustomOrderNumber:t PaymentOption:t OwnerDepartment:t ClientSite:t ClientSiteCode:t VendorSite:t Internal:b "
            "Guid:g BusinessFromTime:w BusinessToTime:w SiteAccessNotes:t DesiredDate:w DeadlineDate:w RequestFromDate:w "
            "RequestFromTime:w RequestToDate:w RequestToTime:w OrderNotes:t"
        ),
        _enum("OrderStatus", ORDER_STATUS, "u"),
        _enum("PaymentStatus", PAYMENT_STATUS, "u"),
        _enum("ShipmentStatus", SHIPMENT_STATUS),
        *_addresses(writable=False),
        FieldSchema(
            name="WorkItems",
            type="lines",
            fields=_ITEM,
            line_key="WorkItemId",
            creatable=False,
            updatable=False,
            description="From /workorders/{id}/workitems, in the order of OrderItemNumber.",
        ),
        FieldSchema(
            name="Certificate",
            type="file",
            creatable=False,
            updatable=False,
            description="The newest ServiceOrderCertificate document of the order, null while there is none.",
        ),
    ),
)

CERTIFICATES = EntitySchema(
    entity="certificates",
    title="Calibration certificates of work items",
    # The product gives a document by its item only, so the item is part of the key.
    key=("ServiceOrderItemId", "Guid"),
    creatable=False,
    updatable=False,
    deletable=False,
    fields=(
        *_fields(
            "ServiceOrderItemId:i Guid:g ServiceOrderId:i DocumentName:t FileName:t RevisionNumber:i DownloadUrl:t"
        ),
        _enum("DocumentType", tuple(DOCUMENT_TYPE.values())),
        _enum("ReportType", tuple(REPORT_TYPE.values())),
        FieldSchema(name="File", type="file", creatable=False, updatable=False),
    ),
)

PRODUCTS = EntitySchema(
    entity="products",
    title="Products (instrument types)",
    key=("ProductId",),
    creatable=False,
    updatable=False,
    deletable=False,
    fields=_fields(
        "ProductId:i ParentProductId:i CategoryId:i ManufacturerId:i ManufacturerName:t ProductName:t "
        "ParentProductName:t ManufacturerPartNumber:t ProductDescription:t IsFamily:b IsDiscontinued:b IsStockItem:b "
        "UnitSalePrice:d SupplierInformation:t QuantityOnHand:i ProductCode:t CategoryName:t ParentCategoryName:t"
    ),
)

FORECASTS = EntitySchema(
    entity="forecasts",
    title="Service forecasts (due dates)",
    key=("AssetId", "MaintenancePlanId", "MaintenanceTaskId"),
    creatable=False,
    updatable=False,
    deletable=False,
    fields=_fields(
        "AssetId:i MaintenancePlanId:i MaintenanceTaskId:i CompanyId:i SiteId:i AssetServiceRecordId:i SerialNumber:t "
        "AssetUser:tp AssetTag:t EquipmentId:t AssetName:t CategoryName:t ManufacturerName:t SiteName:t "
        "MaintenancePlanName:t MaintenanceTaskName:t NextServiceDate:w AdvanceRecallDate:w GracePeriodDate:w "
        "CertificateNextServiceDate:w ServiceInterval:t IntervalCycle:t IntervalLength:i OnDay:i OnMonth:i OnWeekDays:i "
        "WeekdayOfMonth:i AdvanceRecallPeriod:t DaysBeforeDue:i PastDueGracePeriod:t DaysAfterDue:i"
    ),
)

ENTITIES = {
    schema.entity: schema
    for schema in (
        CLIENTS,
        ASSETS,
        WORK_ORDERS,
        WORK_ITEMS,
        CERTIFICATES,
        EMPLOYEES,
        VENDORS,
        PRODUCTS,
        FORECASTS,
    )
}
#: Entities whose changes can be asked for; of the others every scan is a full read.
INCREMENTAL = frozenset({"clients", "vendors", "assets", "work_orders", "work_items", "certificates"})


def schema_of(entity: str) -> EntitySchema:
    """The schema of one entity.

    Raises:
        SchemaError: the product has no such entity.
    """
    schema = ENTITIES.get(entity)
    if schema is None:
        raise SchemaError(f"There is no entity `{entity}`. Known entities: {', '.join(ENTITIES)}.")
    return schema
