"""Subscriptions of Business Central over its API (microsoft.md 1.9; dynamics-subscriptions.md of the documentation).

The product asks the URL for a token while a POST or PATCH is under way, so our ingress has to expect that. A URL serves
one subscription, for one wrong answer deletes all subscriptions of its URL. They lie on the route whose records they
tell of; this connector reads the standard route alone, so all of them lie there.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

from ipaas_resources.connectors.business_central.catalogue import entity_id
from ipaas_resources.connectors.business_central.webhooks import client_state, url_key
from ipaas_resources.connectors.subscribing import Remote, SubscriptionGoneError
from ipaas_resources.connectors.webhooks import matches
from ipaas_resources.core.errors import ConfigurationError, MissingRecordError, ReloadError, RetryError
from ipaas_resources.core.values import encode
from ipaas_resources.net.odata.errors import explain
from ipaas_resources.net.odata.etag import etag_of
from ipaas_resources.net.odata.paging import read_pages
from ipaas_resources.net.odata.query import address, key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.business_central.companies import Companies, Company
    from ipaas_resources.connectors.business_central.entities import Entities
    from ipaas_resources.connectors.subscribing import Wanted
    from ipaas_resources.core.clock import Clock
    from ipaas_resources.net.client import HttpClient
    from ipaas_resources.net.response import Response

_SET = "subscriptions"
_ROUTE = "api/v2.0"
_VERSION = "v2.0"
#: What a subscription names; the product may leave out the slash at the beginning.
_RESOURCE = re.compile(r"/?api/v2\.0/companies\(([0-9A-Fa-f-]{36})\)/([A-Za-z]+)")
#: Seconds for which the list of what can be subscribed is believed.
_SUPPORTED_AGE = 3600.0
#: Every version of a subscription of ours is ours to change.
_ANY = {"If-Match": "*"}
_REFUSED = 400


class Subscriptions:
    """The subscriptions of one environment."""

    def __init__(
        self,
        client: HttpClient,
        *,
        clock: Clock,
        environment_url: str,
        companies: Companies,
        entities: Entities,
    ) -> None:
        """`environment_url`: the address of the environment, without a route."""
        self._client = client
        self._clock = clock
        self._environment_url = environment_url
        self._companies = companies
        self._entities = entities
        self._supported: frozenset[str] = frozenset()
        self._supported_until = float("-inf")
        self._company_ids: dict[str, str] = {}  # by scope, once they were asked for

    async def subscribable(self, entity: str, scope: str) -> str:
        """Why the product cannot send changes of this entity; '' when it can."""
        known = await self._entities.get(entity)
        company = await self._companies.of(scope)
        if not known.root and f"{_VERSION}/{known.set}" in await self._known_supported(company):
            return ""
        return (
            f"Business Central sends no changes of {entity}: its list of supported resources does not name the set "
            f"{known.set} (queries, temporary tables, composite keys and lines have none); it is polled."
        )

    async def listed(self) -> Sequence[Remote]:
        """Every subscription of the route, foreign ones too."""
        for scope in self._companies.names:
            self._company_ids[scope] = (await self._companies.of(scope)).id
        return [
            self._remote(row, page.response)
            async for page in read_pages(self._client, _SET, endpoint=_SET)
            for row in page.rows
        ]

    def is_current(self, remote: Remote, wanted: Wanted) -> bool:
        """Whether URL, clientState and resource are those that are wanted."""
        secret = wanted.secret()
        resource = _RESOURCE.fullmatch(remote.resource)
        return (
            matches(remote.url, [_url(wanted, secret)])
            and matches("".join(remote.marks), [client_state(secret, wanted.subscription)])
            and resource is not None
            and resource[1].lower() == self._company_ids.get(wanted.scope)
            and entity_id(resource[2]) == wanted.entity
        )

    async def subscribe(self, wanted: Wanted) -> Remote:
        """POST; the product asks the URL for its token meanwhile."""
        body = await self._body(wanted)
        answer = await self._client.send(
            "POST", _SET, kind="write", content=encode(body), accept={_REFUSED}, endpoint=_SET
        )
        self._accepted(answer, wanted, body)
        return self._remote(answer.json(), answer)

    async def renew(self, remote: Remote, wanted: Wanted) -> Remote:
        """PATCH: three more days, and whatever else changed; the product asks the URL again."""
        body = await self._body(wanted)
        try:
            answer = await self._client.send(
                "PATCH",
                _path(remote),
                kind="write",
                headers=_ANY,
                content=encode(body),
                accept={_REFUSED},
                repeatable=True,
                endpoint=_SET,
            )
        except MissingRecordError:
            raise SubscriptionGoneError(
                f"{self._client.system} has the subscription to {wanted.entity} no more."
            ) from None
        except ReloadError as changed:
            raise RetryError(changed.message, code=changed.code) from changed
        self._accepted(answer, wanted, body)
        return self._remote(answer.json(), answer)

    async def unsubscribe(self, remote: Remote) -> None:
        """DELETE; one that is gone is no error."""
        try:
            await self._client.send(
                "DELETE", _path(remote), kind="write", headers=_ANY, repeatable=True, endpoint=_SET
            )
        except MissingRecordError:
            return
        except ReloadError as changed:
            raise RetryError(changed.message, code=changed.code) from changed

    async def _body(self, wanted: Wanted) -> dict[str, str]:
        secret = wanted.secret()
        if not secret:
            raise ConfigurationError(
                f"The webhook secret of system {wanted.system} is empty; nothing was subscribed. Give it one."
            )
        return {
            "notificationUrl": _url(wanted, secret),
            "resource": await self._resource(wanted.entity, wanted.scope),
            "clientState": client_state(secret, wanted.subscription),
        }

    async def _resource(self, entity: str, scope: str) -> str:
        known = await self._entities.get(entity)
        company = await self._companies.of(scope)
        self._company_ids[scope] = company.id
        return f"/{_ROUTE}/companies({company.id})/{known.set}"

    async def _known_supported(self, company: Company) -> frozenset[str]:
        """The resources that can be subscribed, `v2.0/customers`; the same for every company."""
        now = self._clock.monotonic()
        if now < self._supported_until:
            return self._supported
        url = address(
            f"{self._environment_url}/api/microsoft/runtime/beta/companies({company.id})/webhookSupportedResources",
            filter=f"resource eq '{_VERSION}*'",
        )
        try:
            self._supported = frozenset(
                [
                    str(row.get("resource"))
                    async for page in read_pages(self._client, url, endpoint="webhookSupportedResources")
                    for row in page.rows
                ]
            )
        except MissingRecordError:
            raise ConfigurationError(
                f"System {self._client.system} does not say what can be subscribed (webhookSupportedResources is not "
                "there): switch the API services of the environment on, or take the webhook trigger out of the flow."
            ) from None
        self._supported_until = now + _SUPPORTED_AGE
        return self._supported

    def _accepted(self, answer: Response, wanted: Wanted, body: dict[str, str]) -> None:
        """Raises ConfigurationError when the product refused."""
        if answer.status != _REFUSED:
            return
        code, sentence = explain(answer, known=()) or ("", "")
        if any(value in sentence for value in body.values()):
            sentence = ""
        said = " ".join(part for part in (code, sentence) if part) or "no reason"
        where = f" of {wanted.scope}" if wanted.scope else ""
        message = (
            f"{self._client.system} refused the subscription to {wanted.entity}{where}: {said}. It needs an answer to its "
            "validation request within 5 seconds, so the public URL has to lead to this platform's ingress; and an "
            "environment takes at most 200 subscriptions."
        )
        error = ConfigurationError(message)
        error.status = answer.status
        raise error

    def _remote(self, row: Any, answer: Response) -> Remote:
        try:
            expires = row.get("expirationDateTime")
            return Remote(
                product_id=str(row["subscriptionId"]),
                url=str(row["notificationUrl"]),
                resource=str(row.get("resource") or ""),
                expires_at=dt.datetime.fromisoformat(expires).astimezone(dt.UTC) if expires else None,
                etag=etag_of(row),
                marks=(str(row.get("clientState") or ""),),
            )
        except (KeyError, AttributeError, TypeError, ValueError):
            raise answer.broken("a subscription has no id, no URL or no readable end") from None


def _url(wanted: Wanted, secret: str) -> str:
    return f"{wanted.url}/{url_key(secret, wanted.subscription)}"


def _path(remote: Remote) -> str:
    return f"{_SET}{key(remote.product_id, 'text')}"


__all__ = ["Subscriptions"]
