"""Serves the simulated products over real HTTP on loopback, each at a port of its own, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import signal
import socket
import ssl
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import uvicorn

from ipaas_resources.core.clock import SystemClock
from simulator.authority import TlsFiles, write_tls_files
from simulator.bulk import BULK_COMPANY, add_bulk_customers
from simulator.demo_data import data_folder
from simulator.erp_world import Company
from simulator.stage import Stage, fill, fill_foreign, new_secrets, set_stage
from simulator.systems import (
    BC_CLIENT,
    CRM_CLIENT,
    TENANT,
    Urls,
    system_documents,
    write_secrets,
    write_system_documents,
)
from simulator.world import DEFAULT_SEED, World, build_world

if TYPE_CHECKING:
    from ipaas_resources.connectors.fakes import FakeApp

HOST = "127.0.0.1"
#: Seconds that an idle connection stays open: longer than any pause of a client that polls.
_KEEP_ALIVE = 75
_PORTS_TRIED = 200


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is served, and how."""

    world: str = "demo"  # demo | empty
    seed: int = DEFAULT_SEED
    data: Path | None = None  # the folder of contoso_demo.json; None: ../shared/data
    bulk: int = 0  # generated customers in the company `bulk`
    prefill: bool = False
    port_base: int = 0  # the first port to try; 0: any that is free
    state_dir: Path | None = (
        None  # for the authority, secrets and system documents; None: a folder for this run
    )
    limits: bool = False
    latency: float = 0.0
    search_lag: float | None = None  # None: each product's own


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs to know of a running simulator; the line that `--json` prints."""

    urls: Urls
    ca: str
    systems: str  # folder of the system documents
    tenant: str
    clients: dict[str, str]  # system -> client id
    secrets: dict[str, str]  # name -> file:PATH
    scopes: dict[str, str]  # scope -> company name
    world: str
    origin: str
    seed: int
    data: str  # the folder that contoso_demo.json was looked for in
    prefill: bool
    records: dict[str, int]


async def serve(options: Options, announce: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called once, when every product answers."""
    with _state_folder(options.state_dir) as folder:
        clock = SystemClock()
        stage = set_stage(clock, new_secrets())
        world, companies, records = _fill(stage, options)
        tls = write_tls_files(folder, clock.now())
        listeners = _listen(options.port_base, tuple(stage.apps()))
        urls = Urls(
            **{
                name: f"{'https' if name == 'login' else 'http'}://{HOST}:{listener.getsockname()[1]}"
                for name, listener in listeners.items()
            }
        )
        references = write_secrets(folder, stage.secrets)
        documents = folder / "systems"
        write_system_documents(
            documents, system_documents(urls, references, companies, tls.authority, options.search_lag)
        )
        ready = Ready(
            urls=urls,
            ca=str(tls.authority),
            systems=str(documents),
            tenant=TENANT,
            clients={"bc": BC_CLIENT, "crm": CRM_CLIENT},
            secrets=references,
            scopes={company.scope: company.name for company in companies},
            world=options.world,
            origin=world.origin if world else "",
            seed=options.seed,
            data=str((options.data or data_folder()).absolute()),
            prefill=options.prefill,
            records=records,
        )
        # What stands now stands until the end: the collector need not walk through it again and again.
        gc.collect()
        gc.freeze()
        await _run(stage.apps(), listeners, tls, lambda: announce(ready), urls)


def _fill(stage: Stage, options: Options) -> tuple[World | None, list[Company], dict[str, int]]:
    world = None
    companies: list[Company] = []
    records: dict[str, int] = {}
    if options.world == "demo":
        world = build_world(options.seed, options.data)
        fill(stage, world)
        companies += world.erp.companies
        records |= world.counts()
        if options.prefill:
            foreign = fill_foreign(stage, world)
            records |= {"foreign": len(foreign), "ambiguous": sum(one.ambiguous for one in foreign)}
    if options.bulk:
        add_bulk_customers(stage.bc, options.bulk)
        companies.append(BULK_COMPANY)
        records["bulk_customers"] = options.bulk
    for app in stage.apps().values():
        app.limits_on = options.limits
        app.latency = options.latency
        if options.search_lag is not None:
            app.search_lag = options.search_lag
    return world, companies, records


@contextlib.contextmanager
def _state_folder(given: Path | None) -> Generator[Path, None, None]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    made = Path(tempfile.mkdtemp(prefix="ipaas-simulator-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _listen(first: int, names: tuple[str, ...]) -> dict[str, socket.socket]:
    """A listening socket for each product; a port that is taken is passed over."""
    listeners: dict[str, socket.socket] = {}
    port = first
    for name in names:
        while True:
            try:
                listeners[name] = socket.create_server((HOST, port), backlog=512)
                break
            except OSError:
                if port == 0 or port >= first + _PORTS_TRIED:
                    raise
                port += 1
        port = port + 1 if port else 0
    return listeners


class _Server(uvicorn.Server):
    """One product's server; signals are caught once for all of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _run(
    apps: dict[str, FakeApp],
    listeners: dict[str, socket.socket],
    tls: TlsFiles,
    announce: Callable[[], None],
    urls: Urls,
) -> None:
    servers = {name: _server(app, tls if name == "login" else None) for name, app in apps.items()}

    def stop(*_: object) -> None:
        for server in servers.values():
            server.should_exit = True

    _on_signal(stop)
    running = [
        asyncio.create_task(server.serve(sockets=[listeners[name]])) for name, server in servers.items()
    ]
    try:
        if await _all_answer(running, urls, tls):
            announce()
        await asyncio.gather(*running)
    finally:
        stop()
        await asyncio.gather(*running, return_exceptions=True)


def _server(app: FakeApp, tls: TlsFiles | None) -> _Server:
    secure: dict[str, Any] = (
        {"ssl_certfile": str(tls.certificate), "ssl_keyfile": str(tls.key)} if tls is not None else {}
    )
    return _Server(
        uvicorn.Config(
            app,
            loop="none",  # the loop is chosen outside
            http="httptools",
            ws="none",
            log_level="critical",
            access_log=False,
            date_header=True,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=1,
            **secure,
        )
    )


def _on_signal(stop: Callable[..., None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop)
        except (NotImplementedError, RuntimeError):  # Windows, or a thread that is not the main one
            with contextlib.suppress(ValueError):
                signal.signal(number, stop)


async def _all_answer(running: list[asyncio.Task[None]], urls: Urls, tls: TlsFiles) -> bool:
    """True when a request to each product was answered; False when all were told to stop before.

    Raises whatever ended a server.
    """
    asking = asyncio.create_task(_ask_all(urls, tls))
    await asyncio.wait([asking, *running], return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in running if task.done()]
    if not ended:
        await asking
        return True
    asking.cancel()
    for task in ended:
        task.result()
    return False


async def _ask_all(urls: Urls, tls: TlsFiles) -> None:
    trust = ssl.create_default_context(cafile=str(tls.authority))
    async with httpx.AsyncClient(verify=trust, timeout=10, trust_env=False) as client:
        # The sockets listen already, so a request only waits until its server takes it up.
        asked = (client.get(f"{url}/_sim/counts") for url in msgspec.structs.astuple(urls))
        for answer in await asyncio.gather(*asked):
            answer.raise_for_status()
