"""python -m benchmarks.ingress --json: deliveries accepted a second, and how long the slowest percent waits.

`ipaas ingress` runs as it is, on the embedded PostgreSQL with fsync on; the sender is a process of its own on 64
connections, each with one delivery under way. Every delivery is signed (calibration form), new, and carries an id only.
Nothing drains. What counts as accepted was answered 2xx; the rows of the inbox are counted against it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import psycopg
from sqlalchemy.engine import make_url

from console.cli.opening import open_database, run_async
from console.processes import free_port, python
from ipaas_resources.settings import Settings
from ipaas_resources.store.database import Database
from ipaas_resources.store.registry import StoredSystem, save_systems
from ipaas_resources.store.server import EmbeddedServer
from ipaas_resources.store.subscriptions import Subscription, save_subscription

_SUBSCRIPTION = "benchmark"
_SECRET_NAME = "IPAAS_BENCHMARK_SECRET"  # noqa: S105 - the name of a variable
_STATUS_END = 12  # of `HTTP/1.1 202`
_WARM_UP = 2000
_START_SECONDS = 60
_SENDER_SECONDS = 600


# --- the sender's process -------------------------------------------------------------------------------------------


def _requests(host: str, count: int, secret: bytes) -> list[bytes]:
    """Whole requests, signed ahead: the sender's own work must not be measured."""
    stamp = str(int(time.time()))
    run = secrets.token_hex(6)
    made = []
    for number in range(count):
        body = (
            f'{{"event":"job.updated","id":"evt_{run}_{number}","created":"2026-01-15T13:58:10Z",'
            f'"data":{{"ServiceOrderId":{number % 5000}}}}}'
        ).encode()
        mac = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        head = (
            f"POST /hooks/{_SUBSCRIPTION} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"X-LabSync-Signature: t={stamp},v1={mac}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._buffer = b""
        self._sent_at = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        request = self._work.take()
        if request is None:
            self.transport.close()
            return
        self._sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        # Answers have no body, so the empty line ends them.
        if self._buffer.endswith(b"\r\n\r\n"):
            status = self._buffer[9:_STATUS_END]
            self._buffer = b""
            self._work.note(time.perf_counter() - self._sent_at, status.decode())
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._work.ended()


class _Work:
    """What is left to send, and what came of it."""

    def __init__(self, requests: list[bytes], connections: int) -> None:
        self._left = iter(requests)
        self._open = connections
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.seconds: list[float] = []
        self.statuses: dict[str, int] = {}

    def take(self) -> bytes | None:
        return next(self._left, None)

    def note(self, seconds: float, status: str) -> None:
        self.seconds.append(seconds)
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def ended(self) -> None:
        self._open -= 1
        if not self._open and not self.done.done():
            self.done.set_result(None)


async def _burst(port: int, connections: int, requests: list[bytes]) -> tuple[_Work, float]:
    work = _Work(requests, connections)
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    await asyncio.gather(
        *(loop.create_connection(lambda: _Connection(work), "127.0.0.1", port) for _ in range(connections))
    )
    await work.done
    return work, time.perf_counter() - started


async def _send(port: int, connections: int, count: int) -> dict[str, Any]:
    secret = os.environ[_SECRET_NAME].encode()
    host = f"127.0.0.1:{port}"
    await _burst(port, connections, _requests(host, _WARM_UP, secret))
    requests = _requests(host, count, secret)
    # The instrument makes no rubbish in circles; a look for it would be counted as the ingress's delay.
    gc.disable()
    work, seconds = await _burst(port, connections, requests)
    ordered = sorted(work.seconds)
    accepted = sum(many for status, many in work.statuses.items() if status.startswith("2"))

    def at(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

    return {
        "accepted_per_s": round(accepted / seconds),
        "p50_ms": at(0.50),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
        "sent": count,
        "accepted": accepted,
        "refused": count - accepted,
        "seconds": round(seconds, 2),
    }


# --- the whole ------------------------------------------------------------------------------------------------------


async def _prepare(url: str) -> None:
    database = Database(url)
    try:
        system = StoredSystem(
            system="lab", connector="calibration", document={"system": "lab"}, text="", paused=False
        )
        await save_systems(database, [system])
        await save_subscription(
            database,
            Subscription(
                subscription=_SUBSCRIPTION,
                system="lab",
                connector="calibration",
                proof="signature",
                secret=f"env:{_SECRET_NAME}",
            ),
        )
    finally:
        await database.close()


async def _listens(port: int, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while True:
            if process.poll() is not None:
                raise RuntimeError("ipaas ingress ended before it listened; see the lines above.")
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


def _ledger(owner_url: str) -> dict[str, Any]:
    """What the database holds, and how it was kept safe."""
    url = make_url(owner_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:

        def one(statement: str) -> Any:
            row = connection.execute(statement).fetchone()
            assert row is not None
            return row[0]

        return {
            "stored": one("SELECT count(*) FROM inbox") - _WARM_UP,
            "fsync": one("SHOW fsync"),
            "synchronous_commit": one("SHOW synchronous_commit"),
        }


def measure(connections: int, count: int) -> dict[str, Any]:
    """Run the ingress and one sender against it; the figures."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(state_dir=Path(folder) / "state")
        environment = {
            **os.environ,
            "IPAAS_STATE_DIR": str(settings.state_dir),
            _SECRET_NAME: secrets.token_hex(32),
        }
        server = EmbeddedServer(settings.state_dir)
        try:
            urls = open_database(settings)
            run_async(_prepare(urls.app))
            port = free_port(settings.console_port, "the ingress", lambda _line: None)
            ingress = subprocess.Popen(
                python("-m", "console.cli.main", "ingress", "--port", str(port)), env=environment
            )
            try:
                run_async(_listens(port, ingress))
                sender = subprocess.run(
                    python(
                        "-m",
                        "benchmarks.ingress",
                        "--send-to",
                        str(port),
                        "--connections",
                        str(connections),
                        "--deliveries",
                        str(count),
                    ),
                    env=environment,
                    stdout=subprocess.PIPE,
                    check=True,
                    timeout=_SENDER_SECONDS,
                )
            finally:
                ingress.terminate()
                ingress.wait()
            result: dict[str, Any] = json.loads(sender.stdout)
            result |= {"connections": connections, "draining": False, **_ledger(urls.owner)}
            result["lost"] = result["accepted"] - result["stored"]
        finally:
            server.destroy()
    return result


def main() -> int:
    """Measure; 1 when anything accepted was not stored, or anything was refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--deliveries", type=int, default=50_000)
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--send-to", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.send_to:
        sys.stdout.write(json.dumps(run_async(_send(given.send_to, given.connections, given.deliveries))))
        return 0
    result = measure(given.connections, given.deliveries)
    if given.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, value in result.items():
            sys.stdout.write(f"{name:<20} {value}\n")
    return 1 if result["lost"] or result["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
