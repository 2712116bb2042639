"""Writing to Business Central: bodies, versions, documents with lines, batches, lost answers, error texts."""

from __future__ import annotations

import json
import logging

import pytest

from ipaas_resources.connectors.business_central import fake_batch
from ipaas_resources.connectors.business_central.tests import (
    BUYER,
    ITEM,
    NOBODY,
    UK,
    ZERO_GUID,
    Bench,
    PartFault,
)
from ipaas_resources.connectors.fakes import Fault, json_reply
from ipaas_resources.core.errors import AmbiguousMatchError, ReviewNeededError
from ipaas_resources.core.records import LineWrites, Operation, OperationKind, Outcome

CREATE, UPDATE, DELETE = OperationKind.CREATE, OperationKind.UPDATE, OperationKind.DELETE
LINES = "salesOrderLines"


def parts(bench: Bench, number: int = -1) -> list[dict]:
    """The requests inside the last (or that) $batch."""
    bodies = [request for request in bench.hosts.sent if request.url.path.endswith("/$batch")]
    return json.loads(bodies[number].content)["requests"]


def batches(bench: Bench) -> int:
    return len(bench.posts())


async def customers(bench: Bench, count: int):
    ids = [
        bench.fake.seed("customers", UK, {"number": f"C{number}", "displayName": "x"})
        for number in range(count)
    ]
    return await bench.connector.read("customers", "uk", ids)


def change(found, **fields) -> Operation:
    return Operation(kind=UPDATE, id=found.id, etag=found.etag, fields=fields)


class TestBodies:
    async def test_parts_carry_the_company_in_their_header_and_a_relative_url(self, bench):
        (found,) = await customers(bench, 1)
        await bench.write("customers", change(found, city="York"))
        (part,) = parts(bench)
        assert part["url"] == f"customers({found.id})"
        assert part["headers"]["Company"] == UK
        assert part["headers"]["If-Match"] == found.etag

    async def test_only_the_named_fields_travel(self, bench):
        (found,) = await customers(bench, 1)
        (result,) = await bench.write("customers", change(found, city="York"))
        assert result.outcome is Outcome.APPLIED
        (effect,) = bench.fake.ledger.writes("customers")
        assert effect.fields == {"city": "York"}

    async def test_read_only_fields_stay_behind_and_the_log_names_them_alone(self, bench, caplog):
        (found,) = await customers(bench, 1)
        with caplog.at_level(logging.DEBUG, logger="ipaas.connectors.business_central"):
            (result,) = await bench.write("customers", change(found, city="York", balanceDue=77, id=NOBODY))
        assert result.outcome is Outcome.APPLIED
        assert set(parts(bench)[0]["body"]) == {"city"}
        assert "balanceDue" in caplog.text
        assert "77" not in caplog.text

    async def test_an_update_of_read_only_fields_alone_sends_nothing(self, bench):
        (found,) = await customers(bench, 1)
        (result,) = await bench.write("customers", change(found, balanceDue=77))
        assert (result.outcome, result.etag) == (Outcome.APPLIED, found.etag)
        assert batches(bench) == 0

    async def test_null_is_sent_as_the_blank_of_its_type(self, bench):
        (found,) = await customers(bench, 1)
        operation = change(found, city=None, creditLimit=None, taxLiable=None, currencyId=None, blocked=None)
        (result,) = await bench.write("customers", operation)
        assert result.outcome is Outcome.APPLIED, result.error
        assert parts(bench)[0]["body"] == {
            "city": "",
            "creditLimit": 0,
            "taxLiable": False,
            "currencyId": ZERO_GUID,
            "blocked": "_x0020_",
        }

    async def test_an_enum_travels_in_its_odata_spelling(self, bench):
        (result,) = await bench.write(
            "items",
            Operation(kind=CREATE, fields={"number": "N1", "type": "Non-Inventory", "displayName": "x"}),
        )
        assert result.outcome is Outcome.APPLIED, result.error
        assert parts(bench)[0]["body"]["type"] == "Non_x002D_Inventory"
        assert result.document["type"] == "Non-Inventory"

    async def test_a_create_returns_what_the_product_made_of_it(self, bench):
        operation = Operation(kind=CREATE, fields={"displayName": "New", "country": " gb "})
        (result,) = await bench.write("customers", operation)
        assert result.document["number"] == "C00010"  # the number series
        assert result.document["country"] == "GB"
        (found,) = await bench.connector.read("customers", "uk", [result.id])
        assert (found.document, found.etag) == (result.document, result.etag)


