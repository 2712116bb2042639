"""ipaas systems: the connected systems."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import click

from console.cli.opening import engine, run_async, say
from console.dagster_home import reload_running
from ipaas_assets.sync.systems import apply_systems
from ipaas_resources.core.errors import ConfigurationError, IpaasError
from ipaas_resources.settings import load_settings
from ipaas_resources.store import registry
from ipaas_resources.store.breakers import BreakerState, breaker_states, reset_breaker

#: Seconds that a system gets to answer `test`: long enough for a few repetitions, and somebody waits.
_ANSWER_LIMIT = 30


@click.group()
def systems() -> None:
    """Connected systems: apply, list, test, pause, resume, reset-breaker."""


@systems.command("apply")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def apply_command(path: Path) -> None:
    """Store the system documents of a YAML file or folder."""

    async def work() -> list[str]:
        async with engine(load=False) as opened:
            return await apply_systems(opened, path)

    for name in run_async(work()):
        click.echo(f"{name}: stored")
    if reload_running(load_settings()):
        say("Dagster shows the systems")


@systems.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_command(*, as_json: bool) -> None:
    """List the systems."""

    async def work() -> tuple[list[registry.StoredSystem], dict[str, BreakerState]]:
        async with engine(load=False) as opened:
            states = await breaker_states(opened.database)
            return await registry.list_systems(opened.database), {each.system: each for each in states}

    found, breakers = run_async(work())
    if as_json:
        rows = [
            {
                "system": each.system,
                "connector": each.connector,
                "state": _state(each),
                "breaker": _breaker(breakers.get(each.system)),
            }
            for each in found
        ]
        click.echo(json.dumps(rows))
        return
    if not found:
        click.echo("There are no systems yet. Add one with `ipaas systems apply FILE`.")
    for each in found:
        breaker = breakers.get(each.system)
        alone = f"; {breaker.sentence()}" if breaker is not None and breaker.state != "closed" else ""
        click.echo(f"{each.system:<20} {each.connector:<20} {_state(each)}{alone}")


def _breaker(state: BreakerState | None) -> dict[str, object]:
    if state is None:
        return {"state": "closed", "failures": 0}
    return {
        "state": state.state,
        "failures": state.failures,
        "error": state.error,
        "opened_at": state.opened_at.isoformat() if state.opened_at else None,
        "seconds_left": round(state.left, 1),
    }


def _state(system: registry.StoredSystem) -> str:
    if not system.document.get("enabled", True):
        return "disabled"
    return "paused" if system.paused else "on"


@systems.command("test")
@click.argument("names", nargs=-1)
def test_command(names: tuple[str, ...]) -> None:
    """Reach systems, sign in, and see every configured scope (all systems when none is named)."""

    async def work() -> bool:
        good = True
        async with engine() as opened:
            for system in [opened.system(name) for name in names or sorted(opened.systems)]:
                name = system.name
                try:
                    health = await asyncio.wait_for(system.connector.check(), _ANSWER_LIMIT)
                except TimeoutError:
                    click.echo(
                        f"{name}: did not answer within {_ANSWER_LIMIT} s. Look at its address, and at what stands between.",
                        err=True,
                    )
                    good = False
                except IpaasError as error:
                    click.echo(f"{name}: {error.message}", err=True)
                    good = False
                else:
                    scopes = f", scopes {', '.join(health.scopes)}" if any(health.scopes) else ""
                    click.echo(f"{name}: {health.product} answers; {health.detail}{scopes}")
        return good

    if not run_async(work()):
        sys.exit(1)


def _pause(name: str, *, paused: bool) -> None:
    async def work() -> bool:
        async with engine(load=False) as opened:
            return await registry.pause_system(opened.database, name, paused=paused)

    if not run_async(work()):
        raise ConfigurationError(f"There is no system {name!r}. `ipaas systems list` shows those there are.")
    click.echo(f"{name}: {'paused; its work waits' if paused else 'on'}")


@systems.command("pause")
@click.argument("name")
def pause_command(name: str) -> None:
    """Stop working with a system; its work waits."""
    _pause(name, paused=True)


@systems.command("resume")
@click.argument("name")
def resume_command(name: str) -> None:
    """Work with a paused system again."""
    _pause(name, paused=False)


@systems.command("reset-breaker")
@click.argument("name")
def reset_breaker_command(name: str) -> None:
    """Try a system at once that is left alone because it failed again and again."""

    async def work() -> bool:
        async with engine(load=False) as opened:
            if name not in {each.system for each in await registry.list_systems(opened.database)}:
                raise ConfigurationError(
                    f"There is no system {name!r}. `ipaas systems list` shows those there are."
                )
            return await reset_breaker(opened.database, name)

    if run_async(work()):
        click.echo(f"{name}: closed; requests are sent again")
    else:
        click.echo(f"{name}: it was not left alone; nothing to do")


COMMANDS = [systems]
