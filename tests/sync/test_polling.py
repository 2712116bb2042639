from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ipaas_assets.sync.model import Lane
from ipaas_assets.sync.polling import (
    due_polls,
    next_interval,
    next_poll_in,
    pause_after,
    poll,
    polls,
    span,
    told,
    told_together,
)
from ipaas_assets.sync.run import pull_entity
from ipaas_resources.core.errors import (
    CircuitOpenError,
    CredentialsError,
    DatabaseUnavailableError,
    ThrottledError,
)
from ipaas_resources.store import polling as store
from ipaas_resources.store.database import Database
from ipaas_resources.store.polling import PollState, WantedPoll
from ipaas_resources.store.server import DatabaseUrls
from tests.sync.product import Product
from tests.sync.rig import Rig, flow, rig

POLL = "trigger: {poll: {min: 15s, max: 15m}}\n"


def polled_flow(trigger: str = POLL, name: str = "people") -> str:
    return flow().replace("flow: people", f"flow: {name}").replace("\nwhen:", f"\n{trigger}when:")


@pytest.fixture
async def made(fresh_database: DatabaseUrls) -> AsyncIterator[Rig]:
    async with rig(fresh_database) as opened:
        await opened.apply(polled_flow())
        yield opened


def source(rig: Rig) -> Product:
    return rig.products["erp"]


def customers(rig: Rig, *numbers: int, scope: str = "") -> None:
    for number in numbers:
        source(rig).put(
            f"c{number}", scope, number=str(number), name=f"N{number}", balance=1, email="", parent=""
        )


def state(rig: Rig, scope: str = "") -> dict[str, Any]:
    names = (
        "poll_interval",
        "poll_failures",
        "poll_reason",
        "poll_full",
        "last_error",
        "extract(epoch FROM poll_due_at - now())::float",
    )
    (row,) = rig.sql(f"SELECT {', '.join(names)} FROM entity_state WHERE scope = %s", scope)
    return dict(zip(("interval", "failures", "reason", "full", "error", "due_in"), row, strict=True))


def let_it_be_due(rig: Rig) -> None:
    rig.sql("UPDATE entity_state SET poll_due_at = now() - interval '1 second' WHERE poll_due_at IS NOT NULL")


def ask(rig: Rig, *, full: bool = False) -> None:
    """What a lost subscription or a notification without records does."""
    rig.sql(
        "INSERT INTO entity_state AS e (system, scope, entity, poll_due_at, poll_full) "
        "VALUES ('erp', '', 'customers', now(), %s) ON CONFLICT (system, scope, entity) DO UPDATE "
        "SET poll_due_at = now(), poll_full = e.poll_full OR excluded.poll_full",
        full,
    )


async def poll_once(rig: Rig) -> Any:
    (due,) = await due_polls(rig.engine)
    return await poll(rig.engine, due)


# --- the interval ---------------------------------------------------------------------------------------------------


def test_one_change_brings_the_shortest_interval_back() -> None:
    assert next_interval(900, 1, 15, 900) == 15


def test_an_idle_entity_is_asked_more_and_more_rarely_up_to_the_longest_interval() -> None:
    seen, interval = [], None
    for _ in range(12):
        interval = next_interval(interval, 0, 15, 900)
        seen.append(interval)

    assert seen[:3] == [22.5, 33.75, 50.625]
    assert seen == sorted(seen)
    assert seen[-1] == 900


def test_an_interval_from_other_times_is_brought_within_what_the_flows_allow() -> None:
    assert next_interval(5000, 0, 15, 60) == 60
    assert next_interval(1, 0, 60, 600) == 90


@pytest.mark.parametrize(
    ("failures", "retry_after", "pause"),
    [
        (1, None, 30),
        (2, None, 60),
        (3, None, 120),
        (20, None, 900),
        (500, None, 900),
        (1, 45, 45),
        (20, 3600, 3600),
    ],
)
def test_failures_double_the_pause_and_what_the_system_asked_for_is_the_least(
    failures: int, retry_after: float | None, pause: float
) -> None:
    assert pause_after(failures, 15, 15, 900, retry_after) == pause


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (22.4, "22 s"), (90, "90 s"), (240, "4 m"), (900, "15 m"), (7200, "2 h")],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert span(seconds) == said


# --- what is due ----------------------------------------------------------------------------------------------------


