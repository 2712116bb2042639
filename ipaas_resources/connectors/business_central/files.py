"""Stream properties: their references in documents, their bytes in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipaas_resources.core.errors import MissingRecordError, RefusedRecordError
from ipaas_resources.core.records import FileRef
from ipaas_resources.net import canonical

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from ipaas_resources.connectors.base import FileOpener
    from ipaas_resources.connectors.business_central.entities import Entity
    from ipaas_resources.core.values import Document

#: What a reference is made of, besides the key.
PARTS = ("fileName", "byteSize", "lastModifiedDateTime", "contentType")


def add_files(
    entity: Entity, row: Mapping[str, Any], document: Document, fields: Collection[str] | None
) -> None:
    """Put the references of a record's files into its document; null for an empty one."""
    for name in entity.files:
        if fields is None or name in fields:
            document[name] = _reference(entity, row, name)


def _reference(entity: Entity, row: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    size = row.get("byteSize")
    if size == 0:
        return None
    changed = row.get("lastModifiedDateTime")
    return FileRef(
        id=f"{entity.set}({row[entity.id_field]})/{name}",
        name=canonical.text(row.get("fileName") or ""),
        size=size if isinstance(size, int) else None,
        # The etag changes with every touch of the record; this time is of the content.
        revision=canonical.text(changed) if isinstance(changed, str) else "",
        media_type=canonical.text(row.get("contentType") or ""),
    ).to_value()


class Source:
    """The bytes of a file in its source system, for one or more attempts; counts what goes by."""

    def __init__(self, opener: FileOpener, file: FileRef) -> None:
        self._open = opener
        self._file = file

    @property
    def headers(self) -> dict[str, str]:
        """The content headers of the upload."""
        headers = {"content-type": "application/octet-stream"}
        if self._file.size is not None:
            headers["content-length"] = str(self._file.size)
        return headers

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Open the source.

        Raises:
            RefusedRecordError: the file is gone there, or is not of the announced size.
            whatever its connector raises.
        """
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        sent, announced = 0, self._file.size
        try:
            async for chunk in self._open(self._file):
                sent += len(chunk)
                if announced is not None and sent > announced:
                    break
                yield chunk
        except MissingRecordError as gone:
            raise RefusedRecordError(
                "The file is no longer in its source system.", code="file_gone"
            ) from gone
        if announced is not None and sent != announced:
            raise RefusedRecordError(
                f"The file changed in its source: {announced} bytes were announced, it has another size now.",
                code="file_changed",
            )
