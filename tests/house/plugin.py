"""A pytest plugin, loaded with `-p` for every test, the connectors' own tests included.

No test of this repository talks to anything but this machine. The guard listens to Python's audit events, so it sees
every connection that Python code makes, whatever library is in between. It does not see libpq (psycopg2 and synchronous
psycopg connect in C), uvloop, and the processes that a test starts.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys

import hypothesis
from sqlalchemy.engine import make_url

# A deadline per example measures the machine, not the code: two cores that others use, too.
hypothesis.settings.register_profile("house", deadline=None, print_blob=True)
hypothesis.settings.load_profile("house")


class NetworkClosedError(RuntimeError):
    """No OSError, for a connector would take that for a system that is down and try again."""


def _allowed_names() -> set[str]:
    names = {"", "localhost", "localhost.localdomain", "0.0.0.0", "::"}
    if url := os.environ.get("IPAAS_TEST_DATABASE_URL"):
        names.add(make_url(url).host or "")
    return names


_NAMES = _allowed_names()


def is_here(host: object) -> bool:
    if host is None:
        return True
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name in _NAMES or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _refuse(host: object) -> None:
    if not is_here(host):
        raise NetworkClosedError(
            f"A test tried to reach {host}: tests may talk to this machine only, use the connector's fake or the simulator."
        )


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        _socket, address = arguments
        # An address of a Unix socket is a path; other families (netlink, packet) do not leave the machine.
        if isinstance(address, tuple) and _socket.family in {socket.AF_INET, socket.AF_INET6}:
            _refuse(address[0])
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        _refuse(arguments[0])


sys.addaudithook(_watch)
