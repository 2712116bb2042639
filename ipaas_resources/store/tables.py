"""The platform's tables. The registry says what is wanted, the state tables what is known, the queue what is to do.

Every table that speaks of records carries `scope` in its key: the same number in two companies is two records.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from ipaas_resources.store import (  # noqa: F401 - their tables belong to the same metadata
    inbox_tables,
    limits_tables,
    live_tables,
)
from ipaas_resources.store.metadata import metadata

_now = sa.text("now()")
_time = sa.DateTime(timezone=True)


def _queue(fillfactor: int) -> dict[str, str]:
    """Storage settings of tables whose rows are rewritten all day: room for HOT updates, eager vacuum."""
    return {
        "fillfactor": str(fillfactor),
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_threshold": "1000",
        "autovacuum_vacuum_cost_delay": "1",
    }


def _version_columns() -> list[sa.Column[Any]]:
    """What is kept of every version of a document; versions are inserted and read, by privilege never changed."""
    return [
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),  # as it was written: `export` gives it back byte for byte
        sa.Column(
            "file", sa.Text, nullable=False, server_default=""
        ),  # the file's name, where it came from one
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),  # file | console | api
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        # [{"op", "path", "before", "after"}, ...] against the version before, see mappings/difference.py
        sa.Column("diff", JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),
        sa.Column("created_at", _time, nullable=False, server_default=_now),
    ]


# --- registry ---------------------------------------------------------------------------------------------------

systems = sa.Table(
    "systems",
    metadata,
    sa.Column("system", sa.Text, primary_key=True),
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("document", JSONB, nullable=False),  # the parsed document; secrets are references
    sa.Column("text", sa.Text, nullable=False),  # as written, comments included
    sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("updated_at", _time, nullable=False, server_default=_now),
)

flows = sa.Table(
    "flows",
    metadata,
    # The row that a write's intent holds FOR SHARE and a switch of version takes FOR UPDATE.
    sa.Column("flow", sa.Text, primary_key=True),
    sa.Column("active_version", sa.Integer),
    #: The version for which every mirrored record was raised; another than the active one: that is still to be done.
    sa.Column("raised_version", sa.Integer),
    #: Which mirrored records are raised for it: changed (those it writes otherwise) | none | all.
    sa.Column("remap", sa.Text, nullable=False, server_default="changed"),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("source_system", sa.Text, nullable=False),
    sa.Column("source_entity", sa.Text, nullable=False),
    sa.Column("exclusive_group", sa.Text),
    sa.Column("updated_at", _time, nullable=False, server_default=_now),
)

flow_versions = sa.Table(
    "flow_versions",
    metadata,
    sa.Column("flow", sa.Text, sa.ForeignKey("flows.flow"), primary_key=True),
    *_version_columns(),
    # The version of the expression checker that let it pass; loading checks again with the one that runs.
    sa.Column("checker", sa.Integer, nullable=False, server_default="1"),
)

lookups = sa.Table(
    "lookups",
    metadata,
    sa.Column("lookup", sa.Text, primary_key=True),
    # The rows of the active version: mapping reads them for every batch.
    sa.Column("rows", JSONB, nullable=False),
    sa.Column("active_version", sa.Integer),
    sa.Column("updated_at", _time, nullable=False, server_default=_now),
)

lookup_versions = sa.Table(
    "lookup_versions",
    metadata,
    sa.Column("lookup", sa.Text, sa.ForeignKey("lookups.lookup"), primary_key=True),
    *_version_columns(),
)

schema_snapshots = sa.Table(
    "schema_snapshots",
    metadata,
    sa.Column("system", sa.Text, primary_key=True),
    sa.Column("entity", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("schema", JSONB, nullable=False),
    sa.Column("fingerprint", UUID(as_uuid=False), nullable=False),
    sa.Column("taken_at", _time, nullable=False, server_default=_now),
    sa.Column("seen_at", _time, nullable=False, server_default=_now),
)

# --- state ------------------------------------------------------------------------------------------------------

read_numbers = sa.Sequence("read_numbers", metadata=metadata)
fencing_tokens = sa.Sequence("fencing_tokens", metadata=metadata)

entity_state = sa.Table(
    "entity_state",
    metadata,
    sa.Column("system", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("entity", sa.Text, primary_key=True),
    sa.Column("cursor", JSONB),
    sa.Column("scan_number", sa.BigInteger),  # read number drawn at the start of the scan under way
    sa.Column("scan_full", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("lease_token", sa.BigInteger),
    sa.Column("lease_until", _time),
    sa.Column("last_pull_at", _time),  # end of the last scan without error
    sa.Column("last_complete_at", _time),  # end of the last complete enumeration
    sa.Column("last_error", sa.Text),
    # Adaptive polling: seconds between polls as they are now, when the next one is due, and why then.
    sa.Column("poll_interval", sa.Double),
    sa.Column("poll_due_at", _time),
    sa.Column("poll_failures", sa.Integer, nullable=False, server_default="0"),  # polls that failed in a row
    sa.Column("poll_reason", sa.Text),
    sa.Column(
        "poll_full", sa.Boolean, nullable=False, server_default=sa.false()
    ),  # the next one reads everything
    postgresql_with={"fillfactor": "50"},
)

mirror = sa.Table(
    "mirror",
    metadata,
    sa.Column("system", sa.Text, primary_key=True),
    sa.Column("entity", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("record", sa.Text, primary_key=True),
    sa.Column("document", JSONB, nullable=False),
    sa.Column("hash", UUID(as_uuid=False), nullable=False),
    sa.Column("etag", sa.Text),
    sa.Column(
        "ordering", sa.BigInteger, nullable=False
    ),  # ordered version, or the number of the read that saw it
    sa.Column("read_number", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()),
    # Why the document may not be used: it breaks its contract, or could not be read at all (the last good one stays).
    sa.Column("bad_code", sa.Text),
    sa.Column("bad_error", sa.Text),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("changed_at", _time, nullable=False, server_default=_now),
    postgresql_with=_queue(85),
)

scan_keys = sa.Table(
    "scan_keys",
    metadata,
    # What one complete listing saw, or the keys a target holds. UNLOGGED: a scan that a crash ended starts again.
    sa.Column("scan", sa.BigInteger, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("key", sa.Text),
    sa.Index("scan_keys_scan_record_idx", "scan", "record"),
    sa.Index("scan_keys_scan_key_idx", "scan", "key", postgresql_where=sa.text("key IS NOT NULL")),
    prefixes=["UNLOGGED"],
)

links = sa.Table(
    "links",
    metadata,
    sa.Column("flow", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("record", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),  # reserved | linked | deleted
    sa.Column("target_scope", sa.Text, nullable=False),
    sa.Column("target_id", sa.Text),
    sa.Column(
        "target_key", sa.Text
    ),  # natural key of the create; keeps two records from making the same target
    sa.Column("sent", JSONB, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("read_back", JSONB),  # values the target stored where they differ from what was sent
    sa.Column("lines", JSONB),  # per lines field: our line key -> [target line id, values sent]
    sa.Column("progress", JSONB),  # of a two-step upload
    sa.Column("etag", sa.Text),
    sa.Column("flow_version", sa.Integer, nullable=False),
    sa.Column("updated_at", _time, nullable=False, server_default=_now),
    # One target record belongs to one source record, and is found from either side. A deleted link gives its target id
    # and key up; `state` stands in no index, so that settling a link stays a HOT update.
    sa.Index(
        "links_target_idx",
        "flow",
        "target",
        "target_scope",
        "target_id",
        unique=True,
        postgresql_where=sa.text("target_id IS NOT NULL"),
    ),
    sa.Index(
        "links_target_key_idx",
        "flow",
        "target",
        "target_scope",
        "target_key",
        unique=True,
        postgresql_where=sa.text("target_key IS NOT NULL"),
    ),
    postgresql_with=_queue(80),
)

# --- queue ------------------------------------------------------------------------------------------------------

work_items = sa.Table(
    "work_items",
    metadata,
    sa.Column("flow", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("record", sa.Text, primary_key=True),
    sa.Column("target_system", sa.Text, nullable=False),
    sa.Column("target_entity", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="due"),  # due | parked | review | dead
    sa.Column("lane", sa.SmallInteger, nullable=False),  # 0 realtime, 1 polling, 2 batch
    sa.Column("generation", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("raised_at", _time, nullable=False, server_default=_now),
    sa.Column("due_at", _time, nullable=False, server_default=_now),
    sa.Column("lease_token", sa.BigInteger),
    sa.Column("lease_until", _time),
    sa.Column("lease_expiries", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("attempts", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("verify_target", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("intent", sa.BigInteger),  # the unresolved intent that may have written this record
    sa.Column("waits_for", sa.Text),  # flow.target of the link a parked item waits for
    sa.Column("waits_key", sa.Text),  # which link of it, see sync/waiting.py; null: whichever
    sa.Column("parked_since", _time),  # when it began to wait for that link
    sa.Column("trace_ids", ARRAY(sa.Text), nullable=False),
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
    sa.Index(
        "work_items_due_idx",
        "flow",
        "target",
        "lane",
        "due_at",
        postgresql_where=sa.text("state IN ('due', 'parked')"),
    ),
    sa.Index(
        "work_items_waits_for_idx",
        "waits_for",
        "waits_key",
        postgresql_where=sa.text("waits_for IS NOT NULL"),
    ),
    postgresql_with=_queue(60),
)

intents = sa.Table(
    "intents",
    metadata,
    sa.Column("intent", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("flow", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("flow_version", sa.Integer, nullable=False),
    sa.Column("lease_token", sa.BigInteger, nullable=False),
    sa.Column("lease_until", _time, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="open"),  # open | settled | unknown | resolved
    sa.Column("writes", JSONB, nullable=False),  # [[scope, record, kind, target id, body hash], ...]
    sa.Column("opened_at", _time, nullable=False, server_default=_now),
    sa.Column("closed_at", _time),
    sa.Index("intents_open_idx", "lease_until", postgresql_where=sa.text("state = 'open'")),
    sa.Index("intents_unknown_idx", "intent", postgresql_where=sa.text("state = 'unknown'")),
    postgresql_with=_queue(70),
)

# --- history ----------------------------------------------------------------------------------------------------

sync_events = sa.Table(
    "sync_events",
    metadata,
    # Append-only by privilege and by trigger, partitioned by month: retention drops a month, nothing deletes a row.
    sa.Column("at", _time, nullable=False, server_default=_now),
    sa.Column("flow", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("flow_version", sa.Integer, nullable=False),
    sa.Column("target_id", sa.Text),
    sa.Column("intent", sa.BigInteger),
    sa.Column("run", sa.BigInteger),
    sa.Column("trace_ids", ARRAY(sa.Text), nullable=False),
    sa.Column("changes", JSONB),  # field -> [before, after]; personal and secret values are masked
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
    sa.Index("sync_events_record_idx", "flow", "scope", "record", "at"),
    postgresql_partition_by="RANGE (at)",
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("flow", sa.Text, nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("started_at", _time, nullable=False, server_default=_now),
    sa.Column("ended_at", _time),
    sa.Column("counts", JSONB),
    sa.Column("error", sa.Text),
    sa.Index("runs_flow_started_at_idx", "flow", "started_at"),
)
