"""What starts in the fleet, by the nodes' own arithmetic."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agent.core.nodes.selector import parse_selector
from agent.core.recurring.forecast import Question
from agent.domain.errors import InvalidDocument, NotFound
from agent.domain.schedule.recurrence import jitter_offset_s
from tests.fakes.dispatching_core import START, scenario
from tests.fakes.recurring_core import RecurringCore


async def ask(core: RecurringCore, minutes: float = 60, **more: Any) -> dict[str, Any]:
    until = START + timedelta(minutes=minutes)
    return await core.recurring.forecast(Question(now=START, until=until, **more))


async def web(schedule: Any = "*/20 * * * *", *nodes: str) -> RecurringCore:
    core = RecurringCore()
    for name in nodes or ("a", "b"):
        await core.add(name, role="web")
    await core.make(schedule, selector="role=web")
    return core


@scenario
async def test_every_node_and_the_peaks() -> None:
    core = await web()
    await core.make("40 12 * * *", id="s", node="a")
    told = await ask(core)
    assert [(one["starts_at"][11:16], one["id"], one["node"]) for one in told["fires"]] == [
        ("12:20", "r", "a"), ("12:20", "r", "b"), ("12:40", "r", "a"), ("12:40", "r", "b"),
        ("12:40", "s", "a"), ("13:00", "r", "a"), ("13:00", "r", "b"),
    ]  # fmt: skip
    assert told["peaks"][0] == {"at": "2026-03-01T12:40:00Z", "starts": 3}
    assert (told["truncated"], told["counted_all"], told["all_nodes"]) == (False, True, True)
    only = await ask(core, node="b")
    assert {one["node"] for one in only["fires"]} == {"b"}
    some = await ask(core, selector=parse_selector("node=a"), rule_id="s")
    assert [one["id"] for one in some["fires"]] == ["s"]
    cut = await ask(core, limit=2)
    assert (len(cut["fires"]), cut["truncated"]) == (2, True)


@scenario
async def test_as_each_node_told() -> None:
    core = await web("at 13:30")
    await core.stands("a", zone="Europe/Berlin")
    told = await ask(core, 120)
    assert [(one["node"], one["starts_at"][11:16]) for one in told["fires"]] == [
        ("a", "12:30"), ("b", "13:30"),
    ]  # fmt: skip


@scenario
async def test_jitter_is_the_nodes_own() -> None:
    core = await web({"cron": "0 13 * * *", "jitter_s": 600})
    told = await ask(core, 120)
    offsets = {one["node"]: one["starts_at"] for one in told["fires"]}
    for node in ("a", "b"):
        at = START + timedelta(hours=1, seconds=jitter_offset_s(node, "r", 600.0))
        assert offsets[node].startswith(f"{at:%Y-%m-%dT%H:%M:%S}")


@scenario
async def test_intervals_runs_and_ends() -> None:
    core = await web({"every": "20m", "max_runs": 4}, "a", "b", "c")
    await core.stands("a", anchor_at="2026-03-01T11:50:00Z", run_count=3)
    await core.stands("b", state="ended", ended_reason="max_runs")
    told = await ask(core)
    assert [(one["node"], one["starts_at"][11:16]) for one in told["fires"]] == [
        ("a", "12:10"), ("c", "12:20"), ("c", "12:40"), ("c", "13:00"),
    ]  # fmt: skip


@scenario
async def test_counted_from_the_end_only_the_next_is_known() -> None:
    core = await web({"every": "20m", "count_from": "completion"}, "a")
    assert [one["starts_at"][11:16] for one in (await ask(core))["fires"]] == ["12:20"]
    await core.stands(
        "a", anchor_at="2026-03-01T11:40:00Z", last_nominal_at="2026-03-01T11:59:00Z", run_count=1
    )
    assert (await ask(core))["fires"] == [], "it runs, so nobody knows"


@scenario
async def test_a_paused_one_is_said_to_be_and_is_no_peak() -> None:
    core = await web()
    await core.recurring.pause("r", "a move")
    told = await ask(core)
    assert told["fires"][0]["notes"] == ["paused: a move"]
    assert told["peaks"] == []
    await core.recurring.delete("r")
    assert (await ask(core))["fires"] == []


@scenario
async def test_what_a_node_itself_has_paused_is_said_of_that_node_alone() -> None:
    core = await web()
    await core.stands("a", state="paused", paused="too hot", paused_by="node")
    fires = (await ask(core))["fires"]
    notes = {(fire["node"], *fire["notes"]) for fire in fires}
    assert ("a", "paused on the node: too hot") in notes
    assert {note[1:] for note in notes if note[0] != "a"} == {()}
    assert all(
        peak["starts"] < len({fire["node"] for fire in fires})
        for peak in (await ask(core))["peaks"]
    )
    await core.stands("a", state="paused", paused="by the core: a move", paused_by="owner")
    assert not (await ask(core))["fires"][0]["notes"], "resumed here since it told that"


@scenario
async def test_nothing_until_then_and_when_then() -> None:
    core = await web("0 6 1 4 *")
    told = await ask(core, rule_id="r")
    assert (told["fires"], told["next_at"]) == ([], "2026-04-01T06:00:00Z")
    with pytest.raises(NotFound):
        await ask(core, rule_id="nothing")
    with pytest.raises(InvalidDocument):
        await ask(core, -5)
