"""Identities that we derive: the same input gives the same id on every machine, for ever."""

from __future__ import annotations

import uuid

# Fixed for ever: a new value would give every record of every installation a second identity in its targets.
_NAMESPACE = uuid.UUID("6f1f7c1a-6d0b-5f0e-9a55-2f6b8f3f7c11")


def derived_guid(flow: str, target: str, scope: str, record: str) -> str:
    """The id of the target record that (flow, target, scope, record) makes, for entities created by `client_key`.

    A repeated create meets the record of the first attempt, whatever was lost in between.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{flow}\x1f{target}\x1f{scope}\x1f{record}"))
