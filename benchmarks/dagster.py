"""python -m benchmarks.dagster --json: one event by plain Dagster (inbox sensor and run) beside the live lane.

The same platform, the same records, the same run. Dagster's three processes stand as `ipaas up` starts them, both times.
First a worker of the realtime lane takes single events; then it ends, and the inbox sensor launches a run for each.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks.live_rig import Rig
from benchmarks.sending import milliseconds, percentile

#: Events a second of the live part: each of them is alone.
_LIVE_RATE = 2.0
_SENSOR_SECONDS = 180.0


def measure(*, live_events: int, dagster_events: int, records: int) -> dict[str, Any]:
    """Both parts on one platform."""
    with Rig(records=records, say=_say) as rig:
        rig.start()
        _say("Starting Dagster")
        rig.start_dagster()
        _say(f"{live_events} events by the live lane")
        live = rig.measure(rate=_LIVE_RATE, count=live_events, seed=3)
        _say(f"{dagster_events} events by plain Dagster")
        rig.stop_workers()
        waits: list[float] = []
        verdicts = [live.verdict]
        for number in range(dagster_events):
            rig.wait_for_runs(_SENSOR_SECONDS)
            one = rig.measure(rate=_LIVE_RATE, count=1, seed=100 + number, within=_SENSOR_SECONDS)
            waits += one.verdict.waits
            verdicts.append(one.verdict)
            _say(f"  {waits[-1:]} seconds")
        if len(waits) < dagster_events:
            _say(rig.last_words())
        live_p50 = percentile(live.verdict.waits, 0.5)
        plain_p50 = percentile(waits, 0.5)
        return {
            "live_events": len(live.verdict.waits),
            "live_p50_ms": milliseconds(live_p50),
            "live_p95_ms": milliseconds(percentile(live.verdict.waits, 0.95)),
            "dagster_events": len(waits),
            "dagster_p50_ms": milliseconds(plain_p50),
            "dagster_min_ms": milliseconds(min(waits, default=0.0)),
            "dagster_max_ms": milliseconds(max(waits, default=0.0)),
            "ratio": round(plain_p50 / live_p50, 1) if live_p50 else 0.0,
            "lost": sum(one.lost for one in verdicts),
            "duplicates": sum(one.duplicates for one in verdicts),
            "out_of_order": sum(one.out_of_order for one in verdicts),
        }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure; 1 when something was lost, doubled or out of order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live-events", type=int, default=20)
    parser.add_argument("--dagster-events", type=int, default=5)
    parser.add_argument("--records", type=int, default=5_000)
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    given = parser.parse_args(arguments)
    result = measure(
        live_events=given.live_events, dagster_events=given.dagster_events, records=given.records
    )
    if given.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<18} {value}")
    return 1 if result["lost"] or result["duplicates"] or result["out_of_order"] else 0


if __name__ == "__main__":
    sys.exit(main())
