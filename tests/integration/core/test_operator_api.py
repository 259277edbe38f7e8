"""Dispatch, cancel, lists: what an operator relies on. Rows 40, 51–55 at the core's side."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.conftest import (  # noqa: F401  (fixtures of all doors)
    core_process,
    door,
    postgres_core_process,
)
from tests.contract.test_node_protocol import dispatched, ids, rejected, scenario
from tests.fakes.core_backends import Backend
from tests.fakes.reporting_node import ReportingNode, item

pytestmark = pytest.mark.timeout(60)


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


@scenario
async def test_a_dispatch_is_queued_or_scheduled(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    now = await backend.dispatch({"kind": "sleep", "node": node.id})
    assert now == {"outcome": "queued", "action_id": now["action_id"]}
    later = await backend.dispatch(
        {"action_type": "sleep", "node": node.id, "from_date": in_hours(1)}
    )
    assert later["outcome"] == "scheduled"
    assert later["scheduled_for"].endswith("Z")
    shown = await backend.action(later["action_id"])
    assert (shown["phase"], shown["kind"], shown["owner"]) == ("SCHEDULED", "sleep", "core")
    assert shown["requester"] == "core_api"


@scenario
async def test_a_repeated_id_changes_nothing(backend: Backend) -> None:
    node, other = await ReportingNode.enrolled(backend), await ReportingNode.enrolled(backend)
    name = f"mine-{secrets.token_hex(4)}"
    assert await dispatched(backend, node, id=name) == name
    before = await backend.action(name)
    for target in (node, other):
        again = backend.dispatch({"kind": "other", "node": target.id, "id": name})
        error = await rejected(again)
        assert (error.status, error.code) == (409, "exists")
    assert await backend.action(name) == before
    assert len(await backend.history(name)) == 1


@scenario
async def test_an_unknown_node_is_said(backend: Backend) -> None:
    error = await rejected(backend.dispatch({"kind": "sleep", "node": "nobody"}))
    assert error.status == 404
    error = await rejected(backend.dispatch({"kind": "sleep"}))
    assert (error.status, [fault["path"] for fault in error.faults]) == (422, ["node"])
    error = await rejected(backend.dispatch({"kind": "sleep", "timout_s": 3, "x_own": 1}))
    assert [fault["path"] for fault in error.faults] == ["node", "timout_s"], "a slip of the hand"


@scenario
async def test_a_dry_run_changes_nothing(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    body = {"kind": "sleep", "node": node.id, "from_date": in_hours(1)}
    answer = await backend.dispatch(body, dry_run=True)
    assert (answer["outcome"], answer["would_be"]) == ("dry_run", "scheduled")
    assert ids(await node.pull()) == []
    assert (await rejected(backend.action(answer["action_id"]))).status == 404
    wrong = backend.dispatch({"kind": "sleep", "node": "nobody"}, dry_run=True)
    assert (await rejected(wrong)).status == 404


@scenario
async def test_waiting_answers_with_the_end(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    await node.pull()

    async def run_it() -> None:
        (name,) = ids(await node.pull(10.0))
        await node.push(*node.ran(name))

    running = asyncio.create_task(run_it())
    answer = await backend.dispatch({"kind": "sleep", "node": node.id}, wait=20)
    await running
    assert answer["outcome"] == "executed"
    assert answer["response"]["exit_code"] == 0
    queued = await backend.dispatch({"kind": "sleep", "node": node.id}, wait=0.2)
    assert queued["outcome"] == "queued"


@scenario
async def test_cancel_before_delivery_is_visible_and_delivered(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    await node.pull()
    action = await dispatched(backend, node)
    shown = await backend.cancel(action, {"reason": "not needed"})
    assert (shown["phase"], shown["requested"]["revision"]) == ("CANCELLED", 2)
    (told,) = (await node.pull())["actions"]
    assert told["should_be_executed"] is False
    node.applied(action, 2, "inserted")
    node.moved(action, "NULL", "WONT_START", "withdrawn", attempt=0)
    await node.push()
    shown = await backend.action(action)
    assert (shown["phase"], shown["requested"]) == ("CANCELLED", None)
    assert [event["type"] for event in await backend.history(action)] == [
        "dispatched", "cancel_requested", "definition_applied", "transition",
    ]  # fmt: skip
    assert (await rejected(backend.cancel(action, {}))).code == "already_ended"


@scenario
async def test_cancel_of_a_running_one(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    await node.pull()
    node.moved(action, "NULL", "STARTED", "due", attempt=1)
    await node.push()
    error = await rejected(backend.cancel(action, {}))
    assert (error.status, error.code) == (409, "already_started")
    shown = await backend.cancel(action, {"if_started": "stop"})
    assert (shown["phase"], shown["requested"]["type"]) == ("RUNNING", "cancel")
    assert await backend.cancel(action, {"if_started": "stop"}) == shown, "asked once"
    (told,) = (await node.pull())["actions"]
    assert (told["revision"], told["should_be_executed"]) == (2, False)
    node.applied(action, 2, "updated")
    node.moved(action, "STARTED", "WONT_FINISH", "withdrawn", attempt=1, signal=15)
    await node.push()
    shown = await backend.action(action)
    assert (shown["phase"], shown["execution_status"]) == ("CANCELLED", "WONT_FINISH")
    node.moved(action, "WONT_FINISH", "STARTED", "due", attempt=2)
    await node.push()
    assert (await backend.action(action))["phase"] == "CANCELLED", "and stays cancelled"


@scenario
async def test_a_cancel_that_comes_too_late_is_settled(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    await node.pull()
    node.ran(action)  # offline: the core does not know yet
    assert (await backend.cancel(action, {}))["requested"] is not None
    node.applied(action, 2, "too_late")
    await node.push()
    shown = await backend.action(action)
    assert (shown["phase"], shown["requested"]) == ("DONE", None)


@scenario
async def test_a_bad_cancel_is_refused(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    bodies: list[Any] = [{"if_started": "perhaps"}, {"raeson": "x"}, []]
    for body in bodies:
        assert (await rejected(backend.cancel(action, body))).status == 422
    assert (await rejected(backend.cancel("nothing", {}))).status == 404


@scenario
async def test_lists_are_paged_without_losing_rows(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    made = [await dispatched(backend, node) for _ in range(25)]
    seen: list[str] = []
    after = "0"
    while after is not None:
        page = await backend.actions(node=node.id, limit=10, after=after)
        seen += ids(page)
        after = page["next"]
        await dispatched(backend, node)  # what is added meanwhile disturbs no page
    assert seen == made[::-1]


@scenario
async def test_lists_are_filtered(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    one, two = await dispatched(backend, node), await dispatched(backend, node, kind="other")
    later = await dispatched(backend, node, from_date=in_hours(2))
    await node.push(*node.ran(one))
    for query, expected in (
        ({"status": "FINISHED"}, [one]),
        ({"kind": "other"}, [two]),
        ({"phase": "SCHEDULED"}, [later]),
        ({"phase": "QUEUED"}, [two]),
        ({"phase": "LOST"}, []),
    ):
        assert ids(await backend.actions(node=node.id, **query)) == expected, query


@scenario
async def test_the_stream_has_each_change_once(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    await node.pull()
    node.applied(action, 1, "inserted")
    node.ran(action)
    await node.push()
    await node.push()
    told = [event["type"] for event in await backend.all_events(node.id)]
    assert told[:3] == ["enrolled", "instance_changed", "epoch_changed"]
    assert told[3:] == ["dispatched", "definition_applied", "transition", "transition"]


@scenario
async def test_one_silent_node_holds_no_other(backend: Backend) -> None:
    silent, busy = await ReportingNode.enrolled(backend), await ReportingNode.enrolled(backend)
    for _ in range(30):
        await dispatched(backend, silent)
    action = await dispatched(backend, busy)
    assert ids(await busy.pull()) == [action]
    assert (await backend.agent(silent.id))["undelivered"] == 30


@scenario
async def test_a_restored_core_learns_what_it_forgot(backend: Backend) -> None:
    """The node has an action that the core has not: shown, neither cancelled nor run again."""
    node = await ReportingNode.enrolled(backend)
    name = f"forgotten-{secrets.token_hex(4)}"
    await node.put_state([item(name, "STARTED", attempt=1)])
    shown = await backend.action(name)
    assert (shown["phase"], shown["owner"], shown["kind"]) == ("RUNNING", "core", None)
    assert ids(await node.pull(cursor="")) == []
    error = await rejected(backend.cancel(name, {"if_started": "stop"}))
    assert error.code == "definition_unknown"


@scenario
async def test_what_waits_for_an_approval_is_in_no_answer_and_never_lost(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    answer = await backend.dispatch({"kind": "k", "node": node.id, "risk_level": "dangerous"})
    assert answer["outcome"] == "pending_approval"
    assert ids(await node.pull()) == []
    assert ids(await node.pull(cursor="")) == []
    await node.put_state([])
    assert (await backend.action(answer["action_id"]))["phase"] == "PENDING_APPROVAL"
    assert (await backend.cancel(answer["action_id"], {}))["phase"] == "CANCELLED"
    await node.put_state([])
    assert ids(await node.pull(cursor="")) == []
    assert (await backend.action(answer["action_id"]))["phase"] == "CANCELLED"
