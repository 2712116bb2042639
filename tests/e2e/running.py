"""A simulator and the `ipaas` command as processes of their own, for tests that see what a user sees."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from simulator.client import SimulatorClient

REPOSITORY = Path(__file__).resolve().parent.parent.parent
KILLED = -signal.SIGKILL if os.name == "posix" else 137


@contextlib.contextmanager
def simulator(folder: Path, *arguments: str) -> Iterator[SimulatorClient]:
    """A running simulator; its state goes to `folder`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator", "--json", "--state-dir", str(folder), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the simulator did not start"
        (folder / "ready.json").write_text(line, encoding="utf-8")
        with SimulatorClient(line) as client:
            yield client
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()


class Platform:
    """The `ipaas` command on one database; without `urls` on the embedded one in the state folder."""

    def __init__(self, urls: Any, state: Path, **settings: str) -> None:
        logins = (
            {}
            if urls is None
            else {
                "IPAAS_DATABASE_URL": urls.app,
                "IPAAS_DATABASE_OWNER_URL": urls.owner,
                "IPAAS_DATABASE_DAGSTER_URL": urls.dagster,
            }
        )
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IPAAS_")},
            **logins,
            "IPAAS_STATE_DIR": str(state),
            **settings,
        }

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "console.cli.main", *arguments],
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            cwd=REPOSITORY,
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command; the caller waits for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "console.cli.main", *arguments],
            env={**self._environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )

    def together(
        self, *commands: tuple[str, ...], **environment: str
    ) -> list[subprocess.CompletedProcess[str]]:
        """Run several commands side by side to their ends."""
        started = [self.start(*command, **environment) for command in commands]
        ended = [process.communicate(timeout=180) for process in started]
        return [
            subprocess.CompletedProcess(process.args, process.returncode, out, err)
            for process, (out, err) in zip(started, ended, strict=True)
        ]

    def must(self, *arguments: str, **environment: str) -> str:
        """Run a command that has to succeed; its output."""
        done = self.call(*arguments, **environment)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, flow: str, *arguments: str, **environment: str) -> dict[str, Any]:
        """`ipaas run FLOW --json`."""
        return dict(json.loads(self.must("run", flow, "--json", *arguments, **environment)))


def hasten(folder: Path) -> None:
    """Write into the system documents that these systems answer at once or never: nothing waits for minutes.

    Their search lag stays what the simulator was started with. A document that promised a shorter one would make every
    test after a kill a race: a create that is not found yet is made again.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    for path in sorted(folder.glob("*.yaml")):
        document = yaml.load(path.read_text(encoding="utf-8"))
        document["max_server_time"] = 0.3
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(document, file)
