"""What entity and flow steps share: run config, tags, what happened earlier in the same run."""

from __future__ import annotations

from typing import Final, cast

import dagster as dg

from ipaas_assets.graph import Key
from ipaas_assets.resources import RESOURCE, Platform
from ipaas_assets.sync.model import Lane, Mode

FLOW_TAG: Final = "ipaas/flow"
SYSTEM_TAG: Final = "ipaas/system"
TRIGGER_TAG: Final = "ipaas/trigger"  # webhook | poll | schedule; without it a person started the run
PULL_TAG: Final = "ipaas/pull"
#: The run works off what waits; its source was read by whoever asked for the run.
NO_PULL: Final = {PULL_TAG: "no"}
TRACE_TAG: Final = "ipaas/trace_id"

CONFIG: Final = {
    "mode": dg.Field(
        dg.Enum(
            "Mode",
            [
                dg.EnumValue("incremental", description="What changed since the last pull."),
                dg.EnumValue("full", description="Every record of the source; finds deleted ones, too."),
                dg.EnumValue(
                    "replan", description="What changed, and every known record goes through again."
                ),
            ],
        ),
        default_value="incremental",
        is_required=False,
        description="How much is read and looked at.",
    )
}


def mode_of(context: dg.AssetExecutionContext) -> Mode:
    """The mode that this step's run config asks for."""
    return cast("Mode", context.op_execution_context.op_config["mode"])


def platform_of(context: dg.AssetExecutionContext) -> Platform:
    """The platform resource."""
    return cast("Platform", getattr(context.resources, RESOURCE))


def trigger_of(context: dg.AssetExecutionContext) -> str:
    """What started the run: webhook, poll, schedule, or a person ('')."""
    return context.run.tags.get(TRIGGER_TAG, "")


def lane_of(context: dg.AssetExecutionContext) -> Lane:
    """The lane of the work that this run raises: webhooks go before polls, and these before schedules and people."""
    return {"webhook": Lane.REALTIME, "poll": Lane.POLLING}.get(trigger_of(context), Lane.BATCH)


def is_to_pull(context: dg.AssetExecutionContext, entity: Key, mode: Mode) -> bool:
    """Whether the step reads its source: not when that was done already, by this run or by whoever asked for it."""
    if context.run.tags.get(PULL_TAG) == NO_PULL[PULL_TAG] and mode == "incremental":
        return False
    return not pulled_in_this_run(context, entity, mode)


def pulled_in_this_run(context: dg.AssetExecutionContext, entity: Key, mode: Mode) -> bool:
    """Whether a step of this run has pulled the entity already, as thoroughly as this mode asks."""
    enough = {"full"} if mode == "full" else {"full", "incremental", "replan"}
    records = context.instance.get_records_for_run(
        context.run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    for record in records:
        materialization = record.event_log_entry.asset_materialization
        if materialization is None or materialization.asset_key != dg.AssetKey(entity):
            continue
        pulled = materialization.metadata.get("mode")
        if pulled is not None and pulled.value in enough:
            return True
    return False


def tag_trace(context: dg.AssetExecutionContext, trace_id: str) -> None:
    """Let the run be found by its trace id; a run of several flows carries the first, their metadata holds all."""
    if TRACE_TAG not in context.run.tags:
        context.instance.add_run_tags(context.run.run_id, {TRACE_TAG: trace_id})
