"""A server that somebody else runs, named by IPAAS_DATABASE_URL."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy.engine import URL, make_url

from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.core.platform import write_private
from ipaas_resources.store.servers.logins import (
    APP_ROLE,
    DAGSTER_DATABASE,
    DAGSTER_ROLE,
    DATABASE,
    OWNER_ROLE,
    DatabaseUrls,
    Report,
)
from ipaas_resources.store.servers.provision import connect, provision, raw_connect, render, rights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipaas_resources.settings import Settings

MINIMUM_VERSION = 15


class ExternalServer:
    """A PostgreSQL 15 or newer that IPAAS_DATABASE_URL names.

    With that URL alone, its login must be allowed to make roles and databases, and everything is made. Where nobody
    gives such a right, an administrator makes them once and all three URLs are set.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        report: Report | None = None,
        database: str = DATABASE,
        dagster_database: str = DAGSTER_DATABASE,
    ) -> None:
        if settings.database_url is None:
            message = "IPAAS_DATABASE_URL is not set; set it, or use the embedded database."
            raise ConfigurationError(message)
        self._url = _normal(settings.database_url.get_secret_value())
        owner, dagster = settings.database_owner_url, settings.database_dagster_url
        if (owner is None) != (dagster is None):
            missing = "IPAAS_DATABASE_OWNER_URL" if owner is None else "IPAAS_DATABASE_DAGSTER_URL"
            message = f"{missing} is missing: set it too, or IPAAS_DATABASE_URL alone."
            raise ConfigurationError(message)
        self._owner_url = _normal(owner.get_secret_value()) if owner else None
        self._dagster_url = _normal(dagster.get_secret_value()) if dagster else None
        self._report: Report = report or (lambda _line: None)
        self._database = database
        self._dagster_database = dagster_database
        self._key_path = settings.state_dir / "database.key"
        self._version = "unknown, not asked yet"

    def start(self) -> DatabaseUrls:
        """Check that the server answers and is new enough; make what is missing where the login may."""
        if self._owner_url is not None and self._dagster_url is not None:
            return self._check_given(self._owner_url, self._dagster_url)
        return self._make_missing()

    def stop(self) -> None:
        """Leave the server alone: it is not ours."""

    def stop_if_unused(self) -> bool:
        """Leave the server alone: it is not ours."""
        return False

    def admin_url(self) -> str:
        """Return the login of IPAAS_DATABASE_URL."""
        return render(self._url, "postgresql+psycopg")

    def describe(self) -> dict[str, str]:
        """Say what is used, without the value of any setting."""
        return {
            "server": "PostgreSQL named by IPAAS_DATABASE_URL",
            "version": self._version,
            "logins": "given (IPAAS_DATABASE_*_URL)"
            if self._owner_url is not None
            else "made by the platform",
        }

    def _check_given(self, owner: URL, dagster: URL) -> DatabaseUrls:
        urls = DatabaseUrls(
            owner=render(owner, "postgresql+psycopg"),
            app=render(self._url, "postgresql+psycopg"),
            # Dagster's NOTIFY needs psycopg2, and SQLAlchemy 2.1 takes psycopg 3 where no driver is named.
            dagster=render(dagster, "postgresql+psycopg2"),
        )
        for setting, url in (
            ("IPAAS_DATABASE_OWNER_URL", urls.owner),
            ("IPAAS_DATABASE_URL", urls.app),
            ("IPAAS_DATABASE_DAGSTER_URL", render(dagster, "postgresql+psycopg")),
        ):
            with connect(url, setting) as connection:
                self._check_server(connection, setting)
                if setting == "IPAAS_DATABASE_URL" and rights(connection).superuser:
                    message = (
                        "The login of IPAAS_DATABASE_URL is a superuser, to whom no privilege is refused: name an "
                        "ordinary role there, for the platform runs with it."
                    )
                    raise ConfigurationError(message)
        return urls

    def _make_missing(self) -> DatabaseUrls:
        setting = "IPAAS_DATABASE_URL"
        passwords = {role: self._password_of(role) for role in (OWNER_ROLE, APP_ROLE, DAGSTER_ROLE)}
        urls = DatabaseUrls(
            owner=self._login("postgresql+psycopg", OWNER_ROLE, passwords, self._database),
            app=self._login("postgresql+psycopg", APP_ROLE, passwords, self._database),
            dagster=self._login("postgresql+psycopg2", DAGSTER_ROLE, passwords, self._dagster_database),
        )
        with connect(self.admin_url(), setting) as connection:
            self._check_server(connection, setting)
            if self._all_log_in(urls):
                return urls
            may = rights(connection)
            if not may.superuser and not (may.make_roles and may.make_databases):
                raise ConfigurationError(self._instructions())
            self._report("Making the roles and databases of the platform")
            try:
                provision(
                    connection,
                    passwords=passwords,
                    database=self._database,
                    dagster_database=self._dagster_database,
                )
            except psycopg.errors.InsufficientPrivilege as error:
                raise ConfigurationError(self._instructions()) from error
        # Asked once more with the new logins: pg_hba.conf may refuse them although they are there.
        for url in (urls.owner, urls.app, urls.dagster):
            with connect(
                render(make_url(url), "postgresql+psycopg"),
                f"{setting} (as the role {make_url(url).username})",
            ):
                pass
        return urls

    def _password_of(self, role: str) -> str:
        """Derive a role's password from the administrator's, so that every machine with this URL has the same ones.

        scrypt makes the way back, from a role's password to the administrator's, as slow as for any stored hash.
        """
        secret = self._url.password or self._stored_key()
        salt = f"ipaas role {role}".encode()
        return hashlib.scrypt(str(secret).encode(), salt=salt, n=2**14, r=8, p=1, dklen=24).hex()

    def _stored_key(self) -> str:
        """Return the secret of an installation whose administrator logs in without a password."""
        with contextlib.suppress(FileNotFoundError):
            return self._key_path.read_text(encoding="utf-8")
        self._key_path.parent.mkdir(parents=True, exist_ok=True)
        write_private(self._key_path, secrets.token_urlsafe(32))
        return self._key_path.read_text(encoding="utf-8")

    def _login(self, driver: str, role: str, passwords: Mapping[str, str], database: str) -> str:
        url = self._url.set(username=role, password=passwords[role], database=database)
        return render(url, driver)

    def _check_server(self, connection: psycopg.Connection, setting: str) -> None:
        major = connection.info.server_version // 10_000
        self._version = connection.info.parameter_status("server_version") or str(major)
        if major < MINIMUM_VERSION:
            message = (
                f"The server that {setting} names is PostgreSQL {major}, the platform needs {MINIMUM_VERSION} or "
                "newer: upgrade it or name another one."
            )
            raise ConfigurationError(message)

    @staticmethod
    def _all_log_in(urls: DatabaseUrls) -> bool:
        for url in (urls.owner, urls.app, urls.dagster):
            try:
                with raw_connect(render(make_url(url), "postgresql+psycopg")):
                    pass
            except psycopg.Error:
                return False
        return True

    def _instructions(self) -> str:
        statements = "; ".join(
            (
                f"CREATE ROLE {OWNER_ROLE} LOGIN PASSWORD '...'",
                f"CREATE ROLE {APP_ROLE} LOGIN PASSWORD '...'",
                f"CREATE ROLE {DAGSTER_ROLE} LOGIN PASSWORD '...'",
                f"CREATE DATABASE {self._database} OWNER {OWNER_ROLE} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C'",
                f"CREATE DATABASE {self._dagster_database} OWNER {DAGSTER_ROLE}",
            )
        )
        return (
            "The login of IPAAS_DATABASE_URL may not make roles and databases: give it CREATEROLE and CREATEDB, or "
            f"let an administrator run: {statements}; and then set IPAAS_DATABASE_OWNER_URL, IPAAS_DATABASE_URL "
            f"({APP_ROLE}) and IPAAS_DATABASE_DAGSTER_URL."
        )


def _normal(text: str) -> URL:
    # Heroku and its kin still hand out postgres://.
    return make_url(text).set(drivername="postgresql")
