"""A node without a runner, over plain HTTP: it enrolls, reports a catalogue, does as it is told.

For tests of programs that talk to the core: what they dispatch must end somehow.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx

from agent.wire import strict_json
from agent.wire.definition import FEATURES
from tests.fakes.reporting_node import AT, execution

KIND = {
    "kind": "sleep", "risk_level": "safe", "faults": [],
    "payload_schema": {"type": "object", "properties": {"seconds": {"type": "number"}}},
}  # fmt: skip
POLL_S = 0.5


class PlainNode:
    """One enrolled node."""

    def __init__(self, url: str, token: str, name: str | None = None, **labels: str) -> None:
        """`token` is an admin's."""
        self.id = name or f"n-{secrets.token_hex(4)}"
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)
        made = self._call(
            "POST", "/v1/enrollment-tokens", {"node": self.id},
            headers={"authorization": f"Bearer {token}"},
        )  # fmt: skip
        body = {"token": made["token"], "nonce": "n", "agent_id": self.id}
        self.credential: str = self._call("POST", "/v1/agents/enroll", body)["credential"]
        self._client.headers = httpx.Headers(
            {"authorization": f"Bearer {self.credential}", "agent-instance": secrets.token_hex(4)}
        )
        self._epoch, self._seq, self._cursor = secrets.token_hex(4), 0, ""
        self.report([KIND], **labels)
        state = {"agent_epoch": self._epoch, "as_of_seq": 0, "first_seq": 1}
        self._call("PUT", self._path("state"), state)

    def _path(self, name: str) -> str:
        return f"/v1/agents/{self.id}/{name}"

    def _call(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        content = None if body is None else strict_json.encode(body)
        answer = self._client.request(method, path, content=content, **more)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def report(self, catalogue: Sequence[Any], **labels: str) -> None:
        """What it can do."""
        report = {
            "version": "0.1.0", "host": self.id, "catalogue": list(catalogue), "labels": labels,
            "features": sorted(FEATURES),
        }  # fmt: skip
        self._call("PUT", self._path("node"), report)

    def pull(self, wait_s: float = 0.0) -> list[Any]:
        """New definitions."""
        query = {"cursor": self._cursor, "wait": f"{wait_s:g}"}
        page = self._call("GET", self._path("actions"), params=query)
        self._cursor = page["cursor"]
        found: list[Any] = page["actions"]
        return found

    def run(self, action_id: str, *, to: str = "FINISHED", **told: Any) -> None:
        """Start it and end it."""
        self.move(action_id, "NULL", "STARTED", "due")
        self.move(action_id, "STARTED", to, "exit_zero", exit_code=0, **told)

    def move(self, action_id: str, was: str, to: str, reason: str, **told: Any) -> None:
        """One transition, stored at the core when this returns."""
        self._seq += 1
        event = {
            "seq": self._seq, "mark": secrets.token_hex(8), "type": "transition", "at": AT,
            "action_id": action_id, "from": was, "to": to, "reason": reason, "attempt": 1,
            "revision": 1, "execution": execution(to, reason=reason, attempt=1, **told),
            "evidence": {},
        }  # fmt: skip
        push = {"agent_epoch": self._epoch, "events": [event]}
        self._call("POST", self._path("events"), push)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Runs at once whatever is due, in a thread of its own."""
        busy = True

        def work() -> None:
            while busy:
                for definition in self.pull(POLL_S):
                    if "from_date" not in definition and definition.get("should_be_executed", True):
                        self.run(definition["id"])

        thread = Thread(target=work, name=f"node-{self.id}")
        thread.start()
        try:
            yield
        finally:
            busy = False
            thread.join(30)
