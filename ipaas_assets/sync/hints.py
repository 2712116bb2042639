"""Hints are read: records by id, in batches, through the same way into the mirror as a page of a pull.

A batch is claimed under a lease; its records, their work items and the end of its hints commit together. A hint is gone
only if nobody told it again since the claim. A reader that dies costs the lease.
"""

from __future__ import annotations

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.hint_reading import HintReading, HintsRead
from ipaas_assets.sync.splitting import Split, split
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store.hints import HintGroup, claim_hints, due_hint_groups, hints_due_in


async def read_hints(
    engine: Engine,
    *,
    system: str | None = None,
    entity: str | None = None,
    most: int = 5000,
    trace_id: str,
    run: int | None = None,
) -> HintsRead:
    """Read what is due, at most about `most` hints, group by group; failures are in the result, none is raised.

    Raises:
        DatabaseUnavailableError, StopError of the database: what was committed stays.
    """
    total = HintsRead()
    for group in await due_hint_groups(engine.database, system=system, entity=entity):
        while total.claimed < most:
            done = await read_group(
                engine,
                group.system,
                group.entity,
                group.scope,
                most=most - total.claimed,
                trace_id=trace_id,
                run=run,
            )
            total.add(done)
            if not done.claimed or done.retried:
                # Nothing is left of the group, or its system does not answer now: the next group.
                break
    return total


async def read_group(
    engine: Engine,
    system: str,
    entity: str,
    scope: str,
    *,
    most: int | None = None,
    trace_id: str,
    run: int | None = None,
) -> HintsRead:
    """Read one batch of hints of one place; `claimed` 0: there was none to read, or its system is not open here.

    Any number of these may go on at once, for the same place too. Raises as `read_hints` does.
    """
    try:
        opened = engine.system(system)
    except ConfigurationError as error:
        return HintsRead(error=error.message)
    if opened.paused:
        return HintsRead()
    size = max(1, opened.connector.manifest.capabilities(entity).read_batch)
    batch = await claim_hints(
        engine.database,
        system,
        entity,
        scope,
        batch=size if most is None else min(size, max(1, most)),
        lease=engine.options.lease,
    )
    if batch is None:
        return HintsRead()
    done = await HintReading(engine, opened, batch, trace_id, run).finish()
    # One that was claimed alone may have others behind it.
    done.more = (
        len(batch.hints) == size or len(batch.hints) == 1 < batch.hints[0].attempts or bool(done.again)
    )
    return done


__all__ = [
    "HintGroup",
    "HintsRead",
    "Split",
    "due_hint_groups",
    "hints_due_in",
    "read_group",
    "read_hints",
    "split",
]
