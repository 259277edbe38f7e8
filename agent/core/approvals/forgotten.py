"""What a node holds as approved and this core takes for waiting: it was put back to before. Pure.

Only a core that was restored from a backup meets this. The record proves itself by its digest. What
was decided here since is the newer word: then the node is told to withdraw it.
"""

from __future__ import annotations

from dataclasses import replace

from agent.domain.definition import ApprovalState, Definition
from agent.wire.canonical import digest_of

WAITING = frozenset({ApprovalState.PENDING.value, ApprovalState.EXPIRED.value})
"""Nobody said no: the approval that was forgotten holds."""
NEVER_SENT = WAITING | {ApprovalState.REJECTED.value}


def recalled(
    approval_state: str | None, revision: int, held: Definition, *, wanted: bool
) -> Definition | None:
    """The definition that holds for an action of the core's; None where nothing was forgotten.

    One that `should_be_executed` denies has to be delivered.
    """
    approval = held.approval
    if approval_state not in NEVER_SENT or approval is None:
        return None
    if approval.state is not ApprovalState.APPROVED or approval.digest != digest_of(held):
        return None
    if wanted and approval_state in WAITING:
        return held
    return replace(held, should_be_executed=False, revision=max(held.revision, revision) + 1)
