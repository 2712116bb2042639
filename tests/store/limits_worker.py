"""A process of its own that sends requests under a shared budget; run by test_limits.py.

Arguments: database URL, server URL, number of requests, tasks, and the policy as requests, window, concurrency, then the
lane. Prints the number of requests that were answered 429.
"""

from __future__ import annotations

import asyncio
import sys

from sqlalchemy.ext.asyncio import create_async_engine

from ipaas_resources.core.clock import SystemClock, SystemIds
from ipaas_resources.core.limits import BudgetKey, BudgetLane, LimitPolicy
from ipaas_resources.core.platform import run_async
from ipaas_resources.net.client import HttpClient
from ipaas_resources.store.limits import PostgresLimits


async def main(
    database: str, server: str, count: int, tasks: int, policy: LimitPolicy, lane: BudgetLane
) -> int:
    engine = create_async_engine(database, pool_size=2)
    limits = PostgresLimits(engine, lane=lane)
    key = BudgetKey("bc", "app")
    client = HttpClient(
        system="bc",
        base_url=server,
        clock=SystemClock(),
        ids=SystemIds(),
        limits=limits,
        budget=key,
        policy=policy,
    )
    left = iter(range(count))
    refused = 0

    async def work() -> None:
        nonlocal refused
        for _ in left:
            answer = await client.send("GET", "customers", kind="read", accept={429})
            refused += answer.status == 429

    await asyncio.gather(*(work() for _ in range(tasks)))
    await client.close()
    await limits.close()
    await engine.dispose()
    return refused


if __name__ == "__main__":
    database, server, count, tasks, requests, window, concurrency, lane = sys.argv[1:]
    policy = LimitPolicy(requests=int(requests), window=float(window), concurrency=int(concurrency))
    refused = run_async(main(database, server, int(count), int(tasks), policy, lane))  # type: ignore[arg-type]
    sys.stdout.write(f"{refused}\n")
