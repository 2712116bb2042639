"""The fake Dataverse: one organization behind its Web API, as microsoft.md section 2 describes it.

What it refuses, the product refuses. Sign-in is not here: hand in the `Tokens` of a login fake, or accept tokens on
`fake.tokens` yourself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ipaas_resources.connectors.dataverse import fake_by_hand, fake_metadata, fake_reads
from ipaas_resources.connectors.dataverse.fake_batch import batch
from ipaas_resources.connectors.dataverse.fake_call import ROOT, Call
from ipaas_resources.connectors.dataverse.fake_errors import (
    RefusedError,
    bad_url,
    error_body,
    protection_reply,
)
from ipaas_resources.connectors.dataverse.fake_organization import Organization
from ipaas_resources.connectors.dataverse.fake_values import GUID
from ipaas_resources.connectors.dataverse.fake_webhooks import Webhooks
from ipaas_resources.connectors.dataverse.fake_writes import Writes
from ipaas_resources.connectors.fakes import FakeApp, Recent, Reply, Request, Tokens, json_reply
from ipaas_resources.core.limits import LimitPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipaas_resources.connectors.dataverse.fake_store import Rows
    from ipaas_resources.connectors.faking.control import ProductControl
    from ipaas_resources.core.clock import Clock, Ids
    from ipaas_resources.core.values import Value

#: Seconds that a token is good for: 60 to 90 minutes (microsoft.md 4.1).
TOKEN_LIFETIME = 3600.0

_RESOURCE = re.compile(r"(\w+)(?:\(([^()]*)\))?(?:/(\$count|Microsoft\.Dynamics\.CRM\.\w+))?")
_LOCAL = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")
_ACTION = "Microsoft.Dynamics.CRM."


class FakeDataverse(FakeApp):
    """One organization. `url`: the address that its links name; None: that of the request, http on loopback."""

    limits = LimitPolicy(requests=6000, window=300.0, concurrency=52)

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        tokens: Tokens | None = None,
        url: str | None = None,
    ) -> None:
        super().__init__(clock=clock, ids=ids)
        self.tokens = tokens or Tokens(self.clock)
        self.organization = Organization(self.clock, self.ids, Recent(self))
        self.webhooks = Webhooks(self.organization, self.mailroom)
        self._url = url

    async def handle(self, request: Request) -> Reply:
        """Answer one request of the Web API."""
        if not request.path.startswith(ROOT):
            return bad_url("Resource not found for the segment provided.", 404).reply()
        call = Call(
            request.method,
            request.path.removeprefix(ROOT),
            request.raw_query.decode("ascii"),
            request.headers,
            request.body,
            origin=self._url or _origin(request.headers.get("host", "")),
            effects=request.effects,
            trace_id=request.trace_id,
        )
        if call.path == "$batch" and call.method == "POST":
            try:
                return batch(self.organization, call, self._dispatch)
            except RefusedError as refused:
                return refused.reply()
        return self._dispatch(call)

    def authorize(self, request: Request) -> Reply | None:
        """401 without a token that is still good and meant for this environment."""
        authorization = request.headers.get("authorization", "")
        resource = _holder(authorization)[1]
        ours = self._url or f"//{request.headers.get('host', '')}"
        if self.tokens.valid(authorization) and (not resource or resource.endswith(ours)):
            return None
        return Reply(401, b"", {"www-authenticate": "Bearer"})

    def principal(self, request: Request) -> str:
        """Limits count per application user, whatever token it carries at the time."""
        return _holder(request.headers.get("authorization", ""))[0]

    def throttled(self, request: Request, reason: str, retry_after: float) -> Reply:
        """The product's answer beyond a service protection limit."""
        del request
        return protection_reply(reason, retry_after)

    def sim_records(self, entity: str, scope: str) -> Iterable[Mapping[str, Value]]:
        """All rows of a table."""
        del scope
        return fake_by_hand.records(self.organization, entity)

    def sim_record(self, entity: str, identifier: str) -> Mapping[str, Value]:
        """One row. KeyError when it is not there."""
        return fake_by_hand.record(self.organization, entity, identifier)

    def sim_add(self, entity: str, scope: str, fields: dict[str, Value]) -> str:
        """Add a row by hand; its id."""
        del scope
        return fake_by_hand.add(self.organization, entity, fields)

    def sim_change(self, entity: str, scope: str, identifier: str, fields: dict[str, Value]) -> None:
        """Change a row by hand."""
        del scope
        fake_by_hand.edit(self.organization, entity, identifier, fields)

    def sim_remove(self, entity: str, scope: str, identifier: str) -> None:
        """Delete a row by hand."""
        del scope
        fake_by_hand.delete(self.organization, entity, identifier)

    def sim_controls(self) -> Mapping[tuple[str, str], ProductControl]:
        """Who registered for changes, and how soon they hear of them."""
        return self.webhooks.controls()

    def _dispatch(self, call: Call) -> Reply:
        """Answer one request, on its own or as a part of a batch."""
        try:
            return self._answered(call)
        except RefusedError as refused:
            return refused.reply()

    def _answered(self, call: Call) -> Reply:
        if call.path == "$batch":
            raise bad_url("A batch cannot contain a batch.")
        if call.path == "WhoAmI" and call.method == "GET":
            return self._who_am_i(call)
        answer = fake_metadata.answer(self.organization, call)
        if answer is None:
            answer = self.webhooks.registrations.answer(call)
        if answer is not None:
            return answer
        match = _RESOURCE.fullmatch(call.path)
        if match is None:
            raise bad_url("Resource not found for the segment provided.", 404)
        rows = self.organization.rows_of(match[1])
        if match[2] is not None:
            return self._one(call, rows, match[2])
        if match[3] and match[3].startswith(_ACTION):
            return self._action(call, rows, match[3].removeprefix(_ACTION))
        if match[3]:
            return fake_reads.count(rows)
        return self._collection(call, rows)

    def _collection(self, call: Call, rows: Rows) -> Reply:
        if call.method == "GET":
            return fake_reads.many(self.organization, call, rows)
        if call.method == "POST":
            return Writes(self.organization, call, rows).create()
        return _wrong_method(call)

    def _one(self, call: Call, rows: Rows, key: str) -> Reply:
        identifier = key.removeprefix(f"{rows.table.primary}=")
        if GUID.fullmatch(identifier) is None:
            # The catalogue knows no alternate keys: most tables have none (microsoft.md 2.5).
            raise bad_url(
                "The specified key properties are not the key of the table or an alternate key of it."
            )
        identifier = identifier.lower()
        match call.method:
            case "GET":
                return fake_reads.one(self.organization, call, rows, identifier)
            case "PATCH":
                return Writes(self.organization, call, rows).patch(identifier)
            case "DELETE":
                return Writes(self.organization, call, rows).delete(identifier)
        return _wrong_method(call)

    def _action(self, call: Call, rows: Rows, name: str) -> Reply:
        action = _ACTIONS.get(name)
        if action is None:
            raise bad_url(f"Resource not found for the segment '{_ACTION}{name}'.", 404)
        if call.method != "POST":
            return _wrong_method(call)
        return action(Writes(self.organization, call, rows))

    def _who_am_i(self, call: Call) -> Reply:
        us = self.organization
        return json_reply(
            {
                "@odata.context": f"{call.service_root}$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse",
                "BusinessUnitId": us.business_unit,
                "UserId": us.user,
                "OrganizationId": us.organization,
            }
        )


_ACTIONS: Mapping[str, Callable[[Writes], Reply]] = {
    "CreateMultiple": Writes.create_multiple,
    "UpdateMultiple": Writes.update_multiple,
    "UpsertMultiple": Writes.upsert_multiple,
}


def _holder(authorization: str) -> tuple[str, str]:
    """Client id and resource of a token of the login fake, `<client id>@<resource>-<number>`."""
    token = authorization.partition(" ")[2]
    client, mark, rest = token.partition("@")
    return client, rest.rpartition("-")[0] if mark else ""


def _origin(host: str) -> str:
    return f"{'http' if _LOCAL.fullmatch(host) else 'https'}://{host}"


def _wrong_method(call: Call) -> Reply:
    return json_reply(
        error_body("0x80060888", f"The requested resource does not support http method '{call.method}'."), 405
    )
