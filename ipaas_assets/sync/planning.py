"""`ipaas plan`: what applying a folder would change, in the registry and in the targets. Nothing is stored or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from ipaas_assets.sync.apply import changed_flows
from ipaas_assets.sync.dry_run import DryRun, DryRunResult
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.folder import Documents, read_folder
from ipaas_resources.store import versions
from mappings.difference import Change, flow_changes, table_changes


class FlowPlan(msgspec.Struct, kw_only=True):
    """What would become of one flow."""

    flow: str
    version: int | None  # the active one, None for a new flow
    changes: list[Change]  # of its text; [] when only a lookup table of it changes
    text_differs: bool  # a new version is made, be it for a comment
    records: DryRunResult | None = None  # what a run after applying would write; None: not asked for


class TablePlan(msgspec.Struct, kw_only=True):
    """What would become of one lookup table."""

    lookup: str
    version: int | None
    changes: list[Change]


class Plan(msgspec.Struct, kw_only=True):
    """What applying a folder would change."""

    flows: list[FlowPlan]
    lookups: list[TablePlan]
    unchanged: list[str]  # flows of the folder that stay as they are
    elsewhere: list[str]  # flows of the registry that the folder does not hold: they stay
    warnings: list[str]
    reads: int  # calls to the systems that planning took

    @property
    def changes(self) -> bool:
        """True when applying would change anything."""
        return bool(self.flows or self.lookups)


async def plan_folder(
    engine: Engine,
    folder: Path,
    *,
    lookups: Path | None = None,
    records: bool = True,
    samples: int = 5,
    progress: Callable[[str, int], None] | None = None,
) -> Plan:
    """Plan a folder of flows and lookup tables.

    `records`: plan also which target records applying and a run would write. That reads the sources' changes and looks
    for unlinked records in the targets; `progress` is told the flow and the records looked at.

    Raises:
        FlowErrors: every fault of every file at once.
        ConfigurationError: the folder holds no flows.
    """
    engine = engine.without_storing()
    before = engine.calls["read"]
    documents = await read_folder(engine, folder, lookups)
    draft = documents.draft_of(engine)
    tables = await _tables(engine, documents)
    plans: dict[str, FlowPlan] = {}
    for each in documents.flows:
        stored = await versions.flow_text(engine.database, each.flow.flow)
        text = stored.text if stored is not None else ""
        if text != each.text:
            plans[each.flow.flow] = FlowPlan(
                flow=each.flow.flow,
                version=stored.version if stored is not None else None,
                changes=flow_changes(text, each.text),
                text_differs=True,
            )
    for name in changed_flows(engine, draft):
        if name not in plans:
            version = draft.flow(name).stored.version
            plans[name] = FlowPlan(flow=name, version=version, changes=[], text_differs=False)
    if records:
        for name, planned in plans.items():
            if name in draft.flows:
                planned.records = await _records(draft, name, samples, progress)
    folder_flows = {each.flow.flow for each in documents.flows}
    return Plan(
        flows=list(plans.values()),
        lookups=tables,
        unchanged=sorted(folder_flows - plans.keys()),
        elsewhere=sorted(engine.flows.keys() - folder_flows),
        warnings=[str(warning) for warning in documents.warnings],
        reads=engine.calls["read"] - before,
    )


async def _records(
    draft: Engine, name: str, samples: int, progress: Callable[[str, int], None] | None
) -> DryRunResult:
    told = None if progress is None else lambda read: progress(name, read)
    return await DryRun(draft, name, samples=samples, remap=True, progress=told).run()


async def _tables(engine: Engine, documents: Documents) -> list[TablePlan]:
    plans = []
    for table in documents.tables:
        stored = await versions.lookup_text(engine.database, table.name)
        text = stored.text if stored is not None else ""
        if text != table.text:
            plans.append(
                TablePlan(
                    lookup=table.name,
                    version=stored.version if stored is not None else None,
                    changes=table_changes(text, table.text),
                )
            )
    return plans
