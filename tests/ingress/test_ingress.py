"""POST /hooks/{subscription} over real HTTP: what is stored, and what each sender hears."""

from __future__ import annotations

import asyncio
import json
import logging

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from console.web.ingress.bodies import Bounds
from ipaas_resources.connectors.business_central import webhooks as bc
from ipaas_resources.store.inbox import CHANNEL
from ipaas_resources.store.inbox_tables import subscriptions
from ipaas_resources.store.subscriptions import expect_handshake, retire_subscription
from tests.ingress.conftest import OLD, SECRET

BC_PATH = f"bc-1/{bc.url_key(SECRET, 'bc-1')}"


def notification(changed="2026-01-15T12:00:00Z", state=None, **more):
    item = {
        "subscriptionId": "x",
        "clientState": bc.client_state(SECRET, "bc-1") if state is None else state,
        "resource": "api/v2.0/companies(1)/customers(2)",
        "changeType": "updated",
        "lastModifiedDateTime": changed,
    }
    return json.dumps({"value": [item | more]}).encode()


async def test_a_genuine_delivery_is_stored_as_it_came(hooks):
    headers, body = hooks.signed()
    answer = await hooks.post("lab-1", body, headers)
    assert (answer.status_code, answer.content) == (202, b"")
    (row,) = await hooks.stored()
    assert (row.subscription, row.body, row.state) == ("lab-1", body, "due")
    assert row.trace_id == answer.headers["x-trace-id"]
    assert len((await hooks.keys())[0].key) == 16


async def test_a_repeat_is_accepted_and_stored_once(hooks):
    headers, body = hooks.signed()
    together = await asyncio.gather(*(hooks.post("lab-1", body, headers) for _ in range(5)))
    later = await hooks.post("lab-1", body, headers)
    assert {answer.status_code for answer in (*together, later)} == {202}
    assert len(await hooks.stored()) == 1
    assert hooks.app.tally.counts["lab-1", "accepted"] == 1
    assert hooks.app.tally.counts["lab-1", "repeated"] == 5


async def test_a_key_outlives_its_payload(hooks):
    headers, body = hooks.signed()
    await hooks.post("lab-1", body, headers)
    async with hooks.database.begin() as connection:
        await connection.execute(sa.text("DELETE FROM inbox"))
    assert (await hooks.post("lab-1", body, headers)).status_code == 202
    assert await hooks.stored() == []


async def test_the_same_id_of_two_subscriptions_is_two_deliveries(hooks):
    async with hooks.database.begin() as connection:
        await connection.execute(
            sa.text(
                "INSERT INTO subscriptions (subscription, system, proof, secret) "
                "SELECT 'lab-2', system, proof, secret FROM subscriptions WHERE subscription = 'lab-1'"
            )
        )
    headers, body = hooks.signed()
    for path in ("lab-1", "lab-2"):
        assert (await hooks.post(path, body, headers)).status_code == 202
    assert [row.subscription for row in await hooks.stored()] == ["lab-1", "lab-2"]


async def test_many_deliveries_share_their_commits_and_listeners_hear_once_per_commit(start, fresh_database):
    hooks = await start()
    url = make_url(fresh_database.app).set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as listener:
        await listener.execute(f"LISTEN {CHANNEL}")
        answers = await asyncio.gather(
            *(hooks.post("lab-1", body, headers) for headers, body in (hooks.signed() for _ in range(60)))
        )
        heard = [note.payload async for note in listener.notifies(timeout=1, stop_after=61)]
    assert {answer.status_code for answer in answers} == {202}
    assert len(await hooks.stored()) == 60
    assert len(heard) == hooks.writer.groups < 60


@pytest.mark.parametrize("secret", [SECRET, OLD])
async def test_two_secrets_are_live(hooks, secret):
    headers, body = hooks.signed(secret)
    assert (await hooks.post("lab-1", body, headers)).status_code == 202


