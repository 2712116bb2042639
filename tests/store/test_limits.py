import asyncio
import contextlib
import sys
import time
from collections import deque

import pytest
import sqlalchemy as sa
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import create_async_engine

from ipaas_resources.core.errors import DatabaseUnavailableError, ThrottledError
from ipaas_resources.core.limits import BudgetKey, LimitPolicy
from ipaas_resources.store.limits import PostgresLimits
from ipaas_resources.store.limits_sql import bucket_of, shares
from ipaas_resources.store.limits_tables import concurrency_permits, rate_budgets

KEY = BudgetKey("bc", "app", "")
PLENTY = LimitPolicy(requests=1_000_000, window=60.0, concurrency=5)


@pytest.fixture
def url(fresh_database):
    return fresh_database.app


@pytest.fixture
async def engine(url):
    made = create_async_engine(url)
    yield made
    await made.dispose()


@pytest.fixture
async def processes(engine):
    """Makes keepers of budgets that know nothing of each other, as those of two processes do."""
    async with contextlib.AsyncExitStack() as stack:

        def make(**options):
            keeper = PostgresLimits(engine, **options)
            stack.push_async_callback(keeper.close)
            return keeper

        yield make


async def rows(engine, table):
    async with engine.connect() as connection:
        return (await connection.execute(sa.select(table))).mappings().all()


