"""Operations turned into requests: wire bodies, URLs, tokens; nothing is sent here."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.connectors.business_central.companies import Company
from ipaas_resources.connectors.business_central.entities import Entity, blank_of
from ipaas_resources.connectors.business_central.outcomes import texts_in
from ipaas_resources.core.errors import ContractError, RefusedRecordError, ReloadError
from ipaas_resources.core.records import FileRef, LineWrites, Operation, OperationKind, file_ref
from ipaas_resources.core.values import unescape_text
from ipaas_resources.net.body import encode_json
from ipaas_resources.net.odata.etag import etag_of, if_match
from ipaas_resources.net.odata.parts import PartRequest
from ipaas_resources.net.odata.query import address, key
from ipaas_resources.net.trace import HEADER, trace_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.core.clock import Ids
    from ipaas_resources.core.schema import FieldSchema
    from ipaas_resources.core.values import Document
    from ipaas_resources.net.convert import Converter

logger = logging.getLogger("ipaas.connectors.business_central")

#: What the product takes for a file name; anything else silently becomes `filename.txt` (AL: IsValidFileName).
_FILE_NAME = re.compile(r'[^\x00-\x1f"<>|:*?/\\]+')


class Draft(msgspec.Struct, kw_only=True):
    """One operation on its way."""

    place: int  # in the call's operations
    operation: Operation
    entity: Entity
    company: Company
    headers: dict[str, str]  # of each of its parts
    body: dict[str, Any] = {}  # of the header record
    line_writes: LineWrites | None = None
    files: dict[str, FileRef] = {}
    identifier: str | None = None  # known for updates and deletes, and once a create was answered
    etag: str | None = None
    row: Mapping[str, Any] | None = None  # the document as read before its lines are changed

    @property
    def what(self) -> str:
        """The operation in words, for messages."""
        return f"{self.operation.kind.value} of {self.entity.schema.entity}"

    def texts(self) -> set[str]:
        """Every text that the product may quote back."""
        operation = self.operation
        lines = [[each.create, [fields for _, _, fields in each.update]] for each in operation.lines.values()]
        given = [operation.fields, operation.key, lines, [file.name for file in self.files.values()]]
        return {unescape_text(text) for text in texts_in(given)}


def draft_of(place: int, operation: Operation, entity: Entity, company: Company, ids: Ids) -> Draft:
    """The draft of an operation.

    Raises:
        ContractError: an unknown field, or a value that its type cannot carry. RefusedRecordError: it names no record.
    """
    fields, files = _split_files(entity, operation)
    create = operation.kind is OperationKind.CREATE
    lines = _lines(entity, operation, fields)
    headers = {"Company": company.name}
    trace = trace_header(operation.trace_id, ids.random())
    if trace is not None:
        headers[HEADER] = trace
    draft = Draft(
        place=place,
        operation=operation,
        entity=entity,
        company=company,
        headers=headers,
        line_writes=lines,
        files=files,
        identifier=operation.id,
        etag=operation.etag,
    )
    if operation.kind is OperationKind.DELETE or create:
        pass
    elif operation.id is None:
        raise RefusedRecordError(f"An update of {entity.schema.entity} names no record.")
    if operation.kind is not OperationKind.DELETE:
        draft.body = to_wire(entity.converter(), fields, create=create)
        _check_file_name(draft)
    if create and lines is not None and entity.lines is not None:
        nested = entity.converter().lines(entity.lines)
        draft.body[entity.lines] = [to_wire(nested, line, create=True) for line in lines.create]
    return draft


def _split_files(entity: Entity, operation: Operation) -> tuple[Document, dict[str, FileRef]]:
    """File references go their own way, wherever they stand."""
    files = dict(operation.files)
    fields: Document = {}
    for name, value in operation.fields.items():
        if name not in entity.files:
            fields[name] = value
        elif (reference := file_ref(value)) is not None:
            files.setdefault(name, reference)
    for name in files:
        if name not in entity.files:
            raise ContractError(f"{entity.schema.entity} has no file field {name}.", field=name)
        if not entity.field(name).updatable:
            raise ContractError(f"{entity.schema.entity}.{name} cannot be written.", field=name)
    return fields, files


def _lines(entity: Entity, operation: Operation, fields: Document) -> LineWrites | None:
    for name in operation.lines:
        if name != entity.lines:
            raise ContractError(f"{entity.schema.entity} has no lines {name}.", field=name)
    writes = operation.lines.get(entity.lines or "")
    given = fields.pop(entity.lines, None) if entity.lines else None
    if given is not None:
        if operation.kind is not OperationKind.CREATE or writes is not None or not isinstance(given, list):
            raise ContractError(
                f"The lines of {entity.schema.entity} are written as line writes, not as a field.",
                field=entity.lines,
            )
        writes = LineWrites(create=given)
    if writes is None or not (writes.create or writes.update or writes.delete):
        return None
    return writes


def _check_file_name(draft: Draft) -> None:
    name = draft.body.get("fileName")
    if draft.entity.files and isinstance(name, str) and not _FILE_NAME.fullmatch(name):
        raise RefusedRecordError(
            'The file name holds a character that Business Central refuses (one of " < > | : * ? / \\); it would be '
            "stored as filename.txt. Correct the mapping of fileName.",
            code="file_name",
            field="fileName",
        )


def to_wire(converter: Converter, fields: Document, *, create: bool) -> dict[str, Any]:
    """The JSON body of these fields; nulls become blanks, read-only fields stay behind.

    Raises:
        ContractError: an unknown field, or a value that its type cannot carry.
    """
    full: Document = {}
    for name, value in fields.items():
        field = converter.schema.field(name)
        full[name] = blank_of(field) if value is None and field is not None else value
    body = converter.write(full, create=create)
    kept_back = [name for name in full if _wire(converter, name) not in body]
    if kept_back:
        logger.debug("read-only fields of %s are not sent: %s", converter.schema.entity, ", ".join(kept_back))
    return body


def _wire(converter: Converter, name: str) -> str:
    field: FieldSchema | None = converter.schema.field(name)
    return (field.wire if field else None) or name


# Requests ------------------------------------------------------------------------------------------------------------
# The URL of a part is relative to the route and the company stands in the header `Company`: that is the documented form
# (BC webservices/use-odata-batch.md); a URL that begins with companies({id}) is said to work too, and is not documented.


def create_part(draft: Draft) -> PartRequest:
    """POST of a record, with its lines."""
    return PartRequest(
        method="POST", url=draft.entity.set, headers=draft.headers, body=encode_json(draft.body)
    )


def update_part(draft: Draft) -> PartRequest:
    """PATCH of the changed fields, under the version we know."""
    return PartRequest(
        method="PATCH",
        url=record_url(draft),
        headers={**draft.headers, **if_match(draft.etag)},
        body=encode_json(draft.body),
    )


def delete_part(draft: Draft) -> PartRequest:
    """DELETE under the version we know."""
    return PartRequest(
        method="DELETE", url=record_url(draft), headers={**draft.headers, **if_match(draft.etag)}
    )


def read_part(draft: Draft) -> PartRequest:
    """GET of the whole record, so that the version and the values are those that our write left."""
    return PartRequest(
        method="GET", url=address(record_url(draft), expand=draft.entity.lines or ""), headers=draft.headers
    )


def line_parts(draft: Draft) -> list[PartRequest]:
    """Deletes, updates, creates of a document's lines, in this order.

    Raises:
        ReloadError: a line that is to be updated is gone.
    """
    writes, entity, row = draft.line_writes, draft.entity, draft.row
    if writes is None or entity.lines is None or row is None:
        return []
    there = row.get(entity.lines)
    lines = there if isinstance(there, list) else []
    nested = entity.converter().lines(entity.lines)
    parts = []
    for reference, etag in writes.delete:
        line = _line(lines, reference)
        if line is not None:  # else somebody was quicker
            parts.append(_line_part("DELETE", draft, line, etag, None))
    for reference, etag, fields in writes.update:
        line = _line(lines, reference)
        if line is None:
            raise ReloadError(
                f"A line of {entity.schema.entity} that was to be changed is gone; read it again."
            )
        body = to_wire(nested, fields, create=False)
        if body:
            parts.append(_line_part("PATCH", draft, line, etag, body))
    parts += [
        PartRequest(
            method="POST",
            url=f"{record_url(draft)}/{entity.lines}",
            headers=draft.headers,
            body=encode_json(to_wire(nested, fields, create=True)),
        )
        for fields in writes.create
    ]
    return parts


def _line_part(
    method: Any,
    draft: Draft,
    line: Mapping[str, Any],
    etag: str | None,
    body: dict[str, Any] | None,
) -> PartRequest:
    return PartRequest(
        method=method,
        url=f"{draft.entity.line_set}{key(line['id'], 'guid')}",
        headers={**draft.headers, **if_match(etag or etag_of(line))},
        body=encode_json(body) if body is not None else None,
    )


def _line(lines: Sequence[Mapping[str, Any]], reference: str) -> Mapping[str, Any] | None:
    """A line by its id, or by its number within the document."""
    wanted = str(reference).lower()
    for line in lines:
        if wanted in (str(line.get("id")).lower(), str(line.get("sequence"))):
            return line
    return None


def record_url(draft: Draft) -> str:
    """`customers(7ce0af2e-...)`. Raises RefusedRecordError when the id is none."""
    field = draft.entity.field(draft.entity.id_field)
    return f"{draft.entity.set}{key(draft.identifier, field.type)}"
