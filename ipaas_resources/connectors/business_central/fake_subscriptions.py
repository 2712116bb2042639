"""Webhook subscriptions of the fake: the entity set with its handshake, and what is told of changes (microsoft.md 1.9).

Sources there: dynamics-subscriptions.md and the AL codeunits APIWebhookNotificationMgt and APIWebhookNotificationSend.
Not done: events of table fields outside the API page, the suppression of null updates, delegated administrators.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import msgspec

from ipaas_resources.connectors.business_central.catalogue import catalogue
from ipaas_resources.connectors.business_central.fake_batch import Answer
from ipaas_resources.connectors.business_central.fake_errors import (
    bad_request,
    entity_changed,
    no_such_record,
    no_token,
    not_allowed,
    refused,
)
from ipaas_resources.connectors.business_central.fake_notices import Change, Notice, items_of
from ipaas_resources.connectors.fakes import dumps
from ipaas_resources.connectors.faking.sending import NO_ANSWER, Content, Mailroom, Parcel, may_send_to, shown

if TYPE_CHECKING:
    from ipaas_resources.connectors.business_central.fake_company import Company
    from ipaas_resources.connectors.business_central.fake_table import Row, Table
    from ipaas_resources.connectors.fakes import Request
    from ipaas_resources.connectors.faking.control import ProductControl
    from ipaas_resources.core.clock import Clock

LIFETIME = dt.timedelta(days=3)
MOST = 200
#: Seconds from the first change until the product tells of it and of what came since.
DELAY = 30.0
#: Seconds until a handshake has failed.
PATIENCE = 5.0
#: Seconds between attempts; one more failure deletes the subscription (GetDelayTimeForAttempt).
RETRIES = (60.0, 60.0, 600.0, 6_000.0, 60_000.0)
LONGEST_STATE = 2048
#: Sets of the route that no one can subscribe to: temporary tables, API queries, system tables, the job queue.
NOT_SUBSCRIBABLE = frozenset(
    {
        *("agedAccountsPayables", "agedAccountsReceivables", "applyVendorEntries", "attachments"),
        *("balanceSheets", "cashFlowStatements", "companies", "contactsInformation", "customerSales"),
        *("dimensionSetLines", "documentAttachments", "incomeStatements", "jobQueueEntries", "pdfDocument"),
        *("pictures", "purchaseCreditMemoLines", "purchaseInvoiceLines", "purchaseOrderLines"),
        *("retainedEarningsStatements", "salesCreditMemoLines", "salesInvoiceLines", "salesOrderLines"),
        *("salesQuoteLines", "subscriptions", "taxAreas", "taxGroups", "timeRegistrationEntries"),
        *("trialBalances", "vendorPurchases", "workflowApprovers"),
    }
)
_RESOURCE = re.compile(r"/?api/v2\.0/companies\(([0-9A-Fa-f-]{36})\)/([A-Za-z]+)")
_PATH = re.compile(r"subscriptions(?:\((?:subscriptionId=)?'([^']*)'\))?")
_SUPPORTED = re.compile(r".*/api/microsoft/runtime/beta/companies\(([^()]*)\)/webhookSupportedResources")
_STARTS = re.compile(r"resource eq '([^'*]*)\*'")
_NAMESPACE = uuid.UUID("4a0de1f4-02a9-5a4f-9f2b-1c3f5f1f0c11")
_OURS = "11111111-0000-0000-0000-000000000001"
_AGAIN = {NO_ANSWER, 408, 429}


class Subscription(msgspec.Struct, kw_only=True):
    """One row of `subscriptions`."""

    id: str
    url: str
    resource: str
    company: str
    set: str
    state: str
    expires: dt.datetime
    changed: dt.datetime
    version: int

    @property
    def etag(self) -> str:
        """The concurrency token."""
        return f'W/"JzE5OzE7{self.version};MTswMCc="'

    def row(self) -> dict[str, Any]:
        """As it goes over the wire."""
        return {
            "@odata.etag": self.etag,
            "subscriptionId": self.id,
            "notificationUrl": self.url,
            "resource": self.resource,
            "timestamp": self.version,
            "userId": _OURS,
            "lastModifiedDateTime": _seconds(self.changed),
            "clientState": self.state,
            "expirationDateTime": _seconds(self.expires),
        }


class Subscriptions:
    """Who is told of changes in one environment."""

    def __init__(self, clock: Clock, mailroom: Mailroom, companies: Mapping[str, Company]) -> None:
        self.delay = DELAY
        self._clock = clock
        self._mailroom = mailroom
        self._companies = companies
        self._kept: dict[str, Subscription] = {}
        #: (company, set) -> how many live subscriptions; asked at every change.
        self._followed: dict[tuple[str, str], int] = {}
        self._pending: list[Change] = []
        self._versions = 0
        self._run = clock.now().isoformat()

    # The entity set --------------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Every live subscription as on the wire."""
        self._expire()
        return [each.row() for each in self._kept.values()]

    async def answer(self, request: Request, path: str, base: str) -> Answer | None:
        """The answer to a request for the entity set, None when it is for something else."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        self._expire()
        identifier = match[1]
        if identifier is None:
            if request.method == "POST":
                return Answer(status=201, body=dumps((await self._make(request)).row()))
            if request.method != "GET":
                raise not_allowed(request.method, "subscriptions")
            context = f"{base}/$metadata#subscriptions"
            return Answer(status=200, body=dumps({"@odata.context": context, "value": self.rows()}))
        if identifier not in self._kept:
            raise no_such_record("subscription", identifier)
        if request.method == "GET":
            return Answer(status=200, body=dumps(self._kept[identifier].row()))
        if request.method == "PATCH":
            return Answer(status=200, body=dumps((await self._renew(identifier, request)).row()))
        if request.method == "DELETE":
            self._match(self._kept[identifier], request)
            self.remove(identifier)
            return Answer(status=204)
        raise not_allowed(request.method, "subscriptions")

    def supported(self, path: str, query: Mapping[str, str]) -> Answer | None:
        """The answer to `webhookSupportedResources` of the runtime route, None when it is not asked for."""
        match = _SUPPORTED.fullmatch(path)
        if match is None:
            return None
        if match[1].lower() not in self._companies:
            raise bad_request("The company is not there.", "Internal_CompanyNotFound")
        wanted = _STARTS.fullmatch(query.get("$filter", "resource eq '*'"))
        if wanted is None:
            raise bad_request("The fake knows a filter by the beginning of `resource` alone.")
        names = [f"v2.0/{name}" for name in sorted(set(catalogue().sets) - NOT_SUBSCRIBABLE)]
        value = [{"resource": name} for name in names if name.startswith(wanted[1])]
        return Answer(status=200, body=dumps({"value": value}))

    async def _make(self, request: Request) -> Subscription:
        given = _body(request)
        if len(self._kept) >= MOST:
            raise refused(f"The number of webhook subscriptions cannot be more than {MOST}.")
        company, set_name = self._resource(given.get("resource"))
        await self._shake(given.get("notificationUrl"))
        self._versions += 1
        now = self._clock.now()
        made = Subscription(
            id=str(uuid.uuid5(_NAMESPACE, f"{self._run}/{self._versions}")).replace("-", ""),
            url=given["notificationUrl"],
            resource=given["resource"],
            company=company,
            set=set_name,
            state=_state(given.get("clientState", "")),
            expires=now + LIFETIME,
            changed=now,
            version=self._versions,
        )
        self._kept[made.id] = made
        self._count()
        return made

    async def _renew(self, identifier: str, request: Request) -> Subscription:
        there = self._kept[identifier]
        self._match(there, request)
        given = _body(request)
        url, resource = given.get("notificationUrl", there.url), given.get("resource", there.resource)
        company, set_name = self._resource(resource)
        await self._shake(url)
        if identifier not in self._kept:  # it went while the receiver was asked
            raise no_such_record("subscription", identifier)
        self._versions += 1
        there.url, there.resource, there.company, there.set = url, resource, company, set_name
        there.state = _state(given.get("clientState", there.state))
        there.changed = self._clock.now()
        there.expires = there.changed + LIFETIME
        there.version = self._versions
        self._count()
        return there

    def _match(self, there: Subscription, request: Request) -> None:
        token = request.headers.get("if-match")
        if not token:
            raise no_token()
        if token not in ("*", there.etag):
            raise entity_changed(409)

    def _resource(self, text: object) -> tuple[str, str]:
        match = _RESOURCE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise bad_request("The resource is not an entity set below a company of this route.")
        company, name = match[1].lower(), match[2]
        if company not in self._companies or name not in catalogue().sets:
            raise bad_request("The resource does not exist.", "BadRequest_ResourceNotFound")
        if name in NOT_SUBSCRIBABLE:
            raise bad_request(f"Webhook subscriptions are not supported for '{name}'.")
        return company, name

    async def _shake(self, url: object) -> None:
        """The receiver has to say the token back."""
        if not isinstance(url, str) or not may_send_to(url):
            raise bad_request(
                "The notificationUrl is not valid: a simulated product sends to 127.0.0.1 alone."
            )
        token = str(uuid.uuid5(_NAMESPACE, f"{self._clock.now().isoformat()}/{self._versions}"))
        answer = await self._mailroom.ask(
            f"{url}{'&' if '?' in url else '?'}validationToken={quote(token)}", patience=PATIENCE
        )
        if answer is None or answer.status_code != 200 or answer.text != token:  # noqa: PLR2004 - OK
            raise bad_request("The notificationUrl did not answer the validation request with its token.")

    # By hand ---------------------------------------------------------------------------------------------------------

    def remove(self, identifier: str) -> None:
        """Delete a subscription. KeyError when it is not there."""
        del self._kept[identifier]
        self._count()

    def controls(self) -> Mapping[tuple[str, str], ProductControl]:
        """GET subscriptions, DELETE subscriptions?id=ID, GET or POST notifications {delay}."""
        return {
            ("GET", "subscriptions"): self._list,
            ("DELETE", "subscriptions"): self._drop,
            ("GET", "notifications"): lambda _request: {"delay": self.delay},
            ("POST", "notifications"): self._set_delay,
        }

    def _list(self, _request: Request) -> Any:
        return {
            "subscriptions": [
                {
                    "id": row["subscriptionId"],
                    "url": shown(row["notificationUrl"]),
                    "resource": row["resource"],
                    "expires": row["expirationDateTime"],
                }
                for row in self.rows()
            ]
        }

    def _drop(self, request: Request) -> Any:
        self.remove(request.query.get("id", ""))
        return {}

    def _set_delay(self, request: Request) -> Any:
        self.delay = max(0.0, float(request.json()["delay"]))
        return {"delay": self.delay}

    # Telling ---------------------------------------------------------------------------------------------------------

    def note(
        self, kind: Literal["created", "updated", "deleted"], company: Company, table: Table, row: Row
    ) -> Callable[[], None] | None:
        """A record changed; what takes it back when the change is undone, None when nobody follows the set."""
        if (company.id, table.set.name) not in self._followed:
            return None
        change = Change(
            kind=kind,
            company=company.id,
            set=table.set.name,
            id=str(row.values[table.index[table.set.key[0]]]),
            stamp=row.stamp,
            at=self._clock.monotonic(),
            timed=table.set.cursor is not None,
        )
        if not self._pending:
            self._mailroom.call_at(self.delay, self._tell)
        self._pending.append(change)
        return change.withdraw

    def _tell(self) -> None:
        """Group what is pending by receiver and send it."""
        pending = [change for change in self._pending if not change.withdrawn]
        self._pending = []
        self._expire()
        by_set: dict[tuple[str, str], list[Change]] = {}
        for change in pending:
            by_set.setdefault((change.company, change.set), []).append(change)
        by_url: dict[str, list[tuple[str, list[Notice]]]] = {}
        for each in self._kept.values():
            changes = by_set.get((each.company, each.set))
            if changes:
                by_url.setdefault(each.url, []).append((each.id, items_of(changes)))
        for url, notices in by_url.items():
            self._mailroom.post(self._parcel(url, notices))

    def _parcel(self, url: str, notices: list[tuple[str, list[Notice]]]) -> Parcel:
        told = [notice for _, each in notices for notice in each]
        ids = [identifier for identifier, _ in notices]

        def pack(attempt: int) -> Content | None:
            items = [
                self._item(there, notice)
                for identifier, each in notices
                if (there := self._kept.get(identifier)) is not None and there.url == url
                for notice in each
            ]
            if not items:
                return None
            name = f"{self._run}/{url}/{told[0].at}/{attempt}"
            headers = {
                "content-type": "application/json",
                # New with every attempt, so they are no key of the delivery.
                "clientRequestId": str(uuid.uuid5(_NAMESPACE, f"client/{name}")),
                "x-ms-correlation-id": str(uuid.uuid5(_NAMESPACE, f"correlation/{name}")),
            }
            return headers, dumps({"value": items})

        return Parcel(
            url=url,
            about=tuple(f"{notice.kind} {notice.resource}" for notice in told),
            pack=pack,
            heard=lambda attempt, status: self._heard(url, ids, attempt, status),
            changed=min(notice.at for notice in told),
        )

    def _item(self, there: Subscription, notice: Notice) -> dict[str, Any]:
        return {
            "subscriptionId": there.id,
            "clientState": there.state,
            "expirationDateTime": _seconds(there.expires),
            "resource": notice.resource,
            "changeType": notice.kind,
            "lastModifiedDateTime": notice.modified,
        }

    def _heard(self, url: str, ids: Iterable[str], attempt: int, status: int) -> float | None:
        if 200 <= status < 300:  # noqa: PLR2004 - taken
            return None
        if status in _AGAIN or status >= 500:  # noqa: PLR2004 - the receiver's trouble
            if attempt <= len(RETRIES):
                return RETRIES[attempt - 1]
            gone = set(ids)
        else:
            gone = {each.id for each in self._kept.values() if each.url == url}
        for identifier in gone & set(self._kept):
            self.remove(identifier)
        return None

    def _expire(self) -> None:
        now = self._clock.now()
        for each in [each for each in self._kept.values() if each.expires <= now]:
            self.remove(each.id)

    def _count(self) -> None:
        self._followed = {}
        for each in self._kept.values():
            key = (each.company, each.set)
            self._followed[key] = self._followed.get(key, 0) + 1


def _body(request: Request) -> dict[str, Any]:
    try:
        given = request.json()
    except ValueError:
        given = None
    if not isinstance(given, dict) or set(given) - {"notificationUrl", "resource", "clientState"}:
        raise bad_request("Invalid Request Body")
    return given


def _state(text: object) -> str:
    if not isinstance(text, str) or len(text) > LONGEST_STATE:
        raise bad_request(f"The clientState is no text of at most {LONGEST_STATE} characters.")
    return text


def _seconds(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
