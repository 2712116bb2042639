"""Conformance of subscriptions: what is asked for is there, is proven by the receiver, and goes when it is told to."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import httpx
import msgspec
import pytest

from ipaas_resources.connectors.conforming.case import CANARY_SECRET
from ipaas_resources.connectors.conforming.rig import Rig, need
from ipaas_resources.connectors.fakes import Fault
from ipaas_resources.connectors.subscribing import (
    Remote,
    SubscriptionGoneError,
    SupportsSubscriptions,
    Wanted,
    supports_subscriptions,
)
from ipaas_resources.connectors.webhooks import NotProvenError, Request, Sender, receiver
from ipaas_resources.core.errors import IpaasError, RetryError, StopError, UnknownOutcomeError

if TYPE_CHECKING:
    from ipaas_resources.connectors.conforming.case import ConformanceCase

BASE = "http://127.0.0.1:8080/hooks"
#: Longer than any product of ours waits before it tells of a change.
_SOON = 60.0
_A_DAY = 86_400.0
_A_WORD = 20  # characters; what is longer is a key
_PATH = re.compile(r"/hooks/([^/]+)(?:/(.*))?")


class Ear:
    """Our side of the webhooks, without HTTP: the connector's own receiver decides."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.secrets: tuple[str, ...] = (CANARY_SECRET,)
        self.deaf = False
        #: Status for what is proven, and what was taken: (subscription, body).
        self.status = 202
        self.taken: list[tuple[str, bytes]] = []
        self.refused = 0
        rig.fake.mailroom.transport = lambda: httpx.MockTransport(self._answer)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        document = self.rig.document
        proof = self.rig.manifest.webhooks.proof if self.rig.manifest.webhooks else ""
        match = _PATH.fullmatch(request.url.path)
        if self.deaf or match is None:
            raise httpx.ConnectError("nobody is there", request=request)
        ours = receiver(document.connector)
        sender = Sender(subscription=match[1], proof=proof, secrets=self.secrets)
        seen = Request(
            method=request.method,
            subscription=match[1],
            key=match[2] or "",
            query=dict(parse_qsl(request.url.query.decode(), keep_blank_values=True)),
            headers={name.lower(): value for name, value in request.headers.items()},
        )
        body = await request.aread()
        try:
            ours.admit(seen, sender)
            token = ours.handshake(seen)
            if token is not None:
                return httpx.Response(200, text=token)
            ours.prove(seen, body, sender, self.rig.clock.now().timestamp())
        except NotProvenError:
            self.refused += 1
            return httpx.Response(ours.answers.not_proven)
        self.taken.append((match[1], body))
        return httpx.Response(self.status)

    async def heard(self) -> list[str]:
        """The subscriptions by which something came since the last look, once the product has told everything."""
        self.rig.clock.advance(_SOON)
        await self.rig.fake.mailroom.send_due()
        taken, self.taken = self.taken, []
        return [subscription for subscription, _ in taken]


def wanted(rig: Rig, subscription: str = "s1", *, secret: str = CANARY_SECRET, entity: str = "") -> Wanted:
    """The subscription to the case's entity."""
    declared = rig.manifest.webhooks
    assert declared is not None
    return Wanted(
        subscription=subscription,
        system=rig.document.system,
        entity=entity or rig.case.writable,
        scope=rig.case.scope,
        url=f"{BASE}/{subscription}",
        proof=declared.proof,
        secret=lambda: secret,
    )


def subscriber(rig: Rig) -> SupportsSubscriptions:
    """The connector, where its product can be asked over its API; else the test is skipped."""
    connector = rig.connector
    if not supports_subscriptions(connector):
        pytest.skip("the product is not asked for deliveries over its API")
    return connector


async def one(connector: SupportsSubscriptions, product_id: str) -> Remote | None:
    """The listed subscription of this id."""
    found = [each for each in await connector.list_subscriptions() if each.product_id == product_id]
    assert len(found) <= 1, "one subscription is listed twice"
    return found[0] if found else None