class TestVersions:
    async def test_an_update_without_a_version_reads_it_first(self, bench):
        (found,) = await customers(bench, 1)
        (result,) = await bench.write(
            "customers", Operation(kind=UPDATE, id=found.id, fields={"city": "York"})
        )
        assert result.outcome is Outcome.APPLIED
        assert parts(bench)[0]["headers"]["If-Match"] == found.etag

    async def test_a_delete_without_a_version_reads_it_first(self, bench):
        (found,) = await customers(bench, 1)
        gone, missing = await bench.write(
            "customers", Operation(kind=DELETE, id=found.id), Operation(kind=DELETE, id=NOBODY)
        )
        assert (gone.outcome, missing.outcome) == (Outcome.APPLIED, Outcome.MISSING)
        assert len(parts(bench)) == 1

    @pytest.mark.parametrize("status", [409, 412])
    async def test_a_stale_version_is_reload_whatever_status_says_so(self, bench, status):
        bench.fake.company(UK).stale_status = status
        one, two = await customers(bench, 2)
        bench.fake.sim_change("customers", UK, one.id, {"city": "Leeds"})
        stale, fine = await bench.write("customers", change(one, city="York"), change(two, city="York"))
        assert (stale.outcome, fine.outcome) == (Outcome.RELOAD, Outcome.APPLIED)
        assert bench.stored("customers", one.id)["city"] == "Leeds"

    async def test_a_stale_delete_is_reload(self, bench):
        (found,) = await customers(bench, 1)
        bench.fake.sim_change("customers", UK, found.id, {"city": "Leeds"})
        (result,) = await bench.write("customers", Operation(kind=DELETE, id=found.id, etag=found.etag))
        assert result.outcome is Outcome.RELOAD


