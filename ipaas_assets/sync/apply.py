"""Applying documents: everything is checked first, then stored and active at once, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.folder import Documents, checked, read_folder
from ipaas_assets.sync.remap import count_differing, count_mirrored, raise_pending
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store import versions
from ipaas_resources.store.versions import About, Kind, Remap, Saved, StoredText
from mappings.difference import flow_changes, table_changes
from mappings.load import LoadedFlow, load_flow
from mappings.lookup_tables import LoadedTable, read_table

#: Records that may be raised without being asked for.
MOST_UNASKED = 1_000
#: Seconds between looks whether the writes of the version before have ended.
_LOOK = 0.2


class Applied(msgspec.Struct, kw_only=True):
    """What applying documents changed."""

    flows: list[Saved]
    lookups: dict[str, int]  # tables that changed -> their new version
    raised: int  # records that go through their flow again
    warnings: list[str] = []


Say = Callable[[str], None]


async def apply_folder(
    engine: Engine,
    folder: Path,
    *,
    actor: str,
    reason: str = "",
    lookups: Path | None = None,
    remap: Remap = "changed",
    yes: bool = False,
    say: Say | None = None,
) -> Applied:
    """Validate, store and activate every flow of a folder, with its lookup tables.

    `remap` says which mirrored records go through a changed flow again: those that it writes otherwise, none, or all;
    more than MOST_UNASKED of them need `yes`. A value that a removed rule had written stays in the target.

    Raises:
        FlowErrors: every fault of every file at once; nothing was stored.
        ConfigurationError: the folder holds no flows, or too many records would be raised without `yes`; nothing was
            stored.
    """
    documents = await read_folder(engine, folder, lookups)
    about = About(actor=actor, origin="file", reason=reason)
    return await activate(engine, documents, about, remap=remap, yes=yes, say=say)


async def roll_back(
    engine: Engine,
    flow: str,
    *,
    to: int | None = None,
    about: About,
    remap: Remap = "changed",
    yes: bool = False,
    say: Say | None = None,
) -> Applied:
    """Make the text of an older version of a flow the newest version: `to`, else the one before the active one.

    It is checked like any other save, for the systems may have changed since.

    Raises:
        ConfigurationError: there is no such flow or version, it is the active one already, or see apply_folder.
        FlowErrors: it no longer fits the systems; nothing was stored.
    """
    active, stored = await _older(engine, versions.FLOWS, flow, to)
    name = stored.file or f"{flow}.yaml"
    loaded = LoadedFlow(name, stored.text, load_flow(stored.text, name=name))
    documents = await checked(engine, [loaded], [])
    about = _going_back(about, stored)
    # Going back is meant from the version that was looked at, not from one that somebody made since.
    return await activate(engine, documents, about, remap=remap, yes=yes, say=say, expected={flow: active})


async def roll_back_lookup(
    engine: Engine,
    lookup: str,
    *,
    to: int | None = None,
    about: About,
    remap: Remap = "changed",
    yes: bool = False,
    say: Say | None = None,
) -> Applied:
    """Make the text of an older version of a lookup table the newest version: `to`, else the one before the active one.

    The active flows that use the table are checked with it and their examples run; `remap` says which of their known
    records go through them again.

    Raises:
        ConfigurationError: there is no such table or version, it is the active one already, or see apply_folder.
        FlowErrors: a flow that uses the table no longer holds with it; nothing was stored.
    """
    active, stored = await _older(engine, versions.LOOKUPS, lookup, to)
    name = stored.file or f"{lookup}.csv"
    table = LoadedTable(lookup, name, stored.text, read_table(stored.text, name=name))
    documents = await checked(engine, [], [table])
    about = _going_back(about, stored)
    return await activate(
        engine, documents, about, remap=remap, yes=yes, say=say, expected_tables={lookup: active}
    )


async def _older(engine: Engine, kind: Kind, name: str, to: int | None) -> tuple[int, StoredText]:
    """The active version of a document, and the older one that is to come back."""
    history = await versions.history(engine.database, kind, name)
    active = next((each.version for each in history if each.active), None)
    if active is None:
        raise kind.missing(name)
    older = [each.version for each in history if each.version < active]
    if to is None and not older:
        raise ConfigurationError(
            f"Version {active} of {kind.word} {name!r} is its first: there is none to go back to."
        )
    wanted = older[0] if to is None else to
    stored = await versions.text_of(engine.database, kind, name, wanted)
    current = await versions.text_of(engine.database, kind, name, active)
    if stored is None or current is None:
        raise kind.no_version(name, wanted)
    if stored.text == current.text:
        raise ConfigurationError(
            f"Version {wanted} of {kind.word} {name!r} says what the active version {active} says."
        )
    return active, stored


def _going_back(about: About, stored: StoredText) -> About:
    return msgspec.structs.replace(about, reason=about.reason or f"back to version {stored.version}")


async def activate(
    engine: Engine,
    documents: Documents,
    about: About,
    *,
    remap: Remap = "changed",
    yes: bool = False,
    say: Say | None = None,
    expected: Mapping[str, int] | None = None,
    expected_tables: Mapping[str, int] | None = None,
) -> Applied:
    """Store checked documents, make them active, and raise what they write otherwise.

    `expected`: the versions that must still be active, by flow; `expected_tables`: by lookup table.
    """
    if not yes:
        await _ask(engine, documents, remap)
    saved = await versions.save_documents(
        engine.database,
        documents.new_flows(),
        documents.new_lookups(),
        about=about,
        users=_users(engine, documents),
        remap=remap,
        expected=expected,
        expected_tables=expected_tables,
        flow_diff=lambda before, after: [change.to_json() for change in flow_changes(before, after)],
        lookup_diff=lambda before, after: [change.to_json() for change in table_changes(before, after)],
    )
    await _wait_for_older_writes(engine, [each for each in saved.flows if each.changed], say)
    # The engine reads its flows again: what a crash left to be raised is raised by whoever comes next, this or a run.
    await engine.load()
    left: dict[str, str] = {}
    raised = await raise_pending(engine, left=left)
    return Applied(
        flows=saved.flows,
        lookups=saved.lookups,
        raised=raised,
        warnings=[
            *(str(warning) for warning in documents.warnings),
            *(
                f"{flow}: which of its known records differ could not be told, its next run does it: {why}"
                for flow, why in left.items()
            ),
        ],
    )


async def _ask(engine: Engine, documents: Documents, how: Remap) -> None:
    if how == "none":
        return
    total = 0
    draft = documents.draft_of(engine)
    for flow in changed_flows(engine, draft):
        active = draft.flow(flow)
        total += await (count_mirrored if how == "all" else count_differing)(draft, active)
    if total > MOST_UNASKED:
        raise ConfigurationError(
            f"{total} records would go through their flow again, nothing was stored. Look at `ipaas plan`, then say "
            "--yes, or --remap none to leave them as they are.",
            code="many_records",
        )


def changed_flows(engine: Engine, draft: Engine) -> list[str]:
    """Flows of which a draft has another version, or whose lookup tables it changes."""
    found = []
    for name, flow in draft.flows.items():
        tables = {table for target in flow.compiled.targets.values() for table in target.lookups}
        if engine.flows.get(name) is not flow or any(
            draft.lookups.get(table) != engine.lookups.get(table) for table in tables
        ):
            found.append(name)
    return found


def _users(engine: Engine, documents: Documents) -> dict[str, set[str]]:
    """Per lookup table, the flows that use it."""
    users: dict[str, set[str]] = {}
    active = {name: flow.compiled for name, flow in engine.flows.items()}
    for name, flow in {**active, **documents.compiled}.items():
        for target in flow.targets.values():
            for table in target.lookups:
                users.setdefault(table, set()).add(name)
    return users


async def _wait_for_older_writes(engine: Engine, saved: list[Saved], say: Say | None) -> None:
    """Return when no write of an older version is under way any more; a dead worker's lapse with its lease."""
    for each in saved:
        told = False
        while True:
            (row,) = await engine.database.rows("older_intents", flow=each.flow, version=each.version)
            if not row.intents:
                break
            if say is not None and not told:
                say(
                    f"{each.flow}: waiting for writes of the version before, at most {max(1, round(row.seconds))} s"
                )
                told = True
            await engine.clock.sleep(_LOOK)
