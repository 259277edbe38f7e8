"""Delivering the events of one webhook, in order, from its durable cursor, at least once.

An event is settled only after its receiver said yes, so a kill in between sends it again. After a
failure the webhook is put off and the lease given back. What nobody wants costs no write until
there is much of it; the hub tells when there is something to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from agent.core import log_events
from agent.core.actions.documents import event_document
from agent.core.events import signing, webhooks
from agent.core.events.backoff import next_delay_s
from agent.core.events.beside import Asked, look_beside
from agent.core.events.hub import Ending, Hub, Subscriber
from agent.core.events.patience import Patience
from agent.core.events.reading import Stretch, pruned_up_to, read_after
from agent.core.events.receiver import Outcome, Receiver
from agent.core.events.webhooks import Hook
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow, Store
from agent.core.wakeups import EVENTS, Wakeups
from agent.domain.ids import RandomBits
from agent.domain.instants import format_instant, to_us
from agent.infra.clock import Clock
from agent.wire import strict_json

PAGE = 100
UNWANTED_MAX = 1000  # events passed over before the cursor is written
RENEW_S = 10.0  # a third of the lease


@dataclass(slots=True)
class Tally:
    """What this life of `cored` delivered, for `/metrics`."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0


def message_of(event: AnyRow) -> bytes:
    """What a receiver gets: type and time as the convention has them, then the whole event."""
    document = event_document(event)
    return strict_json.encode(
        {"type": event.type, "timestamp": format_instant(event.stored_at), "data": document}
    )


def message_id(hook_id: str, event_id: int) -> str:
    """The same for every attempt, so that a receiver knows a repetition."""
    return f"msg_{hook_id}_{event_id}"


