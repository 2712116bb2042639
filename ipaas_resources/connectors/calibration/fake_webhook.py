"""Signed deliveries of the fake product: LabSync form, or Standard Webhooks for secrets that begin with whsec_."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from ipaas_resources.connectors.fakes import dumps

if TYPE_CHECKING:
    import datetime as dt

#: entity -> (subject of its events, field that carries the id). Forecasts are calculated; nothing tells of them.
EVENTS = {
    "clients": ("client", "CompanyId"),
    "assets": ("asset", "AssetId"),
    "work_orders": ("job", "ServiceOrderId"),
    "work_items": ("job_item", "WorkItemId"),
    "employees": ("employee", "EmployeeId"),
    "vendors": ("vendor", "CompanyId"),
    "products": ("product", "ProductId"),
    "certificates": ("certificate", "ServiceOrderId"),
}


def delivery(
    secret: str,
    event: str,
    data: dict[str, object],
    *,
    number: int,
    now: dt.datetime,
    run: str = "",
    created: dt.datetime | None = None,
) -> tuple[dict[str, str], bytes]:
    """Headers and body of one delivery, signed at `now`.

    `run` keeps the ids of one life of the product apart from those of the next; `created` is when the event happened, for a
    repeat that is signed anew.
    """
    name = f"evt_{run}{number:06d}"
    happened = (created or now).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = dumps({"event": event, "id": name, "created": happened, "data": data})
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
