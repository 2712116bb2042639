"""Subscriptions: who may send deliveries, and with which secrets they prove it."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ipaas_resources.store.database import Database
from ipaas_resources.store.inbox_tables import subscriptions


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """One live subscription."""

    subscription: str
    system: str
    connector: str | None  # None: the system has gone
    proof: str
    secret: str  # a reference
    secret_old: str | None = None  # a reference, live beside the other while a secret is being changed
    entity: str = ""  # '': every entity of the system
    scope: str = ""  # '': every scope


async def live_subscriptions(database: Database) -> dict[str, Subscription]:
    """All subscriptions whose deliveries are taken, by id."""
    rows = await database.rows("subscriptions_live")
    return {row.subscription: Subscription(**row._mapping) for row in rows}  # noqa: SLF001 - SQLAlchemy's public name


async def save_subscription(database: Database, given: Subscription) -> None:
    """Make a subscription, or give one other secrets, another proof or filter; it is live from now on."""
    values = {
        "system": given.system,
        "entity": given.entity,
        "scope": given.scope,
        "proof": given.proof,
        "secret": given.secret,
        "secret_old": given.secret_old,
        "state": "active",
    }
    statement = insert(subscriptions).values(subscription=given.subscription, **values)
    async with database.begin() as connection:
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["subscription"], set_=values)
        )


async def retire_subscription(database: Database, subscription: str) -> bool:
    """Take no more deliveries of it. False when there is no live one of that id."""
    async with database.begin() as connection:
        result = await connection.execute(
            sa.update(subscriptions)
            .where(subscriptions.c.subscription == subscription, subscriptions.c.state == "active")
            .values(state="retired", handshake_until=None)
        )
        return result.rowcount == 1


async def expect_handshake(database: Database, subscription: str, *, seconds: float) -> bool:
    """Answer validation handshakes of this subscription for so long; False when there is no live one of that id."""
    async with database.begin() as connection:
        result = await connection.execute(
            sa.update(subscriptions)
            .where(subscriptions.c.subscription == subscription, subscriptions.c.state == "active")
            .values(handshake_until=sa.func.now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds))
        )
        return result.rowcount == 1


async def handshake_expected(database: Database, subscription: str) -> bool:
    """Whether a validation handshake is expected at this moment, by the clock of the database."""
    rows = await database.rows("subscription_handshake", subscription=subscription)
    return bool(rows and rows[0].expected)
