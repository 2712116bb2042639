"""The calibration product as a fake: the paths, filters, caps and refusals of its API.

Where the public description is silent the fake takes the nastier reading: lists of clients and vendors without
`model.take` end after 100 rows, a company name is searched as a part of names, PUT empties what it is not given,
nothing keeps natural keys unique.
"""

from __future__ import annotations

import datetime as dt
import re
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.calibration import fake_webhook
from ipaas_resources.connectors.calibration.enums import REPORT_TYPE
from ipaas_resources.connectors.calibration.fake_hooks import Hooks
from ipaas_resources.connectors.calibration.fake_rules import invalid, missing
from ipaas_resources.connectors.calibration.fake_store import SITE_OFFSET, Store
from ipaas_resources.connectors.calibration.fake_writes import Writes
from ipaas_resources.connectors.fakes import AbortError, FakeApp, Recent, Reply, json_reply
from ipaas_resources.core.limits import LimitPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipaas_resources.connectors.calibration.fake_store import Document, Row
    from ipaas_resources.connectors.fakes import Request
    from ipaas_resources.connectors.faking.control import ProductControl
    from ipaas_resources.core.clock import Clock, Ids

#: Rows that a list of companies gives when it is not told how many.
DEFAULT_TAKE = 100
#: Days that the asset filters Modified and Added reach back.
FILTER_REACH = 30

_FILTER_ROW = [
    "AssetId",
    "AssetName",
    "AssetDescription",
    "AssetMaker",
    "SiteId",
    "SerialNumber",
    "AssetTag",
    "AssetUser",
    "EquipmentId",
    "LegacyIdentifier",
    "Criticality",
    "Condition",
    "ActivationDate",
    "SiteName",
    "Pool",
    "ProductId",
    "ProductName",
    "CategoryName",
    "RootCategoryName",
    "ManufacturerPartNumber",
    "Location",
    "Station",
    "PurchaseDate",
    "PurchaseCost",
    "LifeSpanMonths",
    "DepreciationBasis",
    "SalvageValue",
]
_COMPANY_FILTERS = {"model.legacyId": "LegacyId", "model.accountNumberText": "AccountNumberText"}
_ASSET_FILTERS = {
    "query.equipmentId": "EquipmentId",
    "query.serialNumber": "SerialNumber",
    "query.assetTag": "AssetTag",
    "query.barcode": "Barcode",
    "query.legacyId": "LegacyIdentifier",
}


