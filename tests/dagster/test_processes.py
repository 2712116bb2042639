"""The real processes: code server, webserver and daemon as the supervisor starts them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from console.dagster_home import REPOSITORY, DagsterHome, Service, reload_running
from ipaas_resources.core.errors import StopError
from ipaas_resources.settings import Settings
from ipaas_resources.store.server import DatabaseUrls
from tests.dagster.rig import BACK, CUSTOMERS, Installation, product

_ASSETS = "{ assetNodes { assetKey { path } } }"
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

    def __init__(self, home: DagsterHome, environment: dict[str, str], logs: Path) -> None:
        self.home = home
        self._environment = environment
        self._logs = logs
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, service: Service) -> None:
        with (self._logs / f"{service.name}.log").open("wb") as log:
            self.processes[service.name] = subprocess.Popen(
                service.command,
                cwd=REPOSITORY,
                env={**os.environ, **self._environment, **service.environment},
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

    def ask(self, query: str) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.home.webserver_url}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["data"]
        except (urllib.error.URLError, ConnectionError):
            return {}

    def assets(self) -> set[str]:
        found = self.ask(_ASSETS).get("assetNodes") or []
        return {"/".join(node["assetKey"]["path"]) for node in found}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def running(fresh_database: DatabaseUrls, _dagster_url: str, tmp_path: Path) -> Iterator[Running]:
    settings = Settings(state_dir=tmp_path / "state")
    home = DagsterHome(
        settings, dagster_url=_dagster_url, webserver_port=free_port(), code_server_port=free_port()
    )
    home.prepare()

    def plain(url: str) -> str:
        return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)

    environment = {
        "IPAAS_DATABASE_URL": plain(fresh_database.app),
        "IPAAS_DATABASE_OWNER_URL": plain(fresh_database.owner),
        "IPAAS_DATABASE_DAGSTER_URL": plain(_dagster_url),
    }
    started = Running(home, environment, tmp_path)
    yield started
    started.stop()


def test_a_new_flow_is_in_the_asset_graph_after_a_reload_of_the_same_processes(
    running: Running, fresh_database: DatabaseUrls, tmp_path: Path
) -> None:
    installation = Installation(fresh_database, tmp_path / "state", bc=product("salesCustomers"))
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)
    for service in running.home.services()[:2]:
        running.start(service)
    until("the first flow", lambda: "crm/accounts/customers_to_clients__client" in running.assets())
    assert "bc/sales_customers/clients_to_customers__customer" not in running.assets()

    installation.apply(BACK)
    started = time.monotonic()
    assert reload_running(Settings(state_dir=tmp_path / "state")) is True

    assert "bc/sales_customers/clients_to_customers__customer" in running.assets()
    assert time.monotonic() - started < 60
    assert all(process.poll() is None for process in running.processes.values())


def test_definitions_that_do_not_load_are_an_error_of_the_reload(
    running: Running, tmp_path: Path
) -> None:
    code_server, webserver, _ = running.home.services()
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no definitions today')\n")
    command = [*code_server.command]
    command[command.index("--module-name") : command.index("--module-name") + 4] = ["--python-file", str(broken)]
    running.start(Service("code-server", "", command, code_server.environment, code_server.address))
    running.start(webserver)

    with pytest.raises(StopError, match="no definitions today"):
        reload_running(Settings(state_dir=tmp_path / "state"))
