"""What the live benchmarks share: two products, a database, a flow, an ingress and workers, each a process of its own.

The calibration lab (benchmarks/lab.py) sends signed, id-only deliveries; its clients become Dataverse accounts. Both
products keep to their limits. Nothing of the platform is replaced: it is started by its own commands.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
import psycopg
from sqlalchemy.engine import make_url

from benchmarks.judging import Change, Verdict, judge, writes_of
from benchmarks.lab import LIMIT, SECRET, TOKEN, Done, Order
from console.cli.opening import engine, open_database, run_async
from console.dagster_home import DagsterHome
from console.processes import Process, Processes, free_port, python
from ipaas_assets.sync.apply import apply_folder
from ipaas_assets.sync.systems import apply_systems
from ipaas_resources.settings import Settings
from ipaas_resources.store.server import EmbeddedServer
from ipaas_resources.store.subscriptions import Subscription, save_subscription
from simulator.client import SimulatorClient

REPOSITORY = Path(__file__).resolve().parent.parent
SUBSCRIPTION = "benchmark"
FLOW = "lab_clients"
_FLOW_TEXT = """\
flow: lab_clients
title: Clients of the lab become accounts
source: {system: cal, entity: clients}
trigger: {webhook: true}
lane: realtime
targets:
  account:
    system: crm
    entity: accounts
    key:
      accountnumber: LegacyId
    fields:
      name: CompanyName
      description: CompanyDescription
      websiteurl: DomainName
"""
_LIMIT_TEXT = f"{LIMIT.requests} requests in {LIMIT.window:.0f} s, {LIMIT.concurrency} at once"
_START_SECONDS = 90.0
_LOOK_SECONDS = 0.05
#: Looks in a row that must find nothing to do: what one process has taken stands in no queue for a moment.
_QUIET_LOOKS = 6
_WARM_UP = 60
_WARM_UP_RATE = 30.0

_LEFT = """
SELECT (SELECT count(*) FROM inbox WHERE state = 'due')
     + (SELECT count(*) FROM hints WHERE state = 'due')
     + (SELECT count(*) FROM work_items WHERE state IN ('due', 'parked'))
     + (SELECT count(*) FROM intents WHERE state IN ('open', 'unknown'))
"""
_RUNS_UNDER_WAY = "SELECT count(*) FROM runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"
_STUCK = """
SELECT (SELECT count(*) FROM inbox WHERE state = 'dead')
     + (SELECT count(*) FROM hints WHERE state = 'dead')
     + (SELECT count(*) FROM work_items WHERE state IN ('dead', 'review'))
