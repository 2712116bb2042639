"""Requests to the Web API: one client per system, metadata and error answers in Dataverse's own form.

Sources: microsoft.md 2.1 (headers, errors), 2.6 ($batch), 2.7 (service protection).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ipaas_resources.connectors.dataverse.config import SECRET, DataverseSettings
from ipaas_resources.core.errors import ProtocolError
from ipaas_resources.core.limits import BudgetKey
from ipaas_resources.net.auth import ClientCredentials
from ipaas_resources.net.body import MalformedBodyError, decode_json
from ipaas_resources.net.client import HttpClient, Timeouts
from ipaas_resources.net.odata import multipart_batch
from ipaas_resources.net.odata.errors import error_of
from ipaas_resources.net.request_log import safe_code
from ipaas_resources.net.statuses import error_for
from ipaas_resources.net.trace import HEADER as TRACE_HEADER
from ipaas_resources.net.trace import trace_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.connectors.base import Environment, Manifest
    from ipaas_resources.core.errors import IpaasError
    from ipaas_resources.net.odata.parts import PartRequest, PartResponse
    from ipaas_resources.net.response import Response

ROOT = "/api/data/v9.2/"

_HEADERS = {
    "OData-MaxVersion": "4.0",
    "OData-Version": "4.0",
    # Without it Dataverse may answer expands from a cache; the word null is the value.
    "If-None-Match": "null",
}
_QUOTED = re.compile(r"'([A-Za-z_][A-Za-z0-9_]*)'")

#: What the codes that people meet mean. Only these sentences are told: Dataverse's own repeat values of the record.
MEANINGS = {
    "0x80044331": "a text is longer than its column",
    "0x8004431a": "a choice has no such option",
    "0x8004432f": "a number is out of the range of its column",
    "0x80044330": "a number is out of the range of its column",
    "0x80048d19": "a column is unknown, not writable here, or of another type",
    "0x80060888": "the address names something that is not there",
    "0x80040217": "a record that it names does not exist",
    "0x80040237": "a record with this key exists already",
    "0x80060892": "another record holds the same value in an alternate key",
    "0x80060882": "the record has a newer version",
    "0x80040203": "a required column has no value",
    "0x80040220": "our application user lacks a privilege",
    "0x80044352": "the change token has expired",
    "0x80072322": "more than 6,000 requests in 300 seconds",
    "0x80072321": "more than 1,200 seconds of execution in 300 seconds",
    "0x80072326": "too many requests at once",
}


class Api:
    """Sends requests to one environment."""

    def __init__(
        self, system: str, settings: DataverseSettings, manifest: Manifest, environment: Environment
    ) -> None:
        """Nothing is sent yet. Raises ConfigurationError when an address is wrong."""
        #: Column names that a message may repeat; grows with the tables that were read.
        self.known_names: set[str] = set()
        self._ids = environment.ids
        self._what = system
        timeouts = Timeouts()
        self._write_timeouts = Timeouts(
            read=settings.write_timeout, total=max(timeouts.total, 2 * settings.write_timeout)
        )
        auth = ClientCredentials(
            system=system,
            authority=f"{settings.login_url.rstrip('/')}/{settings.tenant_id}",
            client_id=settings.client_id,
            secret=lambda: environment.secret(SECRET),
            scope=f"{settings.url}/.default",
            clock=environment.clock,
            ids=environment.ids,
            transport=environment.transport,
            ca_file=environment.ca_file,
        )
        self.client = HttpClient(
            system=system,
            base_url=settings.url + ROOT,
            clock=environment.clock,
            ids=environment.ids,
            limits=environment.limits,
            budget=BudgetKey(system, settings.client_id, ""),
            policy=environment.policy or manifest.limits.policy(),
            breaker=environment.breaker,
            auth=auth,
            headers=_HEADERS,
            transport=environment.transport,
            ca_file=environment.ca_file,
            explain=self.explain,
            count_call=environment.count_call,
        )
        self._auth = auth

    async def read_batch(self, parts: Sequence[PartRequest]) -> list[PartResponse]:
        """GET requests in one `$batch`; every one is answered, error or not.

        Raises:
            the errors of HttpClient.send for a read; ProtocolError when parts have no answer.
        """
        content_type, body = multipart_batch.build(parts, self._ids.trace_id(), base=ROOT)
        response = await self.client.send(
            "POST",
            "$batch",
            kind="read",
            headers={"content-type": content_type, "prefer": "odata.continue-on-error"},
            content=body,
            endpoint="$batch",
        )
        answers = multipart_batch.parse(response, len(parts))
        if any(answer is None for answer in answers):
            raise ProtocolError(f"{self._what} $batch left requests without an answer; run it again.")
        return [answer for answer in answers if answer is not None]

    async def write_batch(self, parts: Sequence[PartRequest], trace_id: str) -> list[PartResponse | None]:
        """Writes in one `$batch`, each on its own; None where a part has no answer.

        Raises:
            the errors of HttpClient.send for a write that is not repeatable.
        """
        content_type, body = multipart_batch.build(parts, self._ids.trace_id(), base=ROOT)
        response = await self.write(
            "$batch",
            body,
            {"content-type": content_type, "prefer": "odata.continue-on-error"},
            endpoint="$batch",
            trace_id=trace_id,
        )
        return multipart_batch.parse(response, len(parts))

    async def write(
        self, url: str, body: bytes, headers: dict[str, str], *, endpoint: str, trace_id: str
    ) -> Response:
        """POST something that changes records; never sent twice once it may have been applied."""
        return await self.client.send(
            "POST",
            url,
            kind="write",
            repeatable=False,
            headers=headers,
            content=body,
            endpoint=endpoint,
            trace_id=trace_id,
            timeouts=self._write_timeouts,
        )

    def trace_headers(self, trace_id: str) -> dict[str, str]:
        """The trace id as a header of one part of a batch."""
        value = trace_header(trace_id, self._ids.random())
        return {} if value is None else {TRACE_HEADER: value}

    def explain(self, response: Response | PartResponse) -> tuple[str, str] | None:
        """Code of an error answer, and what may be told of it: its meaning and the columns it names."""
        try:
            error = error_of(decode_json(response.content))
        except MalformedBodyError:
            return None
        if error is None:
            return None
        code, message = error
        meaning = MEANINGS.get(code.lower(), "")
        columns = self.columns_in(message)
        sentence = f"{meaning} ({', '.join(columns)})" if columns else meaning
        return code, f"Dataverse says: {sentence}." if sentence.strip() else ""

    def columns_in(self, message: str) -> list[str]:
        """The quoted names of a message that are names of columns."""
        return [name for name in dict.fromkeys(_QUOTED.findall(message)) if name in self.known_names]

    def part_error(self, part: PartResponse, *, write: bool) -> IpaasError | None:
        """The error that an answer inside a batch means, None for success."""
        explained = self.explain(part)
        code, sentence = explained or (None, "")
        retry_after = part.headers.get("retry-after", "")
        return error_for(
            part.status,
            write=write,
            what=f"{self._what} $batch",
            code=safe_code(code),
            explanation=sentence,
            retry_after=float(retry_after) if retry_after.isdecimal() else None,
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self.client.close()
        await self._auth.close()
