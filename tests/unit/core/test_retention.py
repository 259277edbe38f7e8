"""What is forgotten, what never is, and what a reader with an old cursor is told."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import Connection

from agent.core import journal, retention, timers
from agent.core.actions.standing import standing_of
from agent.core.events.hub import Hub
from agent.core.events.reading import Gone, pruned_up_to
from agent.core.events.streaming import EventStream
from agent.core.keep import Keep
from agent.core.people import audit
from agent.core.retention import Retention, ensure_armed
from agent.core.store.inline import InlineStore
from agent.core.store.schema import (
    actions,
    agents,
    approvals,
    events,
    recurring,
    requests,
    webhooks,
)
from agent.core.store.schema import audit as audit_table
from agent.core.store.schema import timers as timer_rows
from agent.core.timers import TimerKind
from agent.core.wakeups import Wakeups
from agent.wire.messages import LOCAL_DEFINITION
from agent.wire.strict_json import encode_text
from tests.fakes.noted_events import AT, note, occasion

DAYS = Keep(days=10)
LATER = AT + timedelta(days=11)


class Scene:
    def __init__(self, keep: Keep = DAYS) -> None:
        self.store = InlineStore.in_memory()
        self.wakeups = Wakeups()
        self.retention = Retention(keep)

    def do(self, work: Callable[[Connection], Any]) -> Any:
        return asyncio.run(self.store.write(work))

    def note(self, *kinds: str, at: datetime = AT, **more: Any) -> None:
        asyncio.run(note(self.store, self.wakeups, *kinds, at=at, **more))

    def prune(self, at: datetime = LATER) -> None:
        """As the timers' loop does, until nothing is left to do."""
        self.do(lambda c: ensure_armed(c, occasion(at - timedelta(days=1))))
        handlers = {TimerKind.PRUNE: self.retention.handle}
        for step in range(50):
            moment = at + timedelta(seconds=step)
            self.do(partial(timers.fire_due, occasion=occasion(moment), handlers=handlers))

    def count(self, table: Any) -> int:
        return int(self.do(lambda c: c.execute(select(func.count()).select_from(table)).scalar()))

    def numbers(self) -> list[int]:
        return list(self.do(lambda c: c.execute(select(events.c.id)).scalars().all()))


def action_row(name: str, **more: Any) -> dict[str, Any]:
    return {
        "agent_id": "n1", "id": name, "owner": "core", "created_at": AT, "kind": "k", "revision": 1,
        "wanted": True, "status": "FINISHED", "definition": "{}", **more,
    }  # fmt: skip


def add_node(connection: Connection) -> None:
    row = {"id": "n1", "enrolled_at": AT, "stream_epoch": "e", "acked_mark": "m", "acked_seq": 5}
    connection.execute(insert(agents), [row])


def test_old_events_go_in_bounded_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    scene = Scene()
    scene.note(*["a"] * 35)
    scene.note("new", at=LATER)
    scene.do(lambda c: ensure_armed(c, occasion(AT)))
    handlers = {TimerKind.PRUNE: scene.retention.handle}
    scene.do(lambda c: timers.fire_due(c, occasion(LATER), handlers))
    assert len(scene.numbers()) == 26, "one batch"
    scene.prune()
    assert scene.numbers() == [36]
    assert scene.retention.removed["events"] == 35
    due = scene.do(lambda c: c.execute(select(func.min(timer_rows.c.due_at))).scalar())
    assert due > LATER + timedelta(hours=20), "and tomorrow again"


def test_more_than_the_bound_go_however_new_they_are() -> None:
    scene = Scene(Keep(days=10, events=20))
    scene.note(*["a"] * 50)
    scene.prune(AT + timedelta(hours=1))
    assert scene.numbers() == list(range(31, 51))


def test_a_cursor_from_before_is_told() -> None:
    scene = Scene()
    scene.note(*["a"] * 5)
    scene.note("b", at=LATER)
    scene.prune()
    stream = EventStream(scene.store, scene.wakeups, Hub(scene.store, scene.wakeups))
    with pytest.raises(Gone, match="oldest kept is 6") as caught:
        asyncio.run(stream.page(3, 10))
    assert caught.value.expected == 6
    for after in (0, 5):
        page = asyncio.run(stream.page(after, 10))
        assert [event["id"] for event in page["events"]] == [6]
    with pytest.raises(Gone):
        asyncio.run(stream.begin(4))


def test_what_a_webhook_has_not_got_is_kept_for_twice_as_long() -> None:
    scene = Scene()
    scene.note(*["a"] * 5)
    row = {
        "id": "h", "url": "https://a/", "secret": "s", "filter": "{}", "enabled": True,
        "created_at": AT, "created_by": "admin", "cursor": 2,
    }  # fmt: skip
    scene.do(lambda c: c.execute(insert(webhooks), [row]))
    scene.prune()
    assert scene.numbers() == [3, 4, 5]
    scene.prune(AT + timedelta(days=21))
    assert scene.numbers() == []


def test_a_disabled_webhook_holds_nothing() -> None:
    scene = Scene()
    scene.note(*["a"] * 5)
    row = {
        "id": "h", "url": "https://a/", "secret": "s", "filter": "{}", "enabled": False,
        "created_at": AT, "created_by": "admin", "cursor": 0,
    }  # fmt: skip
    scene.do(lambda c: c.execute(insert(webhooks), [row]))
    scene.prune()
    assert scene.numbers() == []


