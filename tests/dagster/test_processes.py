"""The real processes: code server, webserver and daemon as the supervisor starts them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from sqlalchemy.engine import make_url

from console.dagster_home import REPOSITORY, DagsterHome, Service, reload_running
from ipaas_assets.workers import WORKER_TAG, this_worker
from ipaas_resources.core.errors import StopError
from ipaas_resources.settings import Settings
from ipaas_resources.store.server import DatabaseUrls, EmbeddedServer
from schedules.retention import retention_job
from tests.dagster.rig import BACK, CUSTOMERS, Installation, product

_ASSETS = "{ assetNodes { assetKey { path } } }"
_REGISTRY = {"assetKey": {"path": ["registry"]}}
_LIMIT = 90


def until(what: str, look: Callable[[], Any], *, limit: float = _LIMIT) -> Any:
    """Look until there is something."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {limit} s")


class Running:
    """The processes of one test; each writes to a file, shown when something does not come up."""

    def __init__(self, home: DagsterHome, logs: Path) -> None:
        self.home = home
        self._logs = logs
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, service: Service) -> None:
        with (self._logs / f"{service.name}.log").open("wb") as log:
            self.processes[service.name] = subprocess.Popen(
                service.command,
                cwd=REPOSITORY,
                env={**os.environ, **service.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until(self.log(service.name), lambda: service.answers() or self._ended(service.name))

    def _ended(self, name: str) -> bool:
        if self.processes[name].poll() is None:
            return False
        raise AssertionError(f"{name} ended: {self.log(name)}")

    def log(self, name: str) -> str:
        return (self._logs / f"{name}.log").read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            process.wait(30)

    def assets(self) -> set[str]:
        found = ask(self.home.webserver_url, _ASSETS).get("assetNodes") or []
        return {"/".join(node["assetKey"]["path"]) for node in found}


def ask(webserver_url: str, query: str) -> dict[str, Any]:
    """The data that answers a GraphQL query; nothing while nobody answers."""
    request = urllib.request.Request(  # noqa: S310 - our own webserver
        f"{webserver_url}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the same
            return json.load(answer)["data"]
    except (urllib.error.URLError, ConnectionError):
        return {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def settings(fresh_database: DatabaseUrls, dagster_url: str, tmp_path: Path) -> Settings:
    def plain(url: str) -> str:
        return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)

    return Settings(
        state_dir=tmp_path / "state",
        database_url=plain(fresh_database.app),
        database_owner_url=plain(fresh_database.owner),
        database_dagster_url=plain(dagster_url),
    )


@pytest.fixture
def running(settings: Settings, dagster_url: str, tmp_path: Path) -> Iterator[Running]:
    home = DagsterHome(
        settings, dagster_url=dagster_url, webserver_port=free_port(), code_server_port=free_port()
    )
    home.prepare()
    started = Running(home, tmp_path)
    yield started
    started.stop()


def test_a_new_flow_is_in_the_asset_graph_after_a_reload_of_the_same_processes(
    running: Running, settings: Settings, fresh_database: DatabaseUrls
) -> None:
    installation = Installation(fresh_database, settings.state_dir, bc=product("salesCustomers"))
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)
    for service in running.home.services()[:2]:
        running.start(service)
    until("the first flow", lambda: "crm/accounts/customers_to_clients__client" in running.assets())
    assert "bc/sales_customers/clients_to_customers__customer" not in running.assets()

    installation.apply(BACK)
    started = time.monotonic()
    assert reload_running(settings) is True

    assert "bc/sales_customers/clients_to_customers__customer" in running.assets()
    assert time.monotonic() - started < 60
    assert all(process.poll() is None for process in running.processes.values())


def test_definitions_that_do_not_load_are_an_error_of_the_reload(
    running: Running, settings: Settings, tmp_path: Path
) -> None:
    code_server, webserver, _ = running.home.services()
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no definitions today')\n")
    command = [*code_server.command]
    command[command.index("--module-name") : command.index("--module-name") + 4] = [
        "--python-file",
        str(broken),
    ]
    running.start(Service("code-server", "", command, code_server.environment, code_server.address))
    running.start(webserver)

    with pytest.raises(StopError, match="no definitions today"):
        reload_running(settings)


def test_the_daemon_ends_a_run_whose_process_died_and_means_to_start_it_again(
    running: Running, stored: dg.DagsterInstance
) -> None:
    process = psutil.Popen([sys.executable, "-c", ""])
    worker = f"{this_worker().rsplit('/', 2)[0]}/{process.pid}/{process.create_time():.2f}"
    process.wait()
    run = stored.create_run_for_job(
        job_def=retention_job, status=dg.DagsterRunStatus.STARTED, tags={WORKER_TAG: worker}
    )

    running.start(running.home.services()[2])
    until("the run's end", lambda: stored.get_run_by_id(run.run_id).is_finished)

    ended = stored.get_run_by_id(run.run_id)
    assert ended.status is dg.DagsterRunStatus.FAILURE
    until("the daemon's decision", lambda: "dagster/will_retry" in stored.get_run_by_id(run.run_id).tags)
    assert stored.get_run_by_id(run.run_id).tags["dagster/will_retry"] == "true"


def test_dagster_dev_works_in_the_repository_by_itself(tmp_path: Path) -> None:
    """No DAGSTER_HOME, no database, no tables: what a data engineer types in a fresh clone."""
    server = EmbeddedServer(tmp_path / "state")
    port = free_port()
    hidden = ("IPAAS_", "DAGSTER_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    with (tmp_path / "dev.log").open("wb") as log:
        dev = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "--port", str(port)],
            cwd=REPOSITORY,
            env={**environment, "IPAAS_STATE_DIR": str(tmp_path / "state")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(
            "the UI",
            lambda: ask(f"http://127.0.0.1:{port}", _ASSETS) == {"assetNodes": [_REGISTRY]} or dev.poll(),
        )
        assert dev.poll() is None, (tmp_path / "dev.log").read_text(errors="replace")[-3000:]
        daemons = "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy } } } }"

        def sensors_are_healthy() -> bool:
            found = ask(f"http://127.0.0.1:{port}", daemons)["instance"]["daemonHealth"]["allDaemonStatuses"]
            return any(each["daemonType"] == "SENSOR" and each["healthy"] for each in found)

        until("the daemon", sensors_are_healthy)
    finally:
        dev.terminate()
        dev.wait(60)
        server.destroy()
