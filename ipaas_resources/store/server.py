"""The PostgreSQL server that the platform stands on: started by us, or somebody else's.

`open_server(settings)` picks. Both kinds end in the same three logins: the owner migrates, the app does everything at
run time and is no superuser (for a superuser a REVOKE means nothing), and Dagster has a database of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store.servers.embedded import EmbeddedServer
from ipaas_resources.store.servers.external import ExternalServer
from ipaas_resources.store.servers.logins import DatabaseServer, DatabaseUrls, Report

if TYPE_CHECKING:
    from ipaas_resources.settings import Settings

__all__ = ["DatabaseServer", "DatabaseUrls", "EmbeddedServer", "ExternalServer", "Report", "open_server"]


def open_server(settings: Settings, report: Report | None = None) -> DatabaseServer:
    """Pick the server: the one that IPAAS_DATABASE_URL names, else the embedded one in the state folder."""
    if settings.database_url is not None:
        return ExternalServer(settings, report=report)
    for name in ("database_owner_url", "database_dagster_url"):
        if getattr(settings, name) is not None:
            message = (
                f"IPAAS_{name.upper()} is set but IPAAS_DATABASE_URL is not: set both for a server of your own, "
                "or none for the embedded one."
            )
            raise ConfigurationError(message)
    return EmbeddedServer(settings.state_dir, report=report)