async def test_a_secret_that_was_changed_a_moment_ago_counts_at_once(hooks, monkeypatch):
    headers, body = hooks.signed()
    assert (await hooks.post("lab-1", body, headers)).status_code == 202
    monkeypatch.setenv("HOOK_SECRET", "the-next-one")
    headers, body = hooks.signed("the-next-one")
    assert (await hooks.post("lab-1", body, headers)).status_code == 202


@pytest.mark.parametrize("case", ["no proof", "wrong secret", "truncated", "stale", "another scheme"])
async def test_what_is_not_proven_is_refused_and_nothing_of_it_stored_or_told(hooks, case, caplog):
    headers, body = hooks.signed("somebody-else" if case == "wrong secret" else SECRET)
    if case == "no proof":
        headers = {}
    if case == "truncated":
        body = body[:-1]
    if case == "stale":
        value = headers["x-labsync-signature"]
        headers["x-labsync-signature"] = value.replace("t=1", "t=0", 1)
    if case == "another scheme":
        headers["x-labsync-signature"] = headers["x-labsync-signature"].replace("v1=", "v0=")
    with caplog.at_level(logging.DEBUG):
        answer = await hooks.post("lab-1", body, headers)
    assert (answer.status_code, answer.content) == (401, b"")
    assert await hooks.stored() == []
    assert hooks.app.tally.counts["lab-1", "not_proven"] == 1
    told = [record.getMessage() for record in caplog.records if record.name.startswith("console")]
    assert [line for line in told if "not proven" in line]
    assert not [line for line in told if "ServiceOrderId" in line or SECRET in line]


async def test_strangers_hear_404_and_their_ids_are_not_remembered(hooks):
    for number in range(3):
        assert (await hooks.post(f"made-up-{number}", b"{}")).status_code == 404
    assert (await hooks.client.get("/")).status_code == 404
    assert hooks.app.tally.counts == {("", "unknown"): 4}


async def test_a_subscription_made_a_moment_ago_is_known_and_a_retired_one_is_not(hooks):
    headers, body = hooks.signed()
    assert (await hooks.post("late", body, headers)).status_code == 404
    async with hooks.database.begin() as connection:
        await connection.execute(
            sa.update(subscriptions)
            .where(subscriptions.c.subscription == "lab-1")
            .values(subscription="late")
        )
    assert (await hooks.post("late", body, headers)).status_code == 202
    assert await retire_subscription(hooks.database, "late")
    assert not await retire_subscription(hooks.database, "late")
    # One that does not prove itself makes the ingress look again; the next hears that there is none.
    assert (await hooks.post("late", body)).status_code == 401
    assert (await hooks.post("late", body, headers)).status_code == 404


async def test_only_post_is_taken(hooks):
    headers, _ = hooks.signed()
    assert (await hooks.client.get("/hooks/lab-1", headers=headers)).status_code == 405


# --- bounds ---------------------------------------------------------------------------------------------------------


async def test_compressed_bodies_are_refused(hooks):
    headers, body = hooks.signed()
    assert (await hooks.post("lab-1", body, headers | {"content-encoding": "gzip"})).status_code == 415


