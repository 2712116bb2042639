"""Writes of the connector that are Dataverse's own: bulk calls, conditions, lookups, and what each refusal means."""

import re
from decimal import Decimal

import pytest

from ipaas_resources.connectors.dataverse.tests import (
    Bench,
    create,
    delete,
    etags,
    guid,
    outcomes,
    seed,
    update,
    write,
)
from ipaas_resources.connectors.fakes import Fault, Reply, dumps
from ipaas_resources.core.errors import MissingRecordError, RefusedRecordError
from ipaas_resources.core.records import Operation, OperationKind, Outcome

ABSENT = "00000000-1111-2222-3333-444444444444"


@pytest.fixture
async def bench():
    bench = Bench()
    await bench.connector.schema("accounts")
    bench.fake.ledger.clear()
    yield bench
    await bench.connector.close()


def bodies(bench):
    """The body of every writing request from now on."""
    seen = []
    original = bench.fake.handle

    async def handle(request):
        if request.method == "POST":
            seen.append(request.body)
        return await original(request)

    bench.fake.handle = handle
    return seen


class TestCreates:
    async def test_many_new_records_go_in_one_create_multiple_with_our_ids(self, bench):
        operations = [create(n) for n in range(1000)]
        results = await write(bench, *operations)
        assert bench.paths() == ["accounts/Microsoft.Dynamics.CRM.CreateMultiple"]
        assert [result.id for result in results] == [operation.id for operation in operations]
        assert set(outcomes(results)) == {Outcome.APPLIED}
        # It answers ids alone: version and document come with the next delta.
        assert {(result.etag, result.document) for result in results} == {(None, None)}
        effects = bench.fake.ledger.writes("accounts")
        assert [effect.id for effect in effects] == [operation.id for operation in operations]
        assert effects[0].fields["@odata.type"] == "Microsoft.Dynamics.CRM.account"
        assert effects[0].fields["accountid"] == operations[0].id

    async def test_a_few_go_by_batch_and_bring_version_and_document(self, bench):
        (result,) = await write(bench, create(1, creditlimit=Decimal("12.5")))
        assert bench.paths() == ["$batch"]
        (found,) = await bench.connector.read("accounts", "", [guid(1)])
        assert (result.etag, result.order, result.document) == (found.etag, found.order, found.document)
        assert result.document["creditlimit"] == Decimal("12.5")

    async def test_a_repeated_create_never_touches_the_record_of_the_first_attempt(self, bench):
        operations = [create(n) for n in range(12)]
        await write(bench, *operations)
        bench.fake.sim_change("accounts", "", guid(3), {"name": "edited by a person"})
        for operation in operations:
            operation.repeated = True
        results = await write(bench, *operations, create(12))
        assert outcomes(results) == [Outcome.EXISTS] * 12 + [Outcome.APPLIED]
        assert [result.id for result in results] == [guid(n) for n in range(13)]
        assert bench.fake.sim_record("accounts", guid(3))["name"] == "edited by a person"
        assert bench.paths()[1:] == ["$batch"]
        assert bench.fake.ledger.counts["effect:create"] == 13

    async def test_a_create_that_meets_its_id_in_a_bulk_call_is_told_alone(self, bench):
        bench.fake.sim_add("accounts", "", {"accountid": guid(5), "name": "first attempt"})
        results = await write(bench, *(create(n) for n in range(10)))
        assert outcomes(results) == [Outcome.EXISTS if n == 5 else Outcome.APPLIED for n in range(10)]
        assert bench.fake.sim_record("accounts", guid(5))["name"] == "first attempt"

    async def test_a_refused_bulk_call_is_sent_once_more_as_single_operations(self, bench):
        operations = [create(n) for n in range(40)]
        operations[7] = create(7, name="secret customer " + "x" * 160)
        operations[31] = create(31, accountcategorycode=99)
        results = await write(bench, *operations)
        assert bench.paths() == ["accounts/Microsoft.Dynamics.CRM.CreateMultiple", "$batch"]
        refused = {n: result for n, result in enumerate(results) if result.outcome is not Outcome.APPLIED}
        assert {n: result.outcome for n, result in refused.items()} == {
            7: Outcome.REFUSED,
            31: Outcome.REFUSED,
        }
        error = refused[7].error
        assert isinstance(error, RefusedRecordError)
        assert (error.code, error.field) == ("0x80044331", "name")
        assert "secret" not in error.message
        assert (refused[31].error.code, refused[31].error.field) == ("0x8004431a", "accountcategorycode")
        assert bench.fake.ledger.counts["effect:create"] == 38

    async def test_a_lost_create_multiple_is_unknown_and_its_repeat_is_safe(self, bench):
        operations = [create(n) for n in range(20)]
        bench.fake.fail(Fault(path="CreateMultiple", drop=True, after=True))
        results = await write(bench, *operations)
        assert outcomes(results) == [Outcome.UNKNOWN] * 20
        assert len(bench.paths()) == 1
        for operation in operations:
            operation.repeated = True
        assert outcomes(await write(bench, *operations)) == [Outcome.EXISTS] * 20
        assert bench.fake.ledger.counts["effect:create"] == 20

    async def test_an_answer_that_names_other_records_is_unknown(self, bench):
        def shuffle(reply):
            body = reply.json()
            body["Ids"].reverse()
            return Reply(200, dumps(body), reply.headers)

        bench.fake.fail(Fault(path="CreateMultiple", change=shuffle))
        assert outcomes(await write(bench, *(create(n) for n in range(20)))) == [Outcome.UNKNOWN] * 20

    async def test_a_table_without_bulk_messages_goes_by_batch(self, bench):
        operations = [
            Operation(kind=OperationKind.CREATE, id=guid(n), fields={"subject": f"Calibrate {n}"})
            for n in range(30)
        ]
        results = await write(bench, *operations, entity="tasks")
        assert set(outcomes(results)) == {Outcome.APPLIED}
        assert all(result.document["subject"] for result in results)
        assert not any("Multiple" in path for path in bench.paths())

    async def test_values_travel_in_dataverses_form(self, bench):
        await write(
            bench,
            create(
                1,
                creditlimit=Decimal("123456789012345.67"),
                lastonholdtime="2026-03-01T10:00:00.000000Z",
                fax="a\ue0000000b",
                creditonhold=True,
            ),
        )
        (effect,) = bench.fake.ledger.writes()
        assert effect.fields["creditlimit"] == Decimal("123456789012345.67")
        assert effect.fields["fax"] == "a\x00b"
        assert bench.fake.sim_record("accounts", guid(1))["lastonholdtime"] == "2026-03-01T10:00:00Z"

    async def test_long_text_is_written_whole(self, bench):
        text = "0123456789" * 1_000
        operation = Operation(kind=OperationKind.CREATE, id=guid(1), fields={"notetext": text})
        assert outcomes(await write(bench, operation, entity="annotations")) == [Outcome.APPLIED]
        assert bench.fake.sim_record("annotations", guid(1))["notetext"] == text


