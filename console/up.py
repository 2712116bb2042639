"""The programs of one installation: database, ingress, Dagster, live workers, reporter."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from console.cli.opening import open_database, run_async
from console.dagster_home import REPOSITORY, DagsterHome, Service
from console.processes import Process, free_port, python
from console.supervising import Backoff, Program, Say, Supervisor
from ipaas_resources.core.errors import ConfigurationError, IpaasError
from ipaas_resources.settings import Settings
from ipaas_resources.store import workers
from ipaas_resources.store.database import Database
from ipaas_resources.store.server import DatabaseUrls, EmbeddedServer

LANES: Final = ("realtime", "polling", "batch")
WORKERS: Final = tuple(f"worker-{lane}" for lane in LANES)
DAGSTER: Final = ("code-server", "webserver", "daemon")
#: What `--without` takes: programs, and two words for several of them.
GROUPS: Final[Mapping[str, Collection[str]]] = {"dagster": (*DAGSTER, "reporter"), "workers": WORKERS}
NAMES: Final = ("ingress", *DAGSTER, *WORKERS, "reporter")
#: Programs that take in and show, and start no work on records: a first sync can go on beside them.
PASSIVE: Final = ("ingress", "code-server", "webserver")

#: What stops together, the last one first: who works on records, who asks the code server, the code server, who takes in.
_LIVE, _ASKS, _CODE, _TAKES_IN = 3, 2, 1, 0
#: Seconds for Dagster's processes: a run that goes on is started again, so nobody waits for it.
_DAGSTER_GRACE: Final = 10.0

_LOOK_AT_BEATS: Final = 1.0
_LOOK_AT_DATABASE: Final = 1.0


class Installation:
    """One installation's database, ports and programs."""

    def __init__(self, settings: Settings, say: Say, *, own_senders: bool = False) -> None:
        """Start the database; choose ports that are free.

        With `own_senders` the products run on this machine and may be given the ingress's own address (the demo).
        """
        self.settings = settings
        self._own_senders = own_senders
        self.urls: DatabaseUrls = open_database(settings)
        self.ingress_port = free_port(settings.console_port, "the webhook ingress", say)
        self._ports = {
            "webserver_port": free_port(settings.webserver_port, "the Dagster UI", say),
            "code_server_port": free_port(settings.code_server_port, "the Dagster code server", say),
        }
        self._beats = _Beats(lambda: self.urls.app)
        self._home().prepare()

    @property
    def public_url(self) -> str:
        """Where this machine's own programs reach the ingress."""
        return f"http://127.0.0.1:{self.ingress_port}"

    def programs(self, *, without: Collection[str] = ()) -> list[Program]:
        """All programs but those, in the order in which they start."""
        left_out = {name for each in without for name in GROUPS.get(each, (each,))}
        if "ingress" not in left_out:
            self._check_ingress_port()
        made = [
            self._ingress(),
            *(self._service(service) for service in self._home().services()),
            *(self._worker(lane) for lane in LANES),
            self._reporter(),
        ]
        return [program for program in made if program.name not in left_out]

    def _check_ingress_port(self) -> None:
        # Whatever listens at the wanted port would answer the deliveries, and Business Central deletes every
        # subscription of a URL that answers 404.
        wanted = self.settings.console_port
        if self.settings.public_url is not None and not self._own_senders and self.ingress_port != wanted:
            raise ConfigurationError(
                f"Port {wanted} is taken, and IPAAS_PUBLIC_URL is set: what passes deliveries on to that port would "
                "pass them to another program. Free it, or set IPAAS_CONSOLE_PORT and let the proxy pass on to that "
                "one; `--without ingress` where an ingress runs on its own."
            )

    def environment(self) -> dict[str, str]:
        """What every program gets on top of our own environment: this installation, whatever ours says."""
        shown = {"IPAAS_PUBLIC_URL": self.public_url} if self._own_senders else {}
        return {**self._home().environment(), **shown}

    def _home(self) -> DagsterHome:
        return DagsterHome(self.settings, dagster_url=self.urls.dagster, **self._ports)

    def _ingress(self) -> Program:
        return Program(
            name="ingress",
            title="Webhook ingress",
            command=python("-m", "console.cli.main", "ingress", "--port", str(self.ingress_port)),
            environment=self.environment,
            folder=REPOSITORY,
            answers=lambda _pid: _listens(self.ingress_port),
            url=f"{self.public_url}/hooks/",
            wave=_TAKES_IN,
        )

    def _service(self, service: Service) -> Program:
        return Program(
            name=service.name,
            title=service.title,
            command=service.command,
            environment=self.environment,
            folder=self._home().path,
            answers=lambda _pid: service.answers(),
            url=service.url or "",
            wave=_CODE if service.name == "code-server" else _ASKS,
            # Who asks it too early fills the screen with Dagster's stack traces. The demo looks only after its sync.
            after="" if service.name == "code-server" or self._own_senders else "code-server",
            grace=_DAGSTER_GRACE,
        )

    def _worker(self, lane: str) -> Program:
        return Program(
            name=f"worker-{lane}",
            title=f"Worker of the lane {lane}",
            command=python("-m", "console.cli.main", "worker", "--lane", lane),
            environment=self.environment,
            folder=REPOSITORY,
            answers=self._beats.fresh,
            wave=_LIVE,
        )

    def _reporter(self) -> Program:
        return Program(
            name="reporter",
            title="Reporter",
            command=python("-m", "console.cli.main", "reporter"),
            environment=self.environment,
            folder=REPOSITORY,
            answers=self._beats.fresh,
            wave=_LIVE,
        )


