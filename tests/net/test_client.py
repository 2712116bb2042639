import gzip
import logging

import httpx
import pytest

from ipaas_resources.core import killpoints
from ipaas_resources.core.clock import SeededIds
from ipaas_resources.core.errors import (
    ConfigurationError,
    CredentialsError,
    IpaasError,
    MissingRecordError,
    ProtocolError,
    RefusedRecordError,
    ReloadError,
    SystemBusyError,
    ThrottledError,
    UnknownOutcomeError,
    UnreachableError,
)
from ipaas_resources.net.auth import StaticHeader
from ipaas_resources.net.trace import trace_id_of
from tests.net.conftest import BASE

LATER = {"retry-after": "7"}


def json_answer(body=b'{"value":[]}', status=200, **headers):
    return httpx.Response(status, content=body, headers={"content-type": "application/json", **headers})


async def read(client, url="customers", **options):
    return await client.send("GET", url, kind="read", **options)


async def write(client, url="customers", **options):
    return await client.send("POST", url, kind="write", content=b"{}", **options)


async def test_a_relative_address_lies_below_the_base_and_a_link_is_taken_verbatim(rig):
    link = f"{BASE}/customers?$skiptoken=75e%21a+b(c)'d'&aid=FIN"
    made = rig([json_answer(), json_answer()])
    await read(made.client, "companies(11)/customers?$top=1")
    await read(made.client, link)
    assert str(made.requests[0].url) == f"{BASE}/companies(11)/customers?$top=1"
    assert str(made.requests[1].url) == link


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/v2.0/customers",
        "https://bc.example.evil.example/",
        "http://bc.example/v2.0/customers",
        "https://bc.example:8443/v2.0/customers",
        "https://user:word@bc.example/v2.0/customers",
        "//evil.example/customers",
        "https:/\\evil.example",
        "https://bc.example@evil.example/",
        "ftp://bc.example/",
        "../../admin",
        "https://bc.example:port/",
    ],
)
async def test_a_link_that_leaves_the_host_is_refused_before_a_byte_is_sent(rig, link):
    made = rig([], auth=StaticHeader("authorization", lambda: "Bearer secret"))
    with pytest.raises(ProtocolError):
        await read(made.client, link)
    assert made.requests == []
    assert made.limits.granted == 0


async def test_the_same_host_in_other_letters_and_with_its_usual_port_is_the_same_host(rig):
    made = rig([json_answer()])
    assert (await read(made.client, "https://BC.example:443/v2.0/x")).status == 200


@pytest.mark.parametrize(
    "base",
    ["bc.example", "https://user:word@bc.example", "https://bc.example/?a=1", "file:///etc", "", "https://"],
)
async def test_an_address_that_is_no_plain_one_is_refused_at_once(rig, base):
    with pytest.raises(ConfigurationError) as raised:
        rig([], base_url=base)
    assert "word" not in str(raised.value)


async def test_a_redirect_is_not_followed(rig):
    made = rig([httpx.Response(302, headers={"location": "https://evil.example/"})])
    with pytest.raises(ProtocolError) as raised:
        await read(made.client)
    assert raised.value.status == 302
    assert len(made.requests) == 1


@pytest.mark.parametrize(("status", "kind"), [(303, UnknownOutcomeError), (307, ProtocolError)])
async def test_a_redirected_write_is_unknown_unless_the_status_promises_that_nothing_was_done(
    rig, status, kind
):
    made = rig([httpx.Response(status, headers={"location": "/elsewhere"})])
    with pytest.raises(kind):
        await write(made.client)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedRecordError),
        (401, CredentialsError),
        (403, CredentialsError),
        (404, MissingRecordError),
        (409, ReloadError),
        (410, MissingRecordError),
        (412, ReloadError),
        (413, RefusedRecordError),
        (418, RefusedRecordError),
        (422, RefusedRecordError),
    ],
)
async def test_a_definite_refusal_is_raised_by_what_happens_next_and_sent_once(rig, status, kind):
    made = rig([status, status])
    for request in (read, write):
        with pytest.raises(kind) as raised:
            await request(made.client)
        assert type(raised.value) is kind
        assert raised.value.status == status
    assert len(made.requests) == 2
    assert made.clock.slept == []