class TestUpdates:
    async def test_a_stale_version_is_reload_and_changes_nothing(self, bench):
        one, two = seed(bench, 2)
        old = await etags(bench, [one, two])
        bench.fake.sim_change("accounts", "", one, {"name": "theirs"})
        results = await write(bench, update(one, old[0], name="ours"), update(two, old[1], name="ours"))
        assert outcomes(results) == [Outcome.RELOAD, Outcome.APPLIED]
        assert bench.fake.sim_record("accounts", one)["name"] == "theirs"
        assert results[1].document["name"] == "ours"
        assert results[1].etag == bench.fake.sim_record("accounts", two)["@odata.etag"]

    @pytest.mark.parametrize("count", [1, 30])
    @pytest.mark.parametrize("version", ["known", "any"])
    async def test_a_deleted_record_is_missing_and_not_created_again(self, bench, count, version):
        ids = seed(bench, count)
        tags = await etags(bench, ids) if version == "known" else [None] * count
        bench.fake.sim_remove("accounts", "", ids[0])
        results = await write(bench, *(update(i, tag, name="new") for i, tag in zip(ids, tags, strict=True)))
        assert outcomes(results) == [Outcome.MISSING] + [Outcome.APPLIED] * (count - 1)
        assert isinstance(results[0].error, MissingRecordError)
        assert len(list(bench.fake.sim_records("accounts", ""))) == count - 1

    async def test_updates_without_a_version_may_go_in_one_call(self, bench):
        ids = seed(bench, 30)
        results = await write(bench, *(update(i, name="new") for i in ids))
        assert bench.paths() == ["accounts/Microsoft.Dynamics.CRM.UpdateMultiple"]
        assert set(outcomes(results)) == {Outcome.APPLIED}
        assert {row["name"] for row in bench.fake.sim_records("accounts", "")} == {"new"}

    async def test_updates_with_a_version_never_do(self, bench):
        ids = seed(bench, 30)
        tags = await etags(bench, ids)
        await write(bench, *(update(i, tag, name="new") for i, tag in zip(ids, tags, strict=True)))
        assert bench.paths() == ["$batch"]

    async def test_one_refused_update_in_a_bulk_call_fails_alone(self, bench):
        ids = seed(bench, 30)
        operations = [update(i, name="new") for i in ids]
        operations[4] = update(ids[4], name="n" * 161)
        results = await write(bench, *operations)
        assert outcomes(results) == [Outcome.REFUSED if n == 4 else Outcome.APPLIED for n in range(30)]

    async def test_deletes_carry_the_version(self, bench):
        one, two, three = seed(bench, 3)
        old = await etags(bench, [one, two])
        bench.fake.sim_change("accounts", "", one, {"name": "theirs"})
        results = await write(bench, delete(one, old[0]), delete(two, old[1]), delete(three), delete(ABSENT))
        assert outcomes(results) == [Outcome.RELOAD, Outcome.APPLIED, Outcome.APPLIED, Outcome.MISSING]
        assert [row["accountid"] for row in bench.fake.sim_records("accounts", "")] == [one]

    async def test_kinds_may_be_mixed_and_results_keep_their_order(self, bench):
        ids = seed(bench, 20)
        tags = await etags(bench, ids)
        operations = []
        for n in range(20):
            operations += [create(n), update(ids[n], tags[n] if n % 2 else None, name=f"u{n}")]
        operations[6] = delete(ids[3])
        operations[7] = create(99)
        results = await write(bench, *operations)
        assert set(outcomes(results)) == {Outcome.APPLIED}
        assert [result.id for result in results] == [operation.id for operation in operations]


