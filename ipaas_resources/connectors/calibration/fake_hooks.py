"""The product's webhooks: a person enters a URL and a secret at its screen, and every change is told there.

Signed, one event each, ids only; after 30 s, 5 m, 30 m, 2 h, 8 h and 24 h a delivery that was not taken is sent again,
then dropped (LabSync, webhook_signatures.md section 2). Our own writes are told as everybody's.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ipaas_resources.connectors.calibration import fake_webhook
from ipaas_resources.connectors.faking.sending import Content, Mailroom, Parcel, may_send_to, shown

if TYPE_CHECKING:
    from ipaas_resources.connectors.calibration.fake_store import ChangeKind
    from ipaas_resources.connectors.fakes import Request
    from ipaas_resources.connectors.faking.control import ProductControl
    from ipaas_resources.core.clock import Clock

#: Seconds between the attempts.
RETRIES = (30.0, 300.0, 1800.0, 7200.0, 28_800.0, 86_400.0)
_TAKEN = range(200, 300)


class Hook(msgspec.Struct, kw_only=True):
    """One line of the screen."""

    number: int
    url: str
    secret: str  # `whsec_...`: Standard Webhooks; any other text: the product's own form
    entities: frozenset[str]  # empty: all of them


class Hooks:
    """The webhooks of one tenant."""

    def __init__(self, clock: Clock, mailroom: Mailroom) -> None:
        self._clock = clock
        self._mailroom = mailroom
        self._hooks: dict[int, Hook] = {}
        self._numbers = itertools.count(1)
        self._events = itertools.count(1)
        # A receiver remembers ids for days: those of this run must not look like repeats of an earlier run's.
        self._run = f"{int(clock.now().timestamp() * 1000):x}_"

    def add(self, url: str, secret: str, entities: frozenset[str] = frozenset()) -> int:
        """Tell of changes there from now on; the hook's number.

        Raises:
            ValueError: the URL is not on this machine, the secret is empty, or an entity has no events.
        """
        if not may_send_to(url):
            raise ValueError("a simulated product sends to this machine only: give a URL on 127.0.0.1")
        if not secret:
            raise ValueError("a hook needs a secret")
        if unknown := sorted(entities - set(fake_webhook.EVENTS)):
            raise ValueError(f"no events tell of {', '.join(unknown)}")
        number = next(self._numbers)
        self._hooks[number] = Hook(number=number, url=url, secret=secret, entities=entities)
        return number

    def remove(self, number: int) -> None:
        """Forget a hook; what is under way is not sent any more. KeyError when it is not there."""
        del self._hooks[number]

    def tell(self, kind: ChangeKind, entity: str, identifier: int) -> None:
        """A record changed."""
        if not self._hooks or entity not in fake_webhook.EVENTS:
            return
        for hook in self._hooks.values():
            if not hook.entities or entity in hook.entities:
                self._mailroom.post(self._parcel(hook.number, hook.url, kind, entity, identifier))

    def _parcel(self, hook: int, url: str, kind: ChangeKind, entity: str, identifier: int) -> Parcel:
        subject, field = fake_webhook.EVENTS[entity]
        event, data, created = f"{subject}.{kind}", {field: identifier}, self._clock.now()
        number = next(self._events)

        def pack(_attempt: int) -> Content | None:
            there = self._hooks.get(hook)
            if there is None:
                return None
            return fake_webhook.delivery(
                there.secret,
                event,
                dict(data),
                number=number,
                now=self._clock.now(),
                run=self._run,
                created=created,
            )

        return Parcel(
            url=url,
            about=(f"{entity} {identifier}",),
            pack=pack,
            heard=_heard,
            changed=self._clock.monotonic(),
        )

    # The screen, for the simulator ---------------------------------------------------------------------------------

    def controls(self) -> Mapping[tuple[str, str], ProductControl]:
        """GET hooks, POST hooks {url, secret, entities?} (answers {"hook"}), DELETE hooks?hook=NUMBER."""
        return {("GET", "hooks"): self._list, ("POST", "hooks"): self._add, ("DELETE", "hooks"): self._remove}

    def _list(self, _request: Request) -> Any:
        return {
            "hooks": [
                {"hook": each.number, "url": shown(each.url), "entities": sorted(each.entities)}
                for each in self._hooks.values()
            ]
        }

    def _add(self, request: Request) -> Any:
        given = msgspec.convert(request.json(), _Given)
        return {"hook": self.add(given.url, given.secret, frozenset(given.entities))}

    def _remove(self, request: Request) -> Any:
        self.remove(int(request.query.get("hook", "0")))
        return {}


class _Given(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    url: str
    secret: str
    entities: list[str] = []


def _heard(attempt: int, status: int) -> float | None:
    if status in _TAKEN or attempt > len(RETRIES):
        return None
    return RETRIES[attempt - 1]
