"""Signed deliveries of the fake product: LabSync form, or Standard Webhooks for secrets that begin with whsec_."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from ipaas_resources.connectors.fakes import dumps

if TYPE_CHECKING:
    import datetime as dt

#: entity -> (event, field that carries the id).
EVENTS = {
    "clients": ("client.updated", "CompanyId"),
    "assets": ("asset.updated", "AssetId"),
    "work_orders": ("job.updated", "ServiceOrderId"),
    "work_items": ("job_item.updated", "WorkItemId"),
    "employees": ("employee.updated", "EmployeeId"),
    "vendors": ("vendor.updated", "CompanyId"),
    "products": ("product.updated", "ProductId"),
}


def delivery(
    secret: str, event: str, data: dict[str, object], *, number: int, now: dt.datetime
) -> tuple[dict[str, str], bytes]:
    """Headers and body of one delivery."""
    name = f"evt_{number:06d}"
    created = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    body = dumps({"event": event, "id": name, "created": created, "data": data})
    stamp = str(int(now.timestamp()))
    headers = {"content-type": "application/json"}
    if secret.startswith("whsec_"):
        key = base64.b64decode(secret.removeprefix("whsec_"))
        mac = hmac.new(key, f"{name}.{stamp}.".encode() + body, hashlib.sha256).digest()
        headers |= {
            "webhook-id": name,
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
        }
    else:
        mac = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).digest()
        headers["x-labsync-signature"] = f"t={stamp},v1={mac.hex()}"
    return headers, body
