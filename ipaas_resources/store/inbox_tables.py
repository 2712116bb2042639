"""The tables of inbound webhooks: who may send, what was delivered, and which deliveries were seen before."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from ipaas_resources.store.metadata import metadata

_now = sa.text("now()")
_time = sa.DateTime(timezone=True)

subscriptions = sa.Table(
    "subscriptions",
    metadata,
    # The last part of the URL that a product sends to. It may be known to anybody: the proof is the secret's.
    sa.Column("subscription", sa.Text, primary_key=True),
    sa.Column("system", sa.Text, nullable=False),
    sa.Column("entity", sa.Text, nullable=False, server_default=""),  # '': every entity of the system
    sa.Column("scope", sa.Text, nullable=False, server_default=""),  # '': every scope
    sa.Column("proof", sa.Text, nullable=False),  # one of the kinds that the connector's webhooks.py knows
    # References (env:NAME, file:PATH), never secrets. Both are live while a secret is being changed.
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("secret_old", sa.Text),
    sa.Column("state", sa.Text, nullable=False, server_default="active"),  # active | retired
    # A validation handshake is answered until then: it echoes what a stranger sends, so it is open only on purpose.
    sa.Column("handshake_until", _time),
    sa.Column("created_at", _time, nullable=False, server_default=_now),
    # What the product knows of it, where the platform made it there (`managed`).
    sa.Column("product_id", sa.Text),
    sa.Column("resource", sa.Text),
    sa.Column("etag", sa.Text),
    sa.Column("expires_at", _time),
    sa.Column("checked_at", _time),  # when the product last said that it is there
    sa.Column("error", sa.Text),  # why it could not be made, renewed or looked at
    sa.Column("managed", sa.Boolean, nullable=False, server_default=sa.false()),
)

inbox = sa.Table(
    "inbox",
    metadata,
    # No foreign key: one delivery to a subscription that has just gone must not undo the whole group.
    sa.Column("delivery", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("subscription", sa.Text, nullable=False),
    # Bytes as they came: jsonb and text refuse some of what senders send.
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("headers", JSONB, nullable=False),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("received_at", _time, nullable=False, server_default=_now),
    sa.Column("state", sa.Text, nullable=False, server_default="due"),  # due | done | ignored | dead
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
    sa.Index("inbox_due_idx", "delivery", postgresql_where=sa.text("state = 'due'")),
    postgresql_with={
        "fillfactor": "90",
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_threshold": "1000",
        "autovacuum_vacuum_insert_scale_factor": "0.05",
        "autovacuum_vacuum_cost_delay": "1",
    },
)

inbox_keys = sa.Table(
    "inbox_keys",
    metadata,
    # Outlives the payloads: senders repeat a delivery for up to 75 hours.
    sa.Column("subscription", sa.Text, primary_key=True),
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("received_at", _time, nullable=False, server_default=_now),
    sa.CheckConstraint("octet_length(key) = 16", name="key_size"),
    sa.Index("inbox_keys_received_at_idx", "received_at", postgresql_using="brin"),
)
