"""A rig whose systems and tables are watched: nothing may be written, stored or changed while it is frozen."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec

from ipaas_assets.sync.sandbox import Ask, SandboxResult, sandbox
from ipaas_resources.core.schema import FieldSchema
from tests.sync.product import CUSTOMER, Product
from tests.sync.rig import Rig, rig

FLOW = """
flow: people
source: {system: erp, entity: customers}
when: balance >= 0
targets:
  copy:
    system: crm
    entity: customers
    key: {number: {template: "{$scope}{number}"}}
    on_delete: deactivate
    fields:
      name: name
      balance: {math: "balance / parts"}
      email: {python: "lower(email)"}
      parent: {ref: people.copy, of: parent}
"""
SOURCE = msgspec.structs.replace(
    CUSTOMER,
    fields=(
        *CUSTOMER.fields,
        FieldSchema(name="parts", type="integer"),
        FieldSchema(name="password", type="text", sensitivity="secret"),
    ),
)


class ReadOnly(Product):
    """A product that a test fails for writing to."""

    frozen = False

    async def write(self, entity: str, scope: str, operations: Any) -> Any:
        assert not self.frozen, "the sandbox wrote to a system"
        return await super().write(entity, scope, operations)

    async def acknowledge(self, entity: str, scope: str, cursor: Any) -> None:
        assert not self.frozen, "the sandbox moved a cursor"


class Bench:
    """A rig on which writing and storing is told."""

    def __init__(self, world: Rig) -> None:
        self.world = world
        self.erp, self.crm = world.products["erp"], world.products["crm"]

    def freeze(self) -> None:
        """From here on nothing may be written, stored or changed."""
        self._before = self.stored(), self.products()
        self.erp.frozen = self.crm.frozen = True

    def thaw(self) -> None:
        """The sandbox has left everything as it was; now something else may go on."""
        stored, products = self._before
        assert self.stored() == stored, "the sandbox stored something"
        assert self.products() == products
        self.erp.frozen = self.crm.frozen = False

    async def ask(self, **options: Any) -> SandboxResult:
        return await sandbox(self.world.engine, Ask(**{"flow": "people", **options}))

    def stored(self) -> dict[str, str]:
        """Every table of the platform with all that it holds, and where its sequences stand."""
        names = self.world.sql(
            "SELECT c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND c.relkind IN ('r', 'p', 'S')"
        )
        everything = "string_agg(t::text, '|' ORDER BY t::text)"
        shown = {"S": "last_value::text", "r": everything, "p": everything}
        asked = [f"SELECT '{name}', {shown[kind]} FROM \"{name}\" t" for name, kind in names]
        return dict(self.world.sql(" UNION ALL ".join(asked)))

    def products(self) -> list[Any]:
        return [(sorted(product.records.items()), list(product.ledger)) for product in (self.erp, self.crm)]


@contextlib.asynccontextmanager
async def bench(urls: Any, *, flow: str = FLOW, run: bool = True, **options: Any) -> AsyncIterator[Bench]:
    """Three customers, two of them linked in the target, and one that came after the last run."""
    source = ReadOnly(schema=SOURCE, **options)
    target = ReadOnly()
    async with rig(urls, source=source, target=target) as world:
        scope = source._scopes[0]
        for number in range(2):
            source.put(
                f"r{number}", scope, number=f"C{number}", name=f"Name {number}", balance=Decimal(number), parts=1,
                email="A@B", parent=None, password="hush",
            )  # fmt: skip
        await world.apply(flow)
        if run:
            await world.run()
        source.put(
            "r2", scope, number="C2", name="New", balance=Decimal("7.5"), parts=2, email="N@B", parent="r0"
        )
        await world.open()
        made = Bench(world)
        made.freeze()
        yield made
        made.thaw()
