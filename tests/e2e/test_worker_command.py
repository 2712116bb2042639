"""`ipaas worker` without a lane, as a user runs it: a process for each lane, on the state folder of the command itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.processes import TERMINATED
from ipaas_resources.store.server import EmbeddedServer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
_LIMIT = 90


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ipaas-worker-"))
    made.chmod(0o711)  # the database's own account has to pass, when the tests run as root
    try:
        yield made
    finally:
        EmbeddedServer(made / "here" / "state").destroy()
        shutil.rmtree(made, ignore_errors=True)


def test_a_relative_state_folder_is_the_same_one_for_every_lane(folder: Path) -> None:
    here = folder / "here"
    here.mkdir(mode=0o711)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("IPAAS_", "DAGSTER_"))},
        "IPAAS_STATE_DIR": "state",
    }

    def status() -> dict[str, Any]:
        command = [sys.executable, "-m", "console.cli.main", "status", "--json"]
        done = subprocess.run(
            command, env=environment, cwd=here, capture_output=True, text=True, check=False, timeout=60
        )
        return dict(json.loads(done.stdout)) if done.stdout else {}

    worker = subprocess.Popen(
        [sys.executable, "-m", "console.cli.main", "worker"],
        env=environment,
        cwd=here,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wanted = {"worker-realtime", "worker-polling", "worker-batch"}
        end = time.monotonic() + _LIMIT
        while {each["name"] for each in status().get("processes", [])} != wanted:
            assert worker.poll() is None
            assert time.monotonic() < end, f"three workers on one database: not within {_LIMIT} s"
            time.sleep(0.2)
    finally:
        worker.terminate()
        assert worker.wait(60) == TERMINATED
