"""Connections stand in pools of a few each: httpcore's work per request grows with the square of a pool."""

from __future__ import annotations

import asyncio

import httpx

from ipaas_resources.net.transport import Pools, default_transport

REQUEST = httpx.Request("GET", "http://product.test/")


class OnePool(httpx.AsyncBaseTransport):
    """Answers when told to; remembers the most that was under way."""

    def __init__(self, size):
        self.size, self.under_way, self.most, self.closed = size, 0, 0, False
        self.answer = asyncio.Event()

    async def handle_async_request(self, request):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.answer.wait()
        finally:
            self.under_way -= 1
        return httpx.Response(200, stream=httpx.ByteStream(b"whole"))

    async def aclose(self):
        self.closed = True


class Made:
    """The pools that were made, in their order."""

    def __init__(self, connections):
        self.pools = []
        self.transport = Pools(self._make, connections)

    def _make(self, size):
        self.pools.append(OnePool(size))
        return self.pools[-1]

    def start(self, count):
        return [asyncio.create_task(self.transport.handle_async_request(REQUEST)) for _ in range(count)]


async def close(tasks):
    for response in await asyncio.gather(*tasks):
        await response.aread()
        await response.aclose()


async def test_many_requests_spread_over_pools_of_eight_and_never_beyond_the_whole():
    made = Made(connections=20)
    tasks = made.start(20)
    await asyncio.sleep(0)
    assert [(pool.size, pool.under_way) for pool in made.pools] == [(8, 8), (8, 8), (4, 4)]
    for pool in made.pools:
        pool.answer.set()
    await close(tasks)
    await made.transport.aclose()
    assert all(pool.closed for pool in made.pools)


async def test_a_request_beyond_the_whole_waits_in_the_pool_with_the_fewest():
    made = Made(connections=9)
    tasks = made.start(10)
    await asyncio.sleep(0)
    assert [pool.under_way for pool in made.pools] == [9, 1]
    for pool in made.pools:
        pool.answer.set()
    await close(tasks)


async def test_one_request_after_the_other_uses_the_first_pool_alone():
    made = Made(connections=64)
    for _ in range(20):
        tasks = made.start(1)
        await asyncio.sleep(0)
        made.pools[0].answer.set()
        await close(tasks)
    assert len(made.pools) == 1


async def test_a_place_is_taken_until_the_body_is_closed():
    made = Made(connections=64)
    tasks = made.start(8)
    await asyncio.sleep(0)
    made.pools[0].answer.set()
    await asyncio.gather(*tasks)
    more = made.start(1)
    await asyncio.sleep(0)
    assert len(made.pools) == 2
    made.pools[1].answer.set()
    await close([*tasks, *more])


async def test_a_request_that_is_cancelled_gives_its_place_back():
    made = Made(connections=64)
    tasks = made.start(8)
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    made.pools[0].answer.set()
    await close(made.start(8))
    assert len(made.pools) == 1


async def test_the_default_transport_stands_on_pools():
    transport = default_transport(None, 65)
    assert isinstance(transport, Pools)
    await transport.aclose()
