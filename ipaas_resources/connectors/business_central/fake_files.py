"""Stream properties of the fake: bytes are taken in and given out in chunks, small files kept whole."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from ipaas_resources.connectors.business_central.fake_errors import BusinessCentralError, bad_request
from ipaas_resources.connectors.fakes import Reply, Request, file_chunks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: The largest request body (BC administration/operational-limits-online.md).
MAX_BODY = 350 * 1024 * 1024
#: Files up to this size are kept; of larger uploads only size and digest.
KEPT = 8 * 1024 * 1024


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a stream property: kept bytes, a made-up file by its seed, or size and digest alone."""

    size: int
    sha256: str = ""
    data: bytes | None = None
    seed: str = ""


async def take_in(request: Request) -> StoredFile:
    """The body of an upload. Raises BusinessCentralError (413) beyond the limit."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY:
        raise _too_large()
    kept: list[bytes] | None = []
    size, hashed = 0, hashlib.sha256()
    async for chunk in request.chunks():
        size += len(chunk)
        if size > MAX_BODY:
            raise _too_large()
        hashed.update(chunk)
        if kept is not None:
            kept.append(chunk)
            if size > KEPT:
                kept = None
    return StoredFile(size=size, sha256=hashed.hexdigest(), data=b"".join(kept) if kept is not None else None)


def give_out(file: StoredFile | None) -> Reply:
    """The answer that carries a file; 204 for an empty stream property."""
    if file is None or file.size == 0:
        return Reply(204)
    if file.data is not None:
        return Reply(200, file.data, content_type="application/octet-stream")
    if not file.seed:
        raise bad_request("The fake keeps no uploads of this size.", "Application_CallbackNotAllowed")
    return Reply(200, _made_up(file), content_type="application/octet-stream", size=file.size)


def _made_up(file: StoredFile) -> AsyncIterator[bytes]:
    return file_chunks(file.seed, file.size)


def _too_large() -> BusinessCentralError:
    return BusinessCentralError(
        413, "RequestEntityTooLarge", "The request body is larger than the maximum of 350 MB."
    )
