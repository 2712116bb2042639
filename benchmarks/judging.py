"""What a live run did, judged from the ledger of the target alone: how late, how much, and what went wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from benchmarks.sending import milliseconds, percentile

#: The fields of the target that carry the source's id and the number of its last change.
KEY_FIELD = "accountnumber"
VERSION_FIELD = "description"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change at the source; times are monotonic seconds of this machine."""

    record: str  # the source's id as the target's key field shows it
    version: int  # grows from change to change, over all records
    changed_at: float  # just before its delivery was handed over
    accepted_at: float  # 0.0: never


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One write that the target applied."""

    record: str
    version: int
    at: float


class Verdict(msgspec.Struct, kw_only=True):
    """What was found. `waits` are seconds from each change to the first write that holds it or a newer one."""

    waits: list[float]
    writes: int
    last_write_at: float  # 0.0: there was none
    lost: int  # records whose last change is not in the target
    duplicates: int  # records of the target beyond one per source record
    out_of_order: int  # writes with a lower version after a higher one


def writes_of(ledger: Iterable[Mapping[str, Any]], accounts: Iterable[Mapping[str, Any]]) -> list[Write]:
    """The target's writes in the order in which they were applied.

    Args:
        ledger: entries of the target's ledger, as its control endpoint gives them.
        accounts: its records at the end, which tell whose a row is where a write sends what changed alone.
    """
    names = {row["accountid"]: row[KEY_FIELD] for row in accounts}
    found = []
    for entry in ledger:
        for effect in entry["effects"]:
            if effect["entity"] != "accounts" or VERSION_FIELD not in effect["fields"]:
                continue
            name = effect["fields"].get(KEY_FIELD) or names[effect["id"]]
            version = int(effect["fields"][VERSION_FIELD])
            found.append(Write(record=name, version=version, at=float(entry["done"])))
    # An entry stands in the ledger when its request ended, and handlers do not interleave.
    return found


def judge(
    changes: Sequence[Change], writes: Sequence[Write], accounts: Iterable[Mapping[str, Any]], *, records: int
) -> Verdict:
    """Compare what was changed with what was written.

    Args:
        changes: in the order in which they were made.
        writes: in the order in which they were applied.
        accounts: the target's records at the end.
        records: how many source records there are: one that has no target record at all is lost.
    """
    by_record: dict[str, list[Write]] = defaultdict(list)
    for write in writes:
        by_record[write.record].append(write)
    held: dict[str, int] = {}
    copies: Counter[str] = Counter()
    for row in accounts:
        copies[row[KEY_FIELD]] += 1
        held[row[KEY_FIELD]] = int(row[VERSION_FIELD])
    last = {change.record: change.version for change in changes}
    return Verdict(
        waits=[wait for change in changes if (wait := _wait(change, by_record[change.record])) is not None],
        writes=len(writes),
        last_write_at=max((write.at for write in writes), default=0.0),
        lost=sum(held.get(record) != version for record, version in last.items())
        + max(0, records - len(copies)),
        duplicates=sum(many - 1 for many in copies.values()),
        out_of_order=sum(_backwards([write.version for write in one]) for one in by_record.values()),
    )


def _wait(change: Change, writes: Sequence[Write]) -> float | None:
    """Seconds until the first write with this version or a newer one; None: there is none."""
    times = [write.at for write in writes if write.version >= change.version]
    return max(0.0, min(times) - change.changed_at) if times else None


def _backwards(versions: Sequence[int]) -> int:
    highest, count = 0, 0
    for version in versions:
        count += version < highest
        highest = max(highest, version)
    return count


def figures(changes: Sequence[Change], verdict: Verdict, *, calls: int) -> dict[str, Any]:
    """The flat object of a live measurement; `calls` are the requests that both products took."""
    accepted = [change for change in changes if change.accepted_at]
    accepts = [change.accepted_at - change.changed_at for change in accepted]
    began = min(change.changed_at for change in changes)
    accepting = max((change.accepted_at for change in accepted), default=began) - began
    writing = verdict.last_write_at - began
    return {
        "events": len(changes),
        "accepted": len(accepted),
        "accept_p50_ms": milliseconds(percentile(accepts, 0.50)),
        "accept_p99_ms": milliseconds(percentile(accepts, 0.99)),
        "e2e_p50_ms": milliseconds(percentile(verdict.waits, 0.50)),
        "e2e_p95_ms": milliseconds(percentile(verdict.waits, 0.95)),
        "e2e_p99_ms": milliseconds(percentile(verdict.waits, 0.99)),
        "e2e_max_ms": milliseconds(max(verdict.waits, default=0.0)),
        "accepted_per_s": round(len(accepted) / accepting, 1) if accepting > 0 else 0.0,
        "written_per_s": round(verdict.writes / writing, 1) if writing > 0 else 0.0,
        "written": verdict.writes,
        "coalesced": len(changes) - verdict.writes,
        "calls_per_event": round(calls / len(changes), 3),
        "lost": verdict.lost,
        "duplicates": verdict.duplicates,
        "out_of_order": verdict.out_of_order,
    }
