"""Circuit breakers in PostgreSQL, shared by processes that know nothing of each other."""

import asyncio

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from ipaas_resources.core.breaker import BreakerPolicy
from ipaas_resources.core.clock import ManualClock, SeededIds
from ipaas_resources.core.errors import (
    CircuitOpenError,
    DatabaseUnavailableError,
    SystemBusyError,
    UnknownOutcomeError,
    UnreachableError,
)
from ipaas_resources.core.limits import BudgetKey, LimitPolicy, Unlimited
from ipaas_resources.net.client import HttpClient
from ipaas_resources.net.retry import RetryPolicy
from ipaas_resources.store.breakers import Breakers, breaker_states, open_systems, reset_breaker
from ipaas_resources.store.database import Database

LEASE = 100.0


class World:
    """One database, any number of processes, and hands that move its clock."""

    def __init__(self, urls):
        self._url = urls.owner
        self.database = Database(urls.app)
        self.clock = ManualClock()
        self.clients = []

    def process(self):
        """The breakers as another process keeps them."""
        return Breakers(self.database, clock=self.clock)

    def look_again(self):
        """What processes believe is older than they believe it."""
        self.clock.advance(1.1)

    def sql(self, statement):
        plain = make_url(self._url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement)

    def let_the_opening_end(self):
        self.sql("UPDATE breakers SET open_until = now() - interval '1 second'")
        self.look_again()

    def let_the_probe_die(self):
        self.sql(
            "UPDATE breakers SET probe_until = now() - interval '1 second' WHERE probe_until IS NOT NULL"
        )
        self.look_again()

    def client(self, answer, *, system="bc", policy=None, retries=()):
        """A client of the system in a process of its own."""

        async def handle(request):
            await asyncio.sleep(0)
            result = answer(request)
            if isinstance(result, Exception):
                raise result
            return httpx.Response(result, json={})

        made = HttpClient(
            system=system,
            base_url="https://bc.example",
            clock=self.clock,
            ids=SeededIds(1),
            limits=Unlimited(),
            budget=BudgetKey(system, "app"),
            policy=LimitPolicy(requests=6000, window=300, concurrency=5),
            breaker=self.process().of(system, policy),
            retry=RetryPolicy(delays=retries),
            transport=lambda: httpx.MockTransport(handle),
        )
        self.clients.append(made)
        return made


@pytest.fixture
async def world(fresh_database):
    made = World(fresh_database)
    yield made
    for client in made.clients:
        await client.close()
    await made.database.close()


async def fail(breaker, times, reason="bc GET customers was answered with 503."):
    for _ in range(times):
        await breaker.failed(None, reason)


async def test_five_failures_in_a_row_open_it_for_every_process(world):
    one, other = world.process().of("bc"), world.process().of("bc")
    await fail(one, 4)
    await other.check()
    await fail(one, 1)
    with pytest.raises(CircuitOpenError) as here:
        await one.check()
    world.look_again()
    with pytest.raises(CircuitOpenError) as there:
        await other.enter(LEASE)
    for raised in (here, there):
        assert 295 < raised.value.retry_after <= 300
        assert "was answered with 503" in raised.value.message


async def test_failures_are_counted_over_all_processes(world):
    for _ in range(5):
        await fail(world.process().of("bc"), 1)
    with pytest.raises(CircuitOpenError):
        await world.process().of("bc").check()


async def test_an_answer_ends_the_row_of_failures_whoever_got_it(world):
    one, other = world.process().of("bc"), world.process().of("bc")
    await fail(one, 4)
    await other.check()
    await other.answered(None)
    await fail(one, 4)
    world.look_again()
    await other.check()
    assert [each.failures for each in await breaker_states(world.database)] == [4]


async def test_systems_have_breakers_of_their_own(world):
    breakers = world.process()
    await fail(breakers.of("bc"), 5)
    await breakers.of("crm").check()
    assert await breakers.of("crm").enter(LEASE) is None


async def test_the_policy_of_a_system_document_decides_when_and_for_how_long(world):
    breaker = world.process().of("bc", BreakerPolicy(failures=2, seconds=30))
    await fail(breaker, 1)
    await breaker.check()
    await fail(breaker, 1)
    with pytest.raises(CircuitOpenError) as raised:
        await breaker.check()
    assert 25 < raised.value.retry_after <= 30


