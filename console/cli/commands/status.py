"""ipaas status: what runs, what waits, and for how long."""

from __future__ import annotations

import asyncio
import atexit
import socket
import sys
import time
from typing import Any, Final

import click
import msgspec

from console.cli.opening import run_async
from console.running import Running, RunningProgram, read_running
from ipaas_assets.sync.holding import Stopped, stopped
from ipaas_assets.workers import is_alive
from ipaas_resources.core.errors import DatabaseUnavailableError, IpaasError
from ipaas_resources.settings import Settings, load_settings
from ipaas_resources.store import registry
from ipaas_resources.store.database import Database
from ipaas_resources.store.migrate import is_current
from ipaas_resources.store.server import open_server
from ipaas_resources.store.status import Depth, LaneDepth, Standing, standing
from ipaas_resources.store.workers import Worker
from mappings.load import load_flow

#: Seconds that work may be late, and after which the longest wait is a fault.
LATE: Final = 60.0
#: Programs that give signs of life; Dagster's own are known by their process.
_BEATING: Final = ("ingress", "worker-", "reporter")
_MOST_POLLS: Final = 10
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


class ProcessState(msgspec.Struct, kw_only=True):
    """One process as it is shown; ages in seconds."""

    name: str
    host: str
    pid: int | None
    up: float | None  # since it was started
    restarts: int | None  # None: not ours to count
    beat: float | None  # since its last sign of life; None: it gives none
    health: str  # ok, or what is wrong
    url: str = ""
    details: dict[str, Any] = {}


class Status(msgspec.Struct, kw_only=True):
    """The object that `--json` prints."""

    healthy: bool
    problems: list[str]
    supervisor: int | None
    processes: list[ProcessState]
    standing: Standing
    #: Flows that may not write now and why, as sentences; systems that a person paused or switched off.
    held: list[str] = []
    paused: list[str] = []


