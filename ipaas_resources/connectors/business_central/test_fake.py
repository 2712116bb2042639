"""The fake Business Central and its login host: what the product does, and what it refuses."""

from __future__ import annotations

import asyncio
import datetime as dt

import httpx
import pytest

from ipaas_resources.connectors.business_central import fake_query
from ipaas_resources.connectors.business_central.tests import (
    BUYER,
    ITEM,
    NOBODY,
    ROUTE,
    UK,
    ZERO_GUID,
    make_fake,
)
from ipaas_resources.connectors.fakes import serve
from ipaas_resources.core.clock import ManualClock, SystemClock


class Caller:
    """Plain HTTP to the fake, signed in."""

    def __init__(self, clock=None) -> None:
        self.clock = clock or ManualClock()
        self.fake = make_fake(self.clock)
        self.fake.tokens.accept("raw-1")
        self.http = httpx.AsyncClient(
            transport=self.fake.transport(), base_url=ROUTE, headers={"Authorization": "Bearer raw-1"}
        )
        self.company = f"companies({self.fake.company(UK).id})"

    async def __call__(self, method: str, path: str, body=None, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.request(method, f"/{self.company}/{path}", json=body, headers=sent)

    async def batch(self, *requests: dict, **headers: str) -> httpx.Response:
        numbered = [{"id": str(n), "headers": {"Company": UK}, **r} for n, r in enumerate(requests)]
        return await self.http.post("/$batch", json={"requests": numbered}, headers=headers)


@pytest.fixture
async def call():
    caller = Caller()
    yield caller
    await caller.http.aclose()


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


class TestFilters:
    async def test_or_joins_conditions_on_one_field_only(self, call):
        fine = await call("GET", "customers?$filter=number eq 'BUYER' or number eq 'X'")
        assert len(fine.json()["value"]) == 1
        refused = await call("GET", "customers?$filter=number eq 'BUYER' or city eq 'X'")
        assert refused.status_code == 400
        assert "'OR' operator is not supported on distinct fields" in refused.text

    async def test_lambda_filters_are_silently_ignored(self, call):
        answer = await call("GET", "salesOrders?$filter=salesOrderLines/any(l:l/quantity gt 5)")
        assert answer.status_code == 200
        call.fake.seed("sales_orders", UK, {"number": "SO1"})
        assert (
            len(
                (await call("GET", "salesOrders?$filter=salesOrderLines/any(l:l/quantity gt 5)")).json()[
                    "value"
                ]
            )
            == 1
        )

    @pytest.mark.parametrize(
        ("text", "count"),
        [
            ("startswith(displayName,'Ada')", 1),
            ("contains(displayName,'dat') and number ne 'X'", 1),
            ("endswith(displayName,'x')", 0),
            ("tolower(displayName) eq 'adatum'", 1),
            ("displayName eq 'adatum'", 0),
            ("number eq 'buyer'", 1),
            ("creditLimit ge 0 and creditLimit lt 0.5", 1),
            ("taxLiable eq false", 1),
            (f"id eq {BUYER}", 1),
            (f"currencyId eq {ZERO_GUID}", 1),
            ("lastModifiedDateTime gt 2026-01-01T00:00:00Z", 0),
            ("lastModifiedDateTime ge 2026-01-01T00:00:00.000Z", 1),
            ("(number eq 'BUYER') and (city eq '')", 1),
            ("blocked eq '_x0020_'", 1),
        ],
    )
    async def test_operators_and_functions(self, call, text, count):
        answer = await call("GET", f"customers?$filter={text}")
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["value"]) == count

    @pytest.mark.parametrize(
        "text",
        [
            "number in ('A','B')",
            "nothing eq 1",
            "number eq",
            "number eq 1",
            "number eq 'a' xor 1",
            "creditLimit eq 'x'",
        ],
    )
    async def test_what_is_no_filter_is_refused(self, call, text):
        assert (await call("GET", f"customers?$filter={text}")).status_code == 400


