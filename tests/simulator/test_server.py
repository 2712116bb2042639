"""The running simulator, over real HTTP."""

from __future__ import annotations

import socket
import ssl
import stat
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from ruamel.yaml import YAML

from simulator.client import ControlError, SimulatorClient
from simulator.systems import BC_CLIENT, CRM_CLIENT, TENANT
from simulator.verify import verify

from .conftest import Running

BC_SCOPE = "https://api.businesscentral.dynamics.com/.default"


def secret(running: Running, name: str) -> str:
    return Path(running.ready.secrets[name].removeprefix("file:")).read_text()


@pytest.fixture
def http(running):
    with httpx.Client(verify=ssl.create_default_context(cafile=running.ready.ca), trust_env=False) as opened:
        yield opened


def sign_in(http, running, client_id, password, scope=BC_SCOPE) -> httpx.Response:
    return http.post(
        f"{running.ready.urls.login}/{TENANT}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": password,
            "scope": scope,
        },
    )


def test_it_is_ready_soon(running):
    # Seconds of work, not of waiting: on an idle machine it is ready after about as many.
    assert running.cpu < 3


def test_the_login_host_is_verified_by_its_own_authority_alone(running):
    with (
        httpx.Client(trust_env=False) as stranger,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        stranger.get(running.ready.urls.login)


def test_business_central_asks_for_a_token_and_lists_the_companies(http, running):
    url = f"{running.ready.urls.bc}/v2.0/{TENANT}/Production/api/v2.0/companies"
    assert http.get(url).status_code == 401
    token = sign_in(http, running, BC_CLIENT, secret(running, "bc_client_secret")).json()["access_token"]
    companies = http.get(url, headers={"authorization": f"Bearer {token}"}).json()["value"]
    assert {one["name"] for one in companies} == set(running.ready.scopes.values())
    assert len(companies) == 23, "22 companies and the bulk company"


def test_a_wrong_secret_gets_no_token(http, running):
    refused = sign_in(http, running, BC_CLIENT, "guessed")
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")


def test_dataverse_takes_tokens_of_its_own_application(http, running):
    url = f"{running.ready.urls.crm}/api/data/v9.2/uoms?$select=name"
    assert http.get(url).status_code == 401
    answer = sign_in(
        http, running, CRM_CLIENT, secret(running, "crm_client_secret"), f"{running.ready.urls.crm}/.default"
    )
    headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
    assert "PCS" in {one["name"] for one in http.get(url, headers=headers).json()["value"]}


def test_the_lab_takes_its_api_token(http, running):
    url = f"{running.ready.urls.cal}/api/service/workorders?modifiedAfter=2025-07-01T00:00:00"
    assert http.get(url).status_code == 401
    headers = {"authorization": f"Api-Token {secret(running, 'cal_api_token')}"}
    orders = http.get(url, headers=headers).json()
    assert 0 < len(orders) < 520


def test_a_certificate_is_served_as_it_was_issued(http, running, client):
    issued = client.records("cal", "certificates")
    assert len(issued) >= 300
    headers = {"authorization": f"Api-Token {secret(running, 'cal_api_token')}"}
    document = http.get(f"{running.ready.urls.cal}{issued[0]['DownloadUrl']}", headers=headers)
    assert document.content.startswith(b"%PDF")
    assert len(document.content) == issued[0]["@file"]["size"]


def test_secrets_are_for_the_owner_alone_and_not_in_the_ready_line(running):
    for name, reference in running.ready.secrets.items():
        path = Path(reference.removeprefix("file:"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert secret(running, name).encode() not in running.line
    assert stat.S_IMODE((Path(running.ready.ca).parent / "simulator-login-key.pem").stat().st_mode) == 0o600


def test_the_system_documents_name_every_company(running):
    document = YAML(typ="safe").load(Path(running.ready.systems) / "bc.yaml")
    assert document["scopes"] == running.ready.scopes
    assert document["scopes"]["no"] == "CRONUS NO", "YAML 1.2: no is a text"


def test_the_counts_of_the_world_are_in_the_ready_line(running):
    records = running.ready.records
    assert {name: records[name] for name in ("customers", "items", "work_orders", "bulk_customers")} == {
        "customers": 110,
        "items": 1430,
        "work_orders": 520,
        "bulk_customers": 50,
    }
    assert (records["foreign"], records["ambiguous"]) == (638, 10)


def test_the_hands_of_the_tests_change_sources_and_enter_no_ledger(client):
    before = client.writes()
    prices = {
        scope: client.record("bc", "items", "number", "SER101", scope)["unitPrice"] for scope in ("w1", "at")
    }
    changed = client.change_items(7)
    assert len(set(changed)) == 7
    assert len({scope for scope, _ in changed}) == 7
    for scope, number in changed[:2]:
        assert client.record("bc", "items", "number", number, scope)["unitPrice"] != prices.get(
            (scope, number)
        )
    client.delete_customer("nz", "50000")
    with pytest.raises(LookupError):
        client.record("bc", "customers", "number", "50000", "nz")
    assert client.writes() == before == {"bc": 0, "crm": 0, "cal": 0}


def test_a_revised_certificate_has_other_bytes_and_the_next_revision(client):
    before = client.records("cal", "certificates")[-1]
    client.issue_certificate(before["ServiceOrderId"])
    after = client.record("cal", "certificates", "ServiceOrderId", before["ServiceOrderId"])
    assert after["Guid"] == before["Guid"]
    assert after["RevisionNumber"] == before["RevisionNumber"] + 1
    assert after["@file"]["sha256"] != before["@file"]["sha256"]


def test_faults_strike_as_often_as_ordered_and_can_be_taken_back(http, running, client):
    url = f"{running.ready.urls.bc}/v2.0/{TENANT}/Production/api/v2.0/companies"
    client.fail("bc", path="companies$", status=503, times=1, headers={"retry-after": "7"})
    struck = http.get(url)
    assert (struck.status_code, struck.headers["retry-after"]) == (503, "7")
    assert http.get(url).status_code == 401
    client.fail("bc", status=500, times=-1)
    client.heal("bc")
    assert http.get(url).status_code == 401
    last = client.ledger("bc")[-1]
    assert (last["method"], last["status"]) == ("GET", 401)


def test_what_the_control_endpoints_refuse_is_told(client):
    with pytest.raises(ControlError, match=r"400.*no column nosuchfield"):
        client.add("crm", "accounts", {"nosuchfield": 1})
    with pytest.raises(ControlError, match=r"bc answered 400: .*unknown settings"):
        client.set("bc", colour="red")


def test_nothing_synced_yet_is_told_as_differences(client):
    found = verify(client, flows=["work_orders_to_sales_orders"])
    assert any("missing" in one for one in found)
    assert found[-1].startswith("... and ")


def test_a_taken_port_is_passed_over_and_a_stopped_simulator_leaves_nothing_behind():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        simulator = Running("--world", "empty", "--port-base", str(port))
        try:
            ports = [int(url.rpartition(":")[2]) for url in _urls(simulator)]
        finally:
            code = simulator.stop()
    assert port not in ports
    assert ports == sorted(ports)
    assert ports[0] > port
    assert code == 0
    assert not Path(simulator.ready.ca).parent.exists()


def test_limits_and_latency_are_off_unless_asked_for(client):
    assert client.settings("crm")["limits_on"] is False
    simulator = Running("--world", "empty", "--limits", "--latency", "0.01", "--search-lag", "0")
    try:
        with SimulatorClient(simulator.line) as opened:
            for system in ("bc", "crm", "cal"):
                assert opened.settings(system) == {
                    "limits_on": True,
                    "latency": Decimal("0.01"),
                    "search_lag": 0,
                }
        document = YAML(typ="safe").load(Path(simulator.ready.systems) / "cal.yaml")
        assert document["search_lag"] == 0
    finally:
        simulator.stop()


def _urls(simulator: Running) -> list[str]:
    urls = simulator.ready.urls
    return [urls.bc, urls.crm, urls.cal, urls.login]
