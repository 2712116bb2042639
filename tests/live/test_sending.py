"""The benchmarks' sender sends until it is accepted, and counts each attempt."""

from __future__ import annotations

import asyncio
import contextlib

from benchmarks.sending import Delivery, Sender, client_changed

REQUEST = client_changed(b"key", host="here", subscription="s", event="evt_1", client=7)


@contextlib.asynccontextmanager
async def sending(*answers, connections=1):
    """A sender, and a server that gives these answers in turn, then 202; None ends the connection instead."""
    left, serving = list(answers), set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            answer = left.pop(0) if left else 202
            if answer is None:
                break
            writer.write(b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n" % answer)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        async with Sender(server.sockets[0].getsockname()[1], connections) as sender:
            yield sender
        await asyncio.gather(*serving)


async def test_a_refused_delivery_and_a_lost_connection_are_tried_again_until_accepted():
    async with sending(503, None) as sender:
        delivery = Delivery(REQUEST)
        sender.send(delivery)
        assert await sender.all_accepted(20)
        assert delivery.attempts == 3
        assert delivery.accepted_at >= delivery.due_at
        assert sender.statuses == {503: 1, 0: 1, 202: 1}


async def test_more_deliveries_than_connections_are_all_accepted():
    async with sending(connections=2) as sender:
        deliveries = [Delivery(REQUEST) for _ in range(50)]
        for delivery in deliveries:
            sender.send(delivery)
        assert await sender.all_accepted(20)
        assert [one.attempts for one in deliveries] == [1] * 50


async def test_what_is_never_accepted_is_told():
    async with sending(*[503] * 100) as sender:
        sender.send(Delivery(REQUEST))
        assert not await sender.all_accepted(0.01)
