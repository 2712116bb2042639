"""`ipaas systems`: which system is left alone and why, and how a person ends it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def sql(fresh_database):
    plain = make_url(fresh_database.owner).set(drivername="postgresql")
    with psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True) as connection:
        yield connection.execute


@pytest.fixture
def ipaas(fresh_database, dagster_database_url, tmp_path):
    environment = {
        **os.environ,
        "IPAAS_DATABASE_URL": fresh_database.app,
        "IPAAS_DATABASE_OWNER_URL": fresh_database.owner,
        "IPAAS_DATABASE_DAGSTER_URL": dagster_database_url,
        "IPAAS_STATE_DIR": str(tmp_path),
    }

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "console.cli.main", "systems", *arguments],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_system_that_is_left_alone_is_shown_with_its_reason_and_tried_again_by_hand(ipaas, sql):
    sql(
        "INSERT INTO systems (system, connector, document, text)"
        """ VALUES ('bc', 'calibration', '{"system": "bc", "connector": "calibration"}', '')"""
    )
    sql(
        "INSERT INTO breakers (system, failures, opened_at, open_until, error)"
        " VALUES ('bc', 5, now(), now() + interval '200 seconds', 'bc GET customers was answered with 503.')"
    )
    listed = ipaas("list")
    assert "System bc failed 5 times in a row, so it is left alone" in listed.stdout
    assert "bc GET customers was answered with 503." in listed.stdout
    (row,) = json.loads(ipaas("list", "--json").stdout)
    assert (row["breaker"]["state"], row["breaker"]["failures"]) == ("open", 5)
    assert 100 < row["breaker"]["seconds_left"] <= 200

    assert "closed; requests are sent again" in ipaas("reset-breaker", "bc").stdout
    assert "nothing to do" in ipaas("reset-breaker", "bc").stdout
    (row,) = json.loads(ipaas("list", "--json").stdout)
    assert row["breaker"] == {"state": "closed", "failures": 0}


def test_a_system_that_is_not_there_is_an_error_that_says_where_to_look(ipaas):
    result = ipaas("reset-breaker", "bc")
    assert result.returncode == 1
    assert "There is no system 'bc'. `ipaas systems list` shows those there are." in result.stderr
