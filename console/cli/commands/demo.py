"""ipaas demo: three simulated systems kept in step, to look at."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from console.cli.opening import run_async, say
from console.demo import (
    DemoOptions,
    DemoResult,
    apply_demo,
    demo_settings,
    first_sync,
    prepare_database,
    register_lab_hook,
    start_simulator,
)
from console.processes import Processes
from console.supervising import Supervisor
from console.up import PASSIVE, Installation, supervise
from ipaas_resources.settings import Settings, load_settings


@click.command(short_help="Start three simulated systems and keep them in step.")
@click.option("--once", is_flag=True, help="End after the first sync (without the Dagster UI).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object about the first sync.")
@click.option("--prefill", is_flag=True, help="Targets hold 30 % of the records already, 10 of them twice.")
@click.option("--seed", type=int, help="Seed of the generated part of the world.")
@click.option(
    "--simulator",
    type=click.Path(path_type=Path),
    help="Use a running simulator: the file with its ready line.",
)
@click.option(
    "--keep", is_flag=True, help="Go on with the demo's database instead of an empty one (with --simulator)."
)
@click.option("--full", is_flag=True, help="Read all records, not only changes.")
def demo(
    *,
    once: bool,
    as_json: bool,
    prefill: bool,
    seed: int | None,
    simulator: Path | None,
    keep: bool,
    full: bool,
) -> None:
    """Start Business Central, Dataverse and a calibration lab as simulated systems and keep them in step."""
    options = DemoOptions(once=once, keep=keep, prefill=prefill, seed=seed, full=full, simulator=simulator)
    settings = demo_settings(load_settings())
    if once:
        with Processes(settings.state_dir, say) as processes:
            ready = _prepare(processes, settings, options)
            result = run_async(first_sync(settings, ready, options, say))
            _show(result, as_json=as_json)
        sys.exit(0 if result.verified else 1)
    # The supervisor first: a second demo must not empty the database of this one.
    with (
        Supervisor(settings.state_dir, say) as supervisor,
        Processes(settings.state_dir, _quiet) as processes,
    ):
        ready = _prepare(processes, settings, options)
        _live(supervisor, processes, settings, ready, options, as_json=as_json)


def _prepare(processes: Processes, settings: Settings, options: DemoOptions) -> dict[str, Any]:
    """Database, simulated systems, systems and flows; the simulator's ready line."""
    prepare_database(settings, options, say)
    if options.simulator is None:
        say("Starting the simulated systems")
        ready = start_simulator(processes, settings, options, say)
    else:
        ready = dict(json.loads(options.simulator.read_text(encoding="utf-8")))
    for name, url in ready["urls"].items():
        say(f"  {name}: {url}")
    run_async(apply_demo(settings, ready, say))
    return ready


def _live(
    supervisor: Supervisor,
    processes: Processes,
    settings: Settings,
    ready: dict[str, Any],
    options: DemoOptions,
    *,
    as_json: bool,
) -> None:
    """The first sync here, then the live lane until Ctrl-C."""
    installation = Installation(settings, say, own_senders=True)
    supervise(supervisor, installation, say)
    # After the flows are there, so that the code server finds them when it loads.
    programs = installation.programs()
    supervisor.start(*(program for program in programs if program.name in PASSIVE))
    result = run_async(first_sync(settings, ready, options, say))
    _show(result, as_json=as_json)
    run_async(register_lab_hook(settings, ready, installation.public_url, say))
    # Only now: workers and sensors would take part in the first sync, and its sums would be theirs as well.
    supervisor.start(*(program for program in programs if program.name not in PASSIVE))
    supervisor.watch(until=supervisor.all_answered)
    say(f"Another terminal works on the same demo with IPAAS_STATE_DIR={settings.state_dir}")
    say("Ctrl-C ends the demo")
    supervisor.watch(until=lambda: any(process.ended for process in processes.all))
    # Its state was in its memory: another simulator would be another world.
    processes.watch()


def _quiet(_line: str) -> None:
    """The supervisor says that it stops; once is enough."""


def _show(result: DemoResult, *, as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = msgspec.to_builtins(result)
        click.echo(json.dumps(shown))
        return
    click.echo(
        f"{result.records} records read: {result.created} created, {result.adopted} adopted, {result.updated} updated, "
        f"{result.skipped} skipped, {result.dead} dead, {result.review} for review in {result.seconds} s"
    )
    click.echo(
        "Every target record is as it must be" if result.verified else "The targets are NOT as they must be:"
    )
    for difference in result.differences:
        click.echo(f"  {difference}")
    if result.error:
        click.echo(f"  {result.error}", err=True)


COMMANDS = [demo]
