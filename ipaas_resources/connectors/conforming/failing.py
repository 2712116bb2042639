"""Conformance under failure: throttling, outages, expiring sign-ins, answers that are none."""

# ruff: noqa: PLR2004 - the name of a test is its sentence, the number in an assertion its expectation
from __future__ import annotations

import datetime as dt
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from ipaas_resources.connectors.conforming.reading import COUNT, PAGE
from ipaas_resources.connectors.conforming.rig import Rig, need
from ipaas_resources.core.errors import (
    CircuitOpenError,
    CredentialsError,
    ProtocolError,
    RetryError,
    SystemBusyError,
    UnreachableError,
)

if TYPE_CHECKING:
    from ipaas_resources.connectors.conforming.case import ConformanceCase

#: Passing troubles: each strikes once, and the read goes on.
TROUBLES: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "502": {"status": 502},
    "503": {"status": 503},
    "504": {"status": 504},
    "a reset": {"drop": True},
    "silence": {"hang": True},
    "a refused connection": {"refuse": True},
    "half an answer": {"tear": True},
}
NONSENSE: dict[str, dict[str, Any]] = {
    "a page of HTML": {
        "status": 200,
        "body": "<html>Sign in</html>",
        "headers": {"content-type": "text/html"},
    },
    "invalid JSON": {"status": 200, "body": '{"value": [', "headers": {"content-type": "application/json"}},
    "an empty answer": {"status": 200, "headers": {"content-type": "application/json"}},
    "JSON of another shape": {
        "status": 200,
        "body": '{"error": "no"}',
        "headers": {"content-type": "application/json"},
    },
}


class FailingTests:
    """What every connector promises when the other side does not do its part."""

    @pytest.mark.parametrize("trouble", TROUBLES)
    async def test_a_passing_trouble_is_overcome(self, rig: Rig, case: ConformanceCase, trouble: str) -> None:
        ids = case.seed(rig.fake, case.readable, COUNT)
        rig.fake.fail(case.list_fault(case.readable, skip=0 if case.no_links else 1, **TROUBLES[trouble]))
        scan = await rig.scan(page_size=PAGE)
        assert sorted(map(str, scan.ids)) == sorted(ids)
        assert scan.pages[-1].complete
        assert rig.fake.faults[0].struck == 1, "the fault struck nothing: the case's list_path is wrong"

    @pytest.mark.parametrize(
        ("trouble", "error"),
        [
            ("503", SystemBusyError),
            ("silence", RetryError),
            ("a reset", RetryError),
            ("a refused connection", UnreachableError),
        ],
    )
    async def test_a_lasting_trouble_is_reported_as_one_to_retry(
        self, rig: Rig, case: ConformanceCase, trouble: str, error: type[RetryError]
    ) -> None:
        case.seed(rig.fake, case.readable, 3)
        rig.fake.fail(case.list_fault(case.readable, times=-1, **TROUBLES[trouble]))
        with pytest.raises(error):
            async for _ in rig.connector.changes(case.readable, case.scope, None):
                pass
        assert rig.fake.faults[0].struck <= 8

    async def test_nothing_at_all_is_sent_while_the_circuit_breaker_is_open(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        case.seed(rig.fake, case.readable, 3)
        rig.breaker.open = True
        with pytest.raises(CircuitOpenError):
            async for _ in rig.connector.changes(case.readable, case.scope, None):
                pass
        assert rig.recorder.sent == []

    @pytest.mark.parametrize("nonsense", NONSENSE)
    async def test_an_answer_that_is_none_is_never_an_empty_page(
        self, rig: Rig, case: ConformanceCase, nonsense: str
    ) -> None:
        case.seed(rig.fake, case.readable, 3)
        rig.fake.fail(case.list_fault(case.readable, times=-1, **NONSENSE[nonsense]))
        with pytest.raises((ProtocolError, RetryError)):
            async for _ in rig.connector.changes(case.readable, case.scope, None):
                pass

    @pytest.mark.parametrize("wait", ["17", "date"])
    async def test_a_retry_after_is_waited_for(self, rig: Rig, case: ConformanceCase, wait: str) -> None:
        ids = case.seed(rig.fake, case.readable, COUNT)
        await rig.scan(page_size=PAGE)  # signed in
        before = rig.clock.monotonic()
        moment = rig.clock.now() + dt.timedelta(seconds=17)
        text = format_datetime(moment.astimezone(dt.UTC), usegmt=True) if wait == "date" else wait
        rig.fake.fail(case.list_fault(case.readable, status=429, headers={"retry-after": text}))
        scan = await rig.scan(page_size=PAGE)
        assert sorted(map(str, scan.ids)) == sorted(ids)
        assert rig.clock.monotonic() - before >= 17
        rig.assert_waits_were_kept()

    async def test_a_storm_of_429_is_sat_out(self, rig: Rig, case: ConformanceCase) -> None:
        ids = case.seed(rig.fake, case.readable, COUNT)
        headers: dict[str, str]
        for headers in ({"retry-after": "5"}, {"retry-after": "300"}, {"retry-after": "0"}, {}):
            rig.fake.fail(case.list_fault(case.readable, status=429, headers=headers, times=6))
        scan = await rig.scan(page_size=PAGE)
        assert sorted(map(str, scan.ids)) == sorted(ids)
        assert sum(fault.struck for fault in rig.fake.faults) == 24
        rig.assert_waits_were_kept()

    async def test_a_token_that_expires_in_the_middle_is_renewed(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        need(case.no_token_expiry)
        ids = case.seed(rig.fake, case.readable, COUNT)

        async def expire(page: int) -> None:
            if page == 1:
                case.expire_tokens(rig.fake)

        scan = await rig.scan(page_size=PAGE, on_page=expire)
        assert sorted(map(str, scan.ids)) == sorted(ids)
        case.expire_tokens(rig.fake)
        await rig.created(1)
        assert rig.creates() == 1

    async def test_bad_credentials_are_told_at_once(self, rig: Rig, case: ConformanceCase) -> None:
        case.break_credentials(rig.fake)
        with pytest.raises(CredentialsError):
            await rig.connector.check()
        with pytest.raises(CredentialsError):
            await rig.scan()
        assert len(rig.fake.ledger.entries) <= 8

    async def test_a_healthy_system_says_what_it_is(self, rig: Rig) -> None:
        health = await rig.connector.check()
        assert health.product
        assert rig.fake.ledger.entries, "the check must reach the system"

    async def test_a_system_out_of_reach_is_one_to_retry(self, rig: Rig) -> None:
        from ipaas_resources.connectors.fakes import Fault  # noqa: PLC0415 - reads better beside its use

        rig.fake.fail(Fault(refuse=True, times=-1))
        with pytest.raises(RetryError):
            await rig.connector.check()

    async def test_every_request_asks_the_budget_first(self, rig: Rig, case: ConformanceCase) -> None:
        case.seed(rig.fake, case.readable, COUNT)
        await rig.scan(page_size=PAGE)
        await rig.created(1)
        await rig.find(case.key_fields, [case.key_values(1)])
        data = [entry for entry in rig.fake.ledger.entries if entry.principal]
        assert len(data) <= rig.limits.granted
        policy = rig.manifest.limits.policy()
        assert max(entry.concurrent for entry in rig.fake.ledger.entries) <= policy.concurrency
