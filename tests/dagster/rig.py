"""An installation for tests: registry rows in a database of its own, products in memory, the definitions over them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
import sqlalchemy as sa

from definitions import make_definitions
from ipaas_assets.graph import Graph, build_graph
from ipaas_assets.resources import Platform
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Options
from ipaas_resources.core.platform import run_async
from ipaas_resources.settings import Settings
from ipaas_resources.store import registry, versions
from ipaas_resources.store.database import Database
from ipaas_resources.store.registry import StoredSystem
from ipaas_resources.store.server import DatabaseUrls
from ipaas_resources.store.versions import About, NewFlow, Saved
from tests.sync.product import CUSTOMER, Product

CUSTOMERS = """
flow: customers_to_clients
title: Customers become clients
description: The name, and the number to find it by.
group: customers
owners: [sales@example.com, Integration team]
source: {system: bc, entity: salesCustomers, scopes: all}
trigger:
  poll: {min: 15s, max: 15m}
  schedule: "0 2 * * 0"
  tz: Europe/London
sla: {max_age: 4h}
targets:
  client:
    system: crm
    entity: accounts
    key: {number: number}
    fields:
      name: {template: "{name} ({number})"}
      email: email
  copy:
    system: lab
    entity: clients
    when: balance > 0
    key: {number: number}
    fields:
      name: name
"""

BACK = """
flow: clients_to_customers
source: {system: crm, entity: accounts}
trigger: {poll: {min: 2m, max: 1h}}
targets:
  customer:
    system: bc
    entity: salesCustomers
    key: {number: number}
    fields:
      name: name
      parent: {ref: customers_to_clients.client, of: parent}
"""

_SOURCE = re.compile(r"source: \{system: (\w+), entity: (\w+)")

BROKEN = "flow: broken\nsource: {system: bc}\n"


def product(entity: str, **options: Any) -> Product:
    """A product whose one entity has this name."""
    return Product(schema=msgspec.structs.replace(CUSTOMER, entity=entity), page=50, batch=50, **options)


class Installation(Platform):
    """The platform over one test's database, its systems products in memory."""

    def __init__(self, urls: DatabaseUrls, state_dir: Path, **systems: Product) -> None:
        self.__dict__["urls"] = urls
        self.__dict__["settings"] = Settings(state_dir=state_dir)
        self.products = systems

    def make_engine(self, database: Database) -> Engine:
        products = self.products

        class TestEngine(Engine):
            def connect(self, document: Any) -> Any:
                return products[document.system]

        return TestEngine(database, options=Options(patience=2.0))

    # --- registry ----------------------------------------------------------------------------------------------------

    def connect(self, *names: str, connectors: Mapping[str, str] | None = None) -> None:
        """Store system documents; with the connectors whose webhooks they send, where that matters."""
        kinds = {name: f"{name}_product" for name in names} | dict(connectors or {})

        async def work() -> None:
            async with self.database() as database:
                await registry.save_systems(
                    database,
                    [
                        StoredSystem(
                            system=name,
                            connector=kinds[name],
                            document={
                                "system": name,
                                "connector": kinds[name],
                                "secrets": {"password": "env:PASSWORD"},
                                "settings": {"url": "http://hidden.example"},
                            },
                            text="",
                            paused=False,
                        )
                        for name in names
                    ],
                )

        run_async(work())

    def apply(self, *texts: str) -> list[Saved]:
        """Store flow versions and make them active, without a look at the systems."""

        async def work() -> list[Saved]:
            async with self.database() as database:
                saved = await versions.save_documents(
                    database,
                    [_new_flow(text) for text in texts],
                    about=About(actor="test", origin="file"),
                )
                return saved.flows

        return run_async(work())

    def look(self, system: str, entity: str) -> None:
        """Store the schema of an entity, as whoever reads it does."""

        async def work() -> None:
            async with self.engine() as engine:
                await engine.schema(system, entity)

        run_async(work())

    def enable(self, flow: str, *, enabled: bool) -> None:
        async def work() -> None:
            async with self.database() as database:
                assert await registry.set_enabled(database, flow, enabled=enabled)

        run_async(work())

    def pause(self, system: str) -> None:
        async def work() -> None:
            async with self.database() as database:
                assert await registry.pause_system(database, system, paused=True)

        run_async(work())

    def sql(self, *statements: str) -> list[Any]:
        """Statements as the owner; the rows of the last one."""
        engine = sa.create_engine(self.urls.owner, poolclass=sa.NullPool)
        with engine.begin() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement)
            return list(result.all()) if result.returns_rows else []

    # --- dagster -----------------------------------------------------------------------------------------------------

    def definitions(self) -> dg.Definitions:
        made = make_definitions(self)
        # What the code server does with them: names that clash are found only here.
        dg.Definitions.validate_loadable(made)
        return made

    def graph(self) -> Graph:
        return build_graph(self.registered())


def _new_flow(text: str) -> NewFlow:
    lines = dict(
        line.split(": ", 1) for line in text.strip().splitlines() if not line.startswith(" ") and ": " in line
    )
    source = _SOURCE.search(text)
    system, entity = source.groups() if source else ("bc", "salesCustomers")
    return NewFlow(
        flow=lines["flow"],
        text=text,
        source_system=system,
        source_entity=entity,
        exclusive_group=None,
    )


def keys(defs: dg.Definitions) -> set[str]:
    """Every asset key, as text."""
    return {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}


def materialize(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    *assets: str,
    config: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialise these assets as the Dagster UI would, `config` holding the mode per step."""
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset.split("/")) for asset in assets],
        run_config={"ops": {op: {"config": {"mode": mode}} for op, mode in (config or {}).items()}},
        tags=tags,
        raise_on_error=False,
    )


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """The metadata of an asset's materialisation in this run."""
    found = [
        event.materialization
        for event in result.get_asset_materialization_events()
        if event.materialization.asset_key == dg.AssetKey(asset.split("/"))
    ]
    assert len(found) == 1, f"{asset} was materialised {len(found)} times"
    return {name: value.value for name, value in found[0].metadata.items()}


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """asset:check -> its evaluation in this run."""
    return {
        f"{each.asset_key.to_user_string()}:{each.check_name}": each
        for each in result.get_asset_check_evaluations()
    }


def put_customers(product: Product, numbers: Iterable[int]) -> None:
    for number in numbers:
        product.put(
            f"c{number}",
            number=f"{number}",
            name=f"Customer {number}",
            balance=number % 3,
            email=f"{number}@example.com",
            parent="",
        )
