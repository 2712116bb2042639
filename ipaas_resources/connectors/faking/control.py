"""The `/_sim/` endpoints: another process reads the ledger, orders faults and edits records of a fake by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from ipaas_resources.connectors.faking.faults import Fault
from ipaas_resources.connectors.faking.sending import Mischief
from ipaas_resources.connectors.faking.wire import Reply, Request, dumps, json_reply

if TYPE_CHECKING:
    from ipaas_resources.connectors.fakes import FakeApp
    from ipaas_resources.core.values import Value

PREFIX = "/_sim/"
#: A control of one product: the request, its body read -> what is answered as JSON.
ProductControl = Callable[["Request"], "Value"]
_SETTINGS = ("latency", "search_lag", "limits_on")


async def control(app: FakeApp, request: Request) -> Reply:
    """Answer one control request; it is in no ledger, meets no fault, needs no sign-in.

    GET ledger?since=ID, GET counts, POST faults (one Fault or a list), GET faults, DELETE faults, POST reset (ledger
    and faults), GET or POST settings {latency, search_lag, limits_on}, GET deliveries?since=NUMBER, GET or POST
    mischief {duplicate, shuffle, drop} (see sending.py), and records/ENTITY?scope=S[&id=ID]: GET lists, POST adds
    (answers {"id"}), PATCH changes, DELETE removes. What else a product's own screens do: its `sim_controls`.
    """
    await request.read()
    name, _, rest = request.path.removeprefix(PREFIX).partition("/")
    if name == "records" and rest:
        return _records(app, request, rest)
    answer = _ROUTES.get((request.method, name)) or _of_the_product(app, request.method, name)
    if answer is None:
        return json_reply({"error": f"no control endpoint {request.method} {PREFIX}{name}"}, 404)
    try:
        return json_reply(answer(app, request))
    except KeyError as missing:
        return json_reply({"error": f"there is no {missing}"}, 404)
    except (msgspec.ValidationError, ValueError) as error:
        return json_reply({"error": str(error)}, 400)


def _of_the_product(app: FakeApp, method: str, name: str) -> Callable[[FakeApp, Request], Value] | None:
    own = app.sim_controls().get((method, name))
    return None if own is None else lambda _app, request: own(request)


def _deliveries(app: FakeApp, request: Request) -> Value:
    since = int(request.query.get("since", "0"))
    entries = [msgspec.structs.asdict(one) for one in app.ledger.deliveries if one.number > since]
    return {"entries": entries, "next": max((one["number"] for one in entries), default=since)}


def _show_mischief(app: FakeApp, _request: Request) -> Value:
    return msgspec.structs.asdict(app.mailroom.mischief)


def _set_mischief(app: FakeApp, request: Request) -> Value:
    # Through JSON, for Decimals of the body are floats here.
    app.mailroom.mischief = msgspec.json.decode(dumps(request.json()), type=Mischief)
    return _show_mischief(app, request)


def _ledger(app: FakeApp, request: Request) -> Value:
    since = int(request.query.get("since", "0"))
    entries = [msgspec.structs.asdict(entry) for entry in app.ledger.since(since)]
    for entry in entries:
        entry["effects"] = [msgspec.structs.asdict(effect) for effect in entry["effects"]]
    return {"entries": entries, "next": max((e["request_id"] for e in entries), default=since)}


def _counts(app: FakeApp, _request: Request) -> Value:
    return {**app.ledger.counts, "in_flight": app.in_flight}


def _add_faults(app: FakeApp, request: Request) -> Value:
    given = request.json()
    faults = [
        msgspec.convert(one, Fault, strict=False) for one in (given if isinstance(given, list) else [given])
    ]
    app.faults.extend(faults)
    return {"faults": len(app.faults)}


def _show_faults(app: FakeApp, _request: Request) -> Value:
    shown = []
    for fault in app.faults:
        fields = msgspec.structs.asdict(fault)
        fields.pop("match"), fields.pop("change")
        shown.append(fields)
    return {"faults": shown}


def _clear_faults(app: FakeApp, _request: Request) -> Value:
    app.faults.clear()
    return {"faults": 0}


def _reset(app: FakeApp, _request: Request) -> Value:
    app.faults.clear()
    app.ledger.clear()
    return {}


def _show_settings(app: FakeApp, _request: Request) -> Value:
    return {name: getattr(app, name) for name in _SETTINGS}


def _set_settings(app: FakeApp, request: Request) -> Value:
    given = request.json()
    unknown = sorted(set(given) - set(_SETTINGS))
    if unknown:
        raise ValueError(f"unknown settings {unknown}; known: {list(_SETTINGS)}")
    for name, value in given.items():
        setattr(app, name, bool(value) if name == "limits_on" else float(value))
    return _show_settings(app, request)


_ROUTES = {
    ("GET", "ledger"): _ledger,
    ("GET", "counts"): _counts,
    ("GET", "faults"): _show_faults,
    ("POST", "faults"): _add_faults,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "reset"): _reset,
    ("GET", "settings"): _show_settings,
    ("POST", "settings"): _set_settings,
    ("GET", "deliveries"): _deliveries,
    ("GET", "mischief"): _show_mischief,
    ("POST", "mischief"): _set_mischief,
}


def _records(app: FakeApp, request: Request, entity: str) -> Reply:
    scope, identifier = request.query.get("scope", ""), request.query.get("id", "")
    try:
        match request.method:
            case "GET":
                return json_reply({"records": app.sim_records(entity, scope)})
            case "POST":
                return json_reply({"id": app.sim_add(entity, scope, request.json())}, 201)
            case "PATCH":
                app.sim_change(entity, scope, identifier, request.json())
            case "DELETE":
                app.sim_remove(entity, scope, identifier)
            case _:
                return json_reply({"error": "use GET, POST, PATCH or DELETE"}, 405)
    except KeyError as missing:
        return json_reply({"error": f"there is no {missing} in {entity}"}, 404)
    except (NotImplementedError, ValueError) as error:
        return json_reply({"error": str(error)}, 400)
    return json_reply({})
