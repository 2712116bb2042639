"""Remap: which mirrored records another version of a flow writes otherwise, and raising work for them.

Asked of the store alone: the mirror, the links, the lookup tables. Nothing is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from ipaas_assets.sync.engine import ActiveFlow, Engine, flow_targets
from ipaas_assets.sync.lookup import References
from ipaas_assets.sync.mapping import map_batch
from ipaas_assets.sync.model import Lane, OutcomeName, TargetWork
from ipaas_assets.sync.plan import Seen, decide
from ipaas_resources.core.errors import DatabaseUnavailableError, IpaasError
from ipaas_resources.core.values import decode, encode
from ipaas_resources.store import queue, registry
from ipaas_resources.store.queue import Claimed
from ipaas_resources.store.versions import Remap
from mappings.compiler import CompiledTarget

_CHUNK = 1000
#: Outcomes of a plan that leave link and target as they are.
_SAME = frozenset({OutcomeName.NO_CHANGE, OutcomeName.FILTERED})

Progress = Callable[[int], None]


class Page(msgspec.Struct):
    """Mirrored records of one page, and per target those of them that would be written otherwise."""

    read: int
    differing: dict[str, list[Claimed]]


def scopes_of(flow: ActiveFlow) -> list[str] | None:
    """The scopes that the flow reads, None for all."""
    chosen = flow.compiled.flow.source.scopes
    return None if chosen == "all" else list(chosen)


async def differing(engine: Engine, flow: ActiveFlow, works: list[TargetWork]) -> AsyncIterator[Page]:
    """The mirrored records whose image in a target differs from what the link says was sent, a page at a time.

    A record that was never written counts as different; whether the target holds it already is looked up when it is
    written.
    """
    source = flow.compiled.flow.source
    after = ("", "")
    while True:
        rows = await engine.database.rows(
            "mirrored_page",
            system=source.system,
            entity=source.entity,
            scopes=scopes_of(flow),
            after_scope=after[0],
            after_record=after[1],
            chunk=_CHUNK,
        )
        if not rows:
            return
        after = (rows[-1].scope, rows[-1].record)
        page = Page(read=len(rows), differing={})
        for work in works:
            items = [unclaimed(row) for row in rows]
            page.differing[work.queue.target] = await _differing(engine, work, items)
        yield page


async def _differing(engine: Engine, work: TargetWork, items: list[Claimed]) -> list[Claimed]:
    links = await queue.known_links(
        engine.database, work.queue, [(item.scope, item.record) for item in items]
    )
    for item, link in zip(items, links, strict=True):
        item.link = link
    references = References(engine.lookups)
    images = await map_batch(engine.database, work, items, references, engine.sides())
    return [
        item
        for item, image in zip(items, images, strict=True)
        if decide(work, item, image, Seen()).outcome not in _SAME
    ]


def unclaimed(row: Any) -> Claimed:
    """A record to plan with that nobody has claimed; `row` has scope, record, document, deleted, bad_code, bad_error."""
    return Claimed(
        scope=row.scope,
        record=row.record,
        generation=0,
        attempts=0,
        verify_target=False,
        intent=None,
        trace_id="",
        document=decode(row.document.encode()) if row.document else None,
        deleted=row.deleted,
        link=None,
        bad=(row.bad_code, row.bad_error or "") if row.bad_code else None,
    )


async def count_differing(engine: Engine, flow: ActiveFlow, progress: Progress | None = None) -> int:
    """How many records raising this version would write otherwise."""
    works = await engine.works(flow)
    total = read = 0
    async for page in differing(engine, flow, works):
        read += page.read
        total += len({(item.scope, item.record) for items in page.differing.values() for item in items})
        if progress is not None:
            progress(read)
    return total


async def count_mirrored(engine: Engine, flow: ActiveFlow) -> int:
    """How many records of the flow's source are mirrored."""
    source = flow.compiled.flow.source
    (row,) = await engine.database.rows(
        "mirrored_count", system=source.system, entity=source.entity, scopes=scopes_of(flow)
    )
    return int(row.records)


