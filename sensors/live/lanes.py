"""What each lane looks after, and how much of it at once."""

from __future__ import annotations

from typing import Final

from ipaas_assets.sync.model import Lane
from ipaas_resources.core.limits import BudgetLane
from ipaas_resources.settings import Settings
from sensors.live.feeds import Deliveries, Owed, Polls, Subscriptions
from sensors.live.worker import Feed, WorkerOptions

#: Seconds without the embedded database after which a worker ends: a fresh one finds it at its new address.
_EMBEDDED_OUTAGE: Final = 15.0
#: For whom a process of the lane asks for its share of a system's budget.
BUDGETS: Final[dict[Lane, BudgetLane]] = {
    Lane.REALTIME: "realtime",
    Lane.POLLING: "polling",
    Lane.BATCH: "batch",
}


def options_for(lane: Lane, settings: Settings) -> WorkerOptions:
    """How the worker of a lane works under these settings."""
    concurrency = {
        Lane.REALTIME: settings.realtime_concurrency,
        Lane.POLLING: settings.polling_concurrency,
        Lane.BATCH: settings.batch_concurrency,
    }[lane]
    embedded = settings.database_url is None
    return WorkerOptions(
        lane=lane, concurrency=concurrency, outage=_EMBEDDED_OUTAGE if embedded else float("inf")
    )


def feeds_of(lane: Lane, settings: Settings) -> list[Feed]:
    """What the worker of a lane looks after beside the queue."""
    match lane:
        case Lane.REALTIME:
            return [Deliveries()]
        case Lane.POLLING:
            return [Polls(), Subscriptions(settings.public_url)]
        case Lane.BATCH:
            return [Owed()]
