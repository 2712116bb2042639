"""Signs of life: which processes of the live lane work now, by the clock of the database."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import msgspec

from ipaas_resources.core.values import decode, encode
from ipaas_resources.store.database import Database

#: Seconds between two signs of life, and after which a process without one counts as gone.
BEAT: Final = 3.0
FRESH: Final = 15.0
_FORGOTTEN: Final = 3600.0


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """One living process."""

    worker: str
    role: str  # worker | ingress | reporter
    lane: str | None
    host: str
    pid: int
    started_at: dt.datetime
    age: float  # seconds since its last sign of life
    details: dict[str, Any]


async def beat(
    database: Database,
    *,
    worker: str,
    role: str,
    lane: str | None,
    host: str,
    pid: int,
    details: dict[str, Any],
) -> None:
    """Give a sign of life; `details` is shown by `ipaas status` and holds no values of records."""
    await database.rows(
        "worker_beat",
        worker=worker,
        role=role,
        lane=lane,
        host=host,
        pid=pid,
        details=encode(details).decode(),
    )


async def leave(database: Database, worker: str) -> None:
    """The process ends: whoever waits for it need not wait any longer."""
    await database.rows("worker_gone", worker=worker)
    await database.rows("workers_forget", seconds=_FORGOTTEN)


async def alive(database: Database, *, within: float = FRESH) -> list[Worker]:
    """Processes with a sign of life in the last seconds."""
    rows = await database.rows("workers_alive", seconds=within)
    return [
        Worker(
            worker=row.worker,
            role=row.role,
            lane=row.lane,
            host=row.host,
            pid=row.pid,
            started_at=row.started_at,
            age=float(row.age),
            details=decode(row.details.encode()),
        )
        for row in rows
    ]


async def live_lanes(database: Database) -> frozenset[str]:
    """The lanes that a live worker serves now: their work needs no Dagster run."""
    return frozenset(each.lane for each in await alive(database) if each.role == "worker" and each.lane)
