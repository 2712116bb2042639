"""The judge of the live benchmarks finds what it is there to find."""

from __future__ import annotations

import pytest

from benchmarks.judging import Change, Write, figures, judge, writes_of
from benchmarks.sending import percentile


def change(record, version, at, accepted=None):
    return Change(
        record=record, version=version, changed_at=at, accepted_at=at if accepted is None else accepted
    )


def account(record, version, identifier=None):
    return {"accountid": identifier or f"id-{record}", "accountnumber": record, "description": str(version)}


def write(record, version, at):
    return Write(record=record, version=version, at=at)


def test_a_change_waits_for_the_first_write_that_holds_it_or_a_newer_one():
    changes = [change("A", 1, 10.0), change("A", 2, 11.0), change("B", 3, 11.0)]
    writes = [write("A", 2, 11.5), write("B", 3, 11.25)]
    found = judge(changes, writes, [account("A", 2), account("B", 3)], records=2)
    assert found.waits == [1.5, 0.5, 0.25]
    assert (found.writes, found.lost, found.duplicates, found.out_of_order) == (2, 0, 0, 0)


def test_a_record_without_its_last_version_is_lost_even_if_a_write_held_it_once():
    changes = [change("A", 1, 10.0), change("A", 2, 11.0)]
    writes = [write("A", 1, 10.1), write("A", 2, 11.1), write("A", 1, 11.2)]
    found = judge(changes, writes, [account("A", 1)], records=1)
    assert found.lost == 1
    assert found.out_of_order == 1


def test_a_change_that_no_write_held_has_no_wait_and_is_lost():
    found = judge([change("A", 5, 10.0)], [], [account("A", 0)], records=1)
    assert found.waits == []
    assert found.lost == 1


def test_a_source_record_without_any_target_record_is_lost():
    assert judge([change("A", 1, 1.0)], [write("A", 1, 2.0)], [account("A", 1)], records=2).lost == 1


def test_two_target_records_of_one_source_record_are_one_duplicate():
    accounts = [account("A", 1), account("A", 1, "id-other")]
    assert judge([change("A", 1, 1.0)], [write("A", 1, 2.0)], accounts, records=1).duplicates == 1


def test_writes_are_read_from_the_ledger_with_the_moment_at_which_they_were_applied():
    entry = {
        "at": 4.0,
        "done": 5.0,
        "effects": [
            {"entity": "accounts", "id": "id-A", "fields": {"description": "7"}},
            {"entity": "accounts", "id": "id-B", "fields": {"name": "no version in it"}},
            {"entity": "contacts", "id": "id-C", "fields": {"description": "8"}},
        ],
    }
    assert writes_of([entry], [account("A", 7), account("B", 0)]) == [write("A", 7, 5.0)]


def test_the_figures_count_what_was_coalesced():
    changes = [change("A", 1, 10.0, 10.01), change("A", 2, 10.5, 10.52), change("B", 3, 11.0, 0.0)]
    writes = [write("A", 2, 10.6), write("B", 3, 11.5)]
    verdict = judge(changes, writes, [account("A", 2), account("B", 3)], records=2)
    shown = figures(changes, verdict, calls=6)
    assert shown["events"] == 3
    assert shown["accepted"] == 2
    assert shown["coalesced"] == 1
    assert shown["calls_per_event"] == 2.0
    assert shown["e2e_max_ms"] == 600.0
    assert shown["written_per_s"] == pytest.approx(2 / 1.5, abs=0.1)


def test_percentiles_are_nearest_ranks():
    assert percentile([], 0.95) == 0.0
    assert percentile([3.0], 0.5) == 3.0
    assert percentile(range(1, 101), 0.95) == 95
    assert percentile(range(1, 101), 1.0) == 100
