"""The check `subscription`: shown at the entity, by a run and by the sensor that watches."""

from __future__ import annotations

import dagster as dg
import psycopg
import pytest
from sqlalchemy.engine import make_url

from ipaas_assets.resources import RESOURCE, platform_resource
from ipaas_resources.core.platform import run_async
from ipaas_resources.store import registry
from ipaas_resources.store.registry import StoredSystem
from tests.dagster.rig import Installation, checks_of, materialize

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
CHECK = "bc/customers:subscription"
DAY = 86_400

FLOW = """
flow: told
source: {system: bc, entity: customers}
trigger: {webhook: true, poll: {min: 15s, max: 15m}}
targets:
  client:
    system: crm
    entity: accounts
    key: {number: number}
    fields: {name: name}
"""


@pytest.fixture
def told(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setenv("IPAAS_PUBLIC_URL", "https://ipaas.example.com")
    installation.products["bc"].live_schema = installation.products["crm"].live_schema
    installation.connect("crm")
    system(installation)
    installation.apply(FLOW)
    return installation


def system(installation: Installation, connector: str = "business_central", **document: object) -> None:
    document = {"secrets": {"webhook": "env:BC_HOOKS"}, "scopes": {"uk": "CRONUS"}, **document}

    async def work() -> None:
        async with installation.database() as database:
            await registry.save_systems(
                database,
                [
                    StoredSystem(
                        system="bc",
                        connector=connector,
                        document={"system": "bc", "connector": connector, **document},
                        text="",
                        paused=False,
                    )
                ],
            )

    run_async(work())


def sql(installation: Installation, statement: str, *parameters: object) -> None:
    url = make_url(installation.urls.owner).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(statement, parameters)


def subscribe(installation: Installation, scope: str = "uk", *, days: float = 3, **columns: object) -> None:
    values = {
        "subscription": f"s-{scope}",
        "system": "bc",
        "entity": "customers",
        "scope": scope,
        "proof": "client_state",
        "secret": "env:BC_HOOKS",
        "managed": True,
        "product_id": "p-1",
        **columns,
    }
    names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
    sql(
        installation,
        f"INSERT INTO subscriptions ({names}, expires_at) VALUES ({marks}, now() + make_interval(secs => %s))",
        *values.values(),
        days * DAY,
    )


def shown(installation: Installation, instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    """What the sensor that watches says."""
    defs = installation.definitions()
    sensor = defs.resolve_sensor_def("watch")
    resources = {RESOURCE: platform_resource(installation)}
    with dg.build_sensor_context(instance=instance, resources=resources, definitions=defs) as context:
        data = sensor.evaluate_tick(context)
    (found,) = [each for each in data.asset_events if getattr(each, "check_name", "") == "subscription"]
    return found


def test_it_stands_at_entities_that_flows_want_to_be_told_of_and_at_no_other(told: Installation) -> None:
    graph = told.definitions().resolve_asset_graph()
    keys = {f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys}
    assert {key for key in keys if key.endswith(":subscription")} == {CHECK}


def test_it_passes_while_every_scope_is_subscribed(told: Installation, instance: dg.DagsterInstance) -> None:
    subscribe(told)
    assert shown(told, instance).passed
    system(told, scopes={"uk": "CRONUS", "de": "CRONUS DE"})
    found = shown(told, instance)
    assert not found.passed
    assert "bc/customers in de is not subscribed yet" in found.description


def test_one_fault_of_many_scopes_is_said_once(told: Installation, instance: dg.DagsterInstance) -> None:
    scopes = [f"c{number}" for number in range(8)]
    system(told, scopes={scope: scope.upper() for scope in scopes})
    found = shown(told, instance)
    assert found.description.count("not subscribed yet") == 1
    assert "bc/customers in c0, c1, c2, c3, c4 and 3 more is not subscribed yet" in found.description


def test_an_error_is_told_with_what_happens_meanwhile(
    told: Installation, instance: dg.DagsterInstance
) -> None:
    subscribe(told, error="The URL did not answer the handshake.")
    found = shown(told, instance)
    assert (found.passed, found.severity) == (False, WARN)
    assert "The URL did not answer the handshake." in found.description
    assert "by polling, every 15 s to 15 min" in found.description


def test_it_is_an_error_where_nobody_polls(told: Installation, instance: dg.DagsterInstance) -> None:
    told.apply(FLOW.replace(", poll: {min: 15s, max: 15m}", ""))
    found = shown(told, instance)
    assert (found.passed, found.severity) == (False, ERROR)
    assert "a live worker reads it every 15 min" in found.description


@pytest.mark.parametrize(
    ("days", "passed", "said"),
    [(0.8, True, ""), (0.7, False, "runs out in 16.8 h"), (-1, False, "ran out 1 d ago")],
)
def test_it_fails_from_a_quarter_of_the_lifetime_on(
    told: Installation, instance: dg.DagsterInstance, days: float, passed: bool, said: str
) -> None:
    subscribe(told, days=days)
    found = shown(told, instance)
    assert found.passed is passed
    assert said in found.description


@pytest.mark.parametrize(
    ("document", "said"),
    [({"secrets": {}}, "secrets: {webhook: env:NAME}"), ({}, "bc/customers in uk is not subscribed yet")],
)
def test_what_is_missing_is_named(
    told: Installation, instance: dg.DagsterInstance, document: dict[str, object], said: str
) -> None:
    system(told, **document)
    found = shown(told, instance)
    assert not found.passed
    assert said in found.description


def test_without_a_public_address_it_fails_where_the_platform_would_subscribe(
    told: Installation, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IPAAS_PUBLIC_URL")
    assert "IPAAS_PUBLIC_URL is not set" in shown(told, instance).description


def test_a_product_with_a_screen_only_needs_one_that_a_person_made(
    told: Installation, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IPAAS_PUBLIC_URL")
    system(told, "calibration", secrets={}, scopes={})
    found = shown(told, instance)
    assert not found.passed
    assert "IPAAS_PUBLIC_URL" not in found.description
    assert "ipaas subscriptions add bc" in found.description
    subscribe(told, "", entity="", managed=False, product_id=None)
    assert shown(told, instance).passed


def test_nothing_is_asked_for_a_flow_or_a_system_that_is_switched_off(
    told: Installation, instance: dg.DagsterInstance
) -> None:
    sql(told, "UPDATE systems SET paused = true WHERE system = 'bc'")
    assert shown(told, instance).passed
    sql(told, "UPDATE systems SET paused = false WHERE system = 'bc'")
    assert not shown(told, instance).passed
    sql(told, "UPDATE flows SET enabled = false")
    assert shown(told, instance).passed


def test_a_run_of_the_entity_tells_it_too(told: Installation, instance: dg.DagsterInstance) -> None:
    system(told, scopes={})
    result = materialize(told.definitions(), instance, "bc/customers")
    assert not checks_of(result)[CHECK].passed