async def test_an_entity_that_was_never_read_is_due_at_once(made: Rig) -> None:
    (due,) = await due_polls(made.engine)

    assert (due.wanted.system, due.wanted.entity, due.wanted.scope) == ("erp", "customers", "")
    assert (due.long, due.full, due.failures) == (True, False, 0)
    assert await next_poll_in(made.engine) == 0


async def test_polls_that_find_changes_stay_quick_and_idle_ones_become_rare(made: Rig) -> None:
    customers(made, 1, 2, 3)

    first = await poll_once(made)
    assert (first.outcome, first.reason) == ("pulled", "3 changes: every 15 s")
    assert state(made)["due_in"] == pytest.approx(15, abs=3)
    assert await due_polls(made.engine) == []
    assert await next_poll_in(made.engine) == pytest.approx(15, abs=3)

    let_it_be_due(made)
    await poll_once(made)  # reads the last change once more: the cursor overlaps
    let_it_be_due(made)
    idle = await poll_once(made)
    assert idle.reason.startswith("idle: every ")
    assert state(made)["interval"] > 22

    customers(made, 4)
    let_it_be_due(made)
    assert (await poll_once(made)).reason == "1 change: every 15 s"


async def test_the_most_eager_of_several_flows_decides(made: Rig) -> None:
    await made.apply(polled_flow("trigger: {poll: {min: 5s, max: 1h}}\n", "eager"))
    await made.apply(polled_flow("trigger: {webhook: true}\n", "told"))

    (one,) = await polls(made.engine)
    assert (one.wanted.poll_min, one.wanted.poll_max) == (5, 900)

    made.sql("UPDATE flows SET enabled = false WHERE flow = 'eager'")
    await made.open()
    (one,) = await polls(made.engine)
    assert one.wanted.poll_min == 15


async def test_every_scope_is_polled_by_itself(fresh_database: DatabaseUrls) -> None:
    async with rig(fresh_database, source=Product(scopes=("a", "b"))) as made:
        await made.apply(polled_flow())
        customers(made, 1, scope="a")

        for due in await due_polls(made.engine):
            await poll(made.engine, due)

        assert state(made, "a")["reason"] == "1 change: every 15 s"
        assert state(made, "b")["reason"] == "idle: every 22 s"


async def test_a_shorter_longest_interval_holds_at_once(made: Rig) -> None:
    await poll_once(made)
    made.sql(
        "UPDATE entity_state SET poll_interval = 900, poll_due_at = now() + interval '900 s', "
        "last_pull_at = now() - interval '100 s'"
    )
    assert await due_polls(made.engine) == []

    await made.apply(polled_flow("trigger: {poll: {min: 15s, max: 1m}}\n"))

    assert len(await due_polls(made.engine)) == 1
    await poll_once(made)
    assert state(made)["due_in"] < 61


async def test_a_paused_system_and_a_disabled_flow_are_not_polled(made: Rig) -> None:
    made.sql("UPDATE systems SET paused = true WHERE system = 'erp'")
    assert await due_polls(made.engine) == []
    assert await next_poll_in(made.engine) is None
    assert told((await polls(made.engine))[0]) == "erp/customers: erp is paused"

    made.sql("UPDATE systems SET paused = false")
    made.sql("UPDATE flows SET enabled = false")
    await made.open()
    assert await polls(made.engine) == []


async def test_an_open_breaker_is_waited_for_and_a_half_open_one_is_not(made: Rig) -> None:
    made.sql(
        "INSERT INTO breakers (system, failures, opened_at, open_until) "
        "VALUES ('erp', 5, now(), now() + interval '200 s')"
    )
    assert await due_polls(made.engine) == []
    assert await next_poll_in(made.engine) == pytest.approx(200, abs=5)
    assert "the circuit breaker of erp is open for 3 m" in told((await polls(made.engine))[0])

    made.sql("UPDATE breakers SET open_until = now() - interval '1 s'")
    assert len(await due_polls(made.engine)) == 1


async def test_a_system_that_asked_for_a_pause_is_left_alone_for_that_long(made: Rig) -> None:
    made.sql(
        "INSERT INTO rate_budgets (system, credential, scope, tokens, counted_at, not_before) VALUES "
        "('erp', 'one', '', 1, now(), now() + interval '90 s'), ('erp', 'one', 'other', 1, now(), now() + interval '1 h')"
    )

    assert await due_polls(made.engine) == []
    assert await next_poll_in(made.engine) == pytest.approx(90, abs=5)


# --- who is asked ---------------------------------------------------------------------------------------------------


