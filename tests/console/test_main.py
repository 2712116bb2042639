"""The exit codes of the command line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import click
import pytest

from console.cli import main


@pytest.fixture(autouse=True)
def _our_own_end() -> Iterator[None]:
    """Whoever ends the tests is heard by them again afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("code", [1, 2])
def test_a_command_that_ends_with_a_code_gives_it_to_the_shell(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    @click.command()
    def told_and_failed() -> None:
        raise click.exceptions.Exit(code)

    monkeypatch.setattr(main, "cli", told_and_failed)
    monkeypatch.setattr(sys, "argv", ["ipaas"])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == code
