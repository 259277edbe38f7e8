"""The people: they ask the core and the nodes for things, again and again until they get an answer.

What they were told is noted; what they were told is what the system must keep.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from agent.core.actions.listing import ActionRef
from agent.core.nodes.stream import enqueue_definition
from agent.core.occasion import Occasion
from agent.core.store.schema import actions
from agent.core.wakeups import agent_topic
from agent.domain.definition import ApprovalState
from agent.domain.errors import AgentError, InvalidDocument, Refused
from agent.node.sync.port import CoreRefused, CoreUnreachable
from agent.wire.strict_json import encode_text
from tests.fakes.sim_core import Services, SimCore
from tests.fakes.virtual_loop import wait_any
from tests.simulation.node import SimNode
from tests.simulation.observations import Observations
from tests.simulation.plan import Wish

ASK_AGAIN_S = 1.5
TRIES_MAX = 60
ON_ITS_WAY = frozenset({"scheduled", "queued"})
TOO_EARLY = frozenset({"not_found", "not_final"})
EARLY_MAX = 4  # how often somebody asks again about an action that is not there yet


class Operators:
    """Grants wishes. One method per sort of wish."""

    def __init__(
        self, core: SimCore, nodes: Mapping[str, SimNode], seen: Observations, rng: random.Random
    ) -> None:
        self._core = core
        self._nodes = nodes
        self._seen = seen
        self._rng = rng

    async def grant(self, wish: Wish) -> None:
        """Ask until there is an answer, whatever it is."""
        self._seen.note("asked", wish.node, wish=wish.what, id=wish.id)
        ask: Callable[[Wish], Awaitable[Any]] = getattr(self, wish.what)
        for again in range(TRIES_MAX):
            try:
                answer = await ask(wish)
            except CoreUnreachable:
                await asyncio.sleep(ASK_AGAIN_S * self._rng.uniform(0.5, 1.5))
                continue
            except (CoreRefused, Refused) as error:
                early = error.code in TOO_EARLY and wish.what != "dispatch" and again < EARLY_MAX
                if error.code == "unavailable" or early:
                    await asyncio.sleep(ASK_AGAIN_S * self._rng.uniform(0.5, 1.5))
                    continue
                answer = "exists" if error.code in ("exists", "conflict") else "refused"
                self._told(wish, answer, code=error.code)
            except InvalidDocument as error:
                self._told(wish, "refused", code=str(error))
            else:
                self._told(wish, answer or "done")
            return

    def _told(self, wish: Wish, answer: str, **values: Any) -> None:
        self._seen.note("told", wish.node, wish=wish.what, id=wish.id, answer=answer, **values)

    # -- at the core ------------------------------------------------------------------------

    async def dispatch(self, wish: Wish) -> str | None:
        """A new action; another word than "done" where it has not gone to its node."""
        document = {**wish.values["document"], "node": wish.node}
        told = await self._core.serve(lambda it: it.dispatch.dispatch(document))
        return None if told["outcome"] in ON_ITS_WAY else str(told["outcome"])

    async def retry(self, wish: Wish) -> None:
        """Once more, under another name."""
        ref, body = ActionRef(id=wish.id, node=wish.node), wish.values["body"]
        await self._core.serve(lambda it: it.dispatch.retry(ref, body))

    async def reschedule(self, wish: Wish) -> None:
        """Another time."""
        ref, body = ActionRef(id=wish.id, node=wish.node), wish.values["body"]
        await self._core.serve(lambda it: it.dispatch.reschedule(ref, body))

    async def approve(self, wish: Wish) -> None:
        """Yes, to whatever waits."""
        await self._answer(wish, ApprovalState.APPROVED)

    async def reject(self, wish: Wish) -> None:
        """No."""
        await self._answer(wish, ApprovalState.REJECTED)

    async def _answer(self, wish: Wish, state: ApprovalState) -> None:
        ref = ActionRef(id=wish.id, node=wish.node)
        await self._core.serve(lambda it: it.approvals.answer_action(ref, {}, state, by="ann"))

    async def freeze(self, wish: Wish) -> None:
        """Hold nodes back."""
        await self._core.serve(lambda it: it.fleet.freeze(wish.values["body"], "ann"))

    async def thaw(self, wish: Wish) -> None:
        """Let them go."""
        await self._core.serve(lambda it: it.fleet.thaw(wish.values["body"], "ann"))

    async def thaw_all(self) -> None:
        """Whatever holds."""
        found = await self._core.serve(lambda it: it.fleet.freezes(over=False))
        for one in found["freezes"]:
            body = {"id": one["id"]}
            await self._core.serve(lambda it, b=body: it.fleet.thaw(b, "ann"))  # type: ignore[misc]

    async def relabel(self, wish: Wish) -> None:
        """Set labels, or take them back."""
        await self._core.serve(lambda it: it.fleet.edit(wish.node, dict(wish.values), "ann"))

    async def cancel(self, wish: Wish) -> None:
        """Withdraw it; or ask the node to, where it is the node's own."""
        body = {"if_started": "stop" if wish.values["stop"] else "refuse"}
        ref = ActionRef(id=wish.id, node=wish.node)
        await self._core.serve(lambda it: it.dispatch.cancel(ref, body))

    async def nudge(self, wish: Wish) -> None:
        """Ask for the node's state."""
        await self._core.serve(lambda it: it.roster.nudge(wish.node))

    async def edit(self, wish: Wish) -> None:
        """A new revision of a definition, as the core's edits will make it."""

        async def edit(it: Services) -> None:
            occasion = Occasion(self._core.clock.now(), self._core.random_bits)
            await it.store.write(lambda c: _edit(c, occasion, wish))
            it.wakeups.notify([agent_topic(wish.node)])

        await self._core.serve(edit)

    # -- at a node --------------------------------------------------------------------------

    async def submit(self, wish: Wish) -> None:
        """An action of the node's own."""
        await self._at_node(wish.node, lambda it: it.submit(wish.values["document"]))

    async def submit_rule(self, wish: Wish) -> None:
        """A recurring action of the node's own."""
        document = wish.values["document"]
        await self._at_node(wish.node, lambda it: it.create(document), "recurring")

    async def cancel_locally(self, wish: Wish) -> None:
        """`agentctl cancel`."""
        await self._at_node(wish.node, lambda it: it.cancel(wish.id))

    async def _at_node(
        self, name: str, call: Callable[[Any], Awaitable[Any]], door: str = "commands"
    ) -> None:
        daemon = self._nodes[name].daemon
        if daemon is None or daemon.commands is None:
            raise CoreUnreachable("agentd is not running")
        task = daemon.life.spawn(_run(call, getattr(daemon, door)))
        await wait_any(task)
        if task.cancelled():
            raise CoreUnreachable("agentd was killed")
        error = task.exception()
        if isinstance(error, AgentError):
            raise error
        task.result()


async def _run(call: Callable[[Any], Awaitable[Any]], commands: Any) -> None:
    await call(commands)


def _edit(connection: Connection, occasion: Occasion, wish: Wish) -> None:
    row = connection.execute(
        select(actions).where(actions.c.agent_id == wish.node, actions.c.id == wish.id)
    ).first()
    if row is None or row.definition is None or not row.wanted or row.owner != "core":
        raise Refused("not_editable", "withdrawn, or not the core's")
    definition = msgspec.json.decode(row.definition) | wish.values["changes"]
    if definition.get("from_date", "") >= definition.get("to_date", "9"):
        raise Refused("bad_window", "it would be empty")
    definition["revision"] = row.revision + 1
    connection.execute(
        update(actions)
        .where(actions.c.row == row.row)
        .values(revision=row.revision + 1, definition=encode_text(definition))
    )
    enqueue_definition(connection, occasion, wish.node, wish.id)
