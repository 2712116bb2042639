"""ipaas worker: work off the lanes as soon as something is to be done."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

import click

from console.cli.opening import open_database, options_of, run_async, say
from console.processes import Processes, python
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Lane
from ipaas_assets.workers import this_worker
from ipaas_resources.core.platform import lower_priority
from ipaas_resources.settings import Settings, load_settings
from ipaas_resources.store.database import Database
from sensors.live.lanes import BUDGETS, feeds_of, options_for
from sensors.live.worker import LiveWorker

if TYPE_CHECKING:
    from pathlib import Path

_LANES = [lane.name.lower() for lane in Lane]


@click.command()
@click.option(
    "--lane", type=click.Choice(_LANES), help="One lane in this process; without it, a process for each."
)
def worker(lane: str | None) -> None:
    """Work off what is due, within milliseconds of its coming.

    Any number of workers on any number of machines share a lane. Ctrl-C ends it once what is under way is settled.
    """
    settings = load_settings()
    if lane is None:
        _all_lanes(settings)
        return
    logging.getLogger().setLevel(logging.WARNING)
    # A line for each request ("ipaas.net") would cost more than the request; DEBUG shows them.
    requests = settings.log_level if settings.log_level == "DEBUG" else "WARNING"
    logging.getLogger("ipaas.net").setLevel(requests)
    for ours in ("ipaas_assets", "ipaas_resources", "sensors", "ipaas"):
        logging.getLogger(ours).setLevel(settings.log_level)
    chosen = Lane[lane.upper()]
    if chosen is Lane.BATCH:
        lower_priority()
    urls = open_database(settings)
    run_async(_work(settings, urls.app, chosen))


def _all_lanes(settings: Settings) -> None:
    here: Path = settings.state_dir
    with Processes(here, say) as processes:
        here.mkdir(parents=True, exist_ok=True)
        for lane in _LANES:
            processes.start(
                f"worker-{lane}",
                python("-m", "console.cli.main", "worker", "--lane", lane),
                # A relative state folder would be another one there: with an embedded database of its own.
                environment={"IPAAS_STATE_DIR": str(here)},
                folder=here,
            )
            say(f"Worker of the lane {lane}: running, log in {here / 'logs' / f'worker-{lane}.log'}")
        processes.watch()


async def _work(settings: Settings, url: str, lane: Lane) -> None:
    database = Database(url)
    stop = asyncio.Event()
    _on_end(stop)

    def open_engine() -> Engine:
        return Engine(database, options=options_of(settings), lane=BUDGETS[lane])

    try:
        live = LiveWorker(
            database,
            url,
            open_engine,
            options_for(lane, settings),
            worker=this_worker(),
            feeds=feeds_of(lane, settings),
        )
        say(f"Working off the lane {lane.name.lower()}")
        await live.run(stop)
    finally:
        await database.close()


def _on_end(stop: asyncio.Event) -> None:
    """A first SIGTERM or Ctrl-C lets the worker come to its end, a second one ends it at once."""
    loop = asyncio.get_running_loop()

    def end(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, end, number)
        except NotImplementedError:  # Windows' loop has none
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))


COMMANDS = [worker]
