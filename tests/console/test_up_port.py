"""`ipaas up` where something else has the port that products reach the ingress at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from console.web.ingress.serving import listen
from ipaas_resources.store.server import DatabaseUrls

REPOSITORY = Path(__file__).resolve().parents[2]


def test_deliveries_are_never_left_to_another_program_at_the_public_port(
    fresh_database: DatabaseUrls, dagster_database_url: str, tmp_path: Path
) -> None:
    with listen(0) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "console.cli.main", "up", "--without", "dagster", "--without", "workers"],
            env={
                **os.environ,
                "IPAAS_DATABASE_URL": fresh_database.app,
                "IPAAS_DATABASE_OWNER_URL": fresh_database.owner,
                "IPAAS_DATABASE_DAGSTER_URL": dagster_database_url,
                "IPAAS_STATE_DIR": str(tmp_path),
                "IPAAS_CONSOLE_PORT": port,
                "IPAAS_PUBLIC_URL": "https://ipaas.example.com",
            },
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert done.returncode == 1
    assert f"ipaas: Port {port} is taken, and IPAAS_PUBLIC_URL is set" in done.stderr
    assert not (tmp_path / "logs" / "ingress.log").exists()