async def test_an_entity_with_webhooks_alone_is_polled_only_when_somebody_asks(made: Rig) -> None:
    await made.apply(polled_flow("trigger: {webhook: true}\n"))
    customers(made, 1)
    assert await due_polls(made.engine) == []
    assert await next_poll_in(made.engine) is None

    ask(made)
    assert (await poll_once(made)).reason == "1 change: when somebody asks"

    assert await due_polls(made.engine) == []
    assert state(made)["due_in"] is None


async def test_an_asked_poll_that_fails_is_tried_again_until_it_is_made(made: Rig) -> None:
    await made.apply(polled_flow("trigger: {webhook: true}\n"))
    customers(made, 1)
    ask(made, full=True)
    source(made).faults.busy = 1.0
    assert (await poll_once(made)).outcome == "failed"
    assert state(made)["full"] is True
    assert state(made)["due_in"] == pytest.approx(30, abs=3)

    source(made).faults.busy = 0.0
    let_it_be_due(made)
    assert (await poll_once(made)).full is True
    assert state(made)["full"] is False
    assert state(made)["due_in"] is None


async def test_a_wish_made_while_the_poll_goes_on_stands(made: Rig) -> None:
    customers(made, *range(1, 9))

    async def meanwhile() -> None:
        # In a thread: the page that is being stored may hold the row.
        await asyncio.to_thread(ask, made, full=True)

    source(made).hold_page = meanwhile
    await poll_once(made)
    source(made).hold_page = None

    assert state(made)["full"] is True
    (due,) = await due_polls(made.engine)
    assert due.full
    await poll(made.engine, due)
    assert state(made)["full"] is False
    assert await due_polls(made.engine) == []


async def test_a_full_read_that_failed_on_its_way_goes_on_and_does_not_begin_again(made: Rig) -> None:
    customers(made, *range(1, 10))
    await poll_once(made)
    ask(made, full=True)
    (due,) = await due_polls(made.engine)

    async def fail_next() -> None:
        source(made).faults.busy = 1.0

    source(made).hold_page = fail_next
    assert (await poll(made.engine, due)).outcome == "failed"
    source(made).hold_page, source(made).faults.busy = None, 0.0
    assert state(made)["full"] is False

    let_it_be_due(made)
    again = await poll_once(made)
    assert (again.outcome, again.full) == ("pulled", False)
    # The pages that were left; the first one is read by the changes scan that follows, if at all.
    assert made.sql("SELECT last_complete_at IS NOT NULL, scan_full FROM entity_state") == [(True, False)]


# --- a pull counts --------------------------------------------------------------------------------------------------


async def test_a_run_that_has_just_read_the_entity_counts_as_a_poll(made: Rig) -> None:
    await made.run()
    assert await due_polls(made.engine) == []
    assert await next_poll_in(made.engine) == pytest.approx(15, abs=3)

    made.sql("UPDATE entity_state SET last_pull_at = now() - interval '16 s'")
    await poll_once(made)
    let_it_be_due(made)
    await pull_entity(made.engine, "erp", "customers")

    assert await due_polls(made.engine) == []
    assert state(made)["reason"] == "read by a run"


async def test_a_run_by_hand_ends_a_row_of_failures(made: Rig) -> None:
    source(made).faults.busy = 1.0
    await poll_once(made)
    assert state(made)["failures"] == 1

    source(made).faults.busy = 0.0
    await made.run()

    assert state(made)["failures"] == 0


async def test_what_was_asked_for_while_a_run_read_is_still_polled(made: Rig) -> None:
    customers(made, *range(1, 9))

    async def meanwhile() -> None:
        # In a thread: the page that is being stored may hold the row.
        await asyncio.to_thread(ask, made)

    source(made).hold_page = meanwhile
    await made.run()
    source(made).hold_page = None

    assert len(await due_polls(made.engine)) == 1


async def test_a_full_wish_is_fulfilled_by_a_full_run_alone(made: Rig) -> None:
    await made.run()
    ask(made, full=True)

    await made.run()
    assert state(made)["full"] is True
    assert len(await due_polls(made.engine)) == 1

    await made.run(mode="full")
    assert state(made)["full"] is False
    assert await due_polls(made.engine) == []


# --- two at once, crashes -------------------------------------------------------------------------------------------


async def test_of_many_workers_that_see_the_same_moment_one_polls(made: Rig) -> None:
    customers(made, 1)
    await poll_once(made)
    for _ in range(5):
        let_it_be_due(made)
        (due,) = await due_polls(made.engine)
        source(made).calls.clear()

        outcomes = [
            each.outcome for each in await asyncio.gather(*(poll(made.engine, due) for _ in range(8)))
        ]

        assert sorted(outcomes) == ["elsewhere"] * 7 + ["pulled"]
        assert source(made).calls.count("changes") == 1


