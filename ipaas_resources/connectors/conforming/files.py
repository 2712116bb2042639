"""Conformance of files: bytes go through, never pile up, and a broken upload goes on."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import TYPE_CHECKING, cast

from ipaas_resources.connectors.conforming.rig import Rig, need
from ipaas_resources.connectors.fakes import file_chunks, file_digest
from ipaas_resources.core.records import FileRef, Outcome, file_ref

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ipaas_resources.connectors.base import SupportsFiles
    from ipaas_resources.connectors.conforming.case import ConformanceCase

BIG = 200 * 1024 * 1024
LARGEST_CHUNK = 1024 * 1024
MEMORY = 50 * 1024 * 1024


class FileTests:
    """What every connector with file fields promises."""

    async def test_a_200_mb_file_is_read_in_chunks(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_file_source)
        entity, identifier, field = case.plant_file(rig.fake, "certificate", BIG)
        (found,) = await rig.read(entity, [identifier])
        assert found is not None
        reference = file_ref(found.document[field])
        assert reference is not None
        hashed, size = hashlib.sha256(), 0
        tracemalloc.start()
        try:
            async for chunk in rig.connector.open_file(reference, case.scope):
                assert len(chunk) <= LARGEST_CHUNK
                hashed.update(chunk)
                size += len(chunk)
            assert tracemalloc.get_traced_memory()[1] < MEMORY
        finally:
            tracemalloc.stop()
        assert (size, hashed.hexdigest()) == (BIG, await file_digest("certificate", BIG))

    async def test_a_200_mb_file_is_written_in_chunks(self, rig: Rig, case: ConformanceCase) -> None:
        need(case.no_file_target)
        self._open_from(rig, "upload")
        entity, operation = case.file_operation(
            rig.fake, FileRef(id="upload", name="Certificate 1.pdf", size=BIG)
        )
        tracemalloc.start()
        try:
            (result,) = await rig.connector.write(entity, case.scope, [operation])
            assert tracemalloc.get_traced_memory()[1] < MEMORY
        finally:
            tracemalloc.stop()
        assert result.outcome is Outcome.APPLIED, result.error
        assert list(case.uploaded(rig.fake)) == [(BIG, await file_digest("upload", BIG))]

    async def test_a_broken_upload_goes_on_and_ends_as_one_file(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        need(case.no_file_target)
        size = 3 * LARGEST_CHUNK + 5
        self._open_from(rig, "broken")
        entity, operation = case.file_operation(
            rig.fake, FileRef(id="broken", name="Certificate 2.pdf", size=size)
        )
        rig.fake.fail(case.upload_fault(cut=size // 2))
        (result,) = await rig.connector.write(entity, case.scope, [operation])
        assert result.outcome in {Outcome.UNKNOWN, Outcome.RETRY}
        assert list(case.uploaded(rig.fake)) == []
        await rig.wait_until_known()
        operation.progress = result.progress
        operation.repeated = True
        (result,) = await rig.connector.write(entity, case.scope, [operation])
        assert result.outcome is Outcome.APPLIED, result.error
        assert list(case.uploaded(rig.fake)) == [(size, await file_digest("broken", size))]

    async def test_an_upload_whose_answer_was_lost_ends_as_one_file(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        need(case.no_file_target)
        self._open_from(rig, "lost")
        entity, operation = case.file_operation(
            rig.fake, FileRef(id="lost", name="Certificate 3.pdf", size=70_000)
        )
        rig.fake.fail(case.upload_fault(drop=True, after=True))
        (result,) = await rig.connector.write(entity, case.scope, [operation])
        if result.outcome is not Outcome.APPLIED:
            assert result.outcome in {Outcome.UNKNOWN, Outcome.RETRY}
            await rig.wait_until_known()
            operation.progress, operation.repeated = result.progress, True
            (result,) = await rig.connector.write(entity, case.scope, [operation])
            assert result.outcome is Outcome.APPLIED, result.error
        assert list(case.uploaded(rig.fake)) == [(70_000, await file_digest("lost", 70_000))]

    def _open_from(self, rig: Rig, seed: str) -> None:
        def opener(file: FileRef) -> AsyncIterator[bytes]:
            assert file.id == seed
            return file_chunks(seed, file.size or 0)

        cast("SupportsFiles", rig.connector).open_source = opener