"""


class Measured(msgspec.Struct, kw_only=True):
    """One round of changes and what came of it."""

    changes: list[Change]
    verdict: Verdict
    calls: dict[str, int]  # requests that reached each product
    late_p99: float
    statuses: dict[int, int]
    settled: bool  # the queues were empty before the wait ended
    stuck: int  # deliveries, hints and work items that wait for a person


class Rig:
    """The running whole. Use it as a context manager; `start()` it, then measure."""

    def __init__(
        self, *, records: int, say: Callable[[str], None], lease_seconds: float | None = None
    ) -> None:
        self.records = records
        self._say = say
        # A folder that another user may go through: as root the database runs as one.
        self.folder = Path(tempfile.mkdtemp(prefix="ipaas-live-"))
        self.folder.chmod(0o755)
        self.settings = Settings(state_dir=self.folder / "state")
        self.environment = {
            "IPAAS_STATE_DIR": str(self.settings.state_dir),
            TOKEN: secrets.token_hex(24),
            SECRET: secrets.token_hex(24),
            **({"IPAAS_LEASE_SECONDS": str(lease_seconds)} if lease_seconds else {}),
        }
        self._processes = Processes(self.settings.state_dir, say)
        self._server = EmbeddedServer(self.settings.state_dir)
        self._open = contextlib.ExitStack()
        self._lab: subprocess.Popen[str] | None = None
        self._lab_url = ""
        self._crm: SimulatorClient | None = None
        self._http = httpx.Client(timeout=60, trust_env=False)
        self._workers: list[Process] = []
        self.port = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as ends:
            ends.callback(shutil.rmtree, self.folder, ignore_errors=True)
            ends.callback(self._server.destroy)
            ends.callback(self._http.close)
            ends.callback(self._end_lab)
            ends.callback(self._processes.__exit__, None, None, None)
            if self._crm is not None:
                ends.callback(self._crm.close)

    # --- starting -----------------------------------------------------------------------------------------------

    def start(self, *, workers: int = 1, latency: float = 0.0) -> None:
        """Start everything, synchronise all records by a run, then warm the live lane up.

        Args:
            workers: of the realtime lane, each a process.
            latency: seconds that each product adds to its answers, from the first live change on.
        """
        self._say("Starting the products")
        ready = self._start_products()
        self._say("Preparing the database")
        urls = open_database(self.settings)
        self._owner = make_url(urls.owner).set(drivername="postgresql").render_as_string(hide_password=False)
        self._dagster_url = urls.dagster
        run_async(self._apply(self._system_documents(Path(ready["systems"])), self._flows()))
        self._say(f"Synchronising {self.records} records by a run")
        self._first_sync()
        self._say("Starting the ingress and the worker")
        self.start_ingress()
        for _ in range(workers):
            self.start_worker()
        self.warm_up()
        self.set_latency(latency)

    def _start_products(self) -> dict[str, Any]:
        folder = self.folder / "simulator"
        folder.mkdir()
        simulator = self._start(
            "dataverse",
            *("-m", "simulator", "--json", "--world", "empty", "--limits", "--state-dir", str(folder)),
        )
        self._lab = subprocess.Popen(
            python("-m", "benchmarks.lab", str(self.records), "0"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, **self.environment},
        )
        self._lab_url = json.loads(self._from_lab())["url"]
        ready = self._wait_for(simulator, lambda: self._ready_line(simulator), "the simulator")
        self._crm = SimulatorClient(ready)
        found: dict[str, Any] = json.loads(ready)
        return found

    @staticmethod
    def _ready_line(simulator: Process) -> str | None:
        return next((line for line in simulator.last_words(3).splitlines() if line.startswith("{")), None)

    def _system_documents(self, made: Path) -> Path:
        """The simulator's own document of Dataverse, and one of the lab with its limit raised."""
        folder = self.folder / "systems"
        folder.mkdir()
        shutil.copy(made / "crm.yaml", folder / "crm.yaml")
        lab = {
            "system": "cal",
            "connector": "calibration",
            "settings": {"url": self._lab_url},
            "secrets": {"api_token": f"env:{TOKEN}"},
            "limits": msgspec.structs.asdict(LIMIT),
            "max_server_time": 2.0,
        }
        # JSON is YAML.
        (folder / "cal.yaml").write_text(json.dumps(lab), encoding="utf-8")
        return folder

    def _flows(self) -> Path:
        folder = self.folder / "flows"
        folder.mkdir()
        (folder / f"{FLOW}.yaml").write_text(_FLOW_TEXT, encoding="utf-8")
        return folder

    async def _apply(self, systems: Path, flows: Path) -> None:
        os.environ.update({name: self.environment[name] for name in (TOKEN, SECRET)})
        async with engine(self.settings, load=False) as opened:
            await apply_systems(opened, systems)
            await opened.load()
            await apply_folder(opened, flows, actor="benchmark")
            await save_subscription(
                opened.database,
                Subscription(
                    subscription=SUBSCRIPTION,
                    system="cal",
                    connector="calibration",
                    proof="signature",
                    secret=f"env:{SECRET}",
                ),
            )

    def _first_sync(self) -> None:
        done = subprocess.run(
            python("-m", "console.cli.main", "run", FLOW, "--json"),
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            check=True,
        )
        created = json.loads(done.stdout)["counts"]["outcomes"].get("created", 0)
        if created != self.records:
            raise RuntimeError(f"the first run made {created} of {self.records} records")

    def start_ingress(self) -> None:
        """Start `ipaas ingress` and wait until it listens."""
        self.port = free_port(self.settings.console_port, "the ingress", self._say)
        ingress = self._start("ingress", "-m", "console.cli.main", "ingress", "--port", str(self.port))
        self._wait_for(ingress, self._listens, "the ingress")

    def _listens(self) -> bool:
        try:
            return self._http.get(f"http://127.0.0.1:{self.port}/").status_code > 0
        except httpx.TransportError:
            return False

    def start_worker(self) -> None:
        """Start one more realtime worker and wait for its sign of life."""
        before = self._beating()
        name = f"worker-{len(self._workers)}-{time.monotonic_ns()}"
        worker = self._start(name, "-m", "console.cli.main", "worker", "--lane", "realtime")
        self._workers.append(worker)
        self._wait_for(worker, lambda: bool(self._beating() - before), "the worker")

    def _beating(self) -> set[str]:
        return {row[0] for row in self.rows("SELECT worker FROM workers WHERE role = 'worker'")}

    def _start(self, name: str, *arguments: str) -> Process:
        return self._processes.start(
            name, python(*arguments), environment=self.environment, folder=REPOSITORY
        )

    def _wait_for(self, process: Process, look: Callable[[], Any], what: str) -> Any:
        until = time.monotonic() + _START_SECONDS
        while not (found := look()):
            if process.ended or time.monotonic() > until:
                raise RuntimeError(f"{what} did not come up; its log ends with:\n{process.last_words(30)}")
            time.sleep(_LOOK_SECONDS)
        return found

    def start_dagster(self) -> None:
        """Start code server, webserver and daemon as `ipaas up` does, and wait until they answer."""
        home = DagsterHome(
            self.settings,
            dagster_url=self._dagster_url,
            webserver_port=free_port(self.settings.webserver_port, "the Dagster UI", self._say),
            code_server_port=free_port(self.settings.code_server_port, "the code server", self._say),
        )
        home.prepare()
        started = [
            (
                service,
                self._processes.start(
                    service.name,
                    service.command,
                    environment={**self.environment, **service.environment},
                    folder=home.path,
                ),
            )
            for service in home.services()
        ]
        for service, process in started:
            self._wait_for(process, service.answers, service.title)

    def wait_for_runs(self, within: float) -> None:
        """Wait until no Dagster run is under way: the next event must not meet the end of the one before."""
        url = make_url(self._dagster_url).set(drivername="postgresql")
        until = time.monotonic() + within
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            while connection.execute(_RUNS_UNDER_WAY).fetchone() != (0,):
                if time.monotonic() > until:
                    raise RuntimeError("a Dagster run does not end")
                time.sleep(_LOOK_SECONDS)

    def warm_up(self) -> None:
        """Let every process make its connections and load what it loads once; not measured."""
        self.measure(rate=_WARM_UP_RATE, count=_WARM_UP, seed=0)

    # --- steering -----------------------------------------------------------------------------------------------

    @property
    def crm(self) -> SimulatorClient:
        """Dataverse, past its API."""
        assert self._crm is not None, "start() comes first"
        return self._crm

    @property
    def calibration_limit(self) -> str:
        """What the lab and its system document allow, for the figures."""
        return _LIMIT_TEXT

    def set_latency(self, seconds: float) -> None:
        """Both products add this to each answer from now on."""
        self.crm.set("crm", latency=seconds)
        self._http.post(f"{self._lab_url}/_sim/settings", json={"latency": seconds}).raise_for_status()

    def stop_workers(self) -> None:
        """End all workers as an operator does."""
        for worker in self._workers:
            worker.stop()
            self._processes.all.remove(worker)
        self._workers.clear()

    def kill_worker(self) -> None:
        """Kill the first worker the way a power cut does."""
        worker = self._workers.pop(0)
        worker.handle.send_signal(signal.SIGKILL)
        worker.handle.wait()
        self._processes.all.remove(worker)

    def restart_database(self) -> None:
        """PostgreSQL stops at once, without a checkpoint (its own immediate mode), and is started again."""
        number = self._server.process_id()
        if number is None:
            raise RuntimeError("the database does not run")
        os.kill(number, signal.SIGQUIT)
        until = time.monotonic() + _START_SECONDS
        while self._server.process_id() is not None:
            if time.monotonic() > until:
                raise RuntimeError("the database did not stop")
            time.sleep(_LOOK_SECONDS)
        self._server.start()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database as its owner."""
        with psycopg.connect(self._owner, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def execute(self, *statements: str) -> None:
        """Let the database do something as its owner."""
        with psycopg.connect(self._owner, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def checkpoint(self) -> None:
        """Let the database write down what it holds in memory, so that the next measurement does not pay for it."""
        url = make_url(self._server.admin_url()).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    def left(self) -> int:
        """Deliveries, hints, work items and intents that are not worked off."""
        return int(self.rows(_LEFT)[0][0])

    def wait_until_settled(self, within: float) -> bool:
        """Wait until nothing is left to do; False when that takes longer."""
        until, quiet = time.monotonic() + within, 0
        while quiet < _QUIET_LOOKS:
            if time.monotonic() > until:
                return False
            quiet = quiet + 1 if self.left() == 0 else 0
            time.sleep(_LOOK_SECONDS)
        return True

    # --- measuring ----------------------------------------------------------------------------------------------

    def begin(self, *, rate: float, count: int, seed: int, disorder: bool = False) -> None:
        """Forget the ledgers and have the lab change records; `end` gives the result."""
        self.crm.reset("crm")
        self._http.post(f"{self._lab_url}/_sim/reset").raise_for_status()
        order = Order(
            port=self.port, subscription=SUBSCRIPTION, rate=rate, count=count, seed=seed, disorder=disorder
        )
        assert self._lab is not None
        assert self._lab.stdin is not None
        self._lab.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self._lab.stdin.flush()

    def end(self, *, within: float) -> Measured:
        """Wait for the lab and for the platform, then judge from the ledgers."""
        done = msgspec.json.decode(self._from_lab(), type=Done)
        settled = self.wait_until_settled(within)
        changes = [
            Change(record=record, version=version, changed_at=changed, accepted_at=accepted)
            for record, version, changed, accepted in done.changes
        ]
        ledger = self.crm.ledger("crm")
        accounts = self.crm.records("crm", "accounts")
        calls = self._http.get(f"{self._lab_url}/_sim/counts").json()
        return Measured(
            changes=changes,
            verdict=judge(changes, writes_of(ledger, accounts), accounts, records=self.records),
            calls={"cal": int(calls.get("requests", 0)), "crm": len(ledger)},
            late_p99=done.late_p99,
            statuses=done.statuses,
            settled=settled,
            stuck=int(self.rows(_STUCK)[0][0]),
        )

    def measure(self, *, rate: float, count: int, seed: int, within: float = 60.0) -> Measured:
        """Change records at a rate and see it through."""
        self.begin(rate=rate, count=count, seed=seed)
        return self.end(within=within)

    def last_words(self) -> str:
        """The end of the platform's logs, for a benchmark that failed."""
        return "\n".join(f"--- {process.name}\n{process.last_words(15)}" for process in self._processes.all)

    def _from_lab(self) -> str:
        assert self._lab is not None
        assert self._lab.stdout is not None
        line = self._lab.stdout.readline()
        if not line:
            raise RuntimeError("the lab ended; see the lines above")
        return line

    def _end_lab(self) -> None:
        if self._lab is None:
            return
        assert self._lab.stdin is not None
        with contextlib.suppress(OSError):
            self._lab.stdin.close()
        try:
            self._lab.wait(10)
        except subprocess.TimeoutExpired:
            self._lab.kill()
            self._lab.wait()
        assert self._lab.stdout is not None
        self._lab.stdout.close()
