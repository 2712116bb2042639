import asyncio

import pytest

from ipaas_resources.core.clock import ManualClock, SystemClock
from ipaas_resources.core.errors import ThrottledError
from ipaas_resources.core.limits import BudgetKey, LimitPolicy
from ipaas_resources.net.memory_limits import MemoryLimits

KEY = BudgetKey("bc", "app")


async def test_no_window_holds_more_requests_than_the_policy():
    clock = ManualClock()
    limits = MemoryLimits(clock)
    policy = LimitPolicy(requests=10, window=5.0, concurrency=3)
    sent = []

    async def one():
        async with limits.request(KEY, policy):
            sent.append(clock.monotonic())

    await asyncio.gather(*(one() for _ in range(45)))
    assert len(sent) == 45
    assert all(sum(start <= at < start + 5 for at in sent) <= 10 for start in sent)
    assert clock.monotonic() < 5 * 5


async def test_no_more_requests_at_once_than_the_policy():
    limits = MemoryLimits(SystemClock())
    policy = LimitPolicy(requests=1000, window=1.0, concurrency=3)
    active, most = 0, 0

    async def one():
        nonlocal active, most
        async with limits.request(KEY, policy):
            active += 1
            most = max(most, active)
            await asyncio.sleep(0)
            active -= 1

    await asyncio.gather(*(one() for _ in range(30)))
    assert most == 3


async def test_a_pause_is_waited_for_when_short_and_raised_when_long():
    clock = ManualClock()
    limits = MemoryLimits(clock)
    policy = LimitPolicy(requests=10, window=5.0, concurrency=3)
    await limits.not_before(KEY, 30)
    async with limits.request(KEY, policy):
        assert clock.monotonic() == 30
    await limits.not_before(KEY, 3600)
    with pytest.raises(ThrottledError) as raised:
        async with limits.request(KEY, policy):
            pytest.fail("nothing may be sent")
    assert raised.value.retry_after == 3600
    async with limits.request(BudgetKey("bc", "other"), policy):
        pass
