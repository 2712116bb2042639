"""The enums of the product (specs/calibration_cms_samples.json). Most travel by name, two by number."""

from __future__ import annotations

ORDER_STATUS = (
    "New",
    "Draft",
    "WaitingForApproval",
    "Submitted",
    "Processing",
    "QualityControl",
    "Cancelled",
    "WaitingForClientSignOff",
    "Completed",
    "Denied",
    "Delayed",
    "Scheduling",
    "Closed",
    "WaitingForVendorSignOff",
    "DelayedApproval",
    "Ready",
)
PAYMENT_STATUS = ("NotInvoiced", "Invoiced", "PartiallyPaid", "PaidInFull", "NoCharge", "Overpaid")
SHIPMENT_STATUS = ("Delivered", "Shipped", "PartialShipment", "NotShipped", "PickUp", "OnSite")
WORK_STATUS = (
    "Pending",
    "InProgress",
    "Completed",
    "Delayed",
    "Withdrawn",
    "Locked",
    "New",
    "Closed",
    "Wait",
)
ASSET_STATUS = ("New", "Active", "Inactive", "Failed", "Retired")
RESULT_STATUS = (
    "NotAvailable",
    "Fail",
    "FailAmbiguous",
    "FailSignificant",
    "Pass",
    "PassAmbiguous",
    "PassAdjustment",
    "Done",
)
CLIENT_STATUS = ("Prospect", "Approved", "NotApproved", "Hidden")

#: Sent as numbers. The names of 6, 7 and 71 are not published; they stay numbers.
REPORT_TYPE: dict[int, str | int] = {
    0: "Unset",
    1: "AssetSummary",
    11: "AssetLabel",
    2: "AssetDetail",
    21: "AssetCertificate",
    3: "ServiceOrderSummary",
    31: "ServiceOrderInvoice",
    32: "ServiceOrderEstimate",
    4: "Dashboard",
    5: "ServiceOrderDetail",
    51: "ServiceOrderCertificate",
    6: 6,
    7: 7,
    71: 71,
}
DOCUMENT_TYPE: dict[int, str | int] = {
    0: "ServiceRequest",
    1: "WorkOrder",
    2: "InventoryItem",
    3: "PurchaseOrder",
}
BY_NUMBER = {"ReportType": REPORT_TYPE, "DocumentType": DOCUMENT_TYPE}
