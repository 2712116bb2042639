"""Writes that fail: what Dataverse's answers mean for one operation, for a batch, and for what was not sent."""

import json

import pytest

from ipaas_resources.connectors.dataverse.fake_errors import error_body, protection_fault
from ipaas_resources.connectors.dataverse.tests import (
    Bench,
    create,
    delete,
    etags,
    outcomes,
    seed,
    update,
    write,
)
from ipaas_resources.connectors.fakes import Fault, Reply
from ipaas_resources.core.errors import ThrottledError
from ipaas_resources.core.records import FileRef, LineWrites, Operation, OperationKind, Outcome

ABSENT = "00000000-1111-2222-3333-444444444444"


@pytest.fixture
async def bench():
    bench = Bench()
    await bench.connector.schema("accounts")
    bench.fake.ledger.clear()
    yield bench
    await bench.connector.close()


def part_fault(status, body, **what):
    """Answers a batch of one instead of the product."""
    text = (
        "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nRetry-After: 30\r\n\r\n{body}\r\n--b--\r\n"
    )
    return Fault(
        path=r"\$batch$",
        status=200,
        headers={"content-type": "multipart/mixed; boundary=b"},
        body=text,
        **what,
    )


class TestOurOwnRefusals:
    @pytest.mark.parametrize(
        ("operation", "field"),
        [
            (create(1, nosuch="x"), "nosuch"),
            (create(1, createdon="2026-01-01T00:00:00.000000Z"), "createdon"),
            (create(1, statecode=1), "statecode"),
            (update(ABSENT, overriddencreatedon="2026-01-01T00:00:00.000000Z"), "overriddencreatedon"),
            (create(1, accountid=ABSENT), "accountid"),
        ],
    )
    async def test_what_cannot_be_written_is_named_and_not_sent(self, bench, operation, field):
        (result,) = await write(bench, operation)
        assert result.outcome is Outcome.REFUSED
        assert result.error.field == field
        assert bench.fake.ledger.entries == []

    @pytest.mark.parametrize(
        "operation",
        [
            Operation(kind=OperationKind.CREATE, fields={"name": "no id"}),
            Operation(kind=OperationKind.UPDATE, id="C-7", fields={"name": "no guid"}),
            Operation(kind=OperationKind.UPDATE, id=ABSENT, etag='W/"1"\r\nX: y', fields={"name": "a"}),
            Operation(kind=OperationKind.UPDATE, id=ABSENT, lines={"x": LineWrites()}),
            Operation(kind=OperationKind.UPDATE, id=ABSENT, files={"x": FileRef(id="f")}),
        ],
    )
    async def test_what_cannot_be_addressed_is_refused(self, bench, operation):
        results = await write(bench, operation, create(1))
        assert outcomes(results) == [Outcome.REFUSED, Outcome.APPLIED]


