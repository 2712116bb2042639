"""Finding records by key values: a filter per batch of values, and each row given back to the values it carries.

Dataverse compares text as its database does: without case, accents and trailing blanks. Our folding is close to that,
not equal; a row that fits none of the asked values is asked for again with fewer of them, until one remains.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import quote

from ipaas_resources.core.errors import RefusedRecordError, SchemaError
from ipaas_resources.core.values import unescape_text
from ipaas_resources.net.odata.query import all_of, any_of, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.dataverse.metadata import Metadata
    from ipaas_resources.connectors.dataverse.reader import Reader, Views
    from ipaas_resources.connectors.dataverse.view import View
    from ipaas_resources.core.records import Found
    from ipaas_resources.core.schema import FieldSchema
    from ipaas_resources.core.values import Value

Key = tuple["Value", ...]

#: Characters of an encoded filter; well under the 32 kB that the address of a request may have.
_LONGEST = 8000


def fold(value: Value) -> Value:
    """What values share that Dataverse calls equal, as near as we can tell."""
    if not isinstance(value, str):
        return value
    text = unescape_text(value)
    if text.isascii():
        return text.lower().rstrip(" ")
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold().rstrip(" ")


class Finder:
    """Looks records up by key."""

    def __init__(self, reader: Reader, metadata: Metadata, views: Views) -> None:
        self._reader = reader
        self._metadata = metadata
        self._views = views

    async def find(
        self, entity: str, fields: Sequence[str], values: Sequence[Key], batch: int
    ) -> list[list[Found]]:
        """Per tuple of values, every record that carries them."""
        if not values:
            return []
        table = await self._metadata.known(entity)
        view = self._views.get(table)
        search = _Search(self._reader, view, _searchable(view, fields), len(values))
        askable = [(place, value) for place, value in enumerate(values) if search.can_exist(value)]
        for group in _groups(askable, search, batch):
            await search.run(group)
        return search.hits


def _searchable(view: View, fields: Sequence[str]) -> list[FieldSchema]:
    known = [view.table.schema.field(name) for name in fields]
    found = [field for field in known if field is not None and "@" not in (field.wire or "")]
    if len(found) < len(fields) or not found:
        raise SchemaError(
            f"{view.entity} cannot be searched by {', '.join(fields) or 'nothing'}; correct the key of the flow."
        )
    return found


class _Search:
    def __init__(self, reader: Reader, view: View, fields: list[FieldSchema], count: int) -> None:
        self._reader = reader
        self._view = view
        self._fields = fields
        self.hits: list[list[Found]] = [[] for _ in range(count)]

    def can_exist(self, key: Key) -> bool:
        """Whether any record can carry these values, so that asking makes sense."""
        try:
            quote(self.condition([(0, key)]))
        except (RefusedRecordError, UnicodeEncodeError):
            return False  # of another type than the field, or half a character, which no address can hold
        return not any(
            field.max_length is not None and isinstance(value, str) and len(value) > field.max_length
            for field, value in zip(self._fields, key, strict=True)
        )

    def condition(self, group: Sequence[tuple[int, Key]]) -> str:
        """The filter that every record of the group passes."""
        wires = [(field.wire or field.name, field.type) for field in self._fields]
        if len(wires) == 1:
            return any_of(wires[0][0], dict.fromkeys(key[0] for _, key in group), wires[0][1])
        parts = [
            all_of(
                *(compare(wire, "eq", value, type_) for (wire, type_), value in zip(wires, key, strict=True))
            )
            for _, key in group
        ]
        return " or ".join(f"({part})" for part in parts)

    async def run(self, group: Sequence[tuple[int, Key]]) -> None:
        """Ask for a group and hand its rows out."""
        places: dict[Key, list[int]] = {}
        for place, key in group:
            places.setdefault(tuple(map(fold, key)), []).append(place)
        rows: list[tuple[list[int], Found]] = []
        async for page in self._reader.query(self._view, self.condition(group)):
            for row in page.rows:
                record = self._view.found(row, storable=page.storable)
                carried = tuple(fold(record.document[field.name]) for field in self._fields)
                owners = places.get(carried)
                if owners is None and len(places) > 1:
                    half = len(group) // 2
                    await self.run(group[:half])
                    await self.run(group[half:])
                    return
                rows.append((owners or next(iter(places.values())), record))
        for owners, record in rows:
            for place in owners:
                self.hits[place].append(record)


def _groups(askable: Sequence[tuple[int, Key]], search: _Search, batch: int) -> list[list[tuple[int, Key]]]:
    """Batches whose filter fits an address."""
    groups: list[list[tuple[int, Key]]] = []
    length = _LONGEST
    for item in askable:
        size = len(quote(search.condition([item]))) + 8
        if length + size > _LONGEST or len(groups[-1]) >= batch:
            groups.append([])
            length = 0
        groups[-1].append(item)
        length += size
    return groups
