"""What the core forgets, and when: one timer per kind of row, a bounded batch each time it fires.

The writer is held for milliseconds; as long as there is more, the timer comes back in a moment,
else tomorrow. The audit log is never touched. Events are taken from the oldest on, and how far is
written down, so that a reader who asks on from before that is told (`events.reading.Gone`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    Table,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Connection

from agent.core.approvals.requests import QuestionState
from agent.core.events.reading import PRUNED_KEY, head_of, pruned_up_to
from agent.core.keep import Keep
from agent.core.occasion import Occasion
from agent.core.store.locks import lock_agents, serialize
from agent.core.store.port import AnyRow
from agent.core.store.schema import (
    actions,
    agents,
    approvals,
    events,
    meta,
    recurring,
    requests,
    timers,
    webhook_failures,
    webhooks,
)
from agent.core.timers import TimerKind, arm, arm_new
from agent.core.wakeups import Topic
from agent.wire.messages import LOCAL_DEFINITION

BATCH = 500
AGAIN_S = 0.2  # a backlog goes at 2,500 rows a second, and leaves the writer to others in between
EVERY_S = 24 * 3600.0
FIRST_S = 60.0  # after a start: not while everybody reconnects
UNDELIVERED_TIMES = 2  # a webhook that is behind holds events for twice as long, and no longer

EVENTS, ACTIONS, QUESTIONS = "events", "actions", "approvals"

_decode = msgspec.json.Decoder().decode


# Small tables, each forgotten by one instant of its rows: (table, its key, the instant). What
# people make and take back (tokens, freezes, dedup keys) is forgotten where it is made.
_BY_AGE: Mapping[str, tuple[Table, Column[Any], Column[Any]]] = {
    "requests": (requests, requests.c.row, requests.c.acked_at),
    "webhook_failures": (webhook_failures, webhook_failures.c.row, webhook_failures.c.at),
}
REFS = (EVENTS, ACTIONS, QUESTIONS, *_BY_AGE)

_IS_TOLD = or_(  # a withdrawal that the node has not taken yet is still to be delivered
    actions.c.delivered_seq.is_(None),
    actions.c.delivered_seq <= agents.c.acked_seq,
    agents.c.decommissioned_at.is_not(None),
)


class Retention:
    """The handler of the timers PRUNE."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self.removed: Counter[str] = Counter()
        """Rows forgotten by this life of `cored`, for `/metrics`."""

    def handle(
        self, connection: Connection, occasion: Occasion, refs: Sequence[str]
    ) -> Iterable[Topic]:
        """One batch of each; the timer is set anew."""
        for ref in refs:
            if ref not in REFS:
                continue  # of another version
            count, is_done = self._prune(connection, occasion, ref)
            self.removed[ref] += count
            pause_s = EVERY_S if is_done else AGAIN_S
            arm(connection, TimerKind.PRUNE, ref, occasion.now + timedelta(seconds=pause_s))
        return ()

    def _prune(self, connection: Connection, occasion: Occasion, ref: str) -> tuple[int, bool]:
        """How many rows went, and whether that was all."""
        now = occasion.now
        if ref == EVENTS:
            return prune_events(connection, now, self._keep)
        if ref == ACTIONS:
            return prune_actions(connection, self._keep.before(now))
        if ref == QUESTIONS:
            return prune_questions(connection, self._keep.before(now))
        table, key, moment = _BY_AGE[ref]
        return _prune_older(connection, table, key, moment, self._keep.before(now))


def ensure_armed(connection: Connection, occasion: Occasion) -> None:
    """As `cored` starts: every timer of this file is set."""
    serialize(connection, "retention")
    query = select(timers.c.ref).where(timers.c.kind == TimerKind.PRUNE.value)
    known = set(connection.execute(query).scalars())
    due_at = occasion.now + timedelta(seconds=FIRST_S)
    arm_new(connection, TimerKind.PRUNE, [(ref, due_at) for ref in REFS if ref not in known])


def _prune_older(
    connection: Connection, table: Table, key: Column[Any], moment: Column[Any], before: datetime
) -> tuple[int, bool]:
    query = select(key).where(moment < before).order_by(moment).limit(BATCH)
    old = connection.execute(query).scalars().all()
    if old:
        connection.execute(delete(table).where(key.in_(old)))
    return len(old), len(old) < BATCH


