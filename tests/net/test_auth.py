import asyncio
import logging
from urllib.parse import parse_qs

import httpx
import pytest

from ipaas_resources.core.clock import ManualClock, SeededIds
from ipaas_resources.core.errors import (
    ConfigurationError,
    CredentialsError,
    IpaasError,
    ProtocolError,
    SystemBusyError,
    UnreachableError,
)
from ipaas_resources.net.auth import ClientCredentials, StaticHeader
from tests.net.conftest import read_request

AUTHORITY = "https://login.example/contoso"
SECRET = "CANARY-secret~1"
SCOPE = "https://api.example/.default"


class Provider:
    """An identity provider: OpenID configuration and tokens, each different."""

    def __init__(self):
        self.base = "https://login.example"
        self.life = 3600
        self.asked = []
        self.configuration = 0
        self.answers = []  # taken before the usual answer

    def __call__(self, request):
        if request.url.path.endswith("/.well-known/openid-configuration"):
            self.configuration += 1
            if self.answers and request.method == "GET" and self.answers[0][0] == "GET":
                return self.answers.pop(0)[1]
            return httpx.Response(
                200,
                json={
                    "issuer": f"{self.base}/contoso/v2.0",
                    "authorization_endpoint": f"{self.base}/contoso/oauth2/v2.0/authorize",
                    "token_endpoint": f"{self.base}/contoso/oauth2/v2.0/token",
                },
            )
        self.asked.append({name: value for name, (value,) in parse_qs(request.content.decode()).items()})
        if self.answers:
            return self.answers.pop(0)[1]
        return self.token()

    def token(self):
        return httpx.Response(
            200,
            json={
                "token_type": "Bearer",
                "expires_in": self.life,
                "access_token": f"token-{len(self.asked)}",
            },
        )

    def refuse(self, code="AADSTS7000215", status=401, error="invalid_client"):
        body = {"error": error, "error_description": f"{code}: secret {SECRET} of ada@example.com is wrong"}
        self.answers.append(("POST", httpx.Response(status, json=body)))


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
async def credentials(provider, clock):
    made = []

    def make(**options):
        options.setdefault("authority", AUTHORITY)
        options.setdefault("secret", lambda: SECRET)
        options.setdefault("transport", lambda: httpx.MockTransport(provider))
        made.append(
            ClientCredentials(
                system="bc", client_id="app", scope=SCOPE, clock=clock, ids=SeededIds(1), **options
            )
        )
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def test_a_token_is_asked_for_at_the_first_use_and_then_kept(credentials, provider):
    auth = credentials()
    assert provider.configuration == 0
    assert await auth.headers() == {"authorization": "Bearer token-1"}
    assert await auth.headers() == {"authorization": "Bearer token-1"}
    assert provider.configuration == 1
    (asked,) = provider.asked
    assert asked["grant_type"] == "client_credentials"
    assert (asked["client_id"], asked["client_secret"], asked["scope"]) == ("app", SECRET, SCOPE)


async def test_fifty_who_wait_for_a_token_cause_one_request(credentials, provider):
    auth = credentials()
    tokens = await asyncio.gather(*(auth.headers() for _ in range(50)))
    assert len(provider.asked) == 1
    assert all(token == {"authorization": "Bearer token-1"} for token in tokens)


async def test_fifty_whose_token_was_refused_cause_one_request(credentials, provider):
    auth = credentials()
    used = await auth.headers()

    async def meets_a_401():
        assert await auth.refused(used)
        return await auth.headers()

    tokens = await asyncio.gather(*(meets_a_401() for _ in range(50)))
    assert len(provider.asked) == 2
    assert all(token == {"authorization": "Bearer token-2"} for token in tokens)


async def test_who_comes_late_with_an_old_token_does_not_throw_the_new_one_away(credentials, provider):
    auth = credentials()
    old = await auth.headers()
    await auth.refused(old)
    await auth.headers()
    await auth.refused(old)
    assert await auth.headers() == {"authorization": "Bearer token-2"}
    assert len(provider.asked) == 2


