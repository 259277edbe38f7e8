"""Recurring actions over a core in memory: nodes are rows; they tell what the test lets them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import insert, select, update

from agent.core import timers
from agent.core.actions.terms import Terms
from agent.core.approvals import deciding
from agent.core.approvals.service import Approvals
from agent.core.nodes.labelling import relabel
from agent.core.occasion import Occasion
from agent.core.recurring.membership import reconcile_node
from agent.core.recurring.service import RecurringService
from agent.core.recurring.views import RuleFilter
from agent.core.store.schema import actions, agents
from agent.core.timers import TimerKind
from agent.domain.definition import ApprovalState
from agent.wire.definition import FEATURES
from agent.wire.messages import NodeReport
from agent.wire.strict_json import encode_text
from tests.fakes.dispatching_core import START, DispatchingCore

SLEEP: Sequence[Mapping[str, Any]] = ({"kind": "sleep", "faults": []},)


class RecurringCore(DispatchingCore):
    """Both services over one store; timers are fired when the test says so."""

    def __init__(self, **terms: Any) -> None:
        super().__init__(**terms)
        shared = (self.store, self.clock, secrets.randbits, self.wakeups)
        self.recurring = RecurringService(*shared, Terms(**terms))
        self.approvals = Approvals(*shared)
        self.handlers = self.recurring.timer_handlers() | {
            TimerKind.APPROVAL_EXPIRES: deciding.expire
        }

    def occasion(self) -> Occasion:
        return Occasion(self.clock.now(), secrets.randbits)

    async def add(
        self,
        name: str,
        *,
        kinds: Sequence[Mapping[str, Any]] = SLEEP,
        features: Sequence[str] | None = None,
        **labels: str,
    ) -> None:
        """A node that reports for the first time."""
        row = {"id": name, "enrolled_at": START, "stream_epoch": "e", "acked_mark": "m"}
        await self.store.write(lambda c: c.execute(insert(agents), [row]))
        await self.report_of(name, kinds=kinds, features=features, **labels)

    async def report_of(
        self,
        name: str,
        *,
        kinds: Sequence[Mapping[str, Any]] = SLEEP,
        features: Sequence[str] | None = None,
        **labels: str,
    ) -> None:
        """What a node says of itself, with what follows from it."""
        known = sorted(FEATURES) if features is None else list(features)
        report = NodeReport(version="1", catalogue=[dict(one) for one in kinds], features=known)

        def work(connection: Any) -> None:
            query = update(agents).where(agents.c.id == name).values(report=encode_text(report))
            connection.execute(query)
            relabel(connection, self.occasion(), name, labels)
            reconcile_node(connection, self.occasion(), name)

        await self.store.write(work)
        await self.fire()

    async def fire(self) -> None:
        """Whatever is due."""
        await self.store.write(lambda c: timers.fire_due(c, self.occasion(), self.handlers))

    async def answer(
        self, approval_id: str, *, by: str = "ann", state: ApprovalState = ApprovalState.APPROVED
    ) -> None:
        """A person decides; then what follows from it."""
        await self.approvals.answer(approval_id, {}, state, by=by)
        await self.fire()

    async def make(self, schedule: Any = "every 5m", **more: Any) -> dict[str, Any]:
        """A recurring action called `r`, unless said otherwise."""
        flags = {name: more.pop(name) for name in ("by", "may_approve") if name in more}
        document = {"id": "r", "kind": "sleep", "schedule": schedule, **more}
        return await self.recurring.create(document, **flags)

    async def on(self, rule_id: str = "r") -> dict[str, dict[str, Any]]:
        """What each node has of it: the definitions as they are delivered."""
        query = select(actions).where(actions.c.id == rule_id)
        rows = await self.store.read(lambda c: c.execute(query).all())
        return {row.agent_id: msgspec.json.decode(row.definition) for row in rows}

    async def wanted_on(self, rule_id: str = "r") -> list[str]:
        """The nodes that are to have it."""
        found = await self.on(rule_id)
        return sorted(node for node, one in found.items() if one["should_be_executed"])

    async def stands(self, node: str, rule_id: str = "r", **standing: Any) -> None:
        """What the node told of how it stands."""
        mine = (actions.c.agent_id == node, actions.c.id == rule_id)
        text = encode_text({"state": "active", **standing})
        query = update(actions).where(*mine).values(standing=text)
        await self.store.write(lambda c: c.execute(query))

    async def listed(self, **wanted: Any) -> list[str]:
        page = await self.recurring.list(RuleFilter(**wanted))
        return [one["id"] for one in page["recurring"]]
