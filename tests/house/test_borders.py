"""What the linters cannot say about the house, and that the house keeps its own rules."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
REPLAYABLE = ("ipaas_assets/sync", "ipaas_resources/net")


def test_the_engine_and_net_do_not_use_the_built_in_hash():
    """It differs from process to process; ruff bans imports only, and this one needs none."""
    found = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for room in REPLAYABLE
        for path in (REPOSITORY / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hash"
    ]
    assert found == []


def test_the_clock_of_the_machine_is_refused_in_the_engine_and_in_net_and_allowed_elsewhere():
    code = "import time\n\nMOMENT = time.time()\n"

    def lint(name: str) -> int:
        command = ["ruff", "check", "--select=TID251", f"--stdin-filename={name}", "-"]
        return subprocess.run(
            [Path(sys.executable).parent / command[0], *command[1:]],
            input=code,
            cwd=REPOSITORY,
            text=True,
            capture_output=True,
        ).returncode

    assert [lint(f"{room}/module.py") for room in REPLAYABLE] == [1, 1]
    assert lint("sensors/module.py") == 0


def test_every_package_marker_is_empty():
    tracked = [path for path in REPOSITORY.rglob("__init__.py") if ".venv" not in path.parts]
    assert [str(path) for path in tracked if path.read_text(encoding="utf-8").strip()] == []


def test_posix_and_windows_are_imported_in_one_module_only():
    one = REPOSITORY / "ipaas_resources" / "core" / "platform.py"
    system_modules = {"fcntl", "grp", "pwd", "resource", "termios", "msvcrt", "winreg", "uvloop"}
    found = []
    for path in REPOSITORY.rglob("*.py"):
        if path == one or ".venv" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found += [f"{path.relative_to(REPOSITORY)}: {name}" for name in names if name in system_modules]
    assert found == []


def test_the_lock_file_names_versions_and_no_place_to_get_them_from():
    lines = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert [
        line for line in lines if not re.match(r"^[a-z0-9.-]+(\[[a-z,]+\])?==[^ /:]+( ; .+)?$", line)
    ] == []


@pytest.mark.parametrize("package", ["dagster_graphql", "dagster_postgres", "dagster_webserver"])
def test_dagster_and_its_libraries_are_of_one_release(package):
    # That all four can be imported beside each other, without a warning, is part of the test.
    import dagster
    import dagster_graphql  # noqa: F401
    import dagster_postgres  # noqa: F401
    import dagster_webserver  # noqa: F401

    # Dagster counts 1.x.y, some of its libraries 0.(x + 16).y.
    assert metadata.version(package).split(".")[-1] == dagster.__version__.split(".")[-1]