class SubscribingTests:
    """What every connector promises whose product sends on demand."""

    async def test_a_subscription_is_listed_as_wanted_and_another_process_sees_the_same(
        self, rig: Rig
    ) -> None:
        connector, _ear = subscriber(rig), Ear(rig)
        want = wanted(rig)
        assert await connector.subscribable(want.entity, want.scope) == ""
        made = await connector.subscribe(want)
        assert connector.is_current(made, want)
        other = rig.fresh()
        assert supports_subscriptions(other)
        for seen_by in (connector, other):
            listed = await one(seen_by, made.product_id)
            assert listed is not None
            assert seen_by.is_current(listed, want)
            assert listed.url.startswith(want.url)
            assert listed.expires_at == made.expires_at
        lifetime = rig.manifest.webhooks.lifetime if rig.manifest.webhooks else None
        assert (made.expires_at is None) == (lifetime is None)

    async def test_an_entity_that_cannot_be_subscribed_has_a_reason(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        connector = subscriber(rig)
        need("" if case.not_subscribable else "every entity of this product can be subscribed")
        assert await connector.subscribable(case.not_subscribable, case.scope)

    async def test_a_change_by_hand_and_our_own_write_arrive_and_prove_themselves(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        connector, ear = subscriber(rig), Ear(rig)
        (before,) = case.seed(rig.fake, case.writable, 1)
        await connector.subscribe(wanted(rig))
        assert await ear.heard() == []
        case.touch(rig.fake, case.writable, before)
        assert "s1" in await ear.heard()
        # The echo: the product tells us of what we wrote ourselves.
        await rig.write(rig.create(1))
        assert "s1" in await ear.heard()
        case.remove(rig.fake, case.writable, before)
        assert "s1" in await ear.heard()
        assert ear.refused == 0

    async def test_another_secret_url_or_entity_is_not_what_is_wanted(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        connector, _ear = subscriber(rig), Ear(rig)
        made = await connector.subscribe(wanted(rig))
        listed = await one(connector, made.product_id)
        assert listed is not None
        assert not connector.is_current(listed, wanted(rig, secret="another"))  # noqa: S106 - a secret of the test
        assert not connector.is_current(listed, wanted(rig, "s2"))
        if case.readable != case.writable:
            assert not connector.is_current(listed, wanted(rig, entity=case.readable))

    async def test_renewing_gives_a_new_lifetime_and_the_new_secret(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        connector, ear = subscriber(rig), Ear(rig)
        (before,) = case.seed(rig.fake, case.writable, 1)
        made = await connector.subscribe(wanted(rig))
        rig.clock.advance(_A_DAY)
        ear.secrets = ("a newer one", CANARY_SECRET)
        fresh = wanted(rig, secret="a newer one")  # noqa: S106 - a secret of the test
        renewed = await connector.renew(msgspec.structs.replace(made, etag=None, marks=()), fresh)
        assert renewed.product_id == made.product_id
        listed = await one(connector, made.product_id)
        assert listed is not None
        assert connector.is_current(listed, fresh)
        assert not connector.is_current(listed, wanted(rig))
        if made.expires_at is not None:
            assert listed.expires_at is not None
            assert (listed.expires_at - made.expires_at).total_seconds() >= _A_DAY - 1
        ear.secrets = ("a newer one",)
        case.touch(rig.fake, case.writable, before)
        assert "s1" in await ear.heard()
        assert ear.refused == 0

    async def test_what_is_taken_away_is_gone_and_the_others_stay(
        self, rig: Rig, case: ConformanceCase
    ) -> None:
        connector, ear = subscriber(rig), Ear(rig)
        (before,) = case.seed(rig.fake, case.writable, 1)
        first, second = [await connector.subscribe(wanted(rig, name)) for name in ("s1", "s2")]
        await connector.unsubscribe(Remote(product_id=first.product_id, url=""))
        assert await one(connector, first.product_id) is None
        listed = await one(connector, second.product_id)
        assert listed is not None
        assert connector.is_current(listed, wanted(rig, "s2"))
        case.touch(rig.fake, case.writable, before)
        assert set(await ear.heard()) == {"s2"}
        # A second time is no error: whoever died in between repeats it.
        await connector.unsubscribe(Remote(product_id=first.product_id, url=""))
        with pytest.raises(SubscriptionGoneError):
            await connector.renew(first, wanted(rig))

    async def test_a_lost_answer_leaves_one_that_the_list_shows(self, rig: Rig) -> None:
        connector, _ear = subscriber(rig), Ear(rig)
        await connector.list_subscriptions()  # signed in, and the descriptions are read
        assert await connector.subscribable(rig.case.writable, rig.case.scope) == ""
        rig.fake.fail(Fault(method="POST", path=rig.case.subscribe_path, drop=True, after=True))
        with pytest.raises(UnknownOutcomeError):
            await connector.subscribe(wanted(rig))
        (found,) = [
            each for each in await connector.list_subscriptions() if each.url.startswith(f"{BASE}/s1")
        ]
        completed = await connector.renew(found, wanted(rig))
        assert connector.is_current(completed, wanted(rig))
        assert len(await connector.list_subscriptions()) == 1

    async def test_a_busy_or_refusing_product_is_told_as_what_happens_next(self, rig: Rig) -> None:
        connector, ear = subscriber(rig), Ear(rig)
        want = wanted(rig)
        made = await connector.subscribe(want)
        for status, kinds in ((429, (RetryError,)), (400, (StopError,)), (403, (StopError,))):
            rig.fake.fail(Fault(path=rig.case.subscribe_path, status=status, times=-1))
            for act in (connector.subscribe(wanted(rig, "s2")), connector.renew(made, want)):
                with pytest.raises(IpaasError) as raised:
                    await act
                assert isinstance(raised.value, kinds), (status, raised.value)
            rig.fake.faults.clear()
        assert ear.refused == 0

    async def test_neither_secret_nor_url_is_told(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        connector, ear = subscriber(rig), Ear(rig)
        told: list[str] = []
        with caplog.at_level(logging.DEBUG):
            made = await connector.subscribe(wanted(rig))
            told.append(repr(made))
            ear.deaf = True
            rig.fake.fail(Fault(method="POST", path=rig.case.subscribe_path, status=400, times=1))
            for act in (connector.subscribe(wanted(rig, "s2")), connector.renew(made, wanted(rig))):
                try:
                    await act
                except IpaasError as error:
                    told += [str(error), repr(error)]
        whole = "\n".join(
            [*told, *(record.getMessage() for record in caplog.records if "httpx" not in record.name)]
        )
        keys = [made.url.removeprefix(f"{BASE}/s1").strip("/"), *made.marks]
        for secret in (CANARY_SECRET, *filter(lambda key: len(key) > _A_WORD, keys)):
            assert secret not in whole
