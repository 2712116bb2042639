"""Which entities active flows want to be told of by webhooks, read afresh from the registry."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import msgspec

from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store import registry
from ipaas_resources.store.database import Database
from ipaas_resources.store.subscriptions import StoredSubscription
from mappings.load import load_flow
from mappings.spec import Flow

#: The secret of a system document that deliveries are proven with, and the one that is being replaced.
SECRET = "webhook"  # noqa: S105 - the name of a secret
SECRET_OLD = "webhook_old"  # noqa: S105 - the same


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One scope of one entity that enabled flows want to be told of."""

    system: str
    entity: str
    scope: str
    polled: bool  # some flow polls it as well


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What all enabled flows together want of one system."""

    #: entity -> the scopes that flows name; None stands for all of the system.
    scopes: dict[str, set[str | None]]
    #: Entities that some flow polls.
    polled: set[str]
    #: Entities of flows whose text cannot be read: what they want is not known.
    unknown: set[str]

    def of(self, system: str, there: list[str]) -> list[Wish]:
        """The wishes one by one, in a fixed order; scopes that the system does not have are left to the runs to refuse."""
        return [
            Wish(system=system, entity=entity, scope=scope, polled=entity in self.polled)
            for entity, named in sorted(self.scopes.items())
            for scope in there
            if None in named or scope in named
        ]


async def wishes_by_system(database: Database) -> dict[str, Wishes]:
    """What the enabled flows want of each system. The engine's own flows may be older: a stale look would take away."""
    wishes: dict[str, Wishes] = defaultdict(lambda: Wishes(scopes={}, polled=set(), unknown=set()))
    unreadable = []
    for stored in await registry.active_flows(database):
        if not stored.enabled:
            continue
        try:
            flow = _flow(stored.flow, stored.text)
        except ConfigurationError:
            unreadable.append(stored.flow)
            continue
        mine = wishes[flow.source.system]
        if flow.trigger.poll is not None:
            mine.polled.add(flow.source.entity)
        if flow.trigger.webhook:
            named = mine.scopes.setdefault(flow.source.entity, set())
            named.update([None] if flow.source.scopes == "all" else flow.source.scopes)
    if unreadable:
        for row in await database.rows("webhook_flows", flows=unreadable):
            wishes[row.system].unknown.add(row.entity)
    return wishes


@lru_cache(maxsize=2048)
def _flow(name: str, text: str) -> Flow:
    """A flow's text is immutable and parsing takes milliseconds; a round a minute must not parse them all."""
    return load_flow(text, name=name)


def covers(row: StoredSubscription, wish: Wish) -> bool:
    """Whether a subscription that a person made tells of it."""
    return not row.managed and row.entity in {"", wish.entity} and row.scope in {"", wish.scope}


def no_secret(system: str) -> str:
    """What to do where deliveries could not be proven."""
    return (
        f"System {system!r} has no secret {SECRET!r} to prove deliveries with, so nothing is subscribed. Add it to its "
        f"document, `secrets: {{{SECRET}: env:NAME}}`, and apply that with `ipaas systems apply`."
    )
