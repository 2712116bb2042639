"""ipaas subscriptions: who sends deliveries; those that the platform makes, and those made by hand."""

from __future__ import annotations

import json

import click

from console.cli.opening import engine, run_async, say
from ipaas_assets.sync.keeping import Kept
from ipaas_assets.sync.subscribing import keep_now
from ipaas_resources.connectors import registry as connectors
from ipaas_resources.connectors.base import WebhooksModel
from ipaas_resources.connectors.webhooks import receiver
from ipaas_resources.core.errors import ConfigurationError, RetryError
from ipaas_resources.secrets import resolve_secret
from ipaas_resources.settings import load_settings
from ipaas_resources.store import registry
from ipaas_resources.store import subscriptions as store
from ipaas_resources.store.database import Database
from ipaas_resources.store.subscriptions import StoredSubscription, Subscription
from mappings.load import load_flow

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON array.")


@click.group(short_help="Who sends deliveries: list, keep, add, remove.")
def subscriptions() -> None:
    """Subscriptions, by which products tell of changes: list, keep, add, remove."""


# --- list -------------------------------------------------------------------------------------------------------------


@subscriptions.command("list")
@click.option("--retired", is_flag=True, help="Those that take no deliveries any more, too.")
@_AS_JSON
def list_command(*, retired: bool, as_json: bool) -> None:
    """List the subscriptions: whose, until when, when the product last had it, and what is wrong."""

    async def work() -> list[StoredSubscription]:
        async with engine(load=False) as opened:
            return await store.all_subscriptions(opened.database)

    found = [each for each in run_async(work()) if each.live or retired]
    if as_json:
        click.echo(json.dumps([_row(each) for each in found]))
        return
    if not found:
        click.echo(
            "There are no subscriptions. Flows with `trigger: {webhook: true}` get theirs by themselves."
        )
    for each in found:
        row = _row(each)
        source = f"{each.system}/{each.entity or '*'}{f' {each.scope}' if each.scope else ''}"
        until = f"until {row['expires_at']}" if row["expires_at"] else ""
        seen = f"seen {row['last_seen_at']}" if row["last_seen_at"] else ""
        # Two spaces at least: whoever makes one by hand may give it a longer name.
        line = f"{each.subscription:<32}  {source:<30}  {row['state']:<8}  {row['url']}  {until}  {seen}"
        click.echo(line.rstrip())
        if each.error:
            click.echo(f"    {each.error}")


def _row(each: StoredSubscription) -> dict[str, str | bool | None]:
    public = load_settings().public_url or ""
    return {
        "subscription": each.subscription,
        "system": each.system,
        "entity": each.entity,
        "scope": each.scope,
        "state": _state(each),
        "by_hand": not each.managed,
        "url": f"{public}/hooks/{each.subscription}{'/***' if each.managed else ''}",
        "resource": each.resource,
        "expires_at": each.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ") if each.expires_at else None,
        "last_seen_at": each.checked_at.strftime("%Y-%m-%dT%H:%M:%SZ") if each.checked_at else None,
        "error": each.error,
    }


def _state(each: StoredSubscription) -> str:
    if not each.live:
        return "retired"
    if not each.managed:
        return "by hand"
    if each.error:
        return "failing"
    if each.product_id is None:
        return "not made"
    return "run out" if each.expired else "live"


# --- keep -------------------------------------------------------------------------------------------------------------


@subscriptions.command("keep")
@_AS_JSON
def keep_command(*, as_json: bool) -> None:
    """Make, renew, heal and take away now what the live worker looks after once a minute.

    Exit code 1: at least one could not be made or renewed.
    """
    settings = load_settings()
    if settings.public_url is None:
        raise ConfigurationError(
            "IPAAS_PUBLIC_URL is not set, so no product can be told where to send. Set it to the address by which "
            "products reach `ipaas ingress`, for example https://ipaas.example.com."
        )

    async def work() -> list[Kept] | None:
        async with engine(settings) as opened, store.only_keeper(opened.database) as ours:
            return await keep_now(opened, public_url=settings.public_url) if ours else None

    kept = run_async(work())
    if kept is None:
        raise RetryError(
            "Another process is keeping the subscriptions at this moment. Look at them in a minute."
        )
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        "subscription": each.subscription,
                        "system": each.system,
                        "entity": each.entity,
                        "scope": each.scope,
                        "action": each.action,
                        "error": each.error,
                    }
                    for each in kept
                ]
            )
        )
    else:
        for each in kept:
            source = f"{each.system}/{each.entity or '*'}{f' {each.scope}' if each.scope else ''}"
            click.echo(f"{source:<40}{each.action}{f': {each.error}' if each.error else ''}")
        if not kept:
            click.echo("No enabled flow wants to be told of changes by a product that can be asked to.")
    if any(each.action == "failed" for each in kept):
        raise click.exceptions.Exit(1)


