"""What is judged of an asset, from the store: drift, contract, subscription, freshness, dead letters.

In a run by its step, and without one by the sensor that watches: a healthy idle flow has nothing to materialise, so
nobody else would see it grow stale.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import dagster as dg

from ipaas_assets.graph import EntityNode, FlowNode, Graph, TargetNode
from ipaas_assets.spans import span
from ipaas_assets.subscription_check import SUBSCRIPTION, subscription, webhook_flows
from ipaas_assets.sync.drift import Drift, drift
from ipaas_assets.verdicts import Verdict
from ipaas_resources.core.schema import schema_from
from ipaas_resources.settings import load_settings
from ipaas_resources.store.database import Database

SCHEMA_DRIFT = "schema_drift"
CONTRACT_VIOLATIONS = "contract_violations"
FRESHNESS = "freshness"
DEAD_LETTERS = "dead_letters"

#: Seconds for which a difference that breaks no rule is news. Longer, and nobody looks at warnings any more.
_NEWS = 7 * 86_400
_MANY = 10  # names in a sentence


# --- specs ------------------------------------------------------------------------------------------------------


def entity_check_specs(entity: EntityNode, readers: Sequence[FlowNode]) -> list[dg.AssetCheckSpec]:
    """The checks of an entity asset that these flows read."""
    key = dg.AssetKey(entity.key)
    specs = [
        dg.AssetCheckSpec(
            SCHEMA_DRIFT,
            asset=key,
            description="Compares the newest schema snapshot with the one that the flows were applied against.",
        )
    ]
    if readers:
        specs.append(
            dg.AssetCheckSpec(
                CONTRACT_VIOLATIONS, asset=key, description="Records set aside because they break the schema."
            )
        )
    if webhook_flows(readers):
        specs.append(
            dg.AssetCheckSpec(
                SUBSCRIPTION, asset=key, description="Whether the product tells of changes by webhook."
            )
        )
    return specs


def target_check_specs(flow: FlowNode, target: TargetNode) -> list[dg.AssetCheckSpec]:
    """The checks of a flow target's asset."""
    key = dg.AssetKey(target.key)
    specs = [
        dg.AssetCheckSpec(
            DEAD_LETTERS, asset=key, description="Work items that gave up, or that wait for a person."
        )
    ]
    sla = flow.compiled.flow.sla
    if sla is not None:
        specs.append(
            dg.AssetCheckSpec(
                FRESHNESS,
                asset=key,
                description=f"No change waits longer than {sla.max_age}, and the source was read within that time.",
            )
        )
    return specs


# --- flow targets -----------------------------------------------------------------------------------------------


async def judge_target(database: Database, flow: FlowNode, target: TargetNode) -> list[Verdict]:
    """The verdicts on one flow target now."""
    verdicts = [await dead_letters(database, flow, target)]
    if flow.compiled.flow.sla is not None:
        verdicts.append(await freshness(database, flow, target))
    return verdicts


async def dead_letters(database: Database, flow: FlowNode, target: TargetNode) -> Verdict:
    """How many items gave up, how many wait for a person, and why."""
    rows = await database.rows("dead_counts", flow=flow.name, target=target.name)
    dead = sum(row.items for row in rows if row.state == "dead")
    review = sum(row.items for row in rows if row.state == "review")
    reasons = ", ".join(f"{row.error_code or row.state}: {row.items}" for row in rows)
    if not rows:
        description = "Nothing gave up and nothing waits for a person."
    else:
        description = (
            f"{dead} gave up, {review} wait for a person ({reasons}). Correct and replay, or discard."
        )
    return Verdict(
        key=target.key,
        check=DEAD_LETTERS,
        passed=not rows,
        serious=dead > 0,
        description=description,
        metadata={"dead": dead, "review": review},
    )


async def freshness(database: Database, flow: FlowNode, target: TargetNode) -> Verdict:
    """Whether the oldest change that waits, and the last complete pull, are younger than the SLA."""
    sla = flow.compiled.flow.sla
    assert sla is not None
    most = sla.max_age.total_seconds()
    (row,) = await database.rows(
        "freshness",
        flow=flow.name,
        target=target.name,
        system=flow.source.system,
        entity=flow.source.entity,
    )
    waiting, pulled = _seconds(row.oldest_pending), _seconds(row.last_pull)
    window = flow.compiled.flow.window
    if waiting is not None and window is not None:
        # Held work is not late: only the time counts in which the flow might have written it.
        waiting = window.open_between(row.moment - dt.timedelta(seconds=waiting), row.moment).total_seconds()
    faults = []
    if row.never_pulled or pulled is None:
        faults.append(f"{flow.source.name} was never read to the end")
    elif pulled > most:
        faults.append(f"{flow.source.name} was last read {_ago(pulled)}")
    if waiting is not None and waiting > most:
        faults.append(f"the oldest change that waits is from {_ago(waiting)}")
    limit = f"the limit is {span(most)}"
    return Verdict(
        key=target.key,
        check=FRESHNESS,
        passed=not faults,
        description=f"{'; '.join(faults)}; {limit}." if faults else f"Up to date; {limit}.",
        metadata={
            "oldest_waiting_s": round(waiting or 0.0, 1),
            "last_read_s": -1.0 if pulled is None else round(pulled, 1),
            "max_age_s": most,
        },
    )


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _ago(seconds: float) -> str:
    return f"{span(seconds)} ago"


