"""Migrations: the owner brings the database to this version's tables, one process at a time."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from ipaas_resources.core import killpoints
from ipaas_resources.core.errors import DatabaseUnavailableError
from ipaas_resources.store.database import database_error

#: Months of sync event partitions that are made ahead, and again by the daily retention.
MONTHS_AHEAD = 12
_LOCK = 0x49504141  # "IPAA": one migration at a time on one database
_LOCK_TIMEOUT = "10s"
_STATEMENT_TIMEOUT = "15min"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def upgrade(owner_url: str) -> None:
    """Bring the database to the newest version. Safe to call from many processes at once, and when nothing is to do.

    Raises:
        DatabaseUnavailableError: the server is down, its disk is full, or another session holds a lock for too long.
    """
    engine = sa.create_engine(owner_url, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
            connection.execute(sa.text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
            connection.execute(sa.text(f"SET statement_timeout = '{_STATEMENT_TIMEOUT}'"))
            connection.commit()
            config = _config()
            config.attributes["connection"] = connection
            killpoints.before("K21")
            command.upgrade(config, "head")
            killpoints.after("K21")
            make_partitions(connection)
            connection.commit()
            connection.execute(sa.text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
            connection.commit()
    except DBAPIError as error:
        mapped = database_error(error)
        if mapped is None and getattr(error.orig, "sqlstate", "") == "55P03":
            mapped = DatabaseUnavailableError(
                "The database could not be migrated, for another session holds a lock on its tables. "
                "Stop other processes of the platform, then start again.",
                code="migration_locked",
            )
        if mapped is None:
            raise
        raise mapped from error
    finally:
        engine.dispose()


def is_current(owner_or_app_url: str) -> bool:
    """True when the database has this version's tables.

    Raises:
        DatabaseUnavailableError: the server is down, or its disk is so full that it lets nobody in.
    """
    engine = sa.create_engine(owner_or_app_url, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            here = MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        mapped = database_error(error)
        if mapped is None:
            raise
        raise mapped from error
    finally:
        engine.dispose()
    return here == ScriptDirectory.from_config(_config()).get_current_head()


def make_partitions(connection: sa.Connection, months: int = MONTHS_AHEAD) -> None:
    """Partitions of the sync events for this month and those ahead; those that exist stay as they are."""
    connection.execute(sa.text("SELECT ipaas_make_partitions(:months)"), {"months": months})


def drop_partitions(connection: sa.Connection, keep_months: int) -> list[str]:
    """Drop partitions older than so many months; their names."""
    rows = connection.execute(sa.text("SELECT ipaas_drop_partitions(:months)"), {"months": keep_months})
    return [row[0] for row in rows]