class TestPages:
    async def test_a_page_is_as_large_as_asked_and_its_link_opaque(self, call):
        for number in range(4):
            call.fake.seed("vendors", UK, {"number": f"V{number}"})
        first = (await call("GET", "vendors?$select=number", Prefer="odata.maxpagesize=3")).json()
        assert [row["number"] for row in first["value"]] == ["V0", "V1", "V2"]
        assert "aid=FIN" in first["@odata.nextLink"]
        assert set(first["value"][0]) == {"@odata.etag", "number"}
        second = (
            await call.http.get(first["@odata.nextLink"], headers={"Prefer": "odata.maxpagesize=3"})
        ).json()
        assert [row["number"] for row in second["value"]] == ["V3"]
        assert "@odata.nextLink" not in second

    async def test_a_page_beyond_the_maximum_is_refused(self, call):
        answer = await call("GET", "vendors", Prefer=f"odata.maxpagesize={fake_query.MAX_PAGE + 1}")
        assert answer.status_code == 400

    async def test_top_is_a_cap_and_no_page_size(self, call):
        for number in range(5):
            call.fake.seed("vendors", UK, {"number": f"V{number}"})
        whole = (await call("GET", "vendors?$top=4")).json()
        assert len(whole["value"]) == 4
        assert "@odata.nextLink" not in whole
        first = (await call("GET", "vendors?$top=4", Prefer="odata.maxpagesize=3")).json()
        assert "%24top=1" in first["@odata.nextLink"] or "$top=1" in first["@odata.nextLink"]
        second = (await call.http.get(first["@odata.nextLink"])).json()
        assert len(second["value"]) == 1

    @pytest.mark.parametrize("order", ["lastModifiedDateTime asc", "", "number desc"])
    async def test_a_record_changed_between_two_pages_is_seen(self, call, order):
        ids = [call.fake.seed("vendors", UK, {"number": f"V{number}"}) for number in range(6)]
        query = f"vendors?$orderby={order}" if order else "vendors"
        first = (await call("GET", query, Prefer="odata.maxpagesize=3")).json()
        call.clock.advance(1)
        call.fake.sim_change("vendors", UK, ids[5], {"city": "York"})
        call.fake.sim_remove("vendors", UK, first["value"][0]["id"])
        second = (await call.http.get(first["@odata.nextLink"])).json()
        seen = {row["id"] for row in (*first["value"], *second["value"])}
        if order != "number desc":  # pages of such an order are by position: a row slips over the edge
            assert seen == set(ids)
        else:
            assert len(seen) == 5

    async def test_times_are_those_of_sql_and_order_is_by_them(self, call):
        for _ in range(5):
            call.clock.advance(0.0011)
            call.fake.seed("vendors", UK, {"number": "V"})
        rows = (await call("GET", "vendors?$orderby=lastModifiedDateTime asc")).json()["value"]
        times = [dt.datetime.fromisoformat(row["lastModifiedDateTime"]) for row in rows]
        assert times == sorted(times)
        assert {time.microsecond // 1000 % 10 for time in times} == {0, 3, 7}


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"displayName": "x", "colour": "red"}, "BadRequest"),
            ({"displayName": "x", "balanceDue": 1}, "BadRequest_InvalidOperation"),
            ({"displayName": "x", "id": NOBODY}, "BadRequest_InvalidOperation"),
            ({"displayName": "x" * 101}, "Application_StringExceededLength"),
            ({"displayName": "x", "blocked": ""}, "Unknown"),
            ({"displayName": "x", "type": "person"}, "Unknown"),
            ({"displayName": "x", "creditLimit": "7"}, "BadRequest"),
            ({"displayName": "x", "taxLiable": 1}, "BadRequest"),
            ({"displayName": "x", "currencyId": "EUR"}, "Application_InvalidGUID"),
            ({"displayName": "x", "currencyId": NOBODY}, "Internal_InvalidTableRelation"),
            ({"displayName": "x", "number": "buyer"}, "Internal_EntityWithSameKeyExists"),
            ({"city": "York"}, "Application_DialogException"),
            ([1], "BadRequest"),
        ],
    )
    async def test_a_body_that_the_page_does_not_take(self, call, body, expected):
        answer = await call("POST", "customers", body)
        assert code(answer) == (400, expected)
        assert "CorrelationId:" in answer.json()["error"]["message"]
        assert call.fake.ledger.writes() == []

    async def test_a_change_needs_a_token_and_the_current_one(self, call):
        for method in ("PATCH", "DELETE"):
            assert code(await call(method, f"customers({BUYER})", {})) == (400, "BadRequest_InvalidToken")
            assert code(await call(method, f"customers({BUYER})", {}, If_Match='W/"x"')) == (
                409,
                "Request_EntityChanged",
            )
        answer = await call("PATCH", f"customers({BUYER})", {"city": "York"}, If_Match="*")
        etag = answer.json()["@odata.etag"]
        answer = await call("PATCH", f"customers({BUYER})", {"city": "Hull"}, If_Match=etag)
        assert answer.json()["@odata.etag"] != etag
        assert (
            await call("DELETE", f"customers({BUYER})", If_Match=answer.json()["@odata.etag"])
        ).status_code == 204

    async def test_what_is_not_there_and_what_is_not_allowed(self, call):
        assert code(await call("GET", f"customers({NOBODY})")) == (404, "Internal_RecordNotFound")
        assert code(await call("GET", "unknownThings")) == (404, "BadRequest_ResourceNotFound")
        assert code(await call("POST", "generalLedgerEntries", {})) == (405, "BadRequest_MethodNotAllowed")
        assert code(await call.http.get(f"/companies({NOBODY})/customers")) == (
            404,
            "Internal_CompanyNotFound",
        )
        assert code(await call.http.get("/customers")) == (400, "Internal_CompanyNotFound")

    async def test_a_company_may_be_named_in_a_header_or_a_parameter(self, call):
        assert (await call.http.get("/customers", params={"company": UK})).status_code == 200
        assert (await call.http.get("/customers", headers={"Company": UK})).status_code == 200

    async def test_id_and_number_of_a_pair_must_agree(self, call):
        call.fake.seed("customers", UK, {"id": NOBODY, "number": "OTHER"})
        answer = await call("POST", "salesOrders", {"customerId": BUYER, "customerNumber": "OTHER"})
        assert code(answer) == (400, "Application_DialogException")
        answer = await call("POST", "salesOrders", {"customerNumber": "buyer"})
        assert answer.json()["customerId"] == BUYER

    async def test_a_sales_document_needs_a_customer(self, call):
        assert (
            "A customerNumber or a customerID must be provided"
            in (await call("POST", "salesOrders", {})).text
        )

    async def test_tokens_are_checked_for_life_and_audience(self, call):
        call.http.headers["Authorization"] = "Bearer nobody"
        assert code(await call("GET", "customers")) == (401, "Authentication_InvalidCredentials")
        call.fake.tokens.accept("me@https://graph.microsoft.com-7")
        call.http.headers["Authorization"] = "Bearer me@https://graph.microsoft.com-7"
        assert (await call("GET", "customers")).status_code == 401