# --- entities ---------------------------------------------------------------------------------------------------


async def judge_entity(database: Database, graph: Graph, entity: EntityNode) -> list[Verdict]:
    """The verdicts on one entity now."""
    verdicts = [await schema_drift(database, graph, entity)]
    readers = graph.readers(entity)
    if readers:
        verdicts.append(await contract_violations(database, entity, readers))
    return verdicts + await judge_subscription(database, graph, entity)


async def judge_subscription(database: Database, graph: Graph, entity: EntityNode) -> list[Verdict]:
    """The verdict on the webhooks of one entity now; none where no flow wants any."""
    wanting = webhook_flows(graph.readers(entity))
    if not wanting:
        return []
    return [await subscription(database, entity, wanting, load_settings().public_url)]


async def contract_violations(database: Database, entity: EntityNode, readers: Sequence[FlowNode]) -> Verdict:
    """How many records of the source are set aside because they break its schema."""
    (row,) = await database.rows("contract_violations", flows=[flow.name for flow in readers])
    if row.records:
        description = (
            f"{row.records} records of {entity.name} break its schema and were set aside, the first at "
            f"{row.since:%Y-%m-%d %H:%M} UTC. Correct them in {entity.system}; they come back by themselves."
        )
    else:
        description = f"No record of {entity.name} breaks its schema."
    return Verdict(
        key=entity.key,
        check=CONTRACT_VIOLATIONS,
        passed=not row.records,
        serious=False,
        description=description,
        metadata={"records": row.records},
    )


async def schema_drift(database: Database, graph: Graph, entity: EntityNode) -> Verdict:
    """What changed in the entity's schema since its flows were applied, and which of their rules that breaks."""
    added: set[str] = set()
    gone: set[str] = set()
    broken: set[str] = set()
    version, age = 0, 0.0
    for flow, used in _uses(graph, entity):
        rows = await database.rows(
            "snapshots_since_apply",
            flow=flow.name,
            version=flow.stored.version,
            system=entity.system,
            entity=entity.entity,
        )
        if not rows:
            continue
        version, age = rows[0].version, rows[0].age
        if rows[0].base_version == version:
            continue
        found = drift(schema_from(rows[0].base.encode()), schema_from(rows[0].schema.encode()))
        added.update(found.added)
        gone.update(f"{name} (removed{found.hint(name)})" for name in found.removed)
        gone.update(found.changed)
        broken.update(f"{name} ({flow.name}){found.hint(name)}" for name in sorted(_names(found) & used))
    return _drift_verdict(entity, version, age, added=added, gone=gone, broken=broken)


def _uses(graph: Graph, entity: EntityNode) -> list[tuple[FlowNode, set[str]]]:
    """Per flow that touches the entity, the fields of it that its rules use."""
    uses = []
    for flow in graph.flows:
        used: set[str] = set()
        if flow.source == entity:
            used |= flow.compiled.source_fields
        for name, target in flow.targets.items():
            if target.entity == entity:
                compiled = flow.compiled.targets[name]
                used |= {*compiled.fields, *compiled.line_fields}
        if used:
            uses.append((flow, used))
    return uses


def _names(found: Drift) -> set[str]:
    """Fields that are gone or different."""
    return {*found.removed, *(change.partition(":")[0] for change in found.changed)}


def _drift_verdict(
    entity: EntityNode, version: int, age: float, *, added: set[str], gone: set[str], broken: set[str]
) -> Verdict:
    metadata = {"snapshot": version, "added": sorted(added), "removed_or_changed": sorted(gone)}
    if broken:
        description = (
            f"Fields that rules use are gone or different in {entity.name}: {_listed(broken)}. Their records wait "
            "for review; change the rules and apply the flow, or undo the change in the system."
        )
        return Verdict(
            key=entity.key, check=SCHEMA_DRIFT, passed=False, description=description, metadata=metadata
        )
    if not added and not gone:
        description = f"The schema of {entity.name} is the one that its flows were applied against."
    else:
        parts = [f"new: {_listed(added)}"] if added else []
        parts += [f"gone or different: {_listed(gone)}"] if gone else []
        description = f"The schema of {entity.name} changed, no rule is concerned; {'; '.join(parts)}."
    return Verdict(
        key=entity.key,
        check=SCHEMA_DRIFT,
        passed=not (added or gone) or age > _NEWS,
        serious=False,
        description=description,
        metadata=metadata,
    )


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:_MANY]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
