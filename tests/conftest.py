"""Databases for tests: one server for the whole run, one cheap copy of a migrated database per test that asks.

`database`        migrated, shared by the whole run: for tests that look, or that keep to rows of their own
`fresh_database`  migrated, of this test alone
`empty_database`  not migrated, of this test alone
`dagster_database_url`  an empty database for Dagster's storage, of this test alone

With IPAAS_TEST_DATABASE_URL the server of that URL is used instead of the embedded one.
"""

from __future__ import annotations

import getpass
import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.settings import Settings
from ipaas_resources.store.server import DatabaseServer, DatabaseUrls, EmbeddedServer, ExternalServer
from ipaas_resources.store.servers.logins import APP_ROLE, DAGSTER_ROLE, OWNER_ROLE
from ipaas_resources.store.servers.provision import provision_database

REPOSITORY = Path(__file__).resolve().parent.parent

# A test run may lose its database to a power cut; nothing else may differ from what runs in production.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    # A test that ends in the middle of signing in leaves a half-open connection, and DROP DATABASE waits for the server to
    # give that one up: a minute by default (seen).
    "authentication_timeout": "5s",
}


class Databases:
    """Makes and drops databases on the server of this run."""

    def __init__(self, server: DatabaseServer, urls: DatabaseUrls) -> None:
        self.urls = urls
        self._admin = psycopg.connect(
            make_url(server.admin_url()).set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=True,
        )
        # The process id tells databases of a run that was killed from those of one that is still going.
        self._names = (f"ipaas_test_{os.getpid()}_{number}" for number in itertools.count())
        self._made: list[str] = []
        self._drop_left_over()

    def make(self, *, template: str = "template0") -> DatabaseUrls:
        name = self._make(OWNER_ROLE, [APP_ROLE], template)
        return replace(self.urls, owner=_of(self.urls.owner, name), app=_of(self.urls.app, name))

    def make_for_dagster(self) -> str:
        return _of(self.urls.dagster, self._make(DAGSTER_ROLE, [], "template0"))

    def drop(self, url: str) -> None:
        name = make_url(url).database
        self._made.remove(name)
        self._drop(name)

    def close(self) -> None:
        for name in self._made:
            self._drop(name)
        self._admin.close()

    def _make(self, owner: str, users: list[str], template: str) -> str:
        name = next(self._names)
        self._made.append(name)
        provision_database(self._admin, name, owner=owner, users=users, template=template)
        return name

    def _drop(self, name: str) -> None:
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _drop_left_over(self) -> None:
        rows = self._admin.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'ipaas\\_test\\_%\\_%'"
        ).fetchall()
        for (name,) in rows:
            if not psutil.pid_exists(int(name.split("_")[2])):
                self._drop(name)


def _of(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def database_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[DatabaseServer, DatabaseUrls]]:
    if url := os.environ.get("IPAAS_TEST_DATABASE_URL"):
        settings = Settings(database_url=url, state_dir=tmp_path_factory.mktemp("state"))
        server = ExternalServer(settings)
        yield server, server.start()
        return
    # One folder per repository and user, kept from run to run: a second run need not make the cluster again.
    mark = hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:8]
    server = EmbeddedServer(
        Path(tempfile.gettempdir()) / f"ipaas-tests-{getpass.getuser()}-{mark}", overrides=FAST
    )
    try:
        urls = server.start()
    except DatabaseUnavailableError:
        # Without fsync a power cut may have broken it, and there is nothing in it to keep.
        server.destroy()
        urls = server.start()
    yield server, urls
    server.stop_if_unused()


@pytest.fixture(scope="session")
def databases(database_server: tuple[DatabaseServer, DatabaseUrls]) -> Iterator[Databases]:
    made = Databases(*database_server)
    yield made
    made.close()


@pytest.fixture(scope="session")
def _template(databases: Databases) -> str:
    """Migrated once; every other database of the run is a copy of it."""
    try:
        from ipaas_resources.store.migrate import upgrade
    except ModuleNotFoundError as error:
        if error.name != "ipaas_resources.store.migrate":
            raise
        upgrade: Callable[[str], object] = len
    urls = databases.make()
    upgrade(urls.owner)
    return make_url(urls.owner).database


@pytest.fixture(scope="session")
def database(databases: Databases, _template: str) -> DatabaseUrls:
    return databases.make(template=_template)


@pytest.fixture
def fresh_database(databases: Databases, _template: str) -> Iterator[DatabaseUrls]:
    urls = databases.make(template=_template)
    yield urls
    databases.drop(urls.owner)


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[DatabaseUrls]:
    urls = databases.make()
    yield urls
    databases.drop(urls.owner)


@pytest.fixture
def dagster_database_url(databases: Databases) -> Iterator[str]:
    url = databases.make_for_dagster()
    yield url
    databases.drop(url)
