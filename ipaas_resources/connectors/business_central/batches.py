"""$batch in its two forms: every request alone, or all or nothing (`Isolation: snapshot`).

Source: BC webservices/use-odata-batch.md. At most 100 requests; the answers stand in the order of the requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.business_central import drafts as requests
from ipaas_resources.connectors.business_central.outcomes import (
    KEY_TAKEN,
    error_of_part,
    exists,
    failed,
    lost,
)
from ipaas_resources.connectors.business_central.reader import found_of
from ipaas_resources.core.errors import (
    ConfigurationError,
    IpaasError,
    MissingRecordError,
    RecordError,
    RefusedRecordError,
    UnknownOutcomeError,
)
from ipaas_resources.core.records import OperationKind, Outcome, WriteResult
from ipaas_resources.net.body import MalformedBodyError
from ipaas_resources.net.odata import json_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipaas_resources.connectors.business_central.drafts import Draft
    from ipaas_resources.net.client import HttpClient, Timeouts
    from ipaas_resources.net.odata.parts import PartRequest, PartResponse

MAX_PARTS = 100

Results = dict[int, WriteResult]
Unit = tuple["Draft", list["PartRequest"]]


class Batches:
    """Sends drafts and tells what became of each."""

    def __init__(self, client: HttpClient, timeouts: Timeouts) -> None:
        self._client = client
        self._timeouts = timeouts

    async def each_alone(self, drafts: Sequence[Draft]) -> Results:
        """Creates, updates of one record, deletes: the failure of one does not touch the others."""
        results: Results = {}
        units, refused = _units(drafts, _single_parts)
        results.update(refused)
        for group in _packed(units):
            results.update(await self._each_alone(group))
        return results

    async def _each_alone(self, units: Sequence[Unit]) -> Results:
        try:
            answers = await self._send(units, snapshot=False)
        except RefusedRecordError as error:
            # The batch itself was refused, so nothing of it was done: find the request that it cannot bear.
            if len(units) == 1:
                return _all_failed(units, error)
            half = len(units) // 2
            return await self._each_alone(units[:half]) | await self._each_alone(units[half:])
        except IpaasError as error:
            return _all_failed(units, error)
        return {draft.place: self._result(draft, parts) for draft, parts in answers}

    async def all_or_nothing(self, drafts: Sequence[Draft]) -> Results:
        """Documents with changed lines: of one document everything is done, in order, or nothing."""
        units, results = _units(drafts, _document_parts)
        large = [unit for unit in units if len(unit[1]) > MAX_PARTS]
        for unit in large:
            results[unit[0].place] = await self._in_pieces(unit)
        for group in _packed([unit for unit in units if len(unit[1]) <= MAX_PARTS]):
            results.update(await self._all_or_nothing(group))
        return results

    async def _all_or_nothing(self, units: Sequence[Unit]) -> Results:
        try:
            answers = await self._send(units, snapshot=True)
        except RefusedRecordError as error:
            if len(units) == 1:
                return _all_failed(units, error)
            return await self._one_by_one(units)
        except IpaasError as error:
            return _all_failed(units, error)
        results = {draft.place: self._result(draft, parts) for draft, parts in answers}
        if len(units) > 1 and any(result.outcome is not Outcome.APPLIED for result in results.values()):
            # One document's failure rolled all of them back, whatever their own answers say.
            return await self._one_by_one(units)
        return results

    async def _one_by_one(self, units: Sequence[Unit]) -> Results:
        results: Results = {}
        for unit in units:
            results.update(await self._all_or_nothing([unit]))
        return results

    async def _in_pieces(self, unit: Unit) -> WriteResult:
        """A document with more changes than a batch takes: piece by piece, stopping at the first failure."""
        draft, parts = unit
        pieces = [parts[start : start + MAX_PARTS] for start in range(0, len(parts), MAX_PARTS)]
        result = WriteResult(outcome=Outcome.APPLIED, id=draft.identifier)
        for number, piece in enumerate(pieces):
            results = await self._all_or_nothing([(draft, piece)])
            result = results[draft.place]
            if result.outcome is Outcome.APPLIED:
                continue
            if number > 0 and result.error is not None:
                error = UnknownOutcomeError(
                    f"{number} of {len(pieces)} parts of the {draft.what} were done, then: {result.error.message} "
                    "It is looked at before it goes on.",
                    code=result.error.code,
                )
                return failed(error, identifier=draft.identifier)
            return result
        return result

    async def _send(
        self, units: Sequence[Unit], *, snapshot: bool
    ) -> list[tuple[Draft, list[PartResponse | None]]]:
        """One batch; the answers per draft."""
        parts = [part for _, each in units for part in each]
        endpoint = f"$batch {units[0][0].entity.schema.entity}"
        try:
            response = await self._client.send(
                "POST",
                "$batch",
                kind="write",
                headers={"Isolation": "snapshot"} if snapshot else {},
                content=json_batch.build(parts),
                trace_id=units[0][0].operation.trace_id if len(units) == 1 else "",
                endpoint=endpoint,
                timeouts=self._timeouts,
            )
        except MissingRecordError as error:
            raise ConfigurationError(
                f"System {self._client.system} knows no $batch at its address; check base_url.",
                code=error.code,
            ) from error
        answers = iter(json_batch.parse(response, len(parts)))
        return [(draft, [next(answers) for _ in each]) for draft, each in units]

    def _result(self, draft: Draft, answers: Sequence[PartResponse | None]) -> WriteResult:
        """What became of one operation: its first failure, else what the last answer shows."""
        what = f"{self._client.system}: {draft.what}"
        written = answers[:-1] if _reads_back(draft) and len(answers) > 1 else answers
        for answer in written:
            if answer is None:
                return failed(lost(what), identifier=draft.identifier)
            schema = draft.entity.schema
            error = error_of_part(
                answer,
                what,
                values=draft.texts() if answer.status >= 400 else (),  # noqa: PLR2004 - where errors begin
                names={schema.entity, draft.entity.set, *schema.names()},
            )
            if error is None:
                continue
            if (
                error.code == KEY_TAKEN
                and draft.operation.kind is OperationKind.CREATE
                and not draft.line_writes
            ):
                return exists(error)
            return failed(error, identifier=draft.identifier)
        return _applied(draft, answers[-1])


def _applied(draft: Draft, answer: PartResponse | None) -> WriteResult:
    """The result of a write that was done; what it stored is shown where the answer says so."""
    result = WriteResult(outcome=Outcome.APPLIED, id=draft.identifier)
    row = _row(answer)
    if draft.operation.kind is OperationKind.CREATE:
        identifier = row.get(draft.entity.id_field) if row is not None else None
        if not isinstance(identifier, str):
            return failed(lost(f"The id of a {draft.what}"))
        result.id = identifier.lower()
    if row is not None and draft.operation.kind is not OperationKind.DELETE:
        try:
            found = found_of(draft.entity, row)
        except RecordError:
            return result
        result.etag, result.document = found.etag, found.document
    return result


def _row(answer: PartResponse | None) -> dict[str, Any] | None:
    if answer is None or answer.status >= 300 or not answer.content:  # noqa: PLR2004 - not a record
        return None
    try:
        row = answer.json()
    except MalformedBodyError:
        return None
    return row if isinstance(row, dict) else None


def _reads_back(draft: Draft) -> bool:
    return draft.operation.kind is OperationKind.UPDATE and draft.entity.lines is not None


def _single_parts(draft: Draft) -> list[PartRequest]:
    match draft.operation.kind:
        case OperationKind.CREATE:
            return [requests.create_part(draft)]
        case OperationKind.DELETE:
            return [requests.delete_part(draft)]
        case _:
            read = [requests.read_part(draft)] if _reads_back(draft) else []
            return [requests.update_part(draft), *read]


def _document_parts(draft: Draft) -> list[PartRequest]:
    header = [requests.update_part(draft)] if draft.body else []
    return [*header, *requests.line_parts(draft), requests.read_part(draft)]


def _units(drafts: Sequence[Draft], parts_of: Any) -> tuple[list[Unit], Results]:
    units: list[Unit] = []
    results: Results = {}
    for draft in drafts:
        try:
            units.append((draft, parts_of(draft)))
        except IpaasError as error:
            results[draft.place] = failed(error, identifier=draft.identifier)
    return units, results


def _packed(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Units in groups of at most MAX_PARTS requests; a unit is never split."""
    group: list[Unit] = []
    size = 0
    for unit in units:
        if group and size + len(unit[1]) > MAX_PARTS:
            yield group
            group, size = [], 0
        group.append(unit)
        size += len(unit[1])
    if group:
        yield group


def _all_failed(units: Sequence[Unit], error: IpaasError) -> Results:
    return {draft.place: failed(error, identifier=draft.identifier) for draft, _ in units}
