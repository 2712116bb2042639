"""Compares every record of the three targets with what it must be, judged by `expected.py` alone.

Both sides are read through the control endpoints, so a later change of a source is expected in its targets too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from simulator.client import SimulatorClient
from simulator.compare import Targets, Where, compare
from simulator.erp_world import Record
from simulator.expected import Expected, from_customers, from_items, from_work_orders
from simulator.prefill import Foreign, foreign_records
from simulator.world import build_world


def verify(client: SimulatorClient, *, flows: Iterable[str] | None = None) -> list[str]:
    """Every difference between the targets and what the flows must have made of the sources; none: all is right.

    `flows` narrows it to these flows. The text of a difference names record, field, both values.
    """
    chosen = None if flows is None else frozenset(flows)
    wanted = [one for one in expected(client) if chosen is None or one.flow in chosen]
    return compare(wanted, _read_targets(client, wanted), _foreign(client))


def expected(client: SimulatorClient) -> list[Expected]:
    """What the targets must hold, from the sources as they are now."""
    scopes = list(client.ready.scopes)
    customers = [(scope, one) for scope in scopes for one in client.records("bc", "customers", scope)]
    items = [(scope, one) for scope in scopes for one in client.records("bc", "items", scope)]
    terms = {
        scope: {one["id"]: one["code"] for one in client.records("bc", "paymentTerms", scope)}
        for scope in scopes
    }
    certificates = {
        one["ServiceOrderId"]: one["@file"]["sha256"] for one in client.records("cal", "certificates")
    }
    return [
        *from_customers(customers, terms),
        *from_items(items),
        *from_work_orders(
            client.records("cal", "work_orders"),
            {(scope, one["number"]): one["id"] for scope, one in customers},
            certificates,
        ),
    ]


def _read_targets(client: SimulatorClient, wanted: list[Expected]) -> Targets:
    places: set[Where] = {(one.system, one.entity, one.scope) for one in wanted}
    if any(one.system == "bc" for one in wanted):
        places |= {("bc", "salesOrders", scope) for scope in client.ready.scopes}
    records: dict[Where, list[Record]] = {}
    for system, entity, scope in sorted(places):
        records[system, entity, scope] = client.records(system, entity, scope)  # type: ignore[arg-type]
    scopes = {scope for system, _, scope in places if system == "bc"}
    return Targets(
        records, {scope: client.records("bc", "documentAttachments", scope) for scope in sorted(scopes)}
    )


def _foreign(client: SimulatorClient) -> list[Foreign]:
    """Target records that were there before the first sync: the lab's clients always, the others when pre-filled."""
    ready = client.ready
    if ready.world != "demo":
        return []
    world = build_world(ready.seed, Path(ready.data))
    clients = [
        Foreign(system="cal", entity="clients", key=one["LegacyId"], copies=[one])
        for one in world.lab.clients
    ]
    return [*clients, *(foreign_records(world) if ready.prefill else [])]


def main(arguments: list[str]) -> None:
    """`python -m simulator.verify READY`: the differences as a JSON list; READY is the simulator's line or its file."""
    (given,) = arguments
    ready = given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8")
    with SimulatorClient(ready) as client:
        sys.stdout.write(json.dumps(verify(client)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