class DatabaseGuard:
    """Starts the embedded server again when it has gone, through a fresh process."""

    def __init__(
        self,
        installation: Installation,
        say: Say,
        moved: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._installation = installation
        self._say = say
        self._moved = moved
        self._clock = clock
        self._server = EmbeddedServer(installation.settings.state_dir)
        self._backoff = Backoff()
        self._helper: Process | None = None
        self._next = 0.0
        self._well_since = clock()

    def look(self) -> None:
        """Start it where it is gone; never waits for it."""
        now = self._clock()
        if self._helper is not None:
            if self._helper.ended:
                self._came_back(self._helper, now)
            return
        if now < self._next:
            return
        self._next = now + _LOOK_AT_DATABASE
        if self._server.process_id() is None:
            self._say("The embedded database is gone; it is started again")
            settings = self._installation.settings
            self._helper = Process(
                "database",
                python("-m", "console.start_database"),
                log=settings.state_dir / "logs" / "database.log",
                environment=self._installation.environment(),
                folder=REPOSITORY,
            )

    def stop(self) -> None:
        """A helper that is under way is not left behind; the server it started is stopped as always, by its last user."""
        if self._helper is not None:
            self._helper.stop()

    def _came_back(self, helper: Process, now: float) -> None:
        self._helper = None
        pause = self._backoff.pause(lived=now - self._well_since)
        self._next = now + pause
        if helper.handle.returncode != 0:
            self._say(f"The embedded database did not start; again in {pause:.0f} s. {helper.last_words(3)}")
            return
        self._well_since = now
        self._say("The embedded database runs again")
        try:
            urls = self._server.start()
        except IpaasError as error:
            self._say(error.message)
            return
        if urls != self._installation.urls:
            self._installation.urls = urls
            self._say("It took another port, so everything is started again with that one")
            self._moved()


class _Beats:
    """Which processes of this machine give signs of life, asked no more than once a second for all of them."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._pids: frozenset[int] = frozenset()
        self._asked = 0.0

    def fresh(self, pid: int) -> bool:
        """Whether the process of this id gave one just now."""
        if time.monotonic() - self._asked > _LOOK_AT_BEATS:
            self._pids = run_async(self._ask())
            self._asked = time.monotonic()
        return pid in self._pids

    async def _ask(self) -> frozenset[int]:
        database = Database(self._url(), pool_size=1)
        try:
            alive = await workers.alive(database)
        except IpaasError:
            return frozenset()  # the guard of the database says what is wrong
        finally:
            await database.close()
        return frozenset(each.pid for each in alive if each.host == socket.gethostname())


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def supervise(supervisor: Supervisor, installation: Installation, say: Say) -> None:
    """Let the supervisor look after the database as well, where it is ours."""
    if installation.settings.database_url is None:
        everything = partial(supervisor.restart, *NAMES)
        supervisor.guard(DatabaseGuard(installation, say, everything))


def log_folder(settings: Settings) -> Path:
    """Where each process writes its log."""
    return settings.state_dir / "logs"
