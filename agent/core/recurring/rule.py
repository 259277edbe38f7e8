"""A recurring action as the core keeps it: what is to happen, where, and whether it may. Pure.

The template has no node and is never paused: both belong to the rule, and `Sending` makes of them
what one node is sent. What people approve (`asked`) names the target as well: an approval for one
node is none for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from agent.core.nodes.incoming import definition_text
from agent.core.nodes.selector import Selector, parse_selector
from agent.domain.definition import Approval, ApprovalState, Definition
from agent.domain.schedule.spec import Schedule
from agent.wire.canonical import digest_of
from agent.wire.definition import encode_definition
from agent.wire.strict_json import encode_text

TARGET = "selector"
"""The member that a question has besides those of a definition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of `recurring`. Exactly one of `node` and `selector` says where."""

    definition: Definition
    node: str | None
    selector: Selector | None
    created_at: datetime
    created_by: str
    updated_at: datetime
    revision: int = 1
    paused: str | None = None
    paused_at: datetime | None = None
    backfills: int = 0
    deleted_at: datetime | None = None

    @property
    def id(self) -> str:
        """Its name, on every node."""
        return self.definition.id

    @property
    def schedule(self) -> Schedule:
        """When it happens; never paused."""
        assert self.definition.schedule is not None, "without one it is an action"
        return self.definition.schedule

    @property
    def target(self) -> str:
        """Where, as people write it."""
        return self.node if self.node is not None else str(self.selector)

    @property
    def waits(self) -> bool:
        """Whether it is in force nowhere, because nobody has approved it."""
        approval = self.definition.approval
        return approval is not None and approval.state is not ApprovalState.APPROVED

    @property
    def word(self) -> str:
        """Its state as people and JSON have it."""
        approval = self.definition.approval
        if self.deleted_at is not None:
            return "deleted"
        if self.waits and approval is not None:
            pending = approval.state is ApprovalState.PENDING
            return "pending_approval" if pending else approval.state.value
        return "active" if self.paused is None else "paused"

    def asked(self) -> Definition:
        """What people are asked about: the template with its target."""
        where = {} if self.selector is None else {TARGET: str(self.selector)}
        return replace(
            self.definition,
            node=self.node,
            revision=self.revision,
            extra={**self.definition.extra, **where},
        )


class Sending:
    """What nodes are sent of a rule: the same for all, but for the node and the revision.

    The approval is bound to exactly that, by who vouches for it.
    """

    def __init__(self, rule: Rule) -> None:
        schedule = replace(
            rule.schedule, paused=rule.paused is not None, paused_reason=rule.paused or None
        )
        self._approval = rule.definition.approval
        self._bare = replace(rule.definition, node="?", schedule=schedule, approval=None)
        self._document = encode_definition(self._bare)

    def on(self, node: str, revision: int) -> Definition:
        """The definition for one node."""
        sent = replace(self._bare, node=node, revision=revision)
        return sent if self._approval is None else replace(sent, approval=self._record(sent))

    def text(self, node: str, revision: int) -> str:
        """The same as it is stored."""
        if self._approval is not None:
            return definition_text(self.on(node, revision))
        return encode_text(self._document | {"node": node, "revision": revision})

    def _record(self, sent: Definition) -> Approval | None:
        return bound(self._approval, sent)


def bound(approval: Approval | None, definition: Definition) -> Approval | None:
    """The record of an approval for what follows from what was approved."""
    return None if approval is None else replace(approval, digest=digest_of(definition))


def template_of(definition: Definition) -> Definition:
    """A definition as it was submitted, or asked about, without what belongs to the rule."""
    schedule = definition.schedule
    assert schedule is not None, "the caller looked"
    extra: Mapping[str, Any] = {k: v for k, v in definition.extra.items() if k != TARGET}
    bare = replace(schedule, paused=False, paused_reason=None)
    return replace(definition, node=None, revision=1, schedule=bare, extra=extra)


def target_of(definition: Definition) -> tuple[str | None, Selector | None]:
    """Where the question about a rule would have it."""
    named = definition.extra.get(TARGET)
    return definition.node, parse_selector(named) if isinstance(named, str) else None
