"""A node of a campaign: takes what it is sent, runs what is due, tells it, and remembers all of it.

It trusts no core: what it must never be sent (what waits for an approval, an older revision than
it has) it notes as found.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agent.domain.instants import parse_instant
from agent.wire.definition import FEATURES
from tests.fakes.plain_node import KIND
from tests.fakes.reporting_node import AT, execution, item
from tests.stress.world import Answer, World

POLL_S = 2.0
PUSHED_AT_ONCE = 20
_FINAL = ("FINISHED", "FAILED", "WONT_START", "WONT_FINISH")
GUARDED = {**KIND, "kind": "careful", "risk_level": "guarded"}


@dataclass(slots=True)
class Held:
    """One action, as the node has it."""

    definition: dict[str, Any]
    status: str = "NULL"

    @property
    def revision(self) -> int:
        return int(self.definition["revision"])


@dataclass(slots=True)
class StressNode:
    """One node: `live` until the world is over, then `settle`."""

    world: World
    id: str
    labels: dict[str, str]
    credential: str = ""
    instance: str = field(default_factory=lambda: secrets.token_hex(6))
    epoch: str = field(default_factory=lambda: secrets.token_hex(6))
    cursor: str = ""
    seq: int = 0
    acked: int = 0
    outbox: list[dict[str, Any]] = field(default_factory=list)
    held: dict[str, Held] = field(default_factory=dict)
    is_away: bool = False
    wants_state: bool = True
    wants_report: bool = True

    async def enroll(self) -> bool:
        """With a new token; again after it was taken out of service."""
        made = await self.world.ask("POST", "/v1/enrollment-tokens", {"node": self.id})
        if not made.is_good:
            return False
        body = {"token": made.body["token"], "nonce": "n", "agent_id": self.id}
        for _ in range(20):
            found = await self.world.ask("POST", "/v1/agents/enroll", body)
            if found.is_good:
                self.credential, self.is_away = found.body["credential"], False
                self.instance = secrets.token_hex(6)
                self.wants_state = self.wants_report = True
                return True
            if found.code not in (0, 503):
                return False
        return False

    async def _ask(self, method: str, what: str, body: Any = None, **more: Any) -> Answer:
        found = await self.world.ask(
            method, f"/v1/agents/{self.id}/{what}", body, token=self.credential,
            headers={"agent-instance": self.instance}, **more,
        )  # fmt: skip
        if found.code in (401, 403):
            self.is_away = True  # out of service, or enrolled anew meanwhile
        elif found.code >= 400 and found.code not in (500, 503):
            self.world.find(f"node {self.id}: {method} {what}: {found.code} {found.body}")
        return found

    async def live(self) -> None:
        """Poll and work."""
        while not self.world.is_over:
            if self.is_away:
                await asyncio.sleep(0.2)
                continue
            await self.turn(POLL_S)
            if self.world.random.random() < 0.02:
                self.labels["shift"] = self.world.random.choice(("day", "night"))
                self.wants_report = True

    async def turn(self, wait_s: float) -> bool:
        """One round of everything; whether nothing happened."""
        is_quiet = True
        if self.wants_report:
            report = {
                "version": "0.1.0", "host": self.id, "catalogue": [KIND, GUARDED],
                "labels": self.labels, "features": sorted(FEATURES),
            }  # fmt: skip
            self.wants_report = not (await self._ask("PUT", "node", report)).is_good
            is_quiet = False
        if self.wants_state:
            await self._put_state()
            is_quiet = False
        query = {"cursor": self.cursor, "wait": f"{wait_s:g}"}
        page = await self._ask("GET", "actions", params=query)
        if page.is_good:
            is_quiet = is_quiet and not page.body["actions"] and not page.body["requests"]
            for definition in page.body["actions"]:
                self._take(definition)
            self.wants_state |= any(one["type"] == "send_state" for one in page.body["requests"])
            self.cursor = page.body["cursor"]
        else:
            is_quiet = False
        self._work()
        return await self._push() and is_quiet

    def _take(self, definition: dict[str, Any]) -> None:
        action_id, revision = definition["id"], definition["revision"]
        self.world.counts["definitions sent"] += 1
        state = (definition.get("approval") or {}).get("state", "approved")
        if state != "approved" and definition.get("should_be_executed", True):
            self.world.find(f"node {self.id} was sent {action_id} whose approval is {state}")
        held = self.held.get(action_id)
        if held is None:
            self.held[action_id] = Held(definition)
        elif revision < held.revision:
            self.world.find(f"{self.id}: {action_id} at {revision} came behind {held.revision}")
        elif revision > held.revision:
            held.definition = definition
        else:
            return
        self._event("definition_applied", action_id, revision=revision, verdict="applied")

    def _work(self) -> None:
        now = datetime.now(UTC)
        for action_id, held in self.held.items():
            if held.status in _FINAL:
                continue
            is_wanted = held.definition.get("should_be_executed", True)
            if not is_wanted and held.status == "NULL":
                self._move(action_id, held, "WONT_START", "withdrawn")
            elif not is_wanted:
                self._move(action_id, held, "WONT_FINISH", "withdrawn")
            elif "schedule" in held.definition:
                continue
            elif held.status == "STARTED":
                is_good = self.world.random.random() < 0.7
                self._move(action_id, held, *(("FINISHED", "exit_zero") if is_good else
                                              ("FAILED", "exit_code")))  # fmt: skip
            elif self._is_due(held, now) and self.world.random.random() < 0.6:
                self._move(action_id, held, "STARTED", "due")

    def _is_due(self, held: Held, now: datetime) -> bool:
        begins = held.definition.get("from_date")
        return begins is None or parse_instant(begins) <= now

    def _move(self, action_id: str, held: Held, to: str, reason: str) -> None:
        was, held.status = held.status, to
        self._event(
            "transition", action_id, **{"from": was}, to=to, reason=reason, attempt=1,
            revision=held.revision, evidence={},
            execution=execution(to, reason=reason, attempt=1),
        )  # fmt: skip

    def _event(self, kind: str, action_id: str, **more: Any) -> None:
        self.seq += 1
        mark = secrets.token_hex(8)
        self.outbox.append(
            {"seq": self.seq, "mark": mark, "type": kind, "at": AT, "action_id": action_id, **more}
        )

    async def _push(self) -> bool:
        """Whether there was nothing to tell."""
        if not self.outbox:
            return True
        some = self.outbox[:PUSHED_AT_ONCE]
        found = await self._ask("POST", "events", {"agent_epoch": self.epoch, "events": some})
        if found.is_good:
            self.acked = found.body["acked"]
            self.outbox = [one for one in self.outbox if one["seq"] > self.acked]
        return False

    async def _put_state(self) -> None:
        told = [
            item(action_id, held.status, revision=held.revision)
            for action_id, held in self.held.items()
        ]
        state = {
            "agent_epoch": self.epoch, "as_of_seq": self.seq, "first_seq": self.acked + 1,
            "cursor": self.cursor, "snapshot": secrets.token_hex(4), "part": 0, "last": True,
            "actions": told,
        }  # fmt: skip
        self.wants_state = not (await self._ask("PUT", "state", state)).is_good

    async def settle(self, until: float) -> bool:
        """Nothing new any more; whether that came to be in time."""
        loop = asyncio.get_running_loop()
        while loop.time() < until and not self.is_away:
            if await self.turn(0.0) and await self.turn(1.0):
                return True
        return self.is_away
