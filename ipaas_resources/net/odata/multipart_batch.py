"""The multipart form of $batch, as Dataverse speaks it (DV webapi/execute-batch-operations-using-web-api.md)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ipaas_resources.core.errors import RefusedRecordError
from ipaas_resources.net.odata.parts import PartRequest, PartResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.net.response import Response

_CRLF = b"\r\n"
_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^\s;,]+))', re.IGNORECASE)
_STATUS_LINE = re.compile(rb"HTTP/\d(?:\.\d)?\s+(\d{3})\b")
_HEADERS_END = re.compile(rb"\r?\n\r?\n")


def build(
    parts: Sequence[PartRequest], boundary: str, *, base: str = "", changeset: bool = False
) -> tuple[str, bytes]:
    """Content type and body of a batch.

    Args:
        parts: in order; their URLs are made absolute paths below `base` ("/api/data/v9.2/").
        boundary: a text that occurs in no part, such as a trace id.
        changeset: all parts in one change set: done together or not at all. GET is not allowed in it.
    """
    if changeset:
        inner = f"changeset_{boundary}"
        head = f"--batch_{boundary}\r\nContent-Type: multipart/mixed; boundary={inner}\r\n\r\n".encode()
        body = head + _parts(parts, inner, base) + _CRLF
    else:
        body = _parts(parts, f"batch_{boundary}", base, end=False)
    return f"multipart/mixed; boundary=batch_{boundary}", body + f"--batch_{boundary}--\r\n".encode()


def _parts(parts: Sequence[PartRequest], boundary: str, base: str, *, end: bool = True) -> bytes:
    pieces: list[bytes] = []
    for number, part in enumerate(parts, 1):
        headers = dict(part.headers)
        if part.body is not None:
            headers.setdefault("Content-Type", "application/json")
        if any(not value.isprintable() for value in (part.url, *headers, *headers.values())):
            # A line break in a value would begin a request of its own.
            raise RefusedRecordError(
                "An address or header of a batch part holds characters that HTTP forbids."
            )
        lines = [
            f"--{boundary}",
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            f"Content-ID: {number}",
            "",
            f"{part.method} {base}{part.url} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        ]
        pieces.append("\r\n".join(lines).encode() + (part.body or b"") + _CRLF)
    if end:
        pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces)


def parse(response: Response, count: int) -> list[PartResponse | None]:
    """The answers in the order of the requests, None where a part has none.

    Without `Prefer: odata.continue-on-error` the answers end at the first error; a failed change set has one answer for
    all its parts (see `parse_changeset`). A part whose closing boundary is missing was cut and counts as absent.

    Raises:
        ProtocolError, UnknownOutcomeError (write): no multipart answer, or more parts than were sent.
    """
    answers = _answers(response)
    if len(answers) > count:
        raise response.broken(f"it holds {len(answers)} answers to {count} parts")
    return _placed(response, answers, count)


def parse_changeset(response: Response, count: int) -> list[PartResponse | None]:
    """The answers of a batch that is one change set; a single error stands for every part, as nothing was done."""
    answers = _answers(response)
    if len(answers) == 1 and answers[0].status >= 400:  # noqa: PLR2004 - the errors begin there
        return [answers[0]] * count
    if len(answers) > count:
        raise response.broken(f"it holds {len(answers)} answers to {count} parts")
    return _placed(response, answers, count)


def _placed(response: Response, answers: list[PartResponse], count: int) -> list[PartResponse | None]:
    """By Content-ID where every answer has one, by order otherwise."""
    results: list[PartResponse | None] = [None] * count
    numbers = [answer.headers.get("content-id", "") for answer in answers]
    if not all(number.isascii() and number.isdigit() for number in numbers):
        results[: len(answers)] = answers
        return results
    for number, answer in zip(numbers, answers, strict=True):
        place = int(number[:9]) - 1
        if not 0 <= place < count or results[place] is not None:
            raise response.broken("it answers a part that was not sent, or one part twice")
        results[place] = answer
    return results


def _answers(response: Response) -> list[PartResponse]:
    boundary = _boundary(response.headers.get("content-type", ""))
    if boundary is None:
        raise response.broken("it is no multipart answer")
    answers: list[PartResponse] = []
    for part in _split(response.content, boundary):
        answers.extend(_part(response, part))
    return answers


def _boundary(content_type: str) -> bytes | None:
    if not content_type.lower().startswith("multipart/mixed"):
        return None
    match = _BOUNDARY.search(content_type)
    return (match[1] or match[2]).encode() if match else None


def _split(content: bytes, boundary: bytes) -> list[bytes]:
    """The whole parts: those with a boundary line before and after them."""
    line = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|\Z)")
    parts: list[bytes] = []
    begin: int | None = None
    for match in line.finditer(content):
        if begin is not None:
            parts.append(content[begin : match.start()])
        if match[1]:
            break
        begin = match.end()
    return parts


def _part(response: Response, part: bytes) -> list[PartResponse]:
    headers, body = _headed(part.lstrip(b"\r\n"))
    inner = _boundary(headers.get("content-type", ""))
    if inner is not None:
        # The inner closing boundary may end right at the outer one, whose line break was cut away.
        return [answer for each in _split(body, inner) for answer in _part(response, each)]
    match = _STATUS_LINE.match(body)
    if match is None:
        raise response.broken("a part of it is no HTTP answer")
    inside, content = _headed(body[body.find(b"\n") + 1 :] if b"\n" in body else b"")
    if "content-id" in headers:
        inside = {"content-id": headers["content-id"], **inside}
    return [PartResponse(status=int(match[1]), headers=inside, content=content)]


def _headed(block: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and what follows the empty line."""
    if block.startswith((b"\r\n", b"\n")):
        return {}, block[2 if block.startswith(b"\r") else 1 :]
    end = _HEADERS_END.search(block)
    head, body = (block[: end.start()], block[end.end() :]) if end else (block, b"")
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return headers, body
