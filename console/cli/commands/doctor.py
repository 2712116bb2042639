"""ipaas doctor: what runs where, and what is wrong."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import socket
import sys

import click
import psutil
import sqlalchemy as sa

from console.cli.opening import engine, run_async
from ipaas_assets.sync.model import System
from ipaas_resources.core.errors import IpaasError
from ipaas_resources.settings import Settings, load_settings
from ipaas_resources.store.migrate import is_current
from ipaas_resources.store.server import EmbeddedServer, open_server

_LITTLE_SPACE = 2 * 1024**3

#: Seconds that a system gets to answer: somebody waits for the list, and a run has patience of its own.
_ANSWER_LIMIT = 8


@click.command()
def doctor() -> None:
    """Say what runs where and what is wrong. Exit code 1 when something is."""
    settings = load_settings()
    good = _machine(settings)
    good = (run_async(_systems(settings)) if _database(settings) else False) and good
    good = _ports(settings) and good
    if not good:
        sys.exit(1)


def _line(*, good: bool, what: str, text: str) -> bool:
    click.echo(f"{'ok  ' if good else 'FAIL'} {what:<12} {text}")
    return good


def _machine(settings: Settings) -> bool:
    version = ".".join(map(str, sys.version_info[:3]))
    memory = psutil.virtual_memory().total // 1024**3
    _line(
        good=True, what="machine", text=f"Python {version}, {psutil.cpu_count()} cores, {memory} GiB memory"
    )
    place = settings.state_dir if settings.state_dir.exists() else settings.state_dir.parent
    free = shutil.disk_usage(place).free
    text = f"{settings.state_dir} ({free // 1024**3} GiB free)"
    if free < _LITTLE_SPACE:
        return _line(
            good=False, what="state", text=f"{text}: free some space, the database stops when none is left"
        )
    return _line(good=True, what="state", text=text)


def _database(settings: Settings) -> bool:
    kind = "external" if settings.database_url else "embedded"
    try:
        server = open_server(settings)
        # Looking must not leave a server running that nobody uses.
        atexit.register(server.stop_if_unused)
        urls = server.start()
        current = is_current(urls.app)
        address = sa.make_url(urls.app)
        database = sa.create_engine(urls.app, poolclass=sa.NullPool)
        with database.connect() as connection:
            version = connection.execute(sa.text("SHOW server_version")).scalar_one()
        database.dispose()
    except (IpaasError, sa.exc.SQLAlchemyError) as error:
        text = error.message if isinstance(error, IpaasError) else "the database refuses our login"
        return _line(good=False, what="database", text=f"{kind}: {text}")
    where = f"{address.host}:{address.port}/{address.database}"
    if isinstance(server, EmbeddedServer):
        # Not always in the state folder: see EmbeddedServer, for the account that PostgreSQL runs under.
        where += f", data in {server.describe()['data folder']}"
    if not current:
        return _line(
            good=False,
            what="database",
            text=f"{kind} PostgreSQL {version} at {where}: its tables are not made yet, or "
            "of another version; `ipaas up` or any command that works on it brings them to this one",
        )
    return _line(good=True, what="database", text=f"{kind} PostgreSQL {version} at {where}, tables current")


async def _systems(settings: Settings) -> bool:
    good = True
    async with engine(settings, load=False) as opened:
        try:
            await opened.load()
        except IpaasError as error:
            return _line(good=False, what="registry", text=error.message)
        _line(
            good=True,
            what="registry",
            text=f"{len(opened.systems)} systems, {len(opened.flows)} active flows",
        )
        for name, reason in sorted(opened.broken.items()):
            good = _line(good=False, what="registry", text=f"{name}: {reason}")
        names = sorted(opened.systems)
        answers = await asyncio.gather(*(_answer(opened.systems[name]) for name in names))
        for name, (answered, text) in zip(names, answers, strict=True):
            good = _line(good=answered, what="system", text=f"{name}: {text}") and good
    return good


async def _answer(system: System) -> tuple[bool, str]:
    if system.paused:
        return True, "paused"
    try:
        health = await asyncio.wait_for(system.connector.check(), _ANSWER_LIMIT)
    except TimeoutError:
        return False, f"did not answer within {_ANSWER_LIMIT} s"
    except IpaasError as error:
        return False, error.message
    return True, f"{health.product} answers"


def _ports(settings: Settings) -> bool:
    for name, port in (("webserver", settings.webserver_port), ("code server", settings.code_server_port)):
        with socket.socket() as probe:
            probe.settimeout(0.5)
            answers = probe.connect_ex((settings.host, port)) == 0
        _line(good=True, what=name, text=f"port {port} {'answers' if answers else 'is free'}")
    return True


COMMANDS = [doctor]
