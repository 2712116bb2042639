"""kill -9 in the live lane, on real processes: signed deliveries, twice and shuffled, become writes; a kill costs a lease.

A lab is changed all the while; its deliveries are sent until the ingress has accepted each of them, as products do. What
is lost, doubled or out of order is read from the ledger of the target alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import select
import signal
import time

import httpx
import psycopg
import pytest
from sqlalchemy.engine import make_url

from benchmarks.judging import Change, judge, writes_of
from ipaas_resources.connectors.calibration.fake_webhook import delivery
from ipaas_resources.core.clock import SystemClock
from tests.e2e.running import KILLED, Platform, hasten, simulator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")

FLOW = """
flow: clients_out
source: {system: cal, entity: clients}
trigger: {webhook: true}
targets:
  account:
    system: crm
    entity: accounts
    key: {accountnumber: LegacyId}
    fields: {name: CompanyName, description: CompanyDescription}
"""
#: Each worker is killed at its point and the next one takes over; a last one, unarmed, ends the chain. K04 is passed by
#: the split of deliveries, by the claim of hints and by the claim of work items, K09 and K10 by each request.
CHAINS = [
    ("K04:1", "-K04:2", "K04:3", "K05:1"),
    ("-K06:1", "K06:1", "K07:1", "K08:1"),
    ("K09:9", "K10:9", "-K11:1", "K12:1"),
]
LEFT = """
SELECT (SELECT count(*) FROM inbox WHERE state = 'due') + (SELECT count(*) FROM hints WHERE state = 'due')
     + (SELECT count(*) FROM work_items) + (SELECT count(*) FROM intents WHERE state = 'open')
"""
STUCK = (
    "SELECT state, error_code, count(*) FROM inbox GROUP BY 1, 2",
    "SELECT state, attempts, error_code, count(*), min(lease_until - now())::text, max(lease_until - now())::text FROM hints GROUP BY 1, 2, 3",
    "SELECT record, state, attempts, due_at - now(), lease_until - now(), error_code FROM work_items",
    "SELECT system, holder, permits, expires_at - now() FROM concurrency_permits",
    "SELECT intent, state, lease_until - now(), writes FROM intents WHERE state IN ('open', 'unknown')",
)
PATIENCE = 20.0


class Lab:
    """The lab and its sender."""

    def __init__(self, client, platform, database, http, url):
        self.client, self.platform, self._database = client, platform, database
        self._http, self.url = http, url
        self._secret = client.webhook_secret("cal")
        self._chance = random.Random(4)
        self._numbers = itertools.count(1)
        self._ids = {}
        self.changes = []
        self.waiting = []  # deliveries that nobody accepted yet
        self.accepted = 0

    def change(self):
        """Two new clients, four changes of few others; their deliveries, a third of them twice, wait in any order."""
        for number in [len(self._ids) + 1, len(self._ids) + 2]:
            self._tell(f"L-{number}")
        for _ in range(4):
            self._tell(f"L-{self._chance.randint(1, 5)}")
        self._chance.shuffle(self.waiting)

    def _tell(self, record):
        version = len(self.changes) + 1
        fields = {"CompanyName": f"Laboratory {version}", "CompanyDescription": str(version)}
        event = "client.updated"
        if record in self._ids:
            self.client.change("cal", "clients", self._ids[record], fields)
        else:
            self._ids[record] = self.client.add("cal", "clients", {**fields, "LegacyId": record})
            event = "client.created"
        self.changes.append(Change(record=record, version=version, changed_at=0.0, accepted_at=0.0))
        about = {"CompanyId": int(self._ids[record])}
        signed = delivery(self._secret, event, about, number=next(self._numbers), now=SystemClock().now())
        self.waiting += [signed] * self._chance.choice([1, 1, 2])

    def send(self, url=None):
        """Try each delivery once; what was not answered with 2xx waits on."""
        left = []
        for headers, body in self.waiting:
            status = 0
            with contextlib.suppress(httpx.TransportError):
                status = self._http.post(url or self.url, content=body, headers=headers).status_code
            if status // 100 != 2:
                left.append((headers, body))
        self.accepted += len(self.waiting) - len(left)
        self.waiting = left

    def until(self, condition, what):
        """Go on changing and telling until it holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, what
            self.change()
            self.send()
            time.sleep(0.05)

    def row(self, statement):
        (row,) = self._database.execute(statement).fetchall()
        return row

    def check(self):
        """Wait until nothing is left to do, then judge."""
        end = time.monotonic() + PATIENCE
        while self.row(LEFT) != (0,):
            assert time.monotonic() < end, [self._database.execute(each).fetchall() for each in STUCK]
            time.sleep(0.05)
        accounts = self.client.records("crm", "accounts")
        writes = writes_of(self.client.ledger("crm"), accounts)
        verdict = judge(self.changes, writes, accounts, records=len(self._ids))
        assert (verdict.lost, verdict.duplicates, verdict.out_of_order) == (0, 0, 0)
        assert len(accounts) == len(self._ids)
        # Accepted = committed: what was repeated is one row, and every row came to its end as a read.
        deliveries = len(self.changes)
        assert self.accepted >= deliveries
        assert self._database.execute("SELECT state, count(*) FROM inbox GROUP BY 1").fetchall() == [
            ("done", deliveries)
        ]
        assert self.row("SELECT count(*) FROM sync_events WHERE outcome IN ('dead', 'review')") == (0,)
        assert self.row("SELECT count(*) FROM hints") == (0,)


