"""The four simulated products with the world in them, before they are served."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from ipaas_resources.connectors.business_central.fake import FakeBusinessCentral
from ipaas_resources.connectors.dataverse.fake import FakeDataverse
from ipaas_resources.connectors.fakes import FakeApp, Tokens
from ipaas_resources.connectors.fakes_login import FakeLogin
from simulator.lab import SimulatedLab
from simulator.lab_orders import LAB_ZONE
from simulator.prefill import Foreign, foreign_records
from simulator.systems import BC_CLIENT, CAL_LIMITS, CRM_CLIENT, TENANT, Secrets
from simulator.world import World

if TYPE_CHECKING:
    from ipaas_resources.core.clock import Clock


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """The products by the name of their system, the login host as `login`."""

    bc: FakeBusinessCentral
    crm: FakeDataverse
    cal: SimulatedLab
    login: FakeLogin
    secrets: Secrets

    def apps(self) -> dict[str, FakeApp]:
        """Every product that is served."""
        return {"bc": self.bc, "crm": self.crm, "cal": self.cal, "login": self.login}


def new_secrets() -> Secrets:
    """Fresh secrets for one run of the simulator."""
    return Secrets(**{name: secrets.token_urlsafe(24) for name in Secrets.__struct_fields__})


def set_stage(clock: Clock, own: Secrets) -> Stage:
    """Empty products that share a login host."""
    tokens = Tokens(clock)
    login = FakeLogin(clock=clock, tokens=tokens)
    login.add_client(BC_CLIENT, own.bc_client_secret, TENANT)
    login.add_client(CRM_CLIENT, own.crm_client_secret, TENANT)
    stage = Stage(
        bc=FakeBusinessCentral(clock=clock, tokens=tokens),
        crm=FakeDataverse(clock=clock, tokens=tokens),
        cal=SimulatedLab(clock=clock, tokens=(own.cal_api_token,), zone=ZoneInfo(LAB_ZONE)),
        login=login,
        secrets=own,
    )
    # A lab that lets nobody in twice a second is its connector's guess; this one keeps to what its document says.
    stage.cal.limits = CAL_LIMITS.policy()
    return stage


def fill(stage: Stage, world: World) -> None:
    """Put the world into the products, past their rules and ledgers."""
    for company in world.erp.companies:
        stage.bc.add_company(company.name, company.id)
        for entity_set, records in world.erp.records[company.scope].items():
            for record in records:
                stage.bc.seed(entity_set, company.name, record)
    for entity_set, rows in world.crm.records.items():
        for row in rows:
            stage.crm.sim_add(entity_set, "", row)
    stage.cal.fill(world.lab)


def fill_foreign(stage: Stage, world: World) -> list[Foreign]:
    """Put foreign records into the targets: nobody's sync made them."""
    names = {company.scope: company.name for company in world.erp.companies}
    found = foreign_records(world)
    for foreign in found:
        for record in foreign.copies:
            if foreign.system == "bc":
                stage.bc.seed(foreign.entity, names[foreign.scope], record)
            else:
                stage.crm.sim_add(foreign.entity, "", record)
    return found