async def test_one_failure_may_be_enough(world):
    breaker = world.process().of("bc", BreakerPolicy(failures=1, seconds=30))
    await fail(breaker, 1)
    with pytest.raises(CircuitOpenError):
        await breaker.check()


async def test_failures_that_come_late_do_not_prolong_it(world):
    breaker = world.process().of("bc")
    await fail(breaker, 5)
    world.sql("UPDATE breakers SET open_until = now() + interval '10 seconds'")
    await fail(breaker, 3)
    assert 5 < (await open_systems(world.database))["bc"] <= 10


async def test_an_answer_to_a_request_from_before_does_not_close_it(world):
    breaker = world.process().of("bc")
    await breaker.check()
    await fail(world.process().of("bc"), 5)
    await breaker.answered(None)
    world.look_again()
    with pytest.raises(CircuitOpenError):
        await breaker.check()


async def test_of_many_requests_in_many_processes_one_is_the_probe(world):
    breakers = [world.process().of("bc") for _ in range(6)]
    await fail(breakers[0], 5)
    world.let_the_opening_end()
    tries = await asyncio.gather(
        *(breaker.enter(LEASE) for breaker in breakers for _ in range(5)), return_exceptions=True
    )
    probes = [each for each in tries if not isinstance(each, CircuitOpenError)]
    assert len(tries) == 30
    assert len(probes) == 1
    assert probes[0] is not None
    assert all(each.retry_after <= 1 for each in tries if isinstance(each, CircuitOpenError))


async def test_a_probe_that_is_answered_closes_it_for_every_process(world):
    one, other = world.process().of("bc"), world.process().of("bc")
    await fail(one, 5)
    world.let_the_opening_end()
    await one.answered(await one.enter(LEASE))
    world.look_again()
    assert await one.enter(LEASE) is None
    assert await other.enter(LEASE) is None
    assert await breaker_states(world.database) == []


async def test_a_probe_that_fails_opens_it_for_as_long_again(world):
    breaker = world.process().of("bc")
    await fail(breaker, 5)
    world.let_the_opening_end()
    await breaker.failed(await breaker.enter(LEASE), "still away.")
    with pytest.raises(CircuitOpenError) as raised:
        await breaker.check()
    assert 295 < raised.value.retry_after <= 300
    (state,) = await breaker_states(world.database)
    assert (state.state, state.failures, state.error, state.probing) == ("open", 6, "still away.", False)


async def test_a_probe_that_was_never_sent_leaves_its_place_to_the_next(world):
    one, other = world.process().of("bc"), world.process().of("bc")
    await fail(one, 5)
    world.let_the_opening_end()
    await one.unused(await one.enter(LEASE))
    world.look_again()
    assert await other.enter(LEASE) is not None


async def test_a_prober_that_died_frees_the_probe_and_its_late_word_counts_for_nothing(world):
    one, other = world.process().of("bc"), world.process().of("bc")
    await fail(one, 5)
    world.let_the_opening_end()
    late = await one.enter(LEASE)
    with pytest.raises(CircuitOpenError):
        await other.enter(LEASE)
    world.let_the_probe_die()
    probe = await other.enter(LEASE)
    assert probe is not None
    assert probe != late
    await one.answered(late)
    with pytest.raises(CircuitOpenError):
        await one.enter(LEASE)
    await other.answered(probe)
    await one.failed(late, "too late.")
    world.look_again()
    assert await other.enter(LEASE) is None


async def test_a_failure_before_any_probe_is_sent_opens_it_again(world):
    # A sign-in that cannot be reached fails before there is a request that could be the probe.
    breaker = world.process().of("bc")
    await fail(breaker, 5)
    world.let_the_opening_end()
    await breaker.check()
    await fail(breaker, 1)
    with pytest.raises(CircuitOpenError):
        await breaker.check()


async def test_workers_are_told_which_systems_to_leave_alone_and_a_system_to_be_tried_is_not_among_them(
    world,
):
    breakers = world.process()
    await fail(breakers.of("bc"), 5)
    await fail(breakers.of("crm"), 4)
    assert set(await open_systems(world.database)) == {"bc"}
    assert 295 < await breakers.left("bc") <= 300
    assert await breakers.left("crm") == 0
    world.let_the_opening_end()
    assert await open_systems(world.database) == {}
    assert await breakers.left("bc") == 0
    await breakers.of("bc").enter(LEASE)
    assert 0 < (await open_systems(world.database))["bc"] <= 1


