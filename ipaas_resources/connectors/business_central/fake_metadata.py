"""Documents that describe the route: $metadata in Business Central's shape, the service document, captions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from ipaas_resources.connectors.fakes import dumps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipaas_resources.connectors.business_central.catalogue import Catalogue, Column, EntitySet

_EDM = {
    "text": "Edm.String",
    "guid": "Edm.Guid",
    "decimal": "Edm.Decimal",
    "integer": "Edm.Int32",
    "long": "Edm.Int64",
    "boolean": "Edm.Boolean",
    "date": "Edm.Date",
    "datetime": "Edm.DateTimeOffset",
    "stream": "Edm.Stream",
}
_CAPABILITIES = "Org.OData.Capabilities.V1."


def metadata(known: Catalogue) -> bytes:
    """The EDMX of the route. Like the product's it has lengths and enums, and no word about read-only fields."""
    enums: dict[str, tuple[str, ...]] = {}
    for entity_set in known.sets.values():
        for column in entity_set.columns.values():
            if column.enum:
                enums[column.enum] = column.members
    parts = [
        (
            '<?xml version="1.0" encoding="utf-8"?>'
            '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>'
            '<Schema Namespace="Microsoft.NAV" Alias="NAV" xmlns="http://docs.oasis-open.org/odata/ns/edm">'
        )
    ]
    parts += [_enum(name, members) for name, members in enums.items()]
    parts += [_type(entity_set, known.sets) for entity_set in known.sets.values()]
    parts.append('<EntityContainer Name="NAV">')
    parts += [_set(entity_set) for entity_set in known.sets.values()]
    parts.append("</EntityContainer></Schema></edmx:DataServices></edmx:Edmx>")
    return "\n".join(parts).encode()


def _enum(name: str, members: tuple[str, ...]) -> str:
    inner = "".join(
        f'<Member Name={quoteattr(member)} Value="{value}" />' for value, member in enumerate(members)
    )
    return f"<EnumType Name={quoteattr(name)}>{inner}</EnumType>"


def _type(entity_set: EntitySet, sets: Mapping[str, EntitySet]) -> str:
    keys = "".join(f'<PropertyRef Name="{name}" />' for name in entity_set.key)
    properties = "".join(_property(column, entity_set) for column in entity_set.columns.values())
    navigation = "".join(
        f'<NavigationProperty Name="{name}" Type="{_navigation_type(sets[target], many=many)}" ContainsTarget="true" />'
        for name, (target, many) in entity_set.navigation.items()
    )
    if entity_set.name == "companies":
        navigation = "".join(
            f'<NavigationProperty Name="{s.name}" Type="Collection(Microsoft.NAV.{s.type_name})" '
            'ContainsTarget="true" />'
            for s in sets.values()
            if not s.root
        )
    key = f"<Key>{keys}</Key>" if keys else ""
    return f'<EntityType Name="{entity_set.type_name}">{key}{properties}{navigation}</EntityType>'


def _navigation_type(target: EntitySet, *, many: bool) -> str:
    name = f"Microsoft.NAV.{target.type_name}"
    return f"Collection({name})" if many else name


def _property(column: Column, entity_set: EntitySet) -> str:
    edm = f"Microsoft.NAV.{column.enum}" if column.type == "enum" else _EDM[column.type]
    name = f"{column.name}_FilterOnly" if column.filter_only else column.name
    extra = f' MaxLength="{column.max_length}"' if column.max_length else ""
    if column.type == "decimal":
        extra += ' Scale="Variable"'
    if column.name in entity_set.key:
        extra += ' Nullable="false"'
    return f'<Property Name="{name}" Type="{edm}"{extra} />'


def _set(entity_set: EntitySet) -> str:
    rights = (
        ("ChangeTracking", "Supported", False),  # delta links are gone since v24
        ("DeleteRestrictions", "Deletable", entity_set.delete),
        ("InsertRestrictions", "Insertable", entity_set.insert),
        ("UpdateRestrictions", "Updatable", entity_set.modify),
    )
    inner = "".join(
        f'<Annotation Term="{_CAPABILITIES}{term}"><Record><PropertyValue Property="{name}" '
        f'Bool="{str(value).lower()}" /></Record></Annotation>'
        for term, name, value in rights
    )
    return f'<EntitySet Name="{entity_set.name}" EntityType="Microsoft.NAV.{entity_set.type_name}">{inner}</EntitySet>'


def service_document(known: Catalogue, base: str) -> bytes:
    """GET {base}/api/v2.0."""
    sets = [{"name": name, "kind": "EntitySet", "url": name} for name in known.sets]
    return dumps({"@odata.context": f"{base}/$metadata", "value": sets})


def entity_definitions(known: Catalogue, base: str) -> bytes:
    """Localized captions of entities, fields and enum values (BC developer/devenv-develop-custom-api.md)."""
    return dumps(
        {
            "@odata.context": f"{base}/$metadata#entityDefinitions",
            "value": [
                {
                    "entityName": s.type_name,
                    "entitySetName": s.name,
                    "entityCaptions": [{"languageCode": 1033, "caption": _caption(s.type_name)}],
                    "entitySetCaptions": [{"languageCode": 1033, "caption": _caption(s.name)}],
                    "properties": [
                        {"name": name, "captions": [{"languageCode": 1033, "caption": _caption(name)}]}
                        for name in s.columns
                    ],
                }
                for s in known.sets.values()
            ],
        }
    )


def _caption(name: str) -> str:
    return "".join(f" {letter}" if letter.isupper() else letter for letter in name).strip().capitalize()
