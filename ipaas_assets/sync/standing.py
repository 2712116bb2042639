"""What a save must not break beside itself: links of other entities, and active flows that are not being saved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ipaas_assets.sync.engine import ActiveFlow, Engine
from ipaas_resources.store import versions
from mappings.faults import Fault
from mappings.load import LoadedFlow
from mappings.spec import Flow
from mappings.texts import without_mark
from mappings.yaml_text import read_document


async def links_of_other_entities(engine: Engine, loaded: LoadedFlow) -> list[Fault]:
    """Targets whose links were made for other entities than these.

    A link holds the id of a record; used for another entity it would overwrite or delete a record that the flow has
    never met. So a target that stays linked keeps its entities, also where a version without it stood in between.
    """
    flow = loaded.flow
    active = engine.flows.get(flow.flow)
    faults = []
    for name, target in flow.targets.items():
        now = ((flow.source.system, flow.source.entity), (target.system, target.entity))
        if active is not None and _sides(active.compiled.flow, name) == now:
            continue
        for row in await engine.database.rows("link_versions", flow=flow.flow, target=name):
            was = await _stored_sides(engine, flow.flow, row.flow_version, name)
            if was in {None, now}:
                continue
            assert was is not None
            side = 0 if was[0] != now[0] else 1
            path: tuple[str, ...] = ("source", "entity") if side == 0 else ("targets", name, "entity")
            file, line = flow.place(path)
            faults.append(
                Fault(
                    path=".".join(path),
                    what=f"records of {'/'.join(was[side])} are linked by {flow.flow}.{name}, and their links cannot "
                    f"be used for {'/'.join(now[side])}; give the {'flow' if side == 0 else 'target'} another name",
                    file=file,
                    line=line,
                )
            )
            break
    return faults


def _sides(flow: Flow, target: str) -> tuple[tuple[str, str], tuple[str, str]] | None:
    if target not in flow.targets:
        return None
    aimed = flow.targets[target]
    return (flow.source.system, flow.source.entity), (aimed.system, aimed.entity)


async def _stored_sides(
    engine: Engine, flow: str, version: int, target: str
) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """The sides as the text of a version names them, which the language of today need not allow any more."""
    stored = await versions.flow_text(engine.database, flow, version)
    if stored is None:
        return None
    data: Any = read_document(without_mark(stored.text), stored.name).data
    try:
        ends = data["source"], data["targets"][target]
        source, aimed = ((str(end["system"]), str(end["entity"])) for end in ends)
    except (KeyError, TypeError):
        return None
    return source, aimed


def others_touched(
    engine: Engine, saved: Iterable[str], tables: dict[str, dict[str, Any]]
) -> list[ActiveFlow]:
    """Active flows that are not being saved, but use a table that changes or follow links of a flow that is saved."""
    changed = {name for name, rows in tables.items() if engine.lookups.get(name) != rows}
    saved = set(saved)
    return [
        flow
        for name, flow in engine.flows.items()
        if name not in saved
        and any(
            changed & set(target.lookups) or saved & {ref.flow for ref in target.references}
            for target in flow.compiled.targets.values()
        )
    ]
