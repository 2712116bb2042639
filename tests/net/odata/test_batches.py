import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.errors import (
    ProtocolError,
    RefusedRecordError,
    UnknownOutcomeError,
)
from ipaas_resources.net.odata import json_batch, multipart_batch
from ipaas_resources.net.odata.parts import PartRequest
from tests.net.odata.conftest import answer

PARTS = [
    PartRequest(
        method="PATCH", url="items(1)", headers={"If-Match": "*"}, body=b'{"price":12345678901234567.89}'
    ),
    PartRequest(method="DELETE", url="items(2)"),
    PartRequest(method="GET", url="items(3)"),
]


def test_a_json_batch_keeps_numbers_and_headers():
    body = json_batch.build(PARTS)
    assert b'"body":{"price":12345678901234567.89}' in body
    requests = json.loads(body)["requests"]
    assert [each["id"] for each in requests] == ["1", "2", "3"]
    assert requests[0]["headers"] == {"Content-Type": "application/json", "If-Match": "*"}
    assert "body" not in requests[1]


def batch(*responses, kind="write"):
    return answer({"responses": list(responses)}, kind=kind)


def test_answers_of_a_json_batch_are_matched_by_id():
    results = json_batch.parse(
        batch(
            {"id": "3", "status": 200, "headers": {"ETag": "x"}},
            {"id": "1", "status": 400, "body": {"error": 1}},
        ),
        3,
    )
    assert [each and each.status for each in results] == [400, None, 200]
    assert results[0].json() == {"error": 1}
    assert results[2].headers == {"etag": "x"}
    assert results[2].content == b""


def test_answers_without_ids_stand_in_the_order_of_the_requests():
    results = json_batch.parse(batch({"id": None, "status": 201}, {"status": 204}), 2)
    assert [each.status for each in results] == [201, 204]


@pytest.mark.parametrize(
    "responses",
    [
        [{"status": 200}],
        [{"id": "4", "status": 200}],
        [{"id": "0", "status": 200}],
        [{"id": "one", "status": 200}],
        [{"id": "1", "status": 200}, {"id": "1", "status": 200}],
        [{"id": "1", "status": 200}, {"status": 200}],
        [{"id": "1"}],
        [1],
    ],
)
def test_a_json_batch_answer_that_does_not_fit_is_unknown_for_writes(responses):
    with pytest.raises(UnknownOutcomeError):
        json_batch.parse(batch(*responses), 3)
    with pytest.raises(ProtocolError):
        json_batch.parse(batch(*responses, kind="read"), 3)


def test_a_torn_json_batch_answer_is_unknown():
    whole = batch({"id": "1", "status": 200})
    with pytest.raises(UnknownOutcomeError):
        json_batch.parse(answer(whole.content[:-5], kind="write"), 1)


# --- the multipart form of $batch


def multipart(body, boundary="b", kind="write"):
    return answer(body, kind=kind, **{"content-type": f'multipart/mixed; boundary="{boundary}"'})


def part(status, body=b"", headers=b"", number=None):
    ids = b"Content-ID: %d\r\n" % number if number else b""
    return (
        b"--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n" + ids + b"\r\n"
        b"HTTP/1.1 %d Some Words\r\n" % status + headers + b"\r\n" + body + b"\r\n"
    )


def test_a_multipart_batch_has_crlf_lines_absolute_paths_and_an_end():
    content_type, body = multipart_batch.build(PARTS[:2], "t", base="/api/data/v9.2/")
    assert content_type == "multipart/mixed; boundary=batch_t"
    assert body == (
        b"--batch_t\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: 1\r\n\r\n"
        b"PATCH /api/data/v9.2/items(1) HTTP/1.1\r\nIf-Match: *\r\nContent-Type: application/json\r\n\r\n"
        b'{"price":12345678901234567.89}\r\n'
        b"--batch_t\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: 2\r\n\r\n"
        b"DELETE /api/data/v9.2/items(2) HTTP/1.1\r\n\r\n\r\n"
        b"--batch_t--\r\n"
    )


