"""Records by id and by key, many per request, compared as the product compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ipaas_resources.connectors.business_central import addresses
from ipaas_resources.connectors.business_central.entities import blank_of
from ipaas_resources.connectors.business_central.reader import found_of
from ipaas_resources.core.values import unescape_text
from ipaas_resources.net import canonical
from ipaas_resources.net.odata import json_batch
from ipaas_resources.net.odata.parts import PartRequest
from ipaas_resources.net.odata.query import all_of, compare
from ipaas_resources.net.statuses import error_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ipaas_resources.connectors.business_central.companies import Companies, Company
    from ipaas_resources.connectors.business_central.entities import Entities, Entity
    from ipaas_resources.connectors.business_central.reader import Reader
    from ipaas_resources.core.records import Found
    from ipaas_resources.core.schema import FieldSchema
    from ipaas_resources.core.values import Value
    from ipaas_resources.net.client import HttpClient

#: Operations of one $batch (BC administration/operational-limits-online.md).
MAX_PARTS = 100


class Finder:
    """Looks records up."""

    def __init__(self, client: HttpClient, companies: Companies, entities: Entities, reader: Reader) -> None:
        self._client = client
        self._companies = companies
        self._entities = entities
        self._reader = reader

    async def read(self, name: str, scope: str, ids: Sequence[str]) -> list[Found | None]:
        """Records by id, in their order; None for an id that no record has."""
        entity = await self._entities.get(name)
        company = await self._companies.of(scope)
        return await self.by_ids(entity, company, ids)

    async def by_ids(self, entity: Entity, company: Company, ids: Sequence[str]) -> list[Found | None]:
        """The same, for an entity that is known already."""
        return [
            found_of(entity, row) if row is not None else None
            for row in await self.rows(entity, company, ids)
        ]

    async def rows(self, entity: Entity, company: Company, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """The same records as they came, with the tokens of their lines."""
        field = entity.field(entity.id_field)
        wanted = {identifier for identifier in ids if _possible(field, identifier)}
        seen: dict[str, dict[str, Any]] = {}
        for group in _groups(field, sorted(wanted)):
            for row in await self._reader.rows(entity, company, _any_of(field, group)):
                seen[str(row.get(field.name)).lower()] = row
        return [seen.get(identifier.lower()) for identifier in ids]

    async def find(
        self, name: str, scope: str, fields: Sequence[str], values: Sequence[tuple[Value, ...]]
    ) -> list[list[Found]]:
        """Per tuple of key values, the records that carry them."""
        entity = await self._entities.get(name)
        return await self.by_key(entity, await self._companies.of(scope), fields, values)

    async def by_key(
        self, entity: Entity, company: Company, fields: Sequence[str], values: Sequence[tuple[Value, ...]]
    ) -> list[list[Found]]:
        """The same, for an entity that is known already."""
        columns = [entity.field(field) for field in fields]
        wanted = [
            tuple(_given(column, value) for column, value in zip(columns, row, strict=True)) for row in values
        ]
        distinct = list(dict.fromkeys(wanted))
        if len(columns) == 1:
            found = await self._by_one(entity, company, columns[0], [row[0] for row in distinct])
        else:
            found = await self._by_many(entity, company, columns, distinct)
        return [found[row] for row in wanted]

    async def _by_one(
        self, entity: Entity, company: Company, column: FieldSchema, values: Sequence[Value]
    ) -> dict[tuple[Value, ...], list[Found]]:
        """One field: `or` over that field, many values per request."""
        results: dict[tuple[Value, ...], list[Found]] = {(value,): [] for value in values}
        same = _same(entity, column)
        for group in _groups(column, values):
            records = await self._reader.query(entity, company, _any_of(column, group))
            for record in records:
                for value in _matching(record.document.get(column.name), group, same):
                    results[value,].append(record)
        return results

    async def _by_many(
        self,
        entity: Entity,
        company: Company,
        columns: Sequence[FieldSchema],
        wanted: Sequence[tuple[Value, ...]],
    ) -> dict[tuple[Value, ...], list[Found]]:
        """Several fields: the product has no `or` over two of them, so each key is a request, 100 in a $batch."""
        results: dict[tuple[Value, ...], list[Found]] = {}
        path = addresses.collection(entity, company)
        for start in range(0, len(wanted), MAX_PARTS):
            part = wanted[start : start + MAX_PARTS]
            filters = [
                all_of(*(_equals(column, value) for column, value in zip(columns, row, strict=True)))
                for row in part
            ]
            urls = [addresses.listing(entity, path, filter=each) for each in filters]
            for row, rows in zip(part, await self._lists(entity, urls), strict=True):
                results[row] = [found_of(entity, each) for each in rows]
        return results

    async def _lists(self, entity: Entity, urls: Sequence[str]) -> list[list[dict[str, Any]]]:
        """The collections at these addresses, one $batch."""
        endpoint = f"$batch {entity.schema.entity}"
        response = await self._client.send(
            "POST",
            "$batch",
            kind="read",
            content=json_batch.build([PartRequest(method="GET", url=url) for url in urls]),
            endpoint=endpoint,
        )
        lists: list[list[dict[str, Any]]] = []
        for answer in json_batch.parse(response, len(urls)):
            if answer is None:
                raise response.broken("a part has no answer")
            error = error_for(answer.status, write=False, what=f"{self._client.system} GET {endpoint}")
            if error is not None:
                raise error
            body = answer.json()
            rows = body.get("value") if isinstance(body, dict) else None
            if not isinstance(rows, list):
                raise response.broken("a part holds no list of records in `value`")
            lists.append(rows)
        return lists


def _possible(field: FieldSchema, identifier: str) -> bool:
    """Whether a record can have this id at all."""
    if field.type != "guid":
        return True
    try:
        return bool(canonical.guid(identifier))
    except ValueError:
        return False


def _given(column: FieldSchema, value: Value) -> Value:
    """A null is looked for as the blank that stands for it."""
    if value is not None:
        return value
    zeros = {"guid": canonical.ZERO_GUID, "date": canonical.ZERO_DATE, "datetime": canonical.ZERO_MOMENT}
    return zeros.get(column.type, blank_of(column))


def _equals(column: FieldSchema, value: Value) -> str:
    if column.type == "enum" and value == "":
        return f"{column.name} eq '_x0020_'"
    return compare(column.name, "eq", value, column.type)


def _any_of(column: FieldSchema, values: Sequence[Value]) -> str:
    """Conditions on ONE field: over two the product refuses an `or`."""
    return " or ".join(_equals(column, value) for value in values)


def _groups(column: FieldSchema, values: Sequence[Value]) -> Iterator[list[Value]]:
    """Values in groups whose filter fits into an address."""
    group: list[Value] = []
    length = 0
    for value in values:
        size = len(quote(_equals(column, value), errors="replace")) + len("%20or%20")
        if group and length + size > addresses.LONGEST:
            yield group
            group, length = [], 0
        group.append(value)
        length += size
    if group:
        yield group


def _same(entity: Entity, column: FieldSchema) -> Callable[[Value], Value]:
    """How the product compares values of this field: codes without case and without outer blanks."""
    if column.name in entity.codes:
        return lambda value: unescape_text(value).strip().upper() if isinstance(value, str) else value
    return lambda value: value


def _matching(stored: Value, wanted: Sequence[Value], same: Callable[[Value], Value]) -> list[Value]:
    """Which of the asked values this record answers."""
    if stored is None:
        return [
            value
            for value in wanted
            if value in ("", 0, canonical.ZERO_GUID, canonical.ZERO_DATE, canonical.ZERO_MOMENT)
        ]
    exact = [value for value in wanted if same(value) == same(stored)]
    if exact or not isinstance(stored, str):
        return exact
    # The product saw a likeness that we do not: rather one candidate too many than a second record made.
    return [value for value in wanted if isinstance(value, str) and value.casefold() == stored.casefold()]
