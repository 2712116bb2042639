"""The companies of an environment: our short scope names, resolved once to the product's id and name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.net.odata.paging import parse_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipaas_resources.net.client import HttpClient


class Company(msgspec.Struct, frozen=True):
    """One company."""

    id: str
    name: str


class Companies:
    """Resolves scopes; asks the environment once."""

    def __init__(self, client: HttpClient, scopes: Mapping[str, str]) -> None:
        self._client = client
        self._scopes = dict(scopes)
        self._known: dict[str, Company] = {}
        self._lock = asyncio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Our scope names."""
        return tuple(self._scopes)

    async def of(self, scope: str) -> Company:
        """The company of a scope.

        Raises:
            ConfigurationError: the system document has no such scope, or the environment no such company.
        """
        if scope not in self._scopes:
            raise ConfigurationError(
                f"System {self._client.system} has no scope `{scope}`. Its scopes: {', '.join(self._scopes)}."
            )
        if not self._known:
            await self.resolve()
        return self._known[scope]

    async def scope_of(self, company: str) -> str | None:
        """Our scope of a company's id; None when no scope names it.

        Raises:
            ConfigurationError: the environment has no such company for one of the scopes.
        """
        if not self._known:
            await self.resolve()
        wanted = company.lower()
        return next((scope for scope, known in self._known.items() if known.id == wanted), None)

    async def resolve(self, *, again: bool = False) -> None:
        """Read the companies and find every scope among them.

        Raises:
            ConfigurationError: naming every scope whose company is not there, and the companies that are.
        """
        async with self._lock:
            if self._known and not again:
                return
            there = await self._read()
            found = {scope: _find(there, wanted) for scope, wanted in self._scopes.items()}
            missing = [
                f"{scope} -> {self._scopes[scope]}" for scope, company in found.items() if company is None
            ]
            if missing:
                raise ConfigurationError(
                    f"System {self._client.system}: these scopes name no company of the environment: "
                    f"{'; '.join(missing)}. Companies there: {', '.join(company.name for company in there) or 'none'}."
                )
            self._known = {scope: company for scope, company in found.items() if company is not None}

    async def _read(self) -> list[Company]:
        response = await self._client.send("GET", "companies", kind="read", endpoint="companies")
        try:
            return [Company(str(row["id"]).lower(), str(row["name"])) for row in parse_page(response).rows]
        except KeyError as missing:
            raise response.broken(f"a company has no {missing}") from None


def _find(there: list[Company], wanted: str) -> Company | None:
    """By name first: a company may be called like another one's id, but hardly the other way round."""
    for company in there:
        if company.name == wanted:
            return company
    for company in there:
        if company.id == wanted.lower() or company.name.casefold() == wanted.casefold():
            return company
    return None
