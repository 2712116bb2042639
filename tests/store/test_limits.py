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
from ipaas_resources.store.limits_sql import bucket_of, kept_of, shares, shares_with_kept
from ipaas_resources.store.limits_tables import concurrency_permits, rate_budgets
from ipaas_resources.store.live_tables import workers

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


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=8), st.integers(1, 60), st.integers(0, 4)
)
def test_what_is_kept_for_realtime_is_given_to_nobody_else_and_nothing_is_given_twice(wants, total, kept):
    named = [(str(index), want) for index, (want, _) in enumerate(wants)]
    urgent = {str(index) for index, (_, live) in enumerate(wants) if live}
    kept = min(kept, total)
    given_ = shares_with_kept(named, total, urgent, kept)
    assert sum(given_.values()) <= total
    assert all(given_[name] <= want for name, want in named)
    assert sum(count for name, count in given_.items() if name not in urgent) <= total - kept
    wanted_live = sum(want for name, want in named if name in urgent)
    assert sum(given_[name] for name in urgent) >= min(kept, wanted_live)
    if not kept:
        assert given_ == shares(named, total)


@given(st.integers(1, 100_000), st.floats(0.1, 3600, allow_nan=False), st.integers(1, 1000))
def test_what_is_kept_always_leaves_something_to_the_other_lanes(requests, window, concurrency):
    policy = LimitPolicy(requests=requests, window=window, concurrency=concurrency)
    kept = kept_of(policy)
    assert bucket_of(policy).capacity - kept.tokens >= 1
    assert concurrency - kept.permits >= 1
    assert kept.permits <= 4


def test_what_is_kept_of_the_products_budgets():
    def kept(requests, window, concurrency):
        found = kept_of(LimitPolicy(requests=requests, window=window, concurrency=concurrency))
        return found.tokens, found.permits

    assert kept(6000, 300, 5) == (40, 1)
    assert kept(6000, 300, 52) == (40, 4)
    assert kept(600, 300, 2) == (4, 1)
    assert kept(10, 60, 1) == (0, 0)


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


#: Two tokens an hour come back: what a bucket holds is all that a test sees. Capacity 10, of which 2 are kept.
SLOW = LimitPolicy(requests=300, window=360_000.0, concurrency=5)


async def start_live_worker(engine):
    """A worker of the realtime lane gives a sign of life."""
    async with engine.begin() as connection:
        await connection.execute(
            sa.insert(workers).values(worker="w", role="worker", lane="realtime", host="here", pid=1)
        )


@pytest.fixture
async def live_worker(engine):
    await start_live_worker(engine)


async def test_a_first_load_leaves_a_permit_that_realtime_gets_at_once(processes, live_worker):
    loads = [Holding(processes(), PLENTY, 5) for _ in range(2)]

    async def all_they_may_have():
        return sum(load.under_way for load in loads) == 4

    await eventually(all_they_may_have)
    # None of the four ends before this one is through.
    async with asyncio.timeout(5), processes(lane="realtime").request(KEY, PLENTY):
        assert sum(load.under_way for load in loads) == 4
    await asyncio.gather(*(load.end() for load in loads))


async def test_realtime_and_a_first_load_together_hold_no_more_than_the_policy(processes, live_worker):
    load, polls = Holding(processes(), PLENTY, 5), Holding(processes(lane="polling"), PLENTY, 5)
    live = Holding(processes(lane="realtime"), PLENTY, 9)

    async def all_taken():
        return load.under_way + polls.under_way + live.under_way >= 5

    await eventually(all_taken)
    assert load.under_way + polls.under_way + live.under_way == 5
    assert live.under_way >= 1
    await asyncio.gather(load.end(), polls.end(), live.end())


async def test_without_a_live_worker_a_first_load_has_the_whole_budget(processes, engine):
    load = Holding(processes(), SLOW, 5)
    await load.reaches(5)
    await load.end()
    load = Holding(processes(), SLOW, 5)
    await load.reaches(5)
    await load.end()
    assert int((await rows(engine, rate_budgets))[0]["tokens"]) == 0


async def test_a_worker_that_gave_no_sign_of_life_for_long_keeps_nothing(processes, engine, live_worker):
    async with engine.begin() as connection:
        await connection.execute(
            sa.update(workers).values(beat_at=sa.func.now() - sa.text("interval '1 minute'"))
        )
    load = Holding(processes(), PLENTY, 5)
    await load.reaches(5)
    await load.end()


async def take_all(keeper, policy):
    """Requests one after the other until the budget has none at once; how many there were."""
    served = 0
    with contextlib.suppress(ThrottledError):
        while True:
            async with keeper.request(KEY, policy):
                served += 1
    return served


