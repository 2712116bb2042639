"""Each live benchmark runs with tiny numbers, gives its figures, and finds nothing lost, doubled or out of order.

No figure is judged: a busy machine must not make a test fail. `benchmarks.growth` and `benchmarks.dagster`, minutes long,
are run by hand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent

LIVE = {
    *("accept_p50_ms", "accept_p99_ms", "e2e_p50_ms", "e2e_p95_ms", "e2e_p99_ms", "accepted_per_s"),
    *("written_per_s", "coalesced", "calls_per_event", "lost", "duplicates", "out_of_order"),
    "calibration_limit",
}


def run(module, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IPAAS_")}
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", "--json", *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}"
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def nothing_went_wrong(figures):
    return figures["lost"] == figures["duplicates"] == figures["out_of_order"] == 0


def test_the_live_benchmark_gives_one_flat_object():
    figures = run("live", "--rate", "20", "--seconds", "2", "--records", "60")
    assert set(figures) >= LIVE
    assert not any(isinstance(value, dict | list) for value in figures.values())
    assert nothing_went_wrong(figures)
    assert figures["events"] == figures["accepted"] == 40
    assert figures["settled"] is True
    assert figures["stuck"] == 0


def test_disorder_a_killed_worker_and_a_restarted_database_lose_double_and_reverse_nothing():
    figures = run("live", "--faults", "--rate", "20", "--seconds", "9", "--records", "60")
    assert nothing_went_wrong(figures)
    assert figures["accepted"] == 180
    assert figures["settled"] is True


def test_the_ingress_benchmark_measures_with_and_without_a_worker():
    figures = run("ingress", "--deliveries", "500", "--connections", "8")
    assert figures["lost"] == figures["draining_lost"] == 0
    assert {"accepted_per_s", "p99_ms", "draining_accepted_per_s", "draining_p99_ms"} <= set(figures)
    assert figures["fsync"] == "on"
