"""Steers and reads a running simulator from another process: the hands of tests, demo and benchmarks.

Whatever is done here is done past the platform and enters no ledger: it is what people do in the products.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx
import msgspec

from ipaas_resources.core.values import decode, encode
from simulator.erp_world import Record
from simulator.server import Ready

System = Literal["bc", "crm", "cal", "login"]
_EFFECTS = ("effect:create", "effect:update", "effect:delete", "effect:file")


class ControlError(Exception):
    """A control endpoint refused; the message is the product's."""


class SimulatorClient:
    """One running simulator; `ready` is the line that it printed. Use it as a context manager."""

    def __init__(self, ready: Ready | bytes | str) -> None:
        self.ready = ready if isinstance(ready, Ready) else msgspec.json.decode(ready, type=Ready)
        self._urls: dict[str, str] = msgspec.structs.asdict(self.ready.urls)
        self._http = httpx.Client(
            verify=ssl.create_default_context(cafile=self.ready.ca), timeout=30, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give connections back."""
        self._http.close()

    # Reading -----------------------------------------------------------------------------------------------------

    def records(self, system: System, entity: str, scope: str = "") -> list[Record]:
        """All records of an entity, as on the wire. `scope` is our short name of a company."""
        found: list[Record] = self._call(system, "GET", f"records/{entity}", self._where(scope))["records"]
        return found

    def record(self, system: System, entity: str, field: str, value: object, scope: str = "") -> Record:
        """The one record whose field has this value. LookupError when there is none or more than one."""
        found = [record for record in self.records(system, entity, scope) if record.get(field) == value]
        if len(found) != 1:
            raise LookupError(f"{len(found)} records of {system}/{entity} have this {field}")
        return found[0]

    def ledger(self, system: System, since: int = 0) -> list[dict[str, Any]]:
        """The requests with a greater id, oldest first, with what each of them changed."""
        entries: list[dict[str, Any]] = self._call(system, "GET", "ledger", {"since": str(since)})["entries"]
        return entries

    def counts(self, system: System) -> dict[str, int]:
        """Running totals: requests, reads, writes, `status:<n>`, `effect:<kind>`."""
        totals: dict[str, int] = self._call(system, "GET", "counts")
        return totals

    def writes(self) -> dict[str, int]:
        """Per system, how many records were created, updated or deleted and files written by API calls so far."""
        return {
            system: sum(self.counts(system).get(name, 0) for name in _EFFECTS)
            for system in ("bc", "crm", "cal")
        }

    # Changing by hand --------------------------------------------------------------------------------------------

    def add(self, system: System, entity: str, fields: Mapping[str, Any], scope: str = "") -> str:
        """Add a record as a person does; its id."""
        identifier: str = self._call(system, "POST", f"records/{entity}", self._where(scope), fields)["id"]
        return identifier

    def change(
        self, system: System, entity: str, identifier: str, fields: Mapping[str, Any], scope: str = ""
    ) -> None:
        """Change a record as a person does."""
        self._call(system, "PATCH", f"records/{entity}", self._where(scope, identifier), fields)

    def remove(self, system: System, entity: str, identifier: str, scope: str = "") -> None:
        """Delete a record as a person does."""
        self._call(system, "DELETE", f"records/{entity}", self._where(scope, identifier))

    def change_items(self, count: int) -> list[tuple[str, str]]:
        """Raise the price of this many items, company by company; (scope, number) of each. One write is due for each."""
        changed: list[tuple[str, str]] = []
        per_scope = {
            scope: iter(self.records("bc", "items", scope)) for scope in list(self.ready.scopes)[:count]
        }
        while len(changed) < count:
            for scope, items in per_scope.items():
                item = next(items, None)
                if item is None:
                    raise LookupError(f"there are fewer than {count} items")
                if len(changed) < count:
                    self.change(
                        "bc",
                        "items",
                        item["id"],
                        {"unitPrice": Decimal(item["unitPrice"]) + Decimal("1.25")},
                        scope,
                    )
                    changed.append((scope, item["number"]))
        return changed

    def delete_customer(self, scope: str, number: str) -> None:
        """A person deletes a customer in Business Central."""
        customer = self.record("bc", "customers", "number", number, scope)
        self.remove("bc", "customers", customer["id"], scope)

    def issue_certificate(self, order: int) -> None:
        """The lab issues the certificate of a work order, or its next revision."""
        self.add("cal", "certificates", {"ServiceOrderId": order})

    # Trouble -----------------------------------------------------------------------------------------------------

    def fail(self, system: System, **fault: object) -> None:
        """Order a fault, see connectors/faking/faults.py: method, path, times, status, drop, tear, delay ..."""
        self._call(system, "POST", "faults", body=fault)

    def heal(self, system: System) -> None:
        """Take all ordered faults back."""
        self._call(system, "DELETE", "faults")

    def settings(self, system: System) -> dict[str, Any]:
        """latency, search_lag (seconds), limits_on."""
        found: dict[str, Any] = self._call(system, "GET", "settings")
        return found

    def set(self, system: System, **settings: object) -> None:
        """Change some of `settings`."""
        self._call(system, "POST", "settings", body=settings)

    def reset(self, system: System) -> None:
        """Forget ledger, counts and faults; records stay."""
        self._call(system, "POST", "reset")

    # Webhooks ----------------------------------------------------------------------------------------------------

    def add_hook(self, url: str, secret: str, entities: Collection[str] = ()) -> int:
        """At the lab's screen: tell of every change, or of those of some entities, at this URL; the hook's number."""
        body = {"url": url, "secret": secret, "entities": list(entities)}
        number: int = self._call("cal", "POST", "hooks", body=body)["hook"]
        return number

    def remove_hook(self, number: int) -> None:
        """At the lab's screen: tell nothing there any more."""
        self._call("cal", "DELETE", "hooks", {"hook": str(number)})

    def webhook_secret(self, system: System) -> str:
        """The secret that the system's document refers to."""
        return Path(self.ready.secrets[f"{system}_webhook_secret"].removeprefix("file:")).read_text("utf-8")

    def subscriptions(self, system: Literal["bc", "crm"]) -> list[dict[str, Any]]:
        """What is subscribed there, with `id`, `url` (without its key) and `resource`."""
        found: list[dict[str, Any]] = self._call(system, "GET", "subscriptions")["subscriptions"]
        return found

    def drop_subscription(self, system: Literal["bc", "crm"], identifier: str) -> None:
        """Somebody there deletes a subscription behind our back."""
        self._call(system, "DELETE", "subscriptions", {"id": identifier})

    def set_notification_delay(self, system: Literal["bc", "crm"], seconds: float) -> None:
        """How long the product waits before it tells of a change (Business Central: 30 s unless changed)."""
        self._call(system, "POST", "notifications", body={"delay": seconds})

    def mischief(self, system: System, *, duplicate: float = 0, shuffle: float = 0, drop: float = 0) -> None:
        """What happens to deliveries from now on: shares sent twice or lost, seconds that they are held back at random."""
        self._call(
            system, "POST", "mischief", body={"duplicate": duplicate, "shuffle": shuffle, "drop": drop}
        )

    def deliveries(self, system: System, since: int = 0) -> list[dict[str, Any]]:
        """The attempts to deliver with a greater number, oldest first; fields as in faking/ledger.py."""
        found: list[dict[str, Any]] = self._call(system, "GET", "deliveries", {"since": str(since)})[
            "entries"
        ]
        return found

    # How ---------------------------------------------------------------------------------------------------------

    def _where(self, scope: str = "", identifier: str = "") -> dict[str, str]:
        where = {"scope": self.ready.scopes[scope]} if scope else {}
        return {**where, "id": identifier} if identifier else where

    def _call(
        self,
        system: System,
        method: str,
        path: str,
        where: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        answer = self._http.request(
            method,
            f"{self._urls[system]}/_sim/{path}",
            params=dict(where or {}),
            content=encode(dict(body)) if body is not None else None,
        )
        if answer.status_code >= httpx.codes.BAD_REQUEST:
            raise ControlError(f"{system} answered {answer.status_code}: {answer.text[:500]}")
        return decode(answer.content)