async def test_of_many_workers_at_the_very_first_poll_one_polls(made: Rig) -> None:
    (due,) = await due_polls(made.engine)

    outcomes = [each.outcome for each in await asyncio.gather(*(poll(made.engine, due) for _ in range(8)))]

    assert outcomes.count("pulled") == 1
    assert source(made).calls.count("changes") == 1


async def test_an_entity_that_is_being_pulled_is_looked_at_again_soon(made: Rig) -> None:
    await poll_once(made)
    let_it_be_due(made)
    (due,) = await due_polls(made.engine)
    made.sql("UPDATE entity_state SET lease_token = 1, lease_until = now() + interval '180 s'")

    assert (await poll(made.engine, due)).outcome == "elsewhere"
    assert await due_polls(made.engine) == []
    assert 0 < (await next_poll_in(made.engine) or 0) <= 5
    assert "is being pulled" in told((await polls(made.engine))[0])


async def test_a_pull_that_began_after_the_claim_is_left_to_whoever_makes_it(made: Rig) -> None:
    await poll_once(made)
    let_it_be_due(made)
    (due,) = await due_polls(made.engine)

    class Slower(type(made.database)):  # type: ignore[misc]
        async def rows(self, name: str, **parameters: Any) -> list[Any]:
            rows = await super().rows(name, **parameters)
            if name == "poll_claim":
                made.sql("UPDATE entity_state SET lease_token = 1, lease_until = now() + interval '180 s'")
            return rows

    made.database.__class__ = Slower
    polled = await poll(made.engine, due)

    assert (polled.outcome, polled.reason) == ("elsewhere", "another worker pulls it")
    assert state(made)["due_in"] == pytest.approx(5, abs=3)


async def test_the_claim_of_a_worker_that_died_runs_out(made: Rig) -> None:
    (due,) = await due_polls(made.engine)
    assert await store.claim(made.database, due, seconds=180) is not None
    assert await due_polls(made.engine) == []

    let_it_be_due(made)

    assert (await poll_once(made)).outcome == "pulled"


async def test_a_worker_that_is_told_to_end_leaves_its_poll_to_the_others(made: Rig) -> None:
    customers(made, *range(1, 9))
    (due,) = await due_polls(made.engine)
    reached, never = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await never.wait()

    source(made).hold_page = wait
    going = asyncio.create_task(poll(made.engine, due))
    await reached.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    source(made).hold_page = None

    (due,) = await due_polls(made.engine)
    assert (await poll(made.engine, due)).outcome == "pulled"
    assert made.sql("SELECT count(*) FROM mirror") == [(8,)]


async def test_a_poll_that_takes_too_long_stops_with_what_it_has_and_goes_on_next_time(made: Rig) -> None:
    customers(made, *range(1, 9))
    (due,) = await due_polls(made.engine)

    async def for_ever() -> None:
        await asyncio.Event().wait()

    source(made).hold_page = for_ever
    polled = await poll(made.engine, due, within=2.0)
    assert (polled.outcome, polled.error) == ("unfinished", "")
    kept = made.sql("SELECT count(*) FROM mirror")
    source(made).hold_page = None

    let_it_be_due(made)
    assert (await poll_once(made)).outcome == "pulled"
    assert 0 < kept[0][0] < 8
    assert made.sql("SELECT count(*) FROM mirror") == [(8,)]


# --- failures -------------------------------------------------------------------------------------------------------


async def test_failures_in_a_row_are_counted_and_told(made: Rig) -> None:
    source(made).faults.busy = 1.0
    reasons = []
    for _ in range(4):
        reasons.append((await poll_once(made)).reason)
        let_it_be_due(made)

    assert reasons == [
        "failed once: every 30 s",
        "failed 2 times: every 60 s",
        "failed 3 times: every 2 m",
        "failed 4 times: every 4 m",
    ]
    assert state(made)["error"]

    source(made).faults.busy = 0.0
    assert (await poll_once(made)).outcome == "pulled"
    after = state(made)
    assert (after["failures"], after["error"]) == (0, None)


