"""`ipaas sandbox`: what a person types, and what they read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from console.cli.commands import sandbox as sandbox_command
from ipaas_assets.sync.engine import Engine
from tests.sync.bench import bench


@pytest.fixture
def run_command(fresh_database, monkeypatch) -> Any:
    """`ipaas sandbox` on a rig that the command itself opens, as it would open the platform."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Engine]:
        async with bench(fresh_database) as made:
            yield made.world.engine

    monkeypatch.setattr(sandbox_command, "engine", opened)

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(sandbox_command.command, list(arguments), input=stdin)

    return run


def test_the_command_shows_a_record_rule_by_rule(run_command):
    result = run_command("people", "--id", "r2", "--plan")
    assert result.exit_code == 0, result.output
    assert "people (version 1): record r2 of erp/customers, read from its system now" in result.output
    assert "  balance = 3.75  [decimal -> decimal]" in result.output
    assert "      from balance = 7.5, parts = 2" in result.output
    assert "A run now: created" in result.output
    assert "Nothing was written. Values shown as *** are personal or secret." in result.output
    assert "n@b" not in result.output


@pytest.mark.parametrize("way", ["argument", "file", "stdin"])
def test_the_command_reads_a_record_from_its_argument_a_file_and_stdin(run_command, tmp_path, way):
    record = json.dumps({"id": "x", "number": "C9", "name": "Lab", "balance": 1, "parts": 1})
    file = tmp_path / "record.json"
    file.write_text(record)
    given = {"argument": record, "file": f"@{file}", "stdin": "-"}[way]
    result = run_command(
        "people", "--record", given, "--rule", "name", "--json", stdin=record if way == "stdin" else None
    )
    assert result.exit_code == 0, result.output
    (target,) = json.loads(result.output)["targets"]
    assert [(each["field"], each["value"]) for each in target["trace"]["fields"]] == [("name", "Lab")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["people"], "either a record"),
        (["people", "--id", "r1", "--record", "{}"], "either a record"),
        (["people", "--record", "{"], "cannot be read"),
        (["people", "--record", "[1]"], "no JSON object"),
        (["people", "--id", "r1", "--draft", "name"], "--draft needs --rule"),
    ],
)
def test_a_wrong_command_says_what_is_wrong_before_anything_is_opened(arguments, said):
    result = CliRunner().invoke(sandbox_command.command, arguments)
    assert result.exit_code == 2
    assert said in result.output
