"""Conformance of writes: outcomes, versions, batches, lost answers, search lag."""

# ruff: noqa: PLR2004 - the name of a test is its sentence, the number in an assertion its expectation
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ipaas_resources.connectors.conforming.rig import Rig, need
from ipaas_resources.core.errors import IpaasError, RetryError
from ipaas_resources.core.records import Operation, OperationKind, Outcome, WriteResult

if TYPE_CHECKING:
    from ipaas_resources.connectors.conforming.case import ConformanceCase

#: Ways to lose an answer: the fault, and whether the product applied the write before.
LOST: dict[str, dict[str, Any]] = {
    "reset after it was applied": {"drop": True, "after": True},
    "reset before it was applied": {"drop": True},
    "silence after it was applied": {"hang": True, "after": True},
    "silence before it was applied": {"hang": True},
    "502 after it was applied": {"status": 502, "after": True},
    "503 before it was applied": {"status": 503},
    "half an answer": {"tear": True},
    "applied a minute after we gave up": {"hang": True, "late": 60.0},
}


class WritingTests:
    """What every connector promises of its writes."""

    async def test_a_create_stores_the_values_and_names_the_record(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        result = await rig.created(1)
        (found,) = await rig.read(case.writable, [result.id or ""])
        assert found is not None
        assert_holds(found.document, case.new_fields(1))
        assert rig.creates() == 1

    async def test_a_returned_document_equals_the_one_read(self, rig: Rig, case: ConformanceCase) -> None:
        capabilities = rig.manifest.capabilities(case.writable)
        if not capabilities.returns_document:
            pytest.skip(f"{case.writable} declares returns_document: false")
        need(case.no_update)
        created = await rig.created(1)
        updated = await self._update(rig, case, created)
        for result in (created, updated):
            (found,) = await rig.read(case.writable, [created.id or ""])
            assert found is not None
            if result is updated:
                assert await rig.stable(case.writable, result.document) == await rig.stable(
                    case.writable, found.document
                )
                assert result.etag == found.etag
            else:
                assert set(result.document or {}) == set(found.document)

    async def _update(
        self, rig: Rig, case: ConformanceCase, created: WriteResult, etag: str | None = None
    ) -> WriteResult:
        if etag is None:
            (found,) = await rig.read(case.writable, [created.id or ""])
            assert found is not None
            etag = found.etag
        (result,) = await rig.write(
            Operation(kind=OperationKind.UPDATE, id=created.id, etag=etag, fields=case.changed_fields(1))
        )
        return result

    async def test_an_update_changes_the_named_fields_alone(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_update)
        created = await rig.created(1)
        result = await self._update(rig, case, created)
        assert result.outcome is Outcome.APPLIED, result.error
        assert result.id == created.id
        (found,) = await rig.read(case.writable, [created.id or ""])
        assert found is not None
        assert_holds(found.document, case.new_fields(1) | case.changed_fields(1))

    async def test_a_delete_removes_the_record(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_delete)
        created = await rig.created(1)
        (found,) = await rig.read(case.writable, [created.id or ""])
        assert found is not None
        (result,) = await rig.write(Operation(kind=OperationKind.DELETE, id=created.id, etag=found.etag))
        assert result.outcome is Outcome.APPLIED, result.error
        assert await rig.read(case.writable, [created.id or ""]) == [None]
        (again,) = await rig.write(Operation(kind=OperationKind.DELETE, id=created.id, etag=found.etag))
        assert again.outcome is Outcome.MISSING

    async def test_an_update_of_a_missing_record_says_so(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_update)
        created = await rig.created(1)
        (found,) = await rig.read(case.writable, [created.id or ""])
        assert found is not None
        (result,) = await rig.write(
            Operation(
                kind=OperationKind.UPDATE, id=case.missing_id, etag=found.etag, fields=case.changed_fields(1)
            )
        )
        assert result.outcome is Outcome.MISSING
        assert isinstance(result.error, IpaasError)

    async def test_no_operations_are_no_request(self, rig: Rig) -> None:
        assert await rig.write() == []
        assert rig.fake.ledger.entries == []

    async def test_a_foreign_edit_since_the_read_is_reload(self, rig: Rig, case: ConformanceCase) -> None:
        self._need_versions(rig, case)
        created = await rig.created(1)
        (found,) = await rig.read(case.writable, [created.id or ""])
        assert found is not None
        rig.clock.advance(1)
        case.touch(rig.fake, case.writable, created.id or "")
        before = dict(case.stored(rig.fake, created.id or ""))
        result = await self._update(rig, case, created, found.etag)
        assert result.outcome is Outcome.RELOAD
        assert dict(case.stored(rig.fake, created.id or "")) == before

    async def test_every_conflict_status_is_reload(self, rig: Rig, case: ConformanceCase) -> None:
        self._need_versions(rig, case)
        created = await rig.created(1)
        for status in case.conflict_statuses:
            rig.fake.fail(case.conflict_fault(status))
            result = await self._update(rig, case, created)
            assert result.outcome is Outcome.RELOAD, f"{status} became {result.outcome}"
        assert (await self._update(rig, case, created)).outcome is Outcome.APPLIED

    def _need_versions(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_update)
        if not rig.manifest.capabilities(case.writable).conditional_updates:
            pytest.skip(f"{case.writable} declares conditional_updates: false")

    async def test_one_refused_operation_does_not_stop_the_others(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        need(case.no_refused_partially)
        count = min(rig.manifest.capabilities(case.writable).write_batch, 6)
        for bad in range(count):
            operations = [rig.create(100 * bad + number) for number in range(count)]
            operations[bad] = rig.create(100 * bad + bad, case.refused_fields())
            results = await rig.insist(*operations)
            wanted = [Outcome.REFUSED if number == bad else Outcome.APPLIED for number in range(count)]
            assert [result.outcome for result in results] == wanted
            assert results[bad].error is not None
            for number, result in enumerate(results):
                if number != bad:
                    stored = case.stored(rig.fake, result.id or "")
                    assert stored[case.text_field] == case.new_fields(100 * bad + number)[case.text_field]
        assert rig.creates() == count * (count - 1)

    async def test_a_full_batch_is_applied_in_few_requests_and_in_order(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        batch = rig.manifest.capabilities(case.writable).write_batch
        if batch == 1:
            pytest.skip(f"{case.writable} declares write_batch: 1")
        results = await rig.write(*(rig.create(number) for number in range(batch)))
        assert {result.outcome for result in results} == {Outcome.APPLIED}
        assert len({result.id for result in results}) == batch
        for number in (0, batch // 2, batch - 1):
            stored = case.stored(rig.fake, results[number].id or "")
            assert stored[case.text_field] == case.new_fields(number)[case.text_field]
        assert rig.creates() == batch

    async def test_a_taken_key_is_exists_not_a_second_record(self, rig: Rig, case: ConformanceCase) -> None:
        strategy = rig.manifest.capabilities(case.writable).create
        if strategy != "client_key":
            need(case.no_taken_key)
        await rig.created(1)
        rig.clock.advance(rig.fake.search_lag + 1)
        (again,) = await rig.write(rig.create(1, repeated=strategy == "client_key"))
        assert again.outcome is Outcome.EXISTS
        assert rig.creates() == 1

    @pytest.mark.parametrize("how", LOST)
    async def test_a_lost_answer_is_unknown_and_ends_as_one_record(
        self, rig: Rig, case: ConformanceCase, how: str
    ) -> None:
        await self._warm_up(rig)
        rig.fake.fail(case.write_fault(**LOST[how]))
        (result,) = await rig.write(rig.create(1))
        # A client that re-sends by itself is safe only where the create is repeatable (client_key, create-only).
        if result.outcome is not Outcome.UNKNOWN:
            assert rig.manifest.capabilities(case.writable).create == "client_key", result.outcome
            assert result.outcome in {Outcome.APPLIED, Outcome.EXISTS}
        await rig.wait_until_known()
        found = await rig.look(1)
        if not found:
            (result,) = await rig.insist(rig.create(1, repeated=True))
            assert result.outcome in {Outcome.APPLIED, Outcome.EXISTS}, result.error
            await rig.wait_until_known()
            found = await rig.look(1)
        assert len(found) == 1
        assert rig.creates() == 2

    async def test_a_repeated_create_never_makes_a_second_record(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        if rig.manifest.capabilities(case.writable).create != "client_key":
            pytest.skip(f"{case.writable} is not created by client_key: a repeat is looked up first")
        await self._warm_up(rig)
        rig.fake.fail(case.write_fault(drop=True, after=True))
        await rig.write(rig.create(1))
        (again,) = await rig.write(rig.create(1, repeated=True))  # at once, search lag or not
        assert again.outcome in {Outcome.APPLIED, Outcome.EXISTS}
        assert rig.creates() == 2

    async def test_a_lost_batch_is_unknown_as_a_whole(self, rig: Rig, case: ConformanceCase) -> None:
        await self._warm_up(rig)
        count = min(rig.manifest.capabilities(case.writable).write_batch, 4)
        rig.fake.fail(case.write_fault(drop=True, after=True, times=-1))
        results = await rig.write(*(rig.create(number) for number in range(1, count + 1)))
        assert len(results) == count
        # Operations that were not sent any more may be RETRY; nothing lost may pass for applied or failed.
        assert {result.outcome for result in results} <= {Outcome.UNKNOWN, Outcome.RETRY}
        unknown = sum(result.outcome is Outcome.UNKNOWN for result in results)
        assert rig.creates() - 1 <= unknown

    async def test_a_refused_connection_leaves_nothing_and_may_be_repeated(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        await self._warm_up(rig)
        rig.fake.fail(case.write_fault(refuse=True, times=-1))
        try:
            (result,) = await rig.connector.write(case.writable, case.scope, [rig.create(1)])
        except RetryError:
            pass
        else:
            assert result.outcome is Outcome.RETRY
        rig.fake.faults.clear()
        (result,) = await rig.insist(rig.create(1))
        assert result.outcome is Outcome.APPLIED
        assert rig.creates() == 2

    async def test_a_throttled_write_waits_and_is_applied_once(self, rig: Rig, case: ConformanceCase) -> None:
        await self._warm_up(rig)
        rig.fake.fail(case.write_fault(status=429, headers={"retry-after": "17"}, times=2))
        (result,) = await rig.insist(rig.create(1))
        assert result.outcome is Outcome.APPLIED, result.error
        assert rig.creates() == 2
        rig.assert_waits_were_kept()

    async def _warm_up(self, rig: Rig) -> None:
        """Sign in and read metadata, so that faults strike what they are meant for."""
        await rig.created(0)

    async def test_the_declared_search_lag_is_not_shorter_than_the_products(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        assert rig.manifest.search_lag >= rig.fake.search_lag
        await rig.created(1)
        rig.clock.advance(rig.manifest.search_lag)
        (hits,) = await rig.find(case.key_fields, [case.key_values(1)])
        assert len(hits) == 1

    async def test_a_created_record_may_be_invisible_to_queries_for_a_while(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        if rig.manifest.search_lag == 0:
            pytest.skip("the manifest declares search_lag: 0")
        rig.fake.search_lag = rig.manifest.search_lag
        created = await rig.created(1)
        (hits,) = await rig.find(case.key_fields, [case.key_values(1)])
        assert hits == []
        (by_id,) = await rig.read(case.writable, [created.id or ""])
        assert by_id is not None, "a read by id knows no search lag"
        rig.clock.advance(rig.manifest.search_lag)
        (hits,) = await rig.find(case.key_fields, [case.key_values(1)])
        assert [found.id for found in hits] == [created.id]

    async def test_the_fake_refuses_read_only_and_unknown_fields(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        accepted = await case.raw_create(rig.fake, 1, {})
        assert accepted.is_success, "the same request without the extra field must pass"
        name, value = case.read_only
        for number, extra in enumerate(({name: value}, {case.unknown_field: "x"}), start=2):
            refused = await case.raw_create(rig.fake, number, extra)
            assert refused.is_client_error, f"the fake took {list(extra)}"
        assert rig.creates() == 1

    async def test_a_read_only_field_is_never_sent(self, rig: Rig, case: ConformanceCase) -> None:
        name, value = case.read_only
        field = (await rig.schema(case.writable)).field(name)
        assert field is not None
        assert field.readonly
        (result,) = await rig.write(rig.create(1, {name: value}))
        # Dropped or refused on our side, as the connector likes: the product never sees it.
        assert result.outcome in {Outcome.APPLIED, Outcome.REFUSED}
        self._assert_nothing_was_refused(rig)
        if result.outcome is Outcome.APPLIED:
            (found,) = await rig.read(case.writable, [result.id or ""])
            assert found is not None
            assert found.document[name] != value

    async def test_an_unknown_field_is_refused_before_it_is_sent(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        (result,) = await rig.write(rig.create(1, {case.unknown_field: "x"}))
        assert result.outcome is Outcome.REFUSED
        assert case.unknown_field in str(result.error)
        self._assert_nothing_was_refused(rig)
        assert rig.creates() == 0

    def _assert_nothing_was_refused(self, rig: Rig) -> None:
        assert [entry.status for entry in rig.fake.ledger.entries if 400 <= entry.status < 500] == []

    async def test_the_trace_id_travels_with_the_write(self, rig: Rig, case: ConformanceCase) -> None:
        operation = rig.create(9)
        await rig.insist(operation)
        told = {
            effect.trace_id or entry.trace_id
            for entry in rig.fake.ledger.entries
            for effect in entry.effects
            if effect.entity == case.writable
        }
        assert told == {operation.trace_id}


def assert_holds(document: dict[str, Any], fields: dict[str, Any]) -> None:
    """The document carries these fields with these values."""
    wrong = [name for name, value in fields.items() if document.get(name) != value]
    assert not wrong, f"the product does not hold what was sent in {wrong}"
