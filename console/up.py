"""The Dagster processes of one installation: started, announced as each answers, stopped together."""

from __future__ import annotations

import time
from collections.abc import Callable

from console.cli.opening import open_database
from console.dagster_home import DagsterHome, Service
from console.processes import Process, Processes, free_port
from ipaas_resources.core.errors import StopError
from ipaas_resources.settings import Settings

Say = Callable[[str], None]

#: Seconds that loading the definitions may take on a busy machine.
_START_LIMIT = 180


class Dagster:
    """Code server, webserver and daemon of one installation."""

    def __init__(self, processes: Processes, settings: Settings, say: Say) -> None:
        urls = open_database(settings)
        self._say = say
        self._processes = processes
        self._home = DagsterHome(
            settings,
            dagster_url=urls.dagster,
            webserver_port=free_port(settings.webserver_port, "the Dagster UI", say),
            code_server_port=free_port(settings.code_server_port, "the Dagster code server", say),
        )
        self._home.prepare()
        self._started: list[tuple[Service, Process]] = []

    def start(self) -> None:
        """Start the processes; the others find the code server by themselves when it answers."""
        for service in self._home.services():
            process = self._processes.start(
                service.name, service.command, environment=service.environment, folder=self._home.path
            )
            self._started.append((service, process))

    def announce(self) -> None:
        """Wait for each process and name it as it answers.

        Raises:
            StopError: one of them ended or did not answer in time; the end of its log is in the message.
        """
        until = time.monotonic() + _START_LIMIT
        for service, process in self._started:
            while not service.answers():
                if process.ended or time.monotonic() > until:
                    raise StopError(
                        f"{service.title} did not come up; its log {process.log} ends with:\n{process.last_words()}"
                    )
                time.sleep(0.1)
            self._say(f"{service.title}: {service.url or 'running'}")


def start_dagster(processes: Processes, settings: Settings, say: Say) -> Dagster:
    """Start Dagster; `announce()` of the result waits until it answers."""
    dagster = Dagster(processes, settings, say)
    dagster.start()
    return dagster
