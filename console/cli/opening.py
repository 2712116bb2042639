"""Opening the platform for one command: settings, database, migrations, engine."""

from __future__ import annotations

import asyncio
import contextlib
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
    urls = open_server(settings, say).start()
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