async def test_a_declared_size_beyond_the_cap_is_refused_before_the_body_is_read(hooks):
    answer = await hooks.raw(
        b"POST /hooks/lab-1 HTTP/1.1\r\nHost: x\r\nX-LabSync-Signature: t=1\r\nContent-Length: 1048577\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


async def test_a_body_that_grows_beyond_the_cap_is_refused_while_it_streams(start):
    hooks = await start(bounds=Bounds(body_bytes=100))
    answer = await hooks.raw(
        b"POST /hooks/lab-1 HTTP/1.1\r\nHost: x\r\nX-LabSync-Signature: t=1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"40\r\n" + b"x" * 64 + b"\r\n",
        b"40\r\n" + b"x" * 64 + b"\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert hooks.app._bodies.held == 0


async def test_a_slow_body_ends_at_its_deadline(start):
    hooks = await start(bounds=Bounds(body_seconds=0.05))
    answer = await hooks.raw(
        b"POST /hooks/lab-1 HTTP/1.1\r\nHost: x\r\nX-LabSync-Signature: t=1\r\nContent-Length: 9\r\n\r\n",
        b"{",
    )
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert hooks.app._bodies.held == 0


async def test_slow_headers_end_at_their_deadline(start, monkeypatch):
    monkeypatch.setattr("console.web.ingress.protocol.BoundedProtocol.head_seconds", 0.05)
    hooks = await start()
    assert await hooks.raw(b"POST /hooks/lab-1 HTTP/1.1\r\nHost: x\r\nX-A") == b""


async def test_endless_headers_end_the_connection(start, monkeypatch):
    monkeypatch.setattr("console.web.ingress.protocol.BoundedProtocol.head_bytes", 1000)
    hooks = await start()
    assert await hooks.raw(b"POST /hooks/lab-1 HTTP/1.1\r\nX-A: " + b"a" * 5000) == b""


async def test_a_further_request_on_the_same_connection_has_its_own_deadline(start, monkeypatch):
    monkeypatch.setattr("console.web.ingress.protocol.BoundedProtocol.head_seconds", 0.5)
    hooks = await start()
    headers, body = hooks.signed()
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    first = (
        f"POST /hooks/lab-1 HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )
    answer = await hooks.raw(first, b"POST /hooks/lab-1 HTT")
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert answer.count(b"HTTP/1.1") == 1


async def test_a_body_that_is_cut_short_is_not_stored(hooks):
    headers, body = hooks.signed()
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    _, writer = await asyncio.open_connection("127.0.0.1", hooks.port)
    writer.write(
        f"POST /hooks/lab-1 HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode()
        + body[:-1]
    )
    await writer.drain()
    writer.close()
    async with asyncio.timeout(10):
        while not hooks.app.tally.counts["lab-1", "cut_short"]:  # noqa: ASYNC110 - the server says nothing to wait for
            await asyncio.sleep(0)
    assert await hooks.stored() == []


async def test_two_lengths_in_one_request_are_refused(hooks):
    answer = await hooks.raw(
        b"POST /hooks/lab-1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_more_than_may_be_held_is_refused_for_now(start):
    hooks = await start(bounds=Bounds(held_bytes=10))
    headers, body = hooks.signed()
    assert (await hooks.post("lab-1", body, headers)).status_code == 503


# --- trouble of ours ------------------------------------------------------------------------------------------------


async def test_with_the_database_down_every_sender_is_asked_to_try_again(start, fresh_database):
    nowhere = make_url(fresh_database.app).set(host="127.0.0.1", port=1).render_as_string(hide_password=False)
    hooks = await start(url=nowhere, arranged=False)
    headers, body = hooks.signed()
    for path in ("lab-1", BC_PATH, "never-heard-of"):
        assert (await hooks.post(path, body, headers)).status_code == 503


async def test_a_database_that_goes_away_and_comes_back_costs_a_retry(hooks, databases):
    headers, body = hooks.signed()
    assert (await hooks.post("lab-1", body, headers)).status_code == 202
    headers, body = hooks.signed()
    name = hooks.database.engine.url.database
    databases._admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    databases._admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
    )
    assert (await hooks.post("lab-1", body, headers)).status_code == 503
    databases._admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert (await hooks.post("lab-1", body, headers)).status_code == 202
    assert len(await hooks.stored()) == 2


async def test_a_commit_that_comes_too_late_is_answered_503_and_its_retry_is_a_repeat(start):
    hooks = await start(bounds=Bounds(database_seconds=0.5))
    headers, body = hooks.signed()
    assert (await hooks.post("lab-1", body, headers)).status_code == 202
    late, late_body = hooks.signed()
    async with hooks.database.begin() as connection:
        await connection.execute(sa.text("LOCK TABLE inbox IN EXCLUSIVE MODE"))
        assert (await hooks.post("lab-1", late_body, late)).status_code == 503
    assert (await hooks.post("lab-1", late_body, late)).status_code == 202
    assert len(await hooks.stored()) == 2
    assert hooks.app.tally.counts["lab-1", "repeated"] == 1


async def test_a_secret_that_is_not_there_is_trouble_of_ours(hooks, monkeypatch):
    monkeypatch.delenv("HOOK_SECRET")
    headers, body = hooks.signed(OLD)
    assert (await hooks.post("lab-1", body, headers)).status_code == 202  # the other one is
    monkeypatch.delenv("HOOK_OLD")
    assert (await hooks.post("lab-1", body)).status_code == 503


async def test_a_defect_is_answered_503_and_shows_nothing_of_the_delivery(hooks, monkeypatch, caplog):
    def explode(*_):
        raise KeyError("ServiceOrderId 7")

    monkeypatch.setattr("ipaas_resources.connectors.calibration.webhooks.CalibrationReceiver.prove", explode)
    headers, body = hooks.signed()
    with caplog.at_level(logging.DEBUG):
        assert (await hooks.post("lab-1", body, headers)).status_code == 503
    assert "ServiceOrderId" not in caplog.text
    assert "KeyError" in caplog.text


# --- Business Central and Dataverse ---------------------------------------------------------------------------------


async def test_a_notification_of_business_central_is_stored_once_per_change(hooks):
    for changed in ("2026-01-15T12:00:00Z", "2026-01-15T12:00:00Z", "2026-01-15T12:00:01Z"):
        assert (await hooks.post(BC_PATH, notification(changed))).status_code == 202
    assert len(await hooks.stored()) == 2


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("bc-1", notification(), {}),
        ("bc-1/wrong", notification(), {}),
        (BC_PATH, notification(state="wrong"), {}),
        (BC_PATH, b"{", {}),
        (BC_PATH, notification(), {"content-encoding": "gzip"}),
        (BC_PATH, b" " * (1 << 20) + b"!", {}),
    ],
    ids=["no key", "wrong key", "wrong clientState", "no JSON", "compressed", "too large"],
)
async def test_business_central_never_hears_what_would_make_it_delete_the_subscription(
    hooks, path, body, headers
):
    answer = await hooks.post(path, body, headers)
    assert answer.status_code == 503
    assert await hooks.stored() == []


async def test_a_handshake_is_answered_only_while_one_is_expected(hooks):
    token = {"validationToken": "<b>a token & more</b>"}
    ask = f"/hooks/{BC_PATH}"
    assert (await hooks.client.post(ask, params=token)).status_code == 503
    assert await expect_handshake(hooks.database, "bc-1", seconds=60)
    for method in ("POST", "GET"):
        answer = await hooks.client.request(method, ask, params=token)
        assert (answer.status_code, answer.text) == (200, token["validationToken"])
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await hooks.client.post("/hooks/bc-1/wrong", params=token)).status_code == 503
    assert (await hooks.client.post(ask, params={"validationToken": "x" * 2049})).status_code == 503
    await expect_handshake(hooks.database, "bc-1", seconds=-1)
    assert (await hooks.client.post(ask, params=token)).status_code == 503
    assert await hooks.stored() == []


async def test_a_delivery_of_dataverse_keeps_the_headers_that_tell_what_it_is(hooks):
    headers = {"x-ms-dynamics-entity-name": "account", "authorization": "Bearer x"}
    answer = await hooks.post("crm-1", b"{}", headers, params={"code": SECRET})
    assert answer.status_code == 202
    (row,) = await hooks.stored()
    assert row.headers == {"x-ms-dynamics-entity-name": "account"}


async def test_a_delivery_of_dataverse_with_a_wrong_key_is_refused(hooks):
    for params in ({}, {"code": ""}, {"code": "wrong"}, {"code": "é"}):
        assert (await hooks.post("crm-1", b"{}", params=params)).status_code == 401
    assert await hooks.stored() == []
