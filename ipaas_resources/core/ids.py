"""Identities that we derive: the same input gives the same id on every machine, for ever."""

from __future__ import annotations

import hashlib

# Fixed for ever: a new value would give every record of every installation a second identity in its targets.
_NAMESPACE = bytes.fromhex("6f1f7c1a6d0b5f0e9a552f6b8f3f7c11")


def derived_guid(flow: str, target: str, scope: str, record: str) -> str:
    """The id of the target record that (flow, target, scope, record) makes, for entities created by `client_key`.

    A repeated create meets the record of the first attempt, whatever was lost in between.
    """
    # uuid5 by hand: the class costs three times the digest, once per created record.
    name = f"{flow}\x1f{target}\x1f{scope}\x1f{record}"
    digest = hashlib.sha1(_NAMESPACE + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"