class TestNothingIsCreatedAgain:
    """Neither UpsertMultiple nor a PATCH without a condition is ever sent."""

    async def test_every_patch_and_delete_has_a_condition(self, bench):
        seen = bodies(bench)
        ids = seed(bench, 15)
        tags = await etags(bench, ids)
        bench.fake.sim_remove("accounts", "", ids[2])
        bench.fake.fail(Fault(path="CreateMultiple", drop=True, after=True))
        creates = [create(n) for n in range(15)]
        await write(bench, *creates)
        for operation in creates:
            operation.repeated = True
        await write(bench, *creates)
        await write(bench, *(update(i, tag, name="a") for i, tag in zip(ids, tags, strict=True)))
        await write(bench, *(update(i, name="b") for i in ids))
        await write(bench, delete(ids[4]), update(ids[5], name="c"), create(77))
        parts = re.findall(rb"(PATCH|DELETE) \S+ HTTP/1\.1\r\n(.*?)\r\n\r\n", b"".join(seen), re.DOTALL)
        assert len(parts) > 40
        assert all(b"If-Match: " in headers or b"If-None-Match: *" in headers for _, headers in parts)
        assert not any("UpsertMultiple" in path for path in bench.paths())
        assert [e.id for e in bench.fake.ledger.writes() if e.kind == "create" and e.id == ids[2]] == []