async def test_tokens_that_are_kept_go_to_realtime_alone(processes, live_worker):
    assert await take_all(processes(patience=0.3), SLOW) == 8
    assert await take_all(processes(patience=0.3, lane="polling"), SLOW) == 0
    assert await take_all(processes(patience=0.3, lane="realtime"), SLOW) == 2


async def test_realtime_may_use_what_the_others_leave(processes, live_worker):
    assert await take_all(processes(patience=0.3, lane="realtime"), SLOW) == 10


async def test_where_realtime_wants_all_there_is_the_others_still_move(processes, engine, live_worker):
    first = processes(patience=0.3)
    assert await take_all(first, SLOW) == 8
    await first.close()
    load = processes()
    waiting = Holding(load, SLOW, 1)

    async def known():
        return [row["wanted"] for row in await rows(engine, concurrency_permits)] == [1]

    await eventually(known)
    # The five seconds after which it may take one of those that are kept are made to be over.
    async with engine.begin() as connection:
        await connection.execute(
            sa.update(concurrency_permits).values(served_at=sa.func.now() - sa.text("interval '6 seconds'"))
        )
    another = Holding(load, SLOW, 1)  # so that the process asks now and not when it thinks its time has come
    await waiting.reaches(1)
    assert another.under_way == 0
    await waiting.end()
    await load.close()
    with pytest.raises(ThrottledError):
        await another.end()
    assert int((await rows(engine, rate_budgets))[0]["tokens"]) == 1


async def burst(keeper, policy, count):
    """So many requests at once."""
    holding = Holding(keeper, policy, count)
    await holding.reaches(count)
    await holding.end()


async def told_again(engine):
    """Whether the holder gave another word since: its lease has moved."""
    (first,) = await rows(engine, concurrency_permits)

    async def moved():
        held = await rows(engine, concurrency_permits)
        return bool(held) and held[0]["expires_at"] > first["expires_at"]

    await eventually(moved)


async def test_realtime_keeps_what_it_just_used_so_that_the_next_burst_asks_for_nothing(processes, engine):
    keeper = processes(lane="realtime")
    await burst(keeper, PLENTY, 4)
    # The look that tells of idle permits, and would give them back.
    await told_again(engine)
    (budget,) = keeper._budgets.values()
    assert budget._task is None
    asked = budget._told_at
    holding = Holding(keeper, PLENTY, 4)
    await asyncio.sleep(0)
    assert holding.under_way == 4
    assert budget._told_at == asked
    await holding.end()


async def test_what_realtime_keeps_idle_goes_back_soon(processes, engine):
    await burst(processes(lane="realtime"), PLENTY, 4)

    async def gone():
        return not await rows(engine, concurrency_permits)

    await eventually(gone)


async def test_others_get_their_share_of_what_a_busy_realtime_process_keeps_idle(processes, engine):
    keeper = processes(lane="realtime")
    stop = asyncio.Event()

    async def short():
        async with keeper.request(KEY, PLENTY):
            await asyncio.sleep(0)

    async def bursts():
        while not stop.is_set():
            await asyncio.gather(*(short() for _ in range(5)))
            await asyncio.sleep(0.02)

    await burst(keeper, PLENTY, 5)
    task = asyncio.create_task(bursts())
    await told_again(engine)
    holding = Holding(processes(), PLENTY, 2)
    await holding.reaches(2)
    await holding.end()
    stop.set()
    await task


async def test_a_budget_is_scarce_once_a_request_had_to_wait_for_it(processes):
    keeper, other = processes(), processes()
    async with keeper.request(KEY, PLENTY):
        assert not keeper.scarce("bc")
    holding = Holding(other, PLENTY, 5)
    await holding.reaches(5)
    waiting = Holding(keeper, PLENTY, 1)

    async def scarce():
        return keeper.scarce("bc")

    await eventually(scarce)
    assert not keeper.scarce("crm")
    await holding.end()
    await waiting.reaches(1)
    await waiting.end()


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


async def start_worker(url, server, count, tasks, policy, lane="batch"):
    arguments = [url, server, count, tasks, policy.requests, policy.window, policy.concurrency, lane]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.store.limits_worker",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("live", [False, True])
async def test_four_processes_share_one_budget_and_the_product_never_says_429(url, engine, live):
    if live:
        await start_live_worker(engine)
    lanes = ["realtime" if live else "batch", "batch", "batch", "polling"]
    policy = LimitPolicy(requests=60, window=3.0, concurrency=5)
    product = Product(policy)
    async with served(product) as address:
        workers = [await start_worker(url, address, 20, 4, policy, lane) for lane in lanes]
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
