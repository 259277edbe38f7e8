"""How a dispatch whose answer was lost is sent again without being done twice.

One action gets an id made here, and so does a recurring one: sent again, it is refused as taken,
and then it was stored. Any other dispatch to a selector has no id of its own; it gets a key that
must not happen twice instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.client.outcome import (
    DEDUPLICATED,
    EXECUTED,
    FAILED,
    PENDING_APPROVAL,
    QUEUED,
    SCHEDULED,
)
from agent.domain.phase import ENDED, Phase

KEY_TTL_S = 3600.0  # far longer than anybody repeats a request
_ENDED = frozenset(phase.value for phase in ENDED)
_WORDS = {
    Phase.PENDING_APPROVAL.value: PENDING_APPROVAL,
    Phase.SCHEDULED.value: SCHEDULED,
}


def identified(action: Mapping[str, Any], new_id: Callable[[], str]) -> dict[str, Any]:
    """The dispatch, with something by which the core knows it again."""
    given = dict(action)
    if _has(given, "id") or _has(given, "action_id") or _has(given, "dedup_key"):
        return given
    if _has(given, "node") or _has(given, "schedule") or given.get("pick") == "any":
        return given | {"id": new_id()}
    return given | {"dedup_key": new_id(), "dedup_ttl_s": KEY_TTL_S}


def has_own_key(action: Mapping[str, Any]) -> bool:
    """Whether the caller chose the key: then `deduplicated` is the true answer."""
    return _has(action, "dedup_key")


def id_of(action: Mapping[str, Any]) -> str | None:
    """The id under which it was sent."""
    found = action.get("id") or action.get("action_id")
    return None if found is None else str(found)


def stored_outcome(document: Mapping[str, Any], *, waited: bool = False) -> dict[str, Any]:
    """What the lost answer must have been, from the action as it is now."""
    found = {"action_id": document["id"], "node": document["node"]}
    phase = document["phase"]
    if waited and phase in _ENDED:
        outcome = EXECUTED if phase == Phase.DONE.value else FAILED
        return {"outcome": outcome, **found, "response": dict(document)}
    outcome = _WORDS.get(phase, QUEUED)
    if outcome == SCHEDULED:
        found["scheduled_for"] = (
            document.get("from_date") if document.get("schedule") is None else None
        )
    return {"outcome": outcome, **found}


def is_recurring(sent: Mapping[str, Any]) -> bool:
    """Whether what was sent is answered, and kept, as a recurring action."""
    return _has(sent, "schedule")


def created_outcome(document: Mapping[str, Any]) -> dict[str, Any]:
    """`stored_outcome` of a recurring action, from the core's own view of it."""
    found = {"action_id": document["id"], "node": document["node"]}
    if document["state"] == PENDING_APPROVAL:
        return {"outcome": PENDING_APPROVAL, **found}
    return {"outcome": SCHEDULED, **found, "scheduled_for": None}


def undone(answer: Mapping[str, Any], phases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """An answer that says `deduplicated` of our own key, as it was the first time.

    `phases` are the actions that it names, by id, as they are now.
    """
    if "actions" not in answer:
        return _as_stored(answer, phases)
    parts = [_as_stored(one, phases) for one in answer["actions"]]
    together = parts[0]["outcome"] if parts else answer["outcome"]
    return {**answer, "outcome": together, "actions": parts}


def _as_stored(part: Mapping[str, Any], phases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    found = phases.get(part.get("action_id", ""))
    if part.get("outcome") != DEDUPLICATED or found is None:
        return dict(part)
    return {**part, **stored_outcome(found)}


def _has(document: Mapping[str, Any], name: str) -> bool:
    return document.get(name) is not None
