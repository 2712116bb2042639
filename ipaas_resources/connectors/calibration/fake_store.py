"""What the fake product holds: rows by id as they go over the wire, with their JSON kept beside them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Literal

from ipaas_resources.connectors.calibration.entities import ENTITIES
from ipaas_resources.connectors.fakes import dumps, file_chunks

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from ipaas_resources.core.clock import Clock

Row = dict[str, Any]
ChangeKind = Literal["created", "updated", "deleted", "issued"]

#: entity -> (key, first id, field that a change stamps).
_TABLES = {
    "clients": ("CompanyId", 4101, "UpdatedOnUtc"),
    "vendors": ("CompanyId", 9007, "UpdatedOnUtc"),
    "employees": ("EmployeeId", 77, ""),
    "products": ("ProductId", 3300, ""),
    "assets": ("AssetId", 55001, ""),
    "work_orders": ("ServiceOrderId", 285227, "LastUpdatedOn"),
    "work_items": ("WorkItemId", 990001, "UpdatedOnUtc"),
    "forecasts": ("MaintenanceTaskId", 700, ""),
}
#: Fields of our schemas that are put together by the connector, not sent by the product.
_MADE_UP = {"WorkItems", "Certificate", "File"}
#: A client's one site has its own id.
SITE_OFFSET = 100_000
_NAMESPACE = uuid.UUID("1d0c2d57-5e07-4b6f-8a7b-9b8f7a0c2e21")


class Table:
    """The rows of one entity."""

    def __init__(self, entity: str) -> None:
        self.entity = entity
        self.key, self._next, self.stamp = _TABLES[entity]
        self.rows: dict[int, Row] = {}
        self.changed: dict[int, dt.datetime] = {}
        self.added: dict[int, dt.datetime] = {}
        self._json: dict[int, bytes] = {}
        self._blank = {field.name: None for field in ENTITIES[entity].fields if field.name not in _MADE_UP}

    def add(self, fields: Mapping[str, Any], now: dt.datetime) -> int:
        """A new row; its id.

        Raises:
            ValueError: a field does not exist, or the id is taken.
        """
        self._known(fields)
        identifier = int(fields.get(self.key) or self._next)
        if identifier in self.rows:
            raise ValueError(f"there is a record {identifier} of {self.entity} already")
        self._next = max(self._next, identifier) + 1
        self.rows[identifier] = {**self._blank, **fields, self.key: identifier}
        self.added[identifier] = now
        self.mark(identifier, now)
        return identifier

    def change(self, identifier: int, fields: Mapping[str, Any], now: dt.datetime) -> None:
        """Set fields of a row. KeyError when it is not there."""
        self._known(fields)
        self.rows[identifier] = {**self.rows[identifier], **fields}
        self.mark(identifier, now)

    def mark(self, identifier: int, now: dt.datetime) -> None:
        """Note the time of a change; the JSON is made again when it is asked for."""
        self.changed[identifier] = now
        self._json.pop(identifier, None)

    def remove(self, identifier: int) -> None:
        """Delete a row. KeyError when it is not there."""
        del self.rows[identifier]
        self._json.pop(identifier, None)

    def json(self, identifier: int) -> bytes:
        """The row as JSON bytes."""
        made = self._json.get(identifier)
        if made is None:
            made = self._json[identifier] = dumps(self.rows[identifier])
        return made

    def listing(self, ids: Iterable[int]) -> bytes:
        """A JSON array of rows, put together from prepared bytes."""
        return b"[" + b",".join(map(self.json, ids)) + b"]"

    def where(self, test: Callable[[Row], bool]) -> list[int]:
        """The ids of rows that pass, in their order."""
        return [identifier for identifier, row in self.rows.items() if test(row)]

    def _known(self, fields: Mapping[str, Any]) -> None:
        unknown = sorted(set(fields) - set(self._blank))
        if unknown:
            raise ValueError(f"{self.entity} has no field {', '.join(unknown)}")


class Document:
    """A document of an order or of a work item: its row, when it was made, and its bytes or how to make them."""

    def __init__(self, row: Row, made: dt.datetime, content: bytes | tuple[str, int]) -> None:
        self.row = row
        self.made = made
        self.content = content

    def chunks(self) -> bytes | AsyncIterator[bytes]:
        """The bytes; of a made-up file a stream."""
        return self.content if isinstance(self.content, bytes) else file_chunks(*self.content)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content[1]


class Store:
    """All tables of one tenant. `zone` is the tenant's: times that do not end in Utc are in it."""

    def __init__(self, clock: Clock, zone: dt.tzinfo) -> None:
        self._clock = clock
        self.zone = zone
        self.tables = {name: Table(name) for name in _TABLES}
        #: Documents of orders and of items, by the id of their owner, oldest first.
        self.documents: dict[str, dict[int, list[Document]]] = {"workorders": {}, "workitems": {}}
        self.items_of: dict[int, list[int]] = {}
        self._by_guid: dict[str, Document] = {}
        #: Told of every change, whoever makes it: kind, entity (or "certificates", with the order's id), id.
        self.told: Callable[[ChangeKind, str, int], None] = _nobody

    def utc(self) -> str:
        """Now, in the spelling of fields that end in Utc."""
        return self._clock.now().strftime("%Y-%m-%dT%H:%M:%S")

    def local(self) -> str:
        """Now, in the spelling of the other times."""
        return self._clock.now().astimezone(self.zone).strftime("%Y-%m-%dT%H:%M:%S")

    def add(self, entity: str, fields: Mapping[str, Any]) -> int:
        """A new record with what the product itself fills in; its id."""
        table = self.tables[entity]
        stamped = {**self._defaults(entity, fields), **fields}
        if table.stamp and fields.get(table.stamp) is None:
            stamped[table.stamp] = self._now(table.stamp)
        identifier = table.add(stamped, self._clock.now())
        self.told("created", entity, identifier)
        if entity == "work_items":
            order = stamped.get("ServiceOrderId") or 0
            self.items_of.setdefault(order, []).append(identifier)
            self.touch_order(order)
        return identifier

    def _defaults(self, entity: str, fields: Mapping[str, Any]) -> Row:
        match entity:
            case "clients":
                return {"Attributes": [], "ClientStatus": "Approved"}
            case "employees":
                return {"Departments": [], "IsLocked": False, "IsDeleted": False}
            case "assets":
                site = fields.get("SiteId")
                company = fields.get("CompanyId") or (site - SITE_OFFSET if site else None)
                return {
                    "AssetStatus": "Active",
                    "CompanyId": company,
                    "SiteId": company and company + SITE_OFFSET,
                }
            case "work_orders":
                client = self.tables["clients"].rows.get(fields.get("ClientCompanyId") or 0, {})
                number = len(self.tables["work_orders"].rows) + 1
                return {
                    "OrderStatus": "New",
                    "PaymentStatus": "NotInvoiced",
                    "ShipmentStatus": "NotShipped",
                    "ServiceOrderNumber": number,
                    "CreatedOn": self.local(),
                    "ClientLegacyId": client.get("LegacyId"),
                    "ClientCompanyName": client.get("CompanyName"),
                    "Guid": str(uuid.uuid5(_NAMESPACE, f"order-{number}")),
                }
            case "work_items":
                return {"CreatedOnUtc": self.utc(), "WorkStatus": "Pending", "ServiceOptions": []}
            case _:
                return {}

    def change(self, entity: str, identifier: int, fields: Mapping[str, Any]) -> None:
        """Set fields of a record and stamp it. KeyError when it is not there."""
        table = self.tables[entity]
        if identifier not in table.rows:
            raise KeyError(identifier)
        stamp = {table.stamp: self._now(table.stamp)} if table.stamp else {}
        table.change(identifier, {**fields, **stamp}, self._clock.now())
        self.told("updated", entity, identifier)
        if entity == "work_items":
            self.touch_order(table.rows[identifier]["ServiceOrderId"])

    def touch_order(self, order: int) -> None:
        """An edited item moves its order's LastUpdatedOn."""
        if order in self.tables["work_orders"].rows:
            self.change("work_orders", order, {})

    def remove(self, entity: str, identifier: int) -> None:
        """Delete a record; an order takes its items along. KeyError when it is not there."""
        row = self.tables[entity].rows.get(identifier, {})
        self.tables[entity].remove(identifier)
        self.told("deleted", entity, identifier)
        if entity == "work_orders":
            for item in list(self.items_of.get(identifier, [])):
                self.remove("work_items", item)
            self.documents["workorders"].pop(identifier, None)
        if entity == "work_items":
            self.items_of[row["ServiceOrderId"] or 0].remove(identifier)
            self.documents["workitems"].pop(identifier, None)

    def _now(self, field: str) -> str:
        return self.utc() if field.endswith("Utc") else self.local()

    def add_document(
        self,
        content: bytes | tuple[str, int],
        *,
        name: str,
        order: int,
        item: int | None = None,
        report_type: int | None = None,
        revision_of: str = "",
        made: dt.datetime | None = None,
    ) -> str:
        """A document of an order (ReportType 51) or of one of its items (21); its guid.

        `revision_of` is the guid of a document that this one revises: it keeps the guid and counts RevisionNumber up.
        `made` is when, for one that is older than now.
        """
        kind, owner = ("workorders", order) if item is None else ("workitems", item)
        kept = self.documents[kind].setdefault(owner, [])
        revision = sum(one.row["Guid"] == revision_of for one in kept) if revision_of else 0
        guid = revision_of or str(uuid.uuid5(_NAMESPACE, f"{order}/{item}/{len(kept)}/{name}"))
        row: Row = {
            "ServiceOrderId": order,
            "Guid": guid,
            "DocumentName": name.rpartition(".")[0] or name,
            "FileName": name,
            "DocumentType": 1,
            "RevisionNumber": revision,
            "ReportType": report_type or (51 if item is None else 21),
            "DownloadUrl": f"/api/wd/{guid}",
        }
        if item is not None:
            row["ServiceOrderItemId"] = item
        document = Document(row, made or self._clock.now(), content)
        kept.append(document)
        self._by_guid[guid.lower()] = document
        if item is None:
            self.told("issued", "certificates", order)
        return guid

    def documents_of(self, kind: str, owner: int | None = None) -> list[Document]:
        """The documents of one order or item, or of all of them."""
        if owner is not None:
            return self.documents[kind].get(owner, [])
        return [one for kept in self.documents[kind].values() for one in kept]

    def document(self, guid: str) -> Document | None:
        """The newest revision of a document."""
        return self._by_guid.get(guid.lower())


def _nobody(_kind: ChangeKind, _entity: str, _identifier: int) -> None:
    """Nobody listens."""
