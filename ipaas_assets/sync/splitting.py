"""The inbox is split: each delivery becomes hints, and both change in one transaction. No network, no connector opened."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from ipaas_resources.connectors.webhooks import Pointer, Pointers, receiver
from ipaas_resources.core import killpoints
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store import hints as store
from ipaas_resources.store.database import Database
from ipaas_resources.store.hints import (
    GROUP_BYTES,
    MOST_TRACES,
    PULL,
    PULL_ALL,
    UNPLACED,
    Delivered,
    Finished,
    Hint,
    Place,
    Poll,
    is_unplaced,
)

log = logging.getLogger(__name__)

#: Bytes. Longer names and ids are no names and ids, and would not fit into an index.
_LONGEST: Final = 500
#: Bytes of bodies after which no more deliveries may have fitted into the group (one is at most 1 MiB).
_FULL: Final = GROUP_BYTES - (1 << 20)
#: Bodies are parsed so many bytes between two looks at what else this process has to do: about 20 ms.
_BYTES_AT_ONCE: Final = 1 << 20


class Split(msgspec.Struct, kw_only=True):
    """What became of some deliveries: received = done + ignored + dead."""

    received: int = 0
    done: int = 0  # hints, or a pull that was asked for
    ignored: int = 0  # nobody wants what they tell; the reason stands in the row
    dead: int = 0  # proven, but not understood: kept for a person
    hints: int = 0  # records to read, each counted once
    pulls: int = 0  # entities to pull
    #: False: everything that waited was taken, unless other splitters hold it.
    more: bool = False
    #: (system, entity) with something to read now; an entity that begins with `~` is still the product's own name.
    touched: set[tuple[str, str]] = set()
    #: The same for entities whose poll is due now.
    polls: set[tuple[str, str]] = set()

    def add(self, other: Split) -> None:
        """Sum two."""
        for name in ("received", "done", "ignored", "dead", "hints", "pulls"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.touched |= other.touched
        self.polls |= other.polls


async def split(database: Database, *, most: int = 500) -> Split:
    """Split the oldest `most` deliveries that nobody else splits now; `received` 0: there are none.

    Raises:
        DatabaseUnavailableError: nothing happened.
    """

    async def work(connection: AsyncConnection) -> Split:
        return await _split(connection, most)

    killpoints.before("K04")
    result = await database.repeatable(work)
    killpoints.after("K04")
    if result.dead:
        log.warning(
            "%s of %s webhook deliveries were not understood and are kept", result.dead, result.received
        )
    return result


async def _split(connection: AsyncConnection, most: int) -> Split:
    deliveries = await store.take_deliveries(connection, most=most)
    if not deliveries:
        return Split()
    wanted = await store.entities_read(connection)
    parsed: list[tuple[Delivered, Pointers]] = []
    size = 0
    for delivery in deliveries:
        size += len(delivery.body)
        if size > _BYTES_AT_ONCE:
            size = 0
            await asyncio.sleep(0)
        parsed.append((delivery, _parse(delivery)))
    nowhere = await store.places_unknown(
        connection,
        (_place(delivery, pointer) for delivery, pointers in parsed for pointer in pointers.pointers),
    )
    sorting = _Sorting(wanted, nowhere)
    finished = [sorting.finish(delivery, pointers) for delivery, pointers in parsed]
    await store.raise_hints(connection, sorting.hints())
    await store.ask_polls(connection, sorting.polls())
    await store.finish_deliveries(connection, finished)
    counts = Counter(each.state for each in finished)
    return Split(
        received=len(finished),
        more=len(finished) == most or sum(len(each.body) for each in deliveries) > _FULL,
        done=counts["done"],
        ignored=counts["ignored"],
        dead=counts["dead"],
        hints=len(sorting.hints()),
        pulls=len(sorting.polls()),
        touched={(hint.system, hint.entity) for hint in sorting.hints()},
        polls={(poll.system, poll.entity) for poll in sorting.polls()},
    )


def _parse(delivery: Delivered) -> Pointers:
    """What a delivery points to; a body that breaks the parser concerns its own row alone."""
    if delivery.system is None or delivery.connector is None:
        return Pointers()
    try:
        pointers = receiver(delivery.connector).hints(delivery.body, delivery.headers)
    except ConfigurationError as error:
        return Pointers(unclear=error.message)
    except Exception as error:  # noqa: BLE001 - whatever a sender made of it, the others go on; it is told below
        # The text of the error may quote the body, so its kind alone is told.
        log.error("Delivery %s broke the parser: %s", delivery.delivery, type(error).__name__)  # noqa: TRY400 - as above
        return Pointers(
            unclear=f"Reading it ended with {type(error).__name__}. This is a defect of the connector: report it."
        )
    if all(_storable(pointer) for pointer in pointers.pointers):
        return pointers
    return Pointers(
        pointers=tuple(pointer for pointer in pointers.pointers if _storable(pointer)),
        unclear="It names a record by a text that no record can have.",
    )


def _storable(pointer: Pointer) -> bool:
    for text in (pointer.entity, pointer.table, pointer.company, pointer.record or ""):
        if "\x00" in text or _has_surrogate(text) or len(text.encode()) > _LONGEST:
            return False
    return bool(pointer.entity or pointer.table) and pointer.record not in {"", store.PULL_ALL, store.NOWHERE}


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _place(delivery: Delivered, pointer: Pointer) -> Place:
    """Where to read. What only the open connector can translate stays the product's own name."""
    entity = pointer.entity or UNPLACED + pointer.table
    scope = UNPLACED + pointer.company if pointer.company else delivery.scope
    return delivery.system or "", entity, scope