# --- by hand ----------------------------------------------------------------------------------------------------------


@subscriptions.command("add")
@click.argument("system")
@click.option("--entity", default="", help="Deliveries of this entity alone.")
@click.option("--scope", default="", help="Deliveries of this scope alone.")
@click.option(
    "--secret", required=True, help="Reference to the secret, env:NAME or file:PATH, never the secret."
)
@click.option("--proof", help="How deliveries prove themselves, where the product has several ways.")
def add_command(system: str, entity: str, scope: str, secret: str, proof: str | None) -> None:
    """Take deliveries of a SYSTEM that a person registers in the product, and say what to enter there."""
    settings = load_settings()

    async def work() -> tuple[str, WebhooksModel]:
        async with engine(settings, load=False) as opened:
            known = await _system(opened.database, system)
            declared = connectors.manifest(known.connector).webhooks
            if declared is None:
                raise ConfigurationError(f"The connector {known.connector} takes no webhook deliveries.")
            if not declared.by_hand:
                raise ConfigurationError(
                    f"{system} is subscribed by the platform alone: set `trigger: {{webhook: true}}` in a flow that "
                    "reads it, and `secrets: {webhook: REFERENCE}` in its document."
                )
            chosen = proof or declared.proof
            proofs = receiver(known.connector).proofs
            if chosen not in proofs:
                raise ConfigurationError(f"{system} has no proof {chosen!r}; it knows {', '.join(proofs)}.")
            _check_scope(known.document, scope)
            _check_reference(secret, system)
            await _check_entity(opened.database, system, entity)
            subscription = opened.ids.trace_id()
            await store.save_subscription(
                opened.database,
                Subscription(
                    subscription=subscription,
                    system=system,
                    connector=None,
                    proof=chosen,
                    secret=secret,
                    entity=entity,
                    scope=scope,
                ),
            )
            return subscription, declared

    subscription, declared = run_async(work())
    base = settings.public_url or "https://ADDRESS-OF-THE-INGRESS"
    click.echo(f"Taking deliveries of {system} as {subscription}.")
    click.echo(f"URL:    {base}/hooks/{subscription}")
    click.echo(f"Secret: the value behind {secret}")
    click.echo(declared.by_hand)
    if settings.public_url is None:
        click.echo("Set IPAAS_PUBLIC_URL to the address by which the product reaches `ipaas ingress`.")


def _check_reference(reference: str, system: str) -> None:
    if not reference.startswith(("env:", "file:")):
        raise ConfigurationError(
            "--secret is a reference, env:NAME or file:PATH, for secrets themselves do not belong on a command line."
        )
    try:
        resolve_secret(reference, system=system, name="webhook")
    except ConfigurationError as error:
        # The ingress may run elsewhere, with other variables.
        say(f"Here it cannot be read; where the ingress runs it must be: {error.message}")


def _check_scope(document: dict[str, object], scope: str) -> None:
    scopes = document.get("scopes")
    there = list(scopes) if isinstance(scopes, dict) else []
    if scope and scope not in there:
        raise ConfigurationError(
            f"The system has no scope {scope!r}; its scopes are {', '.join(there) or 'none'}."
        )


async def _check_entity(database: Database, system: str, entity: str) -> None:
    read = set()
    for stored in await registry.active_flows(database):
        source = load_flow(stored.text, name=stored.flow).source
        if source.system == system:
            read.add(source.entity)
    if entity and entity not in read:
        # No refusal: the flow that reads it may come later.
        known = f"they read {', '.join(sorted(read))}" if read else "none reads this system"
        say(f"No flow reads {system}/{entity} ({known}), so its deliveries change nothing for now.")


async def _system(database: Database, name: str) -> registry.StoredSystem:
    found = {each.system: each for each in await registry.list_systems(database)}
    if name not in found:
        raise ConfigurationError(
            f"There is no system {name!r} (systems: {', '.join(found) or 'none yet'}). Add its document with "
            "`ipaas systems apply FILE`."
        )
    return found[name]


@subscriptions.command("remove")
@click.argument("subscription")
def remove_command(subscription: str) -> None:
    """Take no more deliveries of a SUBSCRIPTION that was made by hand; take it away in the product first."""

    async def work() -> None:
        async with engine(load=False) as opened:
            found = {each.subscription: each for each in await store.all_subscriptions(opened.database)}
            row = found.get(subscription)
            if row is None or not row.live:
                raise ConfigurationError(
                    f"There is no live subscription {subscription!r}. `ipaas subscriptions list` shows those there are."
                )
            if row.managed:
                raise ConfigurationError(
                    f"The platform made {subscription} for flows that read {row.system}/{row.entity} and would make it "
                    "again. Take `webhook` out of their triggers, or disable them: then it goes by itself."
                )
            await store.retire_subscription(opened.database, subscription)

    run_async(work())
    click.echo(f"{subscription}: takes no more deliveries")


COMMANDS = [subscriptions]
