"""What is publicly known of the entity sets of Business Central API v2.0 (W1), read from `fixtures/entities.json`.

The live `$metadata` of an environment is the truth about which sets and fields there are; it does not say which fields
the API pages refuse to change, nor which text is an AL `Code` (stored in upper case, compared without case). The
catalogue adds that. Source: AL pages and tables of microsoft/BCApps, cross-checked with the documentation (the file's
`about`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec

_FILE = Path(__file__).parent / "fixtures" / "entities.json"

ColumnType = Literal[
    "text", "guid", "decimal", "integer", "long", "boolean", "date", "datetime", "enum", "stream"
]


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One property of an entity set."""

    name: str
    type: ColumnType
    max_length: int | None = None
    enum: str = ""  # the enum's name
    members: tuple[str, ...] = ()  # its members, spelled as on the wire
    readonly: bool = False  # the API page refuses it in POST and PATCH
    code: bool = False  # AL Code: upper case, compared without case
    required: bool = False  # a POST without it is refused
    filter_only: bool = False  # a query's filter, in no answer
    ref: tuple[str, str] | None = None  # (entity set, property) of the related record


class EntitySet(msgspec.Struct, frozen=True, kw_only=True):
    """One entity set of the standard route."""

    name: str  # on the wire: salesOrders
    entity: str  # in the platform: sales_orders
    type_name: str  # EDM type without namespace: salesOrder
    key: tuple[str, ...]
    insert: bool
    modify: bool
    delete: bool
    cursor: str | None  # the property for incremental reads
    documented: bool
    root: bool  # not below a company
    navigation: dict[str, tuple[str, bool]]  # property -> (entity set, many)
    lines: str | None  # the navigation property whose records belong to the document
    header: str | None  # of a line set: the entity set of its documents
    columns: dict[str, Column]

    @property
    def parent_key(self) -> str | None:
        """Of a line set: the property that names its document."""
        if self.header is None:
            return None
        for name in ("documentId", "documentNumber", "orderNumber"):
            if name in self.columns:
                return name
        return None


class Catalogue(msgspec.Struct, frozen=True):
    """Every known entity set, by its name on the wire and by the platform's entity id."""

    sets: dict[str, EntitySet]
    entities: dict[str, EntitySet]


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The catalogue, read once per process."""
    raw = msgspec.json.decode(_FILE.read_bytes())
    enums = {name: tuple(members) for name, members in raw["enums"].items()}
    headers = {row["navigation"][row["lines"]][:-2]: row["set"] for row in raw["sets"] if "lines" in row}
    sets = {row["set"]: _entity_set(row, enums, headers) for row in raw["sets"]}
    return Catalogue(sets, {known.entity: known for known in sets.values()})


def entity_id(set_name: str) -> str:
    """The platform's entity id of an entity set: salesOrders -> sales_orders."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", set_name).lower()


def _entity_set(row: dict[str, Any], enums: dict[str, tuple[str, ...]], headers: dict[str, str]) -> EntitySet:
    columns = [_column(text, enums) for text in row["fields"]]
    return EntitySet(
        name=row["set"],
        entity=entity_id(row["set"]),
        type_name=row["entity"],
        key=tuple(row["key"]),
        insert="C" in row["access"],
        modify="U" in row["access"],
        delete="D" in row["access"],
        cursor=row.get("cursor"),
        documented=row.get("documented", False),
        root=row.get("root", False),
        navigation={
            name: (target.removesuffix("[]"), target.endswith("[]"))
            for name, target in row.get("navigation", {}).items()
        },
        lines=row.get("lines"),
        header=headers.get(row["set"]),
        columns={column.name: column for column in columns},
    )


_TYPE = re.compile(r"(\w+)(?:\((\w+)\))?")


def _column(text: str, enums: dict[str, tuple[str, ...]]) -> Column:
    name, kind, *flags = text.split()
    match = _TYPE.fullmatch(kind)
    if match is None:
        raise ValueError(f"the catalogue's field {text!r} cannot be read")
    base, detail = match.groups()
    ref = next((flag[4:].partition(".") for flag in flags if flag.startswith("ref=")), None)
    return msgspec.convert(
        {
            "name": name,
            "type": base,
            "max_length": int(detail) if base == "text" and detail else None,
            "enum": detail if base == "enum" else "",
            "members": enums[detail] if base == "enum" else (),
            "readonly": "readonly" in flags,
            "code": "code" in flags,
            "required": "required" in flags,
            "filter_only": "filter" in flags,
            "ref": (ref[0], ref[2]) if ref else None,
        },
        Column,
    )