def test_how_a_recurring_action_stands_outlives_its_events() -> None:
    scene = Scene()
    rule = action_row(
        "r", status="NULL", definition=encode_text({"schedule": {"cron": "* * * * *"}})
    )

    def told(state: str, at: datetime) -> None:
        body = {"recurring": {"state": state}}
        scene.do(lambda c: journal.append(c, occasion(at), "n1", LOCAL_DEFINITION, "r", body))

    scene.do(add_node)
    scene.do(lambda c: c.execute(insert(actions), [rule, action_row("plain")]))
    scene.note(LOCAL_DEFINITION, action="plain")
    told("active", AT)
    told("paused", AT)
    scene.prune()
    assert scene.numbers() == [3]

    def standing() -> Any:
        row = scene.do(lambda c: c.execute(select(actions).where(actions.c.id == "r")).one())
        return scene.do(lambda c: standing_of(c, row))

    assert standing() == {"state": "paused"}
    told("ended", LATER)
    assert standing() == {"state": "ended"}
    scene.prune(LATER + timedelta(days=11))
    assert scene.numbers() == [4], "the one that was kept before has had its day"
    page = asyncio.run(
        EventStream(scene.store, scene.wakeups, Hub(scene.store, scene.wakeups)).page(0, 10)
    )
    assert page["events"] == [], "the stream has it no more"


def test_ended_actions_go_with_their_approvals_and_open_ones_stay() -> None:
    scene = Scene()
    scene.do(add_node)
    rows = [
        action_row("old", ended_at=AT),
        action_row("new", ended_at=LATER),
        action_row("open", status="STARTED"),
        action_row("untold", ended_at=AT, delivered_seq=6),
        action_row("told", ended_at=AT, delivered_seq=5),
    ]
    asked = {
        "agent_id": "n1", "definition": "{}", "digest": "d", "state": "approved", "is_edit": False,
        "why": "w", "four_eyes": False, "requested_at": AT, "requested_by": "a",
    }  # fmt: skip
    questions = [{**asked, "id": name, "action_id": name} for name in ("old", "new")]
    for row in rows:
        scene.do(partial(Connection.execute, statement=insert(actions).values(row)))
    scene.do(lambda c: c.execute(insert(approvals), questions))
    scene.prune()
    left = scene.do(
        lambda c: c.execute(select(actions.c.id).order_by(actions.c.row)).scalars().all()
    )
    assert left == ["new", "open", "untold"], "a withdrawal that is not delivered is still needed"
    assert scene.do(lambda c: c.execute(select(approvals.c.id)).scalars().all()) == ["new"]
    scene.do(lambda c: c.execute(update(agents).values(decommissioned_at=AT)))
    scene.prune(LATER + timedelta(days=1))
    assert scene.count(actions) == 2


def test_questions_about_recurring_actions_go_but_for_the_newest() -> None:
    scene = Scene()
    rule = {
        "definition": "{}", "revision": 1, "created_at": AT, "created_by": "a", "updated_at": AT,
    }  # fmt: skip
    rules = [{**rule, "id": "r", "deleted_at": None}, {**rule, "id": "gone", "deleted_at": AT}]
    asked = {
        "agent_id": "", "definition": "{}", "digest": "d", "state": "approved", "is_edit": True,
        "why": "w", "four_eyes": False, "requested_at": AT, "requested_by": "a", "decided_at": AT,
    }  # fmt: skip
    questions = [
        {**asked, "id": "first", "action_id": "r"},
        {**asked, "id": "late", "action_id": "r", "decided_at": LATER},
        {**asked, "id": "open", "action_id": "r", "state": "pending", "decided_at": None},
        {**asked, "id": "newest", "action_id": "r", "state": "rejected"},
        {**asked, "id": "of the deleted", "action_id": "gone"},
        {**asked, "id": "of an action", "action_id": "one", "agent_id": "n1"},
    ]
    scene.do(lambda c: c.execute(insert(recurring), rules))
    scene.do(lambda c: c.execute(insert(approvals), questions))
    scene.prune()
    left = scene.do(lambda c: c.execute(select(approvals.c.id).order_by(approvals.c.row)).scalars())
    assert list(left) == ["late", "open", "newest", "of an action"]


def test_small_tables_and_what_is_never_forgotten() -> None:
    scene = Scene()
    asked = {"agent_id": "n", "type": "send_state", "created_at": AT, "seq": 1}
    scene.do(
        lambda c: c.execute(
            insert(requests),
            [{**asked, "id": "a", "acked_at": AT}, {**asked, "id": "b", "acked_at": None}],
        )
    )
    scene.do(lambda c: audit.record(c, occasion(), "me", "did", "that"))
    scene.prune()
    assert scene.do(lambda c: c.execute(select(requests.c.id)).scalars().all()) == ["b"]
    assert scene.count(audit_table) == 1
    assert scene.do(pruned_up_to) == 0


def test_timers_of_another_version_are_left_alone() -> None:
    scene = Scene()
    scene.do(lambda c: timers.arm(c, TimerKind.PRUNE, secrets.token_hex(4), AT))
    scene.prune()
    assert scene.count(timer_rows) == len(retention.REFS)