class TestDocuments:
    def create(self, number: str, *lines, **fields) -> Operation:
        return Operation(
            kind=CREATE,
            key={"externalDocumentNumber": number},
            fields={"externalDocumentNumber": number, "customerId": BUYER, **fields},
            lines={LINES: LineWrites(create=list(lines))} if lines else {},
        )

    async def test_an_order_and_its_lines_are_one_post(self, bench):
        operation = self.create(
            "WO-1",
            {"lineObjectNumber": "1000", "lineType": "Item", "quantity": 2},
            {"lineType": "Comment", "description": "x"},
        )
        (result,) = await bench.write("sales_orders", operation)
        assert result.outcome is Outcome.APPLIED, result.error
        assert [part["method"] for part in parts(bench)] == ["POST"]
        assert batches(bench) == 1
        lines = result.document[LINES]
        assert [line["sequence"] for line in lines] == [10_000, 20_000]
        assert (lines[0]["itemId"], lines[0]["description"]) == (ITEM, "Bicycle")
        assert result.document["totalAmountExcludingTax"] == 8000
        assert result.document["customerNumber"] == "BUYER"
        (found,) = await bench.connector.read("sales_orders", "uk", [result.id])
        assert (found.document, found.etag) == (result.document, result.etag)

    async def test_created_documents_are_read_back_together(self, bench):
        operations = [
            self.create(f"WO-{number}", {"lineType": "Comment", "description": "x"}) for number in range(20)
        ]
        results = await bench.write("sales_orders", *operations)
        assert {result.outcome for result in results} == {Outcome.APPLIED}
        assert [r.document["externalDocumentNumber"] for r in results] == [
            f"WO-{number}" for number in range(20)
        ]
        assert len(bench.fake.ledger.requests("GET", "/salesOrders")) == 1

    async def test_a_document_whose_reading_back_fails_is_applied_all_the_same(self, bench):
        await bench.connector.schema("sales_orders")
        bench.fake.fail(Fault(path="/salesOrders", method="GET", status=503, times=-1))
        (result,) = await bench.write("sales_orders", self.create("WO-1", {"lineType": "Comment"}))
        assert (result.outcome, result.document, result.etag) == (Outcome.APPLIED, None, None)
        assert result.id in bench.fake.table("sales_orders", UK).rows

    async def test_a_refused_line_refuses_the_whole_create(self, bench):
        refused, fine = await bench.write(
            "sales_orders",
            self.create("WO-1", {"lineType": "Item", "lineObjectNumber": "NONE"}),
            self.create("WO-2", {"lineType": "Comment"}),
        )
        assert (refused.outcome, fine.outcome) == (Outcome.REFUSED, Outcome.APPLIED)

    async def test_lines_are_deleted_changed_and_added_in_this_order_in_one_batch(self, bench):
        order = await bench.order()
        item, comment = (line["id"] for line in order.document[LINES])
        operation = change(order, shipToName="Lab 2")
        operation.lines = {
            LINES: LineWrites(
                create=[{"lineType": "Comment", "description": "as left"}],
                update=[(item, None, {"quantity": 3})],
                delete=[(comment, None)],
            )
        }
        (result,) = await bench.write("sales_orders", operation)
        assert result.outcome is Outcome.APPLIED, result.error
        assert [part["method"] for part in parts(bench)] == ["PATCH", "DELETE", "PATCH", "POST", "GET"]
        assert bench.posts()[-1].concurrent == 1
        assert batches(bench) == 1
        assert bench.hosts.sent[-1].headers["isolation"] == "snapshot"
        lines = result.document[LINES]
        assert [(line["description"], line["quantity"]) for line in lines] == [("Bicycle", 3), ("as left", 0)]
        assert result.document["shipToName"] == "Lab 2"
        (found,) = await bench.connector.read("sales_orders", "uk", [order.id])
        assert (found.document, found.etag) == (result.document, result.etag)

    async def test_lines_are_changed_under_their_own_versions(self, bench):
        order = await bench.order()
        table = bench.fake.table("sales_order_lines", UK)
        item = order.document[LINES][0]["id"]
        operation = change(order)
        operation.lines = {LINES: LineWrites(update=[(item, None, {"quantity": 3})])}
        etag = table.rows[item].etag
        await bench.write("sales_orders", operation)
        assert parts(bench)[0]["headers"]["If-Match"] == etag

    async def test_a_line_may_be_named_by_its_number(self, bench):
        order = await bench.order()
        operation = change(order)
        operation.lines = {
            LINES: LineWrites(update=[("10000", None, {"quantity": 9})], delete=[("20000", None)])
        }
        (result,) = await bench.write("sales_orders", operation)
        assert [(line["sequence"], line["quantity"]) for line in result.document[LINES]] == [(10_000, 9)]

    async def test_a_line_that_is_gone_is_no_trouble_to_delete_and_reload_to_change(self, bench):
        order = await bench.order()
        operation = change(order)
        operation.lines = {
            LINES: LineWrites(delete=[("70000", None)], update=[("10000", None, {"quantity": 9})])
        }
        (result,) = await bench.write("sales_orders", operation)
        assert result.outcome is Outcome.APPLIED
        operation = Operation(
            kind=UPDATE, id=order.id, lines={LINES: LineWrites(update=[("70000", None, {"quantity": 1})])}
        )
        (result,) = await bench.write("sales_orders", operation)
        assert result.outcome is Outcome.RELOAD

    async def test_a_document_that_was_changed_meanwhile_gets_no_line(self, bench):
        order = await bench.order()
        bench.fake.sim_change("sales_orders", UK, order.id, {"shipToName": "by hand"})
        operation = change(order)
        operation.lines = {LINES: LineWrites(create=[{"lineType": "Comment", "description": "twice?"}])}
        (result,) = await bench.write("sales_orders", operation)
        assert result.outcome is Outcome.RELOAD
        assert len(bench.stored("sales_orders", order.id)[LINES]) == 2
        assert batches(bench) == 0

    async def test_a_refused_line_rolls_its_document_back_and_no_other(self, bench):
        orders = [await bench.order(f"WO-{number}") for number in range(3)]
        operations = []
        for number, order in enumerate(orders):
            operation = change(order, shipToName="Lab 2")
            bad = {"lineType": "Item", "lineObjectNumber": "NONE"}
            good = {"lineType": "Comment", "description": "as left"}
            operation.lines = {
                LINES: LineWrites(create=[bad if number == 1 else good], delete=[("20000", None)])
            }
            operations.append(operation)
        results = await bench.write("sales_orders", *operations)
        assert [r.outcome for r in results] == [Outcome.APPLIED, Outcome.REFUSED, Outcome.APPLIED]
        assert results[1].error.code == "Internal_InvalidTableRelation"
        for number, order in enumerate(orders):
            record = bench.stored("sales_orders", order.id)
            assert record["shipToName"] == ("" if number == 1 else "Lab 2")
            assert len(record[LINES]) == 2
            assert (record[LINES][1]["description"] == "as found") is (number == 1)
        assert batches(bench) == 1 + 3  # together, then each alone

    async def test_more_changes_than_a_batch_takes_go_in_pieces(self, bench):
        order = await bench.order()
        operation = change(order)
        operation.lines = {
            LINES: LineWrites(create=[{"lineType": "Comment", "description": str(n)} for n in range(230)])
        }
        (result,) = await bench.write("sales_orders", operation)
        assert result.outcome is Outcome.APPLIED, result.error
        assert len(result.document[LINES]) == 232
        assert batches(bench) == 3

    async def test_a_failure_after_the_first_piece_is_unknown_for_a_part_is_done(self, bench):
        order = await bench.order()
        operation = change(order)
        lines = [{"lineType": "Comment", "description": str(n)} for n in range(150)]
        lines[120] = {"lineType": "Item", "lineObjectNumber": "NONE"}
        operation.lines = {LINES: LineWrites(create=lines)}
        (result,) = await bench.write("sales_orders", operation)
        assert result.outcome is Outcome.UNKNOWN
        assert "1 of 2 parts" in str(result.error)
        assert len(bench.stored("sales_orders", order.id)[LINES]) == 102

    async def test_header_updates_share_batches_and_return_the_whole_document(self, bench):
        orders = [await bench.order(f"WO-{number}") for number in range(60)]
        before = batches(bench)
        results = await bench.write("sales_orders", *(change(order, shipToName="Lab 2") for order in orders))
        assert {r.outcome for r in results} == {Outcome.APPLIED}
        assert all(len(r.document[LINES]) == 2 for r in results)
        assert batches(bench) - before == 2  # a PATCH and a GET each
        assert all(entry.status == 200 for entry in bench.posts())

    async def test_unknown_lines_are_refused_before_anything_is_sent(self, bench):
        order = await bench.order()
        for lines in ({"lines": LineWrites(create=[{}])}, {LINES: LineWrites(create=[{"colour": "red"}])}):
            operation = change(order)
            operation.lines = lines
            (result,) = await bench.write("sales_orders", operation)
            assert result.outcome is Outcome.REFUSED
        assert batches(bench) == 0


