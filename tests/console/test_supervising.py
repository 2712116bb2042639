"""The supervisor with real processes: what dies is started again, what is stopped is gone, a killed one leaves no trace."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from console import supervising
from console.log_stream import LogStream
from console.running import Running, RunningProgram, Started, read_running
from console.supervising import Backoff, Program, Supervisor
from ipaas_resources.core.errors import StopError

POSIX = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
FOREVER = "import time\nprint('started', flush=True)\ntime.sleep(600)"
STUBBORN = "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(600)"


class Steps:
    """Time for the supervisor: it moves when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def program(folder: Path, name: str, code: str = FOREVER, *, wave: int = 0, grace: float = 5) -> Program:
    log = folder / "logs" / f"{name}.log"
    return Program(
        name=name,
        title=name.title(),
        command=[sys.executable, "-c", code],
        environment=lambda: {"IPAAS_TEST": name},
        folder=folder,
        answers=lambda _pid: log.exists() and log.stat().st_size > 0,
        wave=wave,
        grace=grace,
    )


def until(what: str, look: Callable[[], object], *, limit: float = 30) -> None:
    end = time.monotonic() + limit
    while not look():
        assert time.monotonic() < end, f"{what}: not within {limit} s"
        time.sleep(0.02)


def pid_of(supervisor: Supervisor, name: str) -> int | None:
    (found,) = [each for each in supervisor.running() if each.name == name]
    return found.started.pid if found.started else None


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str], steps: Steps) -> Iterator[Supervisor]:
    with Supervisor(tmp_path, said.append, clock=steps) as made:
        yield made


def test_the_pauses_are_as_their_example_says() -> None:
    assert doctest.testmod(supervising).failed == 0
    assert doctest.testmod(supervising).attempted > 0


def test_a_program_is_named_once_when_it_answers(
    supervisor: Supervisor, tmp_path: Path, said: list[str]
) -> None:
    supervisor.start(program(tmp_path, "ingress"))
    supervisor.watch(until=supervisor.all_answered)
    supervisor.look()

    assert said == ["Ingress: running"]


def test_a_program_first_starts_when_the_one_that_it_asks_answers(
    supervisor: Supervisor, tmp_path: Path, said: list[str]
) -> None:
    asks = msgspec.structs.replace(program(tmp_path, "webserver"), after="code")
    supervisor.start(asks, program(tmp_path, "code"))
    assert pid_of(supervisor, "webserver") is None
    supervisor.watch(until=supervisor.all_answered)

    assert said == ["Code: running", "Webserver: running"]


def test_a_program_that_never_answers_holds_another_one_up_for_a_minute_at_most(
    supervisor: Supervisor, tmp_path: Path, steps: Steps
) -> None:
    mute = msgspec.structs.replace(program(tmp_path, "code"), answers=lambda _pid: False)
    supervisor.start(mute, msgspec.structs.replace(program(tmp_path, "webserver"), after="code"))
    supervisor.look()
    assert pid_of(supervisor, "webserver") is None
    steps.now += 61
    supervisor.look()
    assert pid_of(supervisor, "webserver") is not None


def test_a_killed_program_is_started_again_after_its_pause_and_not_before(
    supervisor: Supervisor, tmp_path: Path, said: list[str], steps: Steps
) -> None:
    supervisor.start(program(tmp_path, "ingress"), program(tmp_path, "worker"))
    supervisor.watch(until=supervisor.all_answered)
    before, beside = pid_of(supervisor, "ingress"), pid_of(supervisor, "worker")
    assert before is not None

    psutil.Process(before).kill()
    until("its death is seen", lambda: supervisor.look() or pid_of(supervisor, "ingress") is None)
    steps.now += 0.9
    supervisor.look()
    assert pid_of(supervisor, "ingress") is None
    steps.now += 0.2
    supervisor.look()

    after = pid_of(supervisor, "ingress")
    assert after not in {None, before}
    assert pid_of(supervisor, "worker") == beside
    (line,) = [each for each in said if "ended" in each]
    assert "started again in 1 s" in line
    (entry,) = [each for each in supervisor.running() if each.name == "ingress"]
    assert entry.restarts == 1


def test_a_program_that_ends_at_once_is_tried_less_and_less_often_and_its_last_words_are_shown(
    supervisor: Supervisor, tmp_path: Path, said: list[str], steps: Steps
) -> None:
    supervisor.start(program(tmp_path, "broken", "raise SystemExit('no such table')"))
    for _ in range(4):
        until("its end", lambda: supervisor.look() or pid_of(supervisor, "broken") is None)
        steps.now += 61  # dead for a minute is not alive for a minute
        supervisor.look()

    ended = [line for line in said if "ended" in line]
    pauses = [line.partition(" again in ")[2].partition(";")[0].strip() for line in ended]
    assert pauses == ["1 s", "2 s", "4 s", "8 s"]
    assert all("exit code 1" in line for line in ended)
    # Said once: it dies of the same each time.
    assert ["no such table" in line for line in ended] == [True, False, False, False]


def test_a_command_that_is_not_there_does_not_stop_the_others(
    supervisor: Supervisor, tmp_path: Path, said: list[str]
) -> None:
    good = program(tmp_path, "good")
    supervisor.start(
        Program(
            name="missing",
            title="Missing",
            command=[str(tmp_path / "nowhere")],
            environment=dict,
            folder=tmp_path,
            answers=lambda _pid: True,
        ),
        good,
    )
    until("the good one", lambda: supervisor.look() or "Good: running" in said)

    assert any(line.startswith("Missing could not be started") for line in said)


