"""The Dataverse connector: one environment, reached by its Web API 9.2.

Entities are entity sets (`accounts`), fields are columns, `parentcustomeridtype` and its like stand beside lookups that
may lead to several tables (see lookups.py). What a system document needs is in config.py, what Dataverse does to a
client in README.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ipaas_resources.connectors.base import EntityCapabilities, EntityInfo, Health
from ipaas_resources.connectors.dataverse.api import Api
from ipaas_resources.connectors.dataverse.config import settings_of
from ipaas_resources.connectors.dataverse.finder import Finder
from ipaas_resources.connectors.dataverse.metadata import Metadata
from ipaas_resources.connectors.dataverse.reader import Reader, Views
from ipaas_resources.connectors.dataverse.subscriptions import Subscriptions
from ipaas_resources.connectors.dataverse.writer import Writer
from ipaas_resources.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ipaas_resources.connectors.base import Environment, Manifest, SystemDocument
    from ipaas_resources.connectors.dataverse.config import DataverseSettings
    from ipaas_resources.connectors.dataverse.metadata import Table
    from ipaas_resources.connectors.subscribing import Remote, Wanted
    from ipaas_resources.core.records import (
        Cursor,
        FileRef,
        Found,
        KeyPage,
        Operation,
        Page,
        WriteResult,
    )
    from ipaas_resources.core.schema import EntitySchema
    from ipaas_resources.core.values import Value


class DataverseConnector:
    """One Dataverse environment."""

    #: As in manifest.yaml, lowered by the settings, and per table by what its metadata says once it was read.
    manifest: Manifest

    def __init__(
        self, system: str, settings: DataverseSettings, manifest: Manifest, environment: Environment
    ) -> None:
        self.manifest = _configured(manifest, settings)
        self._settings = settings
        self._system = system
        self._api = Api(system, settings, manifest, environment)
        self._metadata = Metadata(system, self._api)
        views = Views()
        self._reader = Reader(self._api, self._metadata, views, settings, environment.clock)
        self._finder = Finder(self._reader, self._metadata, views)
        self._writer = Writer(self._api, self._metadata, views, self._reader, settings)
        self._subscriptions = Subscriptions(system, self._api, self._metadata)

    async def check(self) -> Health:
        """Sign in and ask who we are there."""
        response = await self._api.client.send("GET", "WhoAmI", kind="read", endpoint="WhoAmI")
        body = response.json()
        if not isinstance(body, dict) or "UserId" not in body:
            raise response.broken("it does not say who we are")
        return Health(
            product="Microsoft Dataverse",
            detail=f"organization {body.get('OrganizationId')}, application user {body['UserId']}",
        )

    async def scopes(self) -> Sequence[str]:
        """No scopes."""
        return ("",)

    async def discover(self) -> Sequence[EntityInfo]:
        """Every table with an entity set."""
        return [
            EntityInfo(
                entity=table.entity_set,
                title=table.title,
                incremental=table.tracked or table.timed,
                writable=table.may("Create") or table.may("Write"),
            )
            for table in await self._metadata.definitions()
        ]

    async def entity_of(self, table: str) -> str | None:
        """Our entity of a table's logical name, as deliveries name it."""
        return await self._metadata.entity_of(table)

    async def schema(self, entity: str) -> EntitySchema:
        """The columns of one table, read anew."""
        table = await self._metadata.read(entity)
        self.manifest = _refined(self.manifest, table, self._settings)
        return table.schema

    def changes(
        self,
        entity: str,
        scope: str,
        cursor: Cursor | None,
        *,
        page_size: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """All rows, then deltas; by modifiedon where the table is not tracked."""
        del scope
        return self._reader.changes(entity, cursor, page_size, fields)

    async def acknowledge(self, entity: str, scope: str, cursor: Cursor) -> None:
        """Delta links are not consumed: nothing to do."""

    async def read(self, entity: str, scope: str, ids: Sequence[str]) -> list[Found | None]:
        """Rows by id."""
        del scope
        return await self._reader.read(entity, ids, self._capabilities(entity).read_batch)

    def keys(self, entity: str, scope: str, fields: Sequence[str] = ()) -> AsyncIterator[KeyPage]:
        """Every id."""
        del scope
        return self._reader.keys(entity, fields)

    async def find(
        self, entity: str, scope: str, fields: Sequence[str], values: Sequence[tuple[Value, ...]]
    ) -> list[list[Found]]:
        """Rows by key values; no alternate key needs to be defined."""
        del scope
        return await self._finder.find(entity, fields, values, self._capabilities(entity).find_batch)

    async def write(self, entity: str, scope: str, operations: Sequence[Operation]) -> list[WriteResult]:
        """Create, update, delete; see writer.py."""
        del scope
        return await self._writer.write(entity, operations)

    def open_file(self, file: FileRef, scope: str) -> AsyncIterator[bytes]:
        """File and image columns are not offered as fields, so there is nothing to open."""
        del file, scope
        return self._no_files()

    async def _no_files(self) -> AsyncIterator[bytes]:
        _raise_no_files(self._system)
        yield b""

    async def subscribable(self, entity: str, scope: str) -> str:
        """Why changes of this table are not sent; '' when they are."""
        del scope
        return await self._subscriptions.subscribable(entity)

    async def list_subscriptions(self) -> Sequence[Remote]:
        """Every webhook endpoint of the environment."""
        return await self._subscriptions.listed()

    def is_current(self, remote: Remote, wanted: Wanted) -> bool:
        """Whether it is what is wanted, with all its steps."""
        return self._subscriptions.is_current(remote, wanted)

    async def subscribe(self, wanted: Wanted) -> Remote:
        """Make an endpoint with its steps."""
        return await self._subscriptions.subscribe(wanted)

    async def renew(self, remote: Remote, wanted: Wanted) -> Remote:
        """Bring endpoint and steps in order; they do not expire."""
        return await self._subscriptions.renew(remote, wanted)

    async def unsubscribe(self, remote: Remote) -> None:
        """Take steps and endpoint away."""
        await self._subscriptions.unsubscribe(remote)

    async def close(self) -> None:
        """Give connections back."""
        await self._api.close()

    def _capabilities(self, entity: str) -> EntityCapabilities:
        return self.manifest.capabilities(entity)


def create(document: SystemDocument, manifest: Manifest, environment: Environment) -> DataverseConnector:
    """A connector for this system. Raises ConfigurationError, all faults named at once."""
    return DataverseConnector(document.system, settings_of(document), manifest, environment)


def _configured(manifest: Manifest, settings: DataverseSettings) -> Manifest:
    defaults = manifest.defaults.model_copy(
        update={
            "write_batch": min(settings.write_batch, manifest.defaults.write_batch),
            "page_size": settings.page_size,
            # Without *Multiple calls every create and update is a PATCH that returns the row.
            "returns_document": manifest.defaults.returns_document or not settings.bulk,
        }
    )
    return manifest.model_copy(update={"defaults": defaults})


def _refined(manifest: Manifest, table: Table, settings: DataverseSettings) -> Manifest:
    """The manifest with what is true of this table in this environment."""
    single = not settings.bulk or not (table.bulk_create or table.bulk_update)
    learned = {
        "deletes": "tombstones" if table.definition.tracked else "listing",
        "returns_document": single,
    }
    return manifest.model_copy(
        update={
            "entities": {
                **manifest.entities,
                table.entity: {**manifest.entities.get(table.entity, {}), **learned},
            }
        }
    )


def _raise_no_files(system: str) -> NoReturn:
    raise ConfigurationError(
        f"System {system} (dataverse) offers no file fields; take the file out of the flow."
    )
