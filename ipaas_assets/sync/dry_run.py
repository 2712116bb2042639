"""The dry run: what a run would write, from the same plan. It stores nothing and sends no writing call."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.lookup import NOT_MADE_YET, FirstContact, References
from ipaas_assets.sync.mapping import map_batch
from ipaas_assets.sync.model import Mode, TargetWork
from ipaas_assets.sync.plan import MASK, decide
from ipaas_assets.sync.remap import differing
from ipaas_assets.sync.rows import Row, Source, changed_rows, prepare
from ipaas_resources.core.errors import ContractError, CursorExpiredError
from ipaas_resources.core.records import ChangeKind, Cursor
from ipaas_resources.core.values import decode, encode
from ipaas_resources.store import queue
from ipaas_resources.store.queue import Claimed
from mappings.mapped import LinkHit

_CHUNK = 1000

#: The outcome of a plan in the words of a dry run.
_WOULD = {
    "created": "create",
    "adopted": "adopt",
    "updated": "update",
    "deleted": "delete",
    "deactivated": "deactivate",
    "no_change": "skip",
    "filtered": "skip",
    "parked": "wait",
    "dead": "set_aside",
    "review": "review",
}


class Planned(msgspec.Struct, kw_only=True):
    """What would happen to one record."""

    target: str
    scope: str
    record: str
    would: str
    changes: dict[str, list[Any]]  # field -> [before, after], personal and secret values masked
    reason: str = ""


class DryRunResult(msgspec.Struct, kw_only=True):
    """What a run of the flow would do now."""

    flow: str
    mode: str
    counts: dict[str, Counter[str]]  # target -> would -> records
    samples: list[Planned]
    reads: int
    read: int  # records that the source gave
    known: int  # mirrored records that were compared with what another version writes


class DryRun:
    """Plans a run of one flow."""

    def __init__(
        self,
        engine: Engine,
        flow: str,
        *,
        mode: Mode = "incremental",
        samples: int = 20,
        remap: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """`remap`: plan also what activating this version raises, for a version that is not active yet."""
        self._engine = engine
        self._flow = engine.flow(flow)
        self._mode = mode
        self._most = samples
        self._remap = remap
        self._progress = progress
        self._counts: dict[str, Counter[str]] = {}
        self._samples: list[Planned] = []
        self._read = self._known = 0
        #: Links that the run would have made by the time it comes to the targets that refer to them.
        self._coming: dict[tuple[str, ...], LinkHit] = {}

    async def run(self) -> DryRunResult:
        """Plan everything that is new in the source or waits in the queue."""
        engine = self._engine
        works = await engine.works(self._flow)
        self._counts = {work.queue.target: Counter() for work in works}
        calls = engine.calls["read"]
        first_contact = FirstContact(engine.database, keep=False)
        source = self._flow.compiled.flow.source
        planned: set[tuple[str, str, str]] = set()  # target, scope, record
        for scope in await engine.scopes(source.system, source.scopes):
            async for items in self._news(await engine.source(source.system, source.entity, scope)):
                for work in works:
                    await self._plan(work, items, first_contact, planned)
            for work in works:
                async for items in self._waiting(work, scope):
                    await self._plan(work, items, first_contact, planned)
        if self._remap:
            async for page in differing(engine, self._flow, works):
                self._known += page.read
                self._tell()
                for work in works:
                    await self._plan(work, page.differing[work.queue.target], first_contact, planned)
        return DryRunResult(
            flow=self._flow.name,
            mode=self._mode,
            counts=self._counts,
            samples=self._samples,
            reads=engine.calls["read"] - calls,
            read=self._read,
            known=self._known,
        )

    async def _news(self, source: Source) -> AsyncIterator[list[Claimed]]:
        """Source records that differ from the mirror, a page at a time."""
        state = await self._engine.database.rows(
            "entity_state_read", system=source.system.name, scope=source.scope, entity=source.entity
        )
        cursor: Cursor | None = decode(state[0].cursor.encode()) if state and state[0].cursor else None
        if self._mode == "full":
            cursor = None
        try:
            async for items in self._pages(source, cursor):
                yield items
        except CursorExpiredError:
            async for items in self._pages(source, None):
                yield items

    async def _pages(self, source: Source, cursor: Cursor | None) -> AsyncIterator[list[Claimed]]:
        capabilities = source.system.connector.manifest.capabilities(source.entity)
        volatile = frozenset(field.name for field in source.schema.fields if field.volatile)
        secret = frozenset(field.name for field in source.schema.fields if field.sensitivity == "secret")
        ordered = capabilities.versions == "ordered"
        pages = source.system.connector.changes(
            source.entity, source.scope, cursor, page_size=capabilities.page_size
        )
        async for page in pages:
            # An ordered version is compared; an opaque read is the newest there is.
            rows = prepare(page.changes, 2**62, volatile, secret)
            self._read += len(rows)
            self._tell()
            news = await changed_rows(self._engine.database, source, rows, ordered=ordered)
            good = self._good_rows(source, news)
            items = [_item(source.scope, row.id, row.doc, deleted=False) for row in good]
            items += [
                _item(source.scope, change.id, None, deleted=True)
                for change in page.changes
                if change.kind is ChangeKind.DELETE and change.id is not None
            ]
            yield items

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._read + self._known)

    def _good_rows(self, source: Source, news: list[Row]) -> list[Row]:
        bad = source.contract.check([row.doc for row in news])
        for index, violations in bad.items():
            for target in self._counts:
                self._note(
                    Planned(
                        target=target,
                        scope=source.scope,
                        record=news[index].id,
                        would="set_aside",
                        changes={},
                        reason=f"{ContractError.code}: field {violations[0].field!r}: {violations[0].reason}",
                    )
                )
        return [row for number, row in enumerate(news) if number not in bad]

    async def _waiting(self, work: TargetWork, scope: str) -> AsyncIterator[list[Claimed]]:
        """Items that wait in the queue already."""
        after = ""
        while True:
            rows = await self._engine.database.rows(
                "items_waiting",
                flow=work.queue.flow,
                target=work.queue.target,
                scope=scope,
                after=after,
                chunk=_CHUNK,
                system=work.queue.source_system,
                entity=work.queue.source_entity,
            )
            if not rows:
                return
            after = rows[-1].record
            yield [
                _item(
                    scope,
                    row.record,
                    decode(row.document.encode()) if row.document else None,
                    deleted=row.deleted,
                )
                for row in rows
            ]

    async def _plan(
        self,
        work: TargetWork,
        items: list[Claimed],
        first_contact: FirstContact,
        planned: set[tuple[str, str, str]],
    ) -> None:
        """Plan these records, but for those that were planned already: the newest document came first."""
        target = work.queue.target
        items = [item for item in items if (target, item.scope, item.record) not in planned]
        planned.update((target, item.scope, item.record) for item in items)
        for start in range(0, len(items), _CHUNK):
            part = items[start : start + _CHUNK]
            links = await queue.known_links(
                self._engine.database, work.queue, [(item.scope, item.record) for item in part]
            )
            for item, link in zip(part, links, strict=True):
                item.link = link
            references = References(self._engine.lookups, self._coming)
            mapped = await map_batch(self._engine.database, work, part, references, self._engine.sides())
            seen = await first_contact.look(work, part, mapped)
            for item, image, look in zip(part, mapped, seen, strict=True):
                decision = decide(work, item, image, look)
                if decision.reserve and decision.operation is not None:
                    self._coming[self._flow.name, target, item.scope, item.record] = LinkHit(
                        scope=decision.target_scope, id=decision.operation.id or NOT_MADE_YET
                    )
                changes = decision.changes or {}
                if decision.outcome == "created" and decision.operation is not None:
                    changes = {
                        name: [None, MASK if name in work.masked else value]
                        for name, value in decision.operation.fields.items()
                    }
                told = decision.error or decision.ask
                reason = decision.reason or (told.message if told is not None else "")
                self._note(
                    Planned(
                        target=work.queue.target,
                        scope=item.scope,
                        record=item.record,
                        would=_WOULD[decision.outcome.value],
                        changes=changes,
                        reason=reason,
                    )
                )

    def _note(self, planned: Planned) -> None:
        self._counts[planned.target][planned.would] += 1
        if len(self._samples) < self._most and planned.would != "skip":
            self._samples.append(planned)


def _item(scope: str, record: str, document: Any, *, deleted: bool) -> Claimed:
    return Claimed(
        scope=scope,
        record=record,
        generation=0,
        attempts=0,
        verify_target=False,
        intent=None,
        trace_id="",
        # The form that the mirror would give back, so that both runs map the same.
        document=None if document is None else decode(encode(document)),
        deleted=deleted,
        link=None,
    )
