"""A core in this process whose clock a test turns, one node that pulls, and questions to people."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

from sqlalchemy import func, select

from agent.core import timers
from agent.core.actions.listing import ActionRef
from agent.core.actions.terms import Terms
from agent.core.app import Core
from agent.core.approvals.judging import ApprovalTerms
from agent.core.approvals.records import ApprovalFilter
from agent.core.occasion import Occasion
from agent.core.store.inline import InlineStore
from agent.core.store.port import Store
from agent.core.store.schema import deliveries
from agent.core.store.schema import timers as timers_table
from agent.domain.approval import ApprovalMode, ApprovalPolicy
from agent.domain.definition import ApprovalState
from agent.wire.messages import Enroll, StatePush
from tests.fakes.core_backends import SteppedClock

YES, NO = ApprovalState.APPROVED, ApprovalState.REJECTED
NODE = "web-1"


class ApprovingCore:
    """The services over an in-memory store, or over what `open_store` opens."""

    open_store: ClassVar[Callable[[], Store]] = InlineStore.in_memory

    def __init__(self, policy: ApprovalPolicy | None = None, **more: Any) -> None:
        self.store = type(self).open_store()
        self.clock = SteppedClock()
        approvals = ApprovalTerms(policy=policy or ApprovalPolicy(), **more)
        self.core = Core(self.store, self.clock, secrets.randbits, terms=Terms(approvals=approvals))
        self.cursor = ""

    @classmethod
    async def with_node(
        cls, mode: ApprovalMode = ApprovalMode.SUPERVISED, *, four_eyes: bool = False, **more: Any
    ) -> ApprovingCore:
        """With one enrolled node."""
        made = cls(ApprovalPolicy(mode=mode, four_eyes=four_eyes), **more)
        token = (await made.core.roster.create_token(NODE, 3600))["token"]
        await made.core.nodes.enroll(Enroll(token=token, nonce="n"))
        await made.pull()
        return made

    async def pull(self) -> list[Any]:
        """What the node is sent, and acknowledges with the next pull."""
        answer = await self.core.nodes.pull(NODE, "instance", self.cursor, 0.0)
        self.cursor = answer.cursor
        return answer.actions

    async def pull_everything(self) -> list[Any]:
        """What a node that knows nothing is told."""
        return (await self.core.nodes.pull(NODE, "instance", "", 0.0)).actions

    async def tell_state(self, *items: Any) -> None:
        """The node puts its whole state."""
        push = StatePush(
            agent_epoch="epoch", as_of_seq=0, first_seq=1, cursor=self.cursor,
            snapshot=secrets.token_hex(4), actions=list(items),
        )  # fmt: skip
        assert (await self.core.nodes.put_state(NODE, "instance", push)).faults == []

    async def dispatch(self, *, by: str = "olga", **fields: Any) -> dict[str, Any]:
        """A guarded action unless said otherwise."""
        document = {"kind": "work", "node": NODE, "risk_level": "guarded"} | fields
        may = document.pop("may_approve", False)
        return await self.core.dispatch.dispatch(document, by=by, may_approve=may)

    async def action(self, action_id: str) -> dict[str, Any]:
        """As the API shows it."""
        return await self.core.dispatch.get(ActionRef(id=action_id))

    async def phase(self, action_id: str) -> str:
        """Its word for people."""
        return str((await self.action(action_id))["phase"])

    async def questions(self, **wanted: Any) -> list[dict[str, Any]]:
        """What was put to people, newest first."""
        found = await self.core.approvals.list(ApprovalFilter(**wanted))
        listed: list[dict[str, Any]] = found["approvals"]
        return listed

    async def answer(
        self, action_id: str, state: ApprovalState = YES, *, by: str = "ann", **body: Any
    ) -> dict[str, Any]:
        """Decide by the action's id."""
        ref = ActionRef(id=action_id)
        return await self.core.approvals.answer_action(ref, body, state, by=by)

    async def later(self, **span: float) -> None:
        """Turn the clock and fire what is due."""
        self.clock.at += timedelta(**span)
        occasion = Occasion(self.clock.now(), secrets.randbits)
        handlers = self.core.timer_handlers
        await self.store.write(lambda c: timers.fire_due(c, occasion, handlers))

    async def timers_left(self) -> list[str]:
        """Questions whose expiry is armed."""

        def work(connection: Any) -> list[str]:
            of = timers_table.c.kind == timers.TimerKind.APPROVAL_EXPIRES.value
            return list(connection.execute(select(timers_table.c.ref).where(of)).scalars())

        return await self.store.read(work)

    async def delivery_count(self) -> int:
        """How many entries the node's stream has."""
        query = select(func.count()).select_from(deliveries)
        return await self.store.read(lambda c: c.execute(query).scalar_one())

    async def story(self, action_id: str) -> list[str]:
        """The types of its events."""
        found = await self.core.dispatch.history(ActionRef(id=action_id))
        return [event["type"] for event in found["events"]]
