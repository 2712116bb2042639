"""Writes: the largest safe batch first, and what to do when it does not go through.

- Creates carry their own GUID. Many new ones go in one CreateMultiple; a repeated one, or a few, by `$batch` of PATCH
  with `If-None-Match: *`, which can never change or double a record.
- Updates and deletes go by `$batch` with `If-Match`: the version where the operation has one, `*` otherwise. A PATCH
  without a condition would create a record again that somebody deleted. UpdateMultiple knows no conditions, so it takes
  only updates without a version.
- UpsertMultiple is never used: it creates deleted records again.
- A *Multiple call is all or nothing. When it is refused, its operations go once more as single ones of a `$batch`, which
  fail alone; a `$batch` that is refused as a whole is halved.

microsoft.md 2.5, 2.6. What a status means for an operation is in `verdicts.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.dataverse.operations import Owners, Ready, make_ready
from ipaas_resources.connectors.dataverse.verdicts import Verdicts
from ipaas_resources.core.errors import (
    IpaasError,
    MissingRecordError,
    RecordError,
    RefusedRecordError,
    ReloadError,
    SystemBusyError,
    UnknownOutcomeError,
)
from ipaas_resources.core.records import Operation, OperationKind, Outcome, WriteResult
from ipaas_resources.net.body import MalformedBodyError, decode_json
from ipaas_resources.net.odata.parts import PartRequest
from ipaas_resources.net.statuses import outcome_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.dataverse.api import Api
    from ipaas_resources.connectors.dataverse.config import DataverseSettings
    from ipaas_resources.connectors.dataverse.metadata import Metadata
    from ipaas_resources.connectors.dataverse.reader import Reader, Views
    from ipaas_resources.connectors.dataverse.view import View

#: Answers that say "this request was refused, nothing of it was done".
_REFUSALS = (RefusedRecordError, MissingRecordError, ReloadError)


class Writer:
    """Writes records of one environment."""

    def __init__(
        self, api: Api, metadata: Metadata, views: Views, reader: Reader, settings: DataverseSettings
    ) -> None:
        self._api = api
        self._metadata = metadata
        self._views = views
        self._reader = reader
        self._settings = settings
        self._owners = Owners(api)

    async def write(self, entity: str, operations: Sequence[Operation]) -> list[WriteResult]:
        """Send the operations; one result each, in their order.

        Raises:
            StopError, RetryError: before anything was written.
        """
        if not operations:
            return []
        view = self._views.get(await self._metadata.known(entity))
        await self._owners.settle(view, operations)
        sending = _Sending(
            view, self._api, self._settings, Verdicts(view, self._api, self._reader), operations
        )
        for place, operation in enumerate(operations):
            try:
                sending.ready.append(make_ready(view, self._owners, place, operation))
            except RecordError as error:
                sending.results[place] = WriteResult(outcome=Outcome.REFUSED, id=operation.id, error=error)
        return await sending.run()


class _Sending:
    """The operations of one call on their way."""

    def __init__(
        self,
        view: View,
        api: Api,
        settings: DataverseSettings,
        verdicts: Verdicts,
        operations: Sequence[Operation],
    ) -> None:
        self._view = view
        self._api = api
        self._settings = settings
        self._verdicts = verdicts
        self.ready: list[Ready] = []
        self.results: list[WriteResult | None] = [None] * len(operations)
        #: Why nothing more is sent in this call.
        self._stopped: IpaasError | None = None

    async def run(self) -> list[WriteResult]:
        """Send everything; every operation has a result then."""
        creates, updates, single = self._split()
        for action, some in (("CreateMultiple", creates), ("UpdateMultiple", updates)):
            if some and not await self._multiple(action, some):
                single = sorted([*single, *some], key=lambda each: each.place)
        for chunk in _chunks(single, self._settings.batch_requests):
            await self._batch(chunk)
        return [self._unsent() if result is None else result for result in self.results]

    def _split(self) -> tuple[list[Ready], list[Ready], list[Ready]]:
        """What may go by CreateMultiple, by UpdateMultiple, and singly."""
        table, bulk = self._view.table, self._settings.bulk
        creates = [each for each in self.ready if bulk and each.creates and not each.operation.repeated]
        updates = [each for each in self.ready if bulk and _unconditional_update(each)]
        if not table.bulk_create or len(creates) < self._settings.bulk_from:
            creates = []
        if not table.bulk_update or len(updates) < self._settings.bulk_from:
            updates = []
        taken = {each.place for each in (*creates, *updates)}
        return creates, updates, [each for each in self.ready if each.place not in taken]

    async def _multiple(self, action: str, some: Sequence[Ready]) -> bool:
        """One *Multiple call. False when it was refused: then nothing of it was done."""
        if self._stopped is not None:
            return True
        kind = f"Microsoft.Dynamics.CRM.{self._view.table.definition.logical_name}"
        primary = self._view.primary
        targets = [_target(kind, primary, each) for each in some]
        try:
            response = await self._api.write(
                f"{self._view.entity}/Microsoft.Dynamics.CRM.{action}",
                b'{"Targets":[%b]}' % b",".join(targets),
                {},
                endpoint=f"{self._view.entity}/{action}",
                trace_id=some[0].operation.trace_id,
            )
            if action == "CreateMultiple" and _ids(response.content) != [each.id for each in some]:
                raise response.broken("it does not name the records that were sent")
        except _REFUSALS:
            return False
        except IpaasError as error:
            self._fail(some, error)
            return True
        for each in some:
            self.results[each.place] = WriteResult(outcome=Outcome.APPLIED, id=each.id)
        return True

    async def _batch(self, chunk: Sequence[Ready]) -> None:
        """One `$batch` of single writes."""
        if self._stopped is not None:
            return
        parts = [self._part(each) for each in chunk]
        try:
            answers = await self._api.write_batch(parts, chunk[0].operation.trace_id)
        except RefusedRecordError as error:
            await self._halve(chunk, error)
        except _REFUSALS as error:
            # 404, 409 or 412 for the batch itself says nothing about a record.
            self._fail(chunk, SystemBusyError(f"{error.message} Nothing was written.", code=error.code))
        except IpaasError as error:
            self._fail(chunk, error)
        else:
            for each, result in zip(chunk, await self._verdicts.of(chunk, answers), strict=True):
                self.results[each.place] = result

    async def _halve(self, chunk: Sequence[Ready], error: RefusedRecordError) -> None:
        if len(chunk) > 1:
            half = len(chunk) // 2
            await self._batch(chunk[:half])
            await self._batch(chunk[half:])
            return
        self.results[chunk[0].place] = WriteResult(outcome=Outcome.REFUSED, id=chunk[0].id, error=error)

    def _part(self, ready: Ready) -> PartRequest:
        operation = ready.operation
        url = f"{self._view.entity}({ready.id})"
        trace = self._api.trace_headers(operation.trace_id)
        if operation.kind is OperationKind.DELETE:
            return PartRequest(method="DELETE", url=url, headers={**ready.condition, **trace})
        wishes = ",".join(("return=representation", *self._view.wishes))
        return PartRequest(
            method="PATCH",
            url=url,
            headers={**ready.condition, "Prefer": wishes, **trace},
            body=ready.body,
        )

    def _fail(self, some: Sequence[Ready], error: IpaasError) -> None:
        """The request as a whole failed: the same for all of its operations, and nothing more is sent."""
        self._stopped = error
        outcome = outcome_of(error)
        for each in some:
            self.results[each.place] = WriteResult(outcome=outcome, id=each.id, error=error)

    def _unsent(self) -> WriteResult:
        error = self._stopped
        if error is None or isinstance(error, UnknownOutcomeError):
            error = SystemBusyError("The write was not sent, because an earlier one got no answer.")
        return WriteResult(outcome=outcome_of(error), error=error)


def _unconditional_update(ready: Ready) -> bool:
    return ready.operation.kind is OperationKind.UPDATE and ready.operation.etag is None


def _target(kind: str, primary: str, ready: Ready) -> bytes:
    head = f'{{"@odata.type":"{kind}","{primary}":"{ready.id}"'.encode()
    return head + (b"," + ready.body[1:] if len(ready.body) > len(b"{}") else b"}")


def _ids(content: bytes) -> list[Any] | None:
    """The ids that CreateMultiple answers, None when it answers something else."""
    try:
        body = decode_json(content)
    except MalformedBodyError:
        return None
    ids = body.get("Ids") if isinstance(body, dict) else None
    return (
        [each.lower() if isinstance(each, str) else each for each in ids] if isinstance(ids, list) else None
    )


def _chunks(some: Sequence[Ready], size: int) -> list[Sequence[Ready]]:
    return [some[start : start + size] for start in range(0, len(some), size)]
