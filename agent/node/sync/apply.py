"""A pull's answer into the database: good items applied, bad ones refused alone, one transaction.

The cursor is part of that transaction, so that what it acknowledges is durable (DESIGN §3).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent.domain.action import Action, Transition
from agent.domain.clock_doubt import Moment
from agent.domain.definition import Definition, Owner
from agent.domain.errors import Fault, InvalidDocument, shown
from agent.domain.ids import is_id
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.reconcile import Verdict
from agent.domain.recurring import Ended
from agent.domain.starting import unstart
from agent.node.catalogue import Kinds
from agent.node.freezing import apply_freeze, apply_thaw
from agent.node.ledger import Ledger
from agent.node.occurrences import Planner
from agent.node.recurring import apply_definition
from agent.node.store import actions, recurring
from agent.node.store.meta import read_meta, write_meta
from agent.wire.canonical import digest_of_document
from agent.wire.definition import REVISION_MAX, decode_definition
from agent.wire.messages import FREEZE, THAW, PullAnswer, Request
from agent.wire.strict_json import BadItem

REQUESTS_REMEMBERED = 256


@dataclass(slots=True)
class Applied:
    """What the engine is to do once the pull is committed."""

    moment: Moment
    started: list[Action] = field(default_factory=list)
    ended: list[Action] = field(default_factory=list)
    """What the pull itself ended, as it is now; for who counts."""
    refused: list[tuple[str | None, str]] = field(default_factory=list)
    changed: int = 0
    restrained: bool = False
    """Whether brakes are others than before: `restraints.json` has to follow."""


def apply_pull(
    connection: sqlite3.Connection, ledger: Ledger, kinds: Kinds, answer: PullAnswer,
    now: datetime, moment: Moment | None = None,
) -> Applied:  # fmt: skip
    """Apply everything and the cursor. A repeat of the same answer changes nothing.

    `moment`: what time it is for recurring actions, where that may not be `now`.
    """
    applied = Applied(moment=moment or Moment(at=now))
    for document in answer.actions:
        _apply_alone(connection, ledger, kinds, document, now, applied)
    _serve_requests(connection, ledger, answer.requests, now, applied)
    write_meta(connection, cursor=answer.cursor)
    return applied


def _apply_alone(
    connection: sqlite3.Connection, ledger: Ledger, kinds: Kinds, document: Any,
    now: datetime, applied: Applied,
) -> None:  # fmt: skip
    """An item that trips over a fault of ours is refused like any other bad one.

    Else the cursor would never pass it, and every start would trip over it again.
    """
    connection.execute("SAVEPOINT item")
    try:
        _apply_one(connection, ledger, kinds, document, now, applied)
    except sqlite3.OperationalError:
        raise  # the disk, not the item
    except Exception as error:  # noqa: BLE001  (told to the core and in the log, with the id)
        connection.execute("ROLLBACK TO item")
        action_id, revision = _readable_head(document)
        fault = Fault("", f"could not be applied, a fault of this agent: {shown(error)}")
        ledger.refuse(connection, action_id, revision, (fault,), now)
        applied.refused.append((action_id, str(fault)))
    connection.execute("RELEASE item")


def _apply_one(
    connection: sqlite3.Connection, ledger: Ledger, kinds: Kinds, document: Any,
    now: datetime, applied: Applied,
) -> None:  # fmt: skip
    try:
        definition = _decode(document, kinds)
    except InvalidDocument as error:
        action_id, revision = _readable_head(document)
        ledger.refuse(connection, action_id, revision, error.faults, now)
        applied.refused.append((action_id, str(error)))
        return
    if definition.schedule is not None:
        _apply_recurring(connection, ledger, kinds, definition, applied)
        return
    if recurring.exists(connection, definition.id):
        sort = "id_conflict: is a recurring action here, and cannot become an action"
        faults = (Fault("schedule", sort),)
        ledger.refuse(connection, definition.id, definition.revision, faults, now)
        applied.refused.append((definition.id, str(faults[0])))
        return
    lane = kinds.lane(definition.kind)
    change, action = ledger.apply_definition(connection, definition, now, lane=lane)
    if change.verdict is Verdict.REFUSED:
        applied.refused.append((definition.id, "; ".join(str(fault) for fault in change.faults)))
    if change.ends is not None and action is not None:
        applied.ended.append(action)
    if change.verdict in (Verdict.INSERTED, Verdict.UPDATED) and action is not None:
        applied.changed += 1
        _follow_up(connection, ledger, kinds, action, now, applied)


def _apply_recurring(
    connection: sqlite3.Connection, ledger: Ledger, kinds: Kinds, definition: Definition,
    applied: Applied,
) -> None:  # fmt: skip
    """A recurring action that this node can never run is refused now, not at each instant."""
    now = applied.moment.at
    planner = Planner(connection, ledger, now, kinds.lane, applied.moment.doubted)
    found = None
    if definition.should_be_executed:
        found = kinds.check(definition.kind, definition.payload, dry_run=definition.dry_run)
    current = recurring.by_id(connection, definition.id)
    if found is not None and (current is None or definition.revision > current.definition.revision):
        verdict, faults = Verdict.REFUSED, found[1]
    else:
        verdict, _, faults = apply_definition(planner, definition)
    if verdict is Verdict.REFUSED:
        ledger.refuse(connection, definition.id, definition.revision, faults, now)
        applied.refused.append((definition.id, "; ".join(str(fault) for fault in faults)))
    elif verdict is not Verdict.UNCHANGED:
        ledger.tell_recurring_applied(connection, definition.id, definition.revision, verdict, now)
        applied.changed += 1
    applied.ended += planner.ended


def _follow_up(
    connection: sqlite3.Connection, ledger: Ledger, kinds: Kinds, action: Action,
    now: datetime, applied: Applied,
) -> None:  # fmt: skip
    if action.execution_status is ExecutionStatus.STARTED:
        applied.started.append(action)
    elif action.execution_status is ExecutionStatus.NULL:
        ending = _over_with_its_rule(connection, action, now) or _cannot_run(kinds, action, now)
        if ending is not None:
            applied.ended.append(ledger.move(connection, action, ending))


def _over_with_its_rule(
    connection: sqlite3.Connection, action: Action, now: datetime
) -> Transition | None:
    """An occurrence that the core asked for, and whose recurring action it has withdrawn since.

    In what was not sent before, the withdrawal may come first: it would find nothing to end.
    """
    named = action.definition.recurring_id
    rule = None if named is None else recurring.by_id(connection, named)
    if rule is None or rule.definition.should_be_executed or action.attempt:
        return None
    return unstart(action, Reason.WITHDRAWN, now)


def _cannot_run(kinds: Kinds, action: Action, now: datetime) -> Transition | None:
    """Not wanted from the start, or nothing on this node can run it: say so now, not when due."""
    definition = action.definition
    if not definition.should_be_executed:
        return unstart(action, Reason.WITHDRAWN, now)
    found = kinds.check(definition.kind, definition.payload, dry_run=definition.dry_run)
    if found is None or action.attempt:
        return None
    reason, faults = found
    return unstart(action, reason, now, error="; ".join(str(fault) for fault in faults))


def _decode(document: Any, kinds: Kinds) -> Definition:
    if isinstance(document, BadItem):
        raise InvalidDocument([Fault("", document.why)])
    definition = decode_definition(document, owner=Owner.CORE.value)
    faults: list[Fault] = []
    if definition.should_be_executed:  # a withdrawal starts nothing, so nobody has to approve it
        faults += [*kinds.approval_faults(definition), *_digest_faults(document, definition)]
    if definition.owner is not Owner.CORE:
        faults.append(Fault("owner", "the core can only send what it owns"))
    if faults:
        raise InvalidDocument(faults)
    return definition


def _digest_faults(document: Mapping[str, Any], definition: Definition) -> tuple[Fault, ...]:
    """An approval is for one content. What this node makes of it (occurrences) is not sent here."""
    approval = definition.approval
    if approval is None or approval.digest is None:
        return ()
    found = digest_of_document(document)  # of what was sent, not of what this version makes of it
    if found == approval.digest.lower():
        return ()
    text = (
        f"{shown(approval.digest)} is not the digest of this definition, which is {found}: it was "
        "changed since it was approved; it has to be approved again"
    )
    return (Fault("approval.digest", text),)


def _readable_head(document: Any) -> tuple[str | None, int | None]:
    """Id and revision of a document that is refused, as far as they can be read."""
    if isinstance(document, BadItem):
        document = document.readable
    if not isinstance(document, Mapping):
        return None, None
    action_id, revision = document.get("id"), document.get("revision")
    named = action_id if isinstance(action_id, str) and is_id(action_id) else None
    if isinstance(revision, bool) or not isinstance(revision, int):
        return named, None
    return named, revision if 1 <= revision <= REVISION_MAX else None


def _serve_requests(
    connection: sqlite3.Connection, ledger: Ledger, requests: Sequence[Request],
    now: datetime, applied: Applied,
) -> None:  # fmt: skip
    done = read_meta(connection).requests_done.split()
    for request in requests:
        if request.id in done:
            continue
        done.append(request.id)
        if request.type == "send_state":
            # Durable with the cursor that acknowledges the request: a kill does not forget it.
            write_meta(connection, state_owed=read_meta(connection).state_owed + 1)
        elif request.type == "cancel_local" and request.action_id is not None:
            _cancel_local(connection, ledger, request.action_id, now, applied)
        elif request.type in (FREEZE, THAW):
            _restrain(connection, request, now, applied)
    if requests:
        write_meta(connection, requests_done=" ".join(done[-REQUESTS_REMEMBERED:]))


def _restrain(
    connection: sqlite3.Connection, request: Request, now: datetime, applied: Applied
) -> None:
    """A request that means nothing here is told in the log: it has no answer of its own."""
    try:
        if request.type == FREEZE:
            changed = apply_freeze(connection, request, now, applied.moment)
        else:
            changed = apply_thaw(connection, request)
    except InvalidDocument as error:
        applied.refused.append((None, f"{request.type}: {error}"))
        return
    applied.restrained = applied.restrained or changed


def _cancel_local(
    connection: sqlite3.Connection, ledger: Ledger, action_id: str, now: datetime,
    applied: Applied,
) -> None:  # fmt: skip
    """The core asks to cancel an action of this node; what has ended stays as it is."""
    rule = recurring.by_id(connection, action_id)
    if rule is not None and rule.ended_at is None and rule.definition.owner is Owner.NODE:
        # No lane is needed: of a rule that ends nothing is created but the row of what was missed.
        planner = Planner(connection, ledger, applied.moment.at, lambda _: Lane.EXCLUSIVE)
        planner.end(rule, Ended.CANCELLED_ON_NODE)
        applied.ended += planner.ended
        applied.changed += 1
    action = actions.by_id(connection, action_id)
    if action is None or action.is_final or action.definition.owner is not Owner.NODE:
        return
    if action.execution_status is ExecutionStatus.STARTED:
        cause = Reason.CANCELLED_ON_NODE.value
        applied.started.append(ledger.ask_to_stop(connection, action, cause))
    else:
        ending = unstart(action, Reason.CANCELLED_ON_NODE, now)
        applied.ended.append(ledger.move(connection, action, ending))
    applied.changed += 1
