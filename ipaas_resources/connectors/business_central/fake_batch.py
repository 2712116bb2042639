"""JSON $batch: at most 100 requests, each alone, or all or nothing with `Isolation: snapshot`.

Source: BC webservices/use-odata-batch.md. A snapshot batch goes on after a failed request, and its answers keep the
success statuses of what is rolled back in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from ipaas_resources.connectors.business_central.fake_errors import bad_request
from ipaas_resources.connectors.fakes import dumps, loads

#: BC administration/operational-limits-online.md
MAX_OPERATIONS = 100


class Call(msgspec.Struct, kw_only=True):
    """One request as the product's inside sees it, from the outside or from a batch."""

    method: str
    path: str  # below the route, decoded: companies(...)/customers(...)
    pairs: list[tuple[str, str]] = []
    headers: Mapping[str, str] = {}  # lower-case names
    body: Any = None  # parsed JSON
    url: str = ""  # absolute, without the query
    trace_id: str = ""


class Answer(msgspec.Struct, kw_only=True):
    """One answer of the product's inside; `body` is prepared JSON."""

    status: int
    body: bytes | None = None
    headers: dict[str, str] = {}


_HEADERS = b'{"content-type":"application/json; odata.metadata=minimal","odata-version":"4.0"}'


def calls_of(body: object, base: str) -> list[tuple[Any, Call]]:
    """The (id, call) pairs of a batch. Raises BusinessCentralError when it is none, or too long."""
    requests = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(requests, list) or not requests:
        raise bad_request("Invalid Request Body: a JSON batch holds a list named 'requests'.")
    if len(requests) > MAX_OPERATIONS:
        raise bad_request(
            f"The batch contains {len(requests)} operations. The maximum number of operations is {MAX_OPERATIONS}."
        )
    return [(request.get("id"), _call(request, base)) for request in requests]


def _call(request: Mapping[str, Any], base: str) -> Call:
    try:
        url, method = str(request["url"]), str(request["method"])
    except KeyError as missing:
        raise bad_request(f"Invalid Request Body: a request of the batch has no {missing}.") from None
    headers = {name.lower(): str(value) for name, value in (request.get("headers") or {}).items()}
    path, _, query = url.removeprefix(base + "/").partition("?")
    path = unquote(path.removeprefix("/"))
    return Call(
        method=method.upper(),
        path=path,
        pairs=parse_qsl(query, keep_blank_values=True),
        headers=headers,
        body=request.get("body"),
        url=f"{base}/{path}",
        trace_id=_trace(headers),
    )


def _trace(headers: Mapping[str, str]) -> str:
    parts = headers.get("traceparent", "").split("-")
    return parts[1] if len(parts) == 4 else ""  # noqa: PLR2004 - W3C: version, trace, span, flags


def batch_json(calls: list[tuple[Any, Call]], answer: Callable[[Call], Answer]) -> bytes:
    """The JSON of the answers, in the order of the requests."""
    parts: list[bytes] = []
    for identifier, call in calls:
        answered = answer(call)
        headers = _with_headers(answered.headers) if answered.headers else _HEADERS
        head = b'{"id":%s,"status":%d,"headers":%s' % (dumps(identifier), answered.status, headers)
        parts.append(head + (b',"body":%s}' % answered.body if answered.body is not None else b"}"))
    return b'{"responses":[' + b",".join(parts) + b"]}"


def _with_headers(headers: Mapping[str, str]) -> bytes:
    return dumps({**loads(_HEADERS), **headers})
