"""The whole way once: Dagster's job, the engine, the connectors, and the simulated products over HTTP."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from definitions import make_definitions
from ipaas_assets.resources import Platform
from ipaas_assets.sync.apply import apply_folder
from ipaas_assets.sync.systems import apply_systems
from ipaas_resources.core.platform import run_async
from ipaas_resources.settings import Settings
from ipaas_resources.store.server import DatabaseUrls
from tests.dagster.rig import checks_of, metadata_of
from tests.e2e.running import REPOSITORY, hasten, simulator


def test_customers_become_accounts_contacts_and_clients_through_dagster(
    fresh_database: DatabaseUrls, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    with simulator(tmp_path) as client:
        hasten(Path(client.ready.systems))
        platform = Platform()
        platform.__dict__.update(urls=fresh_database, settings=Settings(state_dir=tmp_path / "state"))

        async def apply() -> None:
            async with platform.engine() as engine:
                await apply_systems(engine, Path(client.ready.systems))
                await engine.load()
                await apply_folder(engine, REPOSITORY / "mappings" / "patterns", actor="test")

        run_async(apply())
        defs = make_definitions(platform)
        dg.Definitions.validate_loadable(defs)
        job = defs.resolve_job_def("customers_to_accounts")

        result = job.execute_in_process(instance=instance)

        told = {
            name: metadata_of(result, f"{entity}/customers_to_accounts__{name}")
            for name, entity in (
                ("account", "crm/accounts"),
                ("contact", "crm/contacts"),
                ("client", "cal/clients"),
            )
        }
        customers = sum(len(client.records("bc", "customers", scope)) for scope in client.ready.scopes)
        assert {each["received"] for each in told.values()} == {customers}
        assert {each["items"] for each in told.values()} == {customers}
        assert client.counts("crm")["effect:create"] == (
            told["account"]["created"] + told["contact"]["created"]
        )
        assert client.counts("cal")["effect:create"] == told["client"]["created"]
        assert told["account"]["upstream_reads"] > 0
        assert told["account"]["upstream_writes"] > 0
        assert {name for name, check in checks_of(result).items() if not check.passed} == set()
        lineage = told["contact"]["dagster/column_lineage"].deps_by_column
        assert {dep.column_name for dep in lineage["lastname"]} == {"displayName"}
        types = {column.name: column.type for column in told["account"]["dagster/column_schema"].columns}
        assert types["name"] == "text(160)"

        written = client.writes()
        again = job.execute_in_process(
            instance=instance,
            run_config={"ops": {"flow__customers_to_accounts__sync": {"config": {"mode": "full"}}}},
        )

        assert metadata_of(again, "bc/customers")["received"] == customers
        assert metadata_of(again, "bc/customers")["complete"]
        assert metadata_of(again, "crm/accounts/customers_to_accounts__account")["upstream_writes"] == 0
        assert client.writes() == written