@pytest.mark.parametrize(("life", "used_for"), [(3600, 3300), (60, 45)])
async def test_a_token_is_renewed_before_its_end(credentials, provider, clock, life, used_for):
    provider.life = life
    auth = credentials()
    await auth.headers()
    clock.advance(used_for - 1)
    assert await auth.headers() == {"authorization": "Bearer token-1"}
    clock.advance(1)
    assert await auth.headers() == {"authorization": "Bearer token-2"}


async def test_a_rotated_secret_is_used_for_the_next_token(credentials, provider, clock):
    secrets = iter(["first", "second"])
    auth = credentials(secret=lambda: next(secrets))
    await auth.headers()
    clock.advance(3600)
    await auth.headers()
    assert [asked["client_secret"] for asked in provider.asked] == ["first", "second"]


@pytest.mark.parametrize("code", ["AADSTS7000215", "AADSTS7000222", "AADSTS700016", "AADSTS999999"])
async def test_a_refusal_names_its_code_and_neither_the_secret_nor_a_person(
    credentials, provider, caplog, code
):
    provider.refuse(code)
    with caplog.at_level(logging.DEBUG), pytest.raises(CredentialsError) as raised:
        await credentials().headers()
    assert raised.value.code == code
    assert code in str(raised.value)
    said = str(raised.value) + caplog.text
    assert SECRET not in said
    assert "ada@example.com" not in said


async def test_a_refused_secret_is_not_sent_again_until_it_changes_or_a_minute_has_passed(
    credentials, provider, clock
):
    secret = "wrong"
    auth = credentials(secret=lambda: secret)
    provider.refuse()
    provider.refuse()
    for _ in range(3):
        with pytest.raises(CredentialsError):
            await auth.headers()
    assert len(provider.asked) == 1
    clock.advance(61)
    with pytest.raises(CredentialsError):
        await auth.headers()
    assert len(provider.asked) == 2
    secret = "right"
    assert await auth.headers() == {"authorization": "Bearer token-3"}


async def test_an_unknown_tenant_is_a_matter_of_credentials(credentials, provider):
    body = {"error": "invalid_tenant", "error_description": "AADSTS90002: Tenant 'contoso' not found."}
    provider.answers.append(("GET", httpx.Response(400, json=body)))
    with pytest.raises(CredentialsError) as raised:
        await credentials().headers()
    assert raised.value.code == "AADSTS90002"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text=f"no json {SECRET}"),
        httpx.Response(200, json=["no", "object"]),
        httpx.Response(200, json={"token_type": "Bearer"}),
        httpx.Response(200, json={"token_type": "Bearer", "access_token": "a\nb", "expires_in": 3600}),
        httpx.Response(200, json={"token_type": "Bearer", "access_token": "a", "expires_in": 0}),
        httpx.Response(200, html="<h1>maintenance</h1>"),
        httpx.Response(302, headers={"location": "https://evil.example"}),
    ],
)
async def test_an_answer_that_is_no_token_is_a_protocol_error_and_not_in_the_log(
    credentials, provider, caplog, answer
):
    provider.answers.append(("POST", answer))
    with caplog.at_level(logging.DEBUG), pytest.raises(ProtocolError) as raised:
        await credentials().headers()
    assert SECRET not in str(raised.value) + caplog.text


async def test_a_busy_identity_provider_is_asked_again(credentials, provider, clock):
    provider.answers.append(("POST", httpx.Response(503)))
    assert await credentials().headers() == {"authorization": "Bearer token-2"}
    assert len(clock.slept) == 1
    provider.answers += [("POST", httpx.Response(503))] * 4
    with pytest.raises(SystemBusyError):
        await credentials().headers()


async def test_temporarily_unavailable_is_no_matter_of_credentials(credentials, provider):
    provider.refuse(error="temporarily_unavailable", status=400)
    with pytest.raises(SystemBusyError):
        await credentials().headers()


async def test_an_identity_provider_that_cannot_be_reached_is_unreachable(credentials):
    def refused(request):
        raise httpx.ConnectError("refused")

    with pytest.raises(UnreachableError):
        await credentials(transport=lambda: httpx.MockTransport(refused)).headers()


