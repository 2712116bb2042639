"""Who we are to a system: headers that are added to every request of it, after its address was checked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec

from ipaas_resources.core.errors import ConfigurationError, CredentialsError, ProtocolError, SystemBusyError
from ipaas_resources.core.limits import BudgetKey, LimitPolicy, Unlimited
from ipaas_resources.core.values import content_hash
from ipaas_resources.net.client import HttpClient
from ipaas_resources.net.msal_http import MsalHttp, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from ipaas_resources.core.clock import Clock, Ids


class Auth(Protocol):
    """Makes the headers that identify us."""

    async def headers(self) -> dict[str, str]:
        """The headers of the next request.

        Raises:
            CredentialsError: the identity provider refused us. RetryError: it could not be asked.
        """
        ...

    async def refused(self, used: Mapping[str, str]) -> bool:
        """The system answered 401 to a request with these headers: get new ones. True: worth one more try."""
        ...


class StaticHeader:
    """A fixed secret in one header: an API key or token.

    `secret` is called at each use, so a rotated secret counts from the next request on.
    """

    def __init__(self, name: str, secret: Callable[[], str], *, prefix: str = "") -> None:
        self._name = name
        self._secret = secret
        self._prefix = prefix

    async def headers(self) -> dict[str, str]:
        """The header with the present secret."""
        return {self._name: f"{self._prefix}{self._secret()}"}

    async def refused(self, used: Mapping[str, str]) -> bool:
        """One more try only when the secret has changed since."""
        return dict(used) != await self.headers()


#: Seconds before its end at which a token is no longer used; less for tokens that live shorter than four times that.
MARGIN = 300.0
#: Seconds for which a refused secret is not sent again, unless it has changed: identity providers lock accounts.
_REFUSAL_COUNTS = 60.0


class _Token(msgspec.Struct, frozen=True):
    header: dict[str, str]
    until: float  # monotonic


class _Refusal(msgspec.Struct, frozen=True):
    secret: bytes  # hash of the one that was refused
    error: CredentialsError
    until: float  # monotonic


class ClientCredentials:
    """OAuth2 client credentials (EN v2-oauth2-client-creds-grant-flow.md), with MSAL through our HTTP client.

    One token request serves everybody who waits for a token. Nothing is sent before the first use.
    """

    def __init__(
        self,
        *,
        system: str,
        authority: str,
        client_id: str,
        secret: Callable[[], str],
        scope: str,
        clock: Clock,
        ids: Ids,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
        ca_file: str | None = None,
    ) -> None:
        """Credentials of one application.

        Args:
            system: its id, for messages and logs.
            authority: `https://login.microsoftonline.com/{tenant}`; MSAL takes nothing but https.
            client_id: of the app registration. secret: asked for its present value at each token request.
            scope: one resource and "/.default".
            clock: measures the life of a token. ids: chance for jitter.
            transport: of the identity provider. ca_file: an extra certificate authority for it.

        Raises:
            ConfigurationError: the authority is not an https address with a tenant.
        """
        parts = urlsplit(authority)
        if parts.scheme != "https" or not parts.hostname or not parts.path.strip("/"):
            raise ConfigurationError(
                f"The authority of system {system} must be an https address with a tenant, such as "
                "https://login.microsoftonline.com/contoso.onmicrosoft.com."
            )
        self._system = system
        self._authority = authority.rstrip("/")
        self._client_id = client_id
        self._secret = secret
        self._scope = scope
        self._clock = clock
        self._token: _Token | None = None
        self._refusal: _Refusal | None = None
        self._lock = asyncio.Lock()
        self._client = HttpClient(
            system=system,
            base_url=f"https://{parts.netloc}",
            clock=clock,
            ids=ids,
            # Budgets are of the system; the identity provider counts by itself and one process asks once an hour.
            limits=Unlimited(),
            budget=BudgetKey(system, client_id, "sign-in"),
            policy=LimitPolicy(requests=1, window=1, concurrency=1),
            transport=transport,
            ca_file=ca_file,
        )

    async def headers(self) -> dict[str, str]:
        """The bearer token, a new one when the old one ends soon.

        Raises:
            CredentialsError: the identity provider refused us, its code in `code`.
            RetryError: it could not be asked. ProtocolError: its answer made no sense.
        """
        token = self._token
        if token is None or self._clock.monotonic() >= token.until:
            async with self._lock:
                token = self._token
                if token is None or self._clock.monotonic() >= token.until:
                    token = self._token = await self._renew()
        return token.header

    async def refused(self, used: Mapping[str, str]) -> bool:
        """Drop the token that was refused, once, whoever of its many users comes first."""
        if self._token is not None and self._token.header.items() <= used.items():
            self._token = None
        return True

    async def close(self) -> None:
        """Give connections back."""
        await self._client.close()

    async def _renew(self) -> _Token:
        secret = self._secret()
        known = self._refusal
        now = self._clock.monotonic()
        if known is not None and now < known.until and known.secret == content_hash(secret.encode()):
            raise CredentialsError(known.error.message, code=known.error.code)
        try:
            result = await self._ask(secret)
        except CredentialsError as error:
            until = self._clock.monotonic() + _REFUSAL_COUNTS
            self._refusal = _Refusal(content_hash(secret.encode()), error, until)
            raise
        self._refusal = None
        life = float(result["expires_in"])
        # Counted from before the request: its answer may have been long under way.
        return _Token(
            {"authorization": f"Bearer {result['access_token']}"}, now + life - min(MARGIN, life / 4)
        )

    async def _ask(self, secret: str) -> dict[str, Any]:
        who = f"the credentials of system {self._system}"
        http = MsalHttp(self._client, who)
        try:
            result = await asyncio.to_thread(self._ask_msal, http, secret)
        except asyncio.CancelledError:
            http.cancel()
            raise
        if result.get("error") == "temporarily_unavailable":
            raise SystemBusyError(f"The identity provider of system {self._system} is busy; try again later.")
        if "error" in result:
            raise refusal(result, who)
        token, life = result.get("access_token"), result.get("expires_in")
        if not isinstance(token, str) or not token.isprintable() or not isinstance(life, int) or life <= 0:
            raise ProtocolError(f"The identity provider of system {self._system} answered without a token.")
        return result

    def _ask_msal(self, http: MsalHttp, secret: str) -> dict[str, Any]:
        """One token, in a thread. A new application object each time: MSAL's cache would bring a refused token back."""
        import msal  # noqa: PLC0415 - a third of a second that commands without a system need not wait

        try:
            application = msal.ConfidentialClientApplication(
                self._client_id,
                authority=self._authority,
                client_credential=secret,
                http_client=http,
                instance_discovery=False,
            )
            result = application.acquire_token_for_client([self._scope])
        except (ValueError, KeyError, RuntimeError):
            # MSAL's messages hold addresses and whole answers.
            raise ProtocolError(
                f"The identity provider of system {self._system} does not answer as OpenID Connect asks; "
                "check the authority in the system document."
            ) from None
        return result if isinstance(result, dict) else {}
