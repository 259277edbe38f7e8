"""What the answer to a question about a recurring action does to it. Called by the approvals.

Approved: what was asked for is the rule's definition, and a timer brings it to the nodes, in a
transaction of its own with the locks in their order. Not approved: what was in force stays so; what
never was in force ends there.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
from sqlalchemy.engine import Connection

from agent.core import timers
from agent.core.occasion import Occasion
from agent.core.recurring import rows
from agent.core.recurring.rule import Rule, target_of, template_of
from agent.core.store.port import AnyRow
from agent.core.timers import TimerKind
from agent.domain.definition import Approval
from agent.domain.errors import Refused
from agent.wire.canonical import digest_of_document
from agent.wire.definition import decode_definition


def is_about_a_rule(connection: Connection, question: AnyRow) -> bool:
    """Whether a row of `approvals` asks about a recurring action."""
    return rows.is_rule(connection, question.action_id)


def approve_rule(
    connection: Connection, occasion: Occasion, question: AnyRow, record: Approval
) -> None:
    """Bring what was asked for into force. Raises `Refused` where there is nothing left of it."""
    rule = rows.find_rule(connection, question.action_id)
    document = msgspec.json.decode(question.definition)
    if rule.deleted_at is not None:
        raise Refused("already_ended", f"the recurring action {rule.id!r} was deleted")
    if digest_of_document(document) != question.digest:
        raise Refused("changed", f"what was asked about {rule.id!r} is not what is stored")
    asked = decode_definition(document)
    node, selector = target_of(asked)
    changed = replace(
        rule,
        definition=replace(template_of(asked), approval=record),
        node=node,
        selector=selector,
        revision=rule.revision + 1 if question.is_edit else rule.revision,
        updated_at=occasion.now,
    )
    rows.save(connection, changed)
    timers.arm(connection, TimerKind.RECURRING_RULE, rule.id, occasion.now)


def refuse_rule(connection: Connection, question: AnyRow, record: Approval) -> Rule:
    """Rejected, or expired: what only waited for this never comes into force."""
    rule = rows.find_rule(connection, question.action_id)
    if rule.waits and not question.is_edit:
        rule = replace(rule, definition=replace(rule.definition, approval=record))
        rows.save(connection, rule)
    return rule
