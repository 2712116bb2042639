"""A running simulator, in a process of its own as in the demo."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from simulator.client import SimulatorClient
from simulator.server import Ready

REPOSITORY = Path(__file__).resolve().parents[2]


class Running:
    """A started simulator: its process, its ready line, the CPU seconds until it printed that."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "simulator", "--json", *arguments],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.line = self.process.stdout.readline()
        assert self.line, self.process.stderr.read().decode()
        self.cpu = sum(psutil.Process(self.process.pid).cpu_times()[:2])
        self.ready = msgspec.json.decode(self.line, type=Ready)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        code = self.process.wait(timeout=15)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    """Shared by the tests that only look, or that change records of their own."""
    simulator = Running("--prefill", "--bulk", "50")
    yield simulator
    simulator.stop()


@pytest.fixture
def client(running: Running) -> Iterator[SimulatorClient]:
    with SimulatorClient(running.line) as opened:
        yield opened
