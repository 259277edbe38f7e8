"""Recurring actions while the clock is in doubt: planned by what the machine has counted on.

The real engine, store and commands in virtual time; see test_clock_set.py for actions.
"""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from agent.domain.definition import Definition
from agent.domain.instants import format_instant
from agent.domain.recurring import Recurring
from agent.node.commands import Commands, QueueLimits
from agent.node.hands import Hands
from agent.node.recurring_commands import RecurringCommands
from agent.node.store import recurring
from agent.node.sync.apply import apply_pull
from agent.wire.definition import decode_definition
from agent.wire.messages import PullAnswer
from tests.integration.node.database import make_kinds
from tests.integration.node.test_clock_set import HOUR, Node, play

pytestmark = pytest.mark.timeout(60)
YEARS = 10 * 365 * 24 * HOUR
HOURLY = {"cron": "0 * * * *"}


class OnlyDecoding:
    """As much of `Commands` as recurring ones need: every kind is there."""

    async def look_at_catalogue(self) -> None:
        """Nothing changes."""

    def decode(self, document: Any, requester: Any) -> Definition:
        return decode_definition({**document, "requester": requester.value}, owner="node")


def commands(node: Node) -> RecurringCommands:
    return RecurringCommands(
        store=node.store, ledger=node.ledger, engine=node.engine, kinds=make_kinds(sleep={}),
        commands=cast("Commands", OnlyDecoding()),
    )  # fmt: skip


async def add(node: Node, name: str, schedule: Any, **fields: Any) -> None:
    document = {"id": name, "kind": "sleep", "schedule": schedule, "payload": {"seconds": 1}}
    await commands(node).create(document | fields)
    await asyncio.sleep(0.001)


async def change(node: Node, name: str, schedule: Any, **fields: Any) -> None:
    document = {"kind": "sleep", "schedule": schedule, "payload": {"seconds": 2}}
    await commands(node).replace(name, document | fields)


async def rule(node: Node, name: str) -> Recurring:
    found = await node.store.read(lambda c: recurring.by_id(c, name))
    assert found is not None
    return found


async def rows(node: Node, name: str) -> list[tuple[str, str, str | None]]:
    """(what follows the name in the id, status, reason), by row."""
    found = await node.store.read(lambda c: c.execute(
        "SELECT id, execution_status, reason FROM actions WHERE recurring_id = ? ORDER BY row",
        (name,),
    ).fetchall())  # fmt: skip
    return [(row[0].partition("@")[2], row[1], row[2]) for row in found]


def hour(number: int) -> str:
    return f"2026-03-01T{number:02}:00:00Z"


DONE = ("FINISHED", "exited")


async def leap(node: Node, by_s: float) -> None:
    node.clock.set(by_s, synchronised=False)
    await asyncio.sleep(5)
    assert node.state == "doubtful"


async def put_right(node: Node, by_s: float) -> None:
    node.clock.set(by_s)
    await asyncio.sleep(1)
    assert node.state == "trusted"


async def statuses(node: Node, name: str) -> list[tuple[str, str]]:
    return [(at, status) for at, status, _ in await rows(node, name)]


def test_rules_of_a_clock_that_was_years_ahead_go_on_when_it_is_put_right() -> None:
    """Commands and pulls alike: nothing is settled, begun or counted in 2036."""

    async def scene(node: Node) -> None:
        await add(node, "edited", HOURLY)
        await add(node, "resumed", HOURLY)
        await commands(node).pause("resumed", None)
        await add(node, "core", HOURLY)
        await asyncio.sleep(HOUR + 60)
        await leap(node, YEARS)
        await add(node, "new", HOURLY)
        await add(node, "each", {"every": 1800})
        await add(node, "once", {"delay_s": 90})
        await change(node, "edited", HOURLY)
        await commands(node).resume("resumed")
        pulled = PullAnswer(cursor="c", requests=[], actions=[
            {"id": "pulled", "owner": "core", "kind": "sleep", "revision": 1, "schedule": HOURLY}
        ])  # fmt: skip
        await node.store.write(lambda c: apply_pull(
            c, node.ledger, make_kinds(sleep={}), pulled, node.clock.now(),
            node.engine.clock_watch.moment(),
        ))  # fmt: skip
        await put_right(node, -YEARS)
        await asyncio.sleep(2 * HOUR + 9)
        for name in ("new", "pulled"):
            assert await statuses(node, name) == [(hour(14), "FINISHED"), (hour(15), "FINISHED")]
        assert await statuses(node, "edited") == [(hour(h), "FINISHED") for h in (13, 14, 15)]
        assert [at for at, *_ in await rows(node, "resumed")] == [hour(h) for h in (13, 14, 15)]
        assert [status for _, status in await statuses(node, "each")] == ["FINISHED"] * 4
        assert [status for _, status in await statuses(node, "once")] == ["FINISHED"]

    play(scene)


def test_what_ends_in_doubt_counts_when_it_ended_and_not_in_the_year_2036() -> None:
    async def scene(node: Node) -> None:
        await add(node, "each", {"every": 600, "count_from": "completion"},
                  payload={"seconds": 300})  # fmt: skip
        await add(node, "behind", {"after": "each"})
        await asyncio.sleep(601)
        await leap(node, YEARS)
        await asyncio.sleep(310)  # it ends, and is followed
        await put_right(node, -YEARS)
        await asyncio.sleep(1200)
        assert [at for at, *_ in await rows(node, "each")] == [
            "2026-03-01T12:10:01Z", "2026-03-01T12:25:01Z",
        ]  # fmt: skip
        assert await statuses(node, "behind") == [
            ("2026-03-01T12:15:01Z", "FINISHED"), ("2026-03-01T12:30:01Z", "FINISHED"),
        ]  # fmt: skip

    play(scene)


