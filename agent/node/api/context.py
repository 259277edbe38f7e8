"""The daemon's parts as the endpoints need them; put together in `agent.node.daemon`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agent.infra.clock import Clock
from agent.node.api.access import Access
from agent.node.catalogue import Kinds
from agent.node.commands import Commands
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.ports import Runner, Store
from agent.node.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything an endpoint may touch."""

    store: Store
    engine: Engine
    hands: Hands
    runner: Runner
    kinds: Kinds
    commands: Commands
    status: Status
    clock: Clock
    access: Access
    sync_now: Callable[[], Awaitable[dict[str, Any]]]
    on_failure: Callable[[str, str, str, BaseException], None]
