"""Tables as the environment itself describes them: `EntityDefinitions`, columns with their casts, relationships.

microsoft.md 2.2 and 2.9. Details of a column come by cast only, one type per request, so all requests for one table go
in one `$batch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.connectors.dataverse.columns import Details, field_of, skipped
from ipaas_resources.connectors.dataverse.lookups import Lookup, companion, lookups_of
from ipaas_resources.core.errors import ProtocolError, SchemaError
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.net.body import MalformedBodyError
from ipaas_resources.net.odata.parts import PartRequest, PartResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.dataverse.api import Api
    from ipaas_resources.core.schema import FieldSchema

Row = dict[str, Any]

_TYPE = "Microsoft.Dynamics.CRM"
_DEFINITIONS = (
    "EntityDefinitions?$select=LogicalName,EntitySetName,PrimaryIdAttribute,PrimaryNameAttribute,"
    "ChangeTrackingEnabled,IsIntersect,IsPrivate,DisplayName,Privileges"
    "&$expand=Attributes($select=LogicalName;$filter=LogicalName%20eq%20'modifiedon')"
)
_ATTRIBUTES = (
    "$select=LogicalName,AttributeType,RequiredLevel,IsValidForCreate,IsValidForUpdate,IsValidForRead,"
    "IsValidODataAttribute"
)
#: Cast -> what is asked of it.
_CASTS: Mapping[str, str] = {
    "String": "$select=LogicalName,MaxLength",
    "Memo": "$select=LogicalName,MaxLength",
    "Integer": "$select=LogicalName,MinValue,MaxValue",
    "Decimal": "$select=LogicalName,Precision,MinValue,MaxValue",
    "Double": "$select=LogicalName,Precision,MinValue,MaxValue",
    "Money": "$select=LogicalName,Precision,MinValue,MaxValue",
    "DateTime": "$select=LogicalName,DateTimeBehavior",
    "Picklist": "$select=LogicalName&$expand=OptionSet,GlobalOptionSet",
    "State": "$select=LogicalName&$expand=OptionSet",
    "Status": "$select=LogicalName&$expand=OptionSet",
    "Lookup": "$select=LogicalName,Targets",
}
_RELATIONSHIPS = "$select=ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName"


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """One table, as the list of all tables shows it."""

    logical_name: str
    entity_set: str
    primary: str
    title: str
    tracked: bool
    timed: bool  # has modifiedon
    privileges: frozenset[str] | None  # kinds of rights that exist on it; None: the answer names none

    def may(self, kind: str) -> bool:
        """Whether rows can be created ("Create"), changed ("Write") or deleted ("Delete") at all."""
        return self.privileges is None or kind in self.privileges


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All that reads and writes of one table need."""

    definition: Definition
    schema: EntitySchema
    lookups: Mapping[str, Lookup]
    #: Key column of every entity that a lookup of this table leads to.
    target_keys: Mapping[str, str]
    creatable_fields: frozenset[str]
    updatable_fields: frozenset[str]
    bulk_create: bool
    bulk_update: bool

    @property
    def entity(self) -> str:
        """Our entity id: the entity set."""
        return self.definition.entity_set

    @property
    def primary(self) -> str:
        """The key column."""
        return self.definition.primary