def test_leaving_stops_the_last_wave_first_and_leaves_nothing(tmp_path: Path, said: list[str]) -> None:
    order = tmp_path / "order"
    code = (
        "import os, signal, sys, time\n"
        "def end(*_):\n"
        f"    open({str(order)!r}, 'a').write(os.environ['IPAAS_TEST'] + '\\n')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('started', flush=True)\n"
        "time.sleep(600)"
    )
    with Supervisor(tmp_path, said.append) as supervisor:
        supervisor.start(
            program(tmp_path, "ingress", code),
            program(tmp_path, "daemon", code, wave=1),
            program(tmp_path, "worker", code, wave=2),
        )
        supervisor.watch(until=supervisor.all_answered)
        pids = [pid_of(supervisor, name) for name in ("ingress", "daemon", "worker")]
        assert read_running(tmp_path) is not None

    assert order.read_text().split() == ["worker", "daemon", "ingress"]
    assert all(pid is not None and is_gone(pid) for pid in pids)
    assert read_running(tmp_path) is None


@POSIX
def test_a_program_that_does_not_end_is_killed_after_its_grace(tmp_path: Path, said: list[str]) -> None:
    with Supervisor(tmp_path, said.append) as supervisor:
        supervisor.start(program(tmp_path, "stubborn", STUBBORN, grace=0.2))
        supervisor.watch(until=supervisor.all_answered)
        pid = pid_of(supervisor, "stubborn")

    assert pid is not None
    assert is_gone(pid)


@POSIX
def test_a_second_interruption_ends_everything_at_once(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int | None] = []
    wait = subprocess.Popen.wait

    def interrupted(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is not None and timeout > 1:
            raise KeyboardInterrupt
        return wait(self, timeout)

    def story() -> None:
        with Supervisor(tmp_path, said.append) as supervisor:
            supervisor.start(*(program(tmp_path, name, STUBBORN, grace=600) for name in ("first", "second")))
            supervisor.watch(until=supervisor.all_answered)
            pids.extend(pid_of(supervisor, name) for name in ("first", "second"))
            monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        story()

    assert all(pid is not None and is_gone(pid) for pid in pids)
    assert read_running(tmp_path) is None


def test_a_second_supervisor_of_one_state_folder_is_refused(
    supervisor: Supervisor, tmp_path: Path, said: list[str]
) -> None:
    supervisor.start(program(tmp_path, "ingress"))

    with pytest.raises(StopError, match=f"runs already .* \\(process {os.getpid()}\\)"):
        Supervisor(tmp_path, said.append).__enter__()


@POSIX
def test_what_a_killed_supervisor_left_is_ended_by_the_next_one(tmp_path: Path, said: list[str]) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from console.supervising import Program, Supervisor\n"
        "folder = Path(sys.argv[1])\n"
        "with Supervisor(folder, print) as supervisor:\n"
        "    supervisor.start(Program(name='left', title='Left', command=[sys.executable, '-c', "
        f"{FOREVER!r}], environment=dict, folder=folder, answers=lambda pid: True))\n"
        "    print('up', flush=True)\n"
        "    supervisor.watch()\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"up\n"
    running = read_running(tmp_path)
    assert running is not None
    left = running.programs[0].started
    assert left is not None
    killed.kill()
    killed.wait()
    killed.stdout.close()
    assert left.process() is not None

    with Supervisor(tmp_path, said.append):
        assert left.process() is None

    assert said == ["Ended what a supervisor that was killed had left: left"]


@POSIX
def test_a_later_process_of_the_same_id_is_not_mistaken_for_the_one_written_down(tmp_path: Path) -> None:
    mine = Started(pid=os.getpid(), created=1.0)
    written = Running(
        host=socket.gethostname(), supervisor=mine, programs=[RunningProgram(name="x", started=mine)]
    )
    (tmp_path / "up.json").write_bytes(msgspec.json.encode(written))
    said: list[str] = []
    with Supervisor(tmp_path, said.append):
        pass

    assert said == []


def test_the_stream_shows_each_line_under_the_name_of_its_process(tmp_path: Path) -> None:
    shown = io.StringIO()
    old = tmp_path / "logs" / "talker.log"
    old.parent.mkdir()
    old.write_text("of an earlier start\n")
    code = "print('one')\nprint('two')\nprint('no end', end='')"
    with (
        LogStream(width=8, to=shown) as stream,
        Supervisor(tmp_path, stream.say, stream=stream) as supervisor,
    ):
        supervisor.start(program(tmp_path, "talker", code))
        until("its end", lambda: supervisor.look() or pid_of(supervisor, "talker") is None)
        stream.say("enough")

    lines = shown.getvalue().splitlines()
    assert lines.index("talker  | one") < lines.index("talker  | two")
    assert "ipaas   | enough" in lines
    assert not any("earlier" in line for line in lines)
    assert "\x1b" not in shown.getvalue()


def test_a_healthy_minute_makes_the_next_death_the_first() -> None:
    backoff = Backoff()

    assert [backoff.pause(lived=lived) for lived in (0, 59, 60, 0)] == [1.0, 2.0, 1.0, 2.0]


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    yield
    mine = str(tmp_path)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            assert process.pid == os.getpid() or process.cwd() != mine, f"left behind: {process}"