async def raise_pending(
    engine: Engine, only: str | None = None, *, left: dict[str, str] | None = None
) -> int:
    """Raise what flow versions that became active still owe. Returns how many records that were.

    Safe to repeat: a crash in the middle starts the flow again, and a record that was raised twice is planned once.
    `left` takes the flows that could not be raised now (a system that does not answer) with the reason, they still owe
    it; without it the first such error is raised.
    """
    pending = {
        name: (flow, wanted)
        for name, wanted in (await registry.to_be_raised(engine.database)).items()
        if only in {None, name}
        and (flow := engine.flows.get(name)) is not None
        and flow.stored.version == wanted.version
    }
    if not pending:
        return 0
    # Read after what is owed: a table that changes later makes the flow owe it again.
    engine.lookups = await registry.load_lookups(engine.database)
    raised = 0
    for name, (flow, wanted) in pending.items():
        try:
            raised += await _raise(engine, flow, wanted.remap)
        except IpaasError as error:
            if left is None or isinstance(error, DatabaseUnavailableError):
                raise
            left[name] = error.message
            continue
        await registry.mark_raised(engine.database, name, wanted)
    return raised


async def _raise(engine: Engine, flow: ActiveFlow, how: Remap) -> int:
    await drop_orphans(engine, flow)
    highest = Lane[flow.compiled.flow.lane.upper()]
    if highest is not Lane.REALTIME:
        await engine.database.rows("lanes_lower", flow=flow.name, lane=int(highest))
    # Before the comparison: a write under way would be compared by the link as it was, and settled after that.
    await engine.database.rows(
        "raise_queued", flow=flow.name, targets=list(flow.compiled.targets), given_up=how != "none"
    )
    for target in flow.compiled.targets.values():
        await _forget_removed_rules(engine, flow, target)
    trace_id = engine.ids.trace_id()
    if how == "all":
        return await raise_all(engine, flow, trace_id)
    return await _raise_differing(engine, flow, trace_id) if how == "changed" else 0


async def _forget_removed_rules(engine: Engine, flow: ActiveFlow, target: CompiledTarget) -> None:
    """Values of fields that have no rule any more stay in the target and are nobody's: the links forget them."""
    after = ["", ""]
    while True:
        (row,) = await engine.database.rows(
            "links_forget",
            flow=flow.name,
            target=target.name,
            owned=list(target.fields),
            after_scope=after[0],
            after_record=after[1],
            chunk=_CHUNK,
        )
        if row.links < _CHUNK:
            return
        after = row.last


async def drop_orphans(engine: Engine, flow: ActiveFlow) -> None:
    """Drop work for targets and scopes that this version of the flow does not have, unless another one is active."""
    await engine.database.rows(
        "drop_orphans",
        flow=flow.name,
        version=flow.stored.version,
        targets=list(flow.compiled.targets),
        scopes=scopes_of(flow),
    )


async def raise_all(engine: Engine, flow: ActiveFlow, trace_id: str, targets: list[str] | None = None) -> int:
    """Raise every mirrored record of the flow's source, for all targets or these."""
    source = flow.compiled.flow.source
    return await registry.raise_all(
        engine.database,
        system=source.system,
        entity=source.entity,
        scopes=scopes_of(flow),
        targets=[
            target
            for target in flow_targets(flow.compiled, flow.stored.version)
            if targets is None or target["target"] in targets
        ],
        trace_id=trace_id,
    )


async def _raise_differing(engine: Engine, flow: ActiveFlow, trace_id: str) -> int:
    works = await engine.works(flow)
    raised = 0
    async for page in differing(engine, flow, works):
        listed = [
            {
                "flow": work.queue.flow,
                "target": work.queue.target,
                "scope": item.scope,
                "record": item.record,
                "target_system": work.queue.target_system,
                "target_entity": work.queue.target_entity,
            }
            for work in works
            for item in page.differing[work.queue.target]
        ]
        if listed:
            await engine.database.rows("raise_listed", items=encode(listed).decode(), trace_id=trace_id)
        raised += len({(each["scope"], each["record"]) for each in listed})
    return raised
