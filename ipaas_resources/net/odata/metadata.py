"""$metadata (EDMX, OData v4) -> entity schemas.

The vocabulary is small on purpose: what a mapping can use. Unknown elements and annotations are skipped, so that a product may
add some without breaking discovery.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from ipaas_resources.core.errors import ProtocolError, SchemaError
from ipaas_resources.core.schema import EntitySchema, FieldSchema, FieldType
from ipaas_resources.net.odata.annotations import Annotations, collect
from ipaas_resources.net.odata.names import decode_name
from ipaas_resources.net.safe_xml import MalformedXmlError, local, parse_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_TYPES: Mapping[str, FieldType] = {
    "Edm.String": "text",
    "Edm.Guid": "guid",
    "Edm.Boolean": "boolean",
    "Edm.Byte": "integer",
    "Edm.SByte": "integer",
    "Edm.Int16": "integer",
    "Edm.Int32": "integer",
    "Edm.Int64": "integer",
    "Edm.Decimal": "decimal",
    "Edm.Double": "decimal",
    "Edm.Single": "decimal",
    "Edm.Date": "date",
    "Edm.DateTimeOffset": "datetime",
    "Edm.TimeOfDay": "time",
    "Edm.Duration": "text",
    "Edm.Binary": "text",  # base64
    "Edm.Stream": "file",
}
#: Complex types may hold themselves; deeper than this a value is any JSON.
_DEEPEST = 4


class Navigation(msgspec.Struct, frozen=True, kw_only=True):
    """A way from one entity to another."""

    name: str
    target: str  # qualified entity type
    many: bool
    #: Own property -> the target's property that it refers to.
    constraints: Mapping[str, str] = {}


class EntitySet(msgspec.Struct, frozen=True, kw_only=True):
    """One set of the service."""

    name: str
    type: str  # qualified entity type
    schema: EntitySchema
    navigation: tuple[Navigation, ...]


class Metadata:
    """A parsed document. Schemas are made on demand: Dataverse has a thousand sets, a flow needs two."""

    def __init__(self, content: bytes, *, what: str = "$metadata") -> None:
        """Parse.

        Raises:
            ProtocolError: no XML, a document type inside, or no OData v4 document.
        """
        try:
            root = parse_xml(content)
        except MalformedXmlError as error:
            raise ProtocolError(f"{what} cannot be read: {error}.") from None
        self._types: dict[str, Element] = {}
        self._sets: dict[str, tuple[Element, str]] = {}
        self._aliases: dict[str, str] = {}
        self._actions: dict[str, list[str]] = {}
        schemas = [element for element in root.iter() if local(element) == "Schema"]
        if local(root) != "Edmx" or not schemas:
            raise ProtocolError(f"{what} is no OData metadata document.")
        for schema in schemas:
            if alias := schema.get("Alias"):
                self._aliases[alias] = schema.get("Namespace", "")
        self._annotations = Annotations(self._full)
        for schema in schemas:
            self._read_schema(schema)
        self.what = what

    def sets(self) -> tuple[str, ...]:
        """The names of all entity sets, in the order of the document."""
        return tuple(self._sets)

    def actions(self, name: str) -> tuple[str, ...]:
        """Qualified names of the actions bound to the entity of a set."""
        return tuple(self._actions.get(self._full(self._set(name).get("EntityType", "")), ()))

    def entity_set(self, name: str) -> EntitySet:
        """A set with its schema. Raises SchemaError when there is none of that name."""
        element = self._set(name)
        type_name = self._full(element.get("EntityType", ""))
        chain = self._chain(type_name)
        rights = self._annotations.of(f"{self._sets[name][1]}/{name}", element)
        key = tuple(
            ref.get("Name", "") for each in chain for ref in _children(_child(each, "Key"), "PropertyRef")
        )
        schema = EntitySchema(
            entity=name,
            key=key,
            fields=tuple(
                self._field(property_, owner, key) for owner, property_ in self._properties(type_name, chain)
            ),
            title=rights.text("Org.OData.Core.V1.Description") or "",
            creatable=rights.flag("Org.OData.Capabilities.V1.InsertRestrictions", "Insertable") is not False,
            updatable=rights.flag("Org.OData.Capabilities.V1.UpdateRestrictions", "Updatable") is not False,
            deletable=rights.flag("Org.OData.Capabilities.V1.DeleteRestrictions", "Deletable") is not False,
            readable=rights.flag("Org.OData.Capabilities.V1.ReadRestrictions", "Readable") is not False,
        )
        navigation = tuple(
            self._navigation(each) for owner in chain for each in _children(owner, "NavigationProperty")
        )
        return EntitySet(name=name, type=type_name, schema=schema, navigation=navigation)

    def _read_schema(self, schema: Element) -> None:
        namespace = schema.get("Namespace", "")
        for element in schema:
            match local(element):
                case "EntityType" | "ComplexType" | "EnumType" | "TypeDefinition":
                    self._types[f"{namespace}.{element.get('Name')}"] = element
                case "EntityContainer":
                    path = f"{namespace}.{element.get('Name')}"
                    for each in _children(element, "EntitySet"):
                        self._sets[each.get("Name", "")] = (each, path)
                case "Action" if element.get("IsBound") == "true":
                    bound = next(iter(_children(element, "Parameter")), None)
                    if bound is not None:
                        self._actions.setdefault(self._full(bound.get("Type", "")), []).append(
                            f"{namespace}.{element.get('Name')}"
                        )
                case "Annotations":
                    self._annotations.add(element)

    def _set(self, name: str) -> Element:
        found = self._sets.get(name)
        if found is None:
            raise SchemaError(f"There is no entity {name} in {self.what}.")
        return found[0]

    def _full(self, name: str) -> str:
        """A qualified name with its alias replaced by the namespace."""
        namespace, dot, last = name.rpartition(".")
        return f"{self._aliases.get(namespace, namespace)}{dot}{last}"

    def _chain(self, type_name: str) -> list[Element]:
        """The type and its bases, base first."""
        chain: list[Element] = []
        name: str | None = type_name
        while name and (element := self._types.get(self._full(name))) is not None and element not in chain:
            chain.insert(0, element)
            name = element.get("BaseType")
        if not chain:
            raise SchemaError(f"The entity type {type_name} is not described in {self.what}.")
        return chain

    def _properties(self, type_name: str, chain: list[Element]) -> Iterator[tuple[str, Element]]:
        for each in chain:
            owner = type_name.rpartition(".")[0] + f".{each.get('Name')}"
            for property_ in _children(each, "Property"):
                yield owner, property_

    def _field(self, element: Element, owner: str, key: tuple[str, ...], depth: int = 0) -> FieldSchema:
        name = element.get("Name", "")
        notes = self._annotations.of(f"{owner}/{name}", element)
        declared = element.get("Type", "Edm.String")
        many = declared.startswith("Collection(")
        inner = self._full(declared[11:-1] if many else declared)
        type_, enum, fields = self._type(inner, depth)
        if many:
            type_ = "lines" if fields else "list"
        creatable, updatable = notes.rights()
        return FieldSchema(
            name=name,
            type=type_,
            nullable=element.get("Nullable", "true") != "false" and name not in key,
            creatable=creatable,
            updatable=updatable and name not in key,
            max_length=_whole(element.get("MaxLength")),
            scale=_whole(element.get("Scale")) if type_ == "decimal" else None,
            enum=None if many else enum,
            fields=fields,
            description=notes.text("Org.OData.Core.V1.Description") or "",
        )

    def _type(
        self, name: str, depth: int
    ) -> tuple[FieldType, tuple[str | int, ...] | None, tuple[FieldSchema, ...]]:
        if name in _TYPES:
            return _TYPES[name], None, ()
        element = self._types.get(name)
        match local(element) if element is not None else "":
            case "EnumType" if element is not None:
                members = tuple(decode_name(each.get("Name", "")) for each in _children(element, "Member"))
                return "enum", members, ()
            case "TypeDefinition" if element is not None and depth < _DEEPEST:
                return self._type(self._full(element.get("UnderlyingType", "")), depth + 1)
            case "ComplexType" if depth < _DEEPEST:
                chain = self._chain(name)
                fields = tuple(
                    self._field(each, owner, (), depth + 1) for owner, each in self._properties(name, chain)
                )
                return "object", None, fields
            case _:
                return "any", None, ()

    def _navigation(self, element: Element) -> Navigation:
        declared = element.get("Type", "")
        many = declared.startswith("Collection(")
        return Navigation(
            name=element.get("Name", ""),
            target=self._full(declared[11:-1] if many else declared),
            many=many,
            constraints={
                each.get("Property", ""): each.get("ReferencedProperty", "")
                for each in _children(element, "ReferentialConstraint")
            },
        )


def _whole(text: str | None) -> int | None:
    """A length or scale; None for `max`, `variable` and `floating`."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _children(element: Element | None, name: str) -> list[Element]:
    return collect(element, name)


def _child(element: Element, name: str) -> Element | None:
    return next(iter(collect(element, name)), None)