async def test_the_secret_is_not_sent_to_another_host_that_the_configuration_names(credentials, provider):
    provider.base = "https://evil.example"
    with pytest.raises(ProtocolError):
        await credentials().headers()
    assert provider.asked == []


@pytest.mark.parametrize(
    "authority", ["http://login.example/contoso", "https://login.example", "contoso", ""]
)
def test_an_authority_without_tls_or_tenant_is_a_wrong_setting(authority):
    with pytest.raises(ConfigurationError):
        ClientCredentials(
            system="bc",
            authority=authority,
            client_id="app",
            secret=lambda: SECRET,
            scope=SCOPE,
            clock=ManualClock(),
            ids=SeededIds(1),
        )


async def test_who_stops_waiting_does_not_stop_the_others(credentials, provider):
    auth = credentials()
    impatient = asyncio.create_task(auth.headers())
    patient = asyncio.create_task(auth.headers())
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert "authorization" in await patient


async def test_the_token_comes_over_tls_from_a_server_that_our_authority_vouches_for(
    credentials, loopback, authority
):
    provider = Provider()

    async def talk(reader, writer):
        head, body = await read_request(reader)
        method, path, _ = head.split(b" ", 2)
        request = httpx.Request(method.decode(), provider.base + path.decode(), content=body)
        answer = provider(request).content
        writer.write(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer
        )
        await writer.drain()

    async with loopback(talk, tls=authority.server_context()) as server:
        provider.base = server.url
        trusting = credentials(authority=f"{server.url}/contoso", transport=None, ca_file=str(authority.file))
        assert await trusting.headers() == {"authorization": "Bearer token-1"}
        with pytest.raises(UnreachableError):
            await credentials(authority=f"{server.url}/contoso", transport=None).headers()
        await trusting.close()
    assert len(provider.asked) == 1


async def test_a_token_that_expires_in_the_middle_is_renewed_and_the_request_sent_again(
    rig, credentials, provider
):
    def api(request):
        fresh = request.headers["authorization"] == "Bearer token-2"
        return httpx.Response(200, json={}) if fresh else httpx.Response(401)

    made = rig(api, auth=credentials())
    answers = await asyncio.gather(*(made.client.send("GET", "x", kind="read") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len(provider.asked) == 2
    assert made.clock.slept == []


async def test_a_write_that_met_a_401_was_not_applied_and_is_sent_once_more(rig, credentials):
    made = rig(lambda _: httpx.Response(401), auth=credentials())
    with pytest.raises(CredentialsError):
        await made.client.send("POST", "x", kind="write", content=b"{}")
    assert len(made.requests) == 2


async def test_credentials_that_fail_after_a_lost_answer_leave_the_write_unknown(rig, credentials, provider):
    provider.refuse()
    auth = credentials()

    class Once:
        """Signs in for the first attempt only."""

        tried = False

        async def headers(self):
            if self.tried:
                return await auth.headers()
            self.tried = True
            return {}

        async def refused(self, used):
            return False

    made = rig([httpx.ReadError("lost")], auth=Once())
    with pytest.raises(IpaasError) as raised:
        await made.client.send("PATCH", "x", kind="write", content=b"{}", repeatable=True)
    assert type(raised.value).__name__ == "UnknownOutcomeError"
    assert raised.value.code == "AADSTS7000215"


async def test_a_fixed_header_has_the_present_secret(tmp_path):
    file = tmp_path / "token"
    file.write_text("one")
    auth = StaticHeader("Api-Token", file.read_text, prefix="Token ")
    used = await auth.headers()
    assert used == {"Api-Token": "Token one"}
    assert not await auth.refused(used)
    file.write_text("two")
    assert await auth.refused(used)


async def test_neither_secret_nor_token_is_logged_at_any_level(credentials, caplog):
    with caplog.at_level(logging.DEBUG):
        await credentials().headers()
    assert caplog.records
    assert SECRET not in caplog.text
    assert "token-1" not in caplog.text
