"""Edited, paused, deleted: each a change of the definition on every node, in one write."""

from __future__ import annotations

import pytest

from agent.core.actions.listing import ActionRef
from agent.core.store.schema import audit
from agent.domain.errors import InvalidDocument, NotFound, Refused
from agent.wire.canonical import digest_of_document
from tests.fakes.dispatching_core import scenario
from tests.fakes.recurring_core import RecurringCore

EDIT = {"kind": "sleep", "schedule": "every 10m"}


async def web(*nodes: str) -> RecurringCore:
    core = RecurringCore()
    for name in nodes or ("a", "b"):
        await core.add(name, role="web")
    await core.make(selector="role=web")
    return core


@scenario
async def test_an_edit_is_a_higher_revision_everywhere() -> None:
    core = await web()
    told = await core.recurring.update("r", {**EDIT, "payload": {"x": 2}})
    assert (told["revision"], told["outcome"], told["selector"]) == (2, "scheduled", "role=web")
    sent = await core.on()
    assert {one["revision"] for one in sent.values()} == {2}
    assert sent["a"]["payload"] == {"x": 2}
    assert await core.delivered("a") == ["r", "r"]


@scenario
async def test_what_is_shown_can_be_sent_back_changed() -> None:
    core = await web()
    shown = await core.recurring.get("r")
    shown["timeout_s"] = 5
    told = await core.recurring.update("r", shown)
    assert (told["revision"], told["timeout_s"]) == (2, 5)
    assert told["created_at"] == shown["created_at"]
    with pytest.raises(Refused, match="read it again") as caught:
        await core.recurring.update("r", shown)
    assert caught.value.code == "conflict"
    assert {one["revision"] for one in (await core.on()).values()} == {2}


@scenario
async def test_a_bad_edit_changes_nothing() -> None:
    core = await web()
    before = await core.counts()
    for document, path in (
        ({**EDIT, "id": "other"}, "id"),
        ({**EDIT, "schedule": "never ever"}, "schedule"),
        ({"kind": "sleep"}, "schedule"),
        ({**EDIT, "kind": "unknown"}, "kind"),
        ({**EDIT, "revision": "2"}, "revision"),
        ([], ""),
    ):
        with pytest.raises(InvalidDocument) as caught:
            await core.recurring.update("r", document)
        assert path in {fault.path for fault in caught.value.faults}
    with pytest.raises(NotFound):
        await core.recurring.update("nothing", EDIT)
    assert await core.counts() == before


@scenario
async def test_an_edit_may_move_it() -> None:
    core = await web()
    await core.add("c", role="db")
    await core.recurring.update("r", {**EDIT, "node": "c"})
    assert await core.wanted_on() == ["c"]
    withdrawn = (await core.on())["a"]
    assert (withdrawn["should_be_executed"], withdrawn["revision"]) == (False, 2)
    await core.recurring.update("r", {**EDIT, "selector": "role=web"})
    assert await core.wanted_on() == ["a", "b"]
    assert (await core.on())["a"]["revision"] == 3, "higher than what it had"


@scenario
async def test_a_node_that_cannot_run_the_edit_loses_it() -> None:
    core = await web()
    await core.report_of("b", kinds=[], role="web")
    assert await core.wanted_on() == ["a", "b"], "what it has it keeps"
    told = await core.recurring.update("r", EDIT)
    assert [one["outcome"] for one in told["actions"]] == ["scheduled", "failed"]
    assert await core.wanted_on() == ["a"]


@scenario
async def test_pause_and_resume_are_changes_of_the_definition_alone() -> None:
    core = await web()
    before = {node: digest_of_document(one) for node, one in (await core.on()).items()}
    told = await core.recurring.pause("r", "a move", by="ann")
    assert (told["state"], told["paused"], told["revision"]) == ("paused", "a move", 2)
    sent = await core.on()
    assert sent["a"]["schedule"]["paused"] is True
    assert sent["a"]["schedule"]["paused_reason"] == "a move"
    assert {node: digest_of_document(one) for node, one in sent.items()} == before
    again = await core.recurring.pause("r", "a move")
    assert again["revision"] == 2, "said already"
    told = await core.recurring.update("r", EDIT)
    assert (told["state"], (await core.on())["a"]["schedule"]["paused"]) == ("paused", True)
    told = await core.recurring.resume("r")
    assert (told["state"], told["paused"], told["revision"]) == ("active", None, 4)
    assert "paused" not in (await core.on())["a"]["schedule"]
    assert (await core.recurring.resume("r"))["revision"] == 4
    verbs = [row.what for row in await core.rows(audit)]
    assert verbs == [
        "recurring_create", "recurring_pause", "recurring_update", "recurring_resume",
    ]  # fmt: skip


@scenario
async def test_a_node_that_cannot_hold_a_pause_is_named() -> None:
    core = await web()
    await core.report_of("b", features=["schedule"], role="web")
    before = await core.counts()
    with pytest.raises(Refused, match="b cannot pause") as caught:
        await core.recurring.pause("r", None)
    assert caught.value.code == "unsupported"
    assert await core.counts() == before
    await core.report_of("b", role="web")
    await core.recurring.pause("r", None)
    await core.add("old", features=["schedule"], role="web")
    assert await core.wanted_on() == ["a", "b"], "it would run there"
    await core.recurring.resume("r")
    assert await core.wanted_on() == ["a", "b", "old"]


@scenario
async def test_a_deleted_one_is_withdrawn_and_stays_readable() -> None:
    core = await web()
    told = await core.recurring.delete("r", by="ann")
    assert (told["state"], told["nodes"]["count"]) == ("deleted", 0)
    assert await core.wanted_on() == []
    assert (await core.recurring.get("r"))["deleted_at"] is not None
    assert (await core.recurring.history("r", None, 0, 10))["actions"] == []
    before = await core.counts()
    assert (await core.recurring.delete("r"))["state"] == "deleted", "twice is once"
    for refused in (
        core.make(node="a"),
        core.recurring.update("r", EDIT),
        core.recurring.pause("r", None),
        core.recurring.resume("r"),
    ):
        with pytest.raises(Refused) as caught:
            await refused
        assert caught.value.code in {"deleted", "exists"}
    assert await core.counts() == before
    with pytest.raises(NotFound):
        await core.recurring.delete("nothing")


@scenario
async def test_cancelling_the_action_deletes_the_only_one_and_not_one_of_many() -> None:
    core = await web()
    with pytest.raises(Refused, match="corectl recurring delete r") as caught:
        await core.dispatch.cancel(ActionRef(id="r", node="a"))
    assert caught.value.code == "recurring"
    await core.make(id="s", node="a", correlation_id="c-1")
    cancelled = await core.dispatch.cancel(ActionRef(id="s"))
    assert cancelled["phase"] == "CANCELLED"
    assert (await core.recurring.get("s"))["state"] == "deleted"
    await core.make(id="t", node="a", correlation_id="c-2")
    await core.dispatch.cancel_correlated("c-2")
    assert (await core.recurring.get("t"))["state"] == "deleted"
    assert await core.listed() == ["r"]