@pytest.mark.parametrize(
    ("error", "retryable", "due_in"),
    [
        (ThrottledError("Slow down.", retry_after=3600), True, 3600),
        (CredentialsError("The password is wrong."), False, 30),
    ],
)
async def test_any_error_of_the_source_is_recorded_and_waited_for(
    made: Rig, error: Exception, retryable: bool, due_in: float
) -> None:
    async def refuse() -> None:
        raise error

    customers(made, *range(1, 9))
    source(made).hold_page = refuse

    polled = await poll_once(made)

    assert (polled.outcome, polled.retryable, polled.failures) == ("failed", retryable, 1)
    assert state(made)["error"] == str(error)
    assert state(made)["due_in"] == pytest.approx(due_in, abs=5)


async def test_a_request_that_the_breaker_did_not_let_through_is_no_failure(made: Rig) -> None:
    async def refuse() -> None:
        raise CircuitOpenError("It is open.", retry_after=120)

    customers(made, *range(1, 9))
    source(made).hold_page = refuse

    polled = await poll_once(made)

    assert (polled.outcome, polled.failures) == ("failed", 0)
    assert polled.reason == "the circuit breaker of erp is open: again in 2 m"
    assert state(made)["due_in"] == pytest.approx(120, abs=5)


async def test_a_defect_of_a_connector_is_a_failure_that_tells_no_value(
    made: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "Secret Customer Ltd"

    async def break_down() -> None:
        raise KeyError(secret)

    customers(made, *range(1, 9))
    source(made).hold_page = break_down

    polled = await poll_once(made)

    assert (polled.outcome, polled.failures, polled.retryable) == ("failed", 1, False)
    assert "KeyError" in polled.error
    assert secret not in polled.error + caplog.text


async def test_a_database_that_goes_away_is_told_to_the_caller(made: Rig) -> None:
    (due,) = await due_polls(made.engine)

    async def gone() -> None:
        raise DatabaseUnavailableError

    customers(made, *range(1, 9))
    source(made).hold_page = gone

    with pytest.raises(DatabaseUnavailableError):
        await poll(made.engine, due)


# --- lanes ----------------------------------------------------------------------------------------------------------


async def test_a_first_load_does_not_stand_in_the_way_of_what_changes(made: Rig) -> None:
    customers(made, 1, 2)
    await poll_once(made)
    assert made.sql("SELECT DISTINCT lane FROM work_items") == [(int(Lane.BATCH),)]

    customers(made, 3)
    let_it_be_due(made)
    await poll_once(made)
    assert made.sql("SELECT lane FROM work_items WHERE record = 'c3'") == [(int(Lane.POLLING),)]


async def test_a_flow_that_no_longer_finds_its_scope_does_not_stop_the_polls_of_others(
    fresh_database: DatabaseUrls, database: DatabaseUrls
) -> None:
    async with rig(fresh_database) as made:
        await made.apply(polled_flow())
        await made.apply(
            polled_flow(name="lost").replace("entity: customers}", "entity: customers, scopes: [gone]}", 1)
        )

        assert [each.wanted.scope for each in await polls(made.engine)] == [""]


async def test_ten_thousand_entities_are_looked_at_in_one_statement(database: DatabaseUrls) -> None:
    opened = Database(database.app)
    statements = []
    try:
        wanted = [
            store.WantedPoll(system="many", entity=f"e{n}", scope="", poll_min=15, poll_max=60)
            for n in range(10_000)
        ]
        rows = opened.rows

        async def counted(name: str, **parameters: Any) -> list[Any]:
            statements.append(name)
            return await rows(name, **parameters)

        opened.rows = counted  # type: ignore[method-assign]
        states = await store.standing(opened, wanted)
    finally:
        await opened.close()

    assert len(states) == 10_000
    assert statements == ["polls_standing"]


def test_scopes_that_stand_alike_are_told_in_one_sentence() -> None:
    def state(scope: str, due_in: float, **other: Any) -> PollState:
        given = {"reason": "idle: every 22 s", "interval": 22.0, "failures": 0, "full": False, "long": False}
        given |= {"busy": False, "paused": False, "breaker": None, "not_before": None, "error": None}
        given |= {"known": True, "seen": None} | other
        return PollState(wanted=WantedPoll(system="bc", entity="items", scope=scope), due_in=due_in, **given)

    companies = [state(f"c{number}", 5.0 + number) for number in range(22)]
    assert told_together([*companies, state("x", 3.0, reason="2 changes: every 15 s")]) == [
        "bc/items, 22 scopes: idle: every 22 s, next in 5 s to 26 s",
        "bc/items of x: 2 changes: every 15 s, next in 3 s",
    ]