def test_a_change_set_is_a_multipart_within_the_batch():
    _, body = multipart_batch.build(PARTS[:1], "t", changeset=True)
    assert body.startswith(
        b"--batch_t\r\nContent-Type: multipart/mixed; boundary=changeset_t\r\n\r\n--changeset_t\r\n"
    )
    assert body.endswith(b"--changeset_t--\r\n\r\n--batch_t--\r\n")


@pytest.mark.parametrize(
    "evil", [{"url": "x HTTP/1.1\r\nHost: y"}, {"url": "x", "headers": {"If-Match": "a\r\n\r\nDELETE /all"}}]
)
def test_a_line_break_in_a_part_cannot_begin_another_request(evil):
    with pytest.raises(RefusedRecordError):
        multipart_batch.build([PartRequest(method="PATCH", **evil)], "t")


def test_answers_of_a_multipart_batch_in_every_usual_form():
    body = (
        b"preamble\r\n"
        + part(204, headers=b'OData-EntityId: https://x/accounts(1)\r\nETag: W/"1"\r\n')
        + part(
            412,
            b'{"error":{"code":"0x80060882"}}',
            b"Content-Type: application/json; odata.metadata=minimal\r\n",
        )
        + part(200, b'{"a":"--b"}', b"Content-Type: application/json\r\n")
        + b"--b--\r\nepilogue"
    )
    first, second, third = multipart_batch.parse(multipart(body), 3)
    assert (first.status, first.content, first.headers["etag"]) == (204, b"", 'W/"1"')
    assert (second.status, second.json()["error"]["code"]) == (412, "0x80060882")
    assert third.json() == {"a": "--b"}
    assert [each.status for each in multipart_batch.parse(multipart(body.replace(b"\r\n", b"\n")), 3)] == [
        204,
        412,
        200,
    ]


def test_content_ids_tell_which_part_was_answered():
    body = part(200, number=3) + part(204, number=1) + b"--b--"
    assert [each and each.status for each in multipart_batch.parse(multipart(body), 3)] == [204, None, 200]


def test_answers_that_end_at_the_first_error_leave_the_rest_open():
    body = part(204) + part(400, b"{}") + b"--b--\r\n"
    assert [each and each.status for each in multipart_batch.parse(multipart(body), 4)] == [
        204,
        400,
        None,
        None,
    ]


def test_a_change_set_answers_part_by_part_or_with_one_error_for_all():
    inner = part(204).replace(b"--b\r\n", b"--c\r\n") + part(201).replace(b"--b\r\n", b"--c\r\n") + b"--c--"
    body = b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n" + inner + b"\r\n--b--\r\n"
    assert [each.status for each in multipart_batch.parse_changeset(multipart(body), 2)] == [204, 201]
    failed = part(400, b"{}") + b"--b--\r\n"
    assert [each.status for each in multipart_batch.parse_changeset(multipart(failed), 2)] == [400, 400]


@given(st.integers(0, 400))
def test_a_torn_multipart_answer_never_invents_a_result(cut):
    body = part(204, headers=b"ETag: 1\r\n") + part(200, b'{"a":1}') + part(201, b'{"b":2}') + b"--b--\r\n"
    statuses = [204, 200, 201]
    try:
        results = multipart_batch.parse(multipart(body[:cut]), 3)
    except UnknownOutcomeError:
        return
    for result, status in zip(results, statuses, strict=True):
        assert result is None or result.status == status
    if cut < body.rindex(b"--b--"):
        assert results[2] is None


@pytest.mark.parametrize(
    "body",
    [b"--b\r\n\r\nrubbish\r\n--b--", part(204) * 2 + b"--b--", part(204, number=7) + b"--b--"],
)
def test_a_multipart_answer_that_does_not_fit_is_unknown_for_writes(body):
    with pytest.raises(UnknownOutcomeError):
        multipart_batch.parse(multipart(body), 1)


@pytest.mark.parametrize("content_type", ["application/json", "multipart/mixed", "", "text/html; boundary=b"])
def test_an_answer_that_is_no_multipart_is_a_protocol_error_for_reads(content_type):
    with pytest.raises(ProtocolError):
        multipart_batch.parse(answer(part(204), **{"content-type": content_type}), 1)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_multipart_parser(body):
    try:
        results = multipart_batch.parse(multipart(body), 2)
    except UnknownOutcomeError:
        return
    assert len(results) == 2