def prune_actions(connection: Connection, before: datetime) -> tuple[int, bool]:
    """What ended before that goes, with its approvals and what was kept of its events."""
    query = (
        select(actions.c.row, actions.c.agent_id, actions.c.id)
        .join(agents, agents.c.id == actions.c.agent_id)
        .where(actions.c.ended_at < before, _IS_TOLD)
        .order_by(actions.c.ended_at)
        .limit(BATCH)
    )
    old = connection.execute(query).all()
    if not old:
        return 0, True
    lock_agents(connection, {row.agent_id for row in old})
    found, again = len(old), query.where(actions.c.row.in_([row.row for row in old]))
    old = connection.execute(again).all()  # one may have been delivered anew until just now
    if not old:
        return 0, found < BATCH
    named = [{"agent": row.agent_id, "action": row.id} for row in old]
    connection.execute(
        delete(approvals).where(
            approvals.c.agent_id == bindparam("agent"), approvals.c.action_id == bindparam("action")
        ),
        named,
    )
    pruned = pruned_up_to(connection)
    connection.execute(
        delete(events).where(
            events.c.agent_id == bindparam("agent"),
            events.c.action_id == bindparam("action"),
            events.c.id <= pruned,
        ),
        named,
    )
    connection.execute(delete(actions).where(actions.c.row.in_([row.row for row in old])))
    return len(old), found < BATCH


def prune_questions(connection: Connection, before: datetime) -> tuple[int, bool]:
    """What was asked about recurring actions and is settled: those never end as actions do.

    The newest about one that stands is kept: whether to ask anew is judged by it.
    """
    newer = approvals.alias()
    is_followed = exists().where(
        newer.c.action_id == approvals.c.action_id,
        newer.c.row > approvals.c.row,
    )
    query = (
        select(approvals.c.row)
        .join(recurring, recurring.c.id == approvals.c.action_id)
        .where(
            approvals.c.state != QuestionState.PENDING.value,
            approvals.c.decided_at < before,
            or_(recurring.c.deleted_at.is_not(None), is_followed),
        )
        .limit(BATCH)
    )
    old = connection.execute(query).scalars().all()
    if old:
        connection.execute(delete(approvals).where(approvals.c.row.in_(old)))
    return len(old), len(old) < BATCH


def prune_events(connection: Connection, now: datetime, keep: Keep) -> tuple[int, bool]:
    """The oldest go, but for what a recurring action is shown by: its newest report."""
    pruned, newest = pruned_up_to(connection), head_of(connection)
    held = _held_from(connection)
    query = (
        select(
            events.c.id, events.c.stored_at, events.c.agent_id, events.c.action_id, events.c.type
        )
        .where(events.c.id > pruned, events.c.id <= newest)
        .order_by(events.c.id)
        .limit(BATCH)
    )
    rows = connection.execute(query).all()
    old: list[AnyRow] = []
    for row in rows:
        times = 1 if held is None or row.id <= held else UNDELIVERED_TIMES
        too_old = row.stored_at < now - timedelta(days=keep.days * times)
        if not too_old and row.id > newest - keep.events * times:
            break
        old.append(row)
    if not old:
        return 0, True
    kept = _kept(connection, [row for row in old if row.type == LOCAL_DEFINITION], pruned)
    last = old[-1].id
    gone = delete(events).where(events.c.id > pruned, events.c.id <= last)
    connection.execute(gone.where(events.c.id.not_in(kept)) if kept else gone)
    _note_pruned(connection, last)
    return len(old) - len(kept), len(old) < BATCH


def _held_from(connection: Connection) -> int | None:
    """What lies behind it is not delivered to some webhook yet."""
    query = select(func.min(webhooks.c.cursor)).where(webhooks.c.enabled.is_(True))
    found: int | None = connection.execute(query).scalar()
    return found


def _note_pruned(connection: Connection, last: int) -> None:
    this = meta.c.key == PRUNED_KEY
    noted = connection.execute(update(meta).where(this).values(value=str(last)))
    if noted.rowcount == 0:
        connection.execute(insert(meta), [{"key": PRUNED_KEY, "value": str(last)}])


def _kept(connection: Connection, reports: Sequence[AnyRow], pruned: int) -> list[int]:
    """Which of these reports are the newest of a recurring action that is still shown.

    The one that was kept for it before has had its day.
    """
    kept: list[int] = []
    for row in reports:
        if not _is_of_a_rule(connection, row):
            continue
        of_rule = (
            events.c.agent_id == row.agent_id,
            events.c.action_id == row.action_id,
            events.c.type == LOCAL_DEFINITION,
        )
        connection.execute(delete(events).where(*of_rule, events.c.id <= pruned))
        newer = select(events.c.id).where(*of_rule, events.c.id > row.id).limit(1)
        if connection.execute(newer).first() is None:
            kept.append(row.id)
    return kept


def _is_of_a_rule(connection: Connection, row: AnyRow) -> bool:
    query = select(actions.c.definition).where(
        actions.c.agent_id == row.agent_id, actions.c.id == row.action_id
    )
    texts = connection.execute(query).scalars().all()
    return any(text and _decode(text).get("schedule") is not None for text in texts)
