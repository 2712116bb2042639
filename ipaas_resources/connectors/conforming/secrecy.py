"""Conformance of silence: no secret and no personal value in a log or an error, no token to a stranger."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from ipaas_resources.connectors.conforming.case import CANARY_PERSON, CANARY_SECRET
from ipaas_resources.connectors.conforming.rig import Rig, need
from ipaas_resources.core.errors import IpaasError, ProtocolError
from ipaas_resources.core.records import Operation, OperationKind

if TYPE_CHECKING:
    from ipaas_resources.connectors.conforming.case import ConformanceCase

STRANGER = "stranger.example"


class SecrecyTests:
    """What every connector promises about what it tells, and to whom."""

    async def test_a_link_to_another_host_is_not_followed(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_links)
        case.seed(rig.fake, case.readable, 23)
        rig.fake.fail(case.foreign_link_fault(STRANGER))
        with pytest.raises(ProtocolError):
            await rig.scan(page_size=5)
        assert STRANGER not in {host for host, _ in rig.recorder.sent}

    async def test_nothing_personal_and_no_secret_is_logged_or_told(
        self, rig: Rig, case: ConformanceCase, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert CANARY_SECRET in str(dict(case.secrets)), "the case must use CANARY_SECRET"
        errors: list[BaseException] = []
        with caplog.at_level(logging.DEBUG):
            await self._live(rig, case, errors)
            await self._suffer(rig, case, errors)
        told = "\n".join([*map(_whole_text, errors), *map(_everything, caplog.records)])
        assert errors
        assert CANARY_PERSON not in told
        assert CANARY_PERSON.replace(" ", "%20") not in told
        assert CANARY_PERSON.replace(" ", "+") not in told
        assert CANARY_SECRET not in told

    async def _live(self, rig: Rig, case: ConformanceCase, errors: list[BaseException]) -> None:
        """Read, find and write the canary, refused too."""
        personal = {case.personal_field: CANARY_PERSON}
        case.plant(rig.fake, personal)
        await rig.scan(case.writable)
        await rig.find((case.personal_field,), [(CANARY_PERSON,)])
        for operation in (
            rig.create(1, personal),
            rig.create(2, personal | case.refused_fields()),
            rig.create(3, personal | {case.unknown_field: CANARY_PERSON}),
            Operation(kind=OperationKind.UPDATE, id=case.missing_id, etag='W/"1"', fields=personal),
        ):
            (result,) = await rig.write(operation)
            if result.error is not None:
                errors.append(result.error)

    async def _suffer(self, rig: Rig, case: ConformanceCase, errors: list[BaseException]) -> None:
        """Let the product put the canary into everything it says."""
        body = {
            "error": {"code": "Oops", "message": f"{CANARY_PERSON} {CANARY_SECRET}"},
            "Message": CANARY_PERSON,
        }
        personal = {case.personal_field: CANARY_PERSON}
        for status in (400, 401, 403, 404, 409, 422, 429, 500, 503):
            rig.fake.faults.clear()
            rig.fake.fail(case.list_fault(case.readable, status=status, json=body, times=-1))
            rig.fake.fail(case.write_fault(status=status, json=body, times=-1))
            try:
                async for _ in rig.connector.changes(case.readable, case.scope, None):
                    pass
            except IpaasError as error:
                errors.append(error)
            try:
                results = await rig.connector.write(case.writable, case.scope, [rig.create(status, personal)])
                errors.extend(result.error for result in results if result.error is not None)
            except IpaasError as error:
                errors.append(error)
        rig.fake.faults.clear()
        troubles: tuple[dict[str, Any], ...] = (
            {"tear": True},
            {"hang": True},
            {"status": 200, "body": f"<html>{CANARY_PERSON}"},
        )
        for what in troubles:
            rig.fake.faults.clear()
            rig.fake.fail(case.list_fault(case.writable, times=-1, **what))
            try:
                await rig.find((case.personal_field,), [(CANARY_PERSON,)])
            except IpaasError as error:
                errors.append(error)


def _whole_text(error: BaseException) -> str:
    """Message, causes and notes; the source lines of a traceback hold no values."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))


def _everything(record: logging.LogRecord) -> str:
    return record.getMessage() + str({name: value for name, value in vars(record).items() if name != "msg"})
