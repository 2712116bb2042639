"""Webhooks of Dataverse over its Web API: one service endpoint per subscription, one step per message (microsoft.md 2.8).

Sources there: register-web-hook.md, use-webhooks.md; the numbers of `authtype` are those of public repositories. The
product gives no secret back, so the endpoint's name carries a mark derived from it: one that was made with an older
secret is seen as such. Endpoint and steps are several requests; what a broken round left half made, `renew` completes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

from ipaas_resources.connectors.dataverse.webhooks import KEY_HEADER
from ipaas_resources.connectors.subscribing import Remote, SubscriptionGoneError
from ipaas_resources.connectors.webhooks import derived, matches
from ipaas_resources.core.errors import (
    ConfigurationError,
    IpaasError,
    MissingRecordError,
    ProtocolError,
    RecordError,
    ReloadError,
    RetryError,
    SchemaError,
)
from ipaas_resources.core.values import encode
from ipaas_resources.net.odata.paging import read_pages
from ipaas_resources.net.odata.parts import PartRequest
from ipaas_resources.net.odata.query import address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from ipaas_resources.connectors.dataverse.api import Api
    from ipaas_resources.connectors.dataverse.metadata import Metadata
    from ipaas_resources.connectors.subscribing import Wanted
    from ipaas_resources.net.response import Response

#: The messages that change a row; the *Multiple messages fire the steps of these for each of their rows.
MESSAGES = ("Create", "Update", "Delete")

_ENDPOINTS, _STEPS = "serviceendpoints", "sdkmessageprocessingsteps"
_WEBHOOK = 8
_BY_PROOF = {"code": 4, "header": 5}  # WebhookKey, HttpHeader
_JSON = 2
_POST_OPERATION, _ASYNCHRONOUS = 40, 1
_ENABLED = 0
_MARK_LENGTH = 12
_PREFIX = "ipaas "
#: Requests of one $batch; the steps of one endpoint are one of them.
_PARTS = 100
#: The product sends to no other; on this machine there is the simulator only.
_PORTS = {80, 443, None}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_ANY = {"If-Match": "*"}
"""Only change what is there: without it a PATCH would make the row."""

_Step = tuple[str, str, bool]
"""Id, `Create account`, and whether it is as we make them."""


class Subscriptions:
    """The webhooks of one environment."""

    def __init__(self, system: str, api: Api, metadata: Metadata) -> None:
        self._system = system
        self._api = api
        self._metadata = metadata
        self._tables: dict[str, str] = {}  # entity set -> logical name

    async def subscribable(self, entity: str) -> str:
        """Why the product cannot send changes of this entity; '' when it can."""
        table = await self._table(entity)
        missing = [message for message, found in (await self._filters(table)).items() if found is None]
        if not missing:
            return ""
        return f"Dataverse lets nobody follow {' and '.join(missing)} of {table}; it is polled."

    async def listed(self) -> list[Remote]:
        """Every webhook endpoint, foreign ones too; ours with their steps."""
        if not self._tables:
            await self._read_tables()
        rows = [
            row
            async for row in self._rows(
                address(
                    _ENDPOINTS,
                    select=["serviceendpointid", "name", "url", "contract", "authtype"],
                    filter=f"contract eq {_WEBHOOK}",
                ),
                _ENDPOINTS,
            )
        ]
        ours = [row for row in rows if str(row.get("name") or "").startswith(_PREFIX)]
        steps = await self._steps([_id(row, "serviceendpointid") for row in ours])
        return [self._remote(row, steps.get(_id(row, "serviceendpointid"), [])) for row in rows]

    def is_current(self, remote: Remote, wanted: Wanted) -> bool:
        """Whether the endpoint has this URL, this proof and this secret, and a step in order for every message."""
        table = self._tables.get(wanted.entity)
        return (
            table is not None
            and matches(remote.url, [wanted.url])
            and set(remote.marks)
            == {
                _name(wanted),
                f"authtype {_BY_PROOF.get(wanted.proof)}",
                *(f"{message} {table}" for message in MESSAGES),
            }
        )

    async def subscribe(self, wanted: Wanted) -> Remote:
        """Make the endpoint, then its steps."""
        filters = await self._offered(wanted)
        response = await self._write("POST", _ENDPOINTS, self._endpoint(wanted), wanted.entity)
        identifier = _made(response)
        return await self._completed(identifier, wanted, filters, [])

    async def renew(self, remote: Remote, wanted: Wanted) -> Remote:
        """Give the endpoint URL, proof and secret anew, take away steps that are not in order, make those that are missing."""
        filters = await self._offered(wanted)
        endpoint = remote.product_id
        try:
            await self._write(
                "PATCH", f"{_ENDPOINTS}({endpoint})", self._endpoint(wanted), wanted.entity, _ANY
            )
        except MissingRecordError:
            raise SubscriptionGoneError(
                f"{self._system} has the webhook for {wanted.entity} no more."
            ) from None
        steps = (await self._steps([endpoint])).get(endpoint, [])
        return await self._completed(endpoint, wanted, filters, steps)

    async def unsubscribe(self, remote: Remote) -> None:
        """Take away the steps, then the endpoint; what is gone is no error."""
        endpoint = remote.product_id
        for identifier, _, _ in (await self._steps([endpoint])).get(endpoint, []):
            await self._delete(_STEPS, identifier)
        await self._delete(_ENDPOINTS, endpoint)

    # Parts -------------------------------------------------------------------------------------------------------------

    async def _completed(
        self,
        endpoint: str,
        wanted: Wanted,
        filters: Mapping[str, tuple[str, str]],
        steps: Sequence[_Step],
    ) -> Remote:
        table = await self._table(wanted.entity)
        kept: set[str] = set()
        for identifier, what, in_order in steps:
            if in_order and what not in kept and what in {f"{message} {table}" for message in MESSAGES}:
                kept.add(what)
            else:
                await self._delete(_STEPS, identifier)
        for message, (message_id, filter_id) in filters.items():
            what = f"{message} {table}"
            if what in kept:
                continue
            await self._write(
                "POST",
                _STEPS,
                {
                    "name": f"{_PREFIX}{wanted.subscription}: {what}",
                    "stage": _POST_OPERATION,
                    "mode": _ASYNCHRONOUS,
                    "rank": 1,
                    "supporteddeployment": 0,
                    "asyncautodelete": True,
                    "eventhandler_serviceendpoint@odata.bind": f"/{_ENDPOINTS}({endpoint})",
                    "sdkmessageid@odata.bind": f"/sdkmessages({message_id})",
                    "sdkmessagefilterid@odata.bind": f"/sdkmessagefilters({filter_id})",
                },
                wanted.entity,
            )
            kept.add(what)
        return Remote(
            product_id=endpoint,
            url=wanted.url,
            resource=table,
            marks=(_name(wanted), f"authtype {_BY_PROOF[wanted.proof]}", *sorted(kept)),
        )

    def _endpoint(self, wanted: Wanted) -> dict[str, Any]:
        secret = wanted.secret()
        if not secret:
            raise ConfigurationError(
                f"The webhook secret of system {wanted.system} is empty; nothing was registered. Give it one."
            )
        parts = urlsplit(wanted.url)
        if parts.port not in _PORTS and parts.hostname not in _LOOPBACK:
            raise ConfigurationError(
                f"Dataverse sends webhooks to the ports 80 and 443 alone, not to {parts.port}: give the platform a public "
                "URL without a port."
            )
        value = secret
        if wanted.proof == "header":
            value = f"<settings><setting name={quoteattr(KEY_HEADER)} value={quoteattr(secret)}/></settings>"
        return {
            "name": _name(wanted),
            "url": wanted.url,
            "contract": _WEBHOOK,
            "authtype": _BY_PROOF[wanted.proof],
            "authvalue": value,
            "messageformat": _JSON,
        }

    async def _steps(self, endpoints: Sequence[str]) -> dict[str, list[_Step]]:
        """The steps of these endpoints."""
        if not endpoints:
            return {}
        urls = [
            address(
                _STEPS,
                select=[
                    "sdkmessageprocessingstepid",
                    "mode",
                    "stage",
                    "statecode",
                    "filteringattributes",
                ],
                expand="sdkmessageid($select=name),sdkmessagefilterid($select=primaryobjecttypecode)",
                filter=f"_eventhandler_value eq {endpoint}",
            )
            for endpoint in endpoints
        ]
        found: dict[str, list[_Step]] = {}
        for start in range(0, len(urls), _PARTS):
            chunk = urls[start : start + _PARTS]
            answers = await self._api.read_batch([PartRequest(method="GET", url=url) for url in chunk])
            for endpoint, answer in zip(endpoints[start : start + _PARTS], answers, strict=True):
                error = self._api.part_error(answer, write=False)
                if error is not None:
                    raise _stopping(error)
                body = answer.json()
                rows = body.get("value") if isinstance(body, dict) else None
                if not isinstance(rows, list):
                    raise ProtocolError(f"{self._system} {_STEPS} answered with no list of steps.")
                found[endpoint] = [_step(row) for row in rows]
        return found

    async def _offered(self, wanted: Wanted) -> dict[str, tuple[str, str]]:
        """Message -> (id of the message, id of its filter for the table)."""
        if wanted.proof not in _BY_PROOF:
            raise ConfigurationError(
                f"Dataverse proves deliveries by {' or '.join(_BY_PROOF)}, not by {wanted.proof}."
            )
        found = await self._filters(await self._table(wanted.entity))
        offered = {message: ids for message, ids in found.items() if ids is not None}
        if len(offered) < len(MESSAGES):
            raise ConfigurationError(await self.subscribable(wanted.entity))
        return offered

    async def _filters(self, table: str) -> dict[str, tuple[str, str] | None]:
        """Per message the ids of message and filter; None where the table offers it to nobody."""
        urls = [
            address(
                "sdkmessagefilters",
                select=["sdkmessagefilterid", "_sdkmessageid_value", "iscustomprocessingstepallowed"],
                filter=f"primaryobjecttypecode eq '{table}' and sdkmessageid/name eq '{message}'",
            )
            for message in MESSAGES
        ]
        answers = await self._api.read_batch([PartRequest(method="GET", url=url) for url in urls])
        found: dict[str, tuple[str, str] | None] = {}
        for message, answer in zip(MESSAGES, answers, strict=True):
            error = self._api.part_error(answer, write=False)
            if error is not None:
                raise _stopping(error)
            body = answer.json()
            rows = body.get("value") if isinstance(body, dict) else None
            if not isinstance(rows, list):
                raise ProtocolError(f"{self._system} sdkmessagefilters answered with no list.")
            found[message] = next(
                (
                    (_id(row, "_sdkmessageid_value"), _id(row, "sdkmessagefilterid"))
                    for row in rows
                    if _true(row.get("iscustomprocessingstepallowed"))
                ),
                None,
            )
        return found

    async def _table(self, entity: str) -> str:
        if entity not in self._tables:
            await self._read_tables()
        table = self._tables.get(entity)
        if table is None:
            raise SchemaError(f"{self._system} has no table with the entity set {entity}.")
        return table

    async def _read_tables(self) -> None:
        self._tables = {each.entity_set: each.logical_name for each in await self._metadata.definitions()}

    # Requests ----------------------------------------------------------------------------------------------------------

    async def _rows(self, url: str, endpoint: str) -> AsyncIterator[dict[str, Any]]:
        async for page in read_pages(self._api.client, url, endpoint=endpoint):
            for row in page.rows:
                yield row

    async def _write(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any],
        entity: str,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        try:
            return await self._api.client.send(
                method,
                url,
                kind="write",
                headers=headers,
                content=encode(dict(body)),
                repeatable=method == "PATCH",
                endpoint=url.partition("(")[0],
            )
        except (RecordError, ReloadError) as error:
            if method == "PATCH" and isinstance(error, MissingRecordError):
                raise
            # Never about a record: it becomes what a keeper of subscriptions understands.
            raise _stopping(error, f"{self._system} refused the webhook for {entity}") from error

    async def _delete(self, entity_set: str, identifier: str) -> None:
        try:
            await self._api.client.send(
                "DELETE",
                f"{entity_set}({identifier})",
                kind="write",
                repeatable=True,
                endpoint=entity_set,
            )
        except MissingRecordError:
            return
        except (RecordError, ReloadError) as error:
            raise _stopping(error) from error

    def _remote(self, row: Mapping[str, Any], steps: Sequence[_Step]) -> Remote:
        in_order = sorted({what for _, what, right in steps if right})
        # One that is not in order, or is there twice, is a mark of its own, so that it does not count as current.
        odd = ["a step that is not in order"] if len(in_order) < len(steps) else []
        return Remote(
            product_id=_id(row, "serviceendpointid"),
            url=str(row.get("url") or ""),
            resource=", ".join(sorted({what.partition(" ")[2] for _, what, _ in steps})),
            marks=(str(row.get("name") or ""), f"authtype {row.get('authtype')}", *in_order, *odd),
        )


def _name(wanted: Wanted) -> str:
    """`ipaas {subscription} {mark}`: the mark is another one for another secret, and tells nothing of it."""
    return f"{_PREFIX}{wanted.subscription} {derived(wanted.secret(), 'mark', wanted.subscription)[:_MARK_LENGTH]}"


def _step(row: Mapping[str, Any]) -> _Step:
    message = (row.get("sdkmessageid") or {}).get("name")
    table = (row.get("sdkmessagefilterid") or {}).get("primaryobjecttypecode")
    in_order = (
        row.get("mode") == _ASYNCHRONOUS
        and row.get("stage") == _POST_OPERATION
        and row.get("statecode") == _ENABLED
        and not row.get("filteringattributes")
    )
    return _id(row, "sdkmessageprocessingstepid"), f"{message} {table}", in_order


def _id(row: Mapping[str, Any], name: str) -> str:
    return str(row.get(name) or "").lower()


def _true(value: Any) -> bool:
    """A managed boolean property comes as the flag alone or with what may be changed of it; absent means allowed."""
    if isinstance(value, dict):
        value = value.get("Value")
    return value is not False


def _made(response: Response) -> str:
    """The id in `OData-EntityId`."""
    address_ = response.headers.get("odata-entityid", "")
    identifier = address_.rpartition("(")[2].removesuffix(")").lower()
    if not address_.endswith(")") or not identifier:
        raise response.broken("it does not say what was made")
    return identifier


def _stopping(error: IpaasError, what: str = "") -> IpaasError:
    """The same trouble as an error that stops or is tried again."""
    message = f"{what}: {error.message}" if what else error.message
    if isinstance(error, ReloadError):
        return RetryError(message, code=error.code)
    if isinstance(error, RecordError):
        stopped = ConfigurationError(message, code=error.code)
        stopped.status = error.status
        return stopped
    return error
