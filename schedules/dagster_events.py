"""Dagster's own history, shortened: it has no setting for runs and events.

What Dagster shows as the latest of an asset or a check stays, however old: an asset that has had no news for a year
must not look as if it had never been materialised.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Final, cast

import dagster as dg
import msgspec
import sqlalchemy as sa
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)

#: Rows of one transaction: deleting must not hold up the daemon.
_PAGE: Final = 200
_CHUNK: Final = 5000


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of the retention removed."""

    what: str
    many: int

    def __str__(self) -> str:
        """Say it."""
        return f"{self.many} {self.what} removed"


def remove_old_runs(instance: dg.DagsterInstance, *, before: dt.datetime) -> Removed:
    """Delete finished runs made before this moment, with their events and logs."""
    kept = _latest_runs(instance)
    filters = dg.RunsFilter(statuses=FINISHED_STATUSES, created_before=before)
    cursor: str | None = None
    many = 0
    while True:
        records = instance.get_run_records(filters, limit=_PAGE, ascending=True, cursor=cursor)
        if not records:
            return Removed(what="runs", many=many)
        for record in records:
            run_id = record.dagster_run.run_id
            if run_id in kept:
                # The cursor must be a run that is still there.
                cursor = run_id
                continue
            # The other way round a kill in between would leave the events of a run that nobody knows any more; this way
            # it leaves a run without events, which is deleted the next night.
            instance.event_log_storage.delete_events(run_id)
            with contextlib.suppress(OSError, NotImplementedError):
                instance.compute_log_manager.delete_logs(prefix=[run_id])
            instance.delete_run(run_id)
            many += 1


def remove_old_events(instance: dg.DagsterInstance, *, before: dt.datetime) -> Removed:
    """Delete asset events and check evaluations that no run holds, made before this moment."""
    storage = cast("SqlEventLogStorage", instance.event_log_storage)
    moment = before.astimezone(dt.UTC).replace(tzinfo=None)  # Dagster stores UTC without saying so
    many = 0
    for statement in (_old_events(moment), _old_checks(moment)):
        many += _delete_in_chunks(storage, statement)
    return Removed(what="events", many=many)


def _latest_runs(instance: dg.DagsterInstance) -> set[str]:
    """Runs that hold the latest materialisation of an asset."""
    runs = set()
    for record in instance.get_asset_records():
        latest = record.asset_entry.last_materialization_record
        if latest is not None:
            runs.add(latest.run_id)
    return runs


def _old_events(moment: dt.datetime) -> sa.Delete:
    events = SqlEventLogStorageTable
    newest = (
        sa.select(sa.func.max(events.c.id))
        .where(events.c.asset_key.is_not(None))
        .group_by(events.c.asset_key, events.c.dagster_event_type)
    )
    old = (
        sa.select(events.c.id)
        # An empty run id: the event was reported without a run.
        .where(events.c.run_id == "", events.c.timestamp < moment, events.c.id.not_in(newest))
        .order_by(events.c.id)
        .limit(_CHUNK)
    )
    return sa.delete(events).where(events.c.id.in_(old))


def _old_checks(moment: dt.datetime) -> sa.Delete:
    checks = AssetCheckExecutionsTable
    newest = sa.select(sa.func.max(checks.c.id)).group_by(checks.c.asset_key, checks.c.check_name)
    old = (
        sa.select(checks.c.id)
        .where(checks.c.create_timestamp < moment, checks.c.id.not_in(newest))
        .order_by(checks.c.id)
        .limit(_CHUNK)
    )
    return sa.delete(checks).where(checks.c.id.in_(old))


def _delete_in_chunks(storage: SqlEventLogStorage, statement: sa.Delete) -> int:
    many = 0
    while True:
        with storage.index_connection() as connection:
            removed = connection.execute(statement).rowcount
        many += removed
        if removed < _CHUNK:
            return many
