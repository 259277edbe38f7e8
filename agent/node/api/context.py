"""The daemon's parts as the endpoints need them; put together in `agent.node.daemon`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agent.domain.recurring import Place
from agent.infra.clock import Clock
from agent.node.api.access import Access
from agent.node.catalogue import Kinds
from agent.node.commands import Commands
from agent.node.control import Control
from agent.node.doctor.examination import Doctor
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.metrics import Metrics
from agent.node.ports import Runner, Store
from agent.node.recurring_commands import RecurringCommands
from agent.node.scrape import Scrape
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
    recurring: RecurringCommands
    place: Place
    control: Control
    status: Status
    clock: Clock
    access: Access
    doctor: Doctor
    scrape: Scrape
    sync_now: Callable[[], Awaitable[dict[str, Any]]]
    on_failure: Callable[[str, str, str, BaseException], None]

    @property
    def metrics(self) -> Metrics:
        """What this life counts."""
        return self.engine.metrics
