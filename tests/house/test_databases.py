"""The databases that tests get are what production has: the same roles, nobody else let in, nothing left behind."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.engine import make_url


def log_in(url: str, **changes: str) -> psycopg.Connection:
    plain = make_url(url).set(drivername="postgresql", **changes)
    return psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True)


def test_each_test_has_a_database_of_its_own(fresh_database, database, empty_database):
    names = {make_url(urls.owner).database for urls in (fresh_database, database, empty_database)}
    assert len(names) == 3
    with log_in(fresh_database.owner) as owner:
        owner.execute("CREATE TABLE mine (id int)")
    with log_in(database.owner) as other:
        assert other.execute("SELECT to_regclass('mine')").fetchone() == (None,)


def test_the_app_is_let_in_and_dagster_is_not(fresh_database):
    with log_in(fresh_database.app) as app:
        assert app.execute("SELECT current_user").fetchone() == ("ipaas_app",)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        log_in(fresh_database.dagster, database=make_url(fresh_database.app).database)


def test_dagster_gets_a_database_that_it_owns(dagster_database_url):
    with log_in(dagster_database_url) as dagster:
        dagster.execute("CREATE TABLE runs (id int)")


def test_a_dropped_database_is_gone_even_while_somebody_is_connected(databases):
    urls = databases.make()
    with log_in(urls.owner) as forgotten:
        databases.drop(urls.owner)
        with pytest.raises(psycopg.OperationalError):
            forgotten.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        log_in(urls.owner)
