"""Starts the platform's database and ends: `python -m console.start_database`.

The supervisor runs it when the embedded server has gone: a process that saw it killed may not start it again, a fresh
one can. The server outlives this process.
"""

from __future__ import annotations

import sys

from console.cli.opening import say
from ipaas_resources.core.errors import IpaasError
from ipaas_resources.settings import load_settings
from ipaas_resources.store.server import open_server


def main() -> int:
    """Exit code 0: it runs."""
    try:
        open_server(load_settings(), say).start()
    except IpaasError as error:
        say(error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
