"""One engine over two products and a real database, for tests that read as stories."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Options
from ipaas_assets.sync.run import RunResult, run_flow
from ipaas_resources.connectors.base import SystemDocument
from ipaas_resources.core.clock import SeededIds, SystemClock
from ipaas_resources.core.limits import Unlimited
from ipaas_resources.store import registry, versions
from ipaas_resources.store.database import Database
from ipaas_resources.store.registry import StoredSystem
from ipaas_resources.store.versions import About, NewFlow, Remap
from mappings.compiler import compile_flow
from mappings.load import load_flow
from tests.sync.product import Product

FLOW = """
flow: people
source: {system: erp, entity: customers}
when: balance >= 0
targets:
  copy:
    system: crm
    entity: customers
    key: {number: {template: "{$scope}{number}"}}
    on_delete: ON_DELETE
    on_leave: ON_LEAVE
    fields:
      name: name
      balance: balance
      email: email
"""


class _Engine(Engine):
    """An engine whose systems are products of the test."""

    products: dict[str, Product]

    def connect(self, document: SystemDocument) -> Any:
        return self.products[document.system]


class Rig:
    """Products, engine and database of one test."""

    def __init__(
        self,
        database: Database,
        url: str,
        app_url: str,
        products: dict[str, Product],
        options: Options,
        seed: int,
    ) -> None:
        self.database = database
        self.url = url
        self.app_url = app_url
        self.products = products
        self.options = options
        self._ids = SeededIds(seed)
        self.engine: Engine = None  # type: ignore[assignment]

    def new_engine(self) -> Engine:
        """A new engine that has read nothing yet."""
        engine = _Engine(
            self.database, clock=SystemClock(), ids=self._ids, options=self.options, limits=Unlimited()
        )
        engine.products = self.products
        return engine

    async def open(self) -> Engine:
        """A new engine, as a restarted process would open it."""
        engine = self.new_engine()
        await engine.load()
        self.engine = engine
        return engine

    async def apply(self, text: str, *, remap: Remap = "changed") -> None:
        """Store a flow and make it active."""
        flow = load_flow(text, name="test.yaml")
        compile_flow(flow)
        await versions.save_documents(
            self.database,
            [
                NewFlow(
                    flow=flow.flow,
                    text=text,
                    source_system=flow.source.system,
                    source_entity=flow.source.entity,
                    exclusive_group=None,
                )
            ],
            about=About(actor="test", origin="file"),
            remap=remap,
        )
        await self.open()

    async def run(self, flow: str = "people", **options: Any) -> RunResult:
        """One run."""
        return await run_flow(self.engine, flow, **options)

    async def settle_everything(self, flow: str = "people", rounds: int = 40) -> RunResult:
        """Runs until nothing waits; time is moved on between them, as if each waiting item's moment had come."""
        for _ in range(rounds):
            result = await self.run(flow)
            if not result.pending and not result.error:
                return result
            self.let_time_pass()
        raise AssertionError(f"still pending after {rounds} rounds: {self.items()}")

    def let_time_pass(self) -> None:
        """Everything that waits is due, every lease has run out."""
        self.sql(
            "UPDATE work_items SET due_at = now() - interval '1 second' WHERE state IN ('due', 'parked')"
        )
        self.sql(
            "UPDATE work_items SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL"
        )
        self.sql("UPDATE intents SET lease_until = now() - interval '1 second' WHERE state = 'open'")
        self.sql(
            "UPDATE entity_state SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL"
        )

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Look into the database, or bend it."""
        plain = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def items(self) -> list[tuple[Any, ...]]:
        """The queue."""
        return self.sql(
            "SELECT target, scope, record, state, attempts, error_code FROM work_items ORDER BY 1, 2, 3"
        )

    def events(self) -> Counter[str]:
        """Sync events by outcome."""
        return Counter(dict(self.sql("SELECT outcome, count(*) FROM sync_events GROUP BY 1")))


@contextlib.asynccontextmanager
async def rig(
    urls: Any, *, source: Product | None = None, target: Product | None = None, seed: int = 1, **options: Any
) -> AsyncIterator[Rig]:
    """A rig over a fresh database; the flow `people` copies erp to crm."""
    database = Database(urls.app)
    products = {"erp": source or Product(), "crm": target or Product()}
    made = Rig(
        database, urls.owner, urls.app, products, Options(**{"patience": 0.0, "batch": 5, **options}), seed
    )
    try:
        await registry.save_systems(
            database,
            [
                StoredSystem(
                    system=name,
                    connector="product",
                    document={"system": name, "connector": "product"},
                    text="",
                    paused=False,
                )
                for name in products
            ],
        )
        yield made
    finally:
        await database.close()


def flow(on_delete: str = "deactivate", on_leave: str = "keep") -> str:
    """The flow of the rig with these policies."""
    return FLOW.replace("ON_DELETE", on_delete).replace("ON_LEAVE", on_leave)
