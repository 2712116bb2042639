"""Subscriptions: who may send deliveries, with which secrets they prove it, and what the product knows of them."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from ipaas_resources.store.database import Database, database_error, query
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


class StoredSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription with all that is known of it; times in UTC."""

    subscription: str
    system: str
    entity: str
    scope: str
    proof: str
    secret: str  # a reference
    secret_old: str | None
    state: str  # active | retired
    managed: bool  # made by the platform; else by a person
    product_id: str | None  # what the product last called it; None: never made, or taken away
    resource: str | None
    etag: str | None
    expires_at: dt.datetime | None
    checked_at: dt.datetime | None  # when the product last said that it is there
    error: str | None
    expired: bool | None  # by the clock of the database

    @property
    def live(self) -> bool:
        """Deliveries are taken."""
        return self.state == "active"


class CatchUp(msgspec.Struct, frozen=True, kw_only=True):
    """An entity that has to be read, and why."""

    system: str
    entity: str
    scope: str
    reason: str


async def live_subscriptions(database: Database) -> dict[str, Subscription]:
    """All subscriptions whose deliveries are taken, by id."""
    rows = await database.rows("subscriptions_live")
    return {row.subscription: Subscription(**row._mapping) for row in rows}  # noqa: SLF001 - SQLAlchemy's public name


async def all_subscriptions(database: Database) -> list[StoredSubscription]:
    """All subscriptions, retired ones too, by system, entity, scope."""
    names = StoredSubscription.__struct_fields__
    return [
        StoredSubscription(**{name: getattr(row, name) for name in names})
        for row in await database.rows("subscriptions_all")
    ]


async def save_subscription(database: Database, given: Subscription) -> None:
    """Make a subscription by hand, or give one other secrets, another proof or filter; it is live from now on."""
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
    return bool(await database.rows("subscription_retire", subscription=subscription))


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


# --- kept at the products -----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def only_keeper(database: Database) -> AsyncIterator[bool]:
    """Whether we are the one process that keeps the subscriptions now; it holds until the block ends.

    A lock of the session, for no transaction stays open across the calls to products. When the connection is lost
    another process may begin beside us; what the two do twice, the next round puts right.

    Raises:
        DatabaseUnavailableError: nobody knows.
    """
    try:
        async with database.engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            taken = bool((await connection.execute(query("subscriptions_lock"))).scalar_one())
            try:
                yield taken
            finally:
                if taken:
                    try:
                        await connection.execute(query("subscriptions_unlock"))
                    except (
                        BaseException
                    ):  # a stop too: a pooled connection that may hold the lock is handed to nobody
                        await connection.invalidate()
                        raise
    except DBAPIError as error:
        mapped = database_error(error)
        if mapped is None:
            raise
        raise mapped from error


async def prepare(database: Database, given: Subscription, *, seconds: float) -> None:
    """Take deliveries of it and answer its handshake for so long, before the product is asked to make it."""
    await database.rows(
        "subscription_prepare",
        subscription=given.subscription,
        system=given.system,
        entity=given.entity,
        scope=given.scope,
        proof=given.proof,
        secret=given.secret,
        secret_old=given.secret_old,
        seconds=seconds,
    )


async def found(
    database: Database,
    subscription: str,
    *,
    product_id: str,
    resource: str,
    etag: str | None,
    expires_at: dt.datetime | None,
    secret_old: str | None,
    catch_up: CatchUp | None = None,
) -> None:
    """The product has it; where deliveries may have been missed, the entity is due to be read, in one transaction."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(
            query("subscription_there"),
            {
                "subscription": subscription,
                "product_id": product_id,
                "resource": resource,
                "etag": etag,
                "expires_at": expires_at,
                "secret_old": secret_old,
            },
        )
        if catch_up is not None:
            await connection.execute(query("subscription_catch_up"), msgspec.structs.asdict(catch_up))

    await database.repeatable(work)


async def stand_in(database: Database, entity: CatchUp, *, seconds: float) -> None:
    """Have an entity read that nobody polls and no subscription tells of, when that was last done so long ago."""
    await database.rows("subscription_stand_in", **msgspec.structs.asdict(entity), seconds=seconds)


async def note_error(database: Database, ids: Sequence[str], error: str) -> None:
    """Why these could not be made, renewed or looked at."""
    if ids:
        await database.rows("subscription_errors", subscriptions=list(ids), error=error)


async def among_live(database: Database, ids: Sequence[str]) -> set[str]:
    """Those of these ids whose deliveries are taken at this moment."""
    return {row.subscription for row in await database.rows("subscriptions_known", subscriptions=list(ids))}


__all__ = [
    "CatchUp",
    "StoredSubscription",
    "Subscription",
    "all_subscriptions",
    "among_live",
    "expect_handshake",
    "found",
    "handshake_expected",
    "live_subscriptions",
    "note_error",
    "only_keeper",
    "prepare",
    "retire_subscription",
    "save_subscription",
    "stand_in",
]