class TestDocuments:
    async def order(self, call) -> dict:
        answer = await call(
            "POST",
            "salesOrders",
            {
                "customerId": BUYER,
                "salesOrderLines": [{"itemId": ITEM, "quantity": 2}, {"lineType": "Comment"}],
            },
        )
        assert answer.status_code == 201, answer.text
        assert "salesOrderLines" not in answer.json()
        return (await call("GET", f"salesOrders({answer.json()['id']})?$expand=salesOrderLines")).json()

    async def test_a_line_takes_its_description_price_and_unit_from_its_item(self, call):
        order = await self.order(call)
        item, comment = order["salesOrderLines"]
        assert (item["lineObjectNumber"], item["description"], item["unitOfMeasureCode"]) == (
            "1000",
            "Bicycle",
            "PCS",
        )
        assert (item["netAmount"], order["totalAmountExcludingTax"]) == (8000, 8000)
        assert (item["sequence"], comment["sequence"]) == (10_000, 20_000)

    async def test_lines_are_listed_for_one_document_only(self, call):
        order = await self.order(call)
        assert code(await call("GET", "salesOrderLines")) == (400, "Application_DialogException")
        for path in (
            f"salesOrderLines?$filter=documentId eq {order['id']}",
            f"salesOrders({order['id']})/salesOrderLines",
        ):
            assert len((await call("GET", path)).json()["value"]) == 2

    async def test_a_line_keeps_its_number_and_its_document(self, call):
        line = (await self.order(call))["salesOrderLines"][0]
        for body in ({"sequence": 5}, {"documentId": NOBODY}):
            answer = await call("PATCH", f"salesOrderLines({line['id']})", body, If_Match="*")
            assert "cannot be modified" in answer.text

    async def test_a_number_that_is_taken_is_refused(self, call):
        order = await self.order(call)
        answer = await call(
            "POST", f"salesOrders({order['id']})/salesOrderLines", {"lineType": "Comment", "sequence": 10_000}
        )
        assert code(answer) == (400, "Internal_EntityWithSameKeyExists")

    @pytest.mark.parametrize("touched", [True, False])
    async def test_a_changed_line_moves_its_document_or_not(self, call, touched):
        call.fake.company(UK).lines_touch_header = touched
        order = await self.order(call)
        call.clock.advance(5)
        line = order["salesOrderLines"][0]
        await call("PATCH", f"salesOrderLines({line['id']})", {"quantity": 3}, If_Match=line["@odata.etag"])
        after = (await call("GET", f"salesOrders({order['id']})")).json()
        assert (after["@odata.etag"] != order["@odata.etag"]) is touched
        assert (after["lastModifiedDateTime"] != order["lastModifiedDateTime"]) is touched
        assert after["totalAmountExcludingTax"] == (12_000 if touched else 8_000)

    async def test_there_is_no_deep_update(self, call):
        order = await self.order(call)
        answer = await call("PATCH", f"salesOrders({order['id']})", {"salesOrderLines": []}, If_Match="*")
        assert answer.status_code == 400

    async def test_a_document_goes_with_its_lines_and_attachments(self, call):
        order = await self.order(call)
        body = {"fileName": "a.pdf", "parentType": "Sales_x0020_Order", "parentId": order["id"]}
        assert (await call("POST", "documentAttachments", body)).status_code == 201
        await call("DELETE", f"salesOrders({order['id']})", If_Match="*")
        assert list(call.fake.sim_records("sales_order_lines", UK)) == []
        assert list(call.fake.sim_records("document_attachments", UK)) == []


