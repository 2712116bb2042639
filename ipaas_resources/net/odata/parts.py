"""The parts of a batch: requests that go together, answers that come together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ipaas_resources.net.body import decode_json


class PartRequest(msgspec.Struct, kw_only=True):
    """One request inside a batch. `body` is JSON, encoded already."""

    method: Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
    url: str  # relative to the service root
    headers: dict[str, str] = {}
    body: bytes | None = None


class PartResponse(msgspec.Struct, kw_only=True):
    """One answer inside a batch. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = {}
    content: bytes = b""

    def json(self) -> Any:
        """The body as JSON. Raises MalformedBodyError when it is none."""
        return decode_json(self.content)
