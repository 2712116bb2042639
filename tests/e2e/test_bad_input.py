"""What is wrong is said in one clear sentence, with an exit code that is not 0, and nothing is half applied.

The world is small (25 generated customers, one flow) and in step; every test leaves it so.
"""

import contextlib
import itertools
import re
import socket
from pathlib import Path

import psycopg
import pytest
from ruamel.yaml import YAML
from sqlalchemy.engine import make_url

from tests.e2e.running import Platform, hasten, simulator

FLOW = """\
flow: customers_out
source: {system: bc, entity: customers}
targets:
  account:
    system: crm
    entity: accounts
    key: {accountnumber: number}
    on_delete: deactivate
    fields:
      name: displayName
      address1_city: city
"""
SCOPE = "bulk"
#: What a document says is the first group, what runs leave behind is the second.
REGISTRY = ("systems", "flows", "flow_versions", "lookups")
STATE = ("mirror", "links", "work_items", "intents", "sync_events")


class Small:
    """A small world, and what may be said of it."""

    def __init__(self, urls, folder, client):
        self.client = client
        self.folder = folder
        self.systems = Path(client.ready.systems)
        self.platform = Platform(urls, folder / "state", IPAAS_PATIENCE_SECONDS="0")
        self.urls = urls
        self._numbers = itertools.count()

    def snapshot(self, *tables):
        """One text per table: equal when every row is."""
        plain = make_url(self.urls.owner).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as connection:
            return {
                table: connection.execute(
                    f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t"
                ).fetchone()[0]
                for table in tables
            }

    def make_due(self):
        """What was refused is tried again a minute later; nobody needs to wait for that here."""
        plain = make_url(self.urls.owner).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute("UPDATE work_items SET due_at = now()")

    def flow(self, text, name="customers.yaml"):
        """A folder that holds this flow."""
        folder = self.folder / f"flows{next(self._numbers)}"
        folder.mkdir()
        (folder / name).write_text(text, encoding="utf-8")
        return str(folder)

    def document(self, system, **changes):
        """A file with the system document, changed."""
        yaml = YAML(typ="safe", pure=True)
        document = yaml.load((self.systems / f"{system}.yaml").read_text(encoding="utf-8"))
        for name, value in changes.items():
            document[name] = {**document[name], **value} if isinstance(value, dict) else value
        path = self.folder / f"{system}{next(self._numbers)}.yaml"
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(document, file)
        return path

    @contextlib.contextmanager
    def other(self, system, **changes):
        """The system as this document says, until the end of the block."""
        self.platform.must("systems", "apply", str(self.document(system, **changes)))
        try:
            yield
        finally:
            self.platform.must("systems", "apply", str(self.systems / f"{system}.yaml"))

    @contextlib.contextmanager
    def wrong_secret(self, name):
        """Another secret in the file that the system document refers to."""
        path = Path(self.client.ready.secrets[name].removeprefix("file:"))
        right = path.read_text(encoding="utf-8")
        path.write_text("wrong-but-secret", encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(right, encoding="utf-8")

    def move(self):
        """A customer is renamed; its number and the new name."""
        name = f"Renamed {next(self._numbers)}"
        customer = self.client.records("bc", "customers", SCOPE)[0]
        self.client.change("bc", "customers", customer["id"], {"displayName": name}, SCOPE)
        return customer["number"], name

    def in_step(self):
        """The next run writes what waits; then every account is as its customer is."""
        result = self.platform.run("customers_out", IPAAS_PATIENCE_SECONDS="60")
        assert (result["error"], result["pending"], result["dead"], result["review"]) == ("", 0, 0, 0)
        wanted = {one["number"]: one["displayName"] for one in self.client.records("bc", "customers", SCOPE)}
        accounts = self.client.records("crm", "accounts")
        assert len(accounts) == len(wanted)
        assert {one["accountnumber"]: one["name"] for one in accounts} == wanted
        return result

    def secrets(self):
        """Everything that nobody may read in an output."""
        found = [
            Path(reference.removeprefix("file:")).read_text(encoding="utf-8").strip()
            for reference in self.client.ready.secrets.values()
        ]
        urls = (self.urls.owner, self.urls.app, self.urls.dagster)
        return [*found, *(make_url(url).password or "" for url in urls), "wrong-but-secret", "hunter2"]

    def said(self, done, code=1):
        """The sentence on stderr of a command that failed, after all that holds of every such sentence."""
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        for text in (done.stdout, done.stderr):
            assert "Traceback" not in text
            assert not [secret for secret in self.secrets() if secret and secret in text]
        lines = done.stderr.splitlines()
        starts = [number for number, line in enumerate(lines) if line.startswith("ipaas: ")]
        assert len(starts) == 1, done.stderr
        return "\n".join(lines[starts[0] :]).removeprefix("ipaas: ")


class CutOff(Small):
    """The same systems on a database of its own, with a target that is down.

    Commands try four times over 21 seconds, so they do that side by side, while the other tests run.
    """

    def __init__(self, urls, folder, client):
        super().__init__(urls, folder, client)
        self.platform.must("systems", "apply", str(self.systems))
        self.platform.must("apply", self.flow(FLOW))
        self._closed = socket.socket()
        self._closed.bind(("127.0.0.1", 0))  # bound, not listening: whoever connects is refused
        url = f"http://127.0.0.1:{self._closed.getsockname()[1]}"
        self.platform.must("systems", "apply", str(self.document("crm", settings={"url": url})))
        self.before = self.snapshot(*REGISTRY, *STATE)
        commands = {
            ("systems", "test", "crm"): 1,
            ("run", "customers_out"): 3,
            ("apply", self.flow(FLOW.replace("city", "country"))): 3,
        }
        self.started = {self.platform.start(*command): code for command, code in commands.items()}

    def close(self):
        for process in self.started:
            process.kill()
            process.communicate()
        self._closed.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    with simulator(folder / "simulator", "--world", "empty", "--bulk", "25", "--search-lag", "0") as client:
        hasten(folder / "simulator" / "systems")
        yield client


@pytest.fixture(scope="module")
def cut_off(databases, _template, running, tmp_path_factory):
    urls = databases.make(template=_template)
    made = CutOff(urls, tmp_path_factory.mktemp("cut_off"), running)
    yield made
    made.close()
    databases.drop(urls.owner)


@pytest.fixture(scope="module")
def small(databases, _template, running, cut_off, tmp_path_factory):
    urls = databases.make(template=_template)
    made = Small(urls, tmp_path_factory.mktemp("small"), running)
    made.platform.must("systems", "apply", str(made.systems))
    made.platform.must("apply", made.flow(FLOW))
    made.in_step()
    yield made
    databases.drop(urls.owner)


# --- flows ------------------------------------------------------------------------------------------------------


#: What a flow's text says wrong: a change of it, and what is said.
TEXT_FAULTS = {
    "open.yaml": (
        ("{accountnumber: number}", "{accountnumber: number"),
        r"\d+: this is not YAML: ",
    ),
    "twice.yaml": (
        ("      name: displayName\n", "      name: displayName\n      name: number\n"),
        r"11: targets\.account\.fields\.name: 'name' stands here a second time; it was set in line 10",
    ),
    "word.yaml": (("source:", "sauce:"), r"2: sauce: "),
}
#: What is wrong of it against the systems.
SYSTEM_FAULTS = {
    "source_system.yaml": (
        ("{system: bc,", "{system: bcc,"),
        r"2: source\.system: the system 'bcc' does not exist; did you mean bc\? Valid: bc, cal, crm",
    ),
    "target_system.yaml": (
        ("system: crm", "system: salesforce"),
        r"5: targets\.account\.system: the system 'salesforce' does not exist. Valid: bc, cal, crm",
    ),
    "entity.yaml": (
        ("entity: customers", "entity: customer"),
        r"2: source\.entity: System bc has no entity 'customer'; did you mean customers\?",
    ),
    "source_field.yaml": (
        ("displayName", "displayNam"),
        r"10: targets\.account\.fields\.name: .*'displayNam' does not exist; did you mean displayName\?",
    ),
    "target_field.yaml": (
        ("address1_city", "adress1_city"),
        r"11: targets\.account\.fields\.adress1_city: .* does not exist; did you mean address1_city\?",
    ),
    "read_only.yaml": (
        ("address1_city", "versionnumber"),
        r"11: targets\.account\.fields\.versionnumber: versionnumber of accounts is read-only",
    ),
}


@pytest.mark.parametrize("faults", [TEXT_FAULTS, SYSTEM_FAULTS], ids=["in its text", "against the systems"])
def test_wrong_flows_are_refused_with_file_line_and_way_out_and_keep_the_right_ones_out_too(small, faults):
    before = small.snapshot(*REGISTRY, *STATE)
    folder = Path(small.flow(FLOW.replace("customers_out", "right")))
    for name, ((right, wrong), _) in faults.items():
        text = FLOW.replace("customers_out", name.partition(".")[0]).replace(right, wrong)
        (folder / name).write_text(text, encoding="utf-8")
    head, *told = small.said(small.platform.call("apply", str(folder))).splitlines()
    assert head.endswith(" in the flow, nothing was changed:")
    for name, (_, sentence) in faults.items():
        assert [line for line in told if re.match(rf"  {name}:{sentence}", line)], (name, told)
    assert {line.partition(":")[0].strip() for line in told} == faults.keys()
    assert small.snapshot(*REGISTRY, *STATE) == before


def test_a_folder_that_is_not_there_or_empty_is_named(small, tmp_path):
    nowhere, empty = small.platform.together(("apply", str(tmp_path / "nowhere")), ("apply", str(tmp_path)))
    assert small.said(nowhere) == (
        f"There is no folder {tmp_path / 'nowhere'}. Name a folder of flow files (*.yaml)."
    )
    assert small.said(empty) == (
        f"There is no flow (*.yaml) in {tmp_path}. Name the folder that holds your flows."
    )


def test_an_unknown_flow_is_refused_and_the_known_ones_are_named(small):
    before = small.snapshot(*STATE)
    assert small.said(small.platform.call("run", "customers_in")) == (
        "There is no active flow 'customers_in' (flows: customers_out); did you mean customers_out? "
        "Add flows with `ipaas apply FOLDER`."
    )
    assert small.snapshot(*STATE) == before


# --- systems ----------------------------------------------------------------------------------------------------


def test_wrong_system_documents_are_all_told_and_keep_the_right_ones_out_too(small, tmp_path):
    before = small.snapshot(*REGISTRY)
    right = (small.systems / "crm.yaml").read_text(encoding="utf-8")
    documents = {
        "right.yaml": right.replace("system: crm", "system: crm2"),
        "open.yaml": right + "scopes: [\n",
        "twice.yaml": right + "connector: hunter2\n",
        "word.yaml": right + "titel: hunter2\n",
        "id.yaml": right.replace("system: crm", "system: My CRM"),
        "secret.yaml": re.sub("client_secret: .*", "client_secret: hunter2", right),
    }
    for name, text in documents.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    said = small.said(small.platform.call("systems", "apply", str(tmp_path)))
    assert re.fullmatch(
        r"id\.yaml: the id of a system is lower snake case: [^;]*; "
        r"open\.yaml:\d+: this is not YAML: [^;]*; "
        r"secret\.yaml: secrets\.client_secret must be a reference such as env:NAME or file:PATH, [^;]*; "
        r"twice\.yaml:\d+: 'connector' stands there a second time; "
        r"word\.yaml: titel has no meaning here\. Nothing was stored\.",
        said,
    ), said
    assert small.snapshot(*REGISTRY) == before


def test_an_unknown_connector_and_an_unknown_setting_are_named(small):
    before = small.snapshot(*REGISTRY)
    connector, setting = small.platform.together(
        ("systems", "apply", str(small.document("crm", connector="dataverze"))),
        ("systems", "apply", str(small.document("crm", settings={"client": "hunter2"}))),
    )
    assert small.said(connector) == (
        "There is no connector `dataverze`. Known connectors: business_central, calibration, dataverse."
    )
    said = small.said(setting)
    assert re.fullmatch(r"System crm \(dataverse\) is wrong: settings\.client: .*\.", said), said
    assert small.snapshot(*REGISTRY) == before


def test_a_system_that_is_not_there_is_refused_and_the_known_ones_are_named(small):
    test, pause = small.platform.together(
        ("systems", "test", "salesforce"), ("systems", "pause", "salesforce")
    )
    assert small.said(test) == (
        "There is no system 'salesforce' (systems: bc, cal, crm). Add its document with `ipaas systems apply FILE`."
    )
    assert small.said(pause) == (
        "There is no system 'salesforce'. `ipaas systems list` shows those there are."
    )


def trouble(small, done, system):
    """What `ipaas systems test` says of the one system that is not well; the others answer."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not [secret for secret in small.secrets() if secret and secret in done.stdout + done.stderr]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"{system}: ")]
    others = {"bc", "cal", "crm"} - {system}
    assert {line.partition(":")[0] for line in done.stdout.splitlines()} == others
    return line


def test_wrong_credentials_of_a_target_stop_the_run_and_lose_nothing(small):
    number, name = small.move()
    with small.wrong_secret("crm_client_secret"):
        test, run = small.platform.together(("systems", "test"), ("run", "customers_out"))
        line = trouble(small, test, "crm")
        assert "refused the credentials of system crm" in line
        assert "the client secret is wrong" in line
        said = small.said(run)
        assert said.startswith("The identity provider refused the credentials of system crm (AADSTS7000215)")
    assert small.client.record("crm", "accounts", "accountnumber", number)["name"] != name
    assert small.in_step()["counts"]["outcomes"] == {"updated": 1}


def test_wrong_credentials_of_a_source_stop_the_run_and_lose_nothing(small):
    small.move()
    with small.wrong_secret("bc_client_secret"):
        before = small.snapshot(*STATE)
        test, run = small.platform.together(("systems", "test"), ("run", "customers_out"))
        assert "the client secret is wrong" in trouble(small, test, "bc")
        assert "refused the credentials of system bc" in small.said(run)
        assert small.snapshot(*STATE) == before
    assert small.in_step()["counts"]["outcomes"] == {"updated": 1}


def test_a_wrong_api_token_is_told_by_the_test_of_the_system(small):
    with small.wrong_secret("cal_api_token"):
        line = trouble(small, small.platform.call("systems", "test"), "cal")
    assert "401: check the credentials of the system and the rights they have there." in line


def test_rights_that_are_taken_away_in_the_middle_of_a_run_lose_nothing(small):
    small.move()
    # The first POST reads the schema, the next one writes.
    small.client.fail("crm", method="POST", skip=1, times=-1, status=403)
    try:
        said = small.said(small.platform.call("run", "customers_out"))
    finally:
        small.client.heal("crm")
    assert said == (
        "crm POST $batch was answered with 403: check the credentials of the system and the rights they have there."
    )
    small.make_due()
    assert small.in_step()["counts"]["outcomes"] == {"updated": 1}


def test_a_secret_that_is_not_set_is_named_by_its_reference(small):
    number, name = small.move()
    with small.other("crm", secrets={"client_secret": "env:CRM_SECRET_OF_NOBODY"}):
        sentence = (
            "System 'crm': secret 'client_secret' refers to the environment variable CRM_SECRET_OF_NOBODY, which is "
            "not set. Set it where the platform starts."
        )
        test, run = small.platform.together(("systems", "test"), ("run", "customers_out"))
        assert trouble(small, test, "crm") == f"crm: {sentence}"
        assert small.said(run) == sentence
        secret = Path(small.client.ready.secrets["crm_client_secret"].removeprefix("file:"))
        small.platform.must("systems", "test", "crm", CRM_SECRET_OF_NOBODY=secret.read_text("utf-8"))
    assert small.client.record("crm", "accounts", "accountnumber", number)["name"] != name
    small.in_step()


def test_a_paused_system_and_a_disabled_flow_do_not_run_and_lose_nothing(small):
    small.move()
    before = small.snapshot(*STATE)
    small.platform.must("systems", "pause", "crm")
    assert small.said(small.platform.call("run", "customers_out")) == (
        "System 'crm' is paused, so flow 'customers_out' does not run. Resume it with `ipaas systems resume crm`."
    )
    small.platform.must("systems", "resume", "crm")
    small.platform.must("flows", "disable", "customers_out")
    assert small.said(small.platform.call("run", "customers_out")) == (
        "Flow 'customers_out' is disabled. Enable it with `ipaas flows enable customers_out`."
    )
    small.platform.must("flows", "enable", "customers_out")
    assert small.snapshot(*STATE) == before
    assert small.in_step()["counts"]["outcomes"] == {"updated": 1}


def test_a_target_that_goes_down_in_the_middle_of_a_run_is_named_and_nothing_is_lost(small):
    small.move()
    small.client.fail("crm", method="POST", skip=1, times=-1, status=503)
    try:
        done = small.platform.call("run", "customers_out", "--json")
    finally:
        small.client.heal("crm")
    said = small.said(done, code=3)
    assert said.startswith(
        "Not all records of customers_out could be written; the next run tries them again. crm POST $batch"
    )
    small.make_due()
    small.in_step()


# --- the platform itself ------------------------------------------------------------------------------------------


def test_a_database_that_is_down_is_one_sentence(small):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        down = {
            name: make_url(url).set(port=port).render_as_string(hide_password=False)
            for name, url in (
                ("IPAAS_DATABASE_URL", small.urls.app),
                ("IPAAS_DATABASE_OWNER_URL", small.urls.owner),
                ("IPAAS_DATABASE_DAGSTER_URL", small.urls.dagster),
            )
        }
        commands = (("run", "customers_out"), ("apply", small.flow(FLOW)), ("systems", "list"))
        for done in small.platform.together(*commands, **down):
            said = small.said(done)
            assert re.fullmatch(
                r"The database server of IPAAS_DATABASE(_OWNER)?_URL cannot be used: nothing listens at that host "
                r"and port; start the server or correct the URL\.",
                said,
            ), said


WRONG_SETTINGS = {
    "IPAAS_DATABASE_URL": (
        "mysql://root:hunter2@127.0.0.1/db",
        "IPAAS_DATABASE_URL must start with postgresql://, for PostgreSQL is the only database that the platform runs on",
    ),
    "IPAAS_LEASE_SECONDS": ("hunter2", "IPAAS_LEASE_SECONDS must be a valid number"),
    "IPAAS_LOG_LEVEL": ("hunter2", "IPAAS_LOG_LEVEL must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
}


def test_wrong_settings_are_all_named_and_never_shown(small):
    given = {name: value for name, (value, _) in WRONG_SETTINGS.items()}
    said = small.said(small.platform.call("flows", "list", **given))
    assert said.startswith("Wrong settings, correct them in the environment and start again: ")
    assert not [sentence for _, sentence in WRONG_SETTINGS.values() if sentence not in said]


def test_a_system_that_is_down_is_named_after_the_retries_and_nothing_is_lost(small, cut_off):
    """The last test of the file: its commands were started before the first."""
    for process, code in cut_off.started.items():
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"{process.args}\n{out}\n{err}"
        (said,) = err.splitlines()
        assert re.search(
            r"crm GET \w+ could not reach the system \(ConnectError\); check its address and the network\.$",
            said,
        )
    assert cut_off.snapshot(*REGISTRY, *STATE) == cut_off.before
    cut_off.platform.must("systems", "apply", str(cut_off.systems / "crm.yaml"))
    assert cut_off.in_step()["counts"]["received"] == 25
