"""python -m benchmarks.batch --records 100000 --json: a first load and an unchanged second read, and where time goes.

Business Central customers (27 fields, about 865 bytes) become Dataverse accounts. The simulator runs in a process of
its own, PostgreSQL is the embedded one with fsync on, nothing is mocked. The ceiling is a raw pull of the same pages
with a COPY of each record into a table, without parsing, mapping or writing to an API, in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import psycopg
from sqlalchemy.engine import make_url

from console.cli.opening import engine, open_database, run_async
from console.processes import python
from ipaas_assets.sync.apply import apply_folder
from ipaas_assets.sync.run import RunResult, run_flow
from ipaas_assets.sync.systems import apply_systems
from ipaas_resources.settings import Settings
from ipaas_resources.store.server import EmbeddedServer

FLOW = """
flow: bulk_customers
source: {system: bc, entity: customers, scopes: [bulk]}
targets:
  account:
    system: crm
    entity: accounts
    key:
      accountnumber: number
    fields:
      name: displayName
      telephone1: phoneNumber
      emailaddress1: email
      websiteurl: {direct: website, too_long: flag}
      address1_line1: addressLine1
      address1_line2: addressLine2
      address1_city: city
      address1_stateorprovince: state
      address1_postalcode: postalCode
      address1_country: country
      customertypecode: 3
      paymenttermscode: {lookup: terms, of: paymentTermsId, missing: null, as: number}
      creditlimit: {math: "round(creditLimit * 1.1, 2)"}
      creditonhold: {if: "balanceDue > creditLimit", then: true, else: false}
      description: {template: "Customer {number} of {city}, {country}"}
