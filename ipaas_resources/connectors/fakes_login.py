"""A fake Microsoft Entra ID: the client-credentials part of a login host, for every product that signs in there.

Sources: EN v2-oauth2-client-creds-grant-flow.md (errors, lifetimes), MSAL's own requests (discovery first, then the
token endpoint that the discovery names). Tokens are opaque: `<client id>@<resource>-<number>`, so that a fake product
can tell its callers apart without knowing this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from ipaas_resources.connectors.fakes import FakeApp, Reply, Request, Tokens, json_reply

if TYPE_CHECKING:
    from ipaas_resources.core.clock import Clock, Ids


class Client(msgspec.Struct, kw_only=True):
    """One app registration."""

    secret: str
    tenant: str = ""  # empty: every tenant
    enabled: bool = True


class FakeLogin(FakeApp):
    """Issues tokens for known clients. `tokens` is shared with the fake products that accept them."""

    def __init__(
        self, *, clock: Clock | None = None, ids: Ids | None = None, tokens: Tokens | None = None
    ) -> None:
        super().__init__(clock=clock, ids=ids)
        self.tokens = tokens or Tokens(self.clock)
        self.clients: dict[str, Client] = {}
        #: Seconds that a token is good for; the product draws 60 to 90 minutes.
        self.lifetime = 3599
        #: The address under which clients reach this host; empty: of the request.
        self.public_url = ""

    def add_client(self, client_id: str, secret: str, tenant: str = "") -> Client:
        """Let this application sign in."""
        client = self.clients[client_id] = Client(secret=secret, tenant=tenant)
        return client

    @property
    def issued(self) -> int:
        """How many tokens were given out so far."""
        return self.tokens.issued

    def principal(self, request: Request) -> str:
        """Nobody: signing in counts against no product's limits."""
        del request
        return ""

    async def handle(self, request: Request) -> Reply:
        """Discovery and token requests of any tenant."""
        tenant, _, rest = request.path.strip("/").partition("/")
        if request.method == "GET" and rest in (
            "v2.0/.well-known/openid-configuration",
            ".well-known/openid-configuration",
        ):
            return json_reply(self._discovery(request, tenant))
        if request.method == "POST" and rest == "oauth2/v2.0/token":
            return self._token(request, tenant)
        return json_reply(
            {"error": "not_found", "error_description": "There is nothing at this address."}, 404
        )

    def _discovery(self, request: Request, tenant: str) -> dict[str, Any]:
        base = f"{self.public_url or self._origin(request)}/{tenant}"
        return {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
        }

    def _origin(self, request: Request) -> str:
        # MSAL refuses http authorities, so wherever this host stands it is reached by TLS.
        return f"https://{request.headers.get('host', 'localhost')}"

    def _token(self, request: Request, tenant: str) -> Reply:
        form = {
            name: values[-1]
            for name, values in parse_qs(request.body.decode(), keep_blank_values=True).items()
        }
        grant = form.get("grant_type", "")
        if grant != "client_credentials":
            return self._refusal(
                400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type."
            )
        client = self.clients.get(form.get("client_id", ""))
        if client is None or not client.enabled or client.tenant not in ("", tenant):
            return self._refusal(
                400,
                "unauthorized_client",
                700016,
                "Application was not found in the directory of the tenant.",
            )
        if form.get("client_secret") != client.secret:
            return self._refusal(401, "invalid_client", 7000215, "Invalid client secret provided.")
        resource, default, rest = form.get("scope", "").partition("/.default")
        if not resource or not default or rest or " " in resource:
            return self._refusal(
                400,
                "invalid_scope",
                1002012,
                "The provided value for scope is not valid: use one resource + /.default.",
            )
        token = self.tokens.issue(self.lifetime, f"{form['client_id']}@{resource}")
        return json_reply(
            {
                "token_type": "Bearer",
                "expires_in": self.lifetime,
                "ext_expires_in": self.lifetime,
                "access_token": token,
            }
        )

    def _refusal(self, status: int, error: str, number: int, sentence: str) -> Reply:
        moment = self.clock.now()
        return json_reply(
            {
                "error": error,
                "error_description": f"AADSTS{number}: {sentence} Timestamp: {moment:%Y-%m-%d %H:%M:%SZ}",
                "error_codes": [number],
                "timestamp": f"{moment:%Y-%m-%d %H:%M:%SZ}",
                "trace_id": self.ids.trace_id(),
                "correlation_id": self.ids.trace_id(),
            },
            status,
        )
