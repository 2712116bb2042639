"""The products, one database and the platform on two machines: the ingress and the workers here, Dagster there.

Two supervisors share one database, so each of them can be away while the other works.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from benchmarks.judging import Change, Verdict, judge, writes_of
from simulator.client import SimulatorClient
from tests.dagster.test_processes import ask, free_port
from tests.e2e.running import REPOSITORY, Platform

FLOWS = {
    "lab_clients": """
source: {system: cal, entity: clients}
targets:
  account:
    system: crm
    entity: accounts
    key: {accountnumber: LegacyId}
    fields: {name: CompanyName, description: CompanyDescription}
""",
    "lab_vendors": """
source: {system: cal, entity: vendors}
targets:
  contact:
    system: crm
    entity: contacts
    key: {externaluseridentifier: {template: "lab-{CompanyId}"}}
    fields: {lastname: {python: "left(CompanyName, 50)"}}
""",
    "customers": """
source: {system: bc, entity: customers, scopes: all}
targets:
  contact:
    system: crm
    entity: contacts
    key: {externaluseridentifier: {template: "{$scope}-c-{number}"}}
    fields: {lastname: {python: "left(displayName, 50)"}}
""",
    "vendors": """
source: {system: bc, entity: vendors, scopes: all}
targets:
  contact:
    system: crm
    entity: contacts
    key: {externaluseridentifier: {template: "{$scope}-v-{number}"}}
    fields: {lastname: {python: "left(displayName, 50)"}}
