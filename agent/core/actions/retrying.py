"""A retry: what an ended action asked for, asked for again, as a new action with `retry_of`.

Final stays final. The new one goes the way of any dispatch: catalogue, rules and approvals are
asked again, as they are now. The old window is not taken over: it is over, as a rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from agent.core.actions.phases import phase_at_core
from agent.core.store.port import AnyRow
from agent.domain.errors import Fault, InvalidDocument, Refused
from agent.domain.phase import ENDED
from agent.wire.fields import Field, read_closed

_NOT_TAKEN_OVER = frozenset(
    {"id", "owner", "revision", "requester", "approval", "created_at", "should_be_executed"}
    | {"from_date", "to_date", "retry_of", "recurring_id", "nominal_at"}
)


def _as_given(value: Any) -> Any:
    return value  # the dispatch that it becomes a part of reads it


_BODY: Mapping[str, Field] = {
    name: Field(_as_given)
    for name in (
        "id", "from_date", "to_date", "payload", "metadata", "timeout_s", "correlation_id",
        "start_deadline_s", "dedup_key", "dedup_ttl_s", "approve",
    )
}  # fmt: skip


def retry_document(
    row: AnyRow, document: Any, now: datetime
) -> tuple[dict[str, Any], tuple[Fault, ...]]:
    """The dispatch that repeats the action of this row, with what `document` says otherwise.

    `retry_of` is for the dispatch to add, and the faults are for it to tell with its own. Raises
    `Refused` where the action has not ended (`not_final`) or cannot be repeated. Pure.
    """
    given, faults = _read(document)
    phase = phase_at_core(row, now)
    if row.definition is None:
        raise Refused(
            "definition_unknown",
            f"the definition of {row.id!r} is not known here, so nobody knows what to repeat",
        )
    old = msgspec.json.decode(row.definition)
    if old.get("schedule") is not None:
        raise Refused("recurring", f"{row.id!r} has a schedule; it repeats itself")
    if phase not in ENDED:
        raise Refused(
            "not_final",
            f"the action {row.id!r} is {phase.value}; only one that has ended is tried again",
        )
    kept = {key: value for key, value in old.items() if key not in _NOT_TAKEN_OVER}
    return {**kept, "node": row.agent_id, **given}, faults


def _read(document: Any) -> tuple[dict[str, Any], tuple[Fault, ...]]:
    """What it says, and what is wrong with its members; their values the dispatch looks at."""
    try:
        return read_closed(document, _BODY), ()
    except InvalidDocument as error:
        members = document.items() if isinstance(document, dict) else ()
        return {key: value for key, value in members if key in _BODY}, error.faults
