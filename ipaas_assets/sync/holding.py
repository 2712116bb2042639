"""Which flow targets are held now, why, and until when: a window that is closed, a system that is paused, a disabled flow.

Held work is not lost: its source is pulled and mirrored all the same, its items wait and are settled once it is let go.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from ipaas_assets.sync.engine import Engine
from ipaas_resources.store.database import Database
from mappings.spec import Flow
from mappings.windows import in_words

Why = Literal["window", "paused", "disabled"]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing may be written to a target now."""

    reason: Why
    until: dt.datetime | None = None  # when its window opens; None: when a person says so
    #: In words, behind "held": until Mon 07:00 Europe/London.
    words: str


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """What people stopped, and the moment by the clock of the database."""

    moment: dt.datetime
    paused: frozenset[str]  # systems
    disabled: frozenset[str]  # flows

    def holds(self, flow: Flow, targets: Collection[str] | None = None) -> dict[str, Held]:
        """Of the flow's targets (or these of them), those that are held."""
        whole = self._whole(flow)
        result = {}
        for name, target in flow.targets.items():
            if targets is not None and name not in targets:
                continue
            held = whole or self._paused(target.system)
            if held is not None:
                result[name] = held
        return result

    def whole_flow(self, flow: Flow) -> Held | None:
        """Why no target of the flow may be written; None when one may."""
        holds = self.holds(flow)
        return next(iter(holds.values())) if len(holds) == len(flow.targets) else None

    def _whole(self, flow: Flow) -> Held | None:
        if flow.flow in self.disabled:
            return Held(reason="disabled", words=f"until `ipaas flows enable {flow.flow}`")
        if flow.window is None or flow.window.is_open(self.moment):
            return None
        opens = flow.window.next_open(self.moment)
        words = f"until {in_words(opens, flow.window.tz, now=self.moment)}"
        return Held(reason="window", until=opens, words=words)

    def _paused(self, system: str) -> Held | None:
        if system not in self.paused:
            return None
        return Held(reason="paused", words=f"until `ipaas systems resume {system}`")


async def stopped(database: Database) -> Stopped:
    """What is stopped now, read from the store."""
    (row,) = await database.rows("holding")
    return Stopped(moment=row.moment, paused=frozenset(row.paused), disabled=frozenset(row.disabled))


async def held_targets(engine: Engine, flows: Iterable[str] | None = None) -> dict[tuple[str, str], Held]:
    """The flow targets, as (flow, target), that must not be claimed now, of all active flows or these."""
    now = await stopped(engine.database)
    names = engine.flows if flows is None else flows
    return {
        (name, target): held
        for name in names
        for target, held in now.holds(engine.flow(name).compiled.flow).items()
    }


async def held(engine: Engine) -> dict[str, Held]:
    """The flows of which no target may be written now."""
    now = await stopped(engine.database)
    return {
        name: held
        for name, flow in engine.flows.items()
        if (held := now.whole_flow(flow.compiled.flow)) is not None
    }
