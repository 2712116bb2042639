r"""`$batch` of the fake: multipart in, multipart out; change sets are atomic and know each other by Content-ID.

microsoft.md 2.6: at most 1,000 requests, no batch in a batch, no GET in a change set, a later Content-ID is unknown;
without `Prefer: odata.continue-on-error` the first error ends it and is the status of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from ipaas_resources.connectors.dataverse.fake_call import ROOT, Call
from ipaas_resources.connectors.dataverse.fake_errors import RefusedError, bad_url
from ipaas_resources.connectors.fakes import Reply

if TYPE_CHECKING:
    from ipaas_resources.connectors.dataverse.fake_organization import Organization

MOST_REQUESTS = 1000
_ERROR = 400
_BOUNDARY = re.compile(r'multipart/mixed;\s*boundary="?([^";]+)"?', re.IGNORECASE)
_LINE = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1", re.ASCII)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}

Dispatch = Callable[[Call], Reply]


class _Part(NamedTuple):
    headers: dict[str, str]
    content: bytes


def batch(organization: Organization, call: Call, dispatch: Dispatch) -> Reply:
    """`POST $batch`; `dispatch` answers one request and never raises."""
    parts = _parts(call.headers.get("content-type", ""), call.body)
    if _count(parts) > MOST_REQUESTS:
        raise bad_url(f"The maximum number of '{MOST_REQUESTS}' requests in a batch was exceeded.")
    go_on = "odata.continue-on-error" in call.preferences
    boundary = f"batchresponse_{organization.new_id()}"
    answers: list[bytes] = []
    status = 200
    for part in parts:
        failed = 0
        if part.headers.get("content-type", "").lower().startswith("multipart/mixed"):
            body, failed = _change_set(organization, call, part, dispatch)
        else:
            reply = dispatch(_request(call, part, None))
            failed = reply.status if reply.status >= _ERROR else 0
            body = _rendered(reply)
        answers.append(body)
        if failed and not go_on:
            status = failed
            break
    return Reply(status, _framed(boundary, answers), content_type=f"multipart/mixed; boundary={boundary}")


def _change_set(organization: Organization, call: Call, part: _Part, dispatch: Dispatch) -> tuple[bytes, int]:
    """One change set: all answers, or the one error that undid it."""
    members = _parts(part.headers["content-type"], part.content)
    references: dict[str, str] = {}
    before = len(call.effects)
    organization.journal = []
    answers: list[bytes] = []
    try:
        for member in members:
            failure = _run(call, member, references, dispatch, answers)
            if failure is not None:
                for undo in reversed(organization.journal):
                    undo()
                del call.effects[before:]
                return _rendered(failure), failure.status
    finally:
        organization.journal = None
    boundary = f"changesetresponse_{organization.new_id()}"
    head = f"Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n".encode()
    return head + _framed(boundary, answers), 0


def _run(
    call: Call,
    member: _Part,
    references: dict[str, str],
    dispatch: Dispatch,
    answers: list[bytes],
) -> Reply | None:
    """Run one member of a change set; its error reply, None when it went well."""
    content_id = member.headers.get("content-id", "")
    if not content_id:
        return bad_url("Content-ID header is not present in a request of the change set.").reply()
    inner = _request(call, member, references)
    if inner.method == "GET":
        return bad_url("A GET request cannot be part of a change set.").reply()
    reply = dispatch(inner)
    if reply.status >= _ERROR:
        return reply
    if "odata-entityid" in reply.headers:
        references[f"${content_id}"] = reply.headers["odata-entityid"].removeprefix(call.service_root)
    answers.append(_rendered(reply, content_id))
    return None


def _count(parts: list[_Part]) -> int:
    return sum(
        len(_parts(part.headers["content-type"], part.content))
        if part.headers.get("content-type", "").lower().startswith("multipart/mixed")
        else 1
        for part in parts
    )


def _parts(content_type: str, content: bytes) -> list[_Part]:
    match = _BOUNDARY.match(content_type)
    if match is None:
        raise RefusedError(415, "0x80060888", "A batch is of the media type multipart/mixed with a boundary.")
    delimiter = b"--" + match[1].encode("ascii")
    pieces = content.split(delimiter)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):  # noqa: PLR2004 - a preamble and an end
        raise bad_url("The batch is not closed by its boundary.")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> _Part:
    if not piece.startswith(b"\r\n"):
        raise bad_url("Lines of a batch end in CRLF.")
    head, separator, content = piece[2:].partition(b"\r\n\r\n")
    if not separator:
        raise bad_url("A part of the batch has no blank line behind its headers.")
    return _Part(dict(_headers(head.split(b"\r\n"))), content.removesuffix(b"\r\n"))


def _headers(lines: list[bytes]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if line:
            name, _, value = line.partition(b":")
            yield name.strip().decode("latin-1").lower(), value.strip().decode("latin-1")


def _request(call: Call, part: _Part, references: dict[str, str] | None) -> Call:
    """The request inside a part."""
    if part.headers.get("content-type", "").lower() != "application/http":
        raise bad_url("A part of the batch is no application/http.")
    head, _, body = part.content.partition(b"\r\n\r\n")
    line, *rest = head.split(b"\r\n")
    match = _LINE.fullmatch(line)
    if match is None:
        raise bad_url("A part of the batch has no request line.")
    headers = dict(_headers(rest))
    path, _, query = match[2].decode("ascii").partition("?")
    return Call(
        match[1].decode("ascii"),
        _inner_path(call, unquote(path), references),
        query,
        headers,
        # Only the blank line before the boundary ends the body; a product reads by Content-Length where it is given.
        body[: int(headers["content-length"])] if "content-length" in headers else body,
        origin=call.origin,
        effects=call.effects,
        trace_id=headers.get("traceparent", "").split("-")[1] if "traceparent" in headers else call.trace_id,
        references=references,
    )


def _inner_path(call: Call, path: str, references: dict[str, str] | None) -> str:
    path = path.removeprefix(call.origin).removeprefix(ROOT)
    if path.startswith("$") and path != "$batch":
        reference, slash, rest = path.partition("/")
        known = (references or {}).get(reference)
        if known is None:
            raise bad_url(f"Content-ID Reference: '{reference}' does not exist in the batch context.")
        return known + slash + rest
    return path


def _rendered(reply: Reply, content_id: str = "") -> bytes:
    body = reply.body if isinstance(reply.body, bytes) else b""
    lines = [
        "Content-Type: application/http",
        "Content-Transfer-Encoding: binary",
        *([f"Content-ID: {content_id}"] if content_id else []),
        "",
        f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, '')}",
        *(f"{_WIRE_NAMES.get(name, name)}: {value}" for name, value in reply.headers.items()),
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1") + body


_WIRE_NAMES = {
    "content-type": "Content-Type",
    "odata-entityid": "OData-EntityId",
    "odata-version": "OData-Version",
    "etag": "ETag",
    "retry-after": "Retry-After",
}


def _framed(boundary: str, parts: list[bytes]) -> bytes:
    mark = f"--{boundary}".encode("ascii")
    return b"".join(b"%b\r\n%b\r\n" % (mark, part) for part in parts) + mark + b"--\r\n"
