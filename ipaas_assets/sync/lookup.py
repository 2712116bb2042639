"""What planning a batch needs to know beforehand, gathered in few calls: links behind references, keys in the target."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ipaas_assets.sync.model import TargetWork
from ipaas_assets.sync.plan import Seen, key_text, needs_first_contact
from ipaas_resources.core.errors import RecordError
from ipaas_resources.core.records import Found
from ipaas_resources.core.values import encode
from ipaas_resources.store.database import Database
from ipaas_resources.store.queue import Claimed
from mappings.mapped import MISSING, LinkHit, Mapped, Missing, RefUse

#: Stands in a dry run for the id of a record that the run would create first.
NOT_MADE_YET = "(not made yet)"


class Asked(msgspec.Struct, frozen=True, order=True):
    """One reference of one record: the other side of the link of `flow.target` whose near side is `value`."""

    flow: str
    target: str
    by: str  # "id", or the field of the near record that holds the value
    scope: str
    value: str


class References:
    """The links behind `ref` rules of one batch, and the lookup tables.

    A reference is followed from the record's own scope: the same id in two companies is two records.
    """

    def __init__(
        self, lookups: dict[str, dict[str, Any]], coming: Mapping[tuple[str, ...], LinkHit] | None = None
    ) -> None:
        """`coming`: (flow, target, scope, record) -> links that a dry run counts on, for the run would make them first."""
        self._lookups = lookups
        self._coming = coming or {}
        self._links: dict[Asked, LinkHit | None] = {}
        self._asked: set[Asked] = set()

    def at(self, scope: str) -> ScopedReferences:
        """The references of records of one scope."""
        return ScopedReferences(self, scope)

    def link(self, scope: str, ref: RefUse, value: str) -> LinkHit | None:
        """The other side of a link; None where it is not known, and then it is noted as asked for."""
        key = Asked(flow=ref.flow, target=ref.target, by=ref.by, scope=scope, value=value)
        hit = self._links.get(key)
        if hit is None and key not in self._links:
            self._asked.add(key)
        if hit is None and ref.by == "id" and self._coming:
            return self._coming.get((ref.flow, ref.target, scope, value))
        return hit

    def lookup(self, table: str, key: str) -> Any | Missing:
        """The entry of a lookup table."""
        return self._lookups.get(table, {}).get(key, MISSING)

    async def fetch(self, database: Database, work: TargetWork, sides: dict[str, tuple[str, str]]) -> bool:
        """Read the links that were asked for. True when any was new, so that mapping again can use it.

        `sides` maps a flow's name to its source system and entity: a link is read from the side that our own source
        is on.
        """
        asked, self._asked = self._asked, set()
        if not asked:
            return False
        groups: dict[tuple[str, str, str], list[Asked]] = defaultdict(list)
        for each in sorted(asked):
            groups[each.flow, each.target, each.by].append(each)
            self._links[each] = None
        for (flow, target, by), keys in groups.items():
            system, entity = sides.get(flow, ("", ""))
            side = "record" if system == work.queue.source_system else "target"
            rows = await database.rows(
                f"links_by_{side}" if by == "id" else f"links_by_{side}_field",
                flow=flow,
                target=target,
                keys=encode([{"scope": each.scope, "id": each.value} for each in keys]).decode(),
                **({} if by == "id" else {"field": by}),
                **({"system": system, "entity": entity} if by != "id" and side == "record" else {}),
            )
            hits: dict[Asked, LinkHit | None] = {}
            for row in rows:
                key = Asked(flow=flow, target=target, by=by, scope=row.scope, value=row.record)
                # Two records with the same value in that field: nobody can tell which one is meant.
                hits[key] = None if key in hits else LinkHit(scope=row.target_scope, id=row.target_id)
            self._links.update(hits)
        return True


class ScopedReferences:
    """What the rules of one record see: `mappings.mapped.Resolver`."""

    def __init__(self, references: References, scope: str) -> None:
        self._references = references
        self._scope = scope

    def link(self, ref: RefUse, value: str) -> LinkHit | None:
        """The other side of a link, None where it is not known (yet)."""
        return self._references.link(self._scope, ref, value)

    def lookup(self, table: str, key: str) -> Any | Missing:
        """The entry of a lookup table."""
        return self._references.lookup(table, key)


class KeyListing(msgspec.Struct):
    """One key listing of a target entity, taken once per run and scope, kept in the store."""

    scan: int
    empty: bool


class FirstContact:
    """Looks for records in the target before anything is created there."""

    def __init__(self, database: Database, *, keep: bool = True) -> None:
        self._database = database
        #: False: a dry run, which stores nothing; keys are then always looked up in the target itself.
        self._keep = keep
        self._listings: dict[tuple[str, str, str], KeyListing] = {}
        # Several batches may want the listing at the same moment; it is taken once.
        self._locks: defaultdict[tuple[str, str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def look(
        self, work: TargetWork, items: Sequence[Claimed], mapped: Sequence[Mapped | RecordError | None]
    ) -> list[Seen]:
        """Per item, what the target holds: records of its key, or its linked record where that has to be verified."""
        seen = [Seen() for _ in items]
        by_key: dict[str, list[int]] = defaultdict(list)
        by_id: dict[str, list[int]] = defaultdict(list)
        keys: list[tuple[Any, ...]] = [()] * len(items)
        for number, (item, image) in enumerate(zip(items, mapped, strict=True)):
            link = item.link
            if isinstance(image, RecordError) or (image is not None and _keyless(image)):
                continue
            if image is None:
                if (
                    link is not None
                    and link.state != "deleted"
                    and link.target_id
                    and (item.verify_target or link.state == "reserved")
                ):
                    by_id[link.target_scope].append(number)
                continue
            scope = image.scope if image.scope is not None else ""
            if needs_first_contact(link):
                keys[number] = tuple(image.key.values())
                by_key[scope].append(number)
                if link is not None and link.state == "reserved" and link.target_id:
                    by_id[link.target_scope].append(number)
            elif link is not None and link.target_id and (item.verify_target or link.state == "reserved"):
                by_id[link.target_scope].append(number)
        for scope, numbers in by_id.items():
            await self._read(work, scope, numbers, items, seen)
        for scope, numbers in by_key.items():
            await self._find(work, scope, numbers, keys, items, seen)
        return seen

    async def _read(
        self, work: TargetWork, scope: str, numbers: list[int], items: Sequence[Claimed], seen: list[Seen]
    ) -> None:
        size = work.capabilities.read_batch
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            ids = [link.target_id or "" for number in part if (link := items[number].link) is not None]
            records = await work.system.connector.read(work.queue.target_entity, scope, ids)
            for number, record in zip(part, records, strict=True):
                seen[number] = Seen(read=True, record=record)

    async def _find(
        self,
        work: TargetWork,
        scope: str,
        numbers: list[int],
        keys: list[tuple[Any, ...]],
        items: Sequence[Claimed],
        seen: list[Seen],
    ) -> None:
        fields = work.target.key_fields
        listing = None
        # A repeated create is looked up live: the listing of this run may be older than what was sent.
        fresh = [number for number in numbers if items[number].link is None]
        many = len(fresh) > work.capabilities.find_batch
        if self._keep and (many or (work.queue.flow, work.name, scope) in self._listings):
            async with self._locks[work.queue.flow, work.name, scope]:
                listing = await self._listing(work, scope)
        rest = numbers
        if listing is not None:
            await self._from_listing(work, scope, listing, fresh, keys, seen)
            rest = [number for number in numbers if items[number].link is not None]
        size = work.capabilities.find_batch
        for start in range(0, len(rest), size):
            part = rest[start : start + size]
            hits = await work.system.connector.find(
                work.queue.target_entity, scope, fields, [keys[number] for number in part]
            )
            for number, found in zip(part, hits, strict=True):
                seen[number].hits = found

    async def _listing(self, work: TargetWork, scope: str) -> KeyListing | None:
        """The key listing of this run; None where the product could not give a whole one."""
        name = (work.queue.flow, work.name, scope)
        known = self._listings.get(name)
        if known is not None:
            return known
        (number,) = await self._database.rows("read_number_next")
        listing = KeyListing(scan=number[0], empty=True)
        complete = False
        async for page in work.system.connector.keys(work.queue.target_entity, scope, work.target.key_fields):
            rows = [
                {"id": record, "key": key_text(dict(zip(work.target.key_fields, values, strict=True)))}
                for record, values in zip(page.ids, page.values, strict=True)
            ]
            if rows:
                listing.empty = False
                await self._database.rows("target_keys_add", scan=listing.scan, rows=encode(rows).decode())
            complete = page.complete
        if not complete:
            await self._database.rows("scan_keys_drop", scan=listing.scan)
            return None
        self._listings[name] = listing
        return listing

    async def _from_listing(
        self,
        work: TargetWork,
        scope: str,
        listing: KeyListing,
        numbers: list[int],
        keys: list[tuple[Any, ...]],
        seen: list[Seen],
    ) -> None:
        for number in numbers:
            seen[number].hits = []
        if listing.empty or not numbers:
            return
        fields = work.target.key_fields
        wanted = [
            {"n": number, "key": key_text(dict(zip(fields, keys[number], strict=True)))} for number in numbers
        ]
        rows = await self._database.rows("target_keys_find", scan=listing.scan, rows=encode(wanted).decode())
        matches: dict[int, list[str]] = defaultdict(list)
        for row in rows:
            matches[row.n].append(row.record)
        if not matches:
            return
        # The documents of the hits are read now, so that an adoption writes only what differs.
        ids = sorted({record for records in matches.values() for record in records})
        documents: dict[str, Found | None] = {}
        size = work.capabilities.read_batch
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            found = await work.system.connector.read(work.queue.target_entity, scope, part)
            documents.update(zip(part, found, strict=True))
        for number, records in matches.items():
            seen[number].hits = [record for each in records if (record := documents[each]) is not None]

    async def close(self) -> None:
        """Forget the listings."""
        for listing in self._listings.values():
            await self._database.rows("scan_keys_drop", scan=listing.scan)
        self._listings.clear()


def _keyless(image: Mapped) -> bool:
    return any(value is None or value in {"", NOT_MADE_YET} for value in image.key.values())
