"""A system that is left alone: nothing is claimed for it, and nothing that was claimed counts as tried."""

import pytest

from ipaas_resources.core.errors import CircuitOpenError, ThrottledError
from ipaas_resources.core.records import Outcome, WriteResult
from ipaas_resources.store.breakers import reset_breaker
from tests.sync.product import Product
from tests.sync.rig import flow, rig


class Refusing(Product):
    """A product whose requests are not let through, at one place."""

    def __init__(self, place, error):
        super().__init__()
        self._place = place
        self.error = error

    async def find(self, *arguments):
        if self._place == "look" and self.error is not None:
            raise self.error
        return await super().find(*arguments)

    async def write(self, entity, scope, operations):
        if self._place == "write" and self.error is not None:
            raise self.error
        if self._place == "part" and self.error is not None:
            return [WriteResult(outcome=Outcome.RETRY, error=self.error)] * len(operations)
        return await super().write(entity, scope, operations)


def some_records(source):
    for number in range(7):
        source.put(str(number), number=str(number), name="n", balance=1, email="")


async def test_nothing_is_claimed_for_a_system_that_is_left_alone_and_the_run_says_why(fresh_database):
    source, target = Product(), Product()
    some_records(source)
    async with rig(fresh_database, source=source, target=target) as made:
        await made.apply(flow())
        breaker = made.engine.breakers.of("crm")
        for _ in range(5):
            await breaker.failed(None, "crm POST customers was answered with 503.")
        result = await made.run()
        assert result.pending == 7
        assert "System crm failed 5 times in a row" in result.retrying
        assert {item[3:5] for item in made.items()} == {("due", 0)}
        assert target.calls == []

        await reset_breaker(made.database, "crm")
        await made.open()
        result = await made.run()
        assert result.pending == 0
        assert not result.warnings
        assert len(target.records) == 7


@pytest.mark.parametrize("place", ["look", "write", "part"])
@pytest.mark.parametrize("error", [CircuitOpenError("left alone", retry_after=250.0), ThrottledError("wait")])
async def test_an_item_that_was_claimed_and_not_let_through_was_not_tried(fresh_database, place, error):
    source, target = Product(), Refusing(place, error)
    some_records(source)
    async with rig(fresh_database, source=source, target=target, max_attempts=2) as made:
        await made.apply(flow())
        for _ in range(4):
            result = await made.run()
            assert (result.pending, result.dead) == (7, 0)
            assert {item[3:] for item in made.items()} == {("due", 0, error.code)}
            made.let_time_pass()
        if isinstance(error, CircuitOpenError):
            assert not made.events()
        target.error = None
        await made.settle_everything()
        assert len(target.records) == 7


async def test_an_item_does_not_wait_out_the_opening_when_its_system_is_tried_earlier(fresh_database):
    target = Refusing("write", CircuitOpenError("left alone", retry_after=250.0))
    source = Product()
    some_records(source)
    async with rig(fresh_database, source=source, target=target) as made:
        await made.apply(flow())
        await made.run()
        assert made.sql("SELECT max(due_at) < now() + interval '31 seconds' FROM work_items") == [(True,)]
