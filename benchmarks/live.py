"""python -m benchmarks.live --rate R --seconds S --json: from a change in the lab to its write in Dataverse.

At least 5,000 clients of the calibration lab, a fifth of which takes four fifths of the events; deliveries are signed
and carry an id, so the read by id is in the path. Times are those of the products' ledgers: from just before the
delivery goes out to the end of the first request that wrote this version or a newer one. With --faults a fifth of the
deliveries is sent twice, all are shuffled, one worker is killed and PostgreSQL restarted in the middle.
Exit code 1: something was lost, doubled or out of order.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from benchmarks.judging import figures
from benchmarks.live_rig import Rig

#: Seconds of a lease while faults happen: what a killed worker held is taken over after it.
FAULTY_LEASE = 10.0
_MUST_BE_ZERO = ("lost", "duplicates", "out_of_order")
_WITHIN = 240.0


def measure(
    *, rate: float, seconds: float, latency: float, faults: bool, records: int, workers: int
) -> dict[str, Any]:
    """One measurement with a platform of its own."""
    with Rig(records=records, say=_say, lease_seconds=FAULTY_LEASE if faults else None) as rig:
        rig.start(workers=workers, latency=latency)
        _say(f"{rate:g} events a second for {seconds:g} s")
        rig.begin(rate=rate, count=max(1, round(rate * seconds)), seed=7, disorder=faults)
        if faults:
            _disturb(rig, seconds)
        measured = rig.end(within=_WITHIN)
        result = {
            "rate": rate,
            "seconds": seconds,
            "latency_ms": round(latency * 1000, 1),
            "faults": faults,
            "records": records,
            "workers": workers,
            **figures(measured.changes, measured.verdict, calls=sum(measured.calls.values())),
            "calibration_calls": measured.calls["cal"],
            "dataverse_calls": measured.calls["crm"],
            "calibration_limit": rig.calibration_limit,
            "dataverse_limit": "6000 requests in 300 s, 52 at once",
            "lease_seconds": FAULTY_LEASE if faults else rig.settings.lease_seconds,
            "resent": sum(many for status, many in measured.statuses.items() if not 200 <= status < 300),  # noqa: PLR2004
            "sender_late_p99_ms": round(1000 * measured.late_p99, 2),
            "settled": measured.settled,
            "stuck": measured.stuck,
        }
        if failed(result):
            _say(rig.last_words())
    return result


def _disturb(rig: Rig, seconds: float) -> None:
    """Kill a worker after a third of the time, restart the database after two thirds."""
    begin = time.monotonic()
    _until(begin + seconds / 3)
    _say("A worker is killed")
    rig.kill_worker()
    rig.start_worker()
    _until(begin + 2 * seconds / 3)
    _say("PostgreSQL is restarted")
    rig.restart_database()


def _until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def failed(result: dict[str, Any]) -> bool:
    """Whether a promise was broken."""
    return any(result[name] for name in _MUST_BE_ZERO) or result["accepted"] != result["events"]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="that both products add to each answer")
    parser.add_argument("--faults", action="store_true", help="disorder, a kill and a database restart")
    parser.add_argument("--records", type=int, default=5_000)
    parser.add_argument("--workers", type=int, help="of the realtime lane (default 1; 2 with --faults)")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    given = parser.parse_args(arguments)
    result = measure(
        rate=given.rate,
        seconds=given.seconds,
        latency=given.latency_ms / 1000,
        faults=given.faults,
        records=given.records,
        workers=given.workers or (2 if given.faults else 1),
    )
    if given.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<22} {value}")
    return 1 if failed(result) else 0


if __name__ == "__main__":
    sys.exit(main())
