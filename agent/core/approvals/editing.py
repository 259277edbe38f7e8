"""A change of an action that exists: any change voids its approval, so it was judged again.

What needs no person comes into force at once. What does waits here as an edit, and the approved
revision stays in force until somebody decides; a further edit takes the place of the waiting one.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.engine import Connection

from agent.core.actions.placing import release, rewrite
from agent.core.approvals.judging import Judged
from agent.core.approvals.requests import QuestionState, ask_all, close_open
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow
from agent.domain.definition import ApprovalState


def edit(connection: Connection, occasion: Occasion, row: AnyRow, judged: Judged, by: str) -> bool:
    """Put the judged change of this row's definition through; whether it is in force now.

    The caller holds the lock of the node, has read `row` under it and knows that it may still be
    changed, and writes its own event and audit line.
    """
    close_open(connection, occasion, row.agent_id, row.id, QuestionState.SUPERSEDED, by=by)
    definition = replace(judged.definition, revision=row.revision + 1)
    if judged.question is None:
        release(connection, occasion, row, definition)
        return True
    never_in_force = row.approval_state == ApprovalState.PENDING.value
    if never_in_force:
        rewrite(connection, row, definition)  # it was never sent: it waits in its new form
    question = replace(judged.question, definition=definition, is_edit=not never_in_force)
    ask_all(connection, occasion, [question])
    return False
