"""The small parts: statuses, retry times, JSON bodies, origins, log lines."""

import datetime as dt
import json
from decimal import Decimal
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core import errors
from ipaas_resources.core.records import Outcome
from ipaas_resources.core.values import escape_text
from ipaas_resources.net.body import (
    MalformedBodyError,
    decode_json,
    encode_json,
    holds_only_storable_text,
)
from ipaas_resources.net.origin import Origin
from ipaas_resources.net.request_log import safe_code
from ipaas_resources.net.retry import RetryPolicy, retry_after_seconds
from ipaas_resources.net.safe_xml import MalformedXmlError, parse_xml
from ipaas_resources.net.statuses import error_for, outcome_of
from ipaas_resources.net.trace import trace_header, trace_id_of

NOW = dt.datetime(2026, 8, 18, 20, 0, tzinfo=dt.UTC)


@given(st.integers(100, 999), st.booleans())
def test_every_status_is_success_or_has_an_error_that_says_what_happens_next(status, write):
    error = error_for(status, write=write, what="bc GET x")
    if 200 <= status < 300:
        assert error is None
        return
    assert error.status == status
    assert f"was answered with {status}" in str(error)
    if status >= 500 or status == 408:
        assert isinstance(error, errors.UnknownOutcomeError if write else errors.SystemBusyError)


def test_an_error_carries_code_explanation_and_the_time_to_wait():
    error = error_for(
        429, write=True, what="bc POST x", code="TooMany", explanation="Slow down.", retry_after=9
    )
    assert str(error).startswith("bc POST x was answered with 429 TooMany: Slow down. ")
    assert (error.code, error.retry_after) == ("TooMany", 9)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (429, Outcome.RETRY),
        (412, Outcome.RELOAD),
        (404, Outcome.MISSING),
        (400, Outcome.REFUSED),
        (500, Outcome.UNKNOWN),
        (401, Outcome.STOP),
    ],
)
def test_the_outcome_of_a_written_part_follows_its_status(status, outcome):
    assert outcome_of(error_for(status, write=True, what="part")) is outcome


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 2 ", 2),
        ("1.5", 1.5),
        ("999999999", 999999999),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1e9", None),
        ("NaN", None),
        ("Tue, 18 Aug 2026 20:01:00 GMT", 60),
        ("Tue, 18 Aug 2026 19:00:00 GMT", 0),
        ("Tuesday, 18-Aug-26 20:00:30 GMT", 30),
        ("Tue Aug 18 20:00:30 2026", 30),
        ("Tue, 99 Aug 2026 20:01:00 GMT", None),
    ],
)
def test_retry_after_in_every_form(text, seconds):
    assert retry_after_seconds({"retry-after": text}, NOW) == seconds


@given(st.integers(0, 4000), st.integers(-600, 600))
def test_a_retry_date_means_the_same_whatever_the_clocks_say(seconds, skew):
    theirs = NOW + dt.timedelta(seconds=skew)
    headers = {
        "date": format_datetime(theirs, usegmt=True),
        "retry-after": format_datetime(theirs + dt.timedelta(seconds=seconds), usegmt=True),
    }
    assert retry_after_seconds(headers, NOW) == seconds


@given(st.integers(1, 10), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 10_000))
def test_a_delay_is_never_shorter_than_what_was_asked_and_never_beyond_the_patience(attempt, chance, wish):
    policy = RetryPolicy()
    delay = policy.delay(attempt, chance, wish)
    if attempt > 3 or (wish or 0) > policy.patience:
        assert delay is None
    else:
        assert delay >= (wish or 1.0)
        assert delay <= policy.patience * (1 + policy.jitter)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_json_comes_back_as_it_was(value):
    assert decode_json(encode_json(value)) == value


@given(st.text(st.characters(categories=["Cs", "L"]), min_size=1))
def test_lone_surrogates_travel_as_escapes_in_both_directions(text):
    body = encode_json({text: [text, {"x": text}, Decimal("1.50"), None, True]})
    body.decode("ascii" if any("\ud800" <= each <= "\udfff" for each in text) else "utf-8")
    joined = json.loads(json.dumps(text))
    assert decode_json(body) == {joined: [joined, {"x": joined}, Decimal("1.50"), None, True]}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1,]", b"NaN", b'{"a":Infinity,"b":"\\ud800"}', b"1" * 5000, b'"\xff"', b"{}x"]
)
def test_what_is_no_json_is_refused_without_quoting_it(body):
    with pytest.raises(MalformedBodyError) as raised:
        decode_json(body)
    assert len(str(raised.value)) < 60
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("levels", [5_000, 200_000])
@pytest.mark.parametrize("inner", [b"1", b'"\\ud800"'])
def test_a_body_that_nests_too_deeply_is_refused(levels, inner):
    with pytest.raises(MalformedBodyError):
        decode_json(b"[" * levels + inner + b"]" * levels)


def test_a_byte_order_mark_is_not_part_of_the_json():
    assert decode_json(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


@given(st.text(), st.booleans())
def test_a_body_said_to_be_storable_holds_no_text_that_needs_escaping(text, ascii_only):
    body = json.dumps({"a": text}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if holds_only_storable_text(body):
        assert escape_text(text) == text


@pytest.mark.parametrize("text", ["\x00", "\ue000", "a\ue000b"])
def test_a_body_with_unstorable_text_is_told_apart(text):
    for ascii_only in (True, False):
        assert not holds_only_storable_text(json.dumps(text, ensure_ascii=ascii_only).encode())


def test_names_for_logs_hold_no_keys_and_no_ids():
    origin = Origin("bc", "https://bc.example/api/v2.0")
    url = origin.resolve(
        "companies(2e451703-8b1c-4a6e-9d5f-0123456789ab)/orders/4711/lines/2e4517038b1c4a6e9d5f0123456789ab?a=1"
    )
    assert origin.endpoint(url) == "companies(..)/orders/{id}/lines/{id}"


def test_trace_headers_are_made_only_of_valid_ids():
    trace = "ab" * 16
    assert trace_id_of({"traceparent": trace_header(trace, 0.0)}) == trace
    assert trace_header("x" * 32, 0.5) is None
    assert trace_header("ab\r\nx: y", 0.5) is None
    assert trace_id_of({"traceparent": "rubbish"}) == ""


@pytest.mark.parametrize(
    ("code", "kept"), [("Application_X.1", True), ("a b", False), ("x" * 81, False), ("", False)]
)
def test_only_what_looks_like_a_code_is_a_code(code, kept):
    assert safe_code(code) == (code if kept else None)


BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>"""
OUTSIDE = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>"""


@pytest.mark.parametrize("content", [BOMB, OUTSIDE, b"<!DOCTYPE html><html/>", b"<a>&nbsp;</a>", b"<a>", b""])
def test_xml_with_a_document_type_or_without_form_is_refused(content):
    with pytest.raises(MalformedXmlError):
        parse_xml(content)


def test_xml_that_nests_too_deeply_is_refused():
    with pytest.raises(MalformedXmlError):
        parse_xml(b"<a>" * 100_000 + b"</a>" * 100_000)
