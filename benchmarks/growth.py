"""python -m benchmarks.growth --json: does a platform that has lived for a while stay as quick as a new one.

The live lane (see benchmarks/live.py) and the ingress are measured with 0, 100,000 and 1,000,000 rows that are there
already: deliveries done with their keys, mirrored records of the same entity, and their sync events. The rows are
made inside the database and analysed, as autovacuum would have done on the way. Each figure is the median of several
rounds; the ratio is that of the largest size to the empty one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from benchmarks.ingress import send
from benchmarks.live_rig import FLOW, SUBSCRIPTION, Rig
from benchmarks.sending import milliseconds, percentile

SIZES = (0, 100_000, 1_000_000)
_CONNECTIONS = 64
_SETTLE_SECONDS = 120.0

#: Rows from a number (exclusive) to a number (inclusive); a body has the length of a real one, a document too.
_FILL = (
    """
    INSERT INTO inbox (subscription, body, headers, trace_id, received_at, state)
    SELECT '{subscription}', convert_to(format('{{"event":"client.updated","id":"evt_old_%s","created":'
             '"2026-01-15T13:58:10Z","data":{{"CompanyId":%s}}}}', n, n), 'UTF8'), '{{}}',
           md5(n::text), now() - interval '1 hour' - n * interval '1 millisecond', 'done'
    FROM generate_series({after} + 1, {until}) AS n
    """,
    """
    INSERT INTO inbox_keys (subscription, key, received_at)
    SELECT '{subscription}', decode(md5('old' || n), 'hex'), now() - interval '1 hour'
    FROM generate_series({after} + 1, {until}) AS n
    """,
    """
    INSERT INTO mirror (system, entity, scope, record, document, hash, ordering, read_number, trace_id)
    SELECT 'cal', 'clients', '', (100000000 + n)::text,
           jsonb_build_object('CompanyId', 100000000 + n, 'CompanyName', 'Laboratory ' || n, 'LegacyId', 'O-' || n,
             'DomainName', 'old' || n || '.example', 'CompanyDescription', repeat(md5(n::text), 10)),
           md5(n::text)::uuid, 1, 1, md5(n::text)
    FROM generate_series({after} + 1, {until}) AS n
    """,
    """
    INSERT INTO sync_events (at, flow, target, scope, record, outcome, flow_version, target_id, trace_ids)
    SELECT now() - n * interval '1 microsecond', '{flow}', 'account', '', (100000000 + n)::text, 'updated', 1,
           md5(n::text)::uuid::text, ARRAY[md5(n::text)]
    FROM generate_series({after} + 1, {until}) AS n
    """,
)
_TABLES = ("inbox", "inbox_keys", "mirror", "sync_events")


def fill(rig: Rig, after: int, until: int) -> None:
    """Bring the tables from one size to the next."""
    names = {"subscription": SUBSCRIPTION, "flow": FLOW, "after": after, "until": until}
    rig.execute(*(statement.format(**names) for statement in _FILL))
    rig.execute(*(f"VACUUM ANALYZE {table}" for table in _TABLES))
    rig.checkpoint()


def measure(
    *, sizes: tuple[int, ...], rate: float, seconds: float, rounds: int, deliveries: int, records: int
) -> dict[str, Any]:
    """The figures for every size, on one platform that grows."""
    result: dict[str, Any] = {"rate": rate, "seconds": seconds, "rounds": rounds, "deliveries": deliveries}
    bad = {"lost": 0, "duplicates": 0, "out_of_order": 0}
    p95: list[float] = []
    accepted: list[float] = []
    with Rig(records=records, say=_say) as rig:
        rig.start()
        # The first round would be the slowest, whatever the size: every process still meets things for the first time.
        rig.measure(rate=rate, count=max(1, round(rate * seconds)), seed=999)
        size = 0
        for wanted in sizes:
            if wanted > size:
                _say(f"Making {wanted} rows")
                fill(rig, size, wanted)
                size = wanted
                rig.warm_up()
            waits = []
            for number in range(rounds):
                measured = rig.measure(
                    rate=rate, count=max(1, round(rate * seconds)), seed=wanted + number + 1
                )
                waits.append(percentile(measured.verdict.waits, 0.95))
                for name in bad:
                    bad[name] += getattr(measured.verdict, name)
            p95.append(milliseconds(statistics.median(waits)))
            # Nothing drains meanwhile: the ingress alone is asked.
            rig.stop_workers()
            rates = [
                send(
                    rig.port,
                    connections=_CONNECTIONS,
                    count=deliveries,
                    environment=rig.environment,
                    records=records,
                )["accepted_per_s"]
                for _ in range(rounds)
            ]
            accepted.append(statistics.median(rates))
            rig.start_worker()
            if not rig.wait_until_settled(_SETTLE_SECONDS):
                raise RuntimeError(f"the worker did not get through\n{rig.last_words()}")
            result |= {f"e2e_p95_ms_{wanted}": p95[-1], f"accepted_per_s_{wanted}": accepted[-1]}
            _say(f"{wanted} rows: p95 {p95[-1]} ms, {accepted[-1]} accepted/s")
    return {
        **result,
        "e2e_ratio": round(p95[-1] / p95[0], 3) if p95[0] else 0.0,
        "accept_ratio": round(accepted[0] / accepted[-1], 3),
        **bad,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure; 1 when something was lost, doubled or out of order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deliveries", type=int, default=10_000, help="of each burst at the ingress")
    parser.add_argument("--records", type=int, default=5_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    given = parser.parse_args(arguments)
    result = measure(
        sizes=tuple(given.sizes),
        rate=given.rate,
        seconds=given.seconds,
        rounds=given.rounds,
        deliveries=given.deliveries,
        records=given.records,
    )
    if given.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<26} {value}")
    return 1 if result["lost"] or result["duplicates"] or result["out_of_order"] else 0


if __name__ == "__main__":
    sys.exit(main())
