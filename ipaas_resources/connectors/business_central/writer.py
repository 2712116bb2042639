"""Writes: $batch of up to 100, documents with their lines all or nothing, uploads as a second, repeatable step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.business_central import drafts as requests
from ipaas_resources.connectors.business_central.batches import Batches
from ipaas_resources.connectors.business_central.drafts import Draft, draft_of
from ipaas_resources.connectors.business_central.files import Source
from ipaas_resources.connectors.business_central.outcomes import failed
from ipaas_resources.connectors.business_central.reader import found_of
from ipaas_resources.core.errors import (
    AmbiguousMatchError,
    ConfigurationError,
    IpaasError,
    MissingRecordError,
    RecordError,
    ReloadError,
    ReviewNeededError,
)
from ipaas_resources.core.records import OperationKind, Outcome, WriteResult
from ipaas_resources.net.client import Timeouts
from ipaas_resources.net.odata.etag import etag_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.base import FileOpener, Manifest
    from ipaas_resources.connectors.business_central.companies import Companies
    from ipaas_resources.connectors.business_central.entities import Entities
    from ipaas_resources.connectors.business_central.finder import Finder
    from ipaas_resources.core.clock import Ids
    from ipaas_resources.core.records import Operation
    from ipaas_resources.net.client import HttpClient

#: Of an upload: a 350 MB file over a slow line.
_UPLOAD = Timeouts(read=120, write=60, total=1800)


class Writer:
    """Writes records of one system."""

    def __init__(
        self,
        client: HttpClient,
        *,
        ids: Ids,
        manifest: Manifest,
        companies: Companies,
        entities: Entities,
        finder: Finder,
        timeouts: Timeouts,
    ) -> None:
        self._client = client
        self._ids = ids
        self._manifest = manifest
        self._companies = companies
        self._entities = entities
        self._finder = finder
        self._batches = Batches(client, timeouts)
        self.open_source: FileOpener | None = None

    async def write(self, name: str, scope: str, operations: Sequence[Operation]) -> list[WriteResult]:
        """One result per operation, in their order; see the contract."""
        if not operations:
            return []
        entity = await self._entities.get(name)
        company = await self._companies.of(scope)
        results: dict[int, WriteResult] = {}
        drafts: list[Draft] = []
        for place, operation in enumerate(operations):
            try:
                drafts.append(draft_of(place, operation, entity, company, self._ids))
            except IpaasError as error:
                results[place] = failed(error, identifier=operation.id)
        await self._look_up_repeated(drafts, results)
        await self._read_first(_open(drafts, results), results)
        await self._send(_open(drafts, results), results)
        await self._upload(drafts, results)
        return [results[place] for place in range(len(operations))]

    async def _look_up_repeated(self, drafts: Sequence[Draft], results: dict[int, WriteResult]) -> None:
        """Creates that may have been applied before: look by natural key, before any POST."""
        asked: dict[tuple[str, ...], list[Draft]] = {}
        for draft in drafts:
            operation = draft.operation
            if draft.files and isinstance(identifier := operation.progress.get("id"), str):
                # The record was written by an earlier attempt: what is left is the content.
                results[draft.place] = WriteResult(outcome=Outcome.APPLIED, id=identifier)
            elif operation.repeated and operation.kind is OperationKind.CREATE:
                asked.setdefault(self._key_fields(draft), []).append(draft)
        for fields, group in asked.items():
            await self._look_up(fields, group, results)

    def _key_fields(self, draft: Draft) -> tuple[str, ...]:
        declared = self._manifest.capabilities(draft.entity.schema.entity).natural_key
        fields = tuple(draft.operation.key) or declared
        values = {**draft.operation.fields, **draft.operation.key}
        return fields if all(values.get(field) is not None for field in fields) else ()

    async def _look_up(
        self, fields: tuple[str, ...], group: Sequence[Draft], results: dict[int, WriteResult]
    ) -> None:
        if not fields:
            for draft in group:
                results[draft.place] = failed(
                    ReviewNeededError(
                        f"A {draft.what} may have been carried out before, and it has no key to look for it by. "
                        "Look in Business Central, then link the record or replay it."
                    )
                )
            return
        first = group[0]
        values = [
            tuple({**draft.operation.fields, **draft.operation.key}[field] for field in fields)
            for draft in group
        ]
        try:
            found = await self._finder.by_key(first.entity, first.company, fields, values)
        except IpaasError as error:
            for draft in group:
                results[draft.place] = failed(error)
            return
        for draft, hits in zip(group, found, strict=True):
            if len(hits) > 1:
                results[draft.place] = failed(
                    AmbiguousMatchError(
                        f"A {draft.what} was repeated and {len(hits)} records carry its key ({', '.join(fields)}); "
                        "choose one in Business Central."
                    )
                )
            elif hits and draft.files:
                # The record of the first attempt: only its content may be missing.
                results[draft.place] = WriteResult(outcome=Outcome.APPLIED, id=hits[0].id)
            elif hits:
                results[draft.place] = WriteResult(
                    outcome=Outcome.EXISTS, id=hits[0].id, etag=hits[0].etag, document=hits[0].document
                )

    async def _read_first(self, drafts: Sequence[Draft], results: dict[int, WriteResult]) -> None:
        """Records whose version is not known, and documents whose lines are to be changed."""
        wanted = [
            draft
            for draft in drafts
            if draft.operation.kind is not OperationKind.CREATE
            and (draft.etag is None or draft.line_writes is not None)
            and (draft.body or draft.line_writes or draft.operation.kind is OperationKind.DELETE)
        ]
        if not wanted:
            return
        entity, company = wanted[0].entity, wanted[0].company
        try:
            rows = await self._finder.rows(entity, company, [draft.identifier or "" for draft in wanted])
        except IpaasError as error:
            for draft in wanted:
                results[draft.place] = failed(error, identifier=draft.identifier)
            return
        for draft, row in zip(wanted, rows, strict=True):
            if row is None:
                gone = MissingRecordError(
                    f"The record of this {draft.what} does not exist in Business Central."
                )
                results[draft.place] = failed(gone, identifier=draft.identifier)
            elif draft.etag not in (None, etag_of(row)):
                # Lines that are added carry no version of their own: the document's stands for them.
                changed = ReloadError(
                    f"The document of this {draft.what} was changed meanwhile; it is read again."
                )
                results[draft.place] = failed(changed, identifier=draft.identifier)
            else:
                draft.row, draft.etag = row, etag_of(row)

    async def _send(self, drafts: Sequence[Draft], results: dict[int, WriteResult]) -> None:
        """Everything but the contents of files."""
        single: list[Draft] = []
        documents: list[Draft] = []
        for draft in drafts:
            if draft.operation.kind is OperationKind.UPDATE and draft.line_writes is not None:
                documents.append(draft)
            elif draft.operation.kind is OperationKind.UPDATE and not draft.body:
                # Nothing of it may be sent, or only the content of a file.
                results[draft.place] = WriteResult(
                    outcome=Outcome.APPLIED, id=draft.identifier, etag=draft.etag
                )
            else:
                single.append(draft)
        results.update(await self._batches.each_alone(single))
        results.update(await self._batches.all_or_nothing(documents))
        await self._read_back(
            [
                draft
                for draft in single
                if draft.entity.lines is not None and draft.operation.kind is OperationKind.CREATE
            ],
            results,
        )

    async def _read_back(self, drafts: Sequence[Draft], results: dict[int, WriteResult]) -> None:
        """Records whose last answer does not show what is stored: a POST of a document answers with the header alone."""
        made = [draft for draft in drafts if results[draft.place].outcome is Outcome.APPLIED]
        if not made:
            return
        try:
            rows = await self._finder.rows(
                made[0].entity, made[0].company, [results[draft.place].id or "" for draft in made]
            )
        except IpaasError:
            rows = [None] * len(made)  # it was created all the same; the engine reads it when it needs it
        for draft, row in zip(made, rows, strict=True):
            result = results[draft.place]
            result.document = result.etag = None
            _fill(result, draft, row)

    async def _upload(self, drafts: Sequence[Draft], results: dict[int, WriteResult]) -> None:
        """Step two of records with files; only this step is repeated when it fails."""
        done: list[Draft] = []
        for draft in drafts:
            result = results[draft.place]
            if not draft.files or result.outcome is not Outcome.APPLIED or result.id is None:
                continue
            draft.identifier = result.id
            try:
                await self._upload_files(draft)
            except IpaasError as error:
                results[draft.place] = _upload_failed(draft, error)
            else:
                results[draft.place] = WriteResult(outcome=Outcome.APPLIED, id=draft.identifier)
                done.append(draft)
        # The content changed version and size of its record.
        await self._read_back(done, results)

    async def _upload_files(self, draft: Draft) -> None:
        """Send the contents of a record's files. Raises what happened to the first that did not go through."""
        for name, file in draft.files.items():
            if self.open_source is None:
                raise ConfigurationError(
                    "Files cannot be opened here: `open_source` of the connector is not set."
                )
            source = Source(self.open_source, file)
            await self._client.send(
                "PATCH",
                f"companies({draft.company.id})/{requests.record_url(draft)}/{name}",
                kind="write",
                headers={**source.headers, "If-Match": "*"},
                content=source,
                trace_id=draft.operation.trace_id,
                endpoint=f"{draft.entity.set}/{name}",
                timeouts=_UPLOAD,
            )


def _upload_failed(draft: Draft, error: IpaasError) -> WriteResult:
    """The result of a record that exists while its content does not, or perhaps not."""
    result = failed(error, identifier=draft.identifier)
    result.progress = {"id": draft.identifier}
    if result.outcome is Outcome.UNKNOWN:
        # The whole content is replaced whatever was there, so this step may be repeated at once and at any time.
        result.outcome = Outcome.RETRY
    elif result.outcome is Outcome.MISSING and draft.operation.kind is OperationKind.CREATE:
        # Somebody deleted the record between the two steps: begin again.
        result.outcome, result.progress = Outcome.RETRY, {}
    return result


def _open(drafts: Sequence[Draft], results: dict[int, WriteResult]) -> list[Draft]:
    """Those that have no result yet."""
    return [draft for draft in drafts if draft.place not in results]


def _fill(result: WriteResult, draft: Draft, row: dict[str, Any] | None) -> None:
    if row is None:
        return
    try:
        found = found_of(draft.entity, row)
    except RecordError:
        return
    result.etag, result.document = found.etag, found.document
