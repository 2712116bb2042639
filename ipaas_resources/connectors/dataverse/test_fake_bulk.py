"""The fake's bulk requests: the *Multiple messages and `$batch` of microsoft.md 2.6."""

import json
import re
import time
import uuid

import httpx
import pytest

from ipaas_resources.connectors.dataverse.tests import URL, FakeDataverse, read_to_the_end
from ipaas_resources.core.clock import ManualClock

ONE = "00000000-0000-0000-0000-000000000001"
TWO = "00000000-0000-0000-0000-000000000002"
ACCOUNT = "Microsoft.Dynamics.CRM.account"


@pytest.fixture
def fake():
    fake = FakeDataverse(clock=ManualClock())
    fake.tokens.accept("t")
    return fake


@pytest.fixture
async def http(fake):
    headers = {"authorization": "Bearer t", "content-type": "application/json"}
    async with httpx.AsyncClient(transport=fake.transport(), base_url=URL, headers=headers) as client:
        yield client


class TestMultiple:
    def targets(self, *bodies):
        return {"Targets": [{"@odata.type": ACCOUNT, **body} for body in bodies]}

    async def test_create_answers_the_ids_in_order(self, fake, http):
        body = self.targets({"accountid": TWO, "name": "b"}, {"accountid": ONE, "name": "a"})
        answer = await http.post("accounts/Microsoft.Dynamics.CRM.CreateMultiple", json=body)
        assert answer.json()["Ids"] == [TWO, ONE]
        assert [(e.kind, e.id) for e in fake.ledger.writes("accounts")] == [("create", TWO), ("create", ONE)]

    @pytest.mark.parametrize(
        "bad",
        [
            {"accountid": TWO, "name": "n" * 161},
            {"accountid": ONE, "name": "twice"},
            {"accountid": TWO, "@odata.type": None},
            {"accountid": TWO, "nosuch": 1},
        ],
    )
    async def test_it_is_all_or_nothing(self, fake, http, bad):
        body = self.targets({"accountid": ONE, "name": "a"}, bad)
        answer = await http.post("accounts/Microsoft.Dynamics.CRM.CreateMultiple", json=body)
        assert answer.is_client_error
        assert list(fake.sim_records("accounts", "")) == []
        assert fake.ledger.writes() == []

    async def test_a_missing_row_fails_an_update_of_many(self, fake, http):
        fake.sim_add("accounts", "", {"accountid": ONE, "name": "a"})
        body = self.targets({"accountid": ONE, "name": "b"}, {"accountid": TWO, "name": "b"})
        answer = await http.post("accounts/Microsoft.Dynamics.CRM.UpdateMultiple", json=body)
        assert answer.status_code == 404
        assert fake.sim_record("accounts", ONE)["name"] == "a"

    async def test_an_upsert_creates_deleted_rows_again(self, fake, http):
        fake.sim_add("accounts", "", {"accountid": ONE, "name": "a"})
        fake.sim_remove("accounts", "", ONE)
        answer = await http.post(
            "accounts/Microsoft.Dynamics.CRM.UpsertMultiple",
            json=self.targets({"accountid": ONE, "name": "b"}),
        )
        assert answer.status_code == 204
        assert fake.sim_record("accounts", ONE)["name"] == "b"

    async def test_tasks_offer_none_of_them(self, http):
        body = {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.task", "subject": "x"}]}
        assert (await http.post("tasks/Microsoft.Dynamics.CRM.CreateMultiple", json=body)).status_code == 404

    async def test_a_thousand_creates_cost_less_than_25_ms(self, http):
        def bodies():
            return [
                {
                    "accountid": str(uuid.uuid4()),
                    "name": "Laboratory",
                    "accountnumber": "A1",
                    "telephone1": "+44 1",
                    "address1_line1": "Street 1",
                    "address1_city": "Town",
                    "address1_postalcode": "X1",
                    "creditlimit": 1234.5,
                    "emailaddress1": "a@example.com",
                    "description": "d",
                    "statuscode": 1,
                }
                for _ in range(1000)
            ]

        spent = []
        for _ in range(7):
            content = json.dumps(self.targets(*bodies()))
            before = time.process_time()
            answer = await http.post("accounts/Microsoft.Dynamics.CRM.CreateMultiple", content=content)
            spent.append(time.process_time() - before)
            assert answer.status_code == 200
        assert min(spent) < 0.025


class TestBatch:
    def part(self, method, path, body=None, headers=""):
        text = f"{method} {path} HTTP/1.1\r\n{headers}Content-Type: application/json\r\n\r\n{json.dumps(body) if body else ''}"
        return f"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n{text}"

    def multipart(self, *parts, boundary="b"):
        return "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"

    def change_set(self, *members):
        numbered = [
            member.replace("binary\r\n", f"binary\r\nContent-ID: {number}\r\n")
            for number, member in enumerate(members, 1)
        ]
        return "Content-Type: multipart/mixed; boundary=c\r\n\r\n" + self.multipart(*numbered, boundary="c")

    async def send(self, http, *parts, prefer=""):
        headers = {"content-type": "multipart/mixed; boundary=b", "prefer": prefer}
        answer = await http.post("$batch", content=self.multipart(*parts), headers=headers)
        return answer, [int(status) for status in re.findall(r"HTTP/1\.1 (\d+)", answer.text)]

    async def test_each_part_stands_alone_when_told_to_go_on(self, fake, http):
        answer, statuses = await self.send(
            http,
            self.part("PATCH", f"/api/data/v9.2/accounts({ONE})", {"name": "a"}, "If-None-Match: *\r\n"),
            self.part("PATCH", f"/api/data/v9.2/accounts({ONE})", {"name": "b"}, "If-None-Match: *\r\n"),
            self.part("GET", f"{URL}accounts({ONE})?$select=name"),
            prefer="odata.continue-on-error",
        )
        assert answer.status_code == 200
        assert statuses == [204, 412, 200]

    async def test_it_ends_at_the_first_error_otherwise(self, fake, http):
        answer, statuses = await self.send(
            http,
            self.part("PATCH", f"/api/data/v9.2/accounts({ONE})", {"nosuch": "a"}),
            self.part("PATCH", f"/api/data/v9.2/accounts({TWO})", {"name": "b"}),
        )
        assert answer.status_code == 400
        assert statuses == [400]
        assert fake.ledger.writes() == []

    async def test_a_change_set_is_atomic(self, fake, http):
        fake.sim_add("accounts", "", {"accountid": TWO, "name": "before"})
        _, link = await read_to_the_end(http, "accounts?$select=name", prefer="odata.track-changes")
        _, statuses = await self.send(
            http,
            self.change_set(
                self.part("PATCH", f"/api/data/v9.2/accounts({ONE})", {"name": "a"}),
                self.part("PATCH", f"/api/data/v9.2/accounts({TWO})", {"name": "after"}),
                self.part("POST", "/api/data/v9.2/accounts", {"nosuch": 1}),
            ),
            prefer="odata.continue-on-error",
        )
        assert statuses == [400]
        assert fake.sim_record("accounts", TWO)["name"] == "before"
        assert len(list(fake.sim_records("accounts", ""))) == 1
        assert fake.ledger.writes() == []
        rows, _ = await read_to_the_end(http, link)
        assert rows == []

    async def test_content_ids_name_earlier_members(self, fake, http):
        _, statuses = await self.send(
            http,
            self.change_set(
                self.part("POST", "/api/data/v9.2/contacts", {"lastname": "L"}),
                self.part(
                    "POST", "/api/data/v9.2/accounts", {"name": "a", "primarycontactid@odata.bind": "$1"}
                ),
                self.part("PATCH", "$2", {"name": "b"}),
            ),
        )
        assert statuses == [204, 204, 204]
        (account,) = fake.sim_records("accounts", "")
        (contact,) = fake.sim_records("contacts", "")
        assert (account["name"], account["_primarycontactid_value"]) == ("b", contact["contactid"])

    async def test_a_later_content_id_is_unknown(self, http):
        member = self.part(
            "POST", "/api/data/v9.2/accounts", {"name": "a", "primarycontactid@odata.bind": "$2"}
        )
        _, statuses = await self.send(http, self.change_set(member))
        assert statuses == [400]

    async def test_a_change_set_takes_no_get(self, http):
        _, statuses = await self.send(http, self.change_set(self.part("GET", "/api/data/v9.2/accounts")))
        assert statuses == [400]

    async def test_a_batch_takes_no_batch(self, http):
        _, statuses = await self.send(http, self.part("POST", "/api/data/v9.2/$batch"))
        assert statuses == [400]

    async def test_1001_requests_are_too_many(self, http):
        part = self.part("GET", "/api/data/v9.2/WhoAmI")
        assert (await self.send(http, *[part] * 1000))[0].status_code == 200
        assert (await self.send(http, *[part] * 1001))[0].status_code == 400

    async def test_an_unclosed_batch_is_refused(self, http):
        headers = {"content-type": "multipart/mixed; boundary=b"}
        body = self.multipart(self.part("GET", "/api/data/v9.2/WhoAmI")).removesuffix("--b--\r\n")
        assert (await http.post("$batch", content=body, headers=headers)).status_code == 400
