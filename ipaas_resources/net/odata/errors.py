"""What an OData error answer says: `{"error": {"code": ..., "message": ...}}`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ipaas_resources.net.body import MalformedBodyError, decode_json

if TYPE_CHECKING:
    from collections.abc import Collection

    from ipaas_resources.net.response import Response

#: Characters of a product's sentence that are kept.
LONGEST = 300

_CORRELATION = re.compile(r"\s*Correlation\s?Id:?\s*[0-9a-fA-F-]*\.?\s*$", re.IGNORECASE)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"|\u2018([^\u2019]*)\u2019|\u201c([^\u201d]*)\u201d")
_VALUE_LIKE = re.compile(r"\S*@\S+|\S*\d\S*")


def error_of(body: Any) -> tuple[str, str] | None:
    """Code and raw message of a parsed error body, None when it is none. The message may hold record values."""
    if not isinstance(body, dict) or not isinstance(body.get("error"), dict):
        return None
    error = body["error"]
    message = error.get("message")
    if isinstance(message, dict):  # OData v2 and v3: {"lang": "en", "value": "..."}
        message = message.get("value")
    code = error.get("code")
    return (code if isinstance(code, str) else "", message if isinstance(message, str) else "")


def explain(response: Response, known: Collection[str] = ()) -> tuple[str, str] | None:
    """For HttpClient(explain=...): the product's code and its sentence without values (see `masked`)."""
    try:
        error = error_of(decode_json(response.content))
    except MalformedBodyError:
        return None
    return None if error is None else (error[0], masked(error[1], known))


def masked(message: str, known: Collection[str] = ()) -> str:
    """A product's sentence with everything that may be a record's value replaced by `..`.

    Masked are quoted parts that are not in `known` (field and entity names), every word with a digit, and mail
    addresses; the sentence is cut after LONGEST characters, its correlation id dropped.
    """
    text = _CORRELATION.sub("", message.replace("\r", " ").replace("\n", " "))
    kept: list[str] = []
    end = 0
    for match in _QUOTED.finditer(text):
        kept.append(_VALUE_LIKE.sub("..", text[end : match.start()]))
        inner = next((group for group in match.groups() if group is not None), "")
        kept.append(match[0] if inner in known else "'..'")
        end = match.end()
    kept.append(_VALUE_LIKE.sub("..", text[end:]))
    return "".join(kept).strip()[:LONGEST]
