"""The test sandbox: what a flow makes of one record, field by field, and whether that would be written.

Nothing is written in any system and nothing is stored, the mirror and schema snapshots included. What it asks of the
systems are reads: a record that the mirror does not have, and with `plan` the target's record of the same key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ipaas_assets.sync.drafts import DraftFlow, RulePlace, check_target, find_rule, flow_of, with_rule
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.lookup import FirstContact, References
from ipaas_assets.sync.mapping import map_batch
from ipaas_assets.sync.masking import MASK, Masking
from ipaas_assets.sync.model import Decision, TargetWork
from ipaas_assets.sync.plan import decide
from ipaas_assets.sync.source_record import Origin, SourceRecord, given_record, stored_record
from ipaas_resources.core.errors import ConfigurationError, IpaasError
from ipaas_resources.core.schema import EntitySchema
from ipaas_resources.core.values import Document, Value
from ipaas_resources.store import queue
from ipaas_resources.store.queue import Claimed
from mappings.checking.validate import validate
from mappings.faults import Fault
from mappings.spec import Flow
from mappings.tracing.trace import trace_target
from mappings.tracing.traced import FieldTrace, LinesTrace, TargetTrace
from mappings.transforms.ref import SCOPE_FIELD

#: A reference may hang on another one; each round reads the links that the round before asked for.
_ROUNDS = 4


class Ask(msgspec.Struct, kw_only=True):
    """What to look at. Either `document` or `record` is given."""

    flow: str
    document: Mapping[str, Value] | None = None  # a record that a person typed
    record: str | None = None  # the id of a source record
    scope: str | None = None
    target: str | None = None  # None: all
    field: str | None = None  # None: all
    draft: str | None = None  # a rule for `field`, as YAML
    text: str | None = None  # a whole flow, as YAML
    file: str = "the draft"  # what faults call `text`
    version: int | None = None  # None: the active one
    plan: bool = False
    show_personal: bool = False


class Would(msgspec.Struct, kw_only=True):
    """What a run would do with the record now."""

    outcome: str  # as runs count it (created, updated, no_change ...), "unknown" where it cannot be told
    changes: dict[str, list[Any]] = {}  # field -> [before, after]
    reason: str = ""


class TargetResult(msgspec.Struct, kw_only=True):
    """One target."""

    trace: TargetTrace
    #: What saving the draft would refuse; of a version that is active, what its systems no longer have.
    faults: list[Fault]
    would: Would | None = None  # None: not asked for
    masked: bool = False  # some values are not shown


class SandboxResult(msgspec.Struct, kw_only=True):
    """What one record makes."""

    flow: str
    version: int | None  # None: a draft
    system: str
    entity: str
    scope: str
    record: str
    origin: Origin
    deleted: bool
    changed_ago: float | None  # seconds
    read_ago: float | None  # seconds
    bad: list[str]  # why the run would set the record aside before mapping
    notes: list[str]
    document: Document
    masked: bool  # True: some values are not shown
    targets: list[TargetResult]


async def sandbox(engine: Engine, ask: Ask) -> SandboxResult:
    """Look at what a flow makes of one record.

    Raises:
        ConfigurationError: something that was asked for does not exist. FlowErrors: the draft has faults.
        MissingRecordError: there is no such record. RetryError: the record's system does not answer.
    """
    flow, version, place = await _flow(engine, ask)
    source = flow.source
    schemas = {(source.system, source.entity): await engine.known_schema(source.system, source.entity)}
    for target in flow.targets.values():
        key = (target.system, target.entity)
        if key not in schemas:
            schemas[key] = await engine.known_schema(*key)
    active = engine.flows.get(flow.flow)
    draft = DraftFlow(flow, version=version or (active.stored.version + 1 if active is not None else 1))
    bench = engine.assuming(schemas).drafted({flow.flow: draft}, {})
    own = schemas[source.system, source.entity]
    if ask.document is not None:
        record = await given_record(bench, source, own, ask.document, ask.scope)
    elif ask.record is not None:
        record = await stored_record(bench, source, own, ask.record, ask.scope)
    else:
        raise ConfigurationError(
            "There is no record to look at. Give one with --record, or its id with --id."
        )
    look = _Look(bench, draft, record, own, ask)
    chosen = place.target if place is not None else ask.target
    targets = [
        await look.at(work, place)
        for work in await bench.works(draft)
        if chosen is None or work.queue.target == chosen
    ]
    masking = Masking(own, own, show_personal=ask.show_personal)
    shown = masking.document(record.document)
    return SandboxResult(
        flow=flow.flow,
        version=version,
        system=source.system,
        entity=source.entity,
        scope=record.scope,
        record=record.record,
        origin=record.origin,
        deleted=record.deleted,
        changed_ago=record.changed_ago,
        read_ago=record.read_ago,
        bad=list(record.bad),
        notes=[*record.notes, *(["the record was deleted in the source"] if record.deleted else [])],
        document=shown,
        masked=masking.applied or any(target.masked for target in targets),
        targets=targets,
    )


async def _flow(engine: Engine, ask: Ask) -> tuple[Flow, int | None, RulePlace | None]:
    """The flow, its version, and the place of the rule that is asked for."""
    flow, version = await flow_of(engine, ask.flow, version=ask.version, text=ask.text, file=ask.file)
    check_target(flow, ask.target)
    if ask.field is None:
        if ask.draft is not None:
            raise ConfigurationError("A draft of a rule needs its field. Name it with --rule.")
        return flow, version, None
    place = find_rule(flow, ask.field, ask.target, may_be_new=ask.draft is not None)
    if ask.draft is not None:
        return with_rule(flow, place, ask.draft), None, place
    return flow, version, place


class _Look:
    """One record, looked at for each target."""

    def __init__(
        self, engine: Engine, draft: DraftFlow, record: SourceRecord, schema: EntitySchema, ask: Ask
    ) -> None:
        self._engine = engine
        self._flow = draft.compiled.flow
        self._draft = draft
        self._record = record
        self._schema = schema
        self._ask = ask

    async def at(self, work: TargetWork, place: RulePlace | None) -> TargetResult:
        masking = Masking(self._schema, work.schema, show_personal=self._ask.show_personal)
        trace = await self._trace(work)
        if place is not None:
            trace = _only(trace, place)
        would = await self._would(work, masking) if self._ask.plan else None
        return TargetResult(
            trace=masking.trace(trace),
            faults=self._faults(work, place),
            would=would,
            masked=masking.applied
            or (would is not None and any(MASK in pair for pair in would.changes.values())),
        )

    async def _trace(self, work: TargetWork) -> TargetTrace:
        """Rules run without waiting: the links that they ask for are read in between."""
        references = References(self._engine.lookups)
        for _ in range(_ROUNDS):
            trace = trace_target(
                self._flow,
                work.queue.target,
                self._record.document,
                scope=self._record.scope,
                record=self._record.record,
                resolver=references.at(self._record.scope),
                schema=work.schema,
                source_schema=self._schema,
            )
            if not await references.fetch(self._engine.database, work, self._engine.sides()):
                break
        return trace

    def _faults(self, work: TargetWork, place: RulePlace | None) -> list[Fault]:
        """What a save would say about this target."""
        found = validate(
            self._draft.compiled,
            self._schema,
            {work.queue.target: work.schema},
            lookups=self._engine.lookups,
            flows={name: flow.compiled.flow for name, flow in self._engine.flows.items()},
        )
        own = f"targets.{work.queue.target}."
        paths = (own,) if place is not None else (own, "when", "source", "reverse_of")
        return [
            fault
            for fault in found
            if fault.path.startswith(paths) and (place is None or _is_about(fault.path, place))
        ]

    # --- the engine's own plan ------------------------------------------------------------------------------------

    async def _would(self, work: TargetWork, masking: Masking) -> Would:
        masked = masking.fields({field: (*sources,) for field, sources in work.target.lineage.items()})
        work = msgspec.structs.replace(work, masked=masked)
        try:
            return _told(await self._decide(work), masked)
        except IpaasError as error:
            # The sandbox is about the rules: a system that does not answer is said, and does not end it.
            return Would(outcome="unknown", reason=f"It cannot be told: {error.message}")

    async def _decide(self, work: TargetWork) -> Decision:
        record = self._record
        item = Claimed(
            scope=record.scope,
            record=record.record,
            generation=0,
            attempts=0,
            verify_target=False,
            intent=None,
            trace_id="",
            document=record.document,
            deleted=record.deleted,
            link=None,
            bad=(record.bad_code, "; ".join(record.bad)) if record.bad_code else None,
        )
        database = self._engine.database
        if record.record:
            (item.link,) = await queue.known_links(database, work.queue, [(record.scope, record.record)])
        references = References(self._engine.lookups)
        images = await map_batch(database, work, [item], references, self._engine.sides())
        (seen,) = await FirstContact(database, keep=False).look(work, [item], images)
        return decide(work, item, images[0], seen)


def _told(decision: Decision, masked: frozenset[str]) -> Would:
    changes = decision.changes or {}
    operation = decision.operation
    if decision.outcome == "created" and operation is not None:
        changes = {
            name: [None, MASK if name in masked else value] for name, value in operation.fields.items()
        }
        changes |= {
            name: [None, {"created": len(writes.create), "updated": 0, "deleted": 0}]
            for name, writes in operation.lines.items()
        }
        changes |= {
            name: [None, MASK if name in masked else file.to_value()]
            for name, file in operation.files.items()
        }
    reason = decision.reason or (decision.error.message if decision.error is not None else "")
    return Would(outcome=decision.outcome.value, changes=changes, reason=reason)


def _only(trace: TargetTrace, place: RulePlace) -> TargetTrace:
    """The trace of one rule."""

    def kept(fields: list[FieldTrace]) -> list[FieldTrace]:
        return [field for field in fields if field.field == place.label]

    def lines_of(lines: LinesTrace) -> LinesTrace:
        return msgspec.structs.replace(
            lines, lines=[msgspec.structs.replace(line, fields=kept(line.fields)) for line in lines.lines]
        )

    return msgspec.structs.replace(
        trace,
        scope=trace.scope if place.field == SCOPE_FIELD else None,
        fields=kept(trace.fields),
        lines=[lines_of(lines) for lines in trace.lines if lines.field == place.lines],
    )


def _is_about(path: str, place: RulePlace) -> bool:
    """True for a fault's path that leads to this rule."""
    start = f"targets.{place.target}."
    if place.field == SCOPE_FIELD:
        return path.startswith(f"{start}scope")
    inside = f"lines.{place.lines}." if place.lines else ""
    ends = tuple(f"{start}{inside}{part}.{place.field}" for part in ("fields", "key"))
    return any(path == end or path.startswith(f"{end}.") for end in ends)