def test_a_cancelled_one_counts_in_the_same_way() -> None:
    async def scene(node: Node) -> None:
        await node.accept("holds", app_names=("db",), payload={"seconds": 9 * HOUR})
        await add(node, "each", {"every": 600, "count_from": "completion"}, app_names=["db"])
        await asyncio.sleep(700)
        await leap(node, YEARS)
        by_hand = Commands(
            store=node.store, ledger=node.ledger, engine=node.engine, hands=cast("Hands", None),
            kinds=make_kinds(sleep={}), clock=node.clock, limits=QueueLimits(),
            random_bits=random.Random(1).getrandbits,
        )  # fmt: skip
        await by_hand.cancel("each@2026-03-01T12:10:01Z")
        await put_right(node, -YEARS)
        assert (await rule(node, "each")).next_nominal_at == _at(12) + timedelta(seconds=1306)

    play(scene)


def test_what_was_begun_in_a_doubt_that_was_right_begins_by_the_right_time() -> None:
    """No instant from before its beginning is told as missed, or run late."""

    async def scene(node: Node) -> None:
        await leap(node, 30 * HOUR)
        await add(node, "new", HOURLY)
        await add(node, "once", {"delay_s": 90})
        began = node.clock.now()
        node.clock.synchronised = True
        await asyncio.sleep(60)
        assert node.state == "trusted"
        assert await rows(node, "new") == []
        assert abs((await rule(node, "new")).since_at - began) < timedelta(seconds=1)
        await asyncio.sleep(HOUR)
        assert [status for _, status in await statuses(node, "new")] == ["FINISHED"]
        assert [status for _, status in await statuses(node, "once")] == ["FINISHED"]

    play(scene)


def test_a_node_that_boots_in_the_past_begins_its_new_rules_when_it_knows_the_date() -> None:
    async def scene(node: Node) -> None:
        await add(node, "old", HOURLY)
        await asyncio.sleep(HOUR + 70)
        await node.accept("marks")
        await node.stop()
        node.clock.boot_id = "another"
        node.clock.set(-9 * HOUR, synchronised=False)
        await node.boot()
        await add(node, "new", HOURLY)
        await change(node, "old", HOURLY)
        await put_right(node, 12 * HOUR)
        began = node.clock.now()
        assert await rows(node, "new") == []
        assert abs((await rule(node, "new")).since_at - began) < timedelta(seconds=5)
        await asyncio.sleep(HOUR)
        assert [at for at, *_ in await rows(node, "new")] == [hour(17)]
        told = [at for at, *_ in await rows(node, "old")]
        assert told == [hour(13), hour(14), hour(15), hour(16), hour(17)], "each has its row"

    play(scene)


def test_a_rule_that_a_believed_clock_began_too_late_begins_when_it_is_set_back() -> None:
    async def scene(node: Node) -> None:
        node.clock.set(YEARS)
        await asyncio.sleep(1)
        await add(node, "new", HOURLY)
        await add(node, "each", {"every": 1800})
        await put_right(node, -YEARS)
        await asyncio.sleep(HOUR / 2 + 10)
        assert len(await statuses(node, "each")) == 1
        await asyncio.sleep(HOUR / 2)
        assert await statuses(node, "new") == [(hour(13), "FINISHED")]

    play(scene)


def test_a_watermark_that_was_reached_stays() -> None:
    async def scene(node: Node) -> None:
        await add(node, "hourly", HOURLY)
        await asyncio.sleep(2 * HOUR)
        await put_right(node, -2 * HOUR)
        await asyncio.sleep(3.5 * HOUR)
        at: list[str] = [at for at, *_ in await rows(node, "hourly")]
        assert at == [hour(13), hour(14), hour(15)]
        assert (await rule(node, "hourly")).state.last_nominal_at == _at(15)

    play(scene)


@pytest.mark.parametrize("seed", range(20))
def test_doubts_that_were_right_leave_no_trace_whatever_is_done_meanwhile(seed: int) -> None:
    """Each leap is put right before it is believed: every hour since its creation has its row."""
    rng = random.Random(seed)

    async def scene(node: Node) -> None:
        born: dict[str, datetime] = {}
        off_s = 0.0
        for step in range(12):
            await asyncio.sleep(rng.choice((30, 700, HOUR)))
            off_s = rng.choice((0, 0, YEARS, 20 * HOUR, -30 * HOUR))
            if off_s:
                await leap(node, off_s)
            name = rng.choice([*born, f"r{step}"])
            if name not in born:
                born[name] = node.clock.now() - timedelta(seconds=off_s)
                await add(node, name, HOURLY)
            elif rng.random() < 0.5:
                await change(node, name, HOURLY)
            else:
                await commands(node).pause(name, None)
                await asyncio.sleep(rng.choice((1, 200)))
                await commands(node).resume(name)
            if off_s:
                await asyncio.sleep(rng.choice((1, 200)))
                if step > 3 and rng.random() < 0.3:  # an occurrence's turn has kept the time
                    await node.stop()
                    await node.boot()
                await put_right(node, -off_s)
        await asyncio.sleep(2 * HOUR)
        for name, since in born.items():
            hours = [at for at, _ in await statuses(node, name)]
            first = since.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
            count = int((node.clock.now() - first) / timedelta(hours=1)) + 1
            expected = [format_instant(first + timedelta(hours=n)) for n in range(count)]
            assert hours == expected, f"{name} since {since}"

    play(scene)


def _at(number: int) -> datetime:
    return datetime.fromisoformat(hour(number))
