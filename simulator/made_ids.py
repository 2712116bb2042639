"""Identities of made-up records: the same on every machine, so that a test can name a record."""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("b2a5d6a0-5f0c-5c6e-8f29-0e3a6c2c8d11")


def made_guid(*parts: str) -> str:
    """The id of the record that these words name, lower case."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))
