"""Subscriptions at the products: made, renewed, healed, taken away; whatever dies in between, the next round mends."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt

import httpx
import pytest

from console.web.ingress.app import Ingress
from console.web.ingress.serving import listen, server
from ipaas_assets.sync.subscribing import keep_subscriptions
from ipaas_resources.core.clock import ManualClock, SystemClock, SystemIds
from ipaas_resources.core.errors import CredentialsError, StopError, SystemBusyError, UnknownOutcomeError
from ipaas_resources.store import registry, subscriptions
from ipaas_resources.store.inbox import InboxWriter
from ipaas_resources.store.registry import StoredSystem
from ipaas_resources.store.subscriptions import Subscription
from tests.sync.hooks_product import LIFETIME, Crash, HooksProduct
from tests.sync.product import Product
from tests.sync.rig import rig

URL = "https://ipaas.example.com"
SECRET, OTHER = "a-secret-of-the-erp", "another-secret-of-the-erp"

FLOW = """
flow: NAME
source: {system: erp, entity: ENTITY, scopes: SCOPES}
trigger: {webhook: true, poll: {min: 15s, max: 15m}}
targets:
  copy:
    system: crm
    entity: customers
    key: {number: number}
    fields: {name: name}
"""


def flow(name="people", entity="customers", scopes="all", poll=True):
    text = FLOW.replace("NAME", name).replace("ENTITY", entity).replace("SCOPES", scopes)
    return text if poll else text.replace(", poll: {min: 15s, max: 15m}", "")


class Keeping:
    """A rig whose erp can be asked to send."""

    def __init__(self, rig, product, clock):
        self.rig, self.product, self.clock = rig, product, clock

    async def keep(self, url=URL):
        self.rig.engine.clock = self.clock
        return await keep_subscriptions(self.rig.engine, public_url=url)

    async def actions(self, url=URL):
        return sorted(each.action for each in await self.keep(url))

    async def document(self, **changes):
        await registry.save_systems(
            self.rig.database,
            [
                StoredSystem(
                    system="erp",
                    connector="product",
                    document={"system": "erp", "connector": "product", **changes},
                    text="",
                    paused=False,
                )
            ],
        )

    def row(self):
        """The only live row."""
        (row,) = self.rig.sql(
            "SELECT subscription, product_id, error, secret, secret_old FROM subscriptions WHERE state = 'active'"
        )
        return row

    def rows(self, columns="entity, scope, product_id"):
        return self.rig.sql(
            f"SELECT {columns} FROM subscriptions WHERE state = 'active' ORDER BY entity, scope"
        )

    def polls(self):
        return self.rig.sql(
            "SELECT entity, scope, poll_reason FROM entity_state WHERE poll_due_at <= now() ORDER BY 1, 2"
        )

    def polled(self):
        """What was due was read."""
        self.rig.sql("UPDATE entity_state SET poll_due_at = NULL, last_pull_at = now()")


@pytest.fixture
async def keeping(fresh_database, monkeypatch):
    monkeypatch.setenv("ERP_HOOKS", SECRET)
    monkeypatch.setenv("ERP_HOOKS_NEXT", OTHER)
    clock = ManualClock()
    product = HooksProduct(clock)
    async with rig(fresh_database, source=product) as made:
        kept = Keeping(made, product, clock)
        await kept.document(secrets={"webhook": "env:ERP_HOOKS"})
        await made.apply(flow())
        yield kept


# --- making -----------------------------------------------------------------------------------------------------------


async def test_an_entity_that_a_flow_wants_to_be_told_of_is_subscribed_once_and_then_left_alone(keeping):
    assert await keeping.actions() == ["made"]
    assert await keeping.actions() == ["kept"]
    assert keeping.product.asked == ["subscribe"]
    (remote,) = keeping.product.there.values()
    subscription, product_id, error, *_ = keeping.row()
    assert remote.url.startswith(f"{URL}/hooks/{subscription}/")
    assert (product_id, error) == (remote.product_id, None)


async def test_what_changed_before_it_was_made_is_read(keeping):
    await keeping.keep()
    assert keeping.polls() == [("customers", "", "subscribed just now: what changed before is read")]
    keeping.polled()
    await keeping.keep()
    assert keeping.polls() == []


async def test_every_scope_has_a_subscription_of_its_own_and_two_flows_share_it(fresh_database, monkeypatch):
    monkeypatch.setenv("ERP_HOOKS", SECRET)
    clock = ManualClock()
    product = HooksProduct(clock, scopes=("de", "uk"))
    async with rig(fresh_database, source=product) as made:
        keeping = Keeping(made, product, clock)
        await keeping.document(secrets={"webhook": "env:ERP_HOOKS"})
        await made.apply(flow())
        await made.apply(flow("people_too", scopes="[uk]"))
        assert await keeping.actions() == ["made", "made"]
        assert [row[:2] for row in keeping.rows()] == [("customers", "de"), ("customers", "uk")]
        assert len({each.url for each in product.there.values()}) == 2


async def test_the_product_may_call_back_while_it_is_asked_and_only_then(keeping):
    """Through the real ingress: the row and its handshake are committed before the product is asked."""
    database = keeping.rig.database
    keeping.rig.sql("UPDATE systems SET connector = 'business_central' WHERE system = 'erp'")
    async with contextlib.AsyncExitStack() as stack:
        writer = await stack.enter_async_context(InboxWriter(database))
        app = Ingress(database, writer, clock=SystemClock(), ids=SystemIds())
        socket = stack.enter_context(listen(0))
        running = server(app)
        task = asyncio.create_task(running.serve(sockets=[socket]))
        client = await stack.enter_async_context(httpx.AsyncClient())

        async def echoes(url):
            answer = await client.post(url, params={"validationToken": "t-1"})
            return answer.status_code == 200 and answer.text == "t-1"

        keeping.product.handshake = echoes
        try:
            base = f"http://127.0.0.1:{socket.getsockname()[1]}"
            assert await keeping.actions(base) == ["made"]
            (remote,) = keeping.product.there.values()
            assert not await echoes(remote.url)
            keeping.clock.advance(LIFETIME / 2)
            assert await keeping.actions(base) == ["renewed"]
            assert not await echoes(remote.url)
        finally:
            running.should_exit = True
            await task


async def test_no_secret_and_no_key_stands_in_the_database_the_log_or_the_result(keeping, caplog):
    caplog.set_level("DEBUG")
    kept = await keeping.keep()
    (remote,) = keeping.product.there.values()
    key = remote.url.rpartition("/")[2]
    told = f"{kept} {remote!r} {caplog.text} {keeping.rows('subscriptions')}"
    assert SECRET not in told
    assert key not in told
    assert remote.marks[0] not in told


# --- crashes and races ------------------------------------------------------------------------------------------------


async def test_a_crash_between_the_request_and_our_commit_leaves_one_that_the_next_round_adopts(keeping):
    keeping.product.after["subscribe"] = Crash()
    with pytest.raises(Crash):
        await keeping.keep()
    assert keeping.row()[1] is None
    keeping.polled()
    assert await keeping.actions() == ["adopted"]
    assert len(keeping.product.there) == 1
    assert keeping.row()[1] in keeping.product.there
    assert [row[2] for row in keeping.polls()] == [
        "its subscription was found at the product: what was missed is read"
    ]


async def test_a_crash_before_the_request_left_is_simply_made_up_for(keeping):
    keeping.product.before["subscribe"] = Crash()
    with pytest.raises(Crash):
        await keeping.keep()
    assert await keeping.actions() == ["made"]


async def test_a_lost_answer_is_no_second_subscription(keeping):
    keeping.product.after["subscribe"] = UnknownOutcomeError("The answer was lost.")
    assert await keeping.actions() == ["failed"]
    assert keeping.row()[2] == "The answer was lost."
    assert await keeping.actions() == ["adopted"]
    assert keeping.row()[2] is None
    assert len(keeping.product.there) == 1


async def test_of_two_keepers_at_once_one_does_the_work(keeping):
    keeping.product.hold = asyncio.Event()
    first = asyncio.create_task(keeping.keep())
    async with asyncio.timeout(20):
        await keeping.product.listing.wait()
        assert await keeping.keep() == []
    keeping.product.hold.set()
    assert [each.action for each in await first] == ["made"]
    keeping.product.hold = None
    assert await keeping.actions() == ["kept"]


async def test_a_keeper_that_lost_its_lock_and_made_a_second_one_is_put_right(keeping):
    await keeping.keep()
    (remote,) = keeping.product.there.values()
    keeping.product.there["p0"] = type(remote)(
        product_id="p0",
        url=remote.url,
        resource=remote.resource,
        expires_at=remote.expires_at,
        marks=remote.marks,
    )
    assert await keeping.actions() == ["kept", "removed"]
    assert list(keeping.product.there) == [remote.product_id]


async def test_when_the_database_was_lost_what_the_product_still_has_is_adopted(keeping):
    await keeping.keep()
    keeping.rig.sql("DELETE FROM subscriptions")
    assert await keeping.actions() == ["adopted"]
    assert len(keeping.product.there) == 1


# --- healing and renewal ----------------------------------------------------------------------------------------------


async def test_one_that_was_deleted_behind_our_back_is_made_again_and_the_gap_is_read(keeping):
    await keeping.keep()
    keeping.polled()
    keeping.product.there.clear()
    assert await keeping.actions() == ["made again"]
    assert len(keeping.product.there) == 1
    assert keeping.polls() == [
        ("customers", "", "its subscription was lost or out of date: what was missed is read")
    ]


async def test_a_gap_is_due_with_a_time_that_no_poll_under_way_has_seen(keeping):
    keeping.rig.sql(
        "INSERT INTO entity_state (system, scope, entity, poll_due_at) VALUES ('erp', '', 'customers', now())"
    )
    before = keeping.rig.sql("SELECT poll_due_at FROM entity_state")
    await keeping.keep()
    assert keeping.rig.sql("SELECT poll_due_at FROM entity_state") != before


async def test_it_is_renewed_when_half_its_lifetime_is_over_and_not_before(keeping):
    await keeping.keep()
    keeping.polled()
    keeping.clock.advance(LIFETIME / 2 - 1)
    assert await keeping.actions() == ["kept"]
    keeping.clock.advance(1)
    (kept,) = await keeping.keep()
    assert kept.action == "renewed"
    assert kept.expires_at == keeping.clock.now() + dt.timedelta(seconds=LIFETIME)
    assert keeping.rig.sql("SELECT expires_at FROM subscriptions") == [(kept.expires_at,)]
    assert keeping.polls() == []


async def test_one_that_disappears_between_list_and_renewal_is_made_again(keeping):
    await keeping.keep()
    keeping.polled()
    keeping.clock.advance(LIFETIME / 2)
    keeping.product.hold = asyncio.Event()
    round_ = asyncio.create_task(keeping.keep())
    keeping.product.listing.clear()
    await keeping.product.listing.wait()
    keeping.product.there.clear()
    keeping.product.hold.set()
    assert [each.action for each in await round_] == ["made again"]
    assert keeping.product.asked == ["subscribe", "renew", "subscribe"]
    assert keeping.polls() != []


async def test_one_that_ran_out_is_made_again_though_the_product_still_lists_it(keeping):
    await keeping.keep()
    keeping.clock.advance(LIFETIME + 1)
    assert await keeping.actions() == ["made again", "removed"]
    assert len(keeping.product.there) == 1


async def test_a_product_whose_subscriptions_do_not_end_is_not_asked_to_renew(fresh_database, monkeypatch):
    monkeypatch.setenv("ERP_HOOKS", SECRET)
    clock = ManualClock()
    product = HooksProduct(clock, lifetime=None)
    async with rig(fresh_database, source=product) as made:
        keeping = Keeping(made, product, clock)
        await keeping.document(secrets={"webhook": "env:ERP_HOOKS"})
        await made.apply(flow())
        await keeping.keep()
        clock.advance(1e8)
        assert await keeping.actions() == ["kept"]


# --- secrets and addresses --------------------------------------------------------------------------------------------


async def test_a_new_secret_goes_to_the_product_while_the_old_one_still_proves(keeping):
    await keeping.keep()
    keeping.polled()
    subscription = keeping.row()[0]
    await keeping.document(secrets={"webhook": "env:ERP_HOOKS_NEXT"})
    keeping.product.before["renew"] = SystemBusyError("Busy.")
    assert await keeping.actions() == ["failed"]
    assert keeping.row()[3:] == ("env:ERP_HOOKS_NEXT", "env:ERP_HOOKS")
    assert await keeping.actions() == ["made again"]
    assert keeping.row()[3:] == ("env:ERP_HOOKS_NEXT", "env:ERP_HOOKS")
    assert len(keeping.polls()) == 1
    assert await keeping.actions() == ["kept"]
    assert keeping.row()[3:] == ("env:ERP_HOOKS_NEXT", None)
    assert keeping.row()[0] == subscription
    assert keeping.product.asked == ["subscribe", "renew", "renew"]


async def test_the_old_secret_that_the_document_names_stays_as_long_as_it_does(keeping):
    await keeping.keep()
    both = {"webhook": "env:ERP_HOOKS_NEXT", "webhook_old": "env:ERP_HOOKS"}
    await keeping.document(secrets=both)
    for _ in range(3):
        await keeping.keep()
        assert keeping.row()[3:] == ("env:ERP_HOOKS_NEXT", "env:ERP_HOOKS")
    await keeping.document(secrets={"webhook": "env:ERP_HOOKS_NEXT"})
    await keeping.keep()
    assert keeping.row()[4] is None


async def test_another_value_behind_the_same_reference_goes_to_the_product(keeping, monkeypatch):
    await keeping.keep()
    (before,) = keeping.product.there.values()
    monkeypatch.setenv("ERP_HOOKS", OTHER)
    assert await keeping.actions() == ["made again"]
    (after,) = keeping.product.there.values()
    assert after.product_id == before.product_id
    assert after.url != before.url


async def test_a_new_public_address_moves_the_subscription(keeping):
    await keeping.keep()
    (before,) = keeping.product.there.values()
    assert await keeping.actions("https://new.example.com") == ["made again"]
    (after,) = keeping.product.there.values()
    assert after.product_id == before.product_id
    assert after.url.startswith("https://new.example.com/hooks/")


async def test_without_a_secret_nothing_is_asked_and_the_sentence_says_what_to_add(keeping):
    await keeping.document()
    (kept,) = await keeping.keep()
    assert kept.action == "failed"
    assert "secrets: {webhook: env:NAME}" in kept.error
    assert keeping.product.asked == []
    assert keeping.rows() == []


# --- taking away ------------------------------------------------------------------------------------------------------


async def test_one_that_no_flow_wants_any_more_is_taken_away_there_and_here(keeping):
    await keeping.keep()
    await registry.set_enabled(keeping.rig.database, "people", enabled=False)
    assert await keeping.actions() == ["retired"]
    assert keeping.product.there == {}
    assert keeping.rows() == []
    assert await keeping.actions() == []
    await registry.set_enabled(keeping.rig.database, "people", enabled=True)
    assert await keeping.actions() == ["made"]


async def test_a_crash_while_it_is_taken_away_is_made_up_for(keeping):
    await keeping.keep()
    await registry.set_enabled(keeping.rig.database, "people", enabled=False)
    keeping.product.after["unsubscribe"] = Crash()
    with pytest.raises(Crash):
        await keeping.keep()
    assert len(keeping.rows()) == 1
    assert await keeping.actions() == ["retired"]
    assert keeping.rows() == []


async def test_one_that_the_product_will_not_give_up_keeps_taking_deliveries_and_is_tried_again(keeping):
    await keeping.keep()
    await registry.set_enabled(keeping.rig.database, "people", enabled=False)
    keeping.product.before["unsubscribe"] = SystemBusyError("Busy.")
    assert await keeping.actions() == ["failed"]
    assert len(keeping.rows()) == 1
    assert await keeping.actions() == ["retired"]


async def test_strangers_subscriptions_are_never_touched_and_ours_without_a_row_are_removed(keeping):
    keeping.product.by_hand("foreign", "https://else.example.com/hooks/1/2")
    keeping.product.by_hand("longer", f"{URL}.evil.example/hooks/1")
    keeping.product.by_hand("page", f"{URL}/other/1")
    keeping.product.by_hand("left_over", f"{URL}/hooks/nobody/key")
    assert await keeping.actions() == ["made", "removed"]
    assert {"foreign", "longer", "page"} <= keeping.product.there.keys()
    assert "left_over" not in keeping.product.there


async def test_a_subscription_of_another_system_at_the_same_product_is_left_alone(keeping):
    await subscriptions.save_subscription(
        keeping.rig.database,
        Subscription(
            subscription="twin", system="erp2", connector=None, proof="client_state", secret="env:X"
        ),
    )
    keeping.product.by_hand("of_twin", f"{URL}/hooks/twin/key")
    assert await keeping.actions() == ["made"]
    assert "of_twin" in keeping.product.there


async def test_what_a_person_registered_is_left_alone_and_no_second_one_is_made(keeping):
    await subscriptions.save_subscription(
        keeping.rig.database,
        Subscription(
            subscription="mine", system="erp", connector=None, proof="client_state", secret="env:ERP_HOOKS"
        ),
    )
    keeping.product.by_hand("by_hand", f"{URL}/hooks/mine/key")
    assert await keeping.actions() == []
    assert list(keeping.product.there) == ["by_hand"]


async def test_a_flow_that_cannot_be_read_loses_nothing(keeping):
    await keeping.keep()
    keeping.rig.sql("ALTER TABLE flow_versions DISABLE TRIGGER USER")
    keeping.rig.sql("UPDATE flow_versions SET text = 'flow: people'")
    assert await keeping.actions() == []
    assert len(keeping.product.there) == 1
    assert len(keeping.rows()) == 1


# --- trouble ----------------------------------------------------------------------------------------------------------


async def test_one_that_is_refused_holds_up_no_other_and_its_error_goes_when_it_works(keeping):
    await keeping.rig.apply(flow("orders_too", "orders"))
    keeping.product.unsupported.add("customers")
    assert await keeping.actions() == ["failed", "made"]
    ((error,), (fine,)) = keeping.rows("error")
    assert (error, fine) == ("customers has a composite key.", None)
    keeping.product.unsupported.clear()
    assert await keeping.actions() == ["kept", "made"]
    assert keeping.rows("error") == [(None,), (None,)]


async def test_a_refused_handshake_is_told_and_tried_again(keeping):
    answers = iter([False, True])

    async def handshake(_url):
        return next(answers)

    keeping.product.handshake = handshake
    assert await keeping.actions() == ["failed"]
    assert "handshake" in keeping.row()[2]
    assert await keeping.actions() == ["made"]


async def test_refused_credentials_change_nothing_and_stand_at_every_subscription(keeping):
    await keeping.keep()
    keeping.product.before["list"] = CredentialsError("erp refused our identity.")
    assert await keeping.actions() == ["failed"]
    assert keeping.row()[1:3] == (next(iter(keeping.product.there)), "erp refused our identity.")
    assert await keeping.actions() == ["kept"]
    assert keeping.row()[2] is None


async def test_a_defect_in_one_connector_leaves_the_other_systems_kept(keeping, monkeypatch):
    keeping.rig.products["crm"] = HooksProduct(keeping.clock)
    await registry.save_systems(
        keeping.rig.database,
        [
            StoredSystem(
                system="crm",
                connector="product",
                document={"system": "crm", "connector": "product", "secrets": {"webhook": "env:ERP_HOOKS"}},
                text="",
                paused=False,
            )
        ],
    )
    await keeping.rig.apply(
        flow("back")
        .replace("system: erp", "system: swap")
        .replace("system: crm", "system: erp")
        .replace("system: swap", "system: crm")
    )
    keeping.product.before["list"] = ZeroDivisionError()
    kept = {each.system: each.action for each in await keeping.keep()}
    assert kept == {"erp": "failed", "crm": "made"}


async def test_a_product_that_is_full_says_so_and_is_not_asked(fresh_database, monkeypatch):
    monkeypatch.setenv("ERP_HOOKS", SECRET)
    clock = ManualClock()
    product = HooksProduct(clock, most=2)
    product.by_hand("foreign", "https://else.example.com/1")
    async with rig(fresh_database, source=product) as made:
        keeping = Keeping(made, product, clock)
        await keeping.document(secrets={"webhook": "env:ERP_HOOKS"})
        await made.apply(flow())
        await made.apply(flow("orders_too", "orders"))
        kept = await keeping.keep()
        assert [each.action for each in kept] == ["made", "failed"]
        assert "at most 2 subscriptions in all and has 2, 1 of them made by the platform" in kept[1].error
        assert product.asked == ["subscribe"]


async def test_a_paused_system_is_not_asked(keeping):
    await keeping.keep()
    await registry.pause_system(keeping.rig.database, "erp", paused=True)
    keeping.product.before["list"] = StopError("asked")
    assert await keeping.actions() == []


# --- while there is none ----------------------------------------------------------------------------------------------


async def test_an_entity_that_only_a_webhook_tells_of_is_read_now_and_then_while_there_is_none(keeping):
    await keeping.rig.apply(flow(poll=False))
    keeping.product.unsupported.add("customers")
    await keeping.keep()
    assert len(keeping.polls()) == 1
    keeping.polled()
    await keeping.keep()
    assert keeping.polls() == []
    keeping.rig.sql("UPDATE entity_state SET last_pull_at = now() - interval '16 minutes'")
    await keeping.keep()
    assert len(keeping.polls()) == 1


async def test_without_a_public_address_nothing_is_subscribed_and_such_entities_are_read_all_the_same(
    keeping,
):
    assert await keeping.actions(None) == []
    assert keeping.polls() == []
    await keeping.rig.apply(flow(poll=False))
    assert await keeping.actions(None) == []
    assert keeping.product.asked == []
    assert len(keeping.polls()) == 1


async def test_a_product_without_such_an_api_is_left_alone(fresh_database, monkeypatch):
    monkeypatch.setenv("ERP_HOOKS", SECRET)
    async with rig(fresh_database, source=Product()) as made:
        keeping = Keeping(made, made.products["erp"], ManualClock())
        await keeping.document(secrets={"webhook": "env:ERP_HOOKS"})
        await made.apply(flow())
        assert await keeping.actions() == []