class TestBatches:
    async def test_one_refused_operation_tells_its_reason_without_values(self, bench):
        one, two = await customers(bench, 2)
        secret = "Miss Marple of St Mary Mead " * 2
        bad, good = await bench.write("customers", change(one, city=secret), change(two, city="York"))
        assert (bad.outcome, good.outcome) == (Outcome.REFUSED, Outcome.APPLIED)
        told = str(bad.error)
        assert bad.error.code == "Application_StringExceededLength"
        assert "correlation" in told
        assert "length of the string" in told
        for word in ("Marple", "Mead", secret.upper().split()[1]):
            assert word not in told

    @pytest.mark.parametrize(
        ("sentence", "told"),
        [
            (
                "The length of the string is 57. Value: MISS MARPLE OF",
                "The length of the string is .. Value: ..",
            ),
            (
                "The field Country of table Customer contains a value (Marple) that cannot be found.",
                "The field Country of table Customer contains a value .. that cannot be found.",
            ),
            (
                "The Customer already exists. Identification fields and values: No.='MARPLE'",
                "The Customer already exists. Identification fields and values: ..",
            ),
            ("Miss Marple must be a number in 'city'.", ".. must be a number in 'city'."),
            ("Ask marple@example.com about 'Marple'.", "Ask .. about '..'."),
        ],
    )
    async def test_a_reason_keeps_its_sentence_and_loses_its_values(self, bench, sentence, told):
        (found,) = await customers(bench, 1)
        fault = PartFault(match=lambda call: True, status=400, code="Application_X", message=sentence)
        bench.fake.part_faults.append(fault)
        (result,) = await bench.write("customers", change(found, city="Miss Marple"))
        assert str(result.error).startswith(
            f"bc: update of customers was refused (Application_X): {told} (correlation "
        )

    @pytest.mark.parametrize(
        ("status", "code", "outcome"),
        [
            (400, "Application_DialogException", Outcome.REFUSED),
            (400, "BadRequest_InvalidOperation", Outcome.REFUSED),
            (400, "Internal_InvalidTableRelation", Outcome.REFUSED),
            (400, "Unknown", Outcome.REFUSED),
            (404, "Internal_RecordNotFound", Outcome.MISSING),
            (409, "Request_EntityChanged", Outcome.RELOAD),
            (412, "Unknown", Outcome.RELOAD),
            (429, "Application_TooManyRequests", Outcome.RETRY),
            (503, "Internal_TenantUnavailable", Outcome.RETRY),
            (500, "Internal_ServerError", Outcome.UNKNOWN),
            (504, "Unknown", Outcome.UNKNOWN),
            (408, "Unknown", Outcome.UNKNOWN),
            (404, "BadRequest_ResourceNotFound", Outcome.STOP),
            (400, "Internal_CompanyNotFound", Outcome.STOP),
            (405, "BadRequest_MethodNotAllowed", Outcome.STOP),
            (401, "Authentication_InvalidCredentials", Outcome.STOP),
            (403, "Authorization_Denied", Outcome.STOP),
        ],
    )
    async def test_each_answer_means_what_happens_next_and_touches_no_neighbour(
        self, bench, status, code, outcome
    ):
        one, two = await customers(bench, 2)
        fault = PartFault(
            match=lambda call: one.id in call.path, status=status, code=code, message="Because."
        )
        bench.fake.part_faults.append(fault)
        first, second = await bench.write("customers", change(one, city="York"), change(two, city="York"))
        assert (first.outcome, second.outcome) == (outcome, Outcome.APPLIED)
        assert first.error.status == status
        assert first.id == one.id

    async def test_a_key_that_is_taken_is_exists(self, bench):
        taken, new = await bench.write(
            "customers",
            Operation(kind=CREATE, fields={"number": "buyer", "displayName": "x"}),
            Operation(kind=CREATE, fields={"number": "C1", "displayName": "x"}),
        )
        assert (taken.outcome, new.outcome) == (Outcome.EXISTS, Outcome.APPLIED)

    async def test_numbers_that_may_not_be_given_are_refused_with_the_products_reason(self, bench):
        bench.fake.company(UK).no_manual_numbers.add("customers")
        (result,) = await bench.write(
            "customers", Operation(kind=CREATE, fields={"number": "C1", "displayName": "x"})
        )
        assert result.outcome is Outcome.REFUSED
        assert "You may not enter numbers manually" in str(result.error)

    async def test_a_batch_that_is_refused_as_such_is_halved(self, bench, monkeypatch):
        found = await customers(bench, 8)
        monkeypatch.setattr(fake_batch, "MAX_OPERATIONS", 3)
        results = await bench.write("customers", *(change(each, city="York") for each in found))
        assert {r.outcome for r in results} == {Outcome.APPLIED}
        assert [entry.status for entry in bench.posts()] == [400, 400, 200, 200, 400, 200, 200]

    async def test_a_single_operation_whose_batch_is_refused_is_refused(self, bench):
        (found,) = await customers(bench, 1)
        bench.fake.fail(Fault(path="batch", status=413))
        (result,) = await bench.write("customers", change(found, city="York"))
        assert (result.outcome, result.error.status) == (Outcome.REFUSED, 413)

    async def test_a_lost_answer_leaves_every_operation_unknown(self, bench):
        found = await customers(bench, 3)
        bench.fake.fail(Fault(path="batch", drop=True, after=True))
        results = await bench.write("customers", *(change(each, city="York") for each in found))
        assert {r.outcome for r in results} == {Outcome.UNKNOWN}
        assert batches(bench) == 1

    async def test_an_operation_without_an_answer_is_unknown(self, bench):
        one, two = await customers(bench, 2)

        def lose_one(reply):
            body = reply.json()
            return json_reply({"responses": [answer for answer in body["responses"] if answer["id"] != "1"]})

        bench.fake.fail(Fault(path="batch", change=lose_one))
        first, second = await bench.write("customers", change(one, city="York"), change(two, city="York"))
        assert (first.outcome, second.outcome) == (Outcome.UNKNOWN, Outcome.APPLIED)

    async def test_answers_without_ids_stand_in_the_order_of_the_requests(self, bench):
        one, two = await customers(bench, 2)

        def forget_ids(reply):
            body = reply.json()
            return json_reply({"responses": [{**answer, "id": None} for answer in body["responses"]]})

        bench.fake.fail(Fault(path="batch", change=forget_ids))
        bad, good = await bench.write("customers", change(one, city="x" * 31), change(two, city="York"))
        assert (bad.outcome, good.outcome) == (Outcome.REFUSED, Outcome.APPLIED)

    async def test_a_missing_batch_endpoint_is_a_matter_of_the_address(self, bench):
        (found,) = await customers(bench, 1)
        bench.fake.fail(Fault(path="batch", status=404))
        (result,) = await bench.write("customers", change(found, city="York"))
        assert result.outcome is Outcome.STOP
        assert "base_url" in str(result.error)

    async def test_a_hundred_and_fifty_operations_are_two_batches(self, bench):
        operations = [
            Operation(kind=CREATE, fields={"number": f"N{n}", "displayName": "x"}) for n in range(150)
        ]
        results = await bench.write("customers", *operations)
        assert [r.document["number"] for r in results] == [f"N{n}" for n in range(150)]
        assert batches(bench) == 2


