"""The demo: three simulated systems, three flows, everything started and kept in step."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from console.cli.opening import engine, open_database
from console.processes import Process, Processes, free_port, python
from ipaas_assets.sync.apply import apply_folder
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Mode
from ipaas_assets.sync.run import RunResult, run_flow
from ipaas_assets.sync.systems import apply_systems
from ipaas_resources.core.clock import SystemIds
from ipaas_resources.core.errors import StopError
from ipaas_resources.settings import Settings
from ipaas_resources.store.server import EmbeddedServer
from ipaas_resources.store.subscriptions import Subscription, save_subscription
from simulator.client import SimulatorClient
from simulator.verify import verify

Say = Callable[[str], None]

REPOSITORY = Path(__file__).resolve().parent.parent
FLOWS = REPOSITORY / "mappings" / "patterns"


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `ipaas demo` was asked for."""

    once: bool = False
    keep: bool = False  # go on with the state of the demo before: only with a simulator that still runs
    prefill: bool = False
    seed: int | None = None
    full: bool = False
    simulator: Path | None = None  # the ready line of a simulator that runs already


class DemoResult(msgspec.Struct, kw_only=True):
    """What the first sync did; the object that `--json` prints."""

    flows: list[dict[str, Any]]
    records: int = 0
    created: int = 0
    adopted: int = 0
    updated: int = 0
    skipped: int = 0
    dead: int = 0
    review: int = 0
    pending: int = 0
    verified: bool = False
    seconds: float = 0.0
    differences: list[str] = []
    error: str = ""


def demo_settings(settings: Settings) -> Settings:
    """The demo has a state of its own, on an embedded database: it must never touch a real installation."""
    return settings.model_copy(
        update={
            "database_url": None,
            "database_owner_url": None,
            "database_dagster_url": None,
            "state_dir": settings.state_dir / "demo",
        }
    )


def start_simulator(
    processes: Processes, settings: Settings, options: DemoOptions, say: Say
) -> dict[str, Any]:
    """Start the simulated systems and wait until they answer; their ready line."""
    folder = settings.state_dir / "simulator"
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port(settings.simulator_port, "the simulator", say)
    command = python("-m", "simulator", "--json", "--port-base", str(port), "--state-dir", str(folder))
    if options.prefill:
        command.append("--prefill")
    if options.seed is not None:
        command += ["--seed", str(options.seed)]
    log = settings.state_dir / "logs" / "simulator.out"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    process = Process("simulator", command, log=log, environment={}, folder=REPOSITORY)
    processes.all.append(process)
    until = time.monotonic() + 60
    while time.monotonic() < until and not process.ended:
        for line in process.last_words(3).splitlines():
            if line.startswith("{"):
                (settings.state_dir / "simulator.json").write_text(line, encoding="utf-8")
                return dict(json.loads(line))
        time.sleep(0.05)
    raise StopError(f"The simulated systems did not come up; their log ends with:\n{process.last_words()}")


def prepare_database(settings: Settings, options: DemoOptions, say: Say) -> None:
    """An empty database: the simulated systems forget everything when they end, so must we."""
    server = EmbeddedServer(settings.state_dir, report=say)
    if not options.keep:
        server.destroy()
    open_database(settings)


async def apply_demo(settings: Settings, ready: dict[str, Any], say: Say) -> None:
    """Apply the systems of the simulator and the shipped flows."""
    async with engine(settings, load=False) as opened:
        await apply_systems(opened, Path(ready["systems"]))
        await opened.load()
        applied = await apply_folder(opened, FLOWS, actor="demo", reason="demo")
        say(f"{len(opened.systems)} systems and {len(applied.flows)} flows applied")


async def register_lab_hook(settings: Settings, ready: dict[str, Any], public_url: str, say: Say) -> None:
    """Let the lab tell us of its changes, as a person does it: our URL and the secret go into its screen.

    The other two products are asked over their APIs, by the polling worker.
    """
    subscription = f"lab-{SystemIds().trace_id()}"
    async with engine(settings, load=False) as opened:
        await save_subscription(
            opened.database,
            Subscription(
                subscription=subscription,
                system="cal",
                connector=None,
                proof="signature",
                secret=ready["secrets"]["cal_webhook_secret"],
            ),
        )
    await asyncio.to_thread(_add_hook, ready, f"{public_url}/hooks/{subscription}")
    say("The lab tells of its changes at the webhook ingress")


def _add_hook(ready: dict[str, Any], url: str) -> None:
    with SimulatorClient(json.dumps(ready)) as client:
        client.add_hook(url, client.webhook_secret("cal"))


async def first_sync(settings: Settings, ready: dict[str, Any], options: DemoOptions, say: Say) -> DemoResult:
    """Run every flow once, then compare every target record with what it must be."""
    started = time.monotonic()
    result = DemoResult(flows=[])
    mode: Mode = "full" if options.full else "incremental"
    async with engine(settings) as opened:
        for name in run_order(opened):
            await _run_one(opened, name, mode, result, say)
    result.differences = await asyncio.to_thread(_verify, ready)
    result.verified = not result.differences and not result.error
    result.seconds = round(time.monotonic() - started, 2)
    return result


def run_order(opened: Engine) -> list[str]:
    """Flows so that each stands after those it refers to."""
    needs = {
        name: {
            ref.flow
            for target in flow.compiled.targets.values()
            for ref in target.references
            if ref.flow != name
        }
        for name, flow in opened.flows.items()
    }
    ordered: list[str] = []
    while len(ordered) < len(needs):
        left = [name for name in sorted(needs) if name not in ordered]
        ready = [name for name in left if not needs[name] & set(left)]
        ordered += ready or left
    return ordered


async def _run_one(opened: Engine, name: str, mode: Mode, result: DemoResult, say: Say) -> None:
    shown = 0.0

    def progress(counts: Any) -> None:
        nonlocal shown
        if time.monotonic() - shown > 1:
            shown = time.monotonic()
            say(f"  {name}: {sum(counts.outcomes.values())} results")

    run = await run_flow(opened, name, mode=mode, progress=progress)
    _add(result, run)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(run.counts.outcomes.items()))
    say(f"  {name}: {run.counts.received} read; {outcomes or 'nothing to do'} in {run.counts.seconds:.1f} s")


def _add(result: DemoResult, run: RunResult) -> None:
    outcomes: Counter[str] = run.counts.outcomes
    result.flows.append(
        {
            "flow": run.flow,
            "received": run.counts.received,
            "changed": run.counts.changed,
            "outcomes": dict(outcomes),
            "targets": {target: dict(counts) for target, counts in run.counts.per_target.items()},
            "reads": run.counts.reads,
            "writes": run.counts.writes,
            "seconds": round(run.counts.seconds, 2),
        }
    )
    result.records += run.counts.received
    result.created += outcomes["created"]
    result.adopted += outcomes["adopted"]
    result.updated += outcomes["updated"]
    result.skipped += outcomes["no_change"] + outcomes["filtered"]
    result.dead += run.dead
    result.review += run.review
    result.pending += run.pending
    result.error = result.error or run.error


def _verify(ready: dict[str, Any]) -> list[str]:
    with SimulatorClient(json.dumps(ready)) as client:
        return verify(client)