"""


class Cpu:
    """CPU seconds of the three parties, read from the operating system."""

    def __init__(self, simulator: int, database: int) -> None:
        self._groups = {"engine": [psutil.Process()], "simulator": [psutil.Process(simulator)]}
        self._database = psutil.Process(database)
        self._seen: dict[int, float] = {}
        self._stop = threading.Event()
        self.rss = 0
        # PostgreSQL's backends come and go; a watcher keeps the last figure of each.
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._stop.wait(0.05):
            self.rss = max(self.rss, own.memory_info().rss)
            self._look()

    def _look(self) -> None:
        for process in [self._database, *self._database.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            self._seen[process.pid] = times.user + times.system

    def read(self) -> dict[str, float]:
        """CPU seconds so far."""
        self._look()
        result = {"postgresql": sum(self._seen.values())}
        for name, processes in self._groups.items():
            result[name] = sum(sum(process.cpu_times()[:2]) for process in processes)
        return result

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()


def _start_simulator(records: int, folder: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = subprocess.Popen(
        python(
            "-m",
            "simulator",
            "--json",
            "--world",
            "empty",
            "--bulk",
            str(records),
            "--state-dir",
            str(folder),
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("the simulator did not start")
    return process, json.loads(line)


def _ceiling(ready: dict[str, Any], database_url: str, records: int) -> float:
    """Rows a second of a raw pull with COPY: no parsing beyond cutting the page into records."""
    page = msgspec.json.Decoder(dict[str, msgspec.Raw])
    rows = msgspec.json.Decoder(list[msgspec.Raw])
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    token = _token(ready)
    done = 0
    with (
        psycopg.connect(url) as connection,
        httpx.Client(
            headers={"Authorization": f"Bearer {token}", "Prefer": "odata.maxpagesize=5000"}
        ) as client,
    ):
        connection.execute("CREATE TEMP TABLE raw (n integer, body bytea)")
        companies = client.get(
            f"{ready['urls']['bc']}/v2.0/{ready['tenant']}/Production/api/v2.0/companies"
        ).json()
        company = next(each["id"] for each in companies["value"] if each["name"] == "BULK")
        link = (
            f"{ready['urls']['bc']}/v2.0/{ready['tenant']}/Production/api/v2.0/companies({company})/customers"
        )
        started = time.perf_counter()
        while link:
            body = page.decode(client.get(link, timeout=60).content)
            with connection.cursor().copy("COPY raw (n, body) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int4", "bytea"])
                for row in rows.decode(body["value"]):
                    copy.write_row((done, bytes(row)))
                    done += 1
            link = json.loads(bytes(body["@odata.nextLink"])) if "@odata.nextLink" in body else ""
        connection.commit()
        seconds = time.perf_counter() - started
    assert done == records, (done, records)
    return done / seconds


def _token(ready: dict[str, Any]) -> str:
    secret = (
        Path(ready["secrets"]["bc_client_secret"].removeprefix("file:")).read_text(encoding="utf-8").strip()
    )
    import ssl  # noqa: PLC0415

    context = ssl.create_default_context(cafile=ready["ca"])
    answer = httpx.post(
        f"{ready['urls']['login']}/{ready['tenant']}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": ready["clients"]["bc"],
            "client_secret": secret,
            "scope": "https://api.businesscentral.dynamics.com/.default",
        },
        verify=context,
    )
    answer.raise_for_status()
    return str(answer.json()["access_token"])


async def _run(settings: Settings, mode: str) -> RunResult:
    async with engine(settings) as opened:
        result = await run_flow(opened, "bulk_customers", mode=mode)  # type: ignore[arg-type]
    if result.error or result.dead or result.review or result.pending:
        raise SystemExit(f"the run did not end well: {result.error or result}")
    return result


def measure(records: int) -> dict[str, Any]:
    """One measurement with this many records, in this process."""
    with tempfile.TemporaryDirectory(prefix="ipaas-bench-") as temporary:
        folder = Path(temporary)
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - as root the database runs as another user
        settings = Settings(state_dir=folder / "state")
        simulator, ready = _start_simulator(records, folder / "simulator")
        server = EmbeddedServer(settings.state_dir)
        try:
            urls = open_database(settings)
            flows = folder / "flows"
            (flows / "lookups").mkdir(parents=True)
            (flows / "bulk.yaml").write_text(FLOW, encoding="utf-8")
            (flows / "lookups" / "terms.csv").write_text("id,code\nx,1\n", encoding="utf-8")

            async def apply() -> None:
                async with engine(settings, load=False) as opened:
                    await apply_systems(opened, Path(ready["systems"]))
                    await opened.load()
                    await apply_folder(opened, flows, actor="benchmark")

            asyncio.run(apply()) if sys.platform == "win32" else run_async(apply())
            ceiling = _ceiling(ready, urls.owner, records)
            postmaster = int((settings.state_dir / "postgres" / "postmaster.pid").read_text().split()[0])
            cpu = Cpu(simulator.pid, postmaster)
            before = cpu.read()
            started = time.perf_counter()
            first = run_async(_run(settings, "incremental"))
            open_seconds = time.perf_counter() - started - first.counts.seconds
            middle = cpu.read()
            again = run_async(_run(settings, "full"))
            after = cpu.read()
            cpu.close()
        finally:
            simulator.terminate()
            simulator.wait()
            server.stop()
    # From the start of the run to its end, schemas and first contact included; opening the platform (imports, settings,
    # connections) is told apart, for it does not grow with the records.
    first_seconds, again_seconds = first.counts.seconds, again.counts.seconds
    created = first.counts.outcomes["created"]
    assert created == records, first.counts
    assert again.counts.changed == 0, again.counts
    return {
        "records": records,
        "records_per_s": round(records / first_seconds),
        "noop_records_per_s": round(records / again_seconds),
        "open_s": round(open_seconds, 2),
        "write_calls": first.counts.writes,
        "read_calls": first.counts.reads,
        "noop_write_calls": again.counts.writes,
        "rss_mb": round(cpu.rss / 1024**2, 1),
        "cpu_s_per_1000": {
            name: round((middle[name] - before[name]) / records * 1000, 4)
            for name in ("engine", "postgresql", "simulator")
        },
        "noop_cpu_s_per_1000": {
            name: round((after[name] - middle[name]) / records * 1000, 4)
            for name in ("engine", "postgresql", "simulator")
        },
        "ceiling_records_per_s": round(ceiling),
        "ratio_ceiling": round(records / first_seconds / ceiling, 3),
        "noop_ratio_ceiling": round(records / again_seconds / ceiling, 3),
        "stages_s": {name: round(seconds, 2) for name, seconds in sorted(first.counts.stages.items())},
        "noop_stages_s": {name: round(seconds, 2) for name, seconds in sorted(again.counts.stages.items())},
    }


def main() -> None:
    """Measure with the wanted number of records, and with a tenth of it for the growth of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--single", action="store_true", help="only this many records, in this process")
    given = parser.parse_args()
    if given.single:
        result = measure(given.records)
    else:
        small = _in_own_process(max(1000, given.records // 10))
        result = _in_own_process(given.records)
        result["rss_mb_at_a_tenth"] = small["rss_mb"]
        result["rss_ratio"] = round(result["rss_mb"] / small["rss_mb"], 3)
    if given.json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    for name, value in result.items():
        sys.stdout.write(f"{name:<24} {value}\n")


def _in_own_process(records: int) -> dict[str, Any]:
    done = subprocess.run(
        python("-m", "benchmarks.batch", "--single", "--json", "--records", str(records)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
