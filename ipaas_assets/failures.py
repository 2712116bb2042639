"""How a step fails: with a sentence, and so that Dagster tries again only where that can help.

Dagster has three ways to try again. `Failure(allow_retries=False)` speaks to one of them, the retry policy of an op;
run retries look at the run's tags, in the process that reports the failure. Hence the hook: without it a run that asks
for retries is started again for wrong credentials, too.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, TypeVar

import dagster as dg

from ipaas_resources.core.errors import DatabaseUnavailableError, IpaasError, StopError
from ipaas_resources.core.platform import run_async

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_TAG = "dagster/retry_on_asset_or_op_failure"
MAX_RETRIES_TAG = "dagster/max_retries"
#: Tags of a run that is worth another start when it fails for a reason that may pass.
RETRIED = {RETRY_TAG: "true", MAX_RETRIES_TAG: "2"}


@dg.failure_hook(name="no_retry_without_hope")
def no_retry_without_hope(context: dg.HookContext) -> None:
    """Tell the daemon not to start the run again when the step said that this cannot help."""
    error = context.op_exception
    if isinstance(error, dg.Failure) and not error.allow_retries:
        context.instance.add_run_tags(context.run_id, {RETRY_TAG: "false"})


def failure(message: str, *, retryable: bool, metadata: Mapping[str, Any] | None = None) -> dg.Failure:
    """The failure to raise from a step; the sentence stands on the run's page."""
    return dg.Failure(description=message, metadata=metadata, allow_retries=retryable)


@contextlib.contextmanager
def told_as_failure(what: str) -> Iterator[None]:
    """Let errors leave as failures that hold no value of a record; `what` begins the sentence about unexpected ones.

    Raises:
        dagster.Failure: an IpaasError with its own sentence; anything else with its type and place alone, for the text
            of a driver's error quotes the statement and the row.
    """
    try:
        yield
    except dg.Failure:
        raise
    except IpaasError as error:
        raise failure(error.message, retryable=_may_pass(error)) from None
    except Exception as error:  # noqa: BLE001 - see above: nothing may leave with its text
        raise _unexpected(error, what) from None


def run_step(work: Coroutine[Any, Any, T], *, what: str) -> T:
    """Run the coroutine of a step. Raises dagster.Failure, see `told_as_failure`."""
    with told_as_failure(what):
        return run_async(work)


def _may_pass(error: IpaasError) -> bool:
    # A database that restarts stops this run, not the next one.
    return not isinstance(error, StopError) or isinstance(error, DatabaseUnavailableError)


def _unexpected(error: BaseException, what: str) -> dg.Failure:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    kind = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
    # Places only: the lines of a traceback are our source, its last line would be the error's own text.
    log.error("%s met a %s:\n%s", what, kind, "".join(traceback.format_list(frames)))
    return failure(
        f"{what} met a {kind} at {place}, a fault of the platform. The run's log has the traceback; what was "
        "committed stays, and the next run goes on from there. Please report it.",
        retryable=True,
    )
