"""The batches of one lane: claimed, mapped, written and settled by the engine, target by target."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from ipaas_assets.sync.drain import Drain
from ipaas_assets.sync.engine import Engine
from ipaas_assets.sync.model import Lane, OutcomeName, TargetWork
from ipaas_resources.core.errors import DatabaseUnavailableError, LeaseLostError, StopError
from sensors.live.defects import told
from sensors.live.gathering import Gathering
from sensors.live.opened import Opened, RetiredError

log = logging.getLogger(__name__)

#: Outcomes after which other records may be due at once: children of the same record, records that waited for a link.
_MADE: Final = (OutcomeName.CREATED.value, OutcomeName.ADOPTED.value)


class Draining:
    """What one worker does with due items, and what it did."""

    def __init__(
        self, lane: Lane, *, may_go_on: Callable[[Opened, TargetWork], bool], on_made: Callable[[], None]
    ) -> None:
        """`may_go_on` is asked between two batches; `on_made` is called when others may be due by what was done."""
        self._lane = lane
        self._may_go_on = may_go_on
        self._on_made = on_made
        self.batches = 0
        self.records = 0
        self._stages: Counter[str] = Counter()
        self._gathering = Gathering()

    def told(self) -> dict[str, Any]:
        """For logs and `ipaas status`; the seconds of batches that overlap add up."""
        seconds = {stage: round(each, 3) for stage, each in sorted(self._stages.items())}
        return {"batches": self.batches, "records": self.records, "seconds": seconds}

    async def drain(self, opened: Opened, work: TargetWork) -> None:
        """Batch after batch of one target until nothing is due there, or others want the place."""
        try:
            async with opened.used() as engine:
                await self._batches(opened, engine, work)
        except LeaseLostError as error:
            log.info(error.message)
        except RetiredError:
            pass  # the look that follows goes by the new one
        except DatabaseUnavailableError:
            pass  # the loops see it too, say it once, and go on when it answers
        except StopError as error:
            log.warning("%s is left alone for a while: %s", work.name, error.message)
            opened.targets.leave_alone(work)
        except Exception as error:  # noqa: BLE001 - a defect with one target must not end the work on the others
            log.error("%s is left alone for a while after a defect: %s", work.name, told(error))  # noqa: TRY400 - no values
            opened.targets.leave_alone(work)

    async def _batches(self, opened: Opened, engine: Engine, work: TargetWork) -> None:
        # Anew each time: what it learns of the target (a key listing) must not grow old.
        drain = Drain(
            engine.database,
            clock=engine.clock,
            ids=engine.ids,
            options=engine.options,
            sides=engine.sides(),
            run=None,
            trace_id=engine.ids.trace_id(),
            lane=self._lane,
        )
        made = 0
        try:
            while True:
                scarce = engine.limits.scarce(work.queue.target_system)
                await self._gathering.begin(work.name, engine.clock, scarce=scarce)
                done = await drain.one_batch(work)
                if not done:
                    return
                self.batches += 1
                self.records += done
                before, made = made, sum(drain.counts.outcomes[name] for name in _MADE)
                if made > before or opened.targets.is_parent(work):
                    self._on_made()
                if not drain.more or not self._may_go_on(opened, work):
                    return
        finally:
            self._stages.update(drain.counts.stages)
            await drain.first_contact.close()
