"""Everything that brings events to somebody, wired together: the hub, the stream, the webhooks."""

from __future__ import annotations

from typing import Any

from agent.core.events.courier import Courier
from agent.core.events.delivery import Delivery
from agent.core.events.hub import Hub
from agent.core.events.patience import Patience
from agent.core.events.receiver import HttpReceiver, Receiver
from agent.core.events.registry import Registry
from agent.core.events.streaming import EventStream
from agent.core.log_events import EVENT_STREAM_FAILED
from agent.core.occasion import Occasion
from agent.core.store.port import Store
from agent.core.wakeups import Wakeups
from agent.domain.ids import RandomBits
from agent.infra.clock import Clock


class Outgoing:
    """The parts; `courier.run()` is the daemon's to start, and `close` to call after it."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        wakeups: Wakeups,
        *,
        log: Any,
        patience: Patience | None = None,
        receiver: Receiver | None = None,
    ) -> None:
        def on_failure(error: BaseException) -> None:
            log.error(EVENT_STREAM_FAILED, exc_info=error)

        me = Occasion(clock.now(), random_bits).new_mark()
        self.receiver: Receiver = receiver or HttpReceiver()
        self.hub = Hub(store, wakeups, on_failure)
        self.stream = EventStream(store, wakeups, self.hub)
        self.delivery = Delivery(
            store=store,
            clock=clock,
            random_bits=random_bits,
            wakeups=wakeups,
            hub=self.hub,
            receiver=self.receiver,
            patience=patience or Patience(),
            me=me,
            log=log,
        )
        self.registry = Registry(store, clock, random_bits, wakeups, self.delivery)
        self.courier = Courier(store, clock, wakeups, self.delivery, me, log)

    async def close(self) -> None:
        """Let go of the connections to receivers."""
        await self.receiver.close()