async def test_statuses_that_the_caller_understands_are_handed_back(rig):
    made = rig([404, 409, 412, 429])
    for status in (404, 409, 412, 429):
        assert (await write(made.client, accept={404, 409, 412, 429})).status == status


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 599])
async def test_a_read_is_sent_again_after_one_four_and_sixteen_seconds(rig, status):
    made = rig([status] * 4)
    with pytest.raises(SystemBusyError) as raised:
        await read(made.client)
    assert raised.value.status == status
    assert len(made.requests) == 4
    for slept, expected in zip(made.clock.slept, (1, 4, 16), strict=True):
        assert expected <= slept <= expected * 1.25
    assert made.calls == ["read"] * 4


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_write_that_is_not_repeatable_is_unknown_after_a_server_error(rig, status):
    made = rig([status])
    with pytest.raises(UnknownOutcomeError) as raised:
        await write(made.client)
    assert raised.value.status == status
    assert len(made.requests) == 1


async def test_a_repeatable_write_is_sent_again_and_says_that_it_was(rig):
    made = rig([500, httpx.ReadError("gone"), 412])
    answer = await write(made.client, repeatable=True, accept={412})
    assert answer.repeated
    assert len(made.requests) == 3


async def test_a_write_that_was_answered_at_once_is_not_repeated(rig):
    assert not (await write(rig([json_answer()]).client)).repeated


@pytest.mark.parametrize(
    "then", [httpx.ConnectError("refused"), 429, 401, httpx.Response(302, headers={"location": "/"})]
)
async def test_nothing_that_follows_a_lost_answer_makes_a_write_certain_again(rig, then):
    made = rig([httpx.ReadTimeout("slow")] + [then] * 3)
    with pytest.raises(UnknownOutcomeError):
        await write(made.client, repeatable=True)


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
async def test_a_write_that_was_never_sent_is_sent_again(rig, error):
    made = rig([error("no"), error("no"), json_answer()])
    assert (await write(made.client)).status == 200
    assert made.calls == ["write"]

    made = rig([error("no")] * 4)
    with pytest.raises(UnreachableError):
        await write(made.client)
    assert made.calls == []


@pytest.mark.parametrize(
    "error",
    [httpx.ReadError, httpx.ReadTimeout, httpx.WriteError, httpx.WriteTimeout, httpx.RemoteProtocolError],
)
async def test_a_lost_answer_is_retried_for_reads_and_unknown_for_writes(rig, error):
    made = rig([error("lost"), json_answer()])
    assert (await read(made.client)).status == 200

    made = rig([error("lost")])
    with pytest.raises(UnknownOutcomeError):
        await write(made.client)
    assert len(made.requests) == 1
    assert made.calls == ["write"]


async def test_a_throttled_write_was_not_applied_and_is_sent_again(rig):
    made = rig([httpx.Response(429, headers=LATER), json_answer()])
    assert (await write(made.client)).status == 200
    assert 7 <= made.clock.slept[0] <= 8.75
    assert made.limits.pauses == [7]


async def test_retry_after_of_a_busy_system_is_told_to_everybody_also_when_this_write_is_unknown(rig):
    made = rig([httpx.Response(503, headers=LATER)])
    with pytest.raises(UnknownOutcomeError):
        await write(made.client)
    assert made.limits.pauses == [7]


async def test_a_429_without_a_time_pauses_everybody_for_our_own_delay(rig):
    made = rig([429, json_answer()])
    await read(made.client)
    assert made.limits.pauses == made.clock.slept
    assert 1 <= made.clock.slept[0] <= 1.25


async def test_retry_after_zero_does_not_become_a_hammer(rig):
    made = rig([httpx.Response(429, headers={"retry-after": "0"})] * 3 + [json_answer()])
    await read(made.client)
    assert [round(seconds) >= least for seconds, least in zip(made.clock.slept, (1, 4, 16), strict=True)]
    assert made.limits.pauses == []