class TestFailuresOfTheWhole:
    async def test_long_batches_go_in_parts(self):
        bench = Bench(batch_requests=25)
        results = await write(bench, *(delete(i) for i in seed(bench, 60)))
        assert set(outcomes(results)) == {Outcome.APPLIED}
        assert bench.paths().count("$batch") == 1 + 3  # the metadata, then 25 + 25 + 10
        await bench.connector.close()

    async def test_a_batch_that_is_too_large_is_halved(self, bench):
        ids = seed(bench, 8)
        bench.fake.fail(
            Fault(path=r"\$batch$", status=413, times=1), Fault(path=r"\$batch$", status=413, skip=1)
        )
        results = await write(bench, *(delete(i) for i in ids))
        assert set(outcomes(results)) == {Outcome.APPLIED}
        assert len(bench.paths()) > 3

    async def test_a_batch_that_is_always_refused_ends_in_refusals(self, bench):
        bench.fake.fail(Fault(path=r"\$batch$", status=400, times=-1))
        results = await write(bench, *(delete(i) for i in seed(bench, 4)))
        assert outcomes(results) == [Outcome.REFUSED] * 4

    async def test_a_lost_batch_is_unknown_and_the_rest_is_not_sent(self):
        bench = Bench(batch_requests=5)
        await bench.connector.schema("accounts")
        ids = seed(bench, 12)
        bench.fake.fail(Fault(path=r"\$batch$", hang=True, after=True, skip=1))
        results = await write(bench, *(delete(i) for i in ids))
        assert outcomes(results) == [Outcome.APPLIED] * 5 + [Outcome.UNKNOWN] * 5 + [Outcome.RETRY] * 2
        assert all(result.error is not None for result in results[5:])
        assert len(list(bench.fake.sim_records("accounts", ""))) == 2
        await bench.connector.close()

    async def test_half_a_batch_answer_is_unknown_for_the_parts_it_lacks(self, bench):
        ids = seed(bench, 4)

        def cut(reply):
            at = reply.body.index(b"--batchresponse", len(reply.body) // 2)
            return Reply(reply.status, reply.body[:at] + reply.body[-40:], reply.headers)

        bench.fake.fail(Fault(path=r"\$batch$", change=cut))
        results = await write(bench, *(delete(i) for i in ids))
        assert set(outcomes(results)) == {Outcome.APPLIED, Outcome.UNKNOWN}
        assert results[0].outcome is Outcome.APPLIED
        assert results[-1].outcome is Outcome.UNKNOWN

    @pytest.mark.parametrize("path", ["CreateMultiple", r"\$batch$"])
    async def test_a_long_throttle_is_retry_with_its_pause(self, bench, path):
        count = 20 if path == "CreateMultiple" else 3
        bench.fake.fail(protection_fault("time", 250, path=path))
        results = await write(bench, *(create(n) for n in range(count)))
        assert set(outcomes(results)) == {Outcome.RETRY}
        assert isinstance(results[0].error, ThrottledError)
        assert (results[0].error.retry_after, results[0].error.code) == (250, "0x80072321")
        assert bench.fake.ledger.writes() == []

    async def test_our_sign_in_refused_stops(self, bench):
        bench.fake.login.clients.clear()
        bench.fake.tokens.expire_all()
        assert outcomes(await write(bench, create(1))) == [Outcome.STOP]

    async def test_404_for_the_batch_itself_is_about_no_record(self, bench):
        (identifier,) = seed(bench, 1)
        bench.fake.fail(Fault(path=r"\$batch$", status=404))
        assert outcomes(await write(bench, update(identifier, name="x"))) == [Outcome.RETRY]


class TestFailuresOfOne:
    @pytest.mark.parametrize(
        ("status", "code", "outcome"),
        [
            (400, "0x80044331", Outcome.REFUSED),
            (429, "0x80072326", Outcome.RETRY),
            (412, "0x80060882", Outcome.RELOAD),
            (412, "0x80060892", Outcome.REFUSED),  # an alternate key: no reload mends it
            (401, "", Outcome.STOP),
            (500, "0x80040216", Outcome.UNKNOWN),
            (503, "", Outcome.UNKNOWN),
        ],
    )
    async def test_what_a_status_means_for_an_update(self, bench, status, code, outcome):
        bench.fake.fail(part_fault(status, json.dumps(error_body(code, "Somebody's name is too long"))))
        (identifier,) = seed(bench, 1)
        (result,) = await write(bench, update(identifier, name="x"))
        assert result.outcome is outcome
        assert "Somebody" not in result.error.message
        if status == 429:
            assert result.error.retry_after == 30

    async def test_a_message_repeats_names_of_columns_and_no_other_quoted_word(self, bench):
        message = (
            "The value 'Smith' of 'creditlimit' for 'O_Brien' is outside the range of \u2018Jones\u2019."
        )
        bench.fake.fail(part_fault(400, json.dumps(error_body("0x80044330", message))))
        (identifier,) = seed(bench, 1)
        (result,) = await write(bench, update(identifier, name="x"))
        assert result.error.field == "creditlimit"
        assert "(creditlimit)" in result.error.message
        assert not any(name in result.error.message for name in ("Smith", "O_Brien", "Jones"))

    async def test_an_alternate_key_that_is_taken_is_not_exists(self, bench):
        bench.fake.fail(part_fault(412, json.dumps(error_body("0x80060892", "Entity Key violated."))))
        (result,) = await write(bench, create(1))
        assert result.outcome is Outcome.REFUSED
        assert result.error.code == "0x80060892"

    async def test_one_forbidden_record_is_refused_and_the_others_go_on(self, bench):
        ids = seed(bench, 3)
        bench.fake.organization.locked_rows.add(ids[1])
        tags = await etags(bench, ids)
        results = await write(bench, *(update(i, t, name="x") for i, t in zip(ids, tags, strict=True)))
        assert outcomes(results) == [Outcome.APPLIED, Outcome.REFUSED, Outcome.APPLIED]

    async def test_when_every_record_is_forbidden_our_rights_are_missing(self, bench):
        bench.fake.organization.denied.add("prvCreateaccount")
        assert outcomes(await write(bench, *(create(n) for n in range(3)))) == [Outcome.STOP] * 3

    async def test_each_part_carries_the_trace_of_its_operation(self, bench):
        await write(bench, create(1), create(2))
        assert [effect.trace_id for effect in bench.fake.ledger.writes()] == [f"{2:032x}", f"{3:032x}"]

    async def test_a_returned_row_that_breaks_the_schema_was_written_all_the_same(self, bench):
        def spoil(reply):
            return Reply(
                reply.status, reply.body.replace(b'"creditonhold":null', b'"creditonhold":7'), reply.headers
            )

        bench.fake.fail(Fault(path=r"\$batch$", change=spoil))
        (result,) = await write(bench, create(1))
        assert (result.outcome, result.document) == (Outcome.APPLIED, None)
        assert result.etag is not None
