"""First contact: 30 % of the targets are there already under foreign ids, ten of them twice.

The tests of this file share one world and stand in the order of its story.
"""

import pytest

from simulator.verify import verify
from tests.e2e.world import CUSTOMERS, FLOWS, changed, demo_world, left, target_records, writes_since

AMBIGUOUS = 10
#: Target entities with the field that our records are told from others by.
KEYS = {
    ("crm", "accounts"): "accountnumber",
    ("crm", "contacts"): "externaluseridentifier",
    ("crm", "products"): "productnumber",
    ("cal", "clients"): "LegacyId",
    ("bc", "salesOrders"): "externalDocumentNumber",
}


class Story:
    """What stood in the targets before the first run, and what that run did."""

    def __init__(self, world):
        self.world = world
        self.client = world.client
        self.before = target_records(self.client)
        self.twice_before = twice(self.before)
        self.results = world.run_all()


def keys(records):
    """(system, entity, scope, key) of each record that carries one, with the records that do."""
    found = {}
    for (system, entity, identifier), record in records.items():
        field = KEYS.get((system, entity))
        if field and record[field]:
            # Work order numbers are unique over all companies, so the company need not be told.
            found.setdefault((system, entity, record[field]), set()).add(identifier)
    return found


def twice(records):
    return {key: ids for key, ids in keys(records).items() if len(ids) > 1}


@pytest.fixture(scope="module")
def story(databases, _template, tmp_path_factory):
    # What refers to one of the ten waits for a person: no run need wait for it.
    patience = {"IPAAS_PATIENCE_SECONDS": "2"}
    with demo_world(databases, _template, tmp_path_factory.mktemp("first"), "--prefill", **patience) as world:
        yield Story(world)


def test_the_targets_hold_foreign_records_ten_of_them_twice(story):
    ready = story.client.ready
    assert ready.records["ambiguous"] == len(story.twice_before) == AMBIGUOUS
    assert ready.records["foreign"] > 600


def test_no_record_gets_a_duplicate_and_none_is_lost(story):
    after = target_records(story.client)
    assert twice(after) == story.twice_before
    assert story.before.keys() <= after.keys()
    assert verify(story.client) == []


def test_records_that_were_there_once_are_adopted_and_those_twice_go_to_a_person(story):
    outcomes = {flow: result["counts"]["outcomes"] for flow, result in story.results.items()}
    adopted = sum(each.get("adopted", 0) for each in outcomes.values())
    clients_known = story.results[CUSTOMERS]["counts"]["per_target"]["client"]["adopted"]
    assert adopted - clients_known == story.client.ready.records["foreign"] - AMBIGUOUS
    waiting = story.world.sql(
        "SELECT target_entity, count(*) FROM work_items WHERE error_code = 'ambiguous_match' AND state = 'review' "
        "GROUP BY 1 ORDER BY 1"
    )
    assert dict(waiting) == {"accounts": 2, "contacts": 1, "products": 5, "sales_orders": 2}
    assert sum(result["review"] for result in story.results.values()) == AMBIGUOUS
    assert {flow: trouble for flow, trouble in left(story.results).items() if "dead" in trouble} == {}


def test_a_person_is_told_what_to_do_without_a_value_of_the_record(story):
    texts = story.world.sql("SELECT DISTINCT error FROM work_items WHERE error_code = 'ambiguous_match'")
    assert len(texts) == 3 + 1
    numbers = {key[2] for key in story.twice_before}
    for (text,) in texts:
        assert text.startswith("2 records of ")
        assert text.endswith("Merge them or link one by hand, then replay.")
        assert not any(number in text for number in numbers)


def test_a_second_run_writes_nothing(story):
    written, before = story.client.writes(), target_records(story.client)
    again = story.world.run_all()
    assert {flow: result["counts"]["writes"] for flow, result in again.items()} == dict.fromkeys(FLOWS, 0)
    assert writes_since(story.client, written) == {"bc": 0, "crm": 0, "cal": 0}
    assert changed(before, target_records(story.client)) == set()
    assert sum(result["review"] for result in again.values()) == AMBIGUOUS


def test_a_record_that_a_person_merged_is_taken_up_by_the_next_change(story):
    ((_, _, number), ids) = next(
        (key, ids) for key, ids in story.twice_before.items() if key[1] == "accounts"
    )
    gone, kept = sorted(ids)
    story.client.remove("crm", "accounts", gone)
    scope, _, customer_number = number.partition("-")
    customer = story.client.record("bc", "customers", "number", customer_number, scope)
    story.client.change("bc", "customers", customer["id"], {"displayName": "Merged Ltd."}, scope)
    result = story.world.platform.run(CUSTOMERS)
    assert result["counts"]["per_target"]["account"] == {"adopted": 1}
    account = story.client.record("crm", "accounts", "accountnumber", number)
    assert (account["accountid"], account["name"]) == (kept, "Merged Ltd.")
