from __future__ import annotations

import pytest

from ipaas_resources.connectors.business_central.tests import Bench


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    await bench.connector.close()
