"""The JSON form of $batch, as Business Central speaks it (BC webservices/use-odata-batch.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.net.body import encode_json
from ipaas_resources.net.odata.parts import PartRequest, PartResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipaas_resources.net.response import Response


def build(parts: Sequence[PartRequest]) -> bytes:
    """The body of a batch; parts get the ids "1", "2", ... in their order."""
    requests: list[dict[str, Any]] = []
    for number, part in enumerate(parts, 1):
        request: dict[str, Any] = {"id": str(number), "method": part.method, "url": part.url}
        if part.body is not None:
            request["headers"] = {"Content-Type": "application/json", **part.headers}
            request["body"] = msgspec.Raw(part.body)
        else:
            request["headers"] = part.headers
        requests.append(request)
    return encode_json({"requests": requests})


def parse(response: Response, count: int) -> list[PartResponse | None]:
    """The answers in the order of the requests, None where a part has no answer (its outcome is unknown).

    Parts are matched by id. Business Central may leave every id null and then keeps the order of the requests.

    Raises:
        ProtocolError, UnknownOutcomeError (write): the answer is no batch, or names parts that were not sent.
    """
    body = response.json()
    answers = body.get("responses") if isinstance(body, dict) else None
    if not isinstance(answers, list) or not all(_is_answer(answer) for answer in answers):
        raise response.broken("it is no batch answer")
    results: list[PartResponse | None] = [None] * count
    if all(answer.get("id") is None for answer in answers):
        # Without ids only a complete answer tells which part is which.
        if len(answers) != count:
            raise response.broken(f"it answers {len(answers)} of {count} parts and names none")
        return [_part(answer) for answer in answers]
    for answer in answers:
        number = _number(answer.get("id"), count)
        if number is None or results[number - 1] is not None:
            raise response.broken("it answers a part that was not sent, or one part twice")
        results[number - 1] = _part(answer)
    return results


def _is_answer(answer: object) -> bool:
    return isinstance(answer, dict) and isinstance(answer.get("status"), int)


def _number(identity: object, count: int) -> int | None:
    text = str(identity)
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004 - no huge ids
    return number if 1 <= number <= count else None


def _part(answer: dict[str, Any]) -> PartResponse:
    headers = answer.get("headers")
    body = answer.get("body")
    return PartResponse(
        status=answer["status"],
        headers={name.lower(): str(value) for name, value in headers.items()}
        if isinstance(headers, dict)
        else {},
        content=b"" if body is None else encode_json(body),
    )
