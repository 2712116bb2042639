"""Two `ipaas run` of one flow at once: they share the work and the budgets, and nothing is done twice.

The simulator answers 429 beyond each product's limits, as the products do.
"""

import json
from collections import Counter

import pytest

from simulator.verify import verify
from tests.e2e.world import CUSTOMERS, FLOWS, ITEMS, ORDERS, demo_world, writes_since

#: Outcomes after which an item is still in the queue: the same item is counted again.
NOT_YET = {"parked", "retry"}


class Pair:
    """What two processes did with one flow."""

    def __init__(self, world, flow):
        before = {system: world.client.counts(system) for system in ("bc", "crm", "cal")}
        started = [world.platform.start("run", flow, "--json") for _ in range(2)]
        ended = [process.communicate(timeout=240) for process in started]
        self.codes = [process.returncode for process in started]
        self.err = [err for _, err in ended]
        self.results = [json.loads(out) for out, _ in ended]
        self.effects = Counter()
        for system, counts in before.items():
            self.effects.update(world.client.counts(system))
            self.effects.subtract(counts)

    def outcomes(self):
        """Outcome -> items of both, by target."""
        found = {}
        for result in self.results:
            for target, counts in result["counts"]["per_target"].items():
                found.setdefault(target, Counter()).update(counts)
        return found


@pytest.fixture(scope="module")
def world(databases, _template, tmp_path_factory):
    with demo_world(
        databases, _template, tmp_path_factory.mktemp("two"), "--limits", real_limits=True
    ) as made:
        yield made


@pytest.fixture(scope="module")
def pairs(world):
    return {flow: Pair(world, flow) for flow in FLOWS}


def test_both_end_well(pairs):
    for pair in pairs.values():
        assert pair.codes == [0, 0], pair.err
        assert [result["error"] for result in pair.results] == ["", ""]


def test_the_targets_are_right_and_hold_no_duplicate(world, pairs):
    assert verify(world.client) == []


def test_every_record_is_settled_once_per_target_by_one_of_them(world, pairs):
    records = world.client.ready.records
    wanted = {
        CUSTOMERS: dict.fromkeys(("account", "contact", "client"), records["customers"]),
        ITEMS: {"product": records["items"]},
        ORDERS: dict.fromkeys(("order", "certificate"), records["work_orders"]),
    }
    for flow, pair in pairs.items():
        settled = {
            target: sum(count for outcome, count in counts.items() if outcome not in NOT_YET)
            for target, counts in pair.outcomes().items()
        }
        assert settled == wanted[flow]
        assert sum(result["counts"]["fenced"] for result in pair.results) == 0
    assert world.sql("SELECT count(*) FROM work_items") == [(0,)]
    assert world.sql("SELECT count(*) FROM intents WHERE state <> 'settled'") == [(0,)]


def test_what_both_say_they_made_is_what_the_systems_saw(pairs):
    for pair in pairs.values():
        said = sum(pair.outcomes().values(), Counter())
        assert pair.effects["effect:create"] == said["created"] > 0
        assert pair.effects["effect:delete"] == 0


def test_both_took_part_where_there_was_work_for_both(pairs):
    assert [result["counts"]["writes"] > 0 for result in pairs[ORDERS].results] == [True, True]


def test_no_system_had_to_refuse_a_request_for_being_one_too_many(world, pairs):
    for system in ("bc", "crm", "cal", "login"):
        assert world.client.settings(system)["limits_on"] is True
        statuses = {entry["status"] for entry in world.client.ledger(system)}
        assert 429 not in statuses
        assert {status for status in statuses if status >= 400} == set()


def test_a_full_run_of_both_at_once_writes_nothing(world, pairs):
    written = world.client.writes()
    again = Pair(world, CUSTOMERS)
    assert again.codes == [0, 0], again.err
    assert writes_since(world.client, written) == {"bc": 0, "crm": 0, "cal": 0}
