"""What grows every day leaves by a nightly job: Dagster's runs and events, our sync events, intents, runs, deliveries.

Dagster keeps runs and events for ever by itself (only ticks have a setting, in dagster.yaml).
"""

import datetime as dt
from collections.abc import Callable
from typing import Final, cast

import dagster as dg
import sqlalchemy as sa

from ipaas_assets.failures import no_retry_without_hope, told_as_failure
from ipaas_assets.resources import RESOURCE, Platform
from ipaas_resources.core.platform import run_async
from schedules.dagster_events import Removed, remove_old_events, remove_old_runs

_CHUNK: Final = 5000

CONFIG: Final = {
    "dagster_run_days": dg.Field(
        int, default_value=30, description="Dagster's runs with their events are kept this long."
    ),
    "dagster_event_days": dg.Field(
        int, default_value=90, description="Events and checks without a run are kept this long."
    ),
    "sync_event_months": dg.Field(
        int, default_value=24, description="Sync events are kept for this month and so many before."
    ),
    "intent_days": dg.Field(int, default_value=30, description="Closed intents are kept this long."),
    "delivery_days": dg.Field(
        int, default_value=30, description="Webhook deliveries that were dealt with are kept this long."
    ),
    "delivery_key_days": dg.Field(
        int,
        default_value=4,
        description="Keys of deliveries are kept this long: senders repeat a delivery for up to 75 hours.",
    ),
    "run_days": dg.Field(
        int, default_value=90, description="The platform's own list of runs is kept this long."
    ),
}


@dg.op(
    config_schema=CONFIG,
    required_resource_keys={RESOURCE},
    description="Deletes what is older than its days; makes the partitions of the months to come.",
)
def remove_old(context: dg.OpExecutionContext) -> None:
    """Each part is done even when another one failed; the run fails at the end with the first failure."""
    platform: Platform = getattr(context.resources, RESOURCE)
    config = cast("dict[str, int]", context.op_config)
    now = dt.datetime.now(dt.UTC)
    parts: dict[str, Callable[[], Removed]] = {
        "sync events": lambda: partitions(platform, keep_months=config["sync_event_months"]),
        "intents": lambda: run_async(rows(platform, "retire_intents", days=config["intent_days"])),
        "runs": lambda: run_async(rows(platform, "retire_runs", days=config["run_days"])),
        "deliveries": lambda: run_async(rows(platform, "retire_inbox", days=config["delivery_days"])),
        "delivery keys": lambda: run_async(
            rows(platform, "retire_inbox_keys", days=config["delivery_key_days"])
        ),
        "Dagster runs": lambda: remove_old_runs(
            context.instance, before=now - dt.timedelta(days=config["dagster_run_days"])
        ),
        "Dagster events": lambda: remove_old_events(
            context.instance, before=now - dt.timedelta(days=config["dagster_event_days"])
        ),
    }
    failures = []
    for name, part in parts.items():
        try:
            with told_as_failure(f"Removing old {name}"):
                removed = part()
        except dg.Failure as failure:
            context.log.error("Old %s were not removed: %s", name, failure.description)  # noqa: TRY400 - a sentence
            failures.append(failure)
        else:
            context.log.info("Old %s: %s", name, removed)
    if failures:
        raise failures[0]


@dg.job(
    name="retention",
    executor_def=dg.in_process_executor,
    hooks={no_retry_without_hope},
    description="Removes what is older than its days: runs, events, intents, sync events, deliveries.",
    tags={"dagster/priority": "-5"},
)
def retention_job() -> None:
    """See `remove_old`."""
    remove_old()


retention_schedule = dg.ScheduleDefinition(
    name="retention",
    job=retention_job,
    cron_schedule="40 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


def partitions(platform: Platform, *, keep_months: int) -> Removed:
    """Drop partitions of sync events beyond the months to keep, make those of the months to come; the owner may."""
    from ipaas_resources.store.migrate import drop_partitions, make_partitions  # noqa: PLC0415 - alembic

    engine = sa.create_engine(platform.urls.owner, poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            make_partitions(connection)
            return Removed(what="partitions", many=len(drop_partitions(connection, keep_months)))
    finally:
        engine.dispose()


async def rows(platform: Platform, query: str, *, days: int) -> Removed:
    """Run a deleting query in chunks until it finds nothing more."""
    many = 0
    async with platform.database() as database:
        while True:
            (row,) = await database.rows(query, days=days, chunk=_CHUNK)
            many += row.many
            if row.many < _CHUNK:
                return Removed(what="rows", many=many)