class CalibrationFake(FakeApp):
    """One tenant. `tokens` are the API tokens it accepts; `skew` puts its clock off by seconds."""

    limits = LimitPolicy(requests=600, window=300, concurrency=2)

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        tokens: Iterable[str] = ("demo-token",),
        zone: dt.tzinfo = dt.UTC,
    ) -> None:
        super().__init__(clock=clock, ids=ids)
        self.tokens = set(tokens)
        self.search_lag = 5.0
        self.skew = 0.0
        self.store = Store(self.clock, zone)
        self._recent = {entity: Recent(self) for entity in self.store.tables}
        self.hooks = Hooks(self.clock, self.mailroom)
        self.store.told = self.hooks.tell
        self._deliveries = 0
        self._routes = self._make_routes()

    # Requests -----------------------------------------------------------------------------------------------------

    def authorize(self, request: Request) -> Reply | None:
        """401 for a missing or unknown token."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme == "Api-Token" and token in self.tokens:
            return None
        return json_reply({"Message": "Authorization has been denied for this request."}, 401)

    async def handle(self, request: Request) -> Reply:
        """Dispatch by method and path."""
        for method, pattern, handler in self._routes:
            if method == request.method and (match := pattern.fullmatch(request.path)) is not None:
                reply = handler(request, *match.groups())
                break
        else:
            reply = json_reply({"Message": f"No HTTP resource was found that matches {request.method}."}, 404)
        if request.disconnected is None:  # in process; a real server writes its own Date
            now = self.clock.now() + dt.timedelta(seconds=self.skew)
            reply.headers["date"] = format_datetime(now.replace(microsecond=0), usegmt=True)
        return reply

    def _make_routes(self) -> list[tuple[str, re.Pattern[str], Callable[..., Reply]]]:
        writes = Writes(self.store, self._recent)
        routes: dict[tuple[str, str], Callable[..., Reply]] = {
            ("GET", r"/api/service/(clients|vendors)"): self._companies,
            ("GET", r"/api/service/(clients|vendors)/(\d+)"): self._one,
            ("GET", r"/api/service/clients/(\d+)/assets"): self._assets_of,
            ("GET", r"/api/service/clients/assets"): self._assets_by,
            ("GET", r"/api/service/clients/(assets)/(\d+)"): self._one,
            ("GET", r"/api/assets/byfilter"): self._byfilter,
            ("GET", r"/api/(employees|products)/(\d+)"): self._one,
            ("GET", r"/api/employees"): self._employees,
            ("GET", r"/api/products/inventorycount"): self._stock,
            ("GET", r"/api/assetserviceforecast"): self._forecasts,
            ("GET", r"/api/service/workorders"): self._orders,
            ("GET", r"/api/service/workitems"): self._items,
            ("GET", r"/api/service/(workorders|workitems)/(\d+)"): self._order_or_item,
            ("GET", r"/api/service/workorders/(\d+)/workitems"): self._items_of,
            ("GET", r"/api/service/(workorders|workitems)/documents/list"): self._documents,
            ("GET", r"/api/service/(workorders|workitems)/(\d+)/documents/list"): self._documents_of,
            ("GET", r"/api/wd/([0-9a-fA-F-]{36})"): self._download,
            ("POST", r"/api/service/clients"): writes.create_client,
            ("PUT", r"/api/service/clients"): writes.edit_client,
            ("POST", r"/api/service/vendors"): writes.create_vendor,
            ("PUT", r"/api/service/vendors"): writes.edit_vendor,
            ("POST", r"/api/service/clients/assets"): writes.create_asset,
            ("POST", r"/api/employees"): writes.create_employee,
            ("PUT", r"/api/employees/(\d+)"): writes.edit_employee,
            ("PUT", r"/api/service/workorders/(\d+)/status"): writes.set_status,
            ("PUT", r"/api/service/workorders/(\d+)/payments/status"): writes.set_payment,
        }
        return [(method, re.compile(path), handler) for (method, path), handler in routes.items()]

    # Reads --------------------------------------------------------------------------------------------------------

    def _visible(self, entity: str, test: Callable[[Row], bool]) -> list[int]:
        hidden = self._recent[entity].hidden()
        return [one for one in self.store.tables[entity].where(test) if one not in hidden]

    def _listing(self, entity: str, ids: Iterable[int]) -> Reply:
        return json_reply(self.store.tables[entity].listing(ids))

    def _companies(self, request: Request, entity: str) -> Reply:
        query = request.query
        test = _all(
            *(_equals(field, query[name]) for name, field in _COMPANY_FILTERS.items() if query.get(name)),
            _contains("CompanyName", query.get("model.companyName", "")),
            _after("UpdatedOnUtc", _time(query, "model.modifiedAfter")),
        )
        take = int(query.get("model.take") or DEFAULT_TAKE)
        return self._listing(entity, self._visible(entity, test)[:take])

    def _one(self, _request: Request, entity: str, identifier: str) -> Reply:
        table = self.store.tables[entity]
        return json_reply(table.json(int(identifier))) if int(identifier) in table.rows else missing()

    def _order_or_item(self, request: Request, kind: str, identifier: str) -> Reply:
        return self._one(request, _OWNERS[kind], identifier)

    def _assets_of(self, _request: Request, client: str) -> Reply:
        if int(client) not in self.store.tables["clients"].rows:
            return missing()
        return self._listing("assets", self._visible("assets", _equals("CompanyId", int(client))))

    def _assets_by(self, request: Request) -> Reply:
        query = request.query
        tests = [_equals(field, query[name]) for name, field in _ASSET_FILTERS.items() if query.get(name)]
        return self._listing("assets", self._visible("assets", _all(*tests)))

    def _byfilter(self, request: Request) -> Reply:
        """Pages count from 1; page 0 is the first too."""
        query = request.query
        table = self.store.tables["assets"]
        since = self.clock.now() - dt.timedelta(days=FILTER_REACH)
        times = {"Modified": table.changed, "Added": table.added}.get(query.get("model.filterType", ""))
        if times is None:
            return invalid({"filterType": "This fake knows Modified and Added."})
        ids = [one for one in table.rows if times[one] > since]
        size = int(query.get("model.pageSize") or 50)
        start = max(int(query.get("model.page") or 1) - 1, 0) * size
        rows = [
            {name: table.rows[one].get(name) for name in _FILTER_ROW} for one in ids[start : start + size]
        ]
        return json_reply(rows)

    def _employees(self, _request: Request) -> Reply:
        return self._listing("employees", self._visible("employees", _all()))

    def _stock(self, _request: Request) -> Reply:
        rows = self.store.tables["products"].rows.values()
        return json_reply(
            [
                {
                    "ProductId": row["ProductId"],
                    "Manufacturer": row["ManufacturerName"],
                    "PartNumber": row["ManufacturerPartNumber"],
                    "IsStockItem": row["IsStockItem"],
                    "QuantityOnHand": row["QuantityOnHand"],
                }
                for row in rows
            ]
        )

    def _forecasts(self, _request: Request) -> Reply:
        return self._listing("forecasts", self.store.tables["forecasts"].rows)

    def _orders(self, request: Request) -> Reply:
        query = request.query
        after = max(filter(None, (_time(query, "from"), _time(query, "modifiedAfter"))), default=None)
        tests = [_between("LastUpdatedOn", after, _time(query, "to"))]
        if query.get("companyId"):
            tests.append(_equals("ClientCompanyId", int(query["companyId"])))
        if query.get("workOrderNumber"):
            tests.append(_equals("CustomOrderNumber", query["workOrderNumber"]))
        if query.get("status"):
            wanted = query["status"].lower().split(",")
            tests.append(lambda row: any(str(row[name]).lower() in wanted for name in _STATUSES))
        return self._listing("work_orders", self._visible("work_orders", _all(*tests)))

    def _items(self, request: Request) -> Reply:
        test = _between("CreatedOnUtc", _time(request.query, "from"), _time(request.query, "to"))
        return self._listing("work_items", self._visible("work_items", test))

    def _items_of(self, _request: Request, order: str) -> Reply:
        if int(order) not in self.store.tables["work_orders"].rows:
            return missing()
        return self._listing("work_items", self.store.items_of.get(int(order), []))

    def _documents(self, request: Request, kind: str) -> Reply:
        since, until = _time(request.query, "from"), _time(request.query, "to")
        if since is None or until is None or since > until:
            return invalid({"from": "From and To are required, in this order."})
        kept = self._kept(kind, None, request.query.get("reportType", ""))
        found = [one.row for one in kept if since < one.made.strftime("%Y-%m-%dT%H:%M:%S") < until]
        return json_reply(found)

    def _documents_of(self, request: Request, kind: str, owner: str) -> Reply:
        if int(owner) not in self.store.tables[_OWNERS[kind]].rows:
            return missing()
        kept = self._kept(kind, int(owner), request.query.get("model.reportType", ""))
        return json_reply([one.row for one in kept])

    def _kept(self, kind: str, owner: int | None, report_type: str) -> list[Document]:
        kept = self.store.documents_of(kind, owner)
        if not report_type:
            return kept
        wanted = {number for number, name in REPORT_TYPE.items() if report_type in {str(number), name}}
        if not wanted:
            raise AbortError(invalid({"reportType": "There is no such report type."}))
        return [one for one in kept if one.row["ReportType"] in wanted]

    def _download(self, _request: Request, guid: str) -> Reply:
        document = self.store.document(guid)
        if document is None:
            return missing()
        return Reply(200, document.chunks(), content_type="application/pdf", size=document.size)

    # By hand and outwards -----------------------------------------------------------------------------------------

    def sim_records(self, entity: str, scope: str) -> Iterable[Mapping[str, Any]]:
        """Rows as on the wire."""
        del scope
        return list(self.store.tables[entity].rows.values())

    def sim_add(self, entity: str, scope: str, fields: dict[str, Any]) -> str:
        """A new record; `WorkItems` of an order become items; `certificate` (a file name) gives the order one."""
        del scope
        items, certificate = fields.pop("WorkItems", []), fields.pop("certificate", "")
        identifier = self.store.add(entity, fields)
        for item in items:
            self.store.add("work_items", {**item, "ServiceOrderId": identifier})
        if certificate:
            self.store.add_document((certificate, 200_000), name=certificate, order=identifier)
        return str(identifier)

    def sim_change(self, entity: str, scope: str, identifier: str, fields: dict[str, Any]) -> None:
        """Change a record."""
        del scope
        self.store.change(entity, int(identifier), fields)

    def sim_remove(self, entity: str, scope: str, identifier: str) -> None:
        """Delete a record."""
        del scope
        self.store.remove(entity, int(identifier))

    def sim_controls(self) -> Mapping[tuple[str, str], ProductControl]:
        """The screen where webhooks are set up: `hooks`."""
        return self.hooks.controls()

    def delivery(self, entity: str, identifier: str, secret: str) -> tuple[dict[str, str], bytes]:
        """Headers and body of the signed, id-only webhook that tells of a change."""
        self._deliveries += 1
        subject, field = fake_webhook.EVENTS[entity]
        return fake_webhook.delivery(
            secret,
            f"{subject}.updated",
            {field: int(identifier)},
            number=self._deliveries,
            now=self.clock.now(),
        )

    @staticmethod
    def site_of(client: int) -> int:
        """The id of a client's one site, which a new asset names."""
        return client + SITE_OFFSET


