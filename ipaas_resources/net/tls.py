"""How the other side proves who it is. There is no switch that turns this off."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

import certifi

from ipaas_resources.core.errors import ConfigurationError


def trust(ca_file: str | None = None) -> ssl.SSLContext:
    """The verification of servers: the machine's and certifi's authorities, and one more from a PEM file.

    Raises:
        ConfigurationError: the file cannot be read or holds no certificate.
    """
    if ca_file is None:
        return _context(None, 0)
    try:
        changed = Path(ca_file).stat().st_mtime_ns
        # The time of change is part of the key: an authority that was made anew at the same place counts at once.
        return _context(ca_file, changed)
    except (OSError, ssl.SSLError):
        message = (
            f"The certificate authority {ca_file} cannot be read as a PEM file; correct its path or content."
        )
        raise ConfigurationError(message) from None


@functools.lru_cache(maxsize=16)
def _context(ca_file: str | None, _changed: int) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
