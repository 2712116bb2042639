import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipaas_resources.core.errors import (
    ProtocolError,
    RefusedRecordError,
)
from ipaas_resources.net.odata.errors import error_of, explain, masked
from ipaas_resources.net.odata.etag import etag_of, if_match, only_create
from ipaas_resources.net.odata.paging import prefer, read_pages
from tests.net.odata.conftest import answer

BC = {
    "error": {
        "code": "Application_DialogException",
        "message": "You cannot delete Item 1000 because it belongs to 'Ada Lovelace' <ada@example.com>."
        "  CorrelationId:  2e451703-8b1c-4a6e-9d5f-0123456789ab.",
    }
}


def test_the_sentence_of_the_product_is_shown_without_values():
    code, message = explain(answer(BC, 400))
    assert code == "Application_DialogException"
    assert message == "You cannot delete Item .. because it belongs to '..' .."


def test_known_names_stay_in_the_sentence():
    text = "The length of the 'subject' attribute of 'Ada' exceeded the maximum allowed length of '200'."
    assert masked(text, {"subject"}) == (
        "The length of the 'subject' attribute of '..' exceeded the maximum allowed length of '..'."
    )


@given(st.text())
def test_masking_never_fails_and_is_short(text):
    assert len(masked(text)) <= 300


@pytest.mark.parametrize(
    "body", [b"", b"<html/>", b"[]", b'{"error":"text"}', b'{"error":null}', b"[" * 10_000]
)
def test_an_error_in_another_form_explains_nothing(body):
    assert explain(answer(body, 400)) is None


def test_older_services_put_the_message_in_an_object():
    assert error_of({"error": {"code": "x", "message": {"lang": "en", "value": "no"}}}) == ("x", "no")
    assert error_of({"error": {}}) == ("", "")


# --- etags


def test_an_update_names_its_version_or_any_that_exists():
    assert if_match('W/"JzQ0"') == {"If-Match": 'W/"JzQ0"'}
    assert if_match(None) == {"If-Match": "*"}
    assert only_create() == {"If-None-Match": "*"}
    assert etag_of({"@odata.etag": 'W/"1"'}) == 'W/"1"'
    assert etag_of({}) is None
    with pytest.raises(RefusedRecordError):
        if_match('W/"1"\r\nx: y')


# --- paging

ROOT = "https://bc.example/v2.0/prod/api/v2.0/customers"


def page(rows, **links):
    return httpx.Response(
        200, json={"value": rows, **{f"@odata.{name}": link for name, link in links.items()}}
    )


async def pages(client, **options):
    return [each async for each in read_pages(client, "customers", endpoint="customers", **options)]


async def test_pages_are_followed_verbatim_with_the_same_headers(rig):
    link = f"{ROOT}?aid=FIN&$skiptoken=75e%21'x'"
    made = rig(
        [page([{"id": 1}], nextLink=link), page([], nextLink=link + "2"), page([{"id": 2}], deltaLink="d")]
    )
    found = await pages(made.client, headers=prefer("odata.track-changes", page_size=1000))
    assert [each.rows for each in found] == [[{"id": 1}], [], [{"id": 2}]]
    assert found[-1].delta_link == "d"
    assert found[0].storable
    assert [str(each.url) for each in made.requests[1:]] == [link, link + "2"]
    wishes = {each.headers["prefer"] for each in made.requests}
    assert wishes == {"odata.track-changes,odata.maxpagesize=1000"}


async def test_the_same_link_twice_ends_the_scan_with_an_error(rig):
    made = rig(lambda _: page([{"id": 1}], nextLink=f"{ROOT}?$skiptoken=1"))
    with pytest.raises(ProtocolError):
        await pages(made.client)
    assert len(made.requests) == 2


async def test_a_link_back_to_an_earlier_page_ends_the_scan_with_an_error(rig):
    links = iter([f"{ROOT}?$skiptoken=1", f"{ROOT}?$skiptoken=2", f"{ROOT}?$skiptoken=1"])
    made = rig(lambda _: page([{"id": 1}], nextLink=next(links)))
    with pytest.raises(ProtocolError):
        await pages(made.client)
    assert len(made.requests) == 3


async def test_a_link_to_another_host_is_not_followed(rig):
    made = rig([page([], nextLink="https://evil.example/")])
    with pytest.raises(ProtocolError):
        await pages(made.client)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "x"}, "value": []},
        {},
        [],
        {"value": 1},
        {"value": [1]},
        {"value": [], "@odata.nextLink": 1},
    ],
)
async def test_an_answer_that_is_no_page_is_a_protocol_error(rig, body):
    with pytest.raises(ProtocolError):
        await pages(rig([httpx.Response(200, json=body)]).client)


def test_no_wish_makes_no_header():
    assert prefer() == {}
