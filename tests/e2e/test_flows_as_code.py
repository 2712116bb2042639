"""A flow's life at the command line: plan, apply, a broken save, history, going back, export. Each step as a user types it."""

import json
import re

import pytest

from tests.e2e.running import Platform, hasten, simulator

FLOW = """# Customers become accounts.
flow: customers_out
source: {system: bc, entity: customers}
targets:
  account:
    system: crm
    entity: accounts
    key: {accountnumber: number}
    fields:
      name: displayName
      address1_city: city   # as typed
"""
UPPER = FLOW.replace("address1_city: city", 'address1_city: {python: "city.upper()"}')
BROKEN = FLOW.replace("city   #", "citty   #")


@pytest.fixture(scope="module")
def desk(databases, _template, tmp_path_factory):
    """A user's desk: a running simulator, a platform, a folder of flows in step."""
    urls = databases.make(template=_template)
    folder = tmp_path_factory.mktemp("code")
    with simulator(folder / "simulator", "--world", "empty", "--bulk", "25", "--search-lag", "0") as client:
        hasten(folder / "simulator" / "systems")
        platform = Platform(urls, folder / "state")
        platform.must("systems", "apply", str(folder / "simulator" / "systems"))
        flows = folder / "flows"
        flows.mkdir()
        yield platform, flows, client
    databases.drop(urls.owner)


def test_a_flow_is_planned_applied_broken_and_brought_back(desk):
    platform, flows, client = desk
    file = flows / "customers_out.yaml"
    city = {one["number"]: one["city"] for one in client.records("bc", "customers", "bulk")}

    # A new flow: the plan says so, counts what it would create, and a pipeline sees exit code 2.
    file.write_text(FLOW, encoding="utf-8")
    new = platform.call("plan", str(flows), "--json")
    assert new.returncode == 2, new.stderr
    plan = json.loads(new.stdout)
    assert plan["flows"][0]["records"]["counts"] == {"account": {"create": 25}}
    assert plan["reads"] > 0
    platform.must("apply", str(flows), "--reason", "first")
    assert platform.run("customers_out")["counts"]["outcomes"]["created"] == 25
    same = platform.call("plan", str(flows))
    assert (same.returncode, same.stdout.splitlines()[0]) == (0, "unchanged: customers_out")

    # A changed rule: the plan names exactly the records that the run then writes.
    file.write_text(UPPER, encoding="utf-8")
    before = client.writes()
    changed = platform.call("plan", str(flows), "--json", "--samples", "100")
    assert changed.returncode == 2
    (flow,) = json.loads(changed.stdout)["flows"]
    assert [change["path"] for change in flow["changes"]] == [
        ["targets", "account", "fields", "address1_city"]
    ]
    named = {one["record"] for one in flow["records"]["samples"]}
    assert len(named) == sum(1 for name in city.values() if name != name.upper()) == 25
    assert client.writes() == before
    assert "25 known records go through their flow again" in platform.must(
        "apply", str(flows), "--reason", "post"
    )
    assert platform.run("customers_out")["counts"]["outcomes"]["updated"] == 25

    # Broken on purpose: one sentence with place and suggestion, and the running flow stays.
    file.write_text(BROKEN, encoding="utf-8")
    broken = platform.call("apply", str(flows))
    assert broken.returncode == 1
    assert re.search(r"customers_out.yaml:11: .*'citty' does not exist; did you mean city\?", broken.stderr)
    assert "city.upper()" in platform.must("flows", "show", "customers_out")

    # Who did what, and back.
    history = json.loads(platform.must("flows", "history", "customers_out", "--json"))
    assert [(one["version"], one["active"], one["reason"]) for one in history] == [
        (2, True, "post"),
        (1, False, "first"),
    ]
    diff = platform.must("flows", "diff", "customers_out")
    assert "1 changed" in diff.splitlines()[0]
    assert "-      address1_city: city   # as typed" in diff.splitlines()
    assert "customers_out: version 3" in platform.must("flows", "rollback", "customers_out")
    platform.run("customers_out")
    assert {one["accountnumber"]: one["address1_city"] for one in client.records("crm", "accounts")} == city

    # What comes out is what went in.
    platform.must("export", str(flows.parent / "exported"))
    assert (flows.parent / "exported" / "customers_out.yaml").read_bytes() == FLOW.encode()


def test_what_is_not_there_is_named(desk):
    platform, _, _ = desk
    commands = {
        ("flows", "show", "nowhere"): "There is no flow 'nowhere'. `ipaas flows list` shows those there are.",
        (
            "flows",
            "history",
            "nowhere",
        ): "There is no flow 'nowhere'. `ipaas flows list` shows those there are.",
        ("flows", "diff", "nowhere"): "There is no flow 'nowhere'. `ipaas flows list` shows those there are.",
        (
            "flows",
            "rollback",
            "nowhere",
        ): "There is no flow 'nowhere'. `ipaas flows list` shows those there are.",
        (
            "flows",
            "disable",
            "nowhere",
        ): "There is no flow 'nowhere'. `ipaas flows list` shows those there are.",
    }
    for command in ("show", "rollback"):
        commands["lookups", command, "nowhere"] = (
            "There is no lookup table 'nowhere'. `ipaas lookups list` shows those there are."
        )
    ended = platform.together(*commands)
    assert [(done.returncode, done.stderr.strip()) for done in ended] == [
        (1, f"ipaas: {sentence}") for sentence in commands.values()
    ]
