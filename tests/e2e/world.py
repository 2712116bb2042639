"""The demo world as a user would set it up: three running systems, the three flows applied, targets to look at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from ruamel.yaml import YAML
from sqlalchemy.engine import make_url

from simulator.client import SimulatorClient
from tests.e2e.running import REPOSITORY, Platform, simulator

PATTERNS = REPOSITORY / "mappings" / "patterns"
CUSTOMERS = "customers_to_accounts"
ITEMS = "items_to_products"
ORDERS = "work_orders_to_sales_orders"
#: Each stands after those it refers to.
FLOWS = (CUSTOMERS, ITEMS, ORDERS)

#: Target entities with the field of their id.
_IDS = {
    ("crm", "accounts"): "accountid",
    ("crm", "contacts"): "contactid",
    ("crm", "products"): "productid",
    ("cal", "clients"): "CompanyId",
    ("bc", "salesOrders"): "id",
    ("bc", "documentAttachments"): "id",
}

Where = tuple[str, str, str]  # system, entity, id


class World(msgspec.Struct, frozen=True):
    """One simulator, one database, the command line between them."""

    client: SimulatorClient
    platform: Platform
    owner_url: str
    folder: Path

    def run_all(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """`ipaas run` of the three flows; their results by flow."""
        return {flow: self.platform.run(flow, *arguments) for flow in FLOWS}

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Look into the database."""
        plain = make_url(self.owner_url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[arg-type]


@contextlib.contextmanager
def demo_world(
    databases: Any, template: str, folder: Path, *arguments: str, real_limits: bool = False, **settings: str
) -> Iterator[World]:
    """The demo world with systems and flows applied, nothing run yet.

    `arguments` go to the simulator, `settings` to the platform. Without `real_limits` Business Central may be asked
    as often as the machine can: its 6,000 requests in five minutes would make every story wait for most of a minute.
    """
    urls = databases.make(template=template)
    with simulator(folder / "simulator", "--world", "demo", *arguments) as client:
        if not real_limits:
            _widen_limits(Path(client.ready.systems) / "bc.yaml")
        platform = Platform(urls, folder / "state", IPAAS_LOG_LEVEL="WARNING", **settings)
        platform.must("systems", "apply", client.ready.systems)
        platform.must("apply", str(PATTERNS))
        yield World(client, platform, urls.owner, folder)
    databases.drop(urls.owner)


def _widen_limits(path: Path) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    document = yaml.load(path.read_text(encoding="utf-8"))
    document["limits"] = {"requests": 60_000, "window": 300, "concurrency": 5}
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def writes_since(client: SimulatorClient, before: dict[str, int]) -> dict[str, int]:
    """Per system, how many records were written since `before`, an earlier answer of `client.writes()`."""
    return {system: now - before[system] for system, now in client.writes().items()}


def left(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By flow, what its run left undone and what went wrong in it; empty when all is well."""
    names = ("error", "pending", "dead", "review")
    found = {flow: {name: result[name] for name in names if result[name]} for flow, result in results.items()}
    return {flow: trouble for flow, trouble in found.items() if trouble}


def target_records(client: SimulatorClient) -> dict[Where, dict[str, Any]]:
    """Every record of every target entity as it is on the wire now."""
    found: dict[Where, dict[str, Any]] = {}
    for (system, entity), id_field in _IDS.items():
        for scope in client.ready.scopes if system == "bc" else [""]:
            for record in client.records(system, entity, scope):
                found[system, entity, str(record[id_field])] = record
    return found


def changed(before: dict[Where, dict[str, Any]], after: dict[Where, dict[str, Any]]) -> set[Where]:
    """The records that came, went, or differ in any field."""
    return {where for where in before.keys() | after.keys() if before.get(where) != after.get(where)}
