"""What the answer inside a `$batch` says about its operation.

microsoft.md 2.5: 404 on an update: the record is not there; 412: it has another version, or on a create that it
exists. Beyond that table, from the platform's error codes: a 412 may speak of an alternate key, which no reload
mends; a 404 may speak of a record that the write refers to.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from ipaas_resources.connectors.dataverse.view import order_of
from ipaas_resources.core.errors import (
    ContractError,
    CredentialsError,
    IpaasError,
    MissingRecordError,
    RefusedRecordError,
    ReloadError,
    UnknownOutcomeError,
)
from ipaas_resources.core.records import OperationKind, Outcome, WriteResult
from ipaas_resources.net.body import MalformedBodyError
from ipaas_resources.net.odata.etag import etag_of
from ipaas_resources.net.statuses import outcome_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.dataverse.api import Api
    from ipaas_resources.connectors.dataverse.operations import Ready
    from ipaas_resources.connectors.dataverse.reader import Reader
    from ipaas_resources.connectors.dataverse.view import View
    from ipaas_resources.net.odata.parts import PartResponse

_LOOKED_FOR_AT_ONCE = 50

#: 412 of these codes: another record holds a value that must be unique; reading again changes nothing.
_OTHER_RECORD = frozenset({"0x80060892", "0x80040333"})


class Verdicts:
    """Turns answers into results."""

    def __init__(self, view: View, api: Api, reader: Reader) -> None:
        self._view = view
        self._api = api
        self._reader = reader

    async def of(self, chunk: Sequence[Ready], answers: Sequence[PartResponse | None]) -> list[WriteResult]:
        """One result per operation of a batch."""
        results = [self._one(ready, answer) for ready, answer in zip(chunk, answers, strict=True)]
        self._judge_forbidden(results)
        await self._tell_missing_apart(chunk, results)
        return results

    def _one(self, ready: Ready, answer: PartResponse | None) -> WriteResult:
        if answer is None:
            error: IpaasError = UnknownOutcomeError(
                f"A write to {self._view.entity} got no answer in its batch; look before repeating it."
            )
            return WriteResult(outcome=Outcome.UNKNOWN, id=ready.id, error=error)
        failure = self._api.part_error(answer, write=True)
        if failure is None:
            return self._applied(ready, answer)
        return self._failed(ready, answer, failure)

    def _applied(self, ready: Ready, answer: PartResponse) -> WriteResult:
        result = WriteResult(outcome=Outcome.APPLIED, id=ready.id)
        if ready.operation.kind is OperationKind.DELETE or not answer.content:
            result.etag = (
                answer.headers.get("etag") if ready.operation.kind is not OperationKind.DELETE else None
            )
            result.order = order_of(result.etag)
            return result
        try:
            row = answer.json()
            result.etag = etag_of(row)
            result.order = order_of(result.etag)
            result.document = self._view.document(row)
        except (MalformedBodyError, ContractError, AttributeError, KeyError, TypeError):
            # It was written all the same; what it looks like is read later.
            result.document = None
        return result

    def _failed(self, ready: Ready, answer: PartResponse, error: IpaasError) -> WriteResult:
        if isinstance(error, ReloadError):
            if (error.code or "").lower() in _OTHER_RECORD:
                error = RefusedRecordError(
                    f"{error.message.partition(':')[0]}: another {self._view.entity} record holds a value that must be "
                    "unique; correct one of the two.",
                    code=error.code,
                )
            elif ready.creates:
                return WriteResult(outcome=Outcome.EXISTS, id=ready.id, error=error)
        if isinstance(error, RefusedRecordError):
            error.field = self._column(answer)
        return WriteResult(outcome=outcome_of(error), id=ready.id, error=error)

    def _column(self, answer: PartResponse) -> str | None:
        try:
            body = answer.json()
            message = body["error"]["message"]
        except (MalformedBodyError, KeyError, TypeError):
            return None
        named = self._api.columns_in(message) if isinstance(message, str) else []
        return named[0] if named else None

    def _judge_forbidden(self, results: list[WriteResult]) -> None:
        """403 for one record is about that record; 403 for all of several is about our rights."""
        forbidden = [
            result
            for result in results
            if isinstance(result.error, CredentialsError) and result.error.status == HTTPStatus.FORBIDDEN
        ]
        if len(forbidden) == len(results) > 1:
            return
        for result in forbidden:
            message = (
                f"Our application user may not write this record of {self._view.entity}; grant it the right."
            )
            result.error = RefusedRecordError(message, code=getattr(result.error, "code", None))
            result.outcome = Outcome.REFUSED

    async def _tell_missing_apart(self, chunk: Sequence[Ready], results: list[WriteResult]) -> None:
        """A 404 speaks of the record itself, or of one that it refers to: then the record is looked for."""
        doubtful = [
            (ready, result)
            for ready, result in zip(chunk, results, strict=True)
            if isinstance(result.error, MissingRecordError) and (ready.creates or ready.binds)
        ]
        present: set[str] = set()
        looked_for = [ready.id for ready, _ in doubtful if not ready.creates]
        if looked_for:
            try:
                found = await self._reader.read(self._view.entity, looked_for, _LOOKED_FOR_AT_ONCE)
            except IpaasError:
                # Not known now: reload makes the engine look, and it will see whether the record is there.
                for ready, result in doubtful:
                    if not ready.creates:
                        result.outcome = Outcome.RELOAD
                return
            present = {record.id for record in found if record is not None}
        for ready, result in doubtful:
            if ready.creates or ready.id in present:
                result.outcome = Outcome.REFUSED
                result.error = RefusedRecordError(
                    f"A record that this {self._view.entity} record refers to does not exist; write that one first.",
                    code=getattr(result.error, "code", None),
                )
