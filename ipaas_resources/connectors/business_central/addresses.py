"""URLs of the standard route, below `{environment}/api/v2.0`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipaas_resources.connectors.business_central.files import PARTS
from ipaas_resources.net.odata.query import address

if TYPE_CHECKING:
    from collections.abc import Collection

    from ipaas_resources.connectors.business_central.companies import Company
    from ipaas_resources.connectors.business_central.entities import Entity

#: Longest query that is sent; gateways cut at 8 kB and more, the path needs its share.
LONGEST = 6_000


def collection(entity: Entity, company: Company) -> str:
    """The path of an entity set."""
    return entity.set if entity.root else f"companies({company.id})/{entity.set}"


def listing(
    entity: Entity,
    path: str,
    *,
    fields: Collection[str] | None = None,
    filter: str = "",  # noqa: A002 - OData's own word
    orderby: str = "",
) -> str:
    """A query for records: whole ones, documents with their lines, or the key and these fields."""
    return address(
        path,
        select=selection(entity, fields),
        expand=expansion(entity, fields),
        filter=filter,
        orderby=orderby,
    )


def of_lines(entity: Entity, company: Company) -> str:
    """All documents of a line set, with their lines and nothing else."""
    path = f"companies({company.id})/{entity.header_set}"
    return address(path, select=["id"], expand=entity.header_lines or "")


def selection(entity: Entity, fields: Collection[str] | None) -> list[str]:
    """The $select for these fields; empty for all."""
    if fields is None:
        return []
    wanted = {*entity.schema.key, *fields} - {entity.lines}
    if wanted & set(entity.files):
        wanted |= set(PARTS)
    return [field.name for field in entity.schema.fields if field.name in wanted and field.type != "file"]


def expansion(entity: Entity, fields: Collection[str] | None) -> str:
    """The $expand that brings a document's lines."""
    return entity.lines if entity.lines and (fields is None or entity.lines in fields) else ""
