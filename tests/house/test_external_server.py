"""A PostgreSQL that somebody else runs: version 15, with every kind of login that an administrator may hand out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from ipaas_resources.core.errors import ConfigurationError, DatabaseUnavailableError
from ipaas_resources.settings import Settings
from ipaas_resources.store.server import DatabaseUrls, ExternalServer, open_server
from ipaas_resources.store.servers import external
from tests.house.postgres15 import MISSING, Server, is_installed, postgres_15

pytestmark = [
    pytest.mark.external_postgres,
    pytest.mark.skipif(not is_installed(), reason=MISSING),
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with postgres_15() as server:
        yield server


@pytest.fixture
def admin(postgres: Server) -> Iterator[psycopg.Connection]:
    """The administrator; what a test made is gone afterwards."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        yield connection
        for (name,) in connection.execute(
            "SELECT datname FROM pg_database WHERE datname <> 'postgres' AND NOT datistemplate"
        ).fetchall():
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        for (name,) in connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%' AND rolname <> 'postgres'"
        ).fetchall():
            connection.execute(f'DROP OWNED BY "{name}" CASCADE')
            connection.execute(f'DROP ROLE "{name}"')


def settings(folder: Path, **urls: str) -> Settings:
    return Settings(state_dir=folder / "state", **urls)


def who(url: str) -> tuple[str, str, bool]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        return connection.execute(
            "SELECT current_user, current_database(), rolsuper FROM pg_roles WHERE rolname = current_user"
        ).fetchone()


def assert_complete(urls: DatabaseUrls) -> None:
    assert who(urls.owner) == ("ipaas_owner", "ipaas", False)
    assert who(urls.app) == ("ipaas_app", "ipaas", False)
    assert who(urls.dagster) == ("ipaas_dagster", "dagster", False)
    assert urls.dagster.startswith("postgresql+psycopg2://")


def test_a_superuser_url_makes_roles_and_databases(admin, postgres, tmp_path):
    server = open_server(settings(tmp_path, database_url=postgres.url()))
    assert isinstance(server, ExternalServer)
    assert_complete(server.start())
    assert server.describe()["version"].startswith("15")


def test_a_login_that_may_make_roles_and_databases_is_enough(admin, postgres, tmp_path):
    admin.execute("CREATE ROLE platform LOGIN CREATEROLE CREATEDB PASSWORD 'platform-password'")
    url = postgres.url("platform", "platform-password")
    assert_complete(ExternalServer(settings(tmp_path, database_url=url)).start())
    assert_complete(ExternalServer(settings(tmp_path, database_url=url)).start())


def test_another_machine_with_the_same_url_gets_the_same_logins(admin, postgres, tmp_path):
    said: list[str] = []
    first = ExternalServer(settings(tmp_path / "one", database_url=postgres.url())).start()
    second = ExternalServer(
        settings(tmp_path / "two", database_url=postgres.url()), report=said.append
    ).start()
    assert (first, said) == (second, [])


def test_postgres_as_heroku_spells_it_is_understood(admin, postgres, tmp_path):
    url = postgres.url().replace("postgresql://", "postgres://")
    assert_complete(ExternalServer(settings(tmp_path, database_url=url)).start())


def test_a_login_without_rights_is_told_what_an_administrator_must_do(admin, postgres, tmp_path):
    admin.execute("CREATE ROLE weak LOGIN PASSWORD 'weak-password'")
    server = ExternalServer(settings(tmp_path, database_url=postgres.url("weak", "weak-password")))
    with pytest.raises(
        ConfigurationError, match="give it CREATEROLE and CREATEDB, or let an administrator run: CREATE ROLE"
    ) as caught:
        server.start()
    assert "weak" not in str(caught.value)


def test_three_urls_are_used_as_they_are(admin, postgres, tmp_path):
    made = ExternalServer(settings(tmp_path, database_url=postgres.url())).start()
    given = settings(
        tmp_path,
        database_url=made.app.replace("+psycopg", ""),
        database_owner_url=made.owner.replace("+psycopg", ""),
        # Without a driver: SQLAlchemy 2.1 would take psycopg 3, and Dagster's NOTIFY would fail.
        database_dagster_url=made.dagster.replace("+psycopg2", ""),
    )
    assert ExternalServer(given).start() == made


def test_a_superuser_at_run_time_is_refused(admin, postgres, tmp_path):
    made = ExternalServer(settings(tmp_path, database_url=postgres.url())).start()
    given = settings(
        tmp_path,
        database_url=postgres.url(database="ipaas"),
        database_owner_url=made.owner,
        database_dagster_url=made.dagster,
    )
    with pytest.raises(ConfigurationError, match="IPAAS_DATABASE_URL is a superuser"):
        ExternalServer(given).start()


def test_an_old_server_is_refused_by_its_version(admin, postgres, tmp_path, monkeypatch):
    monkeypatch.setattr(external, "MINIMUM_VERSION", 16)
    with pytest.raises(ConfigurationError, match="is PostgreSQL 15, the platform needs 16 or newer"):
        ExternalServer(settings(tmp_path, database_url=postgres.url())).start()


def test_a_wrong_password_names_the_setting_and_never_its_value(postgres, tmp_path):
    server = ExternalServer(settings(tmp_path, database_url=postgres.url(password="canary-password")))
    with pytest.raises(
        DatabaseUnavailableError, match="IPAAS_DATABASE_URL cannot be used: it refused the password"
    ) as caught:
        server.start()
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_database_in_an_encoding_that_cannot_hold_every_text_is_refused(admin, postgres, tmp_path):
    admin.execute("CREATE DATABASE ipaas TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    with pytest.raises(ConfigurationError, match="has the encoding LATIN1"):
        ExternalServer(settings(tmp_path, database_url=postgres.url())).start()
