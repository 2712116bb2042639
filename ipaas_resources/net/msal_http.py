"""The HTTP client that MSAL is given: ours. MSAL is synchronous, so it runs in a thread and asks the event loop."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from ipaas_resources.core.errors import CredentialsError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from ipaas_resources.net.client import HttpClient
    from ipaas_resources.net.response import Response

_REFUSALS = tuple(status for status in range(400, 500) if status not in {408, 425, 429})
_CODE = re.compile(r"AADSTS\d{3,9}")
_NAME = re.compile(r"[a-z_]{3,40}")

#: What to do about the refusals that people meet most.
_REMEDIES: Mapping[str, str] = {
    "AADSTS7000215": "the client secret is wrong: enter the secret's value, not its id",
    "AADSTS7000222": "the client secret has expired: make a new one in the app registration",
    "AADSTS700016": "the client id is not known in this tenant",
    "AADSTS90002": "the tenant does not exist",
    "AADSTS900023": "the tenant does not exist",
    "AADSTS500011": "the scope names a resource that is not known in this tenant",
    "AADSTS70011": "the scope is wrong: it is the resource's address followed by /.default",
}


def refusal(body: Any, who: str) -> CredentialsError:
    """The error for what an identity provider answered: its code, never its words (they name accounts)."""
    described = body if isinstance(body, dict) else {}
    found = _CODE.search(str(described.get("error_description", "")))
    name = str(described.get("error", ""))
    code = found[0] if found else name if _NAME.fullmatch(name) else "refused"
    remedy = _REMEDIES.get(code, "check tenant, client id, client secret and scope")
    return CredentialsError(f"The identity provider refused {who} ({code}): {remedy}.", code=code)


class MsalResponse(msgspec.Struct):
    """What MSAL wants to see of an answer."""

    status_code: int
    text: str
    headers: dict[str, str]

    def raise_for_status(self) -> None:
        """Nothing is left to raise: errors that MSAL does not handle were raised before it saw them."""


class MsalHttp:
    """Sends MSAL's requests through an HttpClient: pinned host, retries, redacted log, verified TLS."""

    def __init__(self, client: HttpClient, who: str) -> None:
        """Use inside a running event loop; the methods are then called from another thread."""
        self._client = client
        self._who = who
        self._loop = asyncio.get_running_loop()
        self._under_way: Future[Response] | None = None

    def get(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> MsalResponse:
        """The OpenID configuration. Raises CredentialsError when the tenant is unknown."""
        answer = self._send("GET", url, params, headers, None)
        if answer.status_code in _REFUSALS:
            raise refusal(_parsed(answer.text), self._who)
        return answer

    def post(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> MsalResponse:
        """The token request."""
        form = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        answer = self._send("POST", url, params, form, urlencode(data or {}).encode())
        if not isinstance(_parsed(answer.text), dict):
            # MSAL would write the whole answer into its log.
            raise ProtocolError(
                f"The identity provider of {self._who} answered a token request with no JSON object."
            )
        return answer

    def cancel(self) -> None:
        """Give up the request under way, so that the thread that waits for it ends."""
        if self._under_way is not None:
            self._under_way.cancel()

    def _send(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        content: bytes | None,
    ) -> MsalResponse:
        if params:
            url = f"{url}{'&' if '?' in url else '?'}{urlencode(params)}"
        sending = self._client.send(
            method,
            url,
            # A token request may be repeated: it changes nothing but the number of tokens.
            kind="read",
            headers=headers,
            content=content,
            accept=_REFUSALS,
            endpoint="token" if method == "POST" else "openid-configuration",
        )
        self._under_way = asyncio.run_coroutine_threadsafe(sending, self._loop)
        answer = self._under_way.result()
        return MsalResponse(answer.status, answer.content.decode("utf-8", "replace"), dict(answer.headers))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
