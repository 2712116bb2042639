"""Roles and databases: made, or brought into shape, on any server whose login may do so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from ipaas_resources.core.errors import ConfigurationError, DatabaseUnavailableError
from ipaas_resources.store.servers.logins import (
    APP_ROLE,
    DAGSTER_DATABASE,
    DAGSTER_ROLE,
    DATABASE,
    OWNER_ROLE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONNECT_TIMEOUT_SECONDS = 10


def render(url: URL, driver: str) -> str:
    return url.set(drivername=driver).render_as_string(hide_password=False)


@dataclass(frozen=True)
class Rights:
    superuser: bool
    make_roles: bool
    make_databases: bool


def rights(connection: psycopg.Connection) -> Rights:
    row = connection.execute(
        "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    return Rights(*row) if row else Rights(superuser=False, make_roles=False, make_databases=False)


def raw_connect(url: str) -> psycopg.Connection:
    return psycopg.connect(
        render(make_url(url), "postgresql"),
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        application_name="ipaas setup",
    )


def connect(url: str, name: str) -> psycopg.Connection:
    """Connect, or say in one sentence why not; psycopg's own text is dropped, for it holds values of settings."""
    try:
        return raw_connect(url)
    except psycopg.OperationalError as error:
        message = f"The database server of {name} cannot be used: {_reason(str(error))}."
        # `from None`: the cause, too, would put host, user and database into a traceback.
        raise DatabaseUnavailableError(message) from None
    except psycopg.ProgrammingError:
        message = f"{name} is not a valid PostgreSQL URL: write it as postgresql://user:password@host:5432/database."
        raise ConfigurationError(message) from None


# libpq reports a refused login before there is a connection, so there is no error code to look at, only text.
_REASONS = (
    ("password authentication failed", "it refused the password; check user and password"),
    ("no password supplied", "it asks for a password and the URL has none; add it"),
    ("no pg_hba.conf entry", "its pg_hba.conf does not let this login in from here; add an entry"),
    (
        "does not exist",
        "the role or the database of the URL does not exist there; make it or correct the URL",
    ),
    ("too many clients", "all its connections are taken; raise max_connections or stop other programs"),
    (
        "remaining connection slots",
        "all its connections are taken; raise max_connections or stop other programs",
    ),
    ("starting up", "it is still starting; try again in a moment"),
    ("shutting down", "it is shutting down; start it again"),
    ("Connection refused", "nothing listens at that host and port; start the server or correct the URL"),
    ("timeout", "it did not answer in time; check host, port and firewall"),
    ("timed out", "it did not answer in time; check host, port and firewall"),
    ("resolve", "its host name is not known here; correct the URL"),
    ("Name or service not known", "its host name is not known here; correct the URL"),
    ("No such file or directory", "nothing listens at that socket; start the server or correct the URL"),
    ("SSL", "the encrypted connection failed; check sslmode and the certificates"),
    ("certificate", "the encrypted connection failed; check sslmode and the certificates"),
)


def _reason(text: str) -> str:
    for sign, reason in _REASONS:
        if sign in text:
            return reason
    return "it did not accept the connection; look into its log"


# Roles and databases belong to the whole server, so one number serves every installation on it.
PROVISIONING_LOCK = 0x69706161


def provision(
    connection: psycopg.Connection,
    *,
    passwords: Mapping[str, str],
    database: str = DATABASE,
    dagster_database: str = DAGSTER_DATABASE,
) -> None:
    """Make the three roles and the two databases, or bring what is there into that shape; safe to repeat."""
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", [PROVISIONING_LOCK])
        for role, password in passwords.items():
            _provision_role(connection, role, password)
        provision_database(connection, database, owner=OWNER_ROLE, users=[APP_ROLE])
        provision_database(connection, dagster_database, owner=DAGSTER_ROLE, users=[])
    except psycopg.errors.DiskFull as error:
        message = "The disk of the database server is full: free space there and start again."
        raise DatabaseUnavailableError(message, code="disk_full") from error
    finally:
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock_all()")


def _provision_role(connection: psycopg.Connection, role: str, password: str) -> None:
    name = sql.Identifier(role)
    is_there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    verb = sql.SQL("ALTER") if is_there else sql.SQL("CREATE")
    # The password travels as a SCRAM verifier: its text reaches neither the server nor any log of statements.
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    options = sql.SQL("LOGIN NOCREATEDB NOCREATEROLE")
    may = rights(connection)
    if may.superuser:
        # Only a superuser may even say NOSUPERUSER of an existing role; the others cannot have made one.
        options = sql.SQL("LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")
    connection.execute(
        sql.SQL("{} ROLE {} WITH {} PASSWORD {}").format(verb, name, options, sql.Literal(verifier))
    )
    if not may.superuser:
        # To hand a database to a role one must be a member of it.
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))


def provision_database(
    connection: psycopg.Connection,
    database: str,
    *,
    owner: str,
    users: Sequence[str],
    template: str = "template0",
) -> None:
    """Make a database of this owner that nobody else than these users may connect to; safe to repeat."""
    name = sql.Identifier(database)
    found = connection.execute(
        "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = %s", [database]
    ).fetchone()
    if found is None:
        make = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
            name, sql.Identifier(owner), sql.Identifier(template)
        )
        if template == "template0":
            # Text is ordered by its bytes, on every server alike: paging by key compares in Python, too.
            make += sql.SQL(" ENCODING 'UTF8' LC_COLLATE 'C'")
        connection.execute(make)
    elif found[0] != "UTF8":
        message = (
            f"The database {database} has the encoding {found[0]} and cannot hold every text: make it anew with "
            "ENCODING 'UTF8'."
        )
        raise ConfigurationError(message)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    for user in users:
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, sql.Identifier(user)))
