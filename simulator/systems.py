"""The three system documents of a running simulator: what an operator would write to connect real systems."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import msgspec
from ruamel.yaml import YAML

from ipaas_resources.connectors.base import LimitPolicyModel, SystemDocument
from ipaas_resources.core.platform import write_private
from simulator.erp_world import Company
from simulator.lab_orders import LAB_ZONE

TENANT = "contoso.example"
ENVIRONMENT = "Production"
BC_CLIENT = "ipaas-business-central"
CRM_CLIENT = "ipaas-dataverse"

#: The vendor of the simulated lab system allows this much: it is us. The product itself documents no limit, and the
#: connector's own guess of 2 calls a second would make the demo wait for minutes.
CAL_LIMITS = LimitPolicyModel(requests=60_000, window=300, concurrency=8)

#: Seconds that a simulated product may still work on a request whose caller has gone. The products' clouds may take
#: minutes; this one applies what it applies at once.
MAX_SERVER_TIME = 2.0


class Urls(msgspec.Struct, frozen=True, kw_only=True):
    """Where the simulated systems listen, without a trailing slash."""

    bc: str
    crm: str
    cal: str
    login: str


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What the platform needs to sign in, and to know who sends."""

    bc_client_secret: str
    crm_client_secret: str
    cal_api_token: str
    bc_webhook_secret: str
    crm_webhook_secret: str
    cal_webhook_secret: str


def write_secrets(folder: Path, secrets: Secrets) -> dict[str, str]:
    """Write each secret to a file of its own, mode 0600; the reference (`file:...`) by the secret's name."""
    references = {}
    for name, value in msgspec.structs.asdict(secrets).items():
        path = folder / name.replace("_", "-")
        write_private(path, value)
        references[name] = f"file:{path.absolute()}"
    return references


def system_documents(
    urls: Urls,
    references: Mapping[str, str],
    companies: list[Company],
    ca_file: Path,
    search_lag: float | None = None,
) -> dict[str, SystemDocument]:
    """The documents of `bc`, `crm` and `cal`; every company of Business Central is a scope.

    `search_lag` in seconds where the simulated products have another than theirs.
    """
    login = {"tenant_id": TENANT, "login_url": urls.login}
    authority = str(ca_file.absolute())
    documents = {
        "bc": SystemDocument(
            system="bc",
            connector="business_central",
            title="Business Central (simulated)",
            settings={
                "base_url": f"{urls.bc}/v2.0/{TENANT}/{ENVIRONMENT}",
                "client_id": BC_CLIENT,
                **login,
            },
            secrets={
                "client_secret": references["bc_client_secret"],
                "webhook": references["bc_webhook_secret"],
            },
            scopes={company.scope: company.name for company in companies},
            ca_file=authority,
        ),
        "crm": SystemDocument(
            system="crm",
            connector="dataverse",
            title="Dynamics 365 Sales (simulated)",
            settings={"url": urls.crm, "client_id": CRM_CLIENT, **login},
            secrets={
                "client_secret": references["crm_client_secret"],
                "webhook": references["crm_webhook_secret"],
            },
            ca_file=authority,
        ),
        "cal": SystemDocument(
            system="cal",
            connector="calibration",
            title="Calibration lab (simulated)",
            settings={"url": urls.cal},
            secrets={
                "api_token": references["cal_api_token"],
                "webhook": references["cal_webhook_secret"],
            },
            limits=CAL_LIMITS,
            timezone=LAB_ZONE,
        ),
    }
    return {
        name: document.model_copy(update={"max_server_time": MAX_SERVER_TIME, "search_lag": search_lag})
        for name, document in documents.items()
    }


def write_system_documents(folder: Path, documents: Mapping[str, SystemDocument]) -> None:
    """One YAML file a system, as `ipaas systems apply` takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    for name, document in documents.items():
        text = io.StringIO()
        yaml.dump(document.model_dump(mode="json", exclude_defaults=True), text)
        (folder / f"{name}.yaml").write_text(text.getvalue(), encoding="utf-8")
