"""python -m benchmarks.ingress --json: deliveries accepted a second, and how long the slowest percent waits.

`ipaas ingress` runs as it is, on the embedded PostgreSQL with fsync on; the sender is a process of its own on 64
connections, each with one delivery under way. Every delivery is signed (calibration form), new, and carries an id only.
First nothing drains; then the same beside a realtime worker that reads each record by its id in a running lab of 5,000
(`draining_...`). What counts as accepted was answered 2xx; the rows of the inbox are counted against it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from benchmarks.lab import FIRST_ID, SECRET
from benchmarks.live_rig import REPOSITORY, SUBSCRIPTION, Rig
from benchmarks.sending import burst, client_changed, milliseconds, percentile
from console.cli.opening import open_database, run_async
from console.processes import free_port, python
from ipaas_resources.settings import Settings
from ipaas_resources.store.database import Database
from ipaas_resources.store.registry import StoredSystem, save_systems
from ipaas_resources.store.server import EmbeddedServer
from ipaas_resources.store.subscriptions import Subscription, save_subscription

RECORDS = 5_000
_WARM_UP = 2000
_START_SECONDS = 60
_SENDER_SECONDS = 600
_SETTLE_SECONDS = 240.0


# --- the sender's process -------------------------------------------------------------------------------------------


def _requests(host: str, count: int, secret: bytes, records: int) -> list[bytes]:
    """Whole requests, signed ahead: the sender's own work must not be measured."""
    run = secrets.token_hex(6)
    return [
        client_changed(
            secret,
            host=host,
            subscription=SUBSCRIPTION,
            event=f"evt_{run}_{number}",
            client=FIRST_ID + number % records,
        )
        for number in range(count)
    ]


async def _send(port: int, connections: int, count: int, records: int) -> dict[str, Any]:
    secret = os.environ[SECRET].encode()
    host = f"127.0.0.1:{port}"
    await burst(port, connections, _requests(host, _WARM_UP, secret, records), within=_SENDER_SECONDS)
    requests = _requests(host, count, secret, records)
    # The instrument makes no rubbish in circles; a look for it would be counted as the ingress's delay.
    gc.disable()
    deliveries, seconds = await burst(port, connections, requests, within=_SENDER_SECONDS)
    waits = [one.accepted_at - one.taken_at for one in deliveries]
    return {
        "accepted_per_s": round(count / seconds),
        "p50_ms": milliseconds(percentile(waits, 0.50)),
        "p95_ms": milliseconds(percentile(waits, 0.95)),
        "p99_ms": milliseconds(percentile(waits, 0.99)),
        "max_ms": milliseconds(max(waits)),
        "sent": count,
        "accepted": sum(one.accepted_at > 0 for one in deliveries),
        "refused": sum(one.attempts - 1 for one in deliveries),
        "seconds": round(seconds, 2),
    }


def send(
    port: int, *, connections: int, count: int, environment: Mapping[str, str], records: int = RECORDS
) -> dict[str, Any]:
    """Send a warm-up and then so many deliveries from a process of its own; the figures of the latter."""
    done = subprocess.run(
        python(
            *("-m", "benchmarks.ingress", "--send-to", str(port)),
            *("--connections", str(connections), "--deliveries", str(count), "--records", str(records)),
        ),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=True,
        timeout=_SENDER_SECONDS,
        cwd=REPOSITORY,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


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
                subscription=SUBSCRIPTION,
                system="lab",
                connector="calibration",
                proof="signature",
                secret=f"env:{SECRET}",
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
            row = connection.execute(statement.encode()).fetchone()
            assert row is not None
            return row[0]

        return {
            "stored": one("SELECT count(*) FROM inbox") - _WARM_UP,
            "fsync": one("SHOW fsync"),
            "synchronous_commit": one("SHOW synchronous_commit"),
        }


def measure(connections: int, count: int) -> dict[str, Any]:
    """Run the ingress and one sender against it, with nothing draining; the figures."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(state_dir=Path(folder) / "state")
        environment = {
            **os.environ,
            "IPAAS_STATE_DIR": str(settings.state_dir),
            SECRET: secrets.token_hex(32),
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
                result = send(port, connections=connections, count=count, environment=environment)
            finally:
                ingress.terminate()
                ingress.wait()
            result |= {"connections": connections, **_ledger(urls.owner)}
            result["lost"] = result["accepted"] - result["stored"]
        finally:
            server.destroy()
    return result


def measure_draining(connections: int, count: int) -> dict[str, Any]:
    """The same beside a realtime worker; keys begin with `draining_`."""
    with Rig(records=RECORDS, say=lambda line: print(line, file=sys.stderr, flush=True)) as rig:
        rig.start()
        before = int(rig.rows("SELECT count(*) FROM inbox")[0][0])
        sent = send(rig.port, connections=connections, count=count, environment=rig.environment)
        left = int(rig.rows("SELECT count(*) FROM inbox WHERE state = 'due'")[0][0])
        settled = rig.wait_until_settled(_SETTLE_SECONDS)
        stored = int(rig.rows("SELECT count(*) FROM inbox")[0][0]) - before - _WARM_UP
        result = {f"draining_{name}": sent[name] for name in ("accepted_per_s", "p50_ms", "p99_ms", "max_ms")}
        return {
            **result,
            "draining_refused": sent["refused"],
            "draining_left_at_end": left,
            "draining_settled": settled,
            "draining_lost": sent["accepted"] - stored,
        }


def failed(result: Mapping[str, Any]) -> bool:
    """Whether anything accepted was not stored, anything was refused, or the worker did not get through."""
    return bool(
        result["lost"]
        or result["refused"]
        or result.get("draining_lost")
        or result.get("draining_refused")
        or not result.get("draining_settled", True)
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure; 1 when something failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--deliveries", type=int, default=50_000)
    parser.add_argument("--idle-only", action="store_true", help="not beside a worker")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--records", type=int, default=RECORDS, help=argparse.SUPPRESS)
    parser.add_argument("--send-to", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.send_to:
        sent = run_async(_send(given.send_to, given.connections, given.deliveries, given.records))
        sys.stdout.write(json.dumps(sent))
        return 0
    result = measure(given.connections, given.deliveries)
    if not given.idle_only:
        result |= measure_draining(given.connections, given.deliveries)
    if given.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, value in result.items():
            sys.stdout.write(f"{name:<24} {value}\n")
    return 1 if failed(result) else 0


if __name__ == "__main__":
    sys.exit(main())
