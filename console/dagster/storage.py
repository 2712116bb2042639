"""Where Dagster keeps its own state: the platform's PostgreSQL server, in a database of its own.

dagster.yaml names this class instead of a URL, so that the same file works for `ipaas up`, which hands the URL down in
IPAAS_DAGSTER_URL, and for a plain `dagster dev` in a fresh clone, where nobody has started a server yet. The URL holds a
password; named this way it never stands in the instance reference that Dagster passes on command lines.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from dagster._config import UserConfigSchema
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from ipaas_resources.settings import load_settings
from ipaas_resources.store.server import open_server

URL_VARIABLE: Final = "IPAAS_DAGSTER_URL"


class PlatformStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage on the platform's server."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Nothing to configure: see the settings of the platform."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Mapping[str, Any],  # noqa: ARG003
    ) -> PlatformStorage:
        """Open the storage; starts the embedded server where it does not run."""
        return cls(postgres_url=dagster_url(), inst_data=inst_data)


def dagster_url() -> str:
    """The URL of Dagster's database: handed down, or found through the settings."""
    # SQLAlchemy 2.1 takes psycopg 3 where no driver is named, and dagster-postgres's NOTIFY needs psycopg2: the servers
    # of the store name it.
    return os.environ.get(URL_VARIABLE) or open_server(load_settings()).start().dagster
