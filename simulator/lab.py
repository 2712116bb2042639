"""The simulated lab: the calibration product's fake, with what only a running lab does by hand: issue certificates."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.calibration.fake import CalibrationFake
from simulator.lab_orders import certificate_of
from simulator.lab_world import LabWorld

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class SimulatedLab(CalibrationFake):
    """One more entity at the control endpoints: `certificates`, one document a work order, with its digest.

    A GET of `work_orders` there carries the items of each order.
    """

    def fill(self, world: LabWorld) -> None:
        """Put a lab's world into the product."""
        store = self.store
        for entity in ("clients", "products", "assets", "employees", "vendors", "forecasts"):
            for record in getattr(world, entity):
                store.add(entity, record)
        for order in world.work_orders:
            # Items first: an item that comes to a known order would move the order's time of change to now.
            for item in order["WorkItems"]:
                store.add("work_items", item)
            store.add("work_orders", {name: value for name, value in order.items() if name != "WorkItems"})
        finished = {order["ServiceOrderId"]: order["LastUpdatedOn"] for order in world.work_orders}
        for number, certificate in world.certificates.items():
            # As old as the work it certifies: a reader of what is new since a time must not meet all of them.
            made = dt.datetime.fromisoformat(finished[number]).replace(tzinfo=store.zone).astimezone(dt.UTC)
            store.add_document(certificate.content, name=certificate.name, order=number, made=made)

    def sim_records(self, entity: str, scope: str) -> Iterable[Mapping[str, Any]]:
        """Rows as on the wire; work orders with their items, certificates with size and SHA-256."""
        if entity == "certificates":
            return self._certificates()
        records = super().sim_records(entity, scope)
        if entity != "work_orders":
            return records
        return [{**order, "WorkItems": self._items_with(order["ServiceOrderId"])} for order in records]

    def sim_add(self, entity: str, scope: str, fields: dict[str, Any]) -> str:
        """Add a record; `certificates` takes {ServiceOrderId} and issues that order's certificate or its next revision."""
        if entity != "certificates":
            return super().sim_add(entity, scope, fields)
        number = fields["ServiceOrderId"]
        order = self.store.tables["work_orders"].rows[number]
        issued = [one.row for one in self.store.documents_of("workorders", number)]
        certificate = certificate_of(order, self._items_with(number), revision=len(issued))
        return self.store.add_document(
            certificate.content,
            name=certificate.name,
            order=number,
            revision_of=issued[-1]["Guid"] if issued else "",
        )

    def _items_with(self, order: int) -> list[dict[str, Any]]:
        rows = self.store.tables["work_items"].rows
        return [rows[item] for item in self.store.items_of.get(order, [])]

    def _certificates(self) -> list[Mapping[str, Any]]:
        newest = {one.row["ServiceOrderId"]: one for one in self.store.documents_of("workorders")}
        return [
            {
                **one.row,
                "@file": {
                    "size": one.size,
                    "sha256": hashlib.sha256(one.content).hexdigest()
                    if isinstance(one.content, bytes)
                    else "",
                },
            }
            for one in newest.values()
        ]