class TestLookups:
    async def test_a_lookup_is_bound_by_its_navigation_property(self, bench):
        contact = bench.fake.sim_add("contacts", "", {"lastname": "L"})
        await write(bench, create(1, primarycontactid=contact, parentaccountid=None))
        (effect,) = bench.fake.ledger.writes()
        assert effect.fields["primarycontactid@odata.bind"] == f"/contacts({contact})"
        assert not any("parentaccountid" in name for name in effect.fields)
        assert bench.fake.sim_record("accounts", guid(1))["_primarycontactid_value"] == contact

    async def test_an_owner_is_bound_by_one_property_for_users_and_teams(self, bench):
        team = bench.fake.sim_add("teams", "", {"name": "Lab"})
        results = await write(
            bench,
            create(1, ownerid=team),
            create(2, ownerid=team, owneridtype="teams"),
            create(3, owneridtype="teams"),
        )
        assert outcomes(results) == [Outcome.APPLIED] * 3
        binds = [effect.fields.get("ownerid@odata.bind") for effect in bench.fake.ledger.writes("accounts")]
        assert binds == [f"/teams({team})", f"/teams({team})", None]
        assert results[0].document["owneridtype"] == "teams"

    async def test_null_takes_the_link_away(self, bench):
        contact = bench.fake.sim_add("contacts", "", {"lastname": "L"})
        (identifier,) = seed(bench, 1, primarycontactid=contact)
        (result,) = await write(bench, update(identifier, primarycontactid=None))
        assert result.outcome is Outcome.APPLIED
        assert result.document["primarycontactid"] is None

    async def test_activities_have_their_own_navigation_names(self, bench):
        (account,) = seed(bench, 1)
        operation = Operation(
            kind=OperationKind.CREATE,
            id=guid(1),
            fields={"subject": "s", "regardingobjectid": {"entity": "accounts", "id": account}},
        )
        (result,) = await write(bench, operation, entity="tasks")
        assert result.outcome is Outcome.APPLIED, result.error
        (effect,) = bench.fake.ledger.writes("tasks")
        assert effect.fields["regardingobjectid_account_task@odata.bind"] == f"/accounts({account})"
        assert result.document["regardingobjectid"] == account
        assert result.document["regardingobjectidtype"] == "accounts"

    async def test_a_plain_id_of_a_polymorphic_lookup_finds_its_table(self, bench):
        accounts = seed(bench, 15)
        contact = bench.fake.sim_add("contacts", "", {"lastname": "parent"})
        parents = [*accounts, contact]
        operations = [
            Operation(
                kind=OperationKind.CREATE, id=guid(n), fields={"lastname": str(n), "parentcustomerid": parent}
            )
            for n, parent in enumerate(parents)
        ]
        await bench.connector.schema("contacts")
        bench.fake.ledger.clear()
        results = await write(bench, *operations, entity="contacts")
        assert set(outcomes(results)) == {Outcome.APPLIED}
        # One question for all of them, then the create.
        assert bench.paths() == ["$batch", "contacts/Microsoft.Dynamics.CRM.CreateMultiple"]
        found = await bench.connector.read("contacts", "", [operation.id for operation in operations])
        assert [one.document["parentcustomerid"] for one in found] == parents
        assert [one.document["parentcustomeridtype"] for one in found] == ["accounts"] * 15 + ["contacts"]
        # What was asked once is known.
        await write(bench, update(guid(0), parentcustomerid=contact), entity="contacts")
        assert len(bench.paths()) == 3

    @pytest.mark.parametrize("form", ["companion", "object"])
    async def test_a_named_table_asks_nobody(self, bench, form):
        (account,) = seed(bench, 1)
        await bench.connector.schema("contacts")
        bench.fake.ledger.clear()
        given = (
            {"parentcustomerid": account, "parentcustomeridtype": "accounts"}
            if form == "companion"
            else {"parentcustomerid": {"entity": "accounts", "id": account}}
        )
        operation = Operation(kind=OperationKind.CREATE, id=guid(1), fields={"lastname": "L", **given})
        (result,) = await write(bench, operation, entity="contacts")
        assert result.document["parentcustomerid"] == account
        assert len(bench.paths()) == 1

    async def test_an_id_that_is_nowhere_is_refused_before_it_is_sent(self, bench):
        operation = Operation(
            kind=OperationKind.CREATE, id=guid(1), fields={"lastname": "L", "parentcustomerid": ABSENT}
        )
        (result,) = await write(bench, operation, entity="contacts")
        assert result.outcome is Outcome.REFUSED
        assert result.error.field == "parentcustomerid"
        assert ABSENT not in result.error.message
        assert bench.fake.ledger.writes() == []

    @pytest.mark.parametrize("count", [1, 20])
    async def test_a_bind_to_an_absent_record_is_refused_not_missing(self, bench, count):
        (identifier,) = seed(bench, 1)
        creates = [create(n) for n in range(count)]
        creates[0] = create(0, primarycontactid=ABSENT)
        results = await write(bench, *creates, update(identifier, name="x", primarycontactid=ABSENT))
        assert results[0].outcome is Outcome.REFUSED
        assert results[-1].outcome is Outcome.REFUSED
        assert set(outcomes(results[1:-1])) <= {Outcome.APPLIED}
        (gone,) = await write(bench, update(ABSENT, primarycontactid=ABSENT))
        assert gone.outcome is Outcome.MISSING

    async def test_a_table_that_is_no_target_is_refused(self, bench):
        (result,) = await write(bench, create(1, primarycontactid={"entity": "accounts", "id": ABSENT}))
        assert result.outcome is Outcome.REFUSED
        assert bench.fake.ledger.entries == []


class TestWithoutBulk:
    async def test_every_write_returns_version_and_document(self):
        bench = Bench(bulk=False)
        results = await write(bench, *(create(n) for n in range(15)))
        assert all(result.document and result.etag for result in results)
        results = await write(bench, *(update(guid(n), name="x") for n in range(15)))
        assert all(result.document["name"] == "x" for result in results)
        assert not any("Multiple" in path for path in bench.paths())
        await bench.connector.close()
