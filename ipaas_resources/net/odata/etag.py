"""Versions of records on the wire: `@odata.etag` in a body, `ETag` in a header, `If-Match` in a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipaas_resources.core.errors import RefusedRecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY = "*"


def etag_of(row: Mapping[str, Any]) -> str | None:
    """The version that a record carries, unchanged, None when it carries none."""
    etag = row.get("@odata.etag")
    return etag if isinstance(etag, str) and etag else None


def if_match(etag: str | None) -> dict[str, str]:
    """The header of an update: of exactly this version, or of any version that exists.

    Without a header Dataverse would create a record that is gone, and Business Central refuses the request.
    """
    return {"If-Match": _checked(etag) if etag is not None else ANY}


def only_create() -> dict[str, str]:
    """The header of a create that must never change a record that exists (Dataverse: 412 when it does)."""
    return {"If-None-Match": ANY}


def _checked(etag: str) -> str:
    if not etag.isascii() or not etag.isprintable():
        raise RefusedRecordError("The version of the record holds characters that no header can carry.")
    return etag
