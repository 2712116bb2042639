"""Uploads and downloads as streams."""

import httpx
import pytest

from ipaas_resources.core.errors import MissingRecordError, SystemBusyError, ThrottledError


class Raw(httpx.AsyncBaseTransport):
    """A transport that leaves reading the request to its function."""

    def __init__(self, handle):
        self.handle_async_request = handle


class Chunks:
    """An upload that can be sent again."""

    def __init__(self, *chunks):
        self.chunks = chunks

    async def __aiter__(self):
        for chunk in self.chunks:
            yield chunk


async def test_an_upload_is_sent_in_pieces_of_at_most_a_mebibyte(rig):
    sizes = []

    async def consume(request):
        sizes.extend([len(chunk) async for chunk in request.stream])
        return httpx.Response(204)

    made = rig([], transport=lambda: Raw(consume))
    await made.client.send("PATCH", "x", kind="write", content=Chunks(b"a" * 2_500_000, b"", b"b"))
    assert sizes == [1 << 20, 1 << 20, 2_500_000 - (2 << 20), 1]


async def test_an_upload_that_can_start_over_is_sent_again_and_a_generator_is_not(rig):
    made = rig([429, 204, 429])
    assert (await made.client.send("PUT", "x", kind="write", content=Chunks(b"abc"))).status == 204
    assert [request.content for request in made.requests] == [b"abc", b"abc"]
    with pytest.raises(ThrottledError):
        await made.client.send("PUT", "x", kind="write", content=aiter(Chunks(b"abc")))


async def test_a_generator_that_was_not_begun_can_still_be_sent(rig):
    tries = iter([True, False])

    async def handle(request):
        if next(tries):
            raise httpx.ConnectError("not yet")
        return httpx.Response(200, content=await request.aread())

    made = rig([], transport=lambda: Raw(handle))
    answer = await made.client.send("PUT", "x", kind="write", content=aiter(Chunks(b"abc")))
    assert answer.content == b"abc"


async def test_an_error_of_the_source_of_an_upload_comes_through_as_it_is(rig):
    async def source():
        yield b"a"
        raise MissingRecordError("the file is gone")

    made = rig([204])
    with pytest.raises(MissingRecordError):
        await made.client.send("PUT", "x", kind="write", content=source())


async def test_a_download_begins_again_until_its_first_piece_and_not_after(rig):
    async def torn():
        yield b"a"
        raise httpx.ReadError("gone")

    made = rig([503, httpx.Response(200, content=b"whole"), httpx.Response(200, content=torn())])
    assert b"".join([piece async for piece in made.client.stream("file")]) == b"whole"
    assert len(made.clock.slept) == 1
    with pytest.raises(SystemBusyError):
        [piece async for piece in made.client.stream("file")]
    assert len(made.requests) == 3


async def test_a_missing_file_is_missing(rig):
    with pytest.raises(MissingRecordError):
        [piece async for piece in rig([404]).client.stream("file")]
