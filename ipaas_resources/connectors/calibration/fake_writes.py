"""The writes that the fake product takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.calibration.fake_rules import MODELS, checked, invalid, missing
from ipaas_resources.connectors.calibration.fake_store import SITE_OFFSET
from ipaas_resources.connectors.fakes import AbortError, json_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipaas_resources.connectors.calibration.fake_store import Store
    from ipaas_resources.connectors.fakes import Recent, Reply, Request

#: Names of a request that are others in the answer, or that no answer shows (None).
_STORED = {
    "CustomVendorName": "CustomName",
    "Manufacturer": "ProductManufacturer",
    "RetirementReason": "RetirmentReason",
    "CategoryId": None,
    "Password": None,
    "MobilePhone": None,
}


class Writes:
    """Handlers of POST and PUT."""

    def __init__(self, store: Store, recent: Mapping[str, Recent]) -> None:
        self._store = store
        self._recent = recent

    def create_client(self, request: Request) -> Reply:
        """POST clients."""
        return self._create(request, "clients", checked("client", _body(request)))

    def edit_client(self, request: Request) -> Reply:
        """PUT clients: sets every field of the model, those that were not sent to null."""
        return self._edit(request, "clients", "client_edit", "CompanyId")

    def create_vendor(self, request: Request) -> Reply:
        """POST vendors."""
        return self._create(request, "vendors", checked("vendor", _body(request)))

    def edit_vendor(self, request: Request) -> Reply:
        """PUT vendors, as PUT clients."""
        return self._edit(request, "vendors", "vendor_edit", "CompanyId")

    def create_asset(self, request: Request) -> Reply:
        """POST assets: the site says whose it is."""
        body = checked("asset", _body(request))
        if body["SiteId"] - SITE_OFFSET not in self._store.tables["clients"].rows:
            return invalid({"SiteId": "There is no such site."})
        return self._create(request, "assets", body)

    def create_employee(self, request: Request) -> Reply:
        """POST employees: the login is unique."""
        body = checked("employee", _body(request))
        login = body["LoginEmail"].casefold()
        rows = self._store.tables["employees"].rows.values()
        if any(str(row["LoginEmail"] or "").casefold() == login for row in rows):
            return invalid({"LoginEmail": "The login is taken."})
        return self._create(request, "employees", body)

    def edit_employee(self, request: Request, identifier: str) -> Reply:
        """PUT employees/{id}, as PUT clients."""
        return self._edit(request, "employees", "employee_edit", "", int(identifier), status=201)

    def set_status(self, request: Request, identifier: str) -> Reply:
        """PUT workorders/{id}/status."""
        body = checked("status", _body(request))
        fields: dict[str, Any] = {"OrderStatus": body["ServiceOrderStatus"]}
        if fields["OrderStatus"] == "Completed":
            fields["CompletedOn"] = self._store.local()
        return self._set(request, int(identifier), fields)

    def set_payment(self, request: Request, identifier: str) -> Reply:
        """PUT workorders/{id}/payments/status."""
        return self._set(request, int(identifier), checked("payment", _body(request)))

    def _set(self, request: Request, identifier: int, fields: dict[str, Any]) -> Reply:
        if identifier not in self._store.tables["work_orders"].rows:
            return missing()
        self._store.change("work_orders", identifier, fields)
        request.effect("update", "work_orders", str(identifier), fields)
        return json_reply({})

    def _create(self, request: Request, entity: str, body: dict[str, Any]) -> Reply:
        identifier = self._store.add(entity, _stored(body))
        self._recent[entity].note(identifier)
        request.effect("create", entity, str(identifier), body)
        return json_reply({"Id": identifier}, 201)

    def _edit(
        self, request: Request, entity: str, model: str, key: str, identifier: int = 0, *, status: int = 200
    ) -> Reply:
        body = checked(model, _body(request))
        identifier = identifier or body[key]
        table = self._store.tables[entity]
        if identifier not in table.rows:
            return missing()
        whole = dict.fromkeys(MODELS[model]) | body
        whole.pop(key, None)
        self._store.change(entity, identifier, _stored(whole))
        request.effect("update", entity, str(identifier), body)
        return json_reply({}, status)


def _stored(body: Mapping[str, Any]) -> dict[str, Any]:
    named = {_STORED.get(name, name): value for name, value in body.items()}
    return {name: value for name, value in named.items() if name is not None}


def _body(request: Request) -> Any:
    try:
        return request.json()
    except ValueError:
        raise AbortError(invalid({"": "The body is not JSON."})) from None