async def test_a_long_pause_is_told_to_everybody_and_raised_instead_of_slept(rig):
    made = rig([httpx.Response(429, headers={"retry-after": "3600"})])
    with pytest.raises(ThrottledError) as raised:
        await read(made.client)
    assert raised.value.retry_after == 3600
    assert made.limits.pauses == [3600]
    assert made.clock.slept == []


async def test_retry_after_as_a_date_counts_from_the_date_of_the_answer(rig):
    headers = {"retry-after": "Tue, 18 Aug 2026 20:00:09 GMT", "date": "Tue, 18 Aug 2026 20:00:00 GMT"}
    made = rig([httpx.Response(503, headers=headers), json_answer()])
    await read(made.client)
    assert made.limits.pauses == [9]


async def test_html_where_json_belongs_is_a_protocol_error_for_a_read_and_unknown_for_a_write(rig):
    page = httpx.Response(200, html="<h1>Sign in</h1>")
    made = rig([page, page])
    with pytest.raises(ProtocolError):
        await read(made.client)
    with pytest.raises(UnknownOutcomeError):
        await write(made.client)
    assert len(made.requests) == 2


@pytest.mark.parametrize(
    "body", [b'{"a":', b"", b"\xff\xfe", b"[" * 100_000 + b"]" * 100_000, b"NaN", b"<a/>"]
)
async def test_a_body_that_is_no_json_is_a_protocol_error_for_a_read_and_unknown_for_a_write(rig, body):
    made = rig([json_answer(body), json_answer(body)])
    with pytest.raises(ProtocolError):
        (await read(made.client)).json()
    with pytest.raises(UnknownOutcomeError):
        (await write(made.client)).json()


async def test_a_web_page_that_says_not_found_does_not_make_a_record_missing(rig):
    page = httpx.Response(404, html="<h1>No such site</h1>")
    made = rig([page, page])
    with pytest.raises(ProtocolError):
        await read(made.client)
    with pytest.raises(ProtocolError):
        await read(made.client, accept={404})


async def test_a_write_passes_its_kill_points_and_a_read_passes_none(rig, monkeypatch):
    passed = []
    monkeypatch.setattr(killpoints, "before", lambda name: passed.append(f"-{name}"))
    monkeypatch.setattr(killpoints, "after", passed.append)
    made = rig([json_answer(), json_answer(), httpx.ReadError("lost")])
    await read(made.client)
    assert passed == []
    await write(made.client)
    assert passed == ["-K09", "K09", "-K10", "K10"]
    with pytest.raises(UnknownOutcomeError):
        await write(made.client)
    assert passed[4:] == ["-K09"]


async def test_a_damaged_content_encoding_is_a_protocol_error_for_a_read_and_unknown_for_a_write(rig):
    def broken(request):
        return httpx.Response(200, stream=httpx.ByteStream(b"no gzip"), headers={"content-encoding": "gzip"})

    made = rig(broken)
    with pytest.raises(ProtocolError):
        await read(made.client)
    with pytest.raises(UnknownOutcomeError):
        await write(made.client)


async def test_an_answer_above_the_cap_is_given_up_however_small_it_was_packed(rig):
    packed = gzip.compress(b" " * 2_000_000)

    def answer(request):
        return httpx.Response(200, stream=httpx.ByteStream(packed), headers={"content-encoding": "gzip"})

    made = rig(answer, largest_answer=1_000_000)
    with pytest.raises(ProtocolError):
        await read(made.client)
    with pytest.raises(UnknownOutcomeError):
        await write(made.client)


async def test_an_error_answer_of_any_size_keeps_its_meaning(rig):
    made = rig([httpx.Response(404, content=b"x" * 3_000_000)])
    with pytest.raises(MissingRecordError):
        await read(made.client)


async def test_numbers_are_never_floats(rig):
    made = rig([json_answer(b'{"a":12345678901234567.89}')])
    assert str((await read(made.client)).json()["a"]) == "12345678901234567.89"