@contextlib.contextmanager
def ended(process):
    """The process, which does not outlive the block."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        process.communicate(timeout=30)


def line_of(process, pattern):
    """Wait for a line on stderr; what the pattern found in it."""
    end, text = time.monotonic() + PATIENCE, ""
    while time.monotonic() < end:
        if select.select([process.stderr], [], [], 0.2)[0]:
            text += os.read(process.stderr.fileno(), 65_536).decode()
            if found := re.search(pattern, text):
                return found
        assert process.poll() is None, text
    raise AssertionError(f"nothing like {pattern} in: {text}")


def ingress(platform, **environment):
    return ended(platform.start("ingress", "--port", "0", **environment))


def worker(platform, **environment):
    return ended(platform.start("worker", "--lane", "realtime", **environment))


@pytest.fixture(scope="module")
def lab(databases, _template, tmp_path_factory):
    urls = databases.make(template=_template)
    folder = tmp_path_factory.mktemp("live")
    plain = make_url(urls.app).set(drivername="postgresql").render_as_string(hide_password=False)
    with contextlib.ExitStack() as stack:
        stack.callback(databases.drop, urls.owner)
        client = stack.enter_context(
            simulator(folder / "simulator", "--world", "empty", "--search-lag", "0.5")
        )
        systems = folder / "simulator" / "systems"
        (systems / "bc.yaml").unlink()  # the empty world has no company
        hasten(systems)
        platform = Platform(
            urls,
            folder / "state",
            IPAAS_LEASE_SECONDS="1.5",
            IPAAS_LOG_LEVEL="ERROR",
            IPAAS_PUBLIC_URL="http://127.0.0.1",
        )
        (folder / "flows").mkdir()
        (folder / "flows" / "flow.yaml").write_text(FLOW, encoding="utf-8")
        platform.must("systems", "apply", str(systems))
        platform.must("apply", str(folder / "flows"))
        told = platform.must(
            "subscriptions", "add", "cal", "--secret", client.ready.secrets["cal_webhook_secret"]
        )
        path = re.search(r"/hooks/\S+", told)[0]
        process = stack.enter_context(ingress(platform))
        port = line_of(process, r"127\.0\.0\.1:(\d+)")[1]
        database = stack.enter_context(psycopg.connect(plain, autocommit=True))
        http = stack.enter_context(httpx.Client(timeout=10, trust_env=False))
        yield Lab(client, platform, database, http, f"http://127.0.0.1:{port}{path}")


@pytest.mark.parametrize("chain", CHAINS, ids=" ".join)
def test_workers_killed_one_after_the_other_lose_and_double_nothing(lab, chain):
    for point in chain:
        lab.change()
        lab.send()
        with worker(lab.platform, IPAAS_KILL_AT=point) as process:
            lab.until(lambda process=process: process.poll() is not None, f"{point} was not passed")
        assert process.returncode == KILLED, point
    with worker(lab.platform):
        lab.check()


def test_an_ingress_killed_around_its_commit_and_its_answer_loses_and_doubles_nothing(lab):
    path = re.search(r"/hooks/\S+", lab.url)[0]
    with worker(lab.platform):
        for point in ("-K02:2", "K02:2", "-K03:3", "K03:3"):
            with ingress(lab.platform, IPAAS_KILL_AT=point) as process:
                port = line_of(process, r"127\.0\.0\.1:(\d+)")[1]
                while process.poll() is None:
                    lab.change()
                    lab.send(f"http://127.0.0.1:{port}{path}")
            assert process.returncode == KILLED, point
            # The product tries again, and reaches the one that was started in its place.
            lab.send()
            assert lab.waiting == []
        lab.check()


def test_a_worker_that_was_stopped_for_longer_than_its_lease_harms_nothing_when_it_goes_on(lab):
    """Two of them in turn, each stopped in the middle of whatever it does."""
    with worker(lab.platform) as one, worker(lab.platform) as two:
        beating = "SELECT count(*) FROM workers WHERE lane = 'realtime' AND beat_at > now() - interval '4 s'"
        lab.until(lambda: lab.row(beating) >= (2,), "two signs of life")
        for process in (one, two, one):
            lab.change()
            lab.send()
            process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            # Longer than the lease (1.5 s): the other one takes over what this one holds.
            lab.until(lambda began=began: time.monotonic() - began > 2.5, "")
            process.send_signal(signal.SIGCONT)
        lab.check()
        assert (one.poll(), two.poll()) == (None, None)
