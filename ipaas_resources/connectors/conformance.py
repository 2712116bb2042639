"""The suite that every connector passes against its fake.

In a connector's tests.py:

    class MyCase(ConformanceCase): ...

    class TestConformance(ConnectorConformance):
        case = MyCase()

Tests that do not apply are skipped with the reason that the case or the manifest declares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

# Their asserts explain themselves only when pytest has rewritten them before they are imported.
pytest.register_assert_rewrite("ipaas_resources.connectors.conforming")

from ipaas_resources.connectors.conforming.case import (  # noqa: E402 - after the registration above
    CANARY_PERSON,
    CANARY_SECRET,
    ConformanceCase,
)
from ipaas_resources.connectors.conforming.failing import FailingTests  # noqa: E402 - the same
from ipaas_resources.connectors.conforming.files import FileTests  # noqa: E402 - the same
from ipaas_resources.connectors.conforming.reading import ReadingTests  # noqa: E402 - the same
from ipaas_resources.connectors.conforming.rig import LONG_AGO, MemoryLimits, Rig, Scan  # noqa: E402 - the same
from ipaas_resources.connectors.conforming.secrecy import SecrecyTests  # noqa: E402 - the same
from ipaas_resources.connectors.conforming.subscribing import SubscribingTests  # noqa: E402 - the same
from ipaas_resources.connectors.conforming.texts import ValueTests  # noqa: E402 - the same
from ipaas_resources.connectors.conforming.writing import WritingTests  # noqa: E402 - the same

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class ConnectorConformance(
    ReadingTests, WritingTests, ValueTests, FailingTests, SecrecyTests, FileTests, SubscribingTests
):
    """All conformance tests; a subclass names its case."""

    case: ClassVar[ConformanceCase]

    @pytest.fixture(name="case")
    def _case(self) -> ConformanceCase:
        return type(self).case

    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        """A fresh connector on a fresh fake."""
        rig = Rig(type(self).case)
        yield rig
        await rig.close()


__all__ = [
    "CANARY_PERSON",
    "CANARY_SECRET",
    "LONG_AGO",
    "ConformanceCase",
    "ConnectorConformance",
    "MemoryLimits",
    "Rig",
    "Scan",
]
