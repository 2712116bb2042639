"""`python -m simulator`: Business Central, Dataverse, a calibration lab and their login host on this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from ipaas_resources.core.platform import run_async
from simulator.server import Options, Ready, serve
from simulator.world import DEFAULT_SEED


def main(arguments: list[str] | None = None) -> None:
    """Serve until told to stop."""
    given = _parser().parse_args(arguments)
    announce = _print_json if given.json else _print_text
    del given.json
    run_async(serve(Options(**vars(given)), announce))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    add = parser.add_argument
    add("--world", choices=("demo", "empty"), default="demo", help="what the systems hold at the start")
    add("--seed", type=int, default=DEFAULT_SEED, help="of everything that is made up")
    add("--data", type=Path, help="folder of contoso_demo.json (default: ../shared/data beside the repo)")
    add("--bulk", type=int, default=0, metavar="N", help="add N generated customers in the company `bulk`")
    add(
        "--prefill",
        action="store_true",
        help="first contact: 30 %% of the targets are there under foreign ids",
    )
    add("--port-base", type=int, default=0, metavar="PORT", help="first port to try (default: any free ones)")
    add(
        "--state-dir",
        type=Path,
        help="folder for authority, secrets and system documents (default: for this run)",
    )
    add("--limits", action="store_true", help="answer 429 beyond each product's limits")
    add("--latency", type=float, default=0.0, metavar="SECONDS", help="added to every answer")
    add(
        "--search-lag",
        type=float,
        metavar="SECONDS",
        help="until a created record is found (default: each product's)",
    )
    add("--json", action="store_true", help="print one JSON line when every system answers")
    return parser


def _print_json(ready: Ready) -> None:
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()


def _print_text(ready: Ready) -> None:
    for name, url in msgspec.structs.asdict(ready.urls).items():
        sys.stdout.write(f"{name:<6} {url}\n")
    sys.stdout.write(f"system documents: {ready.systems}\nauthority: {ready.ca}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
