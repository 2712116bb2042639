"""The fake login host: discovery, tokens, refusals."""

from __future__ import annotations

import httpx
import pytest

from ipaas_resources.connectors.business_central.test_fake import Caller
from ipaas_resources.connectors.business_central.tests import CLIENT
from ipaas_resources.connectors.conformance import CANARY_SECRET


@pytest.fixture
async def call():
    caller = Caller()
    yield caller
    await caller.http.aclose()


class TestLogin:
    def form(self, **changes: str) -> dict[str, str]:
        return {
            "grant_type": "client_credentials",
            "client_id": CLIENT,
            "client_secret": CANARY_SECRET,
            "scope": "https://api.businesscentral.dynamics.com/.default",
            **changes,
        }

    @pytest.fixture
    async def login(self, call):
        async with httpx.AsyncClient(
            transport=call.fake.login.transport(), base_url="https://login.example/contoso"
        ) as http:
            yield http

    async def test_discovery_names_the_token_endpoint(self, login):
        found = (await login.get("/v2.0/.well-known/openid-configuration")).json()
        assert found["token_endpoint"] == "https://login.example/contoso/oauth2/v2.0/token"
        answer = (await login.post("/oauth2/v2.0/token", data=self.form())).json()
        assert answer["token_type"] == "Bearer"
        assert answer["expires_in"] == 3599

    async def test_a_token_opens_the_product_until_it_expires(self, call, login):
        token = (await login.post("/oauth2/v2.0/token", data=self.form())).json()["access_token"]
        call.http.headers["Authorization"] = f"Bearer {token}"
        assert (await call("GET", "customers")).status_code == 200
        assert call.fake.ledger.entries[-1].principal == CLIENT
        call.clock.advance(3600)
        assert (await call("GET", "customers")).status_code == 401

    @pytest.mark.parametrize(
        ("changes", "status", "number"),
        [
            ({"client_secret": "wrong"}, 401, 7000215),
            ({"client_id": "nobody"}, 400, 700016),
            ({"scope": "https://x/one https://x/.default"}, 400, 1002012),
            ({"scope": "openid"}, 400, 1002012),
            ({"grant_type": "password"}, 400, 70003),
        ],
    )
    async def test_refusals_have_their_numbers(self, login, changes, status, number):
        answer = await login.post("/oauth2/v2.0/token", data=self.form(**changes))
        assert answer.status_code == status
        assert answer.json()["error_codes"] == [number]
        assert f"AADSTS{number}" in answer.json()["error_description"]

    async def test_a_client_belongs_to_its_tenant(self, call):
        async with httpx.AsyncClient(
            transport=call.fake.login.transport(), base_url="https://login.example/fabrikam"
        ) as http:
            answer = await http.post("/oauth2/v2.0/token", data=self.form())
        assert answer.json()["error"] == "unauthorized_client"
