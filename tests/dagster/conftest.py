from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef

from console.dagster_home import DagsterHome
from ipaas_resources.settings import Settings
from ipaas_resources.store.server import DatabaseUrls
from tests.conftest import Databases
from tests.dagster.rig import Installation, product


@pytest.fixture
def installation(fresh_database: DatabaseUrls, tmp_path: Path) -> Installation:
    return Installation(
        fresh_database,
        tmp_path / "state",
        bc=product("salesCustomers"),
        crm=product("accounts"),
        lab=product("clients"),
    )


@pytest.fixture(scope="session")
def dagster_url(databases: Databases) -> Iterator[str]:
    url = databases.make_for_dagster()
    yield url
    databases.drop(url)


@pytest.fixture(scope="session")
def _home(dagster_url: str, tmp_path_factory: pytest.TempPathFactory) -> DagsterHome:
    home = DagsterHome(Settings(state_dir=tmp_path_factory.mktemp("home")), dagster_url=dagster_url)
    home.prepare()
    return home


@pytest.fixture
def stored(_home: DagsterHome, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance as every Dagster process opens it: our dagster.yaml, on PostgreSQL. Emptied, for tables are dear."""
    for name, value in _home.environment().items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(_home.path))) as made:
        made.wipe()
        yield made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made
