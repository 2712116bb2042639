"""`sdkmessages` and `sdkmessagefilters` of the fake: which message there is, and which table offers it."""

from __future__ import annotations

import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipaas_resources.connectors.dataverse.fake_organization import Organization
    from ipaas_resources.connectors.dataverse.fake_schema import Table

SINGLE = ("Create", "Update", "Delete")
BULK = ("CreateMultiple", "UpdateMultiple", "UpsertMultiple")
_NAMESPACE = uuid.UUID("c9f2a2f4-3a1c-5a53-9a63-9a1d5f1f0c11")


@lru_cache(maxsize=4096)
def _guid(name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, name))


def messages() -> list[dict[str, Any]]:
    """Rows of `sdkmessages`."""
    return [{"sdkmessageid": _guid(name), "name": name} for name in (*SINGLE, *BULK)]


def filters(organization: Organization) -> list[dict[str, Any]]:
    """Rows of `sdkmessagefilters`; `sdkmessageid/name` stands for the message that the filter's lookup leads to."""
    return [
        {
            "sdkmessagefilterid": _guid(f"{message}-{table.name}"),
            "primaryobjecttypecode": table.name,
            "_sdkmessageid_value": _guid(message),
            "iscustomprocessingstepallowed": table.creatable,
            "sdkmessageid/name": message,
        }
        for table in organization.tables.values()
        for message in _offered(table)
    ]


def _offered(table: Table) -> Iterator[str]:
    yield from SINGLE
    if table.bulk:
        yield from BULK


def message_name(identifier: str) -> str:
    """The message of this id, '' when there is none."""
    return next((name for name in (*SINGLE, *BULK) if _guid(name) == identifier), "")


def filter_of(organization: Organization, identifier: str) -> tuple[str, str]:
    """Table and message of a filter, ('', '') when there is none."""
    for table in organization.tables.values():
        for message in _offered(table):
            if _guid(f"{message}-{table.name}") == identifier:
                return table.name, message
    return "", ""


def known(organization: Organization, entity_set: str, identifier: str) -> bool:
    """Whether `sdkmessages` or `sdkmessagefilters` has this row."""
    if entity_set == "sdkmessages":
        return bool(message_name(identifier))
    return bool(filter_of(organization, identifier)[0])
