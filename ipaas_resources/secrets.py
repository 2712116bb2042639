"""Secret references of system documents: resolved at each use, never stored, never shown."""

from __future__ import annotations

import os
from pathlib import Path

from ipaas_resources.core.errors import ConfigurationError


def resolve_secret(reference: str, *, system: str, name: str) -> str:
    """The value behind `env:NAME` or `file:PATH`.

    Raises:
        ConfigurationError: the reference has another form, or nothing stands behind it. It names the reference only.
    """
    kind, _, place = reference.partition(":")
    if kind == "env" and place:
        value = os.environ.get(place)
        if value:
            return value
        raise ConfigurationError(
            f"System {system!r}: secret {name!r} refers to the environment variable {place}, which is not set. "
            "Set it where the platform starts."
        )
    if kind == "file" and place:
        try:
            value = Path(place).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(
                f"System {system!r}: secret {name!r} refers to a file that cannot be read ({error.strerror}). "
                "Check the path and its permissions."
            ) from error
        if value:
            return value
        raise ConfigurationError(f"System {system!r}: the file behind secret {name!r} is empty.")
    raise ConfigurationError(
        f"System {system!r}: secret {name!r} must be a reference such as env:NAME or file:PATH, "
        "for secrets themselves do not belong in documents."
    )
