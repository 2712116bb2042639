"""Where a connection may send: one scheme, host and port, whatever link an answer holds."""

from __future__ import annotations

import re

import httpx

from ipaas_resources.core.errors import ConfigurationError, ProtocolError

_PORTS = {"http": 80, "https": 443}
_ABSOLUTE = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//|^[A-Za-z][A-Za-z0-9+.-]*:(?=/)")
_KEY = re.compile(r"\([^()]*\)")
_IDENTIFIER = re.compile(r"^(?:\d+|[0-9a-fA-F-]{32,36})$")


def _place(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host.rstrip("."), url.port or _PORTS.get(url.scheme)


class Origin:
    """The base address of a system, and the check that a link stays with its host."""

    def __init__(self, system: str, base_url: str) -> None:
        """Pin a system to its address.

        Raises:
            ConfigurationError: not an http(s) address, or one that holds a user name, a query or a fragment.
        """
        self._system = system
        try:
            url = httpx.URL(base_url)
        except (httpx.InvalidURL, TypeError):
            url = httpx.URL("")
        if url.scheme not in _PORTS or not url.host or url.userinfo or url.query or url.fragment:
            message = (
                f"The address of system {system} is not a plain http or https address; "
                "correct it in the system document (credentials go under `secrets`)."
            )
            raise ConfigurationError(message)
        self._place = _place(url)
        self._base = str(url).rstrip("/")
        self._base_path = url.path.rstrip("/")

    def resolve(self, url: str) -> httpx.URL:
        """The full address of a path below the base, or of an absolute link of the same scheme, host and port.

        Raises:
            ProtocolError: the link leaves the system: nothing is sent, for the credentials would go along.
        """
        if _ABSOLUTE.match(url) is None:
            if "/../" in f"/{url.partition('?')[0]}/":
                raise ProtocolError(
                    f"A path of system {self._system} climbs above its base; nothing was sent."
                )
            url = f"{self._base}/{url.lstrip('/')}" if url else self._base
        try:
            resolved = httpx.URL(url)
        except httpx.InvalidURL:
            raise ProtocolError(f"A link of system {self._system} is no address; nothing was sent.") from None
        if _place(resolved) != self._place or resolved.userinfo:
            message = (
                f"A link of system {self._system} leads to another host; nothing was sent. "
                "Check the system's address, or report it to the vendor."
            )
            raise ProtocolError(message)
        return resolved

    def endpoint(self, url: httpx.URL) -> str:
        """A name for logs of a request whose caller gave none: no query, no keys, no ids."""
        path = url.path.removeprefix(self._base_path).strip("/")
        parts = _KEY.sub("(..)", path).split("/")
        return "/".join("{id}" if _IDENTIFIER.match(part) else part for part in parts)
