"""The check `subscription`: whether the product tells us of changes of an entity, and what the platform does meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipaas_assets.graph import EntityNode, FlowNode
from ipaas_assets.spans import span
from ipaas_assets.sync.keeping import STAND_IN_SECONDS
from ipaas_assets.sync.wished import SECRET, no_secret
from ipaas_assets.verdicts import Verdict
from ipaas_resources.connectors import registry as connectors
from ipaas_resources.connectors.base import Manifest, WebhooksModel
from ipaas_resources.core.errors import ConfigurationError
from ipaas_resources.store.database import Database

SUBSCRIPTION = "subscription"
_SOON = "The live worker makes one within a minute; without one, run `ipaas subscriptions keep`."
#: Stands for the entity and its scopes until all scopes with this fault are known; in no text of a product.
_WHAT = "\x00"
_MOST_SCOPES = 5


def webhook_flows(readers: Sequence[FlowNode]) -> list[FlowNode]:
    """The flows that want to be told of changes by webhooks."""
    return [flow for flow in readers if flow.compiled.flow.trigger.webhook]


async def subscription(
    database: Database, entity: EntityNode, flows: Sequence[FlowNode], public_url: str | None
) -> Verdict:
    """The verdict on the subscriptions of one entity, over all scopes that these flows read."""
    enabled = {row.flow for row in await database.rows("flows_enabled", flows=[flow.name for flow in flows])}
    wanting = [flow for flow in flows if flow.name in enabled]
    rows = await database.rows("subscription_states", system=entity.system, entity=entity.entity)
    if not wanting or not rows:
        return _passed(entity, "No enabled flow wants to be told of changes.")
    if rows[0].paused or not rows[0].document.get("enabled", True):
        return _passed(entity, f"{entity.system} is switched off, and so is its subscription.")
    try:
        manifest = connectors.manifest(entity.connector)
    except ConfigurationError as error:
        return _failed(entity, [error.message], wanting)
    declared = manifest.webhooks
    if declared is None:
        return _failed(entity, [f"The connector {entity.connector} takes no webhook deliveries."], wanting)
    scopes = _scopes(manifest, rows[0].document, wanting)
    found: dict[str, list[str]] = {}
    for scope in scopes:
        live = [row for row in rows if row.subscription is not None and row.scope in {"", scope}]
        fault = _fault(entity, declared, rows[0].document, live, scope, public_url)
        if fault:
            found.setdefault(fault, []).append(scope)
    # One fault of a system strikes all of its companies: it is said once.
    faults = [
        fault.replace(_WHAT, f"{entity.name}{f' in {_listed(struck)}' if any(struck) else ''}")
        for fault, struck in found.items()
    ]
    if not scopes:
        faults = [f"{entity.system} has none of the scopes that the flows read."]
    if faults:
        return _failed(entity, faults, wanting)
    by_hand = any(row.subscription is not None and not row.managed for row in rows)
    how = "as a person registered it" if by_hand else "as it was subscribed"
    return _passed(entity, f"{entity.system} tells of changes of {entity.entity}, {how}.")


def _scopes(manifest: Manifest, document: dict[str, Any], flows: Sequence[FlowNode]) -> list[str]:
    """The scopes that the flows read, as the system document names them."""
    there = list(document.get("scopes") or {}) if manifest.scoped else [""]
    named = [flow.compiled.flow.source.scopes for flow in flows]
    return [scope for scope in there if any(each == "all" or scope in each for each in named)]


def _fault(
    entity: EntityNode,
    declared: WebhooksModel,
    document: dict[str, Any],
    live: Sequence[Any],
    scope: str,
    public_url: str | None,
) -> str:
    """What is wrong with one scope, '' when nothing is."""
    if any(not row.managed for row in live):
        return ""
    if not declared.automatic:
        return (
            f"No subscription takes deliveries of {_WHAT}, and the product has no way to ask for them: register one "
            f"with `ipaas subscriptions add {entity.system}`, which says what to enter there."
        )
    if SECRET not in (document.get("secrets") or {}):
        return no_secret(entity.system)
    if public_url is None:
        return "IPAAS_PUBLIC_URL is not set, so no product can be told where to send; set it where the platform starts."
    row = next((row for row in live if row.scope == scope and row.entity == entity.entity), None)
    return _row_fault(row, declared.lifetime)


def _row_fault(row: Any, lifetime: float | None) -> str:
    """What is wrong with a subscription that the platform makes; None: it has not begun."""
    if row is not None and row.error:
        return f"The subscription of {_WHAT} is in trouble and is tried again every minute: {row.error}"
    if row is None or row.product_id is None:
        return f"{_WHAT} is not subscribed yet. {_SOON}"
    if row.expires_in is None or lifetime is None:
        return ""
    left = float(row.expires_in)
    if left <= 0:
        return f"The subscription of {_WHAT} ran out {span(-left)} ago and nobody renewed it. {_SOON}"
    if left < lifetime / 4:
        return f"The subscription of {_WHAT} runs out in {span(left)} and nobody has renewed it. {_SOON}"
    return ""


def _listed(scopes: Sequence[str]) -> str:
    more = len(scopes) - _MOST_SCOPES
    return ", ".join(scopes[:_MOST_SCOPES]) + (f" and {more} more" if more > 0 else "")


def _passed(entity: EntityNode, description: str) -> Verdict:
    return Verdict(key=entity.key, check=SUBSCRIPTION, passed=True, description=description)


def _failed(entity: EntityNode, faults: Sequence[str], flows: Sequence[FlowNode]) -> Verdict:
    polls = [flow.compiled.flow.trigger.poll for flow in flows]
    polled = [poll for poll in polls if poll is not None]
    if polled:
        shortest, longest = min(poll.min for poll in polled), min(poll.max for poll in polled)
        meanwhile = (
            f"Meanwhile changes are found by polling, every {span(shortest.total_seconds())} to "
            f"{span(longest.total_seconds())}."
        )
    else:
        meanwhile = f"Meanwhile a live worker reads it every {span(STAND_IN_SECONDS)}."
    return Verdict(
        key=entity.key,
        check=SUBSCRIPTION,
        passed=False,
        # Where nobody polls, changes come late enough to be missed by somebody.
        serious=not polled,
        description=f"{' '.join(faults)} {meanwhile}",
        metadata={"faults": len(faults)},
    )
