"""Opening the platform for one command: settings, database, migrations, engine."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
from collections.abc import AsyncIterator

import click

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Options
from ipaas_resources.core.platform import run_async
from ipaas_resources.settings import Settings, load_settings
from ipaas_resources.store.database import Database
from ipaas_resources.store.migrate import is_current, upgrade
from ipaas_resources.store.server import DatabaseUrls, open_server


def say(line: str) -> None:
    """Progress and remarks go to stderr, so that stdout holds results alone."""
    click.echo(line, err=True)


def open_database(settings: Settings) -> DatabaseUrls:
    """Start or reach the PostgreSQL server and bring its tables to this version."""
    server = open_server(settings, say)
    urls = server.start()
    # The embedded server ends with the last process that uses it: nobody should find it running days later.
    atexit.register(server.stop_if_unused)
    if not is_current(urls.owner):
        say("Bringing the database to this version")
        upgrade(urls.owner)
    return urls


def options_of(settings: Settings) -> Options:
    """The engine's options as the settings give them."""
    return Options(lease=settings.lease_seconds, patience=settings.patience_seconds)


@contextlib.asynccontextmanager
async def engine(settings: Settings | None = None, *, load: bool = True) -> AsyncIterator[Engine]:
    """The engine on the settings' database, closed at the end."""
    # A run makes and drops millions of small objects that form no cycles: looking through them at the default rate
    # costs a tenth of the run.
    gc.set_threshold(100_000, 50, 100)
    settings = settings or load_settings()
    urls = await asyncio.to_thread(open_database, settings)
    database = Database(urls.app)
    opened = Engine(database, options=options_of(settings))
    try:
        if load:
            await opened.load()
        yield opened
    finally:
        await opened.close()
        await database.close()


__all__ = ["engine", "open_database", "options_of", "run_async", "say"]