class Delivery:
    """Serves one webhook at a time per task."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        wakeups: Wakeups,
        hub: Hub,
        receiver: Receiver,
        patience: Patience,
        me: str,
        log: Any,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups
        self._hub = hub
        self._receiver = receiver
        self._patience = patience
        self._me = me
        self._log = log
        self.tally = Tally()

    def _occasion(self) -> Occasion:
        return Occasion(self._clock.now(), self._random_bits)

    async def serve(self, hook: Hook) -> None:
        """Until it fails, is not ours any more, or the core closes."""
        has_rivals = await self._store.read(_has_rivals)
        while not self._wakeups.closing:
            subscriber = await self._hub.join(hook.wanted)
            try:
                found = await self._serve_listening(hook, subscriber, has_rivals=has_rivals)
            finally:
                self._hub.leave(subscriber)
            if found is None or subscriber.ending is Ending.CLOSED:
                return
            hook = found

    async def _serve_listening(
        self, hook: Hook, subscriber: Subscriber, *, has_rivals: bool
    ) -> Hook | None:
        """Deliver and wait, in turns. None: over; else where it was when it fell behind."""
        written = hook.cursor
        while subscriber.ending is None:
            caught_up = await self._deliver_kept(hook)
            if caught_up is None:
                return None
            hook, written = caught_up
            while subscriber.ending is None:
                if await subscriber.take(RENEW_S) or subscriber.ending is not None:
                    break
                hook = replace(hook, cursor=max(hook.cursor, subscriber.reached))
                if has_rivals or hook.cursor - written >= UNWANTED_MAX:
                    if not await self._settle(hook.id, hook.cursor):
                        return None
                    written = hook.cursor
        return hook

    async def _deliver_kept(self, hook: Hook) -> tuple[Hook, int] | None:
        """Everything that is stored; the hook behind it, and the cursor as it was written last."""
        written = hook.cursor
        while True:
            pruned, stretch, rows = await self._store.read(partial(_look, hook=hook))
            if hook.cursor < pruned:
                if not await self._skip(hook, pruned):
                    return None
                hook, written = replace(hook, cursor=pruned), pruned
                continue
            for row in rows:
                if not await self._deliver(hook, row):
                    return None
                hook, written = replace(hook, cursor=row.id, attempts=0), row.id
            hook = replace(hook, cursor=max(hook.cursor, stretch.reached))
            if hook.cursor - written >= UNWANTED_MAX:
                if not await self._settle(hook.id, hook.cursor):
                    return None
                written = hook.cursor
            if stretch.reached >= stretch.head:
                return hook, written

    async def _settle(self, hook_id: str, cursor: int) -> bool:
        now = self._clock.now()
        return await self._store.write(lambda c: webhooks.settle(c, hook_id, self._me, now, cursor))

    async def _skip(self, hook: Hook, pruned: int) -> bool:
        occasion = self._occasion()
        skipped = await self._store.write(
            lambda c: webhooks.skip_pruned(c, occasion, hook, self._me, pruned)
        )
        self._wakeups.notify([EVENTS])
        return skipped

    async def _deliver(self, hook: Hook, event: AnyRow) -> bool:
        """One event, once. True: settled, go on with the next."""
        body = message_of(event)
        outcome = await self.send(hook, message_id(hook.id, event.id), body)
        if outcome.error is None:
            self.tally.delivered += 1
            if hook.attempts:
                self._log.info(log_events.WEBHOOK_RECOVERED, webhook=hook.id)
            return await self._settle(hook.id, event.id)
        self.tally.failed += 1
        if outcome.is_gone:
            return await self._disable(hook)
        if hook.attempts + 1 >= self._patience.attempts_max:
            return await self._give_up(hook, event.id, body, outcome.error)
        await self._postpone(hook, outcome)
        return False

    async def send(self, hook: Hook, name: str, body: bytes) -> Outcome:
        """Sign and hand over."""
        at_s = to_us(self._clock.now()) // 1_000_000
        return await self._receiver.send(
            hook.url, signing.headers_of(hook.secret, name, at_s, body), body
        )

    async def _disable(self, hook: Hook) -> bool:
        occasion = self._occasion()
        self._log.warning(log_events.WEBHOOK_DISABLED, webhook=hook.id, host=hook.host)
        await self._store.write(lambda c: webhooks.disable_gone(c, occasion, hook, self._me))
        self._wakeups.notify([EVENTS])
        return False

    async def _give_up(self, hook: Hook, event_id: int, body: bytes, error: str) -> bool:
        occasion = self._occasion()
        self.tally.given_up += 1
        letter = {
            "event_id": event_id,
            "attempts": hook.attempts + 1,
            "error": error,
            "body": body.decode(),
        }
        self._log.warning(
            log_events.WEBHOOK_GAVE_UP, webhook=hook.id, event_id=event_id, error=error
        )
        return await self._store.write(
            lambda c: webhooks.give_up(c, occasion, hook, self._me, letter)
        )

    async def _postpone(self, hook: Hook, outcome: Outcome) -> None:
        attempts, error = hook.attempts + 1, str(outcome.error)
        delay_s = next_delay_s(
            attempts, self._patience.retry_s, self._random_bits, outcome.retry_after_s
        )
        next_at = self._clock.now() + timedelta(seconds=delay_s)
        if attempts == 1:
            self._log.warning(
                log_events.WEBHOOK_FAILING, webhook=hook.id, host=hook.host, error=error
            )
        await self._store.write(
            lambda c: webhooks.postpone(c, hook.id, self._me, attempts, error, next_at)
        )


def _has_rivals(connection: Connection) -> bool:
    """Whether the lease must be held against others."""
    return connection.dialect.name != "sqlite"


def _look(connection: Connection, *, hook: Hook) -> tuple[int, Stretch, Sequence[AnyRow]]:
    """How far retention came, and the events behind the cursor that the hook wants."""
    stretch = read_after(connection, hook.cursor, PAGE, hook.wanted.node)
    pruned = pruned_up_to(connection)  # behind: a read of events may begin a younger snapshot
    beside = look_beside(connection, stretch.rows, Asked.by([hook.wanted]))
    wanted = [
        row for row, more in zip(stretch.rows, beside, strict=True) if hook.wanted.wants(row, more)
    ]
    return pruned, stretch, wanted
