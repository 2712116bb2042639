"""The live lane as a user has it: changes at running products, real processes, judged by the products' own ledgers.

The tests stand in the order of one story; each brings up what it needs. Nothing is judged by time: what was measured is
printed (`pytest -s`) and stands in docs/live.md.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.judging import Verdict
from benchmarks.sending import milliseconds, percentile
from tests.dagster.test_processes import ask
from tests.e2e.live_world import CLIENTS, COMPANY, World, until
from tests.e2e.running import simulator

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

ACCOUNTS = "crm/accounts/lab_clients__account"
CONTACTS = "crm/contacts/lab_vendors__contact"
#: Seconds that Business Central is told to gather changes before it tells of them; the product takes about 30.
DELAY = 0.2


def told(line: str) -> None:
    """A figure for whoever runs this by hand."""
    sys.stdout.write(f"\n  {line}")
    sys.stdout.flush()


def waits(verdict: Verdict) -> str:
    p50, p95, longest = (milliseconds(percentile(verdict.waits, each)) for each in (0.5, 0.95, 1.0))
    return f"p50 {p50} ms, p95 {p95} ms, longest {longest} ms from the change to the write that holds it"


@pytest.fixture(scope="module")
def world(databases: Any, _template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("live-lane")
    with simulator(folder / "simulator", "--world", "empty", "--bulk", "3") as client:
        made = World(client, databases, _template, folder)
        try:
            made.set_up(folder / "flows")
            yield made
        finally:
            made.down()


def test_without_dagster_nothing_is_lost_and_its_catalogue_catches_up_afterwards(world: World) -> None:
    world.dagster.down()
    alone = world.stir(240)
    # Nothing of Dagster runs, and nobody is there who would tell it anything.
    assert ask(world.webserver_url, "{ version }") == {}
    assert world.sql("SELECT 1 FROM workers WHERE role = 'reporter'") == []

    began = time.monotonic()
    world.start_dagster()
    settled = {"created": CLIENTS, "updated": alone.writes - CLIENTS}

    def shown() -> bool:
        events = world.materializations(ACCOUNTS)
        return settled == {name: sum(each[name] for each in events) for name in settled}

    until(f"{settled} in the catalogue", shown)
    events = world.materializations(ACCOUNTS)
    assert {(each["lane"], each["run"]) for each in events} == {("live", "")}
    until("the source in the catalogue", lambda: world.materializations("cal/clients"))
    assert world.runs("lab_clients") == []

    beside = world.stir(120)
    told(f"240 changes without Dagster: {waits(alone)}")
    told(f"120 changes beside Dagster:  {waits(beside)}")
    told(
        f"All of them in the catalogue {events[0]['at'] - began:.1f} s after Dagster was started, by {len(events)} event"
    )


def test_a_change_at_the_lab_is_in_the_target_and_in_the_catalogue(world: World) -> None:
    world.start_dagster()
    assert world.materializations(CONTACTS) == []  # the first question is slow, and not the matter

    vendor = world.client.add("cal", "vendors", {"CompanyName": "Torque Ltd."})
    (event,) = until("the catalogue", lambda: world.materializations(CONTACTS))
    seen = time.monotonic()
    delivery = world.delivery("cal", f"vendors {vendor}")
    written = world.written(f"lab-{vendor}", "Torque Ltd.")
    assert delivery["changed"] <= delivery["at"] <= written < event["at"] <= seen
    assert (event["created"], event["items"], event["lane"], event["run"]) == (1, 1, "live", "")
    told(
        f"A new vendor at the lab: in the target after {written - delivery['changed']:.3f} s, in Dagster's catalogue after "
        f"{event['at'] - delivery['changed']:.3f} s, seen there over GraphQL after {seen - delivery['changed']:.3f} s"
    )

    world.client.change("cal", "vendors", vendor, {"CompanyName": "Torque and Sons Ltd."})
    changed = world.written(f"lab-{vendor}", "Torque and Sons Ltd.")
    second = world.delivery("cal", f"vendors {vendor}", 1)
    assert second["changed"] <= second["at"] <= changed
    told(f"A change of it: in the target after {changed - second['changed']:.3f} s")


def test_a_change_at_business_central_is_in_the_target_once_it_has_told_of_it(world: World) -> None:
    customer = world.client.record("bc", "customers", "number", "B00000001", COMPANY)
    world.client.set_notification_delay("bc", DELAY)

    world.client.change("bc", "customers", customer["id"], {"displayName": "Renamed"}, COMPANY)

    written = world.written(f"{COMPANY}-c-B00000001", "Renamed")
    delivery = world.delivery("bc", f"customers({customer['id']})")
    assert delivery["changed"] <= delivery["at"] <= written
    told(
        f"A change at Business Central: told of after {delivery['at'] - delivery['changed']:.3f} s, in the target "
        f"{written - delivery['at']:.3f} s after that"
    )


def test_a_subscription_that_was_deleted_is_made_again_and_the_missed_change_arrives(world: World) -> None:
    missed = world.missed

    written = world.written(f"{COMPANY}-v-V1", missed.name)

    (made,) = [
        each for each in world.client.subscriptions("bc") if each["resource"] == missed.before["resource"]
    ]
    assert made["id"] != missed.before["id"]
    assert made["url"] == missed.before["url"]
    assert not any(
        missed.vendor in about for each in world.client.deliveries("bc") for about in each["about"]
    )
    listed = json.loads(world.live.must("subscriptions", "list", "--json"))
    assert Counter(each["state"] for each in listed) == {"by hand": 1, "live": 2}
    told(
        f"Deleted at Business Central: made again, and the change of the gap written, after {written - missed.at:.1f} s"
    )

    # And it tells of what comes now.
    world.client.set_notification_delay("bc", DELAY)
    world.client.change("bc", "vendors", missed.vendor, {"displayName": "Told again"}, COMPANY)
    again = world.written(f"{COMPANY}-v-V1", "Told again")
    assert world.delivery("bc", f"vendors({missed.vendor})")["at"] <= again


def test_without_workers_the_daemon_takes_a_webhook_to_the_target_by_a_run(world: World) -> None:
    world.start_dagster()
    world.live.down()
    world.live.up("dagster", "workers", answering=["Webhook ingress"])
    assert world.sql("SELECT 1 FROM workers WHERE role = 'worker'") == []
    before = world.runs("lab_clients")

    plain = world.stir(1)

    new = until(
        "the run's end",
        lambda: [
            each for each in world.runs("lab_clients") if each not in before and each["status"] == "SUCCESS"
        ],
    )
    assert world.materializations(ACCOUNTS)[0]["run"] in {each["runId"] for each in new}
    assert {tag["key"]: tag["value"] for tag in new[0]["tags"]}["ipaas/trigger"] == "webhook"
    told(f"By plain Dagster, without workers: in the target after {plain.waits[0]:.1f} s")
