"""kill -9 at every step from claim to settle, three times each, on real processes: nothing lost, nothing doubled.

Promise 5: restart anywhere, a kill costs a retry and no more. Both ways of making a create repeatable are in play:
accounts by an id that we choose, clients of the lab by their natural key.
"""

import os

import pytest

from tests.e2e.running import KILLED, Platform, hasten, simulator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")

FLOW = """
flow: customers_out
source: {system: bc, entity: customers}
targets:
  account:
    system: crm
    entity: accounts
    key: {accountnumber: number}
    on_delete: deactivate
    fields: {name: displayName, address1_city: city}
  client:
    system: cal
    entity: clients
    key: {LegacyId: number}
    fields: {CompanyName: displayName}
"""
POINTS = ("K04", "K05", "K06", "K07", "K08", "K09", "K10", "K11", "K12")
SCOPE = "bulk"


class Customers:
    """What the source holds, and so what the targets must hold."""

    def __init__(self, client):
        self.client = client
        self.made = 0
        self.wanted = {one["number"]: one["displayName"] for one in client.records("bc", "customers", SCOPE)}
        self.ids = {one["number"]: one["id"] for one in client.records("bc", "customers", SCOPE)}

    def move(self):
        """Three new customers, three changed ones."""
        for _ in range(3):
            self.made += 1
            number = f"N{self.made:05d}"
            name = f"New {self.made}"
            self.ids[number] = self.client.add(
                "bc", "customers", {"number": number, "displayName": name, "city": "Oslo"}, SCOPE
            )
            self.wanted[number] = name
        for number in sorted(self.wanted)[:3]:
            self.made += 1
            self.wanted[number] = f"Changed {self.made}"
            self.client.change(
                "bc", "customers", self.ids[number], {"displayName": self.wanted[number]}, SCOPE
            )

    def check(self):
        self._compare([(one["accountnumber"], one["name"]) for one in self.client.records("crm", "accounts")])
        self._compare(
            [(one["LegacyId"], one["CompanyName"]) for one in self.client.records("cal", "clients")]
        )

    def _compare(self, found):
        assert [pair for pair in found if self.wanted.get(pair[0]) != pair[1]] == [], "stale or foreign"
        assert len(found) == len(self.wanted), "missing or doubled"


@pytest.fixture(scope="module")
def world(databases, _template, tmp_path_factory):
    urls = databases.make(template=_template)
    folder = tmp_path_factory.mktemp("crash")
    with simulator(folder / "simulator", "--world", "empty", "--bulk", "25", "--search-lag", "0.5") as client:
        hasten(folder / "simulator" / "systems")
        platform = Platform(
            urls,
            folder / "state",
            IPAAS_LEASE_SECONDS="1.5",
            IPAAS_PATIENCE_SECONDS="20",
            IPAAS_LOG_LEVEL="WARNING",
        )
        (folder / "flows").mkdir()
        (folder / "flows" / "flow.yaml").write_text(FLOW, encoding="utf-8")
        platform.must("systems", "apply", str(folder / "simulator" / "systems"))
        platform.must("apply", str(folder / "flows"))
        yield platform, Customers(client)
    databases.drop(urls.owner)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_costs_a_retry_and_no_more(world, point):
    platform, customers = world
    for number in range(3):
        customers.move()
        before = "-" if number == 1 and point != "K10" else ""
        done = platform.call("run", "customers_out", IPAAS_KILL_AT=f"{before}{point}:1")
        assert done.returncode == KILLED, f"{point} was not passed: {done.stdout} {done.stderr}"
    result = platform.run("customers_out")
    assert (result["error"], result["pending"], result["dead"], result["review"]) == ("", 0, 0, 0)
    customers.check()
    again = platform.run("customers_out", "--full")
    assert again["counts"]["writes"] == 0
