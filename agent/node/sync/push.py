"""The push loop: the outbox to the core, in order, until acknowledged; and healing after a fork."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

from agent.domain.action import Action
from agent.domain.ids import RandomBits, new_mark
from agent.domain.recurring import Recurring, recurring_state
from agent.infra.clock import Clock
from agent.node import log_events
from agent.node.ports import Store
from agent.node.state_pages import behind, state_page
from agent.node.store import events, recurring
from agent.node.store.damage import StoreUnavailable
from agent.node.store.events import Event
from agent.node.store.meta import read_meta, write_meta
from agent.node.sync.backoff import until_reached
from agent.node.sync.pace import Pace
from agent.node.sync.port import Core, CoreRefused, CoreUnreachable
from agent.node.sync.state import SyncState
from agent.wire import strict_json
from agent.wire.definition import encode_definition
from agent.wire.execution import encode_execution
from agent.wire.messages import (
    ERROR_FORKED,
    ERROR_GAP,
    EVENTS_PER_PUSH_MAX,
    STATE_PART_ACTIONS_MAX,
    EventsPush,
    StatePush,
)

PUSH_BYTES_MAX = 1024 * 1024
PUSHES_AT_ONCE = 8  # a whole action is two or three: what happens now and then is told at once
PUSH_EVERY_S = 0.04  # measured: a busy node spares itself and the core a quarter of their work
STORE_RETRY_S = 2.0


class Push:
    """Pushes for ever; woken by `engine.changed` through `wake`."""

    def __init__(
        self, *, core: Core, store: Store, clock: Clock, jitter: Callable[[], float],
        random_bits: RandomBits, state: SyncState, log: Any,
    ) -> None:  # fmt: skip
        self._core = core
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._random_bits = random_bits
        self._state = state
        self._log = log
        self._wake = asyncio.Event()
        self._pace = Pace(PUSHES_AT_ONCE, PUSH_EVERY_S)
        self.on_doubt: Callable[[], None] = lambda: None
        """The core may not know any more what this node told it; who tells it something asks."""
        self.on_reached: Callable[[], None] = lambda: None
        """The core took something: whoever waits before asking it again need not."""

    def wake(self) -> None:
        """There may be something to push."""
        self._wake.set()

    async def run(self) -> None:
        """Push until cancelled or refused for good."""
        while True:
            self._wake.clear()
            owed = (await self._store.read(read_meta)).state_owed
            if owed:
                await self._send_owed_state(owed)
            if self._state.recheck:
                await self._recheck()
            await asyncio.sleep(self._pace.wait_s(self._clock.monotonic()))
            outbox = await self._store.read(_next_batch)
            if outbox is None:
                await self._wake.wait()
                continue
            if not outbox.is_full:  # what waited for the core goes as fast as the core takes it
                self._pace.spend(self._clock.monotonic())
            await self._push(outbox.push)

    async def _send_owed_state(self, owed: int) -> None:
        """A node from a backup may owe it under an epoch that was superseded since: a fork, too."""
        self.on_doubt()
        while True:
            try:
                await self.send_state()
                break
            except CoreRefused as error:
                if error.code == ERROR_FORKED:
                    await self._heal(error)
                    break
                if error.code != ERROR_GAP:  # a late part of an older snapshot came between: again
                    raise
        await self._store.write(partial(_settle_state, owed=owed))

    async def _recheck(self) -> None:
        """Ask what the core has of our events: either side may have been put back to a backup.

        A node with nothing new to say would never find out, and neither would the core.
        """
        self._state.recheck = False
        self.on_doubt()
        meta, newest = await self._store.read(lambda c: (read_meta(c), events.next_seq(c) - 1))
        nothing = EventsPush(agent_epoch=meta.agent_epoch, events=[])
        try:
            acked = (await self._reach(lambda: self._core.push_events(nothing))).acked
            if acked < meta.acked_seq:
                lost = f"the core has events up to {acked} and acknowledged {meta.acked_seq}"
                raise CoreRefused(ERROR_GAP, lost, acked + 1)
            if acked > newest:
                ours = f"the core has events up to {acked}, this node only made {newest}"
                raise CoreRefused(ERROR_FORKED, ours)
        except CoreRefused as error:
            if error.code in (ERROR_GAP, ERROR_FORKED):  # others the next call hears again
                await self._heal(error)

    async def _push(self, outbox: EventsPush) -> None:
        try:
            ack = await self._reach(lambda: self._core.push_events(outbox))
        except CoreRefused as error:
            await self._heal(error)
            return
        self._state.last_push_at = self._clock.now()
        self._state.push_problem = None
        self.on_reached()
        newest: int = outbox.events[-1]["seq"]
        # A core that has more than was ever pushed knows another history of this node: what was
        # not pushed is not acknowledged by it, and the next push finds the fork.
        await self._remember(min(ack.acked, newest))

    async def _remember(self, acked: int) -> None:
        """Failing to note it is harmless: the same events are pushed again and are no-ops there."""
        try:
            await self._store.write(lambda c: _acknowledge(c, acked))
        except StoreUnavailable as error:
            self._state.problem = str(error)
            await asyncio.sleep(STORE_RETRY_S)

    async def _heal(self, error: CoreRefused) -> None:
        """A gap that we hold is sent; anything else is a fork (DESIGN §6). Others are not ours."""
        if error.code == ERROR_GAP and error.expected is not None:
            expected = error.expected
            if await self._store.write(lambda c: _rewind(c, expected)):
                return
        elif error.code != ERROR_FORKED:
            raise error
        epoch = new_mark(self._random_bits)
        self._log.warning(log_events.CORE_FORKED, agent_epoch=epoch, error=str(error))
        await self._store.write(lambda c: write_meta(c, agent_epoch=epoch))
        await self.send_state()

    async def send_state(self) -> None:
        """Everything this node has, in parts. Safe to repeat; events are never skipped by it."""
        head = await self._store.read(_state_head)
        snapshot = new_mark(self._random_bits)
        after: str | None = None
        part = 0
        while True:
            items, after = await self._store.read(partial(_state_part, after=after))
            push = StatePush(
                agent_epoch=head.agent_epoch,
                as_of_seq=head.as_of_seq,
                first_seq=head.first_seq,
                cursor=head.cursor,
                snapshot=snapshot,
                part=part,
                last=after is None,
                actions=items,
            )
            await self._reach(partial(self._core.put_state, push))
            if after is None:
                return
            part += 1

    async def _reach(self, call: Callable[[], Any]) -> Any:
        async for attempt in until_reached(self._jitter, self._unreachable):
            with attempt:
                return await call()
        raise AssertionError("until_reached never gives up")

    def _unreachable(self, error: CoreUnreachable) -> None:
        if self._state.problem is None:
            self._log.warning(log_events.CORE_UNREACHABLE, error=str(error))
        self._state.problem = str(error)


class _Outbox(NamedTuple):
    push: EventsPush
    is_full: bool
    """No more events would have found a place in it."""


def _next_batch(connection: sqlite3.Connection) -> _Outbox | None:
    """The oldest events that are not acknowledged, bounded in number and bytes."""
    meta = read_meta(connection)
    held = events.each_after(connection, meta.acked_seq, EVENTS_PER_PUSH_MAX)
    with closing(held):
        chosen, is_full = _bounded(held)
    if not chosen:
        return None
    return _Outbox(EventsPush(agent_epoch=meta.agent_epoch, events=chosen), is_full)


def _bounded(held: Iterable[Event]) -> tuple[list[Any], bool]:
    chosen: list[Any] = []
    size = 0
    for event in held:
        plain = event.plain()
        size += len(strict_json.encode(plain))
        if chosen and size > PUSH_BYTES_MAX:
            return chosen, True
        chosen.append(plain)
    return chosen, len(chosen) == EVENTS_PER_PUSH_MAX


def _settle_state(connection: sqlite3.Connection, owed: int) -> None:
    """It was sent; unless it was asked for once more meanwhile."""
    if read_meta(connection).state_owed == owed:
        write_meta(connection, state_owed=0)


def _acknowledge(connection: sqlite3.Connection, acked: int) -> None:
    if acked > read_meta(connection).acked_seq:
        write_meta(connection, acked_seq=min(acked, events.next_seq(connection) - 1))


def _rewind(connection: sqlite3.Connection, expected: int) -> bool:
    """Go back to what the core asks for, if it is held without a hole."""
    if not events.oldest_seq(connection) <= expected < events.next_seq(connection):
        return False
    write_meta(connection, acked_seq=expected - 1)
    return True


def _state_head(connection: sqlite3.Connection) -> StatePush:
    """Read before the pages: what changes while they are read is told again by its event."""
    meta = read_meta(connection)
    held = events.after(connection, meta.acked_seq, 1)
    next_seq = events.next_seq(connection)
    return StatePush(
        agent_epoch=meta.agent_epoch,
        as_of_seq=next_seq - 1,
        first_seq=held[0].seq if held else next_seq,
        cursor=meta.cursor,
    )


def _state_part(
    connection: sqlite3.Connection, after: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """The next items of the state, bounded in number and bytes; and the cursor behind them."""
    found = state_page(connection, after, STATE_PART_ACTIONS_MAX)
    held: list[Action | Recurring] = [*found.actions, *found.rules]
    items: list[dict[str, Any]] = []
    size = 0
    for one in held:
        item = _state_item(one) | _stored(connection, one)
        size += len(strict_json.encode(item))
        if items and size > PUSH_BYTES_MAX:
            return items, behind(held[len(items) - 1])
        items.append(item)
    return items, found.next


def _stored(connection: sqlite3.Connection, held: Action | Recurring) -> dict[str, Any]:
    """Where this version cannot read a recurring action: its definition as it is stored."""
    if isinstance(held, Action) or held.definition.schedule is not None:
        return {}
    stored = recurring.stored_definition(connection, held.id)
    return {} if stored is None else {"definition": stored}


def _state_item(held: Action | Recurring) -> dict[str, Any]:
    """A recurring action is among them: the core would call what is absent lost."""
    if isinstance(held, Recurring):
        standing = Action(row=0, definition=held.definition, accepted_at=held.accepted_at)
        return _state_item(standing) | {"recurring": recurring_state(held)}
    action, definition = held, held.definition
    return {
        "action_id": definition.id,
        "revision": definition.revision,
        "owner": definition.owner.value,
        "definition": encode_definition(definition),
        "execution": encode_execution(action),
    }
