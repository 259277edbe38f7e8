"""Two cores on one PostgreSQL decide about the same question at once: exactly one of them does."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from agent.core import timers
from agent.core.actions.listing import ActionRef
from agent.core.app import Core
from agent.core.approvals.records import ApprovalFilter
from agent.core.occasion import Occasion
from agent.core.store.schema import deliveries
from agent.core.store.threaded import ThreadedStore
from agent.domain.errors import Refused
from agent.wire.messages import Enroll
from tests.fakes.approving_core import NO, NODE, YES
from tests.fakes.core_backends import SteppedClock
from tests.fakes.postgres import Postgres

pytestmark = pytest.mark.timeout(120)
ROUNDS = 15
KIND = timers.TimerKind.APPROVAL_EXPIRES


class Pair:
    """Two cores, each with connections of its own."""

    def __init__(self, url: str) -> None:
        self.clock = SteppedClock()
        self.stores = [ThreadedStore(url), ThreadedStore(url)]
        for store in self.stores:
            store.open()
        self.one, self.other = (Core(s, self.clock, secrets.randbits) for s in self.stores)

    async def close(self) -> None:
        for store in self.stores:
            await store.close()

    async def enroll(self) -> None:
        token = (await self.one.roster.create_token(NODE, 3600))["token"]
        await self.one.nodes.enroll(Enroll(token=token, nonce="n"))

    async def expire(self, core: Core) -> None:
        """Fire as if the time had come, whatever it is."""
        occasion = Occasion(self.clock.now() + timedelta(days=8), secrets.randbits)
        handlers = {KIND: core.timer_handlers[KIND]}
        store = self.stores[0 if core is self.one else 1]
        await store.write(lambda c: timers.fire_due(c, occasion, handlers))


async def try_to(call: Any) -> str:
    try:
        await call
    except Refused as error:
        return error.code
    return "done"


def test_of_yes_no_cancel_and_expiry_one_finds_it_open(postgres: Postgres) -> None:
    async def play() -> None:
        pair = Pair(postgres.database())
        await pair.enroll()
        winners = set()
        for turn in range(ROUNDS):
            document = {"kind": "work", "node": NODE, "risk_level": "guarded"}
            made = await pair.one.dispatch.dispatch(document)
            ref = ActionRef(id=made["action_id"])
            before = await count_deliveries(pair)
            racing = [
                try_to(pair.one.approvals.answer_action(ref, {}, YES, by="ann")),
                try_to(pair.other.approvals.answer_action(ref, {}, NO, by="bob")),
                try_to(pair.other.dispatch.cancel(ref, {})),
                try_to(pair.expire(pair.one)),
            ]
            shift = turn % len(racing)
            results = await asyncio.gather(*racing[shift:], *racing[:shift])
            results = results[len(racing) - shift :] + results[: len(racing) - shift]
            listed = await pair.other.approvals.list(ApprovalFilter(action_id=ref.id))
            [question] = listed["approvals"]
            story = await pair.one.dispatch.history(ref)
            told = [event["type"] for event in story["events"]]
            decided = [one for one in told if one in ("approved", "rejected", "approval_expired")]
            state = question["state"]
            winners.add(state)
            assert state != "pending"
            assert (results[0], results[1]).count("done") == (state in ("approved", "rejected"))
            assert len(decided) == (0 if state == "withdrawn" else 1), told
            was_sent = await count_deliveries(pair) > before
            assert was_sent == (state == "approved"), (state, told)
            left = await pair.stores[0].read(lambda c: timers.next_due(c, [KIND]))
            assert left is None
        assert winners, "nobody ever decided"
        await pair.close()

    asyncio.run(play())


def test_a_recurring_action_that_is_cancelled_stays_so_whoever_edits_it(postgres: Postgres) -> None:
    async def play() -> None:
        pair = Pair(postgres.database())
        await pair.enroll()
        for turn in range(ROUNDS):
            document = {"kind": "work", "node": NODE, "schedule": "every 1h"}
            made = await pair.one.recurring.create(document)
            edited = document | {"payload": {"turn": turn}}
            racing = [
                try_to(pair.one.recurring.update(made["id"], edited)),
                try_to(pair.other.dispatch.cancel(ActionRef(id=made["id"], node=NODE), {})),
            ]
            await asyncio.gather(*(racing if turn % 2 else reversed(racing)))
            assert (await pair.one.recurring.get(made["id"]))["state"] == "deleted"
            action = await pair.one.dispatch.get(ActionRef(id=made["id"]))
            assert action["should_be_executed"] is False
        await pair.close()

    asyncio.run(play())


async def count_deliveries(pair: Pair) -> int:
    query = select(func.count()).select_from(deliveries)
    return await pair.stores[0].read(lambda c: c.execute(query).scalar_one())


def test_both_cores_know_the_same_links(postgres: Postgres) -> None:
    async def play() -> None:
        pair = Pair(postgres.database())
        await pair.enroll()
        await pair.one.access.create_token({"name": "ann", "role": "approver"}, by="admin")
        made = await pair.one.dispatch.dispatch(
            {"kind": "work", "node": NODE, "risk_level": "guarded"}
        )
        [question] = (await pair.one.approvals.list(ApprovalFilter()))["approvals"]
        both = await asyncio.gather(
            pair.one.approvals.make_links(question["id"], {}, by="ann"),
            pair.other.approvals.make_links(question["id"], {}, by="ann"),
        )
        tokens = [links["approve"].removeprefix("/v1/links/") for links in both]
        assert (await pair.other.approvals.look(tokens[0])).claim.a == question["id"]
        followed = await asyncio.gather(
            try_to(pair.other.approvals.follow(tokens[0], None)),
            try_to(pair.one.approvals.follow(tokens[1], None)),
        )
        assert sorted(followed) == ["done", "not_pending"]
        found = await pair.one.dispatch.get(ActionRef(id=made["action_id"]))
        assert found["phase"] == "QUEUED"
        await pair.close()

    asyncio.run(play())
