"""Keeps the subscriptions at the products: made, renewed, found again, taken away. One round; call it about once a minute.

Every step may die. The row stands before the product is asked; what a dead round left at the product is found by its
URL in the next round's list, and adopted or taken away. Whenever deliveries may have been missed, the entity is read.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Sequence

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.keeping import Keeper, Kept
from ipaas_assets.sync.wished import Wishes, wishes_by_system
from ipaas_resources.connectors.base import Connector, SystemDocument
from ipaas_resources.core.errors import DatabaseUnavailableError, IpaasError
from ipaas_resources.store import registry
from ipaas_resources.store import subscriptions as store
from ipaas_resources.store.registry import StoredSystem
from ipaas_resources.store.subscriptions import StoredSubscription

_log = logging.getLogger(__name__)


async def keep_subscriptions(engine: Engine, *, public_url: str | None) -> list[Kept]:
    """One round over all systems; [] also where another process is at it.

    Args:
        engine: loaded; its clock says when half a lifetime is over.
        public_url: where products reach the ingress, without a slash at its end. None: nothing is made or taken away,
            and entities that only a webhook would tell of are read now and then instead.

    Raises:
        DatabaseUnavailableError: nothing can be said. Everything else that goes wrong is in the list and in the store.
    """
    async with store.only_keeper(engine.database) as ours:
        return await keep_now(engine, public_url=public_url) if ours else []


async def keep_now(engine: Engine, *, public_url: str | None) -> list[Kept]:
    """The round itself, for a caller that holds `only_keeper`."""
    database = engine.database
    wishes = await wishes_by_system(database)
    rows = await store.all_subscriptions(database)
    rounds = [
        _round(engine, system, wishes[system.system], rows, public_url)
        for system in await registry.list_systems(database)
    ]
    # Side by side: a system that does not answer holds up no other.
    kept: list[Kept] = []
    for result in await asyncio.gather(*rounds, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        kept += result
    return kept


async def _round(
    engine: Engine,
    stored: StoredSystem,
    wishes: Wishes,
    rows: Sequence[StoredSubscription],
    public_url: str | None,
) -> list[Kept]:
    """One system's round. Only a database that is gone ends the others' too."""
    mine = [row for row in rows if row.system == stored.system and row.live]
    if stored.paused or not stored.document.get("enabled", True):
        return []
    if not wishes.scopes and not any(row.managed for row in mine):
        return []
    try:
        document = SystemDocument.model_validate(stored.document)
        connector, borrowed = _connector(engine, document)
        try:
            declared = connector.manifest.webhooks
            if declared is None:
                return []
            return await Keeper(engine, document, connector, declared, public_url or "").round(wishes, mine)
        finally:
            if not borrowed:
                await connector.close()
    except DatabaseUnavailableError:
        raise
    except IpaasError as error:
        return await _all_failed(engine, stored.system, wishes, mine, error.message)
    except Exception as error:  # noqa: BLE001 - a defect in one connector must not let the other systems' run out
        # The error's own text may hold an address with its key, so the places alone are told.
        places = "".join(traceback.format_tb(error.__traceback__))
        _log.error(
            "The subscriptions of %s met a defect (%s):\n%s", stored.system, type(error).__name__, places
        )
        text = f"A defect of the platform ({type(error).__name__}) while its subscriptions were kept; see the log."
        return await _all_failed(engine, stored.system, wishes, mine, text)


def _connector(engine: Engine, document: SystemDocument) -> tuple[Connector, bool]:
    """The engine's connector where it was opened with this very document, else one of our own for the round."""
    opened = engine.systems.get(document.system)
    if opened is not None and opened.document == document:
        return opened.connector, True
    connector: Connector = engine.connect(document)
    return connector, False


async def _all_failed(
    engine: Engine, system: str, wishes: Wishes, rows: Sequence[StoredSubscription], error: str
) -> list[Kept]:
    """Nothing of a system could be looked at."""
    managed = [row for row in rows if row.managed]
    await store.note_error(engine.database, [row.subscription for row in managed], error)
    known = [
        Kept(
            system=system,
            entity=row.entity,
            scope=row.scope,
            subscription=row.subscription,
            action="failed",
            error=error,
            expires_at=row.expires_at,
        )
        for row in managed
    ]
    there = {row.entity for row in managed}
    return known + [
        Kept(system=system, entity=entity, scope="", subscription="", action="failed", error=error)
        for entity in sorted(set(wishes.scopes) - there)
    ]


__all__ = ["Kept", "keep_now", "keep_subscriptions"]
