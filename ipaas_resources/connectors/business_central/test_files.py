"""Attachments: a record, then its content; whatever breaks in between, it ends as one attachment."""

from __future__ import annotations

import pytest

from ipaas_resources.connectors.business_central.tests import ITEM, UK, Bench
from ipaas_resources.connectors.fakes import Fault, file_chunks, file_digest
from ipaas_resources.core.errors import MissingRecordError
from ipaas_resources.core.records import FileRef, Operation, OperationKind, Outcome, file_ref

NAME = "Certificate 4711.pdf"
FILE = FileRef(id="cert", name=NAME, size=5_000)
PATCH = r"/attachmentContent$"


def attach(file: FileRef = FILE, **more) -> Operation:
    fields = {"fileName": more.pop("name", file.name), "parentType": "Item", "parentId": ITEM}
    return Operation(
        kind=OperationKind.CREATE,
        key={"parentId": ITEM, "fileName": fields["fileName"]},
        fields=fields,
        files={"attachmentContent": file},
        **more,
    )


@pytest.fixture
def source(bench):
    bench.connector.open_source = lambda file: file_chunks(file.id, file.size or 0, chunk=1000)
    return bench


async def send(bench: Bench, operation: Operation):
    (result,) = await bench.write("document_attachments", operation)
    return result


def kept(bench: Bench) -> list:
    return [
        row.file and (row.file.size, row.file.sha256)
        for row in bench.fake.table("document_attachments", UK).by_creation()
    ]


async def test_the_record_comes_first_and_the_content_second(source):
    result = await send(source, attach())
    assert result.outcome is Outcome.APPLIED, result.error
    assert kept(source) == [(5_000, await file_digest("cert", 5_000))]
    writes = [
        (entry.method, entry.path.rpartition("/")[2]) for entry in source.fake.ledger.entries if entry.effects
    ]
    assert writes == [("POST", "$batch"), ("PATCH", "attachmentContent")]
    upload = source.hosts.sent[-2]
    assert upload.headers["content-type"] == "application/octet-stream"
    assert upload.headers["content-length"] == "5000"
    assert upload.headers["if-match"] == "*"
    reference = file_ref(result.document["attachmentContent"])
    assert (reference.name, reference.size) == (NAME, 5_000)
    (found,) = await source.connector.read("document_attachments", "uk", [result.id])
    assert (found.document, found.etag) == (result.document, result.etag)


async def test_a_failed_second_step_says_what_is_done_and_only_that_step_is_repeated(source):
    source.fake.fail(Fault(path=PATCH, status=503, times=1))
    first = await send(source, attach())
    assert first.outcome is Outcome.RETRY
    assert first.progress == {"id": first.id}
    assert kept(source) == [None]
    second = await send(source, attach(progress=first.progress))
    assert (second.outcome, second.id) == (Outcome.APPLIED, first.id)
    assert kept(source) == [(5_000, await file_digest("cert", 5_000))]
    assert source.fake.ledger.counts["effect:create"] == 1


async def test_a_process_that_died_between_the_steps_finds_its_record_again(source):
    source.fake.fail(Fault(path=PATCH, drop=True))
    await send(source, attach())
    result = await send(source, attach(repeated=True))
    assert result.outcome is Outcome.APPLIED
    assert kept(source) == [(5_000, await file_digest("cert", 5_000))]


async def test_an_attachment_that_somebody_deleted_meanwhile_begins_again(source):
    source.fake.fail(Fault(path=PATCH, drop=True))
    first = await send(source, attach())
    source.fake.sim_remove("document_attachments", UK, first.id)
    second = await send(source, attach(progress=first.progress))
    assert (second.outcome, second.progress) == (Outcome.RETRY, {})
    third = await send(source, attach(repeated=True))
    assert third.outcome is Outcome.APPLIED
    assert len(kept(source)) == 1


async def test_a_name_that_the_product_would_silently_change_is_refused_before_it_is_sent(source):
    result = await send(source, attach(name="certificate 4711/2026.pdf"))
    assert result.outcome is Outcome.REFUSED
    assert result.error.field == "fileName"
    assert "4711" not in str(result.error)
    assert kept(source) == []


async def test_a_file_that_is_gone_in_its_source_is_refused_and_not_missing(bench):
    async def gone(_file):
        raise MissingRecordError("gone")
        yield b""

    bench.connector.open_source = gone
    result = await send(bench, attach())
    assert result.outcome is Outcome.REFUSED
    assert result.error.code == "file_gone"
    assert kept(bench) == [None]


@pytest.mark.parametrize("size", [4_000, 6_000])
async def test_a_file_that_changed_its_size_is_not_taken_for_the_announced_one(source, size):
    source.connector.open_source = lambda file: file_chunks(file.id, size, chunk=1000)
    result = await send(source, attach())
    assert result.outcome is Outcome.REFUSED, result
    assert result.error.code == "file_changed"
    assert kept(source) == [None]


async def test_a_file_of_unknown_size_goes_all_the_same(source):
    source.connector.open_source = lambda file: file_chunks(file.id, 5_000)
    result = await send(source, attach(FileRef(id="cert", name=NAME)))
    assert result.outcome is Outcome.APPLIED, result.error
    assert kept(source) == [(5_000, await file_digest("cert", 5_000))]


async def test_a_file_beyond_the_products_limit_is_refused(source):
    result = await send(source, attach(FileRef(id="cert", name=NAME, size=400 << 20)))
    assert result.outcome is Outcome.REFUSED
    assert result.error.status == 413


async def test_an_update_replaces_the_content_alone(source):
    made = await send(source, attach())
    operation = Operation(
        kind=OperationKind.UPDATE,
        id=made.id,
        etag=made.etag,
        files={"attachmentContent": FileRef(id="new", name=NAME, size=7)},
    )
    result = await send(source, operation)
    assert result.outcome is Outcome.APPLIED, result.error
    assert kept(source) == [(7, await file_digest("new", 7))]
    assert file_ref(result.document["attachmentContent"]).size == 7


async def test_an_update_of_fields_and_content_goes_on_where_it_broke(source):
    made = await send(source, attach())
    source.fake.fail(Fault(path=PATCH, drop=True))
    operation = Operation(
        kind=OperationKind.UPDATE,
        id=made.id,
        etag=made.etag,
        fields={"lineNumber": 3},
        files={"attachmentContent": FileRef(id="new", name=NAME, size=7)},
    )
    first = await send(source, operation)
    assert first.outcome is Outcome.RETRY
    operation.progress = (
        first.progress
    )  # the version is stale by our own write; the fields are not sent again
    second = await send(source, operation)
    assert second.outcome is Outcome.APPLIED, second.error
    assert kept(source) == [(7, await file_digest("new", 7))]
    assert second.document["lineNumber"] == 3


async def test_a_read_only_content_cannot_be_written(source):
    operation = Operation(kind=OperationKind.UPDATE, id=ITEM, files={"picture": FILE})
    (result,) = await source.write("company_information", operation)
    assert result.outcome is Outcome.REFUSED


async def test_without_an_opener_nothing_of_the_file_is_sent(bench):
    result = await send(bench, attach())
    assert result.outcome is Outcome.STOP
    assert "open_source" in str(result.error)
