"""The core as sync sees it: five calls and three ways to fail."""

from __future__ import annotations

from typing import Protocol

from agent.domain.errors import AgentError
from agent.wire.messages import (
    Enrolled,
    EventsAck,
    EventsPush,
    NodeReport,
    PullAnswer,
    StatePush,
)


class CoreUnreachable(AgentError):
    """No usable answer: down, a timeout, a proxy's page, too busy. Worth trying again later.

    `retry_after_s` is what the core asked for; `cut` says that a waiting poll was cut off.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, cut: bool = False
    ) -> None:
        self.retry_after_s = retry_after_s
        self.cut = cut
        super().__init__(message)


class CoreRefused(AgentError):
    """The core answered and refuses; the same call will be refused again.

    `code` is the protocol's word: fenced, forked, gap (with `expected`), unauthorized …
    """

    def __init__(self, code: str, message: str, expected: int | None = None) -> None:
        self.code = code
        self.expected = expected
        super().__init__(message)


class Core(Protocol):
    """The node protocol (docs/protocol.md), with this node's identity inside."""

    async def enroll(self, token: str, nonce: str, agent_id: str | None) -> Enrolled:
        """Exchange a single-use token for a credential."""
        ...

    async def pull(self, cursor: str, wait_s: float) -> PullAnswer:
        """Definitions and requests after `cursor`, waiting up to `wait_s` for some."""
        ...

    async def push_events(self, push: EventsPush) -> EventsAck:
        """Hand over events; returns what is durable there."""
        ...

    async def put_state(self, push: StatePush) -> None:
        """Hand over (a part of) everything this node has."""
        ...

    async def put_node(self, report: NodeReport) -> None:
        """Say what this node is."""
        ...