class TestRepeats:
    def create(self, number: str, *, repeated: bool = True, **fields) -> Operation:
        return Operation(
            kind=CREATE,
            key={"externalDocumentNumber": number} if number else {},
            fields={"externalDocumentNumber": number, "customerId": BUYER, **fields},
            repeated=repeated,
        )

    async def test_a_repeated_create_looks_before_it_posts(self, bench):
        order = await bench.order("WO-1")
        there, new = await bench.write("sales_orders", self.create("wo-1"), self.create("WO-2"))
        assert (there.outcome, there.id, there.etag) == (Outcome.EXISTS, order.id, order.etag)
        assert there.document == order.document
        assert new.outcome is Outcome.APPLIED
        assert [part["body"]["externalDocumentNumber"] for part in parts(bench)] == ["WO-2"]

    async def test_two_records_with_the_key_are_for_a_person(self, bench):
        await bench.order("WO-1")
        await bench.order("WO-1")
        (result,) = await bench.write("sales_orders", self.create("WO-1"))
        assert result.outcome is Outcome.REFUSED
        assert isinstance(result.error, AmbiguousMatchError)
        assert batches(bench) == 0

    async def test_a_repeat_without_a_key_is_for_a_person(self, bench):
        (result,) = await bench.write(
            "purchase_orders", Operation(kind=CREATE, fields={"vendorNumber": "V1"}, repeated=True)
        )
        assert result.outcome is Outcome.REFUSED
        assert isinstance(result.error, ReviewNeededError)
        assert batches(bench) == 0

    async def test_a_repeat_takes_the_declared_key_from_its_fields(self, bench):
        (result,) = await bench.write(
            "customers", Operation(kind=CREATE, fields={"number": "Buyer", "displayName": "x"}, repeated=True)
        )
        assert (result.outcome, result.id) == (Outcome.EXISTS, BUYER)

    async def test_a_repeat_that_cannot_look_does_not_post(self, bench):
        await bench.connector.schema("sales_orders")
        bench.fake.fail(Fault(path="/salesOrders", method="GET", status=503, times=-1))
        repeated, first = await bench.write(
            "sales_orders", self.create("WO-1"), self.create("WO-2", repeated=False)
        )
        assert repeated.outcome is Outcome.RETRY
        assert first.outcome is Outcome.APPLIED
        assert [part["body"]["externalDocumentNumber"] for part in parts(bench)] == ["WO-2"]
