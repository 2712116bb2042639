"""First contact: what stands in the targets before the first sync."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest

from simulator.expected import NOT_AN_ORDER
from simulator.prefill import foreign_records
from simulator.world import build_world


@pytest.fixture(scope="module")
def world():
    return build_world()


@pytest.fixture(scope="module")
def foreign(world):
    return foreign_records(world)


def test_three_in_ten_targets_are_there_already(world, foreign):
    counts = Counter(one.entity for one in foreign)
    orders = sum(order["OrderStatus"] not in NOT_AN_ORDER for order in world.lab.work_orders)
    due = {"accounts": 110, "contacts": 105, "products": 1430, "salesOrders": orders}
    assert set(counts) == set(due)
    for entity, number in due.items():
        assert counts[entity] == round(number * 0.3)


def test_ten_of_them_stand_there_twice(foreign):
    twice = [one for one in foreign if one.ambiguous]
    assert len(twice) == 10
    for one in twice:
        first, second = one.copies
        differing = {name for name in first if first[name] != second[name]}
        assert differing == {next(iter(first))}, "they differ in their ids alone"


def test_their_ids_are_random_ones_as_a_product_gives_them(foreign):
    ids = [uuid.UUID(next(iter(copy.values()))) for one in foreign for copy in one.copies]
    assert len(set(ids)) == len(ids)
    assert {one.version for one in ids} == {4}


def test_the_same_world_gives_the_same_foreign_records(world, foreign):
    assert foreign_records(world) == foreign


def test_their_values_are_old_so_adopting_them_means_writing(world, foreign):
    prices = {f"{scope}-{item['number']}": item["unitPrice"] for scope, item in world.erp.all("items")}
    products = [one for one in foreign if one.entity == "products"]
    assert any(one.copies[0]["price"] != prices[one.key] for one in products)
