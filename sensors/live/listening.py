"""What PostgreSQL tells of at once: new deliveries, new work. Who misses a word finds the work by looking a little later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

log = logging.getLogger(__name__)

#: Work items were raised.
WORK: Final = "ipaas_work"
#: Seconds before the connection is tried again.
_AGAIN: Final = 1.0


async def listen(url: str, events: Mapping[str, asyncio.Event]) -> None:
    """Set the event of a channel whenever something is told there; never ends by itself.

    Args:
        url: the run-time login, in SQLAlchemy's or libpq's form.
        events: by channel.
    """
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    told = False
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as connection:
                for channel in events:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                told = False
                # What was told before we listened is found by looking.
                for event in events.values():
                    event.set()
                async for note in connection.notifies():
                    events[note.channel].set()
        except psycopg.OperationalError as error:
            if not told:
                # Its text may hold the address and the login; the kind is enough beside the loops' own sentence.
                log.warning("PostgreSQL is not heard (%s); it is looked at instead", type(error).__name__)
                told = True
        await asyncio.sleep(_AGAIN)
