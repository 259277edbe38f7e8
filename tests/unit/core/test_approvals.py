"""Questions to people and their answers, over a whole core whose clock stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from agent.core.actions.listing import ActionRef
from agent.core.store.schema import actions, audit
from agent.domain.approval import ApprovalMode
from agent.domain.errors import InvalidDocument, NotFound, Refused
from agent.domain.instants import format_instant
from agent.wire.canonical import digest_of_document
from agent.wire.strict_json import encode_text
from tests.fakes.approving_core import NO, NODE, YES, ApprovingCore
from tests.fakes.reporting_node import item

pytestmark = pytest.mark.timeout(60)


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_what_waits_is_never_sent_and_blocks_nobody() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        waiting = await core.dispatch()
        assert waiting["outcome"] == "pending_approval"
        behind = await core.dispatch(risk_level="safe")
        assert behind["outcome"] == "queued"
        assert await core.phase(waiting["action_id"]) == "PENDING_APPROVAL"
        assert [one["id"] for one in await core.pull()] == [behind["action_id"]]
        assert [one["id"] for one in await core.pull_everything()] == [behind["action_id"]]

    play(story())


def test_approve_delivers_it_with_who_when_why_and_what() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        made = await core.dispatch(payload={"n": 1})
        [question] = await core.questions(state="pending")
        assert (question["action_id"], question["node"]) == (made["action_id"], NODE)
        assert (question["risk"], question["requested_by"]) == ("guarded", "olga")
        assert "guarded" in question["why"]
        assert await core.timers_left() == [question["id"]]
        shown = await core.answer(
            made["action_id"], reason="looked at it", digest=question["digest"]
        )
        assert shown["phase"] == "QUEUED"
        [sent] = await core.pull()
        record = sent["approval"]
        assert (record["state"], record["by"], record["reason"]) == (
            "approved", "ann", "looked at it",
        )  # fmt: skip
        assert record["at"] == format_instant(core.clock.now())
        assert record["digest"] == question["digest"] == digest_of_document(sent)
        [decided] = await core.questions()
        assert (decided["state"], decided["decided_by"], decided["reason"]) == (
            "approved", "ann", "looked at it",
        )  # fmt: skip
        assert await core.timers_left() == []
        assert await core.story(made["action_id"]) == [
            "dispatched",
            "approval_requested",
            "approved",
        ]

    play(story())


def test_reject_ends_it_where_it_is() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        made = await core.dispatch()
        shown = await core.answer(made["action_id"], NO, reason="not today")
        assert (shown["phase"], shown["execution_status"]) == ("REJECTED", "NULL")
        assert shown["approval"]["reason"] == "not today"
        assert await core.pull() == await core.pull_everything() == []
        with pytest.raises(Refused) as caught:
            await core.answer(made["action_id"])
        assert caught.value.code == "not_pending"
        for told in ("ann", "rejected", "not today", format_instant(core.clock.now())):
            assert told in str(caught.value)
        with pytest.raises(Refused) as caught:
            await core.core.dispatch.cancel(ActionRef(id=made["action_id"]))
        assert caught.value.code == "already_ended"

    play(story())


def test_approve_now_for_a_later_window() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        at = format_instant(core.clock.now() + timedelta(hours=3))
        made = await core.dispatch(from_date=at)
        assert (await core.answer(made["action_id"]))["phase"] == "SCHEDULED"
        [sent] = await core.pull()
        assert sent["from_date"] == at

    play(story())


def test_nobody_answered_in_time() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node(ttl_s=600)
        made = await core.dispatch()
        await core.later(seconds=599)
        assert await core.phase(made["action_id"]) == "PENDING_APPROVAL"
        await core.later(seconds=1)
        assert await core.phase(made["action_id"]) == "EXPIRED"
        assert "nobody decided" in (await core.action(made["action_id"]))["approval"]["reason"]
        assert await core.story(made["action_id"]) == [
            "dispatched", "approval_requested", "approval_expired",
        ]  # fmt: skip
        with pytest.raises(Refused, match=r"expired at .*nobody decided by") as caught:
            await core.answer(made["action_id"])
        assert caught.value.code == "not_pending"
        assert await core.pull_everything() == []

    play(story())


def test_a_question_ends_with_the_window_that_it_is_about() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        until = core.clock.now() + timedelta(minutes=5)
        made = await core.dispatch(to_date=format_instant(until))
        core.clock.at = until  # before the timer fires
        with pytest.raises(Refused, match="expired at") as caught:
            await core.answer(made["action_id"])
        assert caught.value.code == "not_pending"
        await core.later(seconds=0)
        assert await core.phase(made["action_id"]) == "EXPIRED"
        assert await core.pull_everything() == []

    play(story())


def test_a_late_timer_changes_nothing_that_was_decided() -> None:
    async def story() -> None:
        from agent.core import timers

        core = await ApprovingCore.with_node()
        made = await core.dispatch()
        [question] = await core.questions()
        await core.answer(made["action_id"])
        kind = timers.TimerKind.APPROVAL_EXPIRES
        await core.store.write(lambda c: timers.arm(c, kind, question["id"], core.clock.now()))
        await core.store.write(lambda c: timers.arm(c, kind, "gone", core.clock.now()))
        await core.later(days=8)
        assert await core.phase(made["action_id"]) == "NODE_SILENT", "of which nothing is heard"
        assert "approval_expired" not in await core.story(made["action_id"])

    play(story())


def test_cancelling_what_waits_withdraws_the_question() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        made = await core.dispatch()
        shown = await core.core.dispatch.cancel(ActionRef(id=made["action_id"]), {"reason": "no"})
        assert shown["phase"] == "CANCELLED"
        [question] = await core.questions()
        assert question["state"] == "withdrawn"
        assert await core.timers_left() == []
        assert await core.pull() == await core.pull_everything() == []
        assert await core.delivery_count() == 0
        with pytest.raises(Refused) as caught:
            await core.answer(made["action_id"])
        assert caught.value.code == "not_pending"

    play(story())


def test_what_was_looked_at_is_what_is_approved() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        made = await core.dispatch()
        with pytest.raises(Refused, match="look again") as caught:
            await core.answer(made["action_id"], digest="0" * 64)
        assert caught.value.code == "changed"
        [question] = await core.questions()
        await core.answer(made["action_id"], digest=question["digest"])

    play(story())


def test_a_definition_that_was_changed_behind_our_back_is_not_approved() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        made = await core.dispatch(payload={"n": 1})
        query = select(actions.c.definition).where(actions.c.id == made["action_id"])
        text = await core.store.read(lambda c: c.execute(query).scalar_one())
        change = update(actions).values(definition=text.replace('"n":1', '"n":2'))
        await core.store.write(lambda c: c.execute(change).rowcount)
        with pytest.raises(Refused) as caught:
            await core.answer(made["action_id"])
        assert caught.value.code == "changed"
        assert await core.pull_everything() == []

    play(story())


def test_what_is_missing_is_404_and_what_never_waited_409() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        with pytest.raises(NotFound):
            await core.answer("nothing")
        with pytest.raises(NotFound):
            await core.core.approvals.answer("nothing", {}, YES, by="ann")
        with pytest.raises(NotFound):
            await core.core.approvals.get("nothing")
        made = await core.dispatch(risk_level="safe")
        with pytest.raises(Refused) as caught:
            await core.answer(made["action_id"])
        assert caught.value.code == "not_pending"
        with pytest.raises(InvalidDocument) as faults:
            await core.answer(made["action_id"], reson="x", digest=7)
        assert {fault.path for fault in faults.value.faults} == {"reson", "digest"}

    play(story())


def test_four_eyes_are_those_of_two_names() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node(four_eyes=True)
        made = await core.dispatch(by="olga")
        with pytest.raises(Refused, match="four eyes") as caught:
            await core.answer(made["action_id"], by="olga")
        assert caught.value.code == "four_eyes"
        assert (await core.answer(made["action_id"], by="ann"))["phase"] == "QUEUED"
        with pytest.raises(Refused) as caught:
            await core.dispatch(by="ann", approve=True, may_approve=True)
        assert caught.value.code == "four_eyes"
        mine = await core.dispatch(by="olga")
        shown = await core.answer(mine["action_id"], NO, by="olga")
        assert shown["phase"] == "REJECTED", "who asked may think better of it"

    play(story())


def test_moving_what_somebody_asked_for_is_no_way_past_four_eyes() -> None:
    """What waits then is one's wish in another's form: a third one has to decide."""

    async def story() -> None:
        core = await ApprovingCore.with_node(four_eyes=True)
        ref = ActionRef(id=(await core.dispatch(by="olga"))["action_id"])
        later = {"from_date": format_instant(core.clock.now() + timedelta(hours=2))}
        await core.core.dispatch.reschedule(ref, later, by="bob")
        [question] = await core.questions(state="pending")
        for name in ("olga", "bob"):
            with pytest.raises(Refused) as caught:
                await core.answer(ref.id, by=name)
            assert caught.value.code == "four_eyes"
            with pytest.raises(Refused, match="four eyes"):
                await core.core.approvals.make_links(question["id"], {}, by=name)
        assert (await core.answer(ref.id, by="ann"))["phase"] == "SCHEDULED"
        await core.core.dispatch.reschedule(ref, later, by="ann")
        assert (await core.answer(ref.id, by="olga"))["approval"]["by"] == "olga", "ann's, by olga"

    play(story())


def test_an_approver_approves_in_the_same_step() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        made = await core.dispatch(risk_level="dangerous", approve=True, may_approve=True, by="ann")
        assert made["outcome"] == "queued"
        [sent] = await core.pull()
        assert (sent["approval"]["state"], sent["approval"]["by"]) == ("approved", "ann")
        assert sent["approval"]["digest"] == digest_of_document(sent)
        with pytest.raises(Refused) as caught:
            await core.dispatch(risk_level="dangerous", approve=True, by="olga")
        assert caught.value.code == "forbidden"

    play(story())


@pytest.mark.parametrize("mode", ApprovalMode)
def test_the_modes_at_the_door(mode: ApprovalMode) -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node(mode)
        found = {}
        for risk in ("safe", None, "guarded", "dangerous"):
            found[risk] = (await core.dispatch(risk_level=risk))["outcome"] == "pending_approval"
        open_ones = mode is not ApprovalMode.RECOMMEND
        assert found == {
            "safe": not open_ones, None: not open_ones, "guarded": True, "dangerous": True,
        }  # fmt: skip

    play(story())


def test_an_edit_waits_while_the_approved_revision_stays_in_force() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        first, second, third = (
            format_instant(core.clock.now() + timedelta(hours=hours)) for hours in (1, 2, 3)
        )
        made = await core.dispatch(from_date=first)
        ref = ActionRef(id=made["action_id"])
        await core.answer(ref.id)
        [sent] = await core.pull()
        for at in (second, third):
            await core.core.dispatch.reschedule(ref, {"from_date": at}, by="olga")
        assert await core.pull() == [], "the approved revision stays in force"
        assert (await core.action(ref.id))["from_date"] == first
        states = [(one["state"], one["is_edit"]) for one in await core.questions()]
        assert states == [("pending", True), ("superseded", True), ("approved", False)]
        [waiting] = await core.questions(state="pending")
        whole = await core.core.approvals.get(waiting["id"])
        assert whole["changes"] == {"from_date": {"from": first, "to": third}}
        await core.answer(ref.id, by="bob")
        [again] = await core.pull()
        assert (again["from_date"], again["approval"]["by"]) == (third, "bob")
        assert again["revision"] > sent["revision"]
        assert again["approval"]["digest"] == digest_of_document(again)

    play(story())


def test_a_rejected_edit_leaves_the_approved_revision() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        first, second = (
            format_instant(core.clock.now() + timedelta(hours=hours)) for hours in (1, 2)
        )
        made = await core.dispatch(from_date=first)
        ref = ActionRef(id=made["action_id"])
        await core.answer(ref.id)
        await core.core.dispatch.reschedule(ref, {"from_date": second}, by="olga")
        shown = await core.answer(ref.id, NO)
        assert (shown["phase"], shown["from_date"]) == ("SCHEDULED", first)
        assert shown["approval"]["state"] == "approved"

    play(story())


def test_an_edit_of_what_still_waits_asks_anew() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        later = format_instant(core.clock.now() + timedelta(hours=2))
        made = await core.dispatch()
        [old] = await core.questions()
        ref = ActionRef(id=made["action_id"])
        await core.core.dispatch.reschedule(ref, {"from_date": later}, by="olga")
        with pytest.raises(Refused) as caught:
            await core.answer(ref.id, digest=old["digest"])
        assert caught.value.code == "changed"
        assert (await core.answer(ref.id))["from_date"] == later
        [sent] = await core.pull()
        assert sent["from_date"] == later

    play(story())


def test_everything_is_in_the_audit_log() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node(ttl_s=60)
        yes, no, late = [(await core.dispatch())["action_id"] for _ in range(3)]
        await core.answer(yes)
        await core.answer(no, NO, by="bob")
        await core.later(seconds=60)
        query = select(audit.c.who, audit.c.what, audit.c.target).order_by(audit.c.row)
        lines = [tuple(row) for row in await core.store.read(lambda c: c.execute(query).all())]
        assert [line for line in lines if line[1] != "dispatch"][-3:] == [
            ("ann", "approve", yes), ("bob", "reject", no), ("core", "approval_expired", late),
        ]  # fmt: skip

    play(story())


def test_of_a_nodes_own_action_the_node_is_asked() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        document = {
            "id": "theirs", "kind": "work", "owner": "node", "node": NODE,
            "approval": {"state": "pending"},
        }  # fmt: skip
        row = {
            "agent_id": NODE, "id": "theirs", "owner": "node", "created_at": core.clock.now(),
            "kind": "work", "revision": 1, "definition": encode_text(document), "wanted": True,
            "status": "NULL", "approval_state": "pending",
        }  # fmt: skip
        await core.store.write(lambda c: c.execute(insert(actions), [row]).rowcount)
        assert await core.phase("theirs") == "PENDING_APPROVAL"
        with pytest.raises(Refused) as caught:
            await core.answer("theirs", digest="0" * 64)
        assert caught.value.code == "changed"
        digest = digest_of_document(document)
        shown = await core.answer("theirs", digest=digest, reason="fine")
        assert (shown["requested"]["type"], shown["requested"]["requested_by"]) == (
            "approve_local", "ann",
        )  # fmt: skip
        assert shown["phase"] == "PENDING_APPROVAL", "until the node says so"
        answer = await core.core.nodes.pull(NODE, "instance", core.cursor, 0.0)
        [request] = answer.requests
        assert (request.type, request.action_id, request.by, request.reason) == (
            "approve_local", "theirs", "ann", "fine",
        )  # fmt: skip
        with pytest.raises(Refused, match="asked already") as caught:
            await core.answer("theirs", NO)
        assert caught.value.code == "not_pending"

    play(story())


@pytest.mark.parametrize("since", ["nothing", "expiry", "cancel", "reject"])
def test_a_core_from_a_backup_learns_of_the_approval_that_it_forgot(since: str) -> None:
    """The node holds it, approved; what was decided here since is the newer word."""

    async def story() -> None:
        core = await ApprovingCore.with_node(ttl_s=60)
        made = await core.dispatch(from_date=format_instant(core.clock.now() + timedelta(days=1)))
        row = (await core.questions())[0]
        waiting = (await core.core.approvals.get(row["id"]))["definition"]
        ref = ActionRef(id=made["action_id"])
        if since == "cancel":
            await core.core.dispatch.cancel(ref)
        elif since == "reject":
            await core.answer(ref.id, NO)
        elif since == "expiry":
            await core.later(seconds=60)
        held = waiting | {"approval": {"state": "approved", "by": "ann", "digest": row["digest"]}}
        forged = held | {"payload": {"other": 1}}
        for definition, believed in ((forged, False), (held, True)):
            await core.tell_state(item(ref.id, definition=definition))
            shown = await core.action(ref.id)
            assert (shown["approval"]["state"] == "approved") == believed
        sent = await core.pull()
        if since in ("nothing", "expiry"):
            assert shown["phase"] == "SCHEDULED"
            assert [one["approval"]["by"] for one in sent] == ["ann"]
        else:
            assert shown["phase"] == "CANCELLED"
            assert [one["should_be_executed"] for one in sent] == [False]
            assert sent[0]["revision"] > held["revision"]
        assert "corrected" in await core.story(ref.id)
        if since == "nothing":  # its question is open still, but a no would be no no
            with pytest.raises(Refused) as caught:
                await core.answer(ref.id, NO)
            assert caught.value.code == "already_ended"
            assert [one["state"] for one in await core.questions()] == ["pending"]
        await core.later(days=8)
        assert await core.phase(ref.id) != "EXPIRED"
        with pytest.raises(Refused):
            await core.answer(ref.id)

    play(story())


def test_the_list_is_filtered_and_paged() -> None:
    async def story() -> None:
        core = await ApprovingCore.with_node()
        made = [
            (await core.dispatch(correlation_id=f"c{n % 2}", payload={"n": n}))["action_id"]
            for n in range(5)
        ]
        await core.answer(made[0])
        newest = [one["action_id"] for one in await core.questions(limit=2)]
        assert newest == made[:2:-1]
        assert len(await core.questions(state="pending")) == 4
        assert len(await core.questions(correlation_id="c1")) == 2
        assert len(await core.questions(node=NODE, action_id=made[3])) == 1
        assert await core.questions(node="other") == []
        [one] = await core.questions(action_id=made[3])
        assert "payload" not in one["definition"]
        whole = await core.core.approvals.get(one["id"])
        assert whole["definition"]["payload"] == {"n": 3}

    play(story())
