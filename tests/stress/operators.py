"""People in a hurry: whatever the core can be asked for, at random, of several of them at once.

What was answered is noted; of what was not (a core was killed) only that nobody knows.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.domain.instants import format_instant
from tests.stress.node import StressNode
from tests.stress.world import Answer, World

ZONES = ("east", "west")
PAUSE_S = 0.02
KNOWN_MAX = 400  # the newest that are changed again; old ones have ended
STORED = ("queued", "scheduled", "pending_approval")


@dataclass(slots=True)
class Books:
    """What was answered."""

    actions: dict[str, str | None] = field(default_factory=dict)
    """By id, the node; None where only the id is known."""
    never: set[str] = field(default_factory=set)
    """Ids of dispatches that were refused or suppressed: there is nothing of them."""
    correlations: list[str] = field(default_factory=list)
    recurring: list[str] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    """Recurring ones whose end was answered."""


class Operators:
    """What one of them does next: `work` until the world is over."""

    def __init__(self, world: World, nodes: list[StressNode], books: Books) -> None:
        self._world = world
        self._random = world.random
        self._nodes = nodes
        self._books = books
        self._ways: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (12, self._dispatch), (3, self._to_many), (2, self._batch), (6, self._cancel),
            (3, self._cancel_many), (3, self._reschedule), (8, self._answer), (3, self._retry),
            (2, self._freeze), (2, self._thaw), (4, self._label), (3, self._new_recurring),
            (8, self._change_recurring), (1, self._end_node), (2, self._nudge), (4, self._look),
        ]  # fmt: skip

    async def work(self) -> None:
        """One thing after the other."""
        weights = [weight for weight, _ in self._ways]
        while not self._world.is_over:
            [(_, way)] = self._random.choices(self._ways, weights)
            await way()
            self._world.counts[way.__name__.strip("_")] += 1
            await asyncio.sleep(self._random.random() * PAUSE_S)

    def _some_node(self) -> StressNode:
        return self._random.choice(self._nodes)

    def _some_action(self) -> str:
        known = list(self._books.actions)[-KNOWN_MAX:]
        return self._random.choice(known) if known else "none"

    def _document(self) -> dict[str, Any]:
        made: dict[str, Any] = {"kind": self._random.choice(("sleep", "sleep", "careful"))}
        if self._random.random() < 0.4:
            made["from_date"] = self._soon()
        if self._random.random() < 0.3:
            made["dedup_key"] = f"key-{self._random.randrange(20)}"
            made["dedup_ttl_s"] = 2
        return made

    def _soon(self) -> str:
        later = timedelta(seconds=self._random.choice((1, 2, 5, 3600)))
        return format_instant(datetime.now(UTC) + later)

    def _note(self, answer: Any) -> None:
        """What of an answer is to be stored."""
        if answer.get("outcome") in STORED and "action_id" in answer and "actions" not in answer:
            self._books.actions[answer["action_id"]] = answer.get("node")
        for one in answer.get("actions", []):
            if one["outcome"] in STORED:
                self._books.actions[one["action_id"]] = one["node"]

    async def _dispatch(self) -> None:
        name = f"a-{secrets.token_hex(5)}"
        target = {"node": self._some_node().id}
        found = await self._world.ask("POST", "/v1/dispatch", {**self._document(), **target,
                                                               "id": name})  # fmt: skip
        if found.is_good and found.body["outcome"] in STORED:
            self._books.actions[name] = target["node"]
        elif found.code not in (0, 503):
            self._books.never.add(name)

    async def _to_many(self) -> None:
        together = f"c-{secrets.token_hex(4)}"
        pick = {"pick": "any"} if self._random.random() < 0.3 else {}
        body = {**self._document(), "labels": {"zone": self._random.choice(ZONES)},
                "correlation_id": together, **pick}  # fmt: skip
        found = await self._world.ask("POST", "/v1/dispatch", body)
        if found.is_good:
            self._books.correlations.append(together)
            self._note(found.body)

    async def _batch(self) -> None:
        together = f"b-{secrets.token_hex(4)}"
        some = [
            {**self._document(), "node": self._some_node().id, "correlation_id": together}
            for _ in range(self._random.randrange(1, 15))
        ]
        some.append({**self._document(), "selector": "zone in (east, west)"})
        found = await self._world.ask("POST", "/v1/dispatch/batch", {"actions": some})
        if found.is_good:
            self._books.correlations.append(together)
            for one in found.body["results"]:
                self._note(one)

    async def _cancel(self) -> None:
        body = {"if_started": self._random.choice(("stop", "refuse"))}
        await self._world.ask("POST", f"/v1/actions/{self._some_action()}/cancel", body)

    async def _cancel_many(self) -> None:
        if self._books.correlations:
            together = self._random.choice(self._books.correlations[-20:])
            await self._world.ask("POST", "/v1/actions/cancel",
                                  {}, params={"correlation_id": together})  # fmt: skip

    async def _reschedule(self) -> None:
        path = f"/v1/actions/{self._some_action()}/reschedule"
        await self._world.ask("POST", path, {"from_date": self._soon()})

    async def _answer(self) -> None:
        query = {"state": "pending", "limit": "50"}
        found = await self._world.ask("GET", "/v1/approvals", params=query)
        if found.is_good and found.body["approvals"]:
            one = self._random.choice(found.body["approvals"])
            word = self._random.choice(("approve", "approve", "reject"))
            await self._world.ask("POST", f"/v1/approvals/{one['id']}/{word}", {})

    async def _retry(self) -> None:
        found = await self._world.ask("POST", f"/v1/actions/{self._some_action()}/retry", {})
        if found.is_good:
            self._note(found.body)

    async def _freeze(self) -> None:
        body = {"selector": f"zone={self._random.choice(ZONES)}", "reason": "stress"}
        await self._world.ask("POST", "/v1/agents/freeze", body)

    async def _thaw(self) -> None:
        body = {"selector": f"zone={self._random.choice(ZONES)}"}
        await self._world.ask("POST", "/v1/agents/thaw", body)

    async def _label(self) -> None:
        labels = {"zone": self._random.choice(ZONES)}
        await self._world.ask("PATCH", f"/v1/agents/{self._some_node().id}", {"labels": labels})

    async def _nudge(self) -> None:
        await self._world.ask("POST", f"/v1/agents/{self._some_node().id}/nudge", {})

    async def _look(self) -> None:
        await self._world.ask("GET", "/v1/actions", params={"limit": "20"})
        await self._world.ask("GET", f"/v1/actions/{self._some_action()}")

    async def _new_recurring(self) -> None:
        name = f"r-{secrets.token_hex(4)}"
        body: dict[str, Any] = {
            "id": name, "kind": self._random.choice(("sleep", "sleep", "careful")),
            "schedule": {"every": "1h"},
        }  # fmt: skip
        if self._random.random() < 0.6:
            body["selector"] = f"zone={self._random.choice(ZONES)}"
        else:
            body["node"] = self._some_node().id
        way = self._random.choice(("/v1/recurring", "/v1/dispatch"))
        if (await self._world.ask("POST", way, body)).is_good:
            self._books.recurring.append(name)

    async def _change_recurring(self) -> None:
        if not self._books.recurring:
            return
        name = self._random.choice(self._books.recurring[-6:])
        path = f"/v1/recurring/{name}"
        verb = self._random.choice(("pause", "resume", "run", "edit", "move", "cancel", "delete"))
        if verb == "cancel":
            self._ended(name, await self._world.ask("POST", f"/v1/actions/{name}/cancel", {}))
        elif verb == "delete":
            if self._random.random() < 0.4:
                self._ended(name, await self._world.ask("DELETE", path))
        elif verb == "edit":
            body = {"kind": "sleep", "schedule": {"every": f"{self._random.randrange(2, 9)}h"}}
            await self._world.ask("PUT", path, body)
        elif verb == "move":
            body = {"kind": "sleep", "schedule": {"every": "1h"},
                    "selector": f"zone={self._random.choice(ZONES)}"}  # fmt: skip
            await self._world.ask("PUT", path, body)
        else:
            await self._world.ask("POST", f"{path}/{verb}", {})

    def _ended(self, name: str, found: Answer) -> None:
        if found.is_good:
            self._books.deleted.add(name)

    async def _end_node(self) -> None:
        node = self._some_node()
        if node.is_away:
            await node.enroll()
            return
        found = await self._world.ask(
            "POST", f"/v1/agents/{node.id}/decommission", {"reason": "stress"}
        )
        if found.is_good or found.code in (0, 503):
            await asyncio.sleep(self._random.random())
            for _ in range(10):
                if await node.enroll():
                    return
                await asyncio.sleep(0.5)
