"""`ipaas status` over rows that are made to lie in the database: what waits, what is held, what is late."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url

from console.cli.commands.status import _span
from console.running import RunningProgram, Started, write_running
from ipaas_resources.core.clock import SystemClock
from ipaas_resources.core.platform import run_async
from ipaas_resources.store import versions
from ipaas_resources.store.database import Database
from ipaas_resources.store.server import DatabaseUrls
from ipaas_resources.store.versions import About, NewFlow

REPOSITORY = Path(__file__).resolve().parents[2]

FLOW = """
flow: NAME
source: {system: bc, entity: customers}
WINDOW
targets:
  account:
    system: SYSTEM
    entity: accounts
    key: {accountnumber: number}
    fields:
      name: displayName
"""


class Look:
    def __init__(self, urls: DatabaseUrls, dagster: str, state: Path) -> None:
        self._urls = urls
        self._environment = {
            **os.environ,
            "IPAAS_DATABASE_URL": urls.app,
            "IPAAS_DATABASE_OWNER_URL": urls.owner,
            "IPAAS_DATABASE_DAGSTER_URL": dagster,
            "IPAAS_STATE_DIR": str(state),
        }

    def sql(self, *statements: str) -> None:
        plain = make_url(self._urls.owner).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def flow(self, name: str, *, system: str = "crm", window: str = "") -> None:
        text = FLOW.replace("NAME", name).replace("SYSTEM", system).replace("WINDOW", window)

        async def save() -> None:
            database = Database(self._urls.app)
            try:
                new = NewFlow(
                    flow=name, text=text, source_system="bc", source_entity="customers", exclusive_group=None
                )
                await versions.save_documents(database, [new], about=About(actor="test", origin="file"))
            finally:
                await database.close()

        run_async(save())

    def item(self, flow: str, record: str, *, lane: int = 0, system: str = "crm", **columns: str) -> None:
        values = {"state": "'due'", "due_at": "now()", **columns}
        self.sql(
            "INSERT INTO work_items (flow, target, scope, record, target_system, target_entity, lane, trace_ids, "
            f"{', '.join(values)}) VALUES ('{flow}', 'account', '', '{record}', '{system}', 'accounts', {lane}, "
            f"ARRAY['t'], {', '.join(values.values())})"
        )

    def alive(self) -> None:
        """Somebody works on this database, on another machine."""
        self.sql(
            "INSERT INTO workers (worker, role, lane, host, pid) VALUES ('elsewhere/7/1.00', 'worker', 'realtime', 'elsewhere', 7)"
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "console.cli.main", "status", *arguments],
            env=self._environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def json(self) -> tuple[int, dict[str, Any]]:
        done = self.run("--json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def look(fresh_database: DatabaseUrls, dagster_database_url: str, tmp_path: Path) -> Look:
    return Look(fresh_database, dagster_database_url, tmp_path)


def test_nothing_that_runs_is_a_problem_and_says_what_to_do(look: Look) -> None:
    done = look.run()

    assert done.returncode == 1
    assert "No process of the platform gives a sign of life." in done.stdout
    assert "start the platform with `ipaas up`" in done.stdout


def test_processes_of_another_machine_are_health_enough(look: Look) -> None:
    look.alive()

    code, found = look.json()

    assert code == 0
    (process,) = found["processes"]
    assert (process["name"], process["host"], process["restarts"]) == ("worker-realtime", "elsewhere", None)
    assert "worker-realtime on elsewhere" in look.run().stdout


def test_a_process_that_was_killed_here_is_not_shown_as_alive(look: Look) -> None:
    host = socket.gethostname()
    look.sql(
        "INSERT INTO workers (worker, role, lane, host, pid) "
        f"VALUES ('{host}/{os.getpid()}/1.00', 'worker', 'batch', '{host}', {os.getpid()})"
    )

    code, found = look.json()

    assert (code, found["processes"]) == (1, [])


def test_counts_stand_at_their_lane_and_what_can_be_claimed_now_is_late(look: Look) -> None:
    look.alive()
    look.flow("out")
    look.item("out", "1", due_at="now() - interval '2 minutes'")
    look.item("out", "2", state="'parked'", due_at="now() + interval '1 minute'")
    look.item("out", "3", lane=1, state="'dead'")
    look.item("out", "4", lane=2, state="'review'")
    # Somebody holds it, so it is not late.
    look.item(
        "out",
        "5",
        lane=1,
        due_at="now() - interval '1 hour'",
        lease_until="now() + interval '1 minute'",
    )

    code, found = look.json()

    lanes = {each.pop("lane"): each for each in found["standing"]["lanes"]}
    assert 119 < lanes["realtime"].pop("lag") < 180
    assert lanes == {
        "realtime": {"due": 1, "parked": 1, "held": 0, "review": 0, "dead": 0},
        "polling": {"due": 1, "parked": 0, "held": 0, "review": 0, "dead": 1, "lag": None},
        "batch": {"due": 0, "parked": 0, "held": 0, "review": 1, "dead": 0, "lag": None},
    }
    assert code == 1
    assert found["problems"][0].startswith("Work of the lane realtime waits since 2 min")


@pytest.mark.parametrize("reason", ["window", "paused", "disabled", "breaker"])
def test_what_is_held_on_purpose_is_counted_and_is_not_late(look: Look, reason: str) -> None:
    look.alive()
    # Half a day from now, so that it is closed whenever this runs.
    hour = (SystemClock().now().hour + 12) % 24
    window = f'window: {{days: mon-sun, from: "{hour:02}:00", to: "{hour:02}:30", tz: UTC}}'
    closed = window if reason == "window" else ""
    look.flow("out", window=closed)
    look.item("out", "1", due_at="now() - interval '2 hours'")
    if reason == "paused":
        look.sql(
            "INSERT INTO systems (system, connector, document, text, paused) VALUES ('crm', 'x', '{}', '', true)"
        )
    elif reason == "disabled":
        look.sql("UPDATE flows SET enabled = false")
    elif reason == "breaker":
        look.sql(
            "INSERT INTO breakers (system, failures, opened_at, open_until, error) "
            "VALUES ('crm', 5, now(), now() + interval '5 minutes', 'it answered 503')"
        )

    code, found = look.json()

    realtime = found["standing"]["lanes"][0]
    assert (realtime["due"], realtime["held"], realtime["lag"]) == (0, 1, None)
    assert code == 0, found["problems"]
    why = {
        "window": "held          out: held until ",
        "paused": "held          out: held until `ipaas systems resume crm`",
        "disabled": "held          out: held until `ipaas flows enable out`",
        "breaker": "it answered 503",
    }
    assert why[reason] in look.run().stdout


@pytest.mark.parametrize("reason", ["paused", "breaker"])
def test_polls_of_a_system_that_nobody_may_ask_say_so(look: Look, reason: str) -> None:
    look.alive()
    look.sql(
        "INSERT INTO entity_state (system, scope, entity, poll_interval, poll_due_at, poll_reason) VALUES "
        "('bc', 'a', 'customers', 15, now() + interval '10 seconds', 'idle: every 15 s')",
        "INSERT INTO systems (system, connector, document, text, paused) VALUES ('bc', 'x', '{}', '', true)"
        if reason == "paused"
        else "INSERT INTO breakers (system, failures, opened_at, open_until, error) "
        "VALUES ('bc', 5, now(), now() + interval '5 minutes', 'it answered 503')",
    )

    (line,) = [line for line in look.run().stdout.splitlines() if line.startswith("bc/customers")]

    assert line.endswith("paused" if reason == "paused" else "its breaker is open")


def test_one_fault_of_many_subscriptions_is_said_once(look: Look) -> None:
    look.alive()
    for scope in ("a", "b"):
        look.sql(
            "INSERT INTO subscriptions (subscription, system, entity, scope, proof, secret, error) "
            f"VALUES ('s-{scope}', 'bc', 'customers', '{scope}', 'key', 'env:S', 'the product refused it')"
        )

    assert look.run().stdout.count("the product refused it") == 1
    assert "bc/customers/a, b: the product refused it" in look.run().stdout


def test_inbox_hints_and_reports_are_measured(look: Look) -> None:
    look.alive()
    look.sql(
        "INSERT INTO inbox (subscription, body, headers, trace_id, received_at) "
        "VALUES ('s', '', '{}', 't', now() - interval '90 seconds'), ('s', '', '{}', 't', now())",
        "INSERT INTO inbox (subscription, body, headers, trace_id, state) VALUES ('s', '', '{}', 't', 'dead')",
        "INSERT INTO hints (system, entity, scope, record, trace_ids, due_at) "
        "VALUES ('bc', 'customers', '', '1', ARRAY['t'], now() - interval '70 seconds')",
        "INSERT INTO report_due (flow, target, flow_version, counts, trace_id, at) "
        "VALUES ('out', 'account', 1, '{\"updated\": 1}', 't', now() - interval '70 seconds')",
    )

    code, found = look.json()

    here = found["standing"]
    assert (here["inbox"]["due"], here["inbox"]["dead"]) == (2, 1)
    assert (here["hints"]["due"], here["reports"]["due"]) == (1, 1)
    assert code == 1
    # A report may wait for a minute, for that is the pace of a busy asset.
    assert [problem.partition(" since ")[0] for problem in found["problems"]] == [
        "Deliveries wait in the inbox",
        "Hints wait to be read",
    ]


def test_polls_and_troubled_subscriptions_are_listed_without_secrets(look: Look) -> None:
    look.alive()
    look.sql(
        "INSERT INTO entity_state (system, scope, entity, poll_interval, poll_due_at, poll_reason) VALUES "
        "('bc', 'a', 'customers', 15, now() + interval '10 seconds', '3 changes: every 15 s'), "
        "('bc', 'b', 'customers', 900, now() + interval '5 minutes', 'idle: every 15 min'), "
        # Written longer, and shorter all the same.
        "('crm', 'a', 'accounts', 228, now(), 'idle'), ('crm', 'b', 'accounts', 360, now(), 'idle')",
        "INSERT INTO subscriptions (subscription, system, entity, scope, proof, secret, error) "
        "VALUES ('unguessable', 'bc', 'customers', 'a', 'key', 'env:HUNTER2', 'the product refused it')",
    )

    shown = look.run().stdout

    assert "bc/customers" in shown
    assert "3 changes: every 15 s" in shown
    assert "15 s to 15 min 0 s" in shown
    assert "3 min 48 s to 6 min 0 s" in shown
    assert "bc/customers/a: the product refused it" in shown
    assert "HUNTER2" not in shown


def test_a_process_that_gives_no_sign_of_life_is_named(look: Look, tmp_path: Path) -> None:
    look.alive()
    mine = Started.of(os.getpid())
    write_running(
        tmp_path,
        [
            RunningProgram(name="worker-batch", started=mine, restarts=2),
            RunningProgram(name="webserver", started=mine),
            RunningProgram(name="reporter", started=None, restarts=4),
        ],
    )

    code, found = look.json()

    shown = {each["name"]: (each["health"], each["restarts"]) for each in found["processes"]}
    assert shown == {
        "worker-batch": ("gives no sign of life", 2),
        "webserver": ("ok", 0),
        "reporter": ("waits for its next start", 4),
        "worker-realtime": ("ok", None),
    }
    assert found["supervisor"] == os.getpid()
    assert code == 1
    assert {each["host"] for each in found["processes"]} == {socket.gethostname(), "elsewhere"}


def test_a_database_without_tables_is_said_in_one_sentence(
    empty_database: DatabaseUrls, dagster_database_url: str, tmp_path: Path
) -> None:
    done = Look(empty_database, dagster_database_url, tmp_path).run()

    assert done.returncode != 0
    assert done.stderr.startswith("ipaas: The database has no tables of this version yet")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (61, "1 min 1 s"),
        (3 * 3600 + 120, "3 h 2 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_spans_are_said_as_people_say_them(seconds: float | None, shown: str) -> None:
    assert _span(seconds) == shown
