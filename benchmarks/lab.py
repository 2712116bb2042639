"""python -m benchmarks.lab: the calibration product that changes its records and tells of each change by a webhook.

The product's fake and its sender share this process, as they do at the product: a change stands before its delivery
goes out. Orders come as lines of JSON on stdin, each is answered by one line on stdout; the first line says where it is.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import socket
import sys
import time
from typing import Any

import msgspec
import uvicorn

from benchmarks.sending import Delivery, Sender, client_changed
from ipaas_resources.core.limits import LimitPolicy
from ipaas_resources.core.platform import run_async
from simulator.lab import SimulatedLab

TOKEN = "IPAAS_BENCHMARK_TOKEN"  # noqa: S105 - the name of a variable
SECRET = "IPAAS_BENCHMARK_SECRET"  # noqa: S105 - the same
#: What this lab allows. The product documents no limit and the connector guesses two calls a second.
LIMIT = LimitPolicy(requests=300_000, window=300, concurrency=64)
FIRST_ID = 10_001

_HOST = "127.0.0.1"
_SHARE_OF_HOT_RECORDS = 0.2
_SHARE_OF_HOT_EVENTS = 0.8
_DUPLICATED = 0.2
#: Seconds by which a shuffled delivery may be late.
_SHUFFLED = 0.5


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Change records at a rate, whatever the answers do, and deliver each change until it is accepted."""

    port: int  # of the ingress
    subscription: str
    rate: float  # changes a second
    count: int
    seed: int
    connections: int = 64
    disorder: bool = False  # a fifth of the deliveries twice, all of them shuffled
    within: float = 60.0  # seconds after the last change until everything must be accepted


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an order. Times are monotonic seconds of this machine."""

    changes: list[
        tuple[str, int, float, float]
    ]  # record's legacy id, version, changed, accepted (0.0: never)
    statuses: dict[int, int]
    late_p99: float  # seconds that the schedule was missed by: the instrument's own weakness


class Lab:
    """The product and its sender."""

    def __init__(self, records: int, latency: float) -> None:
        self.app = SimulatedLab(tokens=(os.environ[TOKEN],))
        self.app.limits = LIMIT
        self.app.limits_on = True
        self.app.latency = latency
        self._secret = os.environ[SECRET].encode()
        self._version = 0
        self._ids = [FIRST_ID + number for number in range(records)]
        for number, identifier in enumerate(self._ids):
            self.app.store.add(
                "clients",
                {
                    "CompanyId": identifier,
                    "CompanyName": f"Laboratory {number} Ltd.",
                    "LegacyId": legacy_id(identifier),
                    "AccountNumber": number,
                    "DomainName": f"lab{number}.example",
                    "CompanyDescription": "0",
                },
            )

    async def change(self, order: Order) -> Done:
        """Carry an order out."""
        chance = random.Random(order.seed)  # noqa: S311 - replayable choices, not secrets
        ids = list(self._ids)
        chance.shuffle(ids)
        hot = max(1, int(len(ids) * _SHARE_OF_HOT_RECORDS))
        loop = asyncio.get_running_loop()
        run = secrets.token_hex(6)
        made: list[tuple[str, int, float, list[Delivery]]] = []
        late: list[float] = []
        async with Sender(order.port, order.connections) as sender:
            begin = time.monotonic() + 0.05
            for number in range(order.count):
                due = begin + number / order.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                is_hot = chance.random() < _SHARE_OF_HOT_EVENTS
                identifier = ids[chance.randrange(hot) if is_hot else chance.randrange(hot, len(ids))]
                self._version += 1
                changed_at = time.monotonic()
                late.append(changed_at - due)
                self.app.sim_change(
                    "clients", "", str(identifier), {"CompanyDescription": str(self._version)}
                )
                request = client_changed(
                    self._secret,
                    host=f"{_HOST}:{order.port}",
                    subscription=order.subscription,
                    event=f"evt_{run}_{number}",
                    client=identifier,
                )
                copies = 2 if order.disorder and chance.random() < _DUPLICATED else 1
                deliveries = [Delivery(request) for _ in range(copies)]
                for delivery in deliveries:
                    if order.disorder:
                        loop.call_later(chance.uniform(0, _SHUFFLED), sender.send, delivery)
                    else:
                        sender.send(delivery)
                made.append((legacy_id(identifier), self._version, changed_at, deliveries))
            if order.disorder:
                await asyncio.sleep(_SHUFFLED)
            await sender.all_accepted(order.within)
            statuses = dict(sender.statuses)
        return Done(
            changes=[
                (
                    record,
                    version,
                    changed_at,
                    min((one.accepted_at for one in sent if one.accepted_at), default=0.0),
                )
                for record, version, changed_at, sent in made
            ],
            statuses=statuses,
            late_p99=sorted(late)[int(0.99 * (len(late) - 1))] if late else 0.0,
        )


def legacy_id(identifier: int) -> str:
    """What the lab's customer system calls a client; the key in the target."""
    return f"L-{identifier:07d}"


async def _serve(records: int, latency: float) -> None:
    lab = Lab(records, latency)
    listener = socket.create_server((_HOST, 0), backlog=512)
    server = uvicorn.Server(
        uvicorn.Config(
            lab.app,
            loop="none",  # the loop is chosen outside
            http="httptools",
            ws="none",
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    _tell({"url": f"http://{_HOST}:{listener.getsockname()[1]}"})
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = msgspec.json.decode(line, type=Order)
        _tell(msgspec.to_builtins(await lab.change(order)))
    # Whoever gave the orders has gone.
    server.should_exit = True
    await serving


def _tell(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run_async(_serve(int(sys.argv[1]), float(sys.argv[2])))
