"""Records by key: with the product's own filters where it has one, by a list otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipaas_resources.connectors.calibration.client import Rows, concurrently
from ipaas_resources.connectors.calibration.convert import identity
from ipaas_resources.connectors.calibration.entities import schema_of
from ipaas_resources.connectors.calibration.sources import CLIENT_ASSETS, ORDERS
from ipaas_resources.core.errors import SchemaError
from ipaas_resources.core.records import record_id
from ipaas_resources.core.values import encode_canonical, unescape_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.calibration.client import CalibrationClient
    from ipaas_resources.connectors.calibration.reader import Reader
    from ipaas_resources.core.records import Found
    from ipaas_resources.core.schema import EntitySchema
    from ipaas_resources.core.values import Value

#: entity -> field -> (path, query parameter). What a filter compares exactly is not documented: hits are checked here.
_FILTERS: dict[str, dict[str, tuple[str, str]]] = {
    "clients": {
        "LegacyId": ("api/service/clients", "model.legacyId"),
        "AccountNumberText": ("api/service/clients", "model.accountNumberText"),
        "CompanyName": ("api/service/clients", "model.companyName"),
    },
    "vendors": {
        "AccountNumberText": ("api/service/vendors", "model.accountNumberText"),
        "CompanyName": ("api/service/vendors", "model.companyName"),
    },
    "assets": {
        "LegacyIdentifier": (CLIENT_ASSETS, "query.legacyId"),
        "EquipmentId": (CLIENT_ASSETS, "query.equipmentId"),
        "SerialNumber": (CLIENT_ASSETS, "query.serialNumber"),
        "AssetTag": (CLIENT_ASSETS, "query.assetTag"),
        "Barcode": (CLIENT_ASSETS, "query.barcode"),
    },
    "work_orders": {"CustomOrderNumber": (ORDERS, "workOrderNumber")},
}
#: From this many keys on, one list of all clients or vendors is cheaper than a call per key.
_LIST_FROM = 8


class Finder:
    """Looks records of one tenant up by key."""

    def __init__(self, client: CalibrationClient, reader: Reader) -> None:
        self._client = client
        self._reader = reader

    async def find(
        self, entity: str, fields: Sequence[str], values: Sequence[tuple[Value, ...]]
    ) -> list[list[Found]]:
        """Per tuple of values the records that carry them; text is compared without regard to case.

        Raises:
            SchemaError: the entity has no such field.
        """
        schema = schema_of(entity)
        unknown = [name for name in fields if schema.field(name) is None]
        if unknown:
            raise SchemaError(
                f"{entity} has no field {', '.join(unknown)}; known: {', '.join(schema.names())}."
            )
        if not values:
            return []
        if tuple(fields) == schema.key:
            return await self._by_id(schema, values)
        filtered = [(number, name) for number, name in enumerate(fields) if name in _FILTERS.get(entity, {})]
        # Companies come whole in one call; of all other entities a list costs a call per client, order or product.
        if filtered and (len(values) < _LIST_FROM or entity not in {"clients", "vendors"}):
            return await self._by_filter(schema, fields, values, *filtered[0])
        return await self._by_list(schema, fields, values)

    async def _by_id(self, schema: EntitySchema, values: Sequence[tuple[Value, ...]]) -> list[list[Found]]:
        ids = [record_id(tuple("" if part is None else str(part).lower() for part in one)) for one in values]
        return [[found] if found else [] for found in await self._reader.read(schema.entity, ids)]

    async def _by_filter(
        self,
        schema: EntitySchema,
        fields: Sequence[str],
        values: Sequence[tuple[Value, ...]],
        at: int,
        name: str,
    ) -> list[list[Found]]:
        path, parameter = _FILTERS[schema.entity][name]

        async def one(wanted: tuple[Value, ...]) -> list[Found]:
            if wanted[at] is None or wanted[at] == "":
                return []  # an empty filter would be no filter
            query: dict[str, object] = {parameter: _in_query(wanted[at])}
            if schema.entity in {"clients", "vendors"}:
                answer = await self._reader.sources.capped(path, query)
            else:
                answer = await self._client.rows(path, query, endpoint=path)
            key = _comparable(wanted)
            return [
                found
                for found in await self._reader.found(schema, answer)
                if _comparable(tuple(found.document[name] for name in fields)) == key
            ]

        return await concurrently(values, one, self._client.width)

    async def _by_list(
        self, schema: EntitySchema, fields: Sequence[str], values: Sequence[tuple[Value, ...]]
    ) -> list[list[Found]]:
        """One pass over the entity; only the hits are made whole."""
        wanted = {_comparable(one) for one in values}
        hits: dict[bytes, list[Found]] = {}
        async for part, present in self._reader.rows(schema, fields):
            keys = [_comparable(one) for one in present]
            rows = [row for row, key in zip(part.rows, keys, strict=True) if key in wanted]
            matched = [key for key in keys if key in wanted]
            answer = Rows(rows, storable=part.storable, moment=part.moment)
            by_id = {found.id: found for found in await self._reader.found(schema, answer)}
            for row, key in zip(rows, matched, strict=True):
                found = by_id.get(identity(schema, row))
                if found is not None:
                    hits.setdefault(key, []).append(found)
        return [hits.get(_comparable(one), []) for one in values]


def _in_query(value: Value) -> str:
    """A key as a query parameter; half a character cannot be put into a URL and finds nothing there."""
    return unescape_text(str(value)).encode("utf-8", "replace").decode()


def _comparable(values: tuple[Value, ...]) -> bytes:
    """Equal for keys that are equal in canonical form, text without regard to case."""
    return encode_canonical([value.casefold() if isinstance(value, str) else value for value in values])