_STATUSES = ("OrderStatus", "PaymentStatus", "ShipmentStatus")
_OWNERS = {"workorders": "work_orders", "workitems": "work_items"}


def _all(*tests: Callable[[Row], bool]) -> Callable[[Row], bool]:
    return lambda row: all(test(row) for test in tests)


def _equals(field: str, wanted: object) -> Callable[[Row], bool]:
    """Texts are compared without regard to case."""
    if isinstance(wanted, str):
        folded = wanted.casefold()
        return lambda row: str(row[field] or "").casefold() == folded
    return lambda row: row[field] == wanted


def _contains(field: str, part: str) -> Callable[[Row], bool]:
    folded = part.casefold()
    return lambda row: folded in str(row[field] or "").casefold()


def _after(field: str, moment: str | None) -> Callable[[Row], bool]:
    return _between(field, moment, None)


def _between(field: str, after: str | None, before: str | None) -> Callable[[Row], bool]:
    low, high = after or "", before or "~"
    return lambda row: low < (row[field] or "0") < high


def _time(query: Mapping[str, str], name: str) -> str | None:
    text = query.get(name)
    if not text:
        return None
    try:
        return dt.datetime.fromisoformat(text).strftime("%Y-%m-%dT%H:%M:%S")
    except ValueError:
        raise AbortError(invalid({name: "The value is not a date and time."})) from None
