"""The definition: the part of an action that belongs to whoever asked for it (DESIGN §4).

Values only. Decoding from JSON, with every fault named, is in `agent.wire.definition`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from agent.domain.schedule.spec import Schedule

GRACE_S_DEFAULT = 10.0
UNREADABLE = "definition_unreadable"
LOST = "definition_lost"
"""Features that no version has: what requires one is started by nobody, and believed by nobody.
For what is stored and cannot be read, and for an action that only a run record tells of."""


class Owner(StrEnum):
    """Who may change the definition."""

    CORE = "core"
    NODE = "node"


class OnRestart(StrEnum):
    """What to do when nobody can know how an attempt ended."""

    RERUN = "rerun"
    NEVER = "never"


class Requester(StrEnum):
    """Through which door the action came in."""

    AGENT_API = "agent_api"
    CORE_API = "core_api"
    CORE_PLAYBOOK = "core_playbook"
    CORE_RULE = "core_rule"
    SPOOL = "spool"
    ROLLBACK = "rollback"


class RiskLevel(StrEnum):
    """Seed 004's classes; dangerous always waits for a person."""

    SAFE = "safe"
    GUARDED = "guarded"
    DANGEROUS = "dangerous"


class ApprovalState(StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Who decided what, when and why; bound to the definition by `digest`."""

    state: ApprovalState
    by: str | None = None
    at: datetime | None = None
    reason: str | None = None
    expires_at: datetime | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a failed action is tried again: `max_attempts` counts the first start too."""

    max_attempts: int = 1
    delay_s: float = 30.0
    backoff: float = 2.0
    max_delay_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One thing to do on one node, once or by a schedule. Names as in DESIGN §4; aware UTC."""

    id: str
    kind: str
    owner: Owner = Owner.NODE
    revision: int = 1
    payload: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    from_date: datetime | None = None
    to_date: datetime | None = None
    should_be_executed: bool = True
    app_names: tuple[str, ...] = ()
    timeout_s: float | None = None
    grace_s: float | None = None
    retry: Retry | None = None
    on_restart: OnRestart | None = None
    start_deadline_s: float | None = None
    dry_run: bool = False
    requester: Requester | None = None
    approval: Approval | None = None
    created_at: datetime | None = None
    proposed_by: str | None = None
    correlation_id: str | None = None
    node: str | None = None
    service: str | None = None
    risk_level: RiskLevel | None = None
    confidence: float | None = None
    approval_required: bool | None = None
    autonomous_eligible: bool | None = None
    rollback_reference: Any = None
    retry_of: str | None = None
    schedule: Schedule | None = None
    """Makes it a recurring action: it never runs itself, its occurrences do."""
    recurring_id: str | None = None
    """Of an occurrence: the recurring action it belongs to, for the instant `nominal_at`."""
    nominal_at: datetime | None = None
    requires: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields that this version does not know: kept, shown, and ignored."""
