"""The ingress over real HTTP on loopback, with a database of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import httpx
import pytest
import sqlalchemy as sa

from console.web.ingress.app import Ingress
from console.web.ingress.bodies import Bounds
from console.web.ingress.serving import listen, server
from ipaas_resources.connectors.calibration.fake_webhook import delivery
from ipaas_resources.core.clock import SystemClock, SystemIds
from ipaas_resources.store.database import Database
from ipaas_resources.store.inbox import InboxWriter
from ipaas_resources.store.inbox_tables import inbox, inbox_keys
from ipaas_resources.store.registry import StoredSystem, save_systems
from ipaas_resources.store.subscriptions import Subscription, save_subscription

SECRET, OLD = "lab-secret-new", "lab-secret-old"
SYSTEMS = {"lab": "calibration", "bc": "business_central", "crm": "dataverse"}


async def arrange(database, monkeypatch):
    """Three systems with one subscription each; the references point to variables of this process."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setenv("HOOK_OLD", OLD)
    await save_systems(
        database,
        [
            StoredSystem(system=name, connector=connector, document={"system": name}, text="", paused=False)
            for name, connector in SYSTEMS.items()
        ],
    )
    for name, proof in (("lab", "signature"), ("bc", "client_state"), ("crm", "code")):
        await save_subscription(
            database,
            Subscription(
                subscription=f"{name}-1",
                system=name,
                connector=None,
                proof=proof,
                secret="env:HOOK_SECRET",
                secret_old="env:HOOK_OLD",
            ),
        )


class Hooks:
    """The running ingress and what it stored."""

    def __init__(self, app, database, writer, client, port):
        self.app, self.database, self.writer, self.client, self.port = app, database, writer, client, port
        self._numbers = itertools.count(1)

    def signed(self, secret=SECRET, number=None):
        """Headers and body of a delivery of the calibration system."""
        return delivery(
            secret,
            "job.updated",
            {"ServiceOrderId": 7},
            number=number or next(self._numbers),
            now=SystemClock().now(),
        )

    async def post(self, path, content, headers=None, **options):
        return await self.client.post(f"/hooks/{path}", content=content, headers=headers or {}, **options)

    async def stored(self):
        async with self.database.begin() as connection:
            return (await connection.execute(sa.select(inbox).order_by(inbox.c.delivery))).all()

    async def keys(self):
        async with self.database.begin() as connection:
            return (await connection.execute(sa.select(inbox_keys))).all()

    async def raw(self, *parts):
        """What the ingress answers to these bytes, read to the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture
async def start(fresh_database, monkeypatch):
    """Starts an ingress; `url` may name another database, `arranged=False` leaves it as it is."""
    async with contextlib.AsyncExitStack() as stack:

        async def go(*, bounds=None, url=None, arranged=True):
            database = Database(url or fresh_database.app)
            stack.push_async_callback(database.close)
            if arranged:
                await arrange(database, monkeypatch)
            writer = await stack.enter_async_context(InboxWriter(database))
            app = Ingress(database, writer, clock=SystemClock(), ids=SystemIds(), bounds=bounds or Bounds())
            socket = stack.enter_context(listen(0))
            running = server(app)
            task = asyncio.create_task(running.serve(sockets=[socket]))

            async def end():
                running.should_exit = True
                await task

            stack.push_async_callback(end)
            port = socket.getsockname()[1]
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}"))
            return Hooks(app, database, writer, client, port)

        yield go


@pytest.fixture
async def hooks(start):
    return await start()
