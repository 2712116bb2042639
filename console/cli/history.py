"""Commands about the versions of a document, made once for flows and for lookup tables."""

from __future__ import annotations

import datetime as dt
import difflib
import getpass
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, get_args

import click
import msgspec

from console.cli.commands.apply import show_applied
from console.cli.opening import engine, run_async, say
from console.cli.planned import show_changes
from ipaas_assets.sync.apply import Applied
from ipaas_resources.core.values import encode
from ipaas_resources.settings import load_settings
from ipaas_resources.store import versions
from ipaas_resources.store.versions import About, Kind, Remap, StoredText, Version
from mappings.difference import Change, counted


class Versioned(msgspec.Struct, frozen=True, kw_only=True):
    """What the commands need to know of documents of one kind."""

    kind: Kind
    parts: str  # what a difference consists of
    changes: Callable[[str, str], list[Change]]  # (text before, text after)
    roll_back: Callable[..., Coroutine[Any, Any, Applied]]  # see ipaas_assets/sync/apply.py


def add_version_commands(group: click.Group, of: Versioned) -> None:
    """Give a group the commands show, history, diff and rollback."""
    for command in (_show(of), _history(of), _diff(of), _rollback(of)):
        group.add_command(command)


def _show(of: Versioned) -> click.Command:
    @click.command("show", help=f"Print a {of.kind.word} as it was stored.")
    @click.argument("name")
    @click.option("--version", type=int, help="An older version; without it the active one.")
    def command(name: str, version: int | None) -> None:
        async def work() -> StoredText:
            async with engine(load=False) as opened:
                found = await versions.text_of(opened.database, of.kind, name, version)
                return found or _none(of.kind, name, version)

        click.echo(run_async(work()).text, nl=False)

    return command


def _history(of: Versioned) -> click.Command:
    brief = f"List who changed a {of.kind.word}, when, why and what"

    @click.command(
        "history",
        short_help=f"{brief}.",
        help=f"{brief} (+ {of.parts} added, ~ changed, - removed).",
    )
    @click.argument("name")
    @click.option(
        "--limit", type=click.IntRange(1), default=50, show_default=True, help="Newest versions shown."
    )
    @click.option("--json", "as_json", is_flag=True, help="One JSON array, with every change.")
    def command(name: str, limit: int, *, as_json: bool) -> None:
        async def work() -> list[Version]:
            async with engine(load=False) as opened:
                return await versions.history(opened.database, of.kind, name, limit=limit)

        found = run_async(work())
        if not found:
            raise of.kind.missing(name)
        if as_json:
            click.echo(encode(found).decode())
            return
        for each in found:
            mark = "*" if each.active else " "
            reason = f"  {each.reason}" if each.reason else ""
            click.echo(
                f"{mark} {each.version:<5} {_when(each.created_at)}  {each.actor} ({each.origin})  "
                f"{_what(each.diff)}{reason}"
            )

    return command


def _diff(of: Versioned) -> click.Command:
    brief = f"Show what differs between two versions of a {of.kind.word}"

    @click.command(
        "diff",
        short_help=f"{brief}.",
        help=f"{brief}: OLD and NEW, else the active one and the one before it.",
    )
    @click.argument("name")
    @click.argument("old", type=int, required=False)
    @click.argument("new", type=int, required=False)
    @click.option("--json", "as_json", is_flag=True, help="One JSON array of changes.")
    def command(name: str, old: int | None, new: int | None, *, as_json: bool) -> None:
        before, after = run_async(_two(of.kind, name, old, new))
        changes = of.changes(before.text, after.text)
        if as_json:
            click.echo(encode([change.to_json() for change in changes]).decode())
            return
        _show_difference(name, before, after, changes)

    return command


def _rollback(of: Versioned) -> click.Command:
    brief = f"Make an older version of a {of.kind.word} the newest one"

    @click.command("rollback", short_help=f"{brief}.", help=f"{brief}; it is checked like any other.")
    @click.argument("name")
    @click.option(
        "--to", type=int, help="The version to go back to; without it the one before the active one."
    )
    @click.option(
        "--remap",
        type=click.Choice(get_args(Remap)),
        default="changed",
        show_default=True,
        help="Which known records go through their flow again.",
    )
    @click.option(
        "--yes", is_flag=True, help="Also where more than 1,000 records go through their flow again."
    )
    @click.option("--reason", default="", help="Why, for the history.")
    def command(name: str, to: int | None, remap: Remap, reason: str, *, yes: bool) -> None:
        settings = load_settings()
        about = About(actor=getpass.getuser(), origin="console", reason=reason)

        async def work() -> Applied:
            async with engine(settings) as opened:
                return await of.roll_back(opened, name, to=to, about=about, remap=remap, yes=yes, say=say)

        show_applied(run_async(work()), settings)

    return command


async def _two(kind: Kind, name: str, old: int | None, new: int | None) -> tuple[StoredText, StoredText]:
    """The texts to compare; of the first version with nothing before it."""
    async with engine(load=False) as opened:
        after = await versions.text_of(opened.database, kind, name, new) or _none(kind, name, new)
        number = after.version - 1 if old is None else old
        before = await versions.text_of(opened.database, kind, name, number)
        if before is None and (old is not None or number):
            raise kind.no_version(name, number)
        return before or StoredText(name=name, version=0, text="", file=""), after


def _show_difference(name: str, before: StoredText, after: StoredText, changes: list[Change]) -> None:
    counts = ", ".join(f"{count} {word}" for word, count in counted(changes).items() if count)
    between = (
        f"version {before.version} -> {after.version}"
        if before.version
        else f"version {after.version}, the first"
    )
    same = "the same text" if before.text == after.text else "nothing but layout"
    click.echo(f"{name}: {between}: {counts or same}")
    show_changes(changes)
    if before.text != after.text:
        click.echo()
    for line in difflib.unified_diff(
        before.text.splitlines(),
        after.text.splitlines(),
        f"version {before.version}",
        f"version {after.version}",
        lineterm="",
    ):
        click.echo(line)


def _none(kind: Kind, name: str, version: int | None) -> NoReturn:
    raise kind.missing(name) if version is None else kind.no_version(name, version)


def _when(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _what(diff: list[dict[str, Any]]) -> str:
    """How many parts were added, changed and removed."""
    counts = {op: sum(change["op"] == op for change in diff) for op in ("add", "replace", "remove")}
    return f"+{counts['add']} ~{counts['replace']} -{counts['remove']}"
