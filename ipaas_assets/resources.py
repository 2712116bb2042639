"""The platform behind the assets: its database, its engine, its addresses. One Dagster resource, without configuration.

Without, because whoever sees the Dagster UI sees configuration: logins come from the settings of the process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from functools import cached_property

import dagster as dg

from ipaas_assets.registered import READ_LIMIT, Registered, fetch_registered, read_registered, within
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Options
from ipaas_assets.workers import WORKER_TAG, this_worker
from ipaas_resources.core.errors import DatabaseUnavailableError, IpaasError
from ipaas_resources.core.platform import run_async
from ipaas_resources.settings import Settings, load_settings
from ipaas_resources.store.database import Database
from ipaas_resources.store.server import DatabaseUrls, open_server

RESOURCE = "platform"

#: Set by `dagster dev` in everything that it starts.
_DEV = "DAGSTER_IS_DEV_CLI"


class Platform:
    """Opens what a step, a sensor or a schedule needs, from the settings of this process."""

    @cached_property
    def settings(self) -> Settings:
        """The settings of this installation."""
        return load_settings()

    @cached_property
    def urls(self) -> DatabaseUrls:
        """The logins; starts the embedded server where it does not run."""
        return open_server(self.settings).start()

    def registered(self) -> Registered:
        """The registry for the definitions, its last good copy when the database is down."""
        if os.environ.get(_DEV) and self.settings.database_url is None:
            # `dagster dev` in a fresh clone: nobody else has started and prepared the embedded database. Outside the
            # limit, for the first start takes some seconds, once.
            with contextlib.suppress(IpaasError):  # reading says the same in a moment, and takes the copy
                self.prepare()
        return read_registered(lambda: self.urls.app, self.settings.state_dir)

    def registered_now(self) -> Registered:
        """The registry as it is now, for sensors and schedules. Raises DatabaseUnavailableError."""
        try:
            return within(READ_LIMIT, lambda: run_async(fetch_registered(self.urls.app)))
        except DatabaseUnavailableError:
            # The embedded server may come back on another port.
            self.__dict__.pop("urls", None)
            raise

    def prepare(self) -> None:
        """Start the database and bring its tables to this version."""
        from ipaas_resources.store.migrate import is_current, upgrade  # noqa: PLC0415 - alembic, for this alone

        if not is_current(self.urls.owner):
            upgrade(self.urls.owner)

    @contextlib.asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        """The engine with the systems and flows of this moment."""
        async with self.database() as database:
            engine = self.make_engine(database)
            try:
                await engine.load()
                yield engine
            finally:
                await engine.close()

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The run-time connections."""
        database = Database(self.urls.app)
        try:
            yield database
        finally:
            await database.close()

    def make_engine(self, database: Database) -> Engine:
        """The engine, not loaded yet."""
        options = Options(lease=self.settings.lease_seconds, patience=self.settings.patience_seconds)
        return Engine(database, options=options)

    def records_url(self, flow: str, target: str | None = None) -> str:
        """Where the console shows the records of a flow, or of one target of it."""
        host = self.settings.host
        if host in {"0.0.0.0", "::"}:  # noqa: S104 - listens everywhere; a browser needs one address
            host = "localhost"
        query = f"?target={target}" if target else ""
        return f"http://{host}:{self.settings.console_port}/flows/{flow}/records{query}"


def platform_resource(platform: Platform) -> dg.ResourceDefinition:
    """The platform as a resource of the code location. A run that opens it is marked with the process that works on it."""

    def opened(context: dg.InitResourceContext) -> Platform:
        if context.run is not None and context.instance is not None:
            context.instance.add_run_tags(context.run.run_id, {WORKER_TAG: this_worker()})
        return platform

    return dg.ResourceDefinition(opened, description="The platform's database, engine and addresses.")