async def eventually(condition, seconds=5.0):
    """Wait until the condition holds; fails after some seconds of real time."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what is waited for lies in the database or another process
            await asyncio.sleep(0.01)


class Holding:
    """Requests that stay under way until they are ended."""

    def __init__(self, keeper, policy, count):
        self.under_way = 0
        self._end = asyncio.Event()
        self._tasks = [asyncio.create_task(self._one(keeper, policy)) for _ in range(count)]

    async def _one(self, keeper, policy):
        async with keeper.request(KEY, policy):
            self.under_way += 1
            await self._end.wait()
            self.under_way -= 1

    async def reaches(self, count):
        async def reached():
            return self.under_way == count

        await eventually(reached)

    async def end(self):
        self._end.set()
        await asyncio.gather(*self._tasks)


@given(
    st.integers(1, 100_000),
    st.floats(0.1, 3600, allow_nan=False),
)
def test_no_window_can_hold_more_requests_than_the_policy(requests, window):
    bucket = bucket_of(LimitPolicy(requests=requests, window=window, concurrency=1))
    slack = min(2.0, window / 30)
    assert int(bucket.capacity + bucket.rate * (window + bucket.lease + slack)) <= requests
    assert bucket.rate > 0


def test_business_central_gets_more_than_nineteen_requests_a_second():
    bucket = bucket_of(LimitPolicy(requests=6000, window=300, concurrency=5))
    assert bucket.capacity == 200
    assert bucket.lease == 2.0
    assert 19.0 < bucket.rate < 19.4


@given(st.lists(st.integers(0, 20), max_size=8), st.integers(1, 12))
def test_shares_give_every_permit_that_is_wanted_and_no_more(wants, total):
    named = [(str(index), want) for index, want in enumerate(wants)]
    given_ = shares(named, total)
    assert sum(given_.values()) == min(total, sum(wants))
    assert all(given_[name] <= want for name, want in named)
    unmet = [given_[name] for name, want in named if given_[name] < want]
    assert not unmet or max(given_.values()) - min(unmet) <= 1


async def test_two_processes_together_never_hold_more_permits_than_the_policy(processes):
    one, other = Holding(processes(), PLENTY, 4), Holding(processes(), PLENTY, 4)

    async def all_taken():
        return one.under_way + other.under_way >= 5

    await eventually(all_taken)
    assert one.under_way + other.under_way == 5
    await asyncio.gather(one.end(), other.end())


async def test_a_latecomer_gets_its_share_as_soon_as_requests_of_the_others_end(processes):
    greedy, late = processes(), processes()
    stop = asyncio.Event()
    served = 0

    async def batch():
        nonlocal served
        while not stop.is_set():
            async with greedy.request(KEY, PLENTY):
                served += 1
                await asyncio.sleep(0.002)

    tasks = [asyncio.create_task(batch()) for _ in range(20)]

    async def saturated():
        return served > 50

    await eventually(saturated)
    async with asyncio.timeout(5), late.request(KEY, PLENTY):
        pass
    stop.set()
    await asyncio.gather(*tasks)


async def test_more_processes_than_permits_take_turns(processes):
    policy = LimitPolicy(requests=1_000_000, window=60.0, concurrency=1)
    stop = asyncio.Event()
    served = [0, 0, 0]

    async def work(number, keeper):
        while not stop.is_set():
            async with keeper.request(KEY, policy):
                served[number] += 1
                await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(work(number, processes())) for number in range(3)]

    async def everybody_twice():
        return min(served) >= 2

    await eventually(everybody_twice, 10)
    stop.set()
    await asyncio.gather(*tasks)


async def test_idle_permits_go_back_and_leave_no_row(processes, engine):
    keeper = processes()
    async with keeper.request(KEY, PLENTY):
        (row,) = await rows(engine, concurrency_permits)
        assert row["permits"] == 1

    async def gone():
        return not await rows(engine, concurrency_permits)

    await eventually(gone)


async def test_the_permits_of_a_silent_process_come_back(processes, engine):
    dead = processes(permit_lease=0.3)
    holding = Holding(dead, PLENTY, 5)
    await holding.reaches(5)
    # From here on it says nothing more, as if it had been killed.
    for budget in dead._budgets.values():
        budget._closed = True
    async with asyncio.timeout(5), processes().request(KEY, PLENTY):
        pass
    await holding.end()


async def test_a_process_that_lives_keeps_its_permits_beyond_their_lease(processes, engine):
    holding = Holding(processes(permit_lease=0.3), PLENTY, 5)
    await holding.reaches(5)
    first = (await rows(engine, concurrency_permits))[0]["expires_at"]

    async def renewed():
        return (await rows(engine, concurrency_permits))[0]["expires_at"] > first

    await eventually(renewed)
    await holding.end()


async def test_hundreds_of_requests_cost_a_few_transactions(processes, engine):
    keeper = processes()
    begun = 0

    def count(connection):
        nonlocal begun
        begun += 1

    sa.event.listen(engine.sync_engine, "begin", count)
    for _ in range(300):
        async with keeper.request(KEY, PLENTY):
            pass
    sa.event.remove(engine.sync_engine, "begin", count)
    assert begun < 10


async def test_requests_beyond_the_rate_wait(processes):
    policy = LimitPolicy(requests=10, window=1.0, concurrency=5)
    keeper = processes()
    started = time.monotonic()
    for _ in range(10):
        async with keeper.request(KEY, policy):
            pass
    bucket = bucket_of(policy)
    assert time.monotonic() - started > (10 - bucket.capacity - 1) / bucket.rate


async def test_a_pause_holds_for_every_process(processes):
    one, other = processes(), processes()
    async with one.request(KEY, PLENTY):
        await one.not_before(KEY, 0.4)
    started = time.monotonic()
    async with other.request(KEY, PLENTY):
        assert time.monotonic() - started > 0.3


async def test_a_shorter_pause_does_not_end_a_longer_one(processes, engine):
    one = processes()
    await one.not_before(KEY, 100)
    await one.not_before(KEY, 1)
    (row,) = await rows(engine, rate_budgets)
    async with engine.connect() as connection:
        now = (await connection.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
    assert (row["not_before"] - now).total_seconds() > 90


async def test_a_pause_beyond_the_patience_is_told_at_once(processes):
    one, other = processes(), processes()
    await one.not_before(KEY, 3600)
    started = time.monotonic()
    with pytest.raises(ThrottledError) as raised:
        async with other.request(KEY, PLENTY):
            pytest.fail("nothing may be sent")
    assert raised.value.retry_after > 3000
    assert time.monotonic() - started < 5


async def test_who_waits_longer_than_the_patience_is_told_so(processes):
    holding = Holding(processes(), PLENTY, 5)
    await holding.reaches(5)
    with pytest.raises(ThrottledError):
        async with processes(patience=0.2).request(KEY, PLENTY):
            pytest.fail("nothing may be sent")
    await holding.end()


async def test_a_request_that_is_cancelled_while_it_waits_takes_nothing_along(processes):
    keeper = processes()
    policy = LimitPolicy(requests=1_000_000, window=60.0, concurrency=1)
    holding = Holding(keeper, policy, 1)
    await holding.reaches(1)

    async def wait():
        async with keeper.request(KEY, policy):
            pytest.fail("it was cancelled")

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await holding.end()
    async with asyncio.timeout(5), keeper.request(KEY, policy):
        pass


async def test_scopes_and_credentials_have_budgets_of_their_own(processes):
    keeper = processes()
    holding = Holding(keeper, PLENTY, 5)
    await holding.reaches(5)
    for key in (BudgetKey("bc", "app", "uk"), BudgetKey("bc", "second app", "")):
        async with asyncio.timeout(5), keeper.request(key, PLENTY):
            pass
    await holding.end()


async def test_a_database_that_is_down_lets_nothing_be_sent(unused_tcp_port):
    engine = create_async_engine(f"postgresql+psycopg://nobody@127.0.0.1:{unused_tcp_port}/none")
    keeper = PostgresLimits(engine)
    with pytest.raises(DatabaseUnavailableError):
        async with keeper.request(KEY, PLENTY):
            pytest.fail("nothing may be sent")
    with pytest.raises(DatabaseUnavailableError):
        await keeper.not_before(KEY, 1)
    await keeper.close()
    await engine.dispose()


class Product:
    """A server that allows `requests` in any `window` seconds and `concurrency` at once, and answers 429 beyond."""

    def __init__(self, policy):
        self.policy = policy
        self.arrivals = deque()
        self.active = 0
        self.most_active = 0
        self.refused = 0
        self.answered = 0
        self.hold = None  # an event that requests wait for

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        now = time.monotonic()
        while self.arrivals and self.arrivals[0] <= now - self.policy.window:
            self.arrivals.popleft()
        self.arrivals.append(now)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        status = 200
        if self.active > self.policy.concurrency or len(self.arrivals) > self.policy.requests:
            status = 429
            self.refused += 1
        elif self.hold is not None:
            await self.hold.wait()
        else:
            await asyncio.sleep(0.05)  # what the product takes to do its work
        self.active -= 1
        self.answered += 1
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@contextlib.asynccontextmanager
async def served(product):
    server = uvicorn.Server(
        uvicorn.Config(product, host="127.0.0.1", port=0, lifespan="off", log_level="error", loop="asyncio")
    )
    running = asyncio.create_task(server.serve())

    async def started():
        return server.started

    await eventually(started)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await running


async def start_worker(url, server, count, tasks, policy):
    arguments = [url, server, count, tasks, policy.requests, policy.window, policy.concurrency]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.store.limits_worker",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
    )


async def test_four_processes_share_one_budget_and_the_product_never_says_429(url):
    policy = LimitPolicy(requests=60, window=3.0, concurrency=5)
    product = Product(policy)
    async with served(product) as address:
        workers = [await start_worker(url, address, 20, 4, policy) for _ in range(4)]
        async with asyncio.timeout(60):
            output = [await worker.communicate() for worker in workers]
    assert [text for text, _ in output] == [b"0\n"] * 4
    assert product.answered == 80
    assert product.refused == 0
    assert 2 <= product.most_active <= 5


async def test_the_permits_of_a_killed_process_come_back(url, engine):
    product = Product(PLENTY)
    product.hold = asyncio.Event()
    async with served(product) as address:
        worker = await start_worker(url, address, 5, 5, PLENTY)

        async def all_under_way():
            return product.active == 5

        await eventually(all_under_way, 30)
        worker.kill()
        await worker.wait()
        product.hold.set()
        # The lease of 40 seconds is made to end now instead of being waited for.
        async with engine.begin() as connection:
            changed = await connection.execute(
                sa.update(concurrency_permits).values(expires_at=sa.func.clock_timestamp())
            )
        assert changed.rowcount == 1
    keeper = PostgresLimits(engine)
    holding = Holding(keeper, PLENTY, 5)
    await holding.reaches(5)
    await holding.end()
    await keeper.close()