class TestBatches:
    async def test_answers_stand_in_order_and_failures_stand_alone(self, call):
        answer = await call.batch(
            {"method": "POST", "url": "customers", "body": {"displayName": "A"}},
            {"method": "POST", "url": "customers", "body": {}},
            {"method": "GET", "url": f"{call.company}/customers({BUYER})?$select=number", "headers": {}},
        )
        responses = answer.json()["responses"]
        assert [(r["id"], r["status"]) for r in responses] == [("0", 201), ("1", 400), ("2", 200)]
        assert responses[2]["body"]["number"] == "BUYER"
        assert call.fake.ledger.counts["effect:create"] == 1

    async def test_a_snapshot_batch_is_undone_whole_and_its_answers_do_not_show_it(self, call):
        before = list(call.fake.sim_records("customers", UK))
        etag = (await call("GET", f"customers({BUYER})")).json()["@odata.etag"]
        answer = await call.batch(
            {"method": "POST", "url": "customers", "body": {"displayName": "A"}},
            {
                "method": "PATCH",
                "url": f"customers({BUYER})",
                "body": {"city": "York"},
                "headers": {"Company": UK, "If-Match": "*"},
            },
            {"method": "DELETE", "url": f"items({ITEM})", "headers": {"Company": UK, "If-Match": "*"}},
            {"method": "POST", "url": "customers", "body": {}},
            Isolation="snapshot",
        )
        assert [r["status"] for r in answer.json()["responses"]] == [201, 200, 204, 400]
        assert list(call.fake.sim_records("customers", UK)) == before
        assert (await call("GET", f"customers({BUYER})")).json()["@odata.etag"] == etag
        assert (await call("GET", f"items({ITEM})")).status_code == 200
        assert len((await call("GET", "customers?$filter=city eq 'York'")).json()["value"]) == 0
        assert call.fake.ledger.writes() == []

    async def test_a_batch_holds_a_hundred(self, call):
        request = {"method": "GET", "url": "customers"}
        assert (await call.batch(*[request] * 100)).status_code == 200
        assert (await call.batch(*[request] * 101)).status_code == 400
        assert (await call.batch()).status_code == 400


class TestFiles:
    async def test_an_invalid_name_becomes_filename_txt_silently(self, call):
        body = {"fileName": "a/b.pdf", "parentType": "Item", "parentId": ITEM}
        assert (await call("POST", "documentAttachments", body)).json()["fileName"] == "filename.txt"

    async def test_a_content_is_no_part_of_a_body(self, call):
        body = {"fileName": "a.pdf", "parentType": "Item", "parentId": ITEM, "attachmentContent": "JVBERi0="}
        assert code(await call("POST", "documentAttachments", body)) == (400, "BadRequest")

    async def test_a_parent_is_needed_and_must_be_there(self, call):
        for body in ({"fileName": "a.pdf"}, {"fileName": "a.pdf", "parentType": "Item", "parentId": NOBODY}):
            assert code(await call("POST", "documentAttachments", body)) == (
                400,
                "Application_DialogException",
            )

    async def test_a_content_is_replaced_under_a_token_and_read_back(self, call):
        body = {"fileName": "a.pdf", "parentType": "Item", "parentId": ITEM}
        record = (await call("POST", "documentAttachments", body)).json()
        path = f"/{call.company}/documentAttachments({record['id']})/attachmentContent"
        assert record["attachmentContent@odata.mediaReadLink"].endswith(path)
        assert (await call.http.get(path)).status_code == 204
        assert (await call.http.patch(path, content=b"%PDF")).status_code == 400
        assert (await call.http.patch(path, content=b"%PDF", headers={"If-Match": "*"})).status_code == 204
        assert (await call.http.get(path)).content == b"%PDF"
        assert (await call("GET", f"documentAttachments({record['id']})")).json()["byteSize"] == 4


