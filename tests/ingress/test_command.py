"""`ipaas ingress` as a process: it says where it listens, answers, and ends when it is told to."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import httpx
import pytest

from console.processes import TERMINATED
from console.web.ingress.serving import LOOPBACK, listen

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(fresh_database, dagster_database_url, tmp_path):
    environment = {
        **os.environ,
        "IPAAS_DATABASE_URL": fresh_database.app,
        "IPAAS_DATABASE_OWNER_URL": fresh_database.owner,
        "IPAAS_DATABASE_DAGSTER_URL": dagster_database_url,
        "IPAAS_STATE_DIR": str(tmp_path),
    }

    def go(*arguments):
        return asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "console.cli.main",
            "ingress",
            *arguments,
            stderr=asyncio.subprocess.PIPE,
            cwd=REPOSITORY,
            env=environment,
        )

    return go


async def test_it_listens_on_this_machine_alone_and_ends_on_sigterm(run):
    process = await run("--port", "0")
    told = b""
    async with asyncio.timeout(60):
        while b"/hooks/" not in told:
            line = await process.stderr.readline()
            assert line, told.decode()
            told += line
    url = re.search(rb"http://\S+", told)[0].decode()
    assert url.startswith(f"http://{LOOPBACK}:")
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{url}nobody", content=b"{}")
    assert answer.status_code == 404
    assert "server" not in answer.headers
    process.terminate()
    assert await process.wait() == TERMINATED


async def test_a_port_that_is_taken_is_said_in_one_sentence(run):
    with listen(0) as taken:
        port = str(taken.getsockname()[1])
        process = await run("--port", port)
        _, told = await process.communicate()
    assert process.returncode == 1
    assert told.decode().startswith(f"ipaas: Port {port} of 127.0.0.1 cannot be listened on")
    assert told.count(port.encode()) == 1
    assert len(told.splitlines()) == 1
