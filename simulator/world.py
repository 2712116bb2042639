"""The demo world: what stands in the three systems before the platform has done anything."""

from __future__ import annotations

from pathlib import Path

import msgspec

from simulator.crm_world import CrmWorld, build_crm_world
from simulator.demo_data import load_demo_data
from simulator.erp_world import ErpWorld, build_erp_world
from simulator.generated_data import generate_demo_data
from simulator.lab_world import LabWorld, build_lab_world

DEFAULT_SEED = 7


class World(msgspec.Struct, frozen=True, kw_only=True):
    """The three systems at the start."""

    seed: int
    origin: str  # "contoso" or "generated"
    erp: ErpWorld
    crm: CrmWorld
    lab: LabWorld

    def counts(self) -> dict[str, int]:
        """Source records of the three demo flows."""
        return {
            "customers": sum(1 for _ in self.erp.all("customers")),
            "items": sum(1 for _ in self.erp.all("items")),
            "work_orders": len(self.lab.work_orders),
        }


def build_world(seed: int = DEFAULT_SEED, folder: Path | None = None) -> World:
    """The world of a seed, from the Contoso demo data in `folder` (None: beside the repo), else generated."""
    data = load_demo_data(folder)
    erp = build_erp_world(data if data is not None else generate_demo_data(seed), seed)
    return World(
        seed=seed,
        origin="generated" if data is None else "contoso",
        erp=erp,
        crm=build_crm_world(),
        lab=build_lab_world(erp, seed),
    )