class _Sorting:
    """Collects what deliveries point to, each record and each entity once."""

    def __init__(self, wanted: set[tuple[str, str]], nowhere: set[Place]) -> None:
        self._wanted = wanted
        self._systems = {system for system, _ in wanted}
        self._nowhere = nowhere
        self._hints: dict[tuple[Place, str], Hint] = {}
        self._polls: dict[Place, bool] = {}

    def finish(self, delivery: Delivered, pointers: Pointers) -> Finished:
        """Take what it points to, and say what becomes of the delivery."""
        if delivery.system is None:
            return _ended(delivery, "dead", "no_subscription", "Its subscription is not stored any more.")
        if delivery.connector is None:
            return _ended(delivery, "ignored", "no_system", "Its system is not stored any more.")
        reasons = [self._take(delivery, pointer) for pointer in pointers.pointers]
        if pointers.unclear:
            return _ended(delivery, "dead", "not_understood", pointers.unclear)
        if not reasons:
            return _ended(
                delivery, "ignored", "nothing_to_read", "It is about nothing that can be read here."
            )
        if all(reasons):
            return _ended(delivery, "ignored", reasons[0], _REASONS[reasons[0]])
        return _ended(delivery, "done", None, None)

    def _take(self, delivery: Delivered, pointer: Pointer) -> str:
        """Take one pointer; why it is not wanted, '' when it is."""
        place = system, entity, scope = _place(delivery, pointer)
        if pointer.entity and delivery.entity and pointer.entity != delivery.entity:
            return "other_entity"
        if place in self._nowhere:
            return "unknown_place"
        if not (system in self._systems if entity.startswith(UNPLACED) else (system, entity) in self._wanted):
            return "no_flow"
        if pointer.record is None and not is_unplaced(entity, scope):
            self._polls[place] = self._polls.get(place, False) or pointer.full
            return ""
        record = pointer.record
        if record is None:
            record = PULL_ALL if pointer.full else PULL
        hint = self._hints.get((place, record))
        if hint is None:
            hint = Hint(system=system, entity=entity, scope=scope, record=record, trace_ids=[])
            self._hints[place, record] = hint
        if delivery.trace_id not in hint.trace_ids:
            hint.trace_ids = [*hint.trace_ids, delivery.trace_id][-MOST_TRACES:]
        return ""

    def hints(self) -> Sequence[Hint]:
        """Records to read."""
        return list(self._hints.values())

    def polls(self) -> Sequence[Poll]:
        """Entities to pull."""
        return [
            Poll(
                system=system,
                entity=entity,
                scope=scope,
                whole=whole,
                reason="the product told of many changes at once",
            )
            for (system, entity, scope), whole in self._polls.items()
        ]


_REASONS: Final = {
    "other_entity": "Its subscription is for another entity.",
    "unknown_place": "Its company or table is unknown here: no scope of the system document names it.",
    "no_flow": "No active flow reads its entity.",
}


def _ended(delivery: Delivered, state: str, code: str | None, error: str | None) -> Finished:
    return Finished(delivery=delivery.delivery, state=state, error_code=code, error=error)
