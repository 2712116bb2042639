"""Conformance of reads: pages, cursors, deletes, ids, keys, discovery."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from ipaas_resources.connectors.conforming.rig import LONG_AGO, Rig, need, stored_cursor
from ipaas_resources.core.errors import CursorExpiredError, IpaasError, ProtocolError, SchemaError
from ipaas_resources.core.records import ChangeKind, Page
from ipaas_resources.core.schema import schema_bytes, schema_from

if TYPE_CHECKING:
    from ipaas_resources.connectors.conforming.case import ConformanceCase

COUNT, PAGE = 23, 5


class ReadingTests:
    """What every connector promises of its reads."""

    async def test_a_full_read_gives_every_record_once(self, rig: Rig, case: ConformanceCase) -> None:
        ids = case.seed(rig.fake, case.readable, COUNT)
        scan = await rig.scan(page_size=PAGE)
        assert sorted(map(str, scan.ids)) == sorted(ids)
        assert {change.kind for change in scan.changes} == {ChangeKind.UPSERT}

    async def test_only_the_last_page_of_a_full_read_is_complete(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        case.seed(rig.fake, case.readable, COUNT)
        pages = (await rig.scan(page_size=PAGE)).pages
        assert [page.complete for page in pages] == [False] * (len(pages) - 1) + [True]
        assert [page.more for page in pages] == [True] * (len(pages) - 1) + [False]
        if not case.no_pages:
            assert max(len(page.changes) for page in pages) <= PAGE
            assert len(pages) > 1

    async def test_an_empty_entity_is_one_complete_page(self, rig: Rig) -> None:
        pages = (await rig.scan()).pages
        assert [(page.changes, page.more, page.complete) for page in pages] == [([], False, True)]

    async def test_the_page_size_changes_no_document(self, rig: Rig, case: ConformanceCase) -> None:
        case.seed(rig.fake, case.readable, COUNT)
        assert (await rig.scan(page_size=PAGE)).documents() == (await rig.scan()).documents()

    async def test_a_scan_goes_on_from_any_pages_cursor_in_another_process(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        need(case.no_pages)
        ids = case.seed(rig.fake, case.readable, COUNT)
        whole = await rig.scan(page_size=PAGE)
        for number, page in enumerate(whole.pages[:-1], start=1):
            rest = await rig.scan(cursor=stored_cursor(page.cursor), page_size=PAGE, connector=rig.fresh())
            seen = {change.id for page in whole.pages[:number] for change in page.changes} | set(rest.ids)
            assert seen == set(ids)
            # Resumed, it is still the same enumeration: its end says whether the first part was complete too.
            assert not rest.pages[-1].more
            assert len(rest.pages) <= len(whole.pages) - number + 1

    async def test_the_next_scan_sees_what_changed_and_nothing_else(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        need(case.no_incremental)
        ids = case.seed(rig.fake, case.readable, COUNT)
        rig.clock.advance(LONG_AGO)
        first = await rig.scan()
        rig.clock.advance(LONG_AGO)
        changed = [ids[0], ids[11], ids[-1]]
        for identifier in changed:
            case.touch(rig.fake, case.readable, identifier)
        rig.clock.advance(1)
        second = await rig.scan(cursor=first.cursor)
        assert set(second.ids) == set(changed)
        assert not any(page.complete for page in second.pages)
        before, after = first.documents(), second.documents()
        assert all(before[identifier] != after[identifier] for identifier in changed)
        rig.clock.advance(LONG_AGO)
        third = await rig.scan(cursor=second.cursor)
        rig.clock.advance(LONG_AGO)
        assert (await rig.scan(cursor=third.cursor)).ids == []

    async def test_new_records_are_changes(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_incremental)
        case.seed(rig.fake, case.readable, 3)
        cursor = (await rig.scan()).cursor
        rig.clock.advance(LONG_AGO)
        new = case.seed(rig.fake, case.readable, 7)
        rig.clock.advance(rig.fake.search_lag + 1)
        assert set(new) <= set((await rig.scan(cursor=cursor, page_size=PAGE)).ids)

    async def test_a_change_during_the_scan_is_not_lost(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_incremental)
        ids = case.seed(rig.fake, case.readable, COUNT)
        rig.clock.advance(LONG_AGO)

        async def meddle(page: int) -> None:
            if page > 1:
                return
            for identifier in (ids[0], ids[COUNT // 2], ids[-1]):
                case.touch(rig.fake, case.readable, identifier)
            case.seed(rig.fake, case.readable, 2)

        first = await rig.scan(page_size=PAGE, on_page=meddle)
        rig.clock.advance(rig.fake.search_lag + 1)
        second = await rig.scan(cursor=first.cursor, page_size=PAGE)
        await self._assert_mirror_is_true(rig, case, first.documents() | second.documents(), COUNT + 2)

    async def test_a_change_in_the_second_of_the_scan_is_not_lost(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        need(case.no_incremental)
        ids = case.seed(rig.fake, case.readable, PAGE)
        first = await rig.scan()
        case.touch(rig.fake, case.readable, ids[2])  # the clock has not moved since the scan began
        second = await rig.scan(cursor=first.cursor)
        await self._assert_mirror_is_true(rig, case, first.documents() | second.documents(), PAGE)

    async def _assert_mirror_is_true(
        self, rig: Rig, case: ConformanceCase, mirror: dict[str, dict[str, object]], count: int
    ) -> None:
        assert len(mirror) == count
        ids = sorted(mirror)
        for start in range(0, len(ids), batch := rig.manifest.capabilities(case.readable).read_batch):
            part = ids[start : start + batch]
            for identifier, found in zip(part, await rig.read(case.readable, part), strict=True):
                assert found is not None
                assert await rig.stable(case.readable, mirror[identifier]) == await rig.stable(
                    case.readable, found.document
                )

    async def test_deletes_arrive_as_tombstones(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_incremental)
        if (way := rig.manifest.capabilities(case.readable).deletes) != "tombstones":
            pytest.skip(f"{case.readable} declares deletes: {way}")
        ids = case.seed(rig.fake, case.readable, PAGE)
        cursor = (await rig.scan()).cursor
        rig.clock.advance(60)
        case.remove(rig.fake, case.readable, ids[1])
        changes = (await rig.scan(cursor=cursor)).changes
        assert [(change.kind, change.id) for change in changes if change.id == ids[1]] == [
            (ChangeKind.DELETE, ids[1])
        ]

    async def test_a_listing_shows_what_is_gone(self, rig: Rig, case: ConformanceCase) -> None:
        if (way := rig.manifest.capabilities(case.readable).deletes) == "never":
            pytest.skip(f"{case.readable} declares deletes: {way}")
        ids = case.seed(rig.fake, case.readable, COUNT)
        case.remove(rig.fake, case.readable, ids[3])
        pages = await rig.all_keys(case.readable)
        assert sorted(i for page in pages for i in page.ids) == sorted(set(ids) - {ids[3]})
        assert [page.complete for page in pages] == [False] * (len(pages) - 1) + [True]
        (gone,) = await rig.read(case.readable, [ids[3]])
        assert gone is None

    async def test_a_listing_carries_the_asked_fields(self, rig: Rig, case: ConformanceCase) -> None:
        identifier = case.plant(rig.fake, {})
        rig.clock.advance(rig.fake.search_lag + 1)
        pages = await rig.all_keys(case.writable, case.key_fields)
        (found,) = await rig.read(case.writable, [identifier])
        assert found is not None
        values = dict(zip(pages[0].ids, pages[0].values, strict=True))
        assert values[identifier] == tuple(found.document[name] for name in case.key_fields)

    async def test_a_failed_enumeration_is_never_complete(self, rig: Rig, case: ConformanceCase) -> None:
        case.seed(rig.fake, case.readable, COUNT)
        rig.fake.fail(case.list_fault(case.readable, status=500, times=-1, skip=0 if case.no_links else 1))
        pages: list[Page] = []

        async def read_on() -> None:
            async for page in rig.connector.changes(case.readable, case.scope, None, page_size=PAGE):
                pages.append(page)  # noqa: PERF401 - the pages before the error count

        with pytest.raises(IpaasError):
            await read_on()
        assert bool(pages) is (not case.no_links)
        assert not any(page.complete for page in pages)

    async def test_a_paging_loop_is_a_protocol_error(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_links)
        case.seed(rig.fake, case.readable, COUNT)
        rig.fake.fail(case.loop_fault())
        with pytest.raises(ProtocolError):
            async for _ in rig.connector.changes(case.readable, case.scope, None, page_size=PAGE):
                pass
        assert len(rig.fake.ledger.entries) < 20 * case.requests_per_page

    async def test_an_expired_cursor_says_so(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_cursor_expiry)
        case.seed(rig.fake, case.readable, PAGE)
        cursor = (await rig.scan()).cursor
        case.expire_cursor(rig.fake)
        with pytest.raises(CursorExpiredError):
            await rig.scan(cursor=cursor)
        assert len((await rig.scan()).ids) == PAGE

    async def test_a_narrow_read_carries_the_key_and_the_asked_fields(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        need(case.no_narrowing)
        identifier = case.plant(rig.fake, {})
        key = set((await rig.schema(case.writable)).key)
        documents = (await rig.scan(case.writable, fields=[case.text_field])).documents()
        assert set(documents[identifier]) == key | {case.text_field}

    async def test_reading_by_ids_keeps_their_order_and_knows_the_missing(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        ids = case.seed(rig.fake, case.readable, 4)
        plan = [ids[2], case.missing_id, ids[0], ids[3]]
        if rig.manifest.capabilities(case.readable).read_batch < len(plan):
            found = [one for identifier in plan for one in await rig.read(case.readable, [identifier])]
        else:
            found = await rig.read(case.readable, plan)
        assert [one and one.id for one in found] == [ids[2], None, ids[0], ids[3]]
        assert await rig.read(case.readable, []) == []

    async def test_a_record_has_the_same_bytes_however_it_is_read(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        ids = case.seed(rig.fake, case.readable, 3)
        listed = (await rig.scan()).documents()
        by_id = await rig.read(case.readable, ids)
        for identifier, found in zip(ids, by_id, strict=True):
            assert found is not None
            assert await rig.stable(case.readable, listed[identifier]) == await rig.stable(
                case.readable, found.document
            )

    async def test_a_delta_has_the_same_bytes_as_a_list(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_incremental)
        ids = case.seed(rig.fake, case.readable, 3)
        cursor = (await rig.scan()).cursor
        rig.clock.advance(60)
        case.touch(rig.fake, case.readable, ids[1])
        delta, listed = (await rig.scan(cursor=cursor)).documents(), (await rig.scan()).documents()
        assert await rig.stable(case.readable, delta[ids[1]]) == await rig.stable(
            case.readable, listed[ids[1]]
        )

    async def test_finding_by_key_gives_none_one_or_both(self, rig: Rig, case: ConformanceCase) -> None:
        one = case.plant(rig.fake, dict(zip(case.key_fields, case.key_values(1), strict=True)))
        two = dict(zip(case.key_fields, case.key_values(2), strict=True))
        both = {case.plant(rig.fake, two) for _ in range(1 if case.no_duplicate_keys else 2)}
        rig.clock.advance(rig.fake.search_lag + 1)
        wanted = [case.key_values(3), case.key_values(2), case.key_values(1)]
        hits = await rig.find(case.key_fields, wanted)
        assert [{found.id for found in each} for each in hits] == [set(), both, {one}]
        assert await rig.find(case.key_fields, []) == []
        (by_id,) = await rig.read(case.writable, [one])
        assert by_id is not None
        assert await rig.stable(case.writable, hits[2][0].document) == await rig.stable(
            case.writable, by_id.document
        )

    async def test_many_keys_are_found_in_few_calls(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_batched_find)
        batch = rig.manifest.capabilities(case.writable).find_batch
        if batch == 1:
            pytest.skip(f"{case.writable} declares find_batch: 1")
        numbers = range(1, min(batch, 40) + 1)
        planted = [
            case.plant(rig.fake, dict(zip(case.key_fields, case.key_values(number), strict=True)))
            for number in numbers
        ]
        rig.clock.advance(rig.fake.search_lag + 1)
        await rig.find(case.key_fields, [case.key_values(0)])  # signs in, reads metadata
        before = len(rig.fake.ledger.entries)
        hits = await rig.find(case.key_fields, [case.key_values(number) for number in numbers])
        assert [[found.id for found in each] for each in hits] == [[identifier] for identifier in planted]
        assert len(rig.fake.ledger.entries) - before <= len(numbers) // 4

    async def test_any_key_text_passes_through_the_query_language(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        name = case.key_fields[0]
        rest = dict(zip(case.key_fields, case.key_values(1), strict=True))
        planted = [case.plant(rig.fake, rest | {name: text}) for text in case.hostile_keys]
        rig.clock.advance(rig.fake.search_lag + 1)
        for text, identifier in zip(case.hostile_keys, planted, strict=True):
            values = tuple((rest | {name: text}).values())
            (hits,) = await rig.find(case.key_fields, [values])
            assert [found.id for found in hits] == [identifier], f"key number {planted.index(identifier)}"

    async def test_everything_discovered_has_a_schema(self, rig: Rig, case: ConformanceCase) -> None:
        offered = {info.entity: info for info in await rig.connector.discover()}
        assert {case.readable, case.writable} <= set(offered)
        assert offered[case.writable].writable
        assert offered[case.readable].incremental is (not case.no_incremental)
        for entity in offered:
            schema = await rig.schema(entity)
            assert schema.entity == entity
            names = schema.names()
            assert len(set(names)) == len(names)
            assert set(schema.key) <= set(names), f"{entity}: the key is not among the fields"
            assert schema_from(schema_bytes(schema)) == schema

    async def test_a_schema_describes_what_is_read(self, rig: Rig, case: ConformanceCase) -> None:
        case.seed(rig.fake, case.readable, 1)
        case.plant(rig.fake, {})
        for entity in (case.readable, case.writable):
            names = set((await rig.schema(entity)).names())
            for document in (await rig.scan(entity)).documents().values():
                assert set(document) == names

    async def test_an_unknown_entity_is_a_schema_error(self, rig: Rig) -> None:
        with pytest.raises(SchemaError):
            await rig.schema("no_such_entity")
        with pytest.raises(SchemaError):
            await rig.scan("no_such_entity")

    async def test_a_scope_is_part_of_every_read(self, rig: Rig, case: ConformanceCase) -> None:
        scopes = await rig.connector.scopes()
        assert case.scope in scopes
        if not rig.manifest.scoped:
            assert list(scopes) == [""]
            return
        case.seed(rig.fake, case.readable, 2)
        others = [scope for scope in scopes if scope != case.scope]
        assert others, "a scoped connector is tested with two scopes at least"
        pages = [page async for page in rig.connector.changes(case.readable, others[0], None)]
        assert [change.id for page in pages for change in page.changes] == []

    async def test_cursors_do_not_depend_on_the_object_that_made_them(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        case.seed(rig.fake, case.readable, COUNT)
        pages = (await rig.scan(page_size=PAGE)).pages
        for one, two in pairwise(pages):
            assert one.cursor is not two.cursor
            assert stored_cursor(one.cursor) == one.cursor
