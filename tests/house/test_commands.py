"""What the commands show: a system that hangs, values in any script, records that waited, a stop."""

import asyncio
import io
import os
import sys
from collections import Counter
from decimal import Decimal
from types import SimpleNamespace

import pytest

from console.cli.commands import doctor, run
from console.cli.values import shown
from console.processes import TERMINATED, Processes
from ipaas_assets.sync.model import Counts


class Silent:
    async def check(self):
        await asyncio.Event().wait()


async def test_a_system_that_does_not_answer_is_a_failure_of_its_own(monkeypatch):
    monkeypatch.setattr(doctor, "_ANSWER_LIMIT", 0.01)
    system = SimpleNamespace(paused=False, connector=Silent())
    assert await doctor._answer(system) == (False, "did not answer within 0.01 s")


def test_values_are_shown_as_they_are_and_decimals_as_numbers(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert shown("Zürich 東京") == '"Zürich 東京"'
    assert shown(Decimal("12.50")) == "12.50"


def test_a_terminal_that_lacks_a_character_shows_its_escape(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    assert shown("Zürich 東") == '"Zürich \\u6771"'


@pytest.mark.parametrize(
    ("changed", "outcomes", "said"),
    [
        (0, {"created": 3}, ", 3 waiting records worked on"),
        (2, {"created": 3, "no_change": 1}, ", 2 waiting records worked on"),
        (2, {"created": 2, "parked": 5}, ""),
        (2, {}, ""),
    ],
)
def test_waiting_records_are_told_apart_from_changed_ones(changed, outcomes, said):
    assert run._waiting(Counts(changed=changed, per_target={"account": Counter(outcomes)})) == said


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (KeyboardInterrupt(), ["Stopping ..."]),
        (SystemExit(TERMINATED), ["Stopping ..."]),
        (SystemExit(0), []),
    ],
)
def test_an_interrupted_command_says_at_once_that_it_stops(tmp_path, end, said):
    lines = []
    with pytest.raises(type(end)), Processes(tmp_path, lines.append):
        raise end
    assert lines == said


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_log_is_readable_by_its_owner_alone_even_when_it_was_there_before(tmp_path):
    old = tmp_path / "logs" / "old.log"
    old.parent.mkdir()
    old.touch(mode=0o644)
    with Processes(tmp_path, print) as processes:
        for name in ("old", "new"):
            processes.start(name, [sys.executable, "-c", "pass"], folder=tmp_path).handle.wait()
    assert {path.name: path.stat().st_mode & 0o777 for path in old.parent.iterdir()} == {
        "old.log": 0o600,
        "new.log": 0o600,
    }
