"""Lookup columns: one id in our documents, a navigation property in a write, two properties in a read.

The canonical value of a lookup is always the plain GUID, also where it may lead to several tables: ids are unique in
the whole environment, so it names its row. Which table that is stands beside it, in a companion field that is called
after the column (`parentcustomerid` -> `parentcustomeridtype`, as Dataverse calls its own hidden column) and holds our
entity id ("accounts"). microsoft.md 2.2.

A write of a polymorphic lookup needs the table: from the companion in the same write, from a value of the form
`{"entity": "accounts", "id": "<guid>"}`, and otherwise the environment is asked which table holds the id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.core.schema import FieldSchema
from ipaas_resources.net.canonical import guid
from ipaas_resources.net.convert import Codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.dataverse.columns import Details
    from ipaas_resources.core.values import Value

Row = dict[str, Any]

_ANNOTATION = "Microsoft.Dynamics.CRM.lookuplogicalname"
#: Asks for the annotations that companions are read from.
ANNOTATIONS = f'odata.include-annotations="{_ANNOTATION}"'
# Relationships of an owner column name one table that stands for users and teams alike.
_OWNER = "owner"


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """One lookup column."""

    name: str
    #: Our entity id -> navigation property that leads there, in the order of the metadata.
    targets: Mapping[str, str]
    #: Logical name -> our entity id, for every target that the environment has.
    sets: Mapping[str, str]

    @property
    def polymorphic(self) -> bool:
        """Whether it may lead to several tables."""
        return len(self.targets) > 1

    @property
    def companion(self) -> str:
        """The field that names the table, for a polymorphic one."""
        return f"{self.name}type"

    @property
    def annotation(self) -> str:
        """The property that names the table in a read."""
        return f"_{self.name}_value@{_ANNOTATION}"


def lookups_of(
    details: Mapping[str, Details], relationships: Sequence[Row], sets: Mapping[str, str]
) -> dict[str, Lookup]:
    """Lookups by column name. Targets of tables that the environment does not have are left out."""
    navigation: dict[tuple[str, str], str] = {}
    for row in relationships:
        key = (row["ReferencingAttribute"], row["ReferencedEntity"])
        navigation[key] = row["ReferencingEntityNavigationPropertyName"]
    found: dict[str, Lookup] = {}
    for name, column in details.items():
        if column.cast != "Lookup":
            continue
        targets = [target for target in column.row.get("Targets") or () if target in sets]
        ways = {
            sets[target]: way
            for target in targets
            if (way := navigation.get((name, target)) or navigation.get((name, _OWNER)))
        }
        found[name] = Lookup(name=name, targets=ways, sets={target: sets[target] for target in targets})
    return found


def companion(lookup: Lookup, field: FieldSchema) -> FieldSchema:
    """The field beside a polymorphic lookup."""
    return FieldSchema(
        name=lookup.companion,
        type="enum",
        creatable=field.creatable,
        updatable=field.updatable,
        enum=tuple(lookup.targets),
        wire=lookup.annotation,
        description=f"The entity that {lookup.name} leads to.",
    )


def codecs(lookups: Mapping[str, Lookup], companions: Mapping[str, Lookup]) -> dict[str, Codec]:
    """How lookups are written and companions read."""
    made = {name: Codec(write=_Binder(lookup).write) for name, lookup in lookups.items()}
    for name, lookup in companions.items():
        made[name] = Codec(read=_reader(lookup), write=_nothing)
    return made


def _reader(lookup: Lookup) -> Any:
    sets = lookup.sets

    def read(value: Value) -> Value:
        return None if value is None else sets[value] if value in sets else _foreign(value)

    return read


def _foreign(value: Value) -> str:
    # A table that came after the metadata was read: its logical name is better than a record set aside.
    if isinstance(value, str):
        return value
    raise ValueError("it names no table")


def _nothing(_value: Value) -> Mapping[str, Any]:
    # The companion travels inside the bind of its lookup.
    return {}


class _Binder:
    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def write(self, value: Value) -> Mapping[str, Any]:
        """`{"primarycontactid@odata.bind": "/contacts(<guid>)"}`; null takes the link away."""
        targets = self._lookup.targets
        if value is None:
            return {f"{next(iter(targets.values()))}@odata.bind": None}
        entity, identifier = split(value)
        if entity is None:
            if self._lookup.polymorphic:
                raise ValueError("it leads to a record that is in none of its tables")
            entity = next(iter(targets))
        if entity not in targets:
            raise ValueError(f"it cannot lead to {entity if entity.isidentifier() else 'that entity'}")
        return {f"{targets[entity]}@odata.bind": f"/{entity}({guid(identifier)})"}


def split(value: Value) -> tuple[str | None, Value]:
    """Entity and id of a lookup's value; no entity for a plain id."""
    if isinstance(value, dict) and value.keys() == {"entity", "id"} and isinstance(value["entity"], str):
        return value["entity"], value["id"]
    return None, value