async def test_it_is_closed_by_hand(world):
    breaker = world.process().of("bc")
    await fail(breaker, 5)
    assert await reset_breaker(world.database, "bc")
    assert not await reset_breaker(world.database, "bc")
    world.look_again()
    assert await breaker.enter(LEASE) is None


async def test_a_healthy_system_costs_no_statement_per_request(world):
    client = world.client(lambda _request: 200)
    begun = 0

    def count(_connection):
        nonlocal begun
        begun += 1

    sa.event.listen(world.database.engine.sync_engine, "begin", count)
    for _ in range(50):
        await client.send("GET", "customers", kind="read")
    assert begun == 1
    world.look_again()
    await asyncio.gather(*(client.send("GET", "customers", kind="read") for _ in range(50)))
    assert begun == 2


async def test_the_first_answer_after_a_failure_writes_once_for_all(world):
    states = iter([503])
    client = world.client(lambda _request: next(states, 200))
    with pytest.raises(SystemBusyError):
        await client.send("GET", "customers", kind="read")
    begun = 0

    def count(_connection):
        nonlocal begun
        begun += 1

    sa.event.listen(world.database.engine.sync_engine, "begin", count)
    await asyncio.gather(*(client.send("GET", "customers", kind="read") for _ in range(20)))
    assert await breaker_states(world.database) == []
    # A look, the reset, another look at most, and the one above.
    assert begun <= 4


async def test_processes_with_writes_waiting_send_one_request_in_each_opening_and_everything_after_it(world):
    arrived = []
    healthy = False

    def answer(request):
        arrived.append(request.url.path)
        return 200 if healthy else httpx.ConnectError("away")

    clients = [world.client(answer, retries=(1.0,)) for _ in range(3)]

    async def all_at_once():
        return await asyncio.gather(
            *(client.send("POST", "orders", kind="write", content=b"{}") for client in clients * 10),
            return_exceptions=True,
        )

    for _ in range(5):
        with pytest.raises(UnreachableError):
            await clients[0].send("POST", "orders", kind="write", content=b"{}")
    world.look_again()
    arrived.clear()
    assert {type(each) for each in await all_at_once()} == {CircuitOpenError}
    assert arrived == []

    for _ in range(3):
        world.let_the_opening_end()
        outcomes = [type(each) for each in await all_at_once()]
        assert len(arrived) == 1
        assert outcomes.count(UnreachableError) == 1
        assert outcomes.count(CircuitOpenError) == 29
        arrived.clear()

    world.let_the_opening_end()
    healthy = True
    await clients[1].send("POST", "orders", kind="write", content=b"{}")
    world.look_again()
    arrived.clear()
    assert [each.status for each in await all_at_once()] == [200] * 30
    assert len(arrived) == 30


async def test_nothing_is_sent_while_nobody_can_read_the_breakers(world, unused_tcp_port):
    database = Database(f"postgresql+psycopg://nobody@127.0.0.1:{unused_tcp_port}/none")
    arrived = []
    client = HttpClient(
        system="bc",
        base_url="https://bc.example",
        clock=world.clock,
        ids=SeededIds(1),
        limits=Unlimited(),
        budget=BudgetKey("bc", "app"),
        policy=LimitPolicy(requests=6000, window=300, concurrency=5),
        breaker=Breakers(database).of("bc"),
        transport=lambda: httpx.MockTransport(arrived.append),
    )
    with pytest.raises(DatabaseUnavailableError):
        await client.send("GET", "customers", kind="read")
    assert arrived == []
    await client.close()
    await database.close()


async def test_a_write_keeps_its_fate_when_the_database_goes_away_while_it_is_under_way(world, caplog):
    def answer(_request):
        world.sql("ALTER TABLE breakers RENAME TO away")
        return 503

    client = world.client(answer)
    with pytest.raises(UnknownOutcomeError):
        await client.send("POST", "orders", kind="write", content=b"{}")
    assert "was not told how a request ended" in caplog.text
