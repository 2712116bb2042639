"""The Business Central connector: the contract of `connectors/base.py` over API v2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipaas_resources.connectors.base import EntityInfo, Health
from ipaas_resources.connectors.business_central.companies import Companies
from ipaas_resources.connectors.business_central.config import SECRET, Settings, read_settings
from ipaas_resources.connectors.business_central.entities import Entities
from ipaas_resources.connectors.business_central.finder import Finder
from ipaas_resources.connectors.business_central.outcomes import explain_response
from ipaas_resources.connectors.business_central.reader import Reader
from ipaas_resources.connectors.business_central.subscriptions import Subscriptions
from ipaas_resources.connectors.business_central.writer import Writer
from ipaas_resources.core.limits import BudgetKey
from ipaas_resources.net.auth import ClientCredentials
from ipaas_resources.net.client import HttpClient, Timeouts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ipaas_resources.connectors.base import (
        Connector,
        Environment,
        FileOpener,
        Manifest,
        SystemDocument,
    )
    from ipaas_resources.connectors.subscribing import Remote, Wanted
    from ipaas_resources.core.records import Cursor, FileRef, Found, KeyPage, Operation, Page, WriteResult
    from ipaas_resources.core.schema import EntitySchema
    from ipaas_resources.core.values import Value


class BusinessCentral:
    """One environment of Business Central, its companies as scopes."""

    def __init__(
        self, document: SystemDocument, manifest: Manifest, environment: Environment, settings: Settings
    ) -> None:
        self.manifest = manifest
        self._settings = settings
        self._auth = ClientCredentials(
            system=document.system,
            authority=f"{settings.login_url}/{settings.tenant_id}",
            client_id=settings.client_id,
            secret=lambda: environment.secret(SECRET),
            scope=settings.oauth_scope,
            clock=environment.clock,
            ids=environment.ids,
            transport=environment.transport,
            ca_file=environment.ca_file,
        )
        self._client = HttpClient(
            system=document.system,
            base_url=f"{settings.base_url}/api/v2.0",
            clock=environment.clock,
            ids=environment.ids,
            limits=environment.limits,
            # Limits are per user, and an application is one user, whatever company it works in.
            budget=BudgetKey(document.system, settings.client_id, ""),
            policy=environment.policy or (document.limits or manifest.limits).policy(),
            breaker=environment.breaker,
            auth=self._auth,
            # Errors in English, numbers and dates without a locale (BC developer/devenv-connect-apps-tips.md).
            headers={"accept-language": "en-US"},
            transport=environment.transport,
            ca_file=environment.ca_file,
            explain=explain_response,
            count_call=environment.count_call,
        )
        self._companies = Companies(self._client, document.scopes)
        self._entities = Entities(
            self._client, environment.clock, settings.metadata_age, document.sensitivity
        )
        self._reader = Reader(
            self._client, environment.clock, self._companies, self._entities, settings.overlap
        )
        self._finder = Finder(self._client, self._companies, self._entities, self._reader)
        timeout = settings.batch_timeout
        self._writer = Writer(
            self._client,
            ids=environment.ids,
            manifest=manifest,
            companies=self._companies,
            entities=self._entities,
            finder=self._finder,
            timeouts=Timeouts(read=timeout, total=timeout + 60),
        )

        self._subscriptions = Subscriptions(
            self._client,
            clock=environment.clock,
            environment_url=settings.base_url,
            companies=self._companies,
            entities=self._entities,
        )

    async def check(self) -> Health:
        """Sign in, read the companies, find every scope among them."""
        await self._companies.resolve(again=True)
        scopes = self._companies.names
        return Health(
            product="Microsoft Dynamics 365 Business Central",
            detail=f"API v2.0 at {self._settings.base_url}; {len(scopes)} of its companies are in use",
            scopes=scopes,
        )

    async def scopes(self) -> Sequence[str]:
        """The companies of the system document, by our names."""
        return self._companies.names

    async def scope_of(self, company: str) -> str | None:
        """Our scope of a company's id, as deliveries name it."""
        return await self._companies.scope_of(company)

    async def discover(self) -> Sequence[EntityInfo]:
        """Every entity set of the route."""
        return [
            EntityInfo(
                entity=entity.schema.entity,
                title=entity.schema.title,
                incremental=entity.cursor is not None,
                writable=entity.schema.creatable or entity.schema.updatable,
            )
            for entity in await self._entities.all()
        ]

    async def schema(self, entity: str) -> EntitySchema:
        """The live schema of one entity."""
        return (await self._entities.get(entity)).schema

    def changes(
        self,
        entity: str,
        scope: str,
        cursor: Cursor | None,
        *,
        page_size: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """Changes since the cursor; all records when it is None."""
        size = page_size or self.manifest.capabilities(entity).page_size
        return self._reader.changes(entity, scope, cursor, size=size, fields=fields)

    async def acknowledge(self, entity: str, scope: str, cursor: Cursor) -> None:
        """Nothing waits for it here."""

    async def read(self, entity: str, scope: str, ids: Sequence[str]) -> list[Found | None]:
        """The records of these ids."""
        return await self._finder.read(entity, scope, ids) if ids else []

    def keys(self, entity: str, scope: str, fields: Sequence[str] = ()) -> AsyncIterator[KeyPage]:
        """All record ids, with the values of these fields."""
        return self._reader.keys(entity, scope, fields)

    async def find(
        self, entity: str, scope: str, fields: Sequence[str], values: Sequence[tuple[Value, ...]]
    ) -> list[list[Found]]:
        """Per tuple of key values, every record that carries them."""
        return await self._finder.find(entity, scope, fields, values) if values else []

    async def write(self, entity: str, scope: str, operations: Sequence[Operation]) -> list[WriteResult]:
        """Send operations, one result each."""
        return await self._writer.write(entity, scope, operations)

    @property
    def open_source(self) -> FileOpener | None:
        """Opens the files of operations in their source system."""
        return self._writer.open_source

    @open_source.setter
    def open_source(self, opener: FileOpener | None) -> None:
        self._writer.open_source = opener

    async def open_file(self, file: FileRef, scope: str) -> AsyncIterator[bytes]:
        """The bytes of a stream property."""
        company = await self._companies.of(scope)
        endpoint = f"{file.id.partition('(')[0]}/{file.id.rpartition('/')[2]}"
        async for chunk in self._client.stream(f"companies({company.id})/{file.id}", endpoint=endpoint):
            yield chunk

    async def subscribable(self, entity: str, scope: str) -> str:
        """Why changes of this entity are not sent; '' when they are."""
        return await self._subscriptions.subscribable(entity, scope)

    async def list_subscriptions(self) -> Sequence[Remote]:
        """Every subscription of the environment."""
        return await self._subscriptions.listed()

    def is_current(self, remote: Remote, wanted: Wanted) -> bool:
        """Whether it is what is wanted."""
        return self._subscriptions.is_current(remote, wanted)

    async def subscribe(self, wanted: Wanted) -> Remote:
        """Make a subscription; the product asks the URL meanwhile."""
        return await self._subscriptions.subscribe(wanted)

    async def renew(self, remote: Remote, wanted: Wanted) -> Remote:
        """Give it three more days; the product asks the URL again."""
        return await self._subscriptions.renew(remote, wanted)

    async def unsubscribe(self, remote: Remote) -> None:
        """Take it away."""
        await self._subscriptions.unsubscribe(remote)

    async def close(self) -> None:
        """Give connections back."""
        await self._client.close()
        await self._auth.close()


def create(document: SystemDocument, manifest: Manifest, environment: Environment) -> Connector:
    """A connector for this system. Raises ConfigurationError, naming every fault."""
    return BusinessCentral(document, manifest, environment, read_settings(document))
