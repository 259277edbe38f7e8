"""What a dispatch was answered, and an action as the core shows it: values, read from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent.domain.errors import Fault
from agent.domain.instants import parse_instant
from agent.domain.phase import ENDED, Phase

SCHEDULED, QUEUED, EXECUTED = "scheduled", "queued", "executed"
PENDING_APPROVAL, SUPPRESSED, DEDUPLICATED = "pending_approval", "suppressed", "deduplicated"
DRY_RUN, FAILED = "dry_run", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a dispatch. Members that an outcome does not have are None or empty."""

    outcome: str
    action_id: str | None = None
    scheduled_for: datetime | None = None
    """When it will start; None too where its node plans it by a schedule."""
    response: Mapping[str, Any] | None = None
    """The execution and the phase, where the end was waited for."""
    would_be: str | None = None
    """Of a dry run."""
    node: str | None = None
    correlation_id: str | None = None
    actions: tuple[Outcome, ...] = ()
    """Of a dispatch to several nodes: one for each."""
    faults: tuple[Fault, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The whole answer."""

    def is_scheduled(self) -> bool:
        """It will start at `scheduled_for`, or whenever its schedule says."""
        return self.outcome == SCHEDULED

    def is_queued(self) -> bool:
        """It starts as soon as its node can."""
        return self.outcome == QUEUED

    def is_executed(self) -> bool:
        """It was waited for, and it is done: see `response`."""
        return self.outcome == EXECUTED

    def is_pending_approval(self) -> bool:
        """Somebody must approve it first."""
        return self.outcome == PENDING_APPROVAL

    def is_suppressed(self) -> bool:
        """A rule held it back; nothing was stored."""
        return self.outcome == SUPPRESSED

    def is_deduplicated(self) -> bool:
        """The same was dispatched before; `action_id` is the first one."""
        return self.outcome == DEDUPLICATED

    def is_dry_run(self) -> bool:
        """Everything was checked and nothing changed: see `would_be`."""
        return self.outcome == DRY_RUN

    def is_failed(self) -> bool:
        """It was waited for and ended otherwise (`response`), or its node cannot (`faults`)."""
        return self.outcome == FAILED


def read_outcome(document: Mapping[str, Any]) -> Outcome:
    """From an answer of the core."""
    at = document.get("scheduled_for")
    return Outcome(
        outcome=str(document["outcome"]),
        action_id=document.get("action_id"),
        scheduled_for=None if at is None else parse_instant(at),
        response=document.get("response"),
        would_be=document.get("would_be"),
        node=document.get("node"),
        correlation_id=document.get("correlation_id"),
        actions=tuple(read_outcome(one) for one in document.get("actions", ())),
        faults=read_faults(document.get("faults", ())),
        document=document,
    )


def read_faults(items: Any) -> tuple[Fault, ...]:
    """From an error or a refused part of a dispatch."""
    return tuple(Fault(str(one.get("path", "")), str(one.get("message", ""))) for one in items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action as the core knows it; `document` has every member (docs/core-api.md)."""

    id: str
    node: str
    kind: str | None
    phase: str
    status: str
    document: Mapping[str, Any] = field(repr=False)

    def has_ended(self) -> bool:
        """Nothing more is to be expected."""
        return self.phase in {phase.value for phase in ENDED}

    def is_done(self) -> bool:
        """It ran, and well."""
        return self.phase == Phase.DONE.value


def read_action(document: Mapping[str, Any]) -> Action:
    """From an answer of the core."""
    return Action(
        id=document["id"],
        node=document["node"],
        kind=document["kind"],
        phase=document["phase"],
        status=document["execution_status"],
        document=document,
    )