""",
}
#: No flow polls: what arrives was told of by the product, or found because the platform knew that it had not been.
_HEAD = "flow: {name}\ntrigger: {{webhook: true}}\nlane: realtime\n"

COMPANY = "bulk"
CLIENTS = 30
#: Changes a second. They are spread so that most are alone, as on a usual day; no result waits for the clock.
_RATE = 30.0
_LIMIT = 150.0

_LIVE = ["Webhook ingress", *(f"Worker of the lane {lane}" for lane in ("realtime", "polling", "batch"))]
_DAGSTER = ["Dagster code server", "Dagster UI", "Dagster daemon", "Reporter"]
_MATERIALIZATIONS = """
{ assetOrError(assetKey: {path: [%s]}) { ... on Asset { assetMaterializations {
    timestamp runId metadataEntries { label ... on IntMetadataEntry { intValue } ... on TextMetadataEntry { text } }
} } } }
"""
_RUNS = """
{ runsOrError(filter: {pipelineName: "%s"}) { ... on Runs { results { runId status tags { key value } } } } }
"""


def until(what: str, look: Callable[[], Any]) -> Any:
    """Look until there is something."""
    end = time.monotonic() + _LIMIT
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {_LIMIT:.0f} s")


class Machine(Platform):
    """`ipaas up` on a state folder of its own."""

    def __init__(self, urls: Any, folder: Path, **settings: str) -> None:
        super().__init__(urls, folder / "state", IPAAS_LOG_LEVEL="WARNING", **settings)
        folder.mkdir()
        self._log = folder / "up.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_up(self) -> bool:
        return self._process is not None

    def up(self, *without: str, answering: list[str]) -> None:
        """Start it and wait until these programs have answered."""
        words = [word for name in without for word in ("--without", name)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "console.cli.main", "up", *words],
                env=self._environment,
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
            )
        for title in answering:
            until(f"{title}, see {self._log}", lambda title=title: self._answered(title))

    def _answered(self, title: str) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.said()
        return f" {title}: " in self.said()

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def down(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(_LIMIT)


class Missed:
    """A subscription that somebody deleted at Business Central, and a change that nobody was told of."""

    name = "Told nobody"

    def __init__(self, client: SimulatorClient, vendor: str) -> None:
        (self.before,) = [each for each in client.subscriptions("bc") if each["resource"].endswith("vendors")]
        self.vendor = vendor
        client.drop_subscription("bc", self.before["id"])
        self.at = time.monotonic()
        client.change("bc", "vendors", vendor, {"displayName": self.name}, COMPANY)


class World:
    """The products, the database, the two machines."""

    def __init__(self, client: SimulatorClient, databases: Any, template: str, folder: Path) -> None:
        self.client = client
        urls = databases.make(template=template)
        self.urls = replace(urls, dagster=databases.make_for_dagster())
        port, webserver = free_port(), free_port()
        self.public_url = f"http://127.0.0.1:{port}"
        self.webserver_url = f"http://127.0.0.1:{webserver}"
        plain = replace(
            self.urls, **{name: _plain(getattr(self.urls, name)) for name in ("owner", "app", "dagster")}
        )
        settings = {
            "IPAAS_PUBLIC_URL": self.public_url,
            "IPAAS_WEBSERVER_PORT": str(webserver),
            "IPAAS_CODE_SERVER_PORT": str(free_port()),
        }
        self.live = Machine(plain, folder / "live", IPAAS_CONSOLE_PORT=str(port), **settings)
        self.dagster = Machine(plain, folder / "dagster", IPAAS_CONSOLE_PORT=str(free_port()), **settings)
        self.clients: dict[str, str] = {}
        self._version = 0
        self.missed: Missed

    # --- setting up ---------------------------------------------------------------------------------------------

    def set_up(self, folder: Path) -> None:
        """Systems, flows, a hook at the lab's screen; then the live lane alone."""
        folder.mkdir()
        for name, text in FLOWS.items():
            (folder / f"{name}.yaml").write_text(_HEAD.format(name=name) + text, encoding="utf-8")
        vendor = self.client.add("bc", "vendors", {"number": "V1", "displayName": "Known"}, COMPANY)
        self.live.must("systems", "apply", self.client.ready.systems)
        self.live.must("apply", str(folder))
        added = self.live.must(
            "subscriptions", "add", "cal", "--secret", self.client.ready.secrets["cal_webhook_secret"]
        )
        (url,) = [line.split()[1] for line in added.splitlines() if line.startswith("URL:")]
        self.client.add_hook(url, self.client.webhook_secret("cal"))
        self.start_live()
        # What was there before anybody was told is read once the subscriptions are made: the first load.
        until(
            "the first load",
            lambda: self.contact(f"{COMPANY}-v-V1") and self.contact(f"{COMPANY}-c-B00000000"),
        )
        until("the end of the first load", lambda: self.left() == self.sql(_POLLS)[0][0] == 0)
        # Here, for the platform looks after its subscriptions once a minute, and other things can be shown meanwhile.
        self.missed = Missed(self.client, vendor)

    def start_live(self) -> None:
        self.live.up("dagster", answering=_LIVE)

    def start_dagster(self) -> None:
        if not self.dagster.is_up:
            self.dagster.up("workers", "ingress", answering=_DAGSTER)

    def down(self) -> None:
        try:
            self.live.down()
        finally:
            self.dagster.down()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(_plain(self.urls.owner), autocommit=True) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[arg-type]

    def left(self) -> int:
        """How much has not come to a good end."""
        return int(self.sql(_LEFT)[0][0])

    # --- the products -------------------------------------------------------------------------------------------

    def contact(self, key: str) -> dict[str, Any] | None:
        found = [
            each for each in self.client.records("crm", "contacts") if each["externaluseridentifier"] == key
        ]
        assert len(found) < 2, "one source record made two"
        return found[0] if found else None

    def written(self, key: str, name: str) -> float:
        """When the target had taken the write of this name."""
        contact = until(
            f"{name} at {key}", lambda: (found := self.contact(key)) and found["lastname"] == name and found
        )
        # The record is there a moment before its request has ended and stands in the ledger.
        writes = until(f"the write of {name}", lambda: self._writes(contact["contactid"], name))
        assert len(writes) == 1, f"{name} was written {len(writes)} times"
        return float(writes[0])

    def _writes(self, contact: str, name: str) -> list[Any]:
        return [
            entry["done"]
            for entry in self.client.ledger("crm")
            for effect in entry["effects"]
            if effect["id"] == contact and effect["fields"].get("lastname") == name
        ]

    def delivery(self, system: Any, about: str, number: int = 0) -> dict[str, Any]:
        """The delivery of this number about a record, once its answer is in."""
        found = until(
            f"a delivery about {about}",
            lambda: [
                each
                for each in self.client.deliveries(system)
                if any(text.endswith(about) for text in each["about"])
            ][number:],
        )
        assert found[0]["url"].startswith(f"{self.public_url}/hooks/")
        assert found[0]["status"] in range(200, 300)
        return {**found[0], **{name: float(found[0][name]) for name in ("changed", "at", "answered")}}

    def stir(self, changes: int) -> Verdict:
        """Add the clients that are missing, change them in turn, wait until all of it is in the target, and judge."""
        since = max((each["number"] for each in self.client.deliveries("cal")), default=0)
        made: dict[str, list[int]] = defaultdict(list)
        begin = time.monotonic()
        for number in range(changes):
            time.sleep(max(0.0, begin + number / _RATE - time.monotonic()))
            self._version += 1
            key = f"L-{number % CLIENTS:03d}"
            fields = {"CompanyDescription": str(self._version)}
            if key in self.clients:
                self.client.change("cal", "clients", self.clients[key], fields)
            else:
                self.clients[key] = self.client.add(
                    "cal", "clients", {**fields, "LegacyId": key, "CompanyName": key}
                )
            made[key].append(self._version)

        last = {key: str(versions[-1]) for key, versions in made.items()}
        until("the last version of every client", lambda: last.items() <= self.descriptions().items())
        until("an end of all of it", lambda: self.left() == 0)
        entries = until("all deliveries", lambda: self._told_of_clients(since, changes))
        return self._judged(made, entries)

    def descriptions(self) -> dict[str, str]:
        return {each["accountnumber"]: each["description"] for each in self.client.records("crm", "accounts")}

    def _told_of_clients(self, since: int, many: int) -> list[dict[str, Any]] | None:
        entries = [each for each in self.client.deliveries("cal", since) if each["attempt"] == 1]
        return entries if len(entries) >= many else None

    def _judged(self, made: dict[str, list[int]], entries: list[dict[str, Any]]) -> Verdict:
        changed: dict[str, list[float]] = defaultdict(list)
        for entry in sorted(entries, key=lambda each: each["changed"]):
            changed[entry["about"][0].split()[1]].append(float(entry["changed"]))
        changes = [
            Change(record=key, version=version, changed_at=at, accepted_at=at)
            for key, versions in made.items()
            for version, at in zip(versions, changed[self.clients[key]], strict=True)
        ]
        accounts = self.client.records("crm", "accounts")
        verdict = judge(changes, writes_of(self.client.ledger("crm"), accounts), accounts, records=CLIENTS)
        assert len(verdict.waits) == len(changes)
        assert (verdict.lost, verdict.duplicates, verdict.out_of_order) == (0, 0, 0)
        return verdict

    # --- the catalogue ------------------------------------------------------------------------------------------

    def materializations(self, asset: str) -> list[dict[str, Any]]:
        """What the Dagster UI shows of an asset, the newest first; `at` on the clock of the ledgers."""
        path = ", ".join(f'"{part}"' for part in asset.split("/"))
        found = ask(self.webserver_url, _MATERIALIZATIONS % path).get("assetOrError") or {}
        offset = time.time() - time.monotonic()
        return [
            {
                "at": float(each["timestamp"]) / 1000 - offset,
                "run": each["runId"],
                **{
                    entry["label"]: entry.get("intValue", entry.get("text"))
                    for entry in each["metadataEntries"]
                },
            }
            for each in found.get("assetMaterializations") or []
        ]

    def runs(self, job: str) -> list[dict[str, Any]]:
        found = ask(self.webserver_url, _RUNS % job).get("runsOrError") or {}
        return list(found.get("results") or [])


#: Whatever has not come to a good end: what waits, what is under way, and what gave up.
_LEFT = """
SELECT (SELECT count(*) FROM inbox WHERE state IN ('due', 'dead')) + (SELECT count(*) FROM hints)
     + (SELECT count(*) FROM work_items) + (SELECT count(*) FROM intents WHERE state IN ('open', 'unknown'))
"""
_POLLS = "SELECT count(*) FROM entity_state WHERE lease_until > now() OR poll_due_at <= now()"


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