class Metadata:
    """Reads tables, and keeps what it read until it is asked to look again."""

    def __init__(self, system: str, api: Api) -> None:
        self._system = system
        self._api = api
        self._definitions: dict[str, Definition] = {}  # by entity set
        self._tables: dict[str, Table] = {}

    async def definitions(self) -> Sequence[Definition]:
        """Every table that rows can be read from, as it is now."""
        response = await self._api.client.send("GET", _DEFINITIONS, kind="read", endpoint="EntityDefinitions")
        body = response.json()
        rows = body.get("value") if isinstance(body, dict) else None
        if not isinstance(rows, list):
            raise response.broken("it holds no list of tables")
        # Virtual and intersect tables without a set or a key of one column have no Web API of their own.
        offered = [row for row in rows if row.get("EntitySetName") and row.get("PrimaryIdAttribute")]
        found = [
            _definition(row) for row in offered if not row.get("IsIntersect") and not row.get("IsPrivate")
        ]
        self._definitions = {definition.entity_set: definition for definition in found}
        return found

    async def entity_of(self, logical_name: str) -> str | None:
        """The entity set of a table; None when the environment offers no table of that name."""
        for again in (False, True):
            if again or not self._definitions:
                await self.definitions()
            for definition in self._definitions.values():
                if definition.logical_name == logical_name:
                    return definition.entity_set
        return None

    async def known(self, entity: str) -> Table:
        """The table as last read; read now when it never was. Raises SchemaError when there is none."""
        return self._tables.get(entity) or await self.read(entity)

    async def read(self, entity: str) -> Table:
        """The table as it is now. Raises SchemaError when there is none."""
        if entity not in self._definitions:
            await self.definitions()
        definition = self._definitions.get(entity)
        if definition is None:
            self._tables.pop(entity, None)
            raise SchemaError(
                f"{self._system} has no table with the entity set {entity}; see what `discover` lists. Tables of "
                "apps that are not installed are absent."
            )
        table = self._table(definition, await self._parts(definition))
        self._tables[entity] = table
        self._api.known_names.update(column.name for column in table.schema.fields)
        return table

    async def _parts(self, definition: Definition) -> dict[str, list[Row]]:
        name = definition.logical_name
        base = f"EntityDefinitions(LogicalName='{name}')"
        urls = {
            "Attributes": f"{base}/Attributes?{_ATTRIBUTES}",
            **{
                cast: f"{base}/Attributes/{_TYPE}.{cast}AttributeMetadata?{query}"
                for cast, query in _CASTS.items()
            },
            "Relationships": f"{base}/ManyToOneRelationships?{_RELATIONSHIPS}",
            # Who offers a message is a row of sdkmessagefilters (microsoft.md 2.8 reads it the same way).
            **{message: _offers(name, message) for message in ("CreateMultiple", "UpdateMultiple")},
        }
        answers = await self._api.read_batch([PartRequest(method="GET", url=url) for url in urls.values()])
        return {
            what: self._rows(definition, what, answer) for what, answer in zip(urls, answers, strict=True)
        }

    def _rows(self, definition: Definition, what: str, answer: PartResponse) -> list[Row]:
        error = self._api.part_error(answer, write=False)
        if what.endswith("Multiple") and answer.status == HTTPStatus.FORBIDDEN:
            # A role that may not read sdkmessagefilters: then nothing is known, and single writes always work.
            return []
        if error is not None:
            if answer.status == HTTPStatus.NOT_FOUND:
                raise SchemaError(
                    f"{self._system} does not know the table {definition.logical_name} any more; discover again."
                )
            raise error
        try:
            body = answer.json()
        except MalformedBodyError:
            body = None
        rows = body.get("value") if isinstance(body, dict) else None
        if not isinstance(rows, list):
            raise ProtocolError(
                f"{self._system} described {definition.logical_name} with something that is no list ({what})."
            )
        return rows

    def _table(self, definition: Definition, parts: dict[str, list[Row]]) -> Table:
        details: dict[str, Details] = {
            row["LogicalName"]: Details(cast=cast, row=row) for cast in _CASTS for row in parts[cast]
        }
        sets = {each.logical_name: each.entity_set for each in self._definitions.values()}
        lookups = lookups_of(details, parts["Relationships"], sets)
        shown = [row for row in parts["Attributes"] if not skipped(row)]
        taken = {row["LogicalName"] for row in shown}
        fields: list[FieldSchema] = []
        for row in shown:
            name = row["LogicalName"]
            lookup = lookups.get(name)
            fields.append(
                field_of(
                    row,
                    details.get(name),
                    lookup,
                    table=definition.logical_name,
                    primary=definition.primary,
                )
            )
            if lookup is not None and lookup.polymorphic and lookup.companion not in taken:
                fields.append(companion(lookup, fields[-1]))
        if definition.primary not in taken:
            raise SchemaError(
                f"{self._system} does not show the key {definition.primary} of {definition.entity_set}; give the "
                "application user the right to read it."
            )
        schema = EntitySchema(
            entity=definition.entity_set,
            key=(definition.primary,),
            fields=tuple(fields),
            title=definition.title,
            creatable=definition.may("Create"),
            updatable=definition.may("Write"),
            deletable=definition.may("Delete"),
        )
        return Table(
            definition=definition,
            schema=schema,
            lookups={name: lookup for name, lookup in lookups.items() if name in taken},
            target_keys={
                entity: self._definitions[entity].primary
                for each in lookups.values()
                for entity in each.targets
            },
            creatable_fields=frozenset(field.name for field in fields if field.creatable),
            updatable_fields=frozenset(field.name for field in fields if field.updatable),
            bulk_create=bool(parts["CreateMultiple"]),
            bulk_update=bool(parts["UpdateMultiple"]),
        )


def _offers(logical_name: str, message: str) -> str:
    condition = f"primaryobjecttypecode eq '{logical_name}' and sdkmessageid/name eq '{message}'"
    return f"sdkmessagefilters?$select=primaryobjecttypecode&$filter={condition.replace(' ', '%20')}"


def _definition(row: Row) -> Definition:
    privileges = row.get("Privileges")
    label = (row.get("DisplayName") or {}).get("UserLocalizedLabel") or {}
    return Definition(
        logical_name=row["LogicalName"],
        entity_set=row["EntitySetName"],
        primary=row["PrimaryIdAttribute"],
        title=label.get("Label") or row["LogicalName"],
        tracked=bool(row.get("ChangeTrackingEnabled")),
        timed=bool(row.get("Attributes")),
        privileges=frozenset(each.get("PrivilegeType", "") for each in privileges) if privileges else None,
    )
