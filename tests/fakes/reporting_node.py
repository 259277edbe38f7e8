"""A node as the core sees one: it numbers and marks its events, and remembers its cursor."""

from __future__ import annotations

import secrets
from typing import Any

from tests.fakes.core_backends import Backend

AT = "2026-03-01T12:00:00Z"


def execution(status: str, **more: Any) -> dict[str, Any]:
    """An execution document; only what differs from nothing is given."""
    return {
        "execution_status": status, "reason": None, "attempt": 0, "started_at": None,
        "ended_at": None, "exit_code": None, "signal": None, "error": None, "verdict": None,
        "output": None, **more,
    }  # fmt: skip


class ReportingNode:
    """One enrolled node of a test."""

    def __init__(self, backend: Backend, agent_id: str, credential: str) -> None:
        self.backend = backend
        self.id = agent_id
        self.credential = credential
        self.instance = secrets.token_hex(8)
        self.epoch = secrets.token_hex(8)
        self.cursor = ""
        self.seq = 0
        self.made: list[dict[str, Any]] = []

    @classmethod
    async def enrolled(cls, backend: Backend, *, state: bool = True) -> ReportingNode:
        """A new node; `state` False: that has not said anything yet."""
        name = f"n-{secrets.token_hex(5)}"
        body = {"token": await backend.token(None), "nonce": "n", "agent_id": name}
        answer = await backend.enroll(body)
        node = cls(backend, answer["agent_id"], answer["credential"])
        if state:
            await node.put_state([])
        return node

    @property
    def who(self) -> tuple[str, str, str]:
        return self.id, self.credential, self.instance

    def restarted(self) -> None:
        """Another start of agentd."""
        self.instance = secrets.token_hex(8)

    async def pull(self, wait: float = 0.0, *, cursor: str | None = None) -> dict[str, Any]:
        """Pull and keep the cursor, as after a commit."""
        answer = await self.backend.pull(self.who, self.cursor if cursor is None else cursor, wait)
        self.cursor = answer["cursor"]
        return answer

    def event(self, kind: str, action_id: str | None = None, **more: Any) -> dict[str, Any]:
        """The next event."""
        self.seq += 1
        made = {"seq": self.seq, "mark": secrets.token_hex(8), "type": kind, "at": AT, **more}
        if action_id is not None:
            made["action_id"] = action_id
        self.made.append(made)
        return made

    def moved(self, action_id: str, was: str, to: str, reason: str, **more: Any) -> dict[str, Any]:
        """The next event: a transition."""
        return self.event(
            "transition", action_id, **{"from": was}, to=to, reason=reason,
            attempt=more.get("attempt", 1), revision=1,
            execution=execution(to, reason=reason, **more), evidence={},
        )  # fmt: skip

    def ran(self, action_id: str) -> list[dict[str, Any]]:
        """Start and end."""
        return [
            self.moved(action_id, "NULL", "STARTED", "due", attempt=1),
            self.moved(action_id, "STARTED", "FINISHED", "exit_zero", attempt=1, exit_code=0),
        ]

    def created(self, action_id: str, status: str = "NULL") -> dict[str, Any]:
        """The next event: an action of the node's own."""
        return self.event(
            "local_definition", action_id,
            definition={"id": action_id, "kind": "local", "owner": "node", "revision": 1},
            execution=execution(status),
        )  # fmt: skip

    def applied(self, action_id: str, revision: int, verdict: str) -> dict[str, Any]:
        """The next event: a definition arrived."""
        return self.event("definition_applied", action_id, revision=revision, verdict=verdict)

    async def push(self, *events: dict[str, Any], epoch: str | None = None) -> dict[str, Any]:
        """Push them, or all that were made."""
        body = {"agent_epoch": epoch or self.epoch, "events": list(events or self.made)}
        return await self.backend.events(self.who, body)

    async def put_state(self, actions: list[Any], **more: Any) -> dict[str, Any]:
        """Put a state in one part."""
        body = {
            "agent_epoch": self.epoch, "as_of_seq": self.seq, "first_seq": self.seq + 1,
            "cursor": self.cursor, "snapshot": secrets.token_hex(4), "part": 0, "last": True,
            "actions": actions,
        } | more  # fmt: skip
        return await self.backend.state(self.who, body)


def item(action_id: str, status: str = "NULL", *, owner: str = "core", revision: int = 1,
         definition: Any = None, **more: Any) -> dict[str, Any]:  # fmt: skip
    """One action of a state."""
    document = {"action_id": action_id, "revision": revision, "owner": owner,
                "execution": execution(status, **more)}  # fmt: skip
    return document if definition is None else document | {"definition": definition}
