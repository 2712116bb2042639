"""Which process works on a run, written on the run itself, so that a run whose process died can be told from a long one.

Without it a run that was going on when the machine stopped counts as going on for ever: its pool stays taken and its
flow is never polled again.
"""

from __future__ import annotations

import os
import socket
from typing import Final

import psutil

WORKER_TAG: Final = "ipaas/worker"


def this_worker() -> str:
    """host/process id/start of the process (POSIX time, for ids are used again)."""
    process = psutil.Process(os.getpid())
    return f"{socket.gethostname()}/{process.pid}/{process.create_time():.2f}"


def is_alive(worker: str) -> bool | None:
    """Whether this process still runs; None for a process of another machine, of which nothing is known here."""
    host, _, rest = worker.rpartition("/")[0].rpartition("/")
    created = worker.rpartition("/")[2]
    if host != socket.gethostname():
        return None
    try:
        process = psutil.Process(int(rest))
        return f"{process.create_time():.2f}" == created and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):
        return False
    except psutil.AccessDenied:
        return None
