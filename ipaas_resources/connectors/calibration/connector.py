"""The calibration management system as a connector (Qualer API v1; other_systems.md section 16.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipaas_resources.connectors.base import EntityInfo, Health
from ipaas_resources.connectors.calibration.client import CalibrationClient
from ipaas_resources.connectors.calibration.entities import ENTITIES, INCREMENTAL, schema_of
from ipaas_resources.connectors.calibration.finder import Finder
from ipaas_resources.connectors.calibration.reader import Reader
from ipaas_resources.connectors.calibration.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ipaas_resources.connectors.base import Environment, Manifest, SystemDocument
    from ipaas_resources.core.records import Cursor, FileRef, Found, KeyPage, Operation, Page, WriteResult
    from ipaas_resources.core.schema import EntitySchema
    from ipaas_resources.core.values import Value


class CalibrationConnector:
    """One tenant. It has no scopes; ids are integers as text."""

    def __init__(self, document: SystemDocument, manifest: Manifest, environment: Environment) -> None:
        self.manifest = manifest
        self._client = CalibrationClient(document, manifest, environment)
        self._reader = Reader(self._client, manifest)
        self._finder = Finder(self._client, self._reader)
        self._writer = Writer(self._client, self._finder, manifest)

    async def check(self) -> Health:
        """Ask for one client."""
        await self._client.rows("api/service/clients", {"model.take": 1}, endpoint="clients")
        return Health(
            product="Qualer API v1", detail="signed in; the list of clients can be read", scopes=("",)
        )

    async def scopes(self) -> Sequence[str]:
        """None."""
        return ("",)

    async def discover(self) -> Sequence[EntityInfo]:
        """The entities of the API description; the product has no metadata call."""
        return [
            EntityInfo(
                entity=name,
                title=schema.title,
                incremental=name in INCREMENTAL,
                writable=schema.creatable or schema.updatable,
            )
            for name, schema in ENTITIES.items()
        ]

    async def schema(self, entity: str) -> EntitySchema:
        """The schema of one entity."""
        return schema_of(entity)

    def changes(
        self,
        entity: str,
        scope: str,
        cursor: Cursor | None,
        *,
        page_size: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """Changes since the cursor, see Reader.changes."""
        del scope
        return self._reader.changes(entity, cursor, page_size=page_size, fields=fields)

    async def acknowledge(self, entity: str, scope: str, cursor: Cursor) -> None:
        """Nothing is queued on the other side."""
        del entity, scope, cursor

    async def read(self, entity: str, scope: str, ids: Sequence[str]) -> list[Found | None]:
        """Records by id, one call each."""
        del scope
        return await self._reader.read(entity, ids)

    def keys(self, entity: str, scope: str, fields: Sequence[str] = ()) -> AsyncIterator[KeyPage]:
        """All record ids."""
        del scope
        return self._reader.keys(entity, fields)

    async def find(
        self, entity: str, scope: str, fields: Sequence[str], values: Sequence[tuple[Value, ...]]
    ) -> list[list[Found]]:
        """Records by key."""
        del scope
        return await self._finder.find(entity, fields, values)

    async def write(self, entity: str, scope: str, operations: Sequence[Operation]) -> list[WriteResult]:
        """One call per operation, side by side within the budget."""
        del scope
        return await self._writer.write(entity, operations)

    def open_file(self, file: FileRef, scope: str) -> AsyncIterator[bytes]:
        """The bytes of a document."""
        del scope
        return self._client.download(file.id)

    async def close(self) -> None:
        """Give connections back."""
        await self._client.close()


def create(document: SystemDocument, manifest: Manifest, environment: Environment) -> CalibrationConnector:
    """A connector for this system. Sends nothing yet.

    Raises:
        ConfigurationError: the settings are wrong, all faults named at once.
    """
    return CalibrationConnector(document, manifest, environment)