async def test_the_trace_id_travels_in_the_w3c_header(rig):
    trace = SeededIds(7).trace_id()
    made = rig([json_answer(), json_answer()])
    await read(made.client, trace_id=trace)
    await read(made.client, trace_id="not a trace id")
    assert trace_id_of(made.requests[0].headers) == trace
    assert "traceparent" not in made.requests[1].headers


async def test_headers_of_the_call_override_those_of_the_client_whatever_their_case(rig):
    made = rig([json_answer()], headers={"Accept": "application/json;odata.metadata=minimal", "Prefer": "a"})
    await read(made.client, headers={"prefer": "b"})
    assert made.requests[0].headers["prefer"] == "b"
    assert made.requests[0].headers["accept"] == "application/json;odata.metadata=minimal"


async def test_no_cookie_is_ever_sent_back(rig):
    made = rig([json_answer(**{"set-cookie": "session=1"}), json_answer()])
    await read(made.client)
    await read(made.client)
    assert "cookie" not in made.requests[1].headers


async def test_a_secret_that_no_header_can_carry_is_a_wrong_setting(rig):
    for secret in ("a\nb", "smörgås"):
        made = rig([], auth=StaticHeader("api-token", lambda value=secret: value))
        with pytest.raises(ConfigurationError) as raised:
            await read(made.client)
        assert secret not in str(raised.value)


async def test_a_rotated_secret_counts_after_a_401_without_waiting(rig):
    secrets = iter(["old", "new", "new"])
    made = rig([401, json_answer()], auth=StaticHeader("api-token", lambda: next(secrets)))
    assert (await read(made.client)).status == 200
    assert [request.headers["api-token"] for request in made.requests] == ["old", "new"]
    assert made.clock.slept == []


async def test_a_401_that_stays_is_a_matter_of_credentials(rig):
    made = rig([401], auth=StaticHeader("api-token", lambda: "same"))
    with pytest.raises(CredentialsError):
        await read(made.client)


async def test_the_explanation_of_the_connector_reaches_the_error_and_only_its_code_the_log(rig, caplog):
    made = rig(
        [httpx.Response(400, json={"error": {"code": "Application_X", "message": "for Ada Lovelace"}})],
        explain=lambda answer: (answer.json()["error"]["code"], "The name is too long."),
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(RefusedRecordError) as raised:
        await write(made.client)
    assert raised.value.code == "Application_X"
    assert "The name is too long." in str(raised.value)
    (line,) = caplog.records
    assert line.request["code"] == "Application_X"
    assert "too long" not in line.getMessage()


async def test_a_product_code_that_looks_like_a_value_is_not_taken_over(rig):
    made = rig([400], explain=lambda _: ("Ada Lovelace <ada@example.com>", ""))
    with pytest.raises(RefusedRecordError) as raised:
        await write(made.client)
    assert "Ada" not in str(raised.value)


async def test_the_log_names_the_request_and_holds_no_body_query_key_or_secret(rig, caplog):
    canary = "CANARY-7261"
    made = rig(
        [
            httpx.Response(503, text=canary, headers={"x-echo": canary}),
            httpx.Response(400, text=canary),
        ],
        auth=StaticHeader("authorization", lambda: f"Bearer {canary}"),
    )
    trace = SeededIds(3).trace_id()
    with caplog.at_level(logging.DEBUG), pytest.raises(IpaasError) as raised:
        await made.client.send(
            "PATCH",
            f"customers(number='{canary}')/12345?$filter=name eq '{canary}'",
            kind="write",
            repeatable=True,
            content=f'{{"name":"{canary}"}}'.encode(),
            trace_id=trace,
        )
    assert len(caplog.records) == 2
    assert canary not in caplog.text
    assert canary not in str(raised.value)
    first = caplog.records[0].request
    assert first["system"] == "bc"
    assert first["endpoint"] == "customers(..)/{id}"
    assert (first["method"], first["status"], first["attempt"]) == ("PATCH", 503, 1)
    assert first["trace_id"] == trace
    assert first["duration_ms"] >= 0


async def test_every_attempt_asks_the_budget(rig):
    made = rig([500, 500, json_answer()])
    await read(made.client)
    assert made.limits.granted == 3
