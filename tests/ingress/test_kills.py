"""The ingress is killed at every step of a delivery: nothing that was answered is lost, no repeat counts twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import httpx
import pytest

from ipaas_resources.store.database import Database
from tests.ingress.conftest import Hooks, arrange

REPOSITORY = Path(__file__).resolve().parents[2]


async def start_process(url, kill_at):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.ingress.serving",
        url,
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "IPAAS_KILL_AT": kill_at},
    )
    async with asyncio.timeout(60):
        port = int(await process.stdout.readline())
    return process, f"http://127.0.0.1:{port}/hooks/lab-1"


@pytest.mark.parametrize(
    ("kill_at", "stored"),
    [("K01:1", 0), ("-K02:1", 0), ("K02:1", 1), ("-K03:1", 1), ("K03:1", 1)],
    ids=["body read", "before commit", "after commit", "before answer", "after answer"],
)
async def test_a_delivery_survives_a_kill_and_its_retry_is_seen(fresh_database, monkeypatch, kill_at, stored):
    database = Database(fresh_database.app)
    hooks = Hooks(None, database, None, None, 0)
    try:
        await arrange(database, monkeypatch)
        headers, body = hooks.signed()
        process, url = await start_process(fresh_database.app, kill_at)
        async with httpx.AsyncClient() as client:
            answered = None
            with contextlib.suppress(httpx.TransportError):
                answered = (await client.post(url, content=body, headers=headers)).status_code
            assert await process.wait() == -9
            assert len(await hooks.stored()) == stored
            # An answer was given for what is stored, and for nothing else.
            assert answered is None or (answered == 202 and stored == 1)
            process, url = await start_process(fresh_database.app, "")
            assert (await client.post(url, content=body, headers=headers)).status_code == 202
        process.terminate()
        await process.wait()
        (row,) = await hooks.stored()
        assert (row.body, row.state, len(await hooks.keys())) == (body, "due", 1)
    finally:
        await database.close()