@click.command(short_help="What runs, what waits, how late it is.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(*, as_json: bool) -> None:
    """Say what runs, what waits and how late it is. Exit code 1 when something is wrong.

    It reads the database, so it answers from any machine, also when the platform does not run.
    """
    settings = load_settings()
    found = run_async(_look(settings, _app_url(settings)))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        _show(found)
    sys.exit(0 if found.healthy else 1)


def _app_url(settings: Settings) -> str:
    server = open_server(settings)
    # Looking must not leave a server running that nobody uses.
    atexit.register(server.stop_if_unused)
    urls = server.start()
    if not is_current(urls.app):
        raise DatabaseUnavailableError(
            "The database has no tables of this version yet: the platform was never started on it, or an older version "
            "was. `ipaas up` brings them to this one."
        )
    return urls.app


async def _look(settings: Settings, url: str) -> Status:
    database = Database(url, pool_size=2)
    try:
        now = await stopped(database)
        held = await _held(database, now)
        found = await standing(database, held=held)
    finally:
        await database.close()
    running = await asyncio.to_thread(read_running, settings.state_dir)
    processes = _processes(running, found.processes)
    problems = [*_of_processes(running, processes), *_of_work(found)]
    return Status(
        healthy=not problems,
        problems=problems,
        supervisor=running.supervisor.pid if running and running.supervisor.process() else None,
        processes=processes,
        standing=found,
        held=sorted({f"{flow}: held {words}" for (flow, _), words in held.items()}),
        paused=sorted(now.paused),
    )


async def _held(database: Database, now: Stopped) -> dict[tuple[str, str], str]:
    """Why items of flow targets wait for a window or a person. A flow that cannot be read holds nothing: it is late."""
    held: dict[tuple[str, str], str] = {}
    for stored in await registry.active_flows(database):
        try:
            flow = load_flow(stored.text, name=stored.flow)
        except IpaasError:
            continue
        held |= {(stored.flow, target): each.words for target, each in now.holds(flow).items()}
    return held


# --- processes --------------------------------------------------------------------------------------------------


def _processes(running: Running | None, alive: list[Worker]) -> list[ProcessState]:
    """What the supervisor here wrote down, then what gives signs of life beside it, here or elsewhere."""
    left = {(each.host, each.pid): each for each in alive}
    shown = []
    for program in running.programs if running else []:
        assert running is not None
        pid = program.started.pid if program.started else None
        beat = left.pop((running.host, pid), None) if pid is not None else None
        shown.append(_ours(program, running.host, beat))
    shown += [
        ProcessState(
            name=f"{each.role}-{each.lane}" if each.lane else each.role,
            host=each.host,
            pid=each.pid,
            up=None,
            restarts=None,
            beat=each.age,
            health="ok",
            details=each.details,
        )
        for each in left.values()
        # Of one that was killed here the last sign of life stays fresh for some seconds.
        if is_alive(each.worker) is not False
    ]
    return shown


def _ours(program: RunningProgram, host: str, beat: Worker | None) -> ProcessState:
    # Processes of another machine that shares the folder cannot be looked at: their signs of life alone count.
    here = host == socket.gethostname()
    process = program.started.process() if program.started and here else None
    if program.started is None or (here and process is None):
        health = "waits for its next start"
    elif beat is None and program.name.startswith(_BEATING):
        health = "gives no sign of life"
    else:
        health = "ok"
    return ProcessState(
        name=program.name,
        host=host,
        pid=program.started.pid if program.started else None,
        up=_age(program) if health == "ok" else None,
        restarts=program.restarts,
        beat=beat.age if beat else None,
        health=health,
        url=program.url,
        details=beat.details if beat else {},
    )


def _age(program: RunningProgram) -> float | None:
    return max(0.0, time.time() - program.started.created) if program.started else None


def _of_processes(running: Running | None, processes: list[ProcessState]) -> list[str]:
    """What should run and does not."""
    if running is None:
        if not processes:
            return ["Nothing runs on this database: start the platform with `ipaas up`"]
        return []
    problems = []
    if running.host == socket.gethostname() and running.supervisor.process() is None:
        problems.append(
            f"The supervisor (process {running.supervisor.pid}) was killed: nobody starts again what dies. Run `ipaas up`"
        )
    return problems + [f"{each.name} {each.health}" for each in processes if each.health != "ok"]


def _of_work(found: Standing) -> list[str]:
    """What is late. Dead letters and items for review wait for a person: they are shown, and are no fault of a process."""
    places: list[tuple[str, float | None]] = [
        ("Deliveries wait in the inbox", found.inbox.lag),
        ("Hints wait to be read", found.hints.lag),
        *((f"Work of the lane {each.lane} waits", each.lag) for each in found.lanes),
        # A minute is the pace of a busy asset; twice that is late.
        ("Reports wait to be told to Dagster", (found.reports.lag or 0.0) - LATE),
    ]
    return [f"{what} since {_span(lag)}" for what, lag in places if lag is not None and lag > LATE]


# --- shown to a person ------------------------------------------------------------------------------------------


def _show(found: Status) -> None:
    """Aligned, one line for each thing."""
    if found.processes:
        _table(
            ["PROCESS", "PID", "UP", "RESTARTS", "SIGN OF LIFE", "HEALTH"],
            [_process_row(each) for each in found.processes],
        )
    else:
        click.echo("No process of the platform gives a sign of life.")
    if found.supervisor is None and found.processes:
        click.echo("No supervisor runs here; these are processes of other machines or were started alone.")
    click.echo()
    here = found.standing
    _table(
        ["WAITS", "DUE", "PARKED", "HELD", "REVIEW", "DEAD", "LAG"],
        [
            ["inbox", *_depth(here.inbox)],
            ["hints", *_depth(here.hints)],
            *([each.lane, *_lane(each)] for each in here.lanes),
            ["reports", *_depth(here.reports)],
        ],
    )
    _more(found)
    click.echo()
    click.echo("Healthy." if found.healthy else "\n".join(f"! {each}" for each in found.problems))


def _more(found: Status) -> None:
    here = found.standing
    for sentence in found.held:
        click.echo(f"held          {sentence}")
    for breaker in here.breakers:
        click.echo(f"breaker       {breaker.sentence()}")
    stopped_systems = {each.system: "its breaker is open" for each in here.breakers}
    stopped_systems |= dict.fromkeys(found.paused, "paused")
    if here.polls:
        click.echo()
        rows = [
            [
                f"{each.system}/{each.entity}",
                str(each.scopes),
                f"in {_span(each.next)}" if each.next >= 0 else f"due for {_span(-each.next)}",
                " to ".join(dict.fromkeys((_span(each.shortest), _span(each.longest)))),
                # What it last did says nothing while nobody may ask it.
                stopped_systems.get(each.system) or each.reason or "",
            ]
            for each in here.polls[:_MOST_POLLS]
        ]
        _table(["NEXT POLLS", "SCOPES", "NEXT", "EVERY", "WHY"], rows)
        if len(here.polls) > _MOST_POLLS:
            click.echo(f"... and {len(here.polls) - _MOST_POLLS} more")
    # One fault of a system strikes every scope: it is said once.
    troubled: dict[tuple[str, str, str], list[str]] = {}
    for trouble in here.subscriptions:
        troubled.setdefault((trouble.system, trouble.entity, trouble.error), []).append(trouble.scope)
    for (system, entity, error), scopes in troubled.items():
        where = "/".join(filter(None, (system, entity, ", ".join(filter(None, scopes)))))
        click.echo(f"subscription  {where}: {error}")


def _process_row(each: ProcessState) -> list[str]:
    where = "" if each.host == socket.gethostname() else f" on {each.host}"
    shown = str(each.details.get("state", "")) if each.health == "ok" else each.health
    return [
        f"{each.name}{where}",
        str(each.pid or "-"),
        _span(each.up),
        "-" if each.restarts is None else str(each.restarts),
        "-" if each.beat is None else f"{_span(each.beat)} ago",
        shown if shown and shown != "working" else "ok",
    ]


def _depth(depth: Depth) -> list[str]:
    return [str(depth.due), "", "", "", str(depth.dead), _span(depth.lag)]


def _lane(each: LaneDepth) -> list[str]:
    counts = (each.due, each.parked, each.held, each.review, each.dead)
    return [*map(str, counts), _span(each.lag)]


def _table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _span(seconds: float | None) -> str:
    """A time span as people say it, '-' for none."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


COMMANDS = [status]