class TestLimits:
    async def test_the_window_slides(self, call):
        call.fake.limits_on = True
        call.fake.limits = type(call.fake.limits)(requests=3, window=300, concurrency=100)
        for _ in range(3):
            assert (await call("GET", "customers")).status_code == 200
            call.clock.advance(10)
        answer = await call("GET", "customers")
        assert code(answer) == (429, "Application_TooManyRequests")
        assert "retry-after" not in answer.headers
        call.clock.advance(271)
        assert (await call("GET", "customers")).status_code == 200

    async def test_five_are_worked_on_ninety_five_wait_and_the_next_is_turned_away(self, call):
        call.fake.limits_on = True
        most = 0
        under_way = 0
        inner = call.fake._handle

        async def slow(request):
            nonlocal most, under_way
            under_way += 1
            most = max(most, under_way)
            for _ in range(3):
                await asyncio.sleep(0)
            under_way -= 1
            return await inner(request)

        call.fake._handle = slow
        answers = await asyncio.gather(
            *(call.fake.transport().handle_async_request(self._request(call)) for _ in range(103))
        )
        statuses = [answer.status_code for answer in answers]
        assert (statuses.count(200), statuses.count(429)) == (100, 3)
        assert most == 5

    def _request(self, call) -> httpx.Request:
        return call.http.build_request("GET", f"/{call.company}/customers")

    async def test_a_created_record_is_found_after_the_search_lag(self, call):
        call.fake.search_lag = 5
        made = (await call("POST", "customers", {"displayName": "A"})).json()
        query = f"customers?$filter=number eq '{made['number']}'"
        assert (await call("GET", query)).json()["value"] == []
        assert (await call("GET", f"customers({made['id']})")).status_code == 200
        call.clock.advance(5)
        assert len((await call("GET", query)).json()["value"]) == 1


class TestByHand:
    async def test_another_process_edits_records_and_reads_the_ledger(self):
        fake = make_fake(SystemClock())
        with serve(fake) as url:
            async with httpx.AsyncClient(base_url=url) as http:
                path = f"/_sim/records/customers?scope={UK}"
                made = (await http.post(path, json={"displayName": "By hand"})).json()["id"]
                assert (await http.patch(f"{path}&id={made}", json={"city": "York"})).status_code == 200
                record = next(r for r in (await http.get(path)).json()["records"] if r["id"] == made)
                assert (record["city"], record["number"]) == ("York", "C00010")
                assert (await http.delete(f"{path}&id={made}")).status_code == 200
                assert (await http.delete(f"{path}&id={made}")).status_code == 404
                assert (await http.post(path, json={"colour": "red"})).status_code == 400
                assert (await http.get("/_sim/counts")).json() == {"in_flight": 0}

    async def test_links_name_the_address_that_was_asked(self):
        fake = make_fake(SystemClock())
        for number in range(3):
            fake.seed("vendors", UK, {"number": f"V{number}"})
        fake.tokens.accept("raw-1")
        with serve(fake) as url:
            async with httpx.AsyncClient(base_url=url, headers={"Authorization": "Bearer raw-1"}) as http:
                path = f"/v2.0/t/Production/api/v2.0/companies({fake.company(UK).id})/vendors"
                page = (await http.get(path, headers={"Prefer": "odata.maxpagesize=2"})).json()
                assert page["@odata.nextLink"].startswith(f"{url}{path}?")
                rest = (await http.get(page["@odata.nextLink"])).json()
                assert [row["number"] for row in rest["value"]] == ["V2"]

    async def test_documents_of_the_route(self, call):
        assert len((await call.http.get("/")).json()["value"]) == 146
        assert (await call.http.get("/$metadata")).text.count("<EntitySet ") == 146
        assert (await call.http.get("/subscriptions")).json()["value"] == []
        captions = {e["entitySetName"] for e in (await call.http.get("/entityDefinitions")).json()["value"]}
        assert "salesOrders" in captions
