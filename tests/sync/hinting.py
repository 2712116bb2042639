"""A lab whose changes are told by webhooks, for tests of hints: the engine's test product behind real receivers."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from ipaas_assets.sync.hints import HintsRead, read_hints, split
from ipaas_resources.core import killpoints
from ipaas_resources.store import registry
from ipaas_resources.store.registry import StoredSystem
from ipaas_resources.store.subscriptions import Subscription, save_subscription
from tests.sync.product import Product
from tests.sync.rig import FLOW, Rig, rig

COMPANY = "11111111-2222-3333-4444-555555555555"
OTHER_COMPANY = "99999999-2222-3333-4444-555555555555"
LAB_FLOW = (
    FLOW.replace(
        "{system: erp, entity: customers}", "{system: erp, entity: clients}\ntrigger: {webhook: true}"
    )
    .replace("ON_DELETE", "delete")
    .replace("ON_LEAVE", "keep")
)


class Crash(BaseException):
    """The process dies here."""


class Named(Product):
    """A product whose deliveries use its own names of tables and companies."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.tables = {"client": "clients", "other": "others"}
        self.companies = {COMPANY: "main"}

    async def entity_of(self, table: str) -> str | None:
        self.calls.append(f"entity_of {table}")
        self._may_be_busy()
        return self.tables.get(table)

    async def scope_of(self, company: str) -> str | None:
        self.calls.append(f"scope_of {company}")
        self._may_be_busy()
        return self.companies.get(company)


class Hooks:
    """A rig whose source sends deliveries."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.source: Product = rig.products["erp"]
        self._traces = (f"trace-{number}" for number in itertools.count(1))

    def deliver(
        self, *bodies: Any, subscription: str = "s", headers: dict[str, str] | None = None
    ) -> list[str]:
        """Deliveries as the ingress stores them; their trace ids."""
        traces = [next(self._traces) for _ in bodies]
        rows = [
            (
                subscription,
                body if isinstance(body, bytes) else json.dumps(body).encode(),
                json.dumps(headers or {}),
                trace,
            )
            for body, trace in zip(bodies, traces, strict=True)
        ]
        plain = make_url(self.rig.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO inbox (subscription, body, headers, trace_id) VALUES (%s, %s, %s, %s)", rows
            )
        return traces

    def tell(self, *records: int | str) -> list[str]:
        """Deliveries that say: this client changed."""
        return self.deliver(*(client(record) for record in records))

    async def split(self, most: int = 500):
        return await split(self.rig.database, most=most)

    async def read(self, **options: Any) -> HintsRead:
        return await read_hints(self.rig.engine, trace_id="trace-of-the-reader", **options)

    def inbox(self) -> dict[str, int]:
        return dict(self.rig.sql("SELECT coalesce(error_code, state), count(*) FROM inbox GROUP BY 1"))

    def hints(self) -> list[tuple[Any, ...]]:
        return self.rig.sql(
            "SELECT entity, scope, record, state, generation, attempts, error_code FROM hints ORDER BY 1, 2, 3"
        )

    def mirror(self) -> dict[str, Any]:
        return dict(
            self.rig.sql("SELECT record, CASE WHEN NOT deleted THEN document ->> 'name' END FROM mirror")
        )

    def items(self) -> list[tuple[Any, ...]]:
        return self.rig.sql("SELECT record, lane, trace_ids FROM work_items ORDER BY 1")

    def let_leases_run_out(self) -> None:
        self.rig.sql(
            "UPDATE hints SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL"
        )

    def let_time_pass(self) -> None:
        self.rig.sql("UPDATE hints SET due_at = now() WHERE state = 'due'")


def client(record: int | str) -> dict[str, Any]:
    """The calibration system's event."""
    return {"event": "client.updated", "id": "e", "data": {"CompanyId": int(record)}}


def notice(
    record: str | None = None, *, company: str = COMPANY, query: str = "", kind: str = "updated"
) -> Any:
    """A Business Central notification of one item."""
    resource = f"api/v2.0/companies({company})/clients" + (f"({record})" if record else "") + query
    return {"value": [{"resource": resource, "changeType": kind, "clientState": "c"}]}


@contextlib.asynccontextmanager
async def hooks(
    urls: Any,
    *,
    connector: str = "calibration",
    source: Product | None = None,
    flow: str | None = LAB_FLOW,
    entity: str = "",
    scope: str = "",
    **options: Any,
) -> AsyncIterator[Hooks]:
    """A lab that sends deliveries under the subscription `s`; its flow `people` writes to crm."""
    source = source or Product(find=20)
    async with rig(urls, source=source, **options) as opened:
        await registry.save_systems(
            opened.database,
            [
                StoredSystem(
                    system="erp",
                    connector=connector,
                    document={"system": "erp", "connector": connector},
                    text="",
                    paused=False,
                )
            ],
        )
        await save_subscription(
            opened.database,
            Subscription(
                subscription="s",
                system="erp",
                connector=None,
                proof="signature",
                secret="env:S",
                entity=entity,
                scope=scope,
            ),
        )
        if flow is None:
            await opened.open()
        else:
            await opened.apply(flow)
        yield Hooks(opened)


def crash_at(monkeypatch: Any, place: str, passes: int = 1) -> None:
    """The process dies at the n-th pass of a kill point: `K06` after it, `-K06` before it."""
    left = {place: passes}

    def passing(name: str) -> None:
        left[name] = left.get(name, 0) - 1
        if left[name] == 0:
            raise Crash

    monkeypatch.setattr(killpoints, "before", lambda name: passing("-" + name))
    monkeypatch.setattr(killpoints, "after", passing)
