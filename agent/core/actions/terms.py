"""What every dispatch is measured by, besides its own document: rules, approvals, a default."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.actions.targets import Target
from agent.core.approvals.judging import ApprovalTerms
from agent.core.rules.verdict import NoRules, Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The wiring fills it from the settings."""

    rules: Rules = field(default_factory=NoRules)
    approvals: ApprovalTerms = field(default_factory=ApprovalTerms)
    default_target: Target | None = None
    """For a dispatch that names no node, selector or labels."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who dispatches: the authenticated name, and whether the role allows to approve as well."""

    name: str = "admin"
    may_approve: bool = False
