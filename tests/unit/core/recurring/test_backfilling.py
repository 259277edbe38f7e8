"""Instants of the past once more, or one now: asked for by the core, on the nodes that have it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from agent.core.recurring.backfilling import ALL_MAX, Backfill
from agent.core.store.schema import actions
from agent.domain.errors import InvalidDocument, NotFound, Refused
from agent.domain.instants import format_instant
from agent.wire.canonical import digest_of
from agent.wire.definition import decode_definition
from tests.fakes.dispatching_core import START, scenario
from tests.fakes.recurring_core import RecurringCore


def ago(minutes: float) -> Any:
    return START - timedelta(minutes=minutes)


def past(begin: float, end: float, node: str | None = None) -> Backfill:
    return Backfill(begin=ago(begin), end=ago(end), node=node)


async def web(schedule: Any = "*/5 * * * *", **more: Any) -> RecurringCore:
    core = RecurringCore()
    for name in ("a", "b"):
        await core.add(name, role="web")
    await core.make(schedule, selector="role=web", **more)
    return core


async def definition(core: RecurringCore, action_id: str) -> Any:
    query = select(actions.c.definition).where(actions.c.id == action_id).limit(1)
    text = await core.store.read(lambda c: c.execute(query).scalar_one())
    return decode_definition(msgspec.json.decode(text))


@scenario
async def test_each_instant_on_each_node() -> None:
    core = await web({"cron": "*/5 * * * *", "duration_s": 60}, start_deadline_s=5)
    told = await core.recurring.backfill("r", past(10, 0))
    assert told["count"] == 4
    names = {one["action_id"] for one in told["actions"]}
    assert names == {"r@2026-03-01T11:50:00Z.b10001", "r@2026-03-01T11:55:00Z.b10001"}
    made = await definition(core, "r@2026-03-01T11:50:00Z.b10001")
    assert (made.recurring_id, made.schedule, made.owner.value) == ("r", None, "core")
    assert format_instant(made.nominal_at) == "2026-03-01T11:50:00Z"
    assert made.to_date == START + timedelta(seconds=60), "a window counts from now"
    assert made.start_deadline_s is None
    again = await core.recurring.backfill("r", past(10, 0, node="a"))
    assert [one["action_id"] for one in again["actions"]] == [
        "r@2026-03-01T11:50:00Z.b10002", "r@2026-03-01T11:55:00Z.b10002",
    ]  # fmt: skip
    assert {one["node"] for one in again["actions"]} == {"a"}
    page = await core.recurring.history("r", "a", 0, 10)
    assert [one["id"] for one in page["actions"]][:1] == ["r@2026-03-01T11:55:00Z.b10002"]
    assert len(page["actions"]) == 4
    assert {one["node"] for one in page["actions"]} == {"a"}


@scenario
async def test_by_the_zone_and_the_anchor_that_the_node_told() -> None:
    core = await web("at 13:00")
    await core.stands("a", zone="Europe/Berlin")
    await core.stands("b", zone="America/New_York")
    whole_day = await core.recurring.backfill("r", past(24 * 60, 0))
    assert {(one["node"], one["action_id"].split(".")[0]) for one in whole_day["actions"]} == {
        ("a", "r@2026-02-28T12:00:00Z"), ("b", "r@2026-02-28T18:00:00Z"),
    }  # fmt: skip


@scenario
async def test_intervals_count_from_where_the_node_counts() -> None:
    core = await web("every 10m")
    for node in ("a", "b"):
        await core.stands(node, anchor_at="2026-03-01T11:03:00Z")
    told = await core.recurring.backfill("r", past(20, 0, node="a"))
    assert [one["action_id"].split(".")[0] for one in told["actions"]] == [
        "r@2026-03-01T11:43:00Z", "r@2026-03-01T11:53:00Z",
    ]  # fmt: skip


@scenario
async def test_once_now() -> None:
    core = await web()
    told = await core.recurring.backfill("r", Backfill())
    assert [one["action_id"] for one in told["actions"]] == ["r@2026-03-01T12:00:00Z.b10001"] * 2
    await core.recurring.pause("r", None)
    assert (await core.recurring.backfill("r", Backfill(node="b")))["count"] == 1


@scenario
async def test_it_is_bounded_and_refused_whole() -> None:
    core = await web("* * * * *")
    before = await core.counts()
    with pytest.raises(InvalidDocument):
        await core.recurring.backfill("r", past(0, 10))
    with pytest.raises(InvalidDocument):
        await core.recurring.backfill("r", past(5, -5))
    with pytest.raises(Refused, match="1001 instants") as caught:
        await core.recurring.backfill("r", past(1001, 0))
    assert caught.value.code == "too_many"
    with pytest.raises(NotFound):
        await core.recurring.backfill("r", past(5, 0, node="c"))
    with pytest.raises(NotFound):
        await core.recurring.backfill("s", past(5, 0))
    assert await core.counts() == before
    for _ in range(ALL_MAX // 2000):
        await core.recurring.backfill("r", past(1000, 0))
    with pytest.raises(Refused, match="10000 that were asked for"):
        await core.recurring.backfill("r", Backfill())


@scenario
async def test_a_node_that_does_not_know_the_word_is_named() -> None:
    core = await web()
    await core.report_of("b", features=["schedule", "paused_schedule"], role="web")
    with pytest.raises(Refused, match="b cannot run") as caught:
        await core.recurring.backfill("r", past(10, 0))
    assert caught.value.code == "unsupported"
    assert (await core.recurring.backfill("r", past(10, 0, node="a")))["count"] == 2


@scenario
async def test_it_carries_the_approval_of_its_rule() -> None:
    core = RecurringCore()
    await core.add("a", kinds=[{"kind": "sleep", "risk_level": "dangerous"}])
    made = await core.make("* * * * *", node="a")
    with pytest.raises(Refused) as caught:
        await core.recurring.backfill("r", past(5, 0))
    assert caught.value.code == "not_approved"
    await core.answer(made["approval_id"])
    told = await core.recurring.backfill("r", past(1, 0))
    sent = await definition(core, told["actions"][0]["action_id"])
    assert sent.approval.by == "ann"
    assert sent.approval.digest == digest_of(sent)
