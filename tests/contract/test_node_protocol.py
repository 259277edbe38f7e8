"""docs/protocol.md as tests, for any backend: what a node may rely on.

Each test is a paragraph of that page. Operators appear only to make something happen.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Awaitable, Callable

import pytest

from tests.contract.conftest import Door
from tests.fakes.core_backends import Backend, Rejected
from tests.fakes.reporting_node import AT, ReportingNode, execution, item

pytestmark = pytest.mark.timeout(60)


def scenario(play: Callable[[Backend], Awaitable[None]]) -> Callable[[Door], None]:
    """A test that is played behind each door."""

    def test(door: Door) -> None:
        async def whole() -> None:
            async with door() as backend:
                await play(backend)

        asyncio.run(whole())

    test.__doc__ = play.__doc__
    test.__name__ = play.__name__
    test.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("door", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )
    return test


async def dispatched(backend: Backend, node: ReportingNode, **more: object) -> str:
    answer = await backend.dispatch({"kind": "sleep", "node": node.id, **more})
    return str(answer["action_id"])


async def rejected(call: Awaitable[object]) -> Rejected:
    with pytest.raises(Rejected) as caught:
        await call
    return caught.value


def ids(answer: dict) -> list[str]:
    return [action["id"] for action in answer["actions"]]


# Enrolment


@scenario
async def test_a_token_works_once(backend: Backend) -> None:
    token = await backend.token(None)
    first = await backend.enroll({"token": token, "nonce": "a"})
    assert first["agent_id"]
    assert (await rejected(backend.enroll({"token": token, "nonce": "b"}))).status == 401


@scenario
async def test_unknown_used_and_expired_tokens_get_the_same_answer(backend: Backend) -> None:
    used = await backend.token(None)
    await backend.enroll({"token": used, "nonce": "a"})
    one = await rejected(backend.enroll({"token": used, "nonce": "b"}))
    other = await rejected(backend.enroll({"token": "never-made", "nonce": "b"}))
    assert (one.status, str(one)) == (401, str(other))


@scenario
async def test_a_lost_answer_can_be_asked_for_again(backend: Backend) -> None:
    token = await backend.token(None)
    body = {"token": token, "nonce": "kept"}
    lost = await backend.enroll(body)
    again = await backend.enroll(body)
    assert again["agent_id"] == lost["agent_id"]
    assert again["credential"] != lost["credential"]
    stale = ReportingNode(backend, lost["agent_id"], lost["credential"])
    await ReportingNode(backend, again["agent_id"], again["credential"]).pull()
    assert (await rejected(stale.pull())).status == 401, "the one that is used first is the one"
    assert (await rejected(backend.enroll(body))).status == 401, "the credential is in use"


@scenario
async def test_a_bound_token_names_the_node(backend: Backend) -> None:
    name = f"bound-{secrets.token_hex(4)}"
    token = await backend.token(name)
    wrong = await rejected(backend.enroll({"token": token, "nonce": "n", "agent_id": "other"}))
    assert wrong.status == 403
    assert (await backend.enroll({"token": token, "nonce": "n"}))["agent_id"] == name


@scenario
async def test_a_known_name_needs_a_token_of_its_own(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    body = {"token": await backend.token(None), "nonce": "n", "agent_id": node.id}
    assert (await rejected(backend.enroll(body))).status == 409
    again = await backend.enroll({"token": await backend.token(node.id), "nonce": "n"})
    await node.pull()
    fresh = ReportingNode(backend, node.id, again["credential"])
    await fresh.pull()
    await asyncio.sleep(0)
    assert (await rejected(node.pull())).status == 401, "its old credential is void"


@scenario
async def test_a_node_touches_its_own_rows_only(backend: Backend) -> None:
    one, other = await ReportingNode.enrolled(backend), await ReportingNode.enrolled(backend)
    thief = (other.id, one.credential, one.instance)
    assert (await rejected(backend.pull(thief, "", 0))).status == 403
    body = {"agent_epoch": "e", "events": []}
    assert (await rejected(backend.events(thief, body))).status == 403
    nobody = (one.id, "guessed", one.instance)
    assert (await rejected(backend.pull(nobody, "", 0))).status == 401


# Pull


@scenario
async def test_the_first_pull_is_full_and_the_next_has_what_is_new(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    first = await dispatched(backend, node)
    answer = await node.pull()
    assert (answer["full"], ids(answer)) == (True, [first])
    second = await dispatched(backend, node)
    answer = await node.pull()
    assert (answer["full"], ids(answer)) == (False, [second])
    assert ids(await node.pull()) == []


@scenario
async def test_a_definition_is_delivered_until_it_is_acknowledged(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    await node.pull()
    before = node.cursor
    action = await dispatched(backend, node)
    for _ in range(3):
        assert ids(await node.pull(cursor=before)) == [action]
    assert not (await backend.action(action))["delivered"]
    await node.pull()
    assert (await backend.action(action))["delivered"]


@scenario
async def test_a_long_poll_answers_at_once_when_something_is_new(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    await node.pull()
    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting = asyncio.create_task(node.pull(20.0))
    await asyncio.sleep(0.2)
    action = await dispatched(backend, node)
    assert ids(await waiting) == [action]
    assert loop.time() - began < 5


@scenario
async def test_a_long_poll_ends_empty_after_its_wait(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    await node.pull()
    kept = node.cursor
    answer = await node.pull(0.3)
    assert (answer["actions"], answer["full"], answer["cursor"]) == ([], False, kept)


@scenario
async def test_several_changes_collapse_to_the_current_definition(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    await node.pull()
    action = await dispatched(backend, node)
    await backend.cancel(action, {})
    answer = await node.pull()
    assert ids(answer) == [action]
    assert answer["actions"][0]["should_be_executed"] is False
    assert answer["actions"][0]["revision"] == 2


@scenario
async def test_an_older_cursor_gets_everything_and_disturbs_nothing(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    await node.pull()
    old = node.cursor
    first = await dispatched(backend, node)
    await node.pull()
    await node.pull()
    current = node.cursor
    assert current != old
    second = await dispatched(backend, node)
    delayed = await node.pull(cursor=old)
    assert delayed["full"]
    assert ids(delayed) == [first, second]
    answer = await node.pull(cursor=current)
    assert (answer["full"], ids(answer)) == (False, [second])


@scenario
async def test_a_cursor_of_another_history_is_a_fork(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    await node.pull()
    await node.pull()
    for beyond in (0, 50):
        epoch, seq, mark = node.cursor.split(".")
        forged = f"{epoch}.{int(seq) + beyond}.{int(mark, 16) ^ 1:x}"
        answer = await node.pull(cursor=forged)
        assert answer["full"]
        assert ids(answer) == [action]
        assert answer["cursor"].split(".")[0] != epoch, "a new stream epoch"
        assert [one["type"] for one in answer["requests"]] == ["send_state"]
        answer = await node.pull()
        assert (answer["full"], answer["actions"], answer["requests"]) == (False, [], [])


@scenario
async def test_nonsense_and_unknown_epochs_get_everything(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    for cursor in ("", "nonsense", "0123456789abcdef.1.0123456789abcdef", "ü" * 300):
        answer = await node.pull(cursor=cursor)
        assert answer["full"]
        assert ids(answer) == [action]


@scenario
async def test_a_full_answer_has_no_started_and_no_ended_ones(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    waits, runs, ended, stopped = [await dispatched(backend, node) for _ in range(4)]
    await node.pull()
    node.moved(runs, "NULL", "STARTED", "due")
    node.ran(ended)
    node.moved(stopped, "NULL", "STARTED", "due")
    await node.push()
    await backend.cancel(stopped, {"if_started": "stop"})
    answer = await node.pull(cursor="")
    assert ids(answer) == [waits, stopped]
    assert answer["actions"][1]["should_be_executed"] is False


@scenario
async def test_what_a_node_refused_is_over_and_not_offered_again(backend: Backend) -> None:
    """People see NOT_STARTED and try again: it must not start after all when a stream forks."""
    node = await ReportingNode.enrolled(backend)
    refused = await dispatched(backend, node)
    await node.pull()
    node.event(
        "definition_refused", refused, revision=1,
        faults=[{"path": "approval", "message": "is missing"}],
    )  # fmt: skip
    await node.push()
    assert (await backend.action(refused))["phase"] == "NOT_STARTED"
    assert ids(await node.pull(cursor="")) == []
    assert (await rejected(backend.cancel(refused, {}))).code == "already_ended"


@scenario
async def test_a_full_answer_goes_on_where_it_ended(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    payload = {"text": "x" * 60_000}
    made = [await dispatched(backend, node, payload=payload) for _ in range(80)]
    seen: list[str] = []
    late: list[str] = []
    node.cursor = ""
    pages = 0
    while True:
        answer = await node.pull()
        seen += ids(answer)
        pages += 1
        if pages == 1:
            # Changes behind and before the page's end, while the node is reading.
            await backend.cancel(made[0], {})
            await backend.cancel(made[-1], {})
            late = [await dispatched(backend, node)]
            again = await node.pull(cursor=answer["cursor"])
            assert ids(again) == ids(await node.pull(cursor=answer["cursor"])), "resumable"
            node.cursor = answer["cursor"]
        if not answer["full"]:
            break
    assert pages >= 4
    first_pass = seen[: len(set(made + late))]
    assert set(first_pass) == set(made + late)
    tail = seen[len(first_pass) :]
    assert set(tail) >= {made[0]}, "what changed behind the page follows"
    assert (await node.pull())["actions"] == []


@scenario
async def test_pages_are_bounded_and_lose_nothing(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    await node.pull()
    payload = {"text": "x" * 60_000}
    made = [await dispatched(backend, node, payload=payload) for _ in range(80)]
    seen: list[str] = []
    while page := ids(await node.pull()):
        assert len(page) < 80
        seen += page
    assert seen == made


# Events


@scenario
async def test_events_are_stored_once_and_in_order(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    await node.pull()
    node.applied(action, 1, "inserted")
    node.ran(action)
    assert (await node.push())["acked"] == 3
    assert (await node.push())["acked"] == 3, "a repeat is a no-op"
    told = [event["type"] for event in await backend.history(action)]
    assert told == ["dispatched", "definition_applied", "transition", "transition"]
    shown = await backend.action(action)
    assert shown["execution_status"] == "FINISHED"
    assert (shown["phase"], shown["exit_code"], shown["attempt"]) == ("DONE", 0, 1)


@scenario
async def test_a_hole_is_answered_with_what_is_expected(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    events = node.ran(action)
    error = await rejected(node.push(events[1]))
    assert (error.status, error.code, error.expected) == (409, "gap", 1)
    assert (await node.push())["acked"] == 2


@scenario
async def test_what_comes_before_a_hole_is_kept(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    first, _, third = node.applied(action, 1, "inserted"), *node.ran(action)
    error = await rejected(node.push(first, third))
    assert (error.code, error.expected, error.acked) == ("gap", 2, 1)


@scenario
async def test_another_event_of_a_known_number_is_a_fork(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    node.ran(action)
    await node.push()
    other = {**node.made[1], "mark": secrets.token_hex(8)}
    error = await rejected(node.push(other))
    assert (error.status, error.code) == (409, "forked")
    assert len(await backend.history(action)) == 3


@scenario
async def test_an_unknown_epoch_is_a_fork(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend, state=False)
    action = await dispatched(backend, node)
    node.ran(action)
    assert (await rejected(node.push())).code == "forked"
    await node.put_state([], as_of_seq=0, first_seq=1)
    assert (await node.push())["acked"] == 2


@scenario
async def test_a_bad_body_is_kept_shown_and_acknowledged(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    node.event("transition", action, to="ELSEWHERE")
    node.event("of a later version", action)
    node.event("transition", action, **{"from": "NULL"}, to="STARTED", execution="none")
    node.made[-1]["at"] = "yesterday"
    node.ran(action)
    assert (await node.push())["acked"] == 5
    told = await backend.history(action)
    assert [event["type"] for event in told] == [
        "dispatched", "unreadable", "unreadable", "unreadable", "transition", "transition",
    ]  # fmt: skip
    assert told[1]["faults"]
    assert "ELSEWHERE" in told[1]["raw"]


@scenario
async def test_an_unreadable_number_is_refused_alone(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    first, second = node.ran(action)
    error = await rejected(node.push(first, {**second, "seq": "two"}))
    assert (error.status, error.code, error.acked) == (400, "bad_events", 1)
    assert error.faults[0]["path"] == "events[1]"
    assert (await backend.action(action))["execution_status"] == "STARTED"
    assert (await node.push())["acked"] == 2


@scenario
async def test_final_is_final(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    node.ran(action)
    node.moved(action, "FINISHED", "STARTED", "due", attempt=2)
    await node.push()
    shown = await backend.action(action)
    assert (shown["execution_status"], shown["attempt"]) == ("FINISHED", 1)
    assert len(await backend.history(action)) == 4, "and yet it is in the history"


@scenario
async def test_a_gap_that_the_node_declares_is_visible(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    node.seq = 899
    gap = node.event("gap", first=1, last=900, reason="outbox_full")
    assert (await node.push(gap))["acked"] == 900
    assert (await node.push(*node.ran(action)))["acked"] == 902
    shown = [event for event in await backend.all_events(node.id) if event["type"] == "gap"]
    assert [(event["first"], event["last"]) for event in shown] == [(1, 900)]
    folded = {**gap, "mark": secrets.token_hex(8)}
    assert (await node.push(folded))["acked"] == 902, "a fold of what is stored is no fork"


@scenario
async def test_an_action_of_the_node_itself_appears(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    name = f"local-{secrets.token_hex(4)}"
    node.created(name)
    node.ran(name)
    await node.push()
    shown = await backend.action(name)
    assert (shown["owner"], shown["node"], shown["phase"]) == ("node", node.id, "DONE")
    assert shown["kind"] == "local"


@scenario
async def test_an_id_that_both_use_stays_two_actions(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    name = await dispatched(backend, node)
    node.created(name)
    node.event(
        "definition_refused", name, revision=1,
        faults=[{"path": "id", "message": "id_conflict"}],
    )  # fmt: skip
    node.ran(name)
    await node.push()
    ours = await backend.action(name, owner="core")
    theirs = await backend.action(name, owner="node")
    assert (ours["execution_status"], ours["phase"]) == ("NULL", "NOT_STARTED")
    assert ours["refused"]["faults"][0]["message"] == "id_conflict"
    assert theirs["phase"] == "DONE"
    assert (await rejected(backend.action(name))).code == "ambiguous"


# State


@scenario
async def test_a_state_brings_what_events_have_not_told(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    await node.pull()
    await node.pull()
    node.applied(action, 1, "inserted")
    node.moved(action, "NULL", "STARTED", "due")
    name = f"local-{secrets.token_hex(4)}"
    definition = {"id": name, "kind": "local", "owner": "node", "revision": 1}
    await node.put_state(
        [item(action, "STARTED", attempt=1), item(name, owner="node", definition=definition)],
        first_seq=1,
    )
    assert (await backend.action(action))["phase"] == "RUNNING"
    assert (await backend.action(name))["kind"] == "local"
    assert (await node.push())["acked"] == 2, "it does not move the event cursor"
    assert (await backend.action(action))["phase"] == "RUNNING"


@scenario
async def test_older_events_no_longer_change_the_status(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    await node.pull()
    node.moved(action, "NULL", "STARTED", "due", attempt=1)
    node.moved(action, "STARTED", "NULL", "retry", attempt=1)
    await node.put_state([item(action, "NULL", attempt=1, reason="retry")], first_seq=1)
    await node.push(node.made[0])
    shown = await backend.action(action)
    assert (shown["execution_status"], shown["reason"]) == ("NULL", "retry")
    await node.push()
    assert len(await backend.history(action)) == 4, "dispatched, corrected, two transitions"


@scenario
async def test_a_newer_event_is_not_undone_by_an_older_state(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    node.ran(action)
    await node.push()
    await node.put_state([item(action, "STARTED", attempt=1)], as_of_seq=1, first_seq=2)
    assert (await backend.action(action))["execution_status"] == "FINISHED"


@scenario
async def test_a_new_epoch_heals_a_fork_and_history_is_stored_once(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    node.ran(action)
    await node.push()
    # The node comes back from a backup that was taken after its first event.
    node.seq, lost = 1, node.made.pop()
    node.moved(action, "STARTED", "FAILED", "exit_nonzero", attempt=1, exit_code=1)
    assert (await rejected(node.push())).code == "forked"
    node.epoch = secrets.token_hex(8)
    await node.put_state([item(action, "FAILED", attempt=1)], first_seq=1)
    assert (await node.push())["acked"] == 2
    told = [event for event in await backend.history(action) if event["type"] == "transition"]
    assert [event["seq"] for event in told] == [1, 2, 2], "both ends, the common start once"
    assert (await backend.action(action))["execution_status"] == "FINISHED", "final is final"
    assert lost["mark"] != node.made[-1]["mark"]


@scenario
async def test_history_that_nobody_holds_becomes_a_gap(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    node.seq = 150
    node.epoch = secrets.token_hex(8)
    await node.put_state([], as_of_seq=150, first_seq=151)
    gaps = [event for event in await backend.all_events(node.id) if event["type"] == "gap"]
    assert [(gap["first"], gap["last"], gap["count"]) for gap in gaps] == [(1, 150, 150)]
    action = await dispatched(backend, node)
    assert (await node.push(*node.ran(action)))["acked"] == 152


@scenario
async def test_a_superseded_epoch_never_comes_back(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    old = node.epoch
    node.epoch = secrets.token_hex(8)
    await node.put_state([])
    assert (await rejected(node.put_state([], agent_epoch=old))).code == "forked"
    node.applied("x", 1, "inserted")
    assert (await rejected(node.push(epoch=old))).code == "forked"


@scenario
async def test_what_the_node_forgot_is_lost_until_it_is_found(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    gone, there, undelivered = (
        await dispatched(backend, node),
        await dispatched(backend, node),
        None,
    )
    await node.pull()
    node.moved(gone, "NULL", "STARTED", "due", attempt=1)
    await node.push()
    applied = node.cursor
    undelivered = await dispatched(backend, node)
    await node.put_state([item(there)], cursor=applied)
    lost = await backend.action(gone)
    assert (lost["phase"], lost["lost_reason"]) == ("LOST", "absent_from_state")
    assert (await backend.action(there))["phase"] == "QUEUED"
    assert (await backend.action(undelivered))["phase"] == "QUEUED", "it may be on its way"
    assert "lost" in [event["type"] for event in await backend.history(gone)]
    node.moved(gone, "STARTED", "FINISHED", "exit_zero", attempt=1, exit_code=0)
    await node.push()
    found = await backend.action(gone)
    assert (found["phase"], found["lost_at"]) == ("DONE", None)
    assert "found" in [event["type"] for event in await backend.history(gone)]


@scenario
async def test_what_a_reinstalled_node_had_started_is_lost_and_the_rest_is_offered(
    backend: Backend,
) -> None:
    """It has no cursor that proves anything; but it spoke of what it had started."""
    node = await ReportingNode.enrolled(backend)
    ran, waits = await dispatched(backend, node), await dispatched(backend, node)
    await node.pull()
    node.moved(ran, "NULL", "STARTED", "due", attempt=1)
    await node.push()
    token = await backend.token(node.id)
    again = await backend.enroll({"token": token, "nonce": "n", "agent_id": node.id})
    fresh = ReportingNode(backend, node.id, again["credential"])
    await fresh.put_state([])
    assert (await backend.action(ran))["phase"] == "LOST"
    assert (await backend.action(waits))["phase"] == "QUEUED"
    answer = await fresh.pull()
    assert (answer["full"], ids(answer)) == (True, [waits])


@scenario
async def test_requests_come_with_the_last_page_of_a_full_answer(backend: Backend) -> None:
    """So that the state which is asked for carries a cursor that proves something."""
    node = await ReportingNode.enrolled(backend)
    payload = {"text": "x" * 60_000}
    for _ in range(40):
        await dispatched(backend, node, payload=payload)
    await backend.nudge(node.id)
    first, second = await node.pull(), await node.pull()
    assert (first["requests"], len(second["requests"])) == ([], 1)
    assert len(second["cursor"].split(".")) == 3


@scenario
async def test_lost_is_never_offered_again(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action = await dispatched(backend, node)
    await node.pull()
    await node.put_state([])
    assert (await backend.action(action))["phase"] == "LOST"
    assert ids(await node.pull(cursor="")) == []


@scenario
async def test_a_cursor_inside_a_full_answer_proves_nothing(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    payload = {"text": "x" * 60_000}
    made = [await dispatched(backend, node, payload=payload) for _ in range(60)]
    await node.pull()
    await node.put_state([])
    assert (await backend.action(made[-1]))["phase"] == "QUEUED"
    assert (await backend.action(made[0]))["phase"] == "QUEUED"


@scenario
async def test_a_state_in_parts_counts_when_it_is_complete(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    one, two, gone = [await dispatched(backend, node) for _ in range(3)]
    await node.pull()
    await node.put_state([item(one)], snapshot="s", part=0, last=False)
    assert (await backend.action(gone))["phase"] == "QUEUED"
    error = await rejected(node.put_state([], snapshot="s", part=2, last=True))
    assert (error.code, error.expected) == ("gap", 1)
    await node.put_state([item(two)], snapshot="s", part=1, last=True)
    await node.put_state([item(two)], snapshot="s", part=1, last=True)
    phases = [(await backend.action(name))["phase"] for name in (one, two, gone)]
    assert phases == ["QUEUED", "QUEUED", "LOST"]


@scenario
async def test_a_bad_item_of_a_state_is_left_out_alone(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    good, bad = await dispatched(backend, node), await dispatched(backend, node)
    await node.pull()
    broken = item(bad) | {"execution": {"execution_status": "ELSEWHERE"}}
    answer = await node.put_state([broken, item(good, "STARTED", attempt=1), "nonsense"])
    assert [fault["path"] for fault in answer["faults"]] == [
        "actions[0].execution.execution_status",
        "actions[2].",
    ]
    assert (await backend.action(good))["phase"] == "RUNNING"
    assert (await backend.action(bad))["phase"] == "QUEUED", "unreadable, and yet not lost"


# Fencing, requests, the node's report


@scenario
async def test_a_superseded_instance_is_fenced(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    clone = ReportingNode(backend, node.id, node.credential)
    await clone.pull()
    for call in (
        node.pull(),
        node.push(node.applied("x", 1, "inserted")),
        node.put_state([]),
        backend.node(node.who, {"version": "1"}),
    ):
        error = await rejected(call)
        assert (error.status, error.code) == (409, "fenced")
    shown = await backend.agent(node.id)
    assert (shown["instance"], shown["fenced_count"] >= 1) == (clone.instance, True)


@scenario
async def test_a_waiting_poll_of_a_superseded_instance_ends(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    await node.pull()
    waiting = asyncio.create_task(node.pull(20.0))
    await asyncio.sleep(0.2)
    node_again = ReportingNode(backend, node.id, node.credential)
    node_again.cursor = node.cursor
    await node_again.pull()
    assert (await rejected(waiting)).code == "fenced"


@scenario
async def test_it_ends_whatever_the_new_instance_says_first(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    await node.pull()
    waiting = asyncio.create_task(node.pull(20.0))
    await asyncio.sleep(0.2)
    clone = ReportingNode(backend, node.id, node.credential)
    await backend.node(clone.who, {"version": "1"})
    assert (await rejected(asyncio.wait_for(waiting, 5))).code == "fenced"


@scenario
async def test_an_instance_must_be_named(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    node.instance = ""
    assert (await rejected(node.pull())).status == 400


@scenario
async def test_requests_are_delivered_until_acknowledged(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    await node.pull()
    before = node.cursor
    asked = await backend.nudge(node.id)
    assert await backend.nudge(node.id) == asked, "one open request is enough"
    for cursor in (before, before, ""):
        answer = await node.pull(cursor=cursor)
        assert [(one["id"], one["type"]) for one in answer["requests"]] == [
            (asked["request_id"], "send_state")
        ]
    node.cursor = (await node.pull(cursor=before))["cursor"]
    assert (await node.pull())["requests"] == []
    assert (await node.pull(cursor=""))["requests"] == []


@scenario
async def test_cancelling_a_nodes_own_action_asks_the_node(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    name = f"local-{secrets.token_hex(4)}"
    node.created(name)
    await node.push()
    await node.pull()
    shown = await backend.cancel(name, {"reason": "not today"})
    assert shown["requested"]["type"] == "cancel_local"
    (request,) = (await node.pull())["requests"]
    assert (request["type"], request["action_id"]) == ("cancel_local", name)
    assert request["reason"] == "not today"
    await node.push(node.moved(name, "NULL", "WONT_START", "cancelled_on_node", attempt=0))
    shown = await backend.action(name)
    assert (shown["phase"], shown["requested"]) == ("CANCELLED", None)


@scenario
async def test_the_nodes_report_is_shown(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    report = {
        "version": "1.2.3", "host": "web-1", "features": ["windows"],
        "catalogue": [{"kind": "sleep", "digest": "d"}], "later_field": {"ignored": True},
    }  # fmt: skip
    await backend.node(node.who, report)
    shown = await backend.agent(node.id)
    assert (shown["version"], shown["host"]) == ("1.2.3", "web-1")
    assert shown["catalogue"][0]["kind"] == "sleep"
    assert shown["last_seen_at"] is not None
    assert not shown["silent"]


def test_the_fake_speaks_as_a_node_does() -> None:
    """Its documents are those of `agent.wire`."""
    from agent.core.nodes.incoming import read_event, read_state_item

    node = ReportingNode.__new__(ReportingNode)
    node.seq, node.made = 0, []
    node.created("a")
    node.applied("a", 1, "inserted")
    node.ran("a")
    assert [read_event(made).type for made in node.made] == [
        "local_definition", "definition_applied", "transition", "transition",
    ]  # fmt: skip
    assert read_state_item(item("a")).action_id == "a"
    assert execution("NULL")["attempt"] == 0
    assert AT.endswith("Z")


# NUL characters: not every database can hold them, and none of them may stop a node's reports


@scenario
async def test_a_nul_in_an_event_stops_nothing(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    action_id = await dispatched(backend, node)
    odd = [
        node.moved(action_id, "NULL", "STARTED", "du\0e"),
        node.event("transition", "an\0id"),
        node.event("no\0thing", action_id, odd="\0"),
        node.event("gap", first=node.seq + 1, last=node.seq + 1, reason="\0"),
    ]
    started = node.moved(action_id, "NULL", "STARTED", "due")
    assert await node.push(*odd, started) == {"acked": 5}
    told = [event for event in await backend.all_events(node.id) if event["by"] == "node"]
    assert [event["type"] for event in told] == ["unreadable"] * 4 + ["transition"]
    assert (await backend.action(action_id))["execution_status"] == "STARTED"


@scenario
async def test_a_nul_in_a_mark_has_no_place(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    good, bad = node.created("made-here"), node.created("made-there")
    error = await rejected(node.push(good, bad | {"mark": "m\0"}))
    assert (error.status, error.code, error.acked) == (400, "bad_events", 1)


@scenario
async def test_a_nul_in_a_state_is_refused_or_reported(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    for member in ("agent_epoch", "snapshot", "cursor"):
        assert (await rejected(node.put_state([], **{member: "a\0b"}))).status == 400
    assert len((await node.put_state([item("a\0b"), item("fine", owner="node")]))["faults"]) == 1


@scenario
async def test_a_nul_in_what_a_node_says_of_itself_is_kept(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    report = {"protocol": 1, "version": "1\0", "host": "h\0", "labels": {"a\0": "b", "c": "\0"}}
    await backend.node(node.who, report)
    assert (await backend.agent(node.id))["host"] == "h\0"


@scenario
async def test_a_nul_in_what_operators_send_is_refused(backend: Backend) -> None:
    node = await ReportingNode.enrolled(backend)
    for member in ("id", "node", "correlation_id", "service", "proposed_by", "dedup_key"):
        body = {"kind": "sleep", "node": node.id, member: "a\0b"}
        assert (await rejected(backend.dispatch(body))).status in (400, 404, 422), member
    kept = await dispatched(backend, node, payload={"text": "a\0b"}, metadata={"k\0": "\0"})
    pulled = (await node.pull())["actions"]
    assert [action["payload"] for action in pulled if action["id"] == kept] == [{"text": "a\0b"}]
    assert (await rejected(backend.cancel(kept, {"reason": "\0"}))).status == 422
