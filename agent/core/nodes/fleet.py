"""What operators do with nodes as a whole: label, freeze, thaw, take out of service; tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from agent.core.nodes import enrolment_tokens
from agent.core.nodes.decommission import decommission
from agent.core.nodes.editing import edit, read_edit
from agent.core.nodes.freeze_views import listed
from agent.core.nodes.freezes import Freezing, Thawing, freeze, thaw
from agent.core.nodes.presence import Presence
from agent.core.nodes.selector import Selector, parse_selector
from agent.core.occasion import Occasion
from agent.core.store.port import Store
from agent.core.wakeups import EVENTS, Wakeups, action_topic, agent_topic
from agent.domain.brake import REASON_CHARS_MAX
from agent.domain.errors import Fault, InvalidDocument
from agent.domain.ids import RandomBits
from agent.domain.instants import format_instant
from agent.infra.clock import Clock
from agent.wire import fields as f
from agent.wire.brake import FOR_S_MAX, FOR_S_MIN
from agent.wire.fields import Field, read_closed

OVER_SHOWN_MAX = 100


def selector(value: Any) -> Selector:
    """A selector in a body. Raises `ValueError`."""
    return parse_selector(f.text(4096)(value))


def _reason(value: Any) -> str:
    given: str = f.text(REASON_CHARS_MAX)(value).strip()
    if not given:
        raise ValueError("is empty; whoever is held up wants to know why")
    return given


_WHOM = {"selector": Field(selector), "node": Field(f.action_id)}
_FREEZE = _WHOM | {
    "kind": Field(f.kind),
    "reason": Field(_reason, required=True),
    "until": Field(f.instant),
    "for_s": Field(f.number(FOR_S_MIN, FOR_S_MAX)),
}
_NOBODY = Fault("selector", "selector and node: one of the two must say which nodes")
_THAW = _WHOM | {"id": Field(f.action_id)}


def whom(values: Mapping[str, Any]) -> Selector:
    """Of `selector` and `node` exactly one. Raises `InvalidDocument`."""
    given = [name for name in _WHOM if name in values]
    if len(given) != 1:
        both = Fault("selector", "selector and node: exclude each other; give one")
        raise InvalidDocument([both if given else _NOBODY])
    return values["selector"] if "selector" in values else Selector.of_node(values["node"])


def read_nudge(document: Any) -> Selector:
    """Which nodes to look at. Raises `InvalidDocument`."""
    return whom(read_closed(document, _WHOM))


def read_freeze(document: Any, now: datetime) -> Freezing:
    """Raises `InvalidDocument` with every fault."""
    try:
        values = read_closed(document, _FREEZE)
    except InvalidDocument as error:
        given = document if isinstance(document, dict) else _WHOM
        unsaid = [] if any(name in given for name in _WHOM) else [_NOBODY]
        raise InvalidDocument([*error.faults, *unsaid]) from None
    faults: list[Fault] = []
    expires_at: datetime | None = values.get("until")
    if expires_at is not None and "for_s" in values:
        faults.append(Fault("until", "is given beside for_s; one of the two says when it ends"))
    if expires_at is not None and expires_at <= now:
        faults.append(Fault("until", f"{format_instant(expires_at)} has passed"))
    if "for_s" in values:
        expires_at = now + timedelta(seconds=values["for_s"])
    try:
        meant = whom(values)
    except InvalidDocument as error:
        faults += error.faults
    if faults:
        raise InvalidDocument(faults)
    return Freezing(
        selector=meant, reason=values["reason"], kind=values.get("kind"), expires_at=expires_at
    )


def read_thaw(document: Any) -> Thawing:
    """Raises `InvalidDocument`."""
    values = read_closed(document, _THAW)
    if "id" not in values:
        return Thawing(selector=whom(values))
    if len(values) > 1:
        raise InvalidDocument([Fault("id", "stands alone: it says which nodes are meant")])
    return Thawing(id=values["id"])


class Fleet:
    """The writes; each is one transaction with its event and its audit line."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        wakeups: Wakeups,
        presence: Presence,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups
        self._presence = presence

    def _occasion(self) -> Occasion:
        return Occasion(self._clock.now(), self._random_bits)

    async def edit(self, agent_id: str, document: Any, by: str) -> None:
        """Labels, and where its API is. Raises `InvalidDocument`, `NotFound`, `Refused`."""
        edits, occasion = read_edit(document), self._occasion()
        is_told = await self._store.write(lambda c: edit(c, occasion, agent_id, edits, by))
        self._woken([agent_id] if is_told else [])

    async def decommission(self, agent_id: str, document: Any, by: str) -> None:
        """Out of service. Raises `InvalidDocument`, `NotFound`."""
        values = read_closed(document, {"reason": Field(_reason, required=True)})
        occasion = self._occasion()
        ended = await self._store.write(
            lambda c: decommission(c, occasion, agent_id, by, values["reason"])
        )
        self._presence.forget(agent_id)
        self._woken([agent_id], ended)  # its open poll is answered that it is not known any more

    async def freeze(self, document: Any, by: str) -> dict[str, Any]:
        """Hold nodes back. Raises `InvalidDocument`, `Refused`."""
        occasion = self._occasion()
        asked = read_freeze(document, occasion.now)
        made, woken = await self._store.write(lambda c: freeze(c, occasion, asked, by))
        self._woken(woken)
        return made

    async def thaw(self, document: Any, by: str) -> dict[str, Any]:
        """Let them go. Raises `InvalidDocument`, `NotFound`."""
        asked, occasion = read_thaw(document), self._occasion()
        ended, woken = await self._store.write(lambda c: thaw(c, occasion, asked, by))
        self._woken(woken)
        return {"freezes": ended}

    async def freezes(self, *, over: bool) -> dict[str, Any]:
        """Those that hold, or the latest of those that are over."""
        now = self._clock.now()
        found = await self._store.read(lambda c: listed(c, now, over=over, limit=OVER_SHOWN_MAX))
        return {"freezes": found}

    async def enrolment_tokens(self, after: str, limit: int) -> dict[str, Any]:
        """A page of them."""
        now = self._clock.now()
        return await self._store.read(lambda c: enrolment_tokens.list_tokens(c, after, limit, now))

    async def revoke_token(self, token_id: str, by: str) -> dict[str, Any]:
        """Take one back. Raises `NotFound`."""
        occasion = self._occasion()

        def work(connection: Connection) -> dict[str, Any]:
            return enrolment_tokens.revoke_token(connection, occasion, token_id, by)

        return await self._store.write(work)

    def _woken(self, agent_ids: Iterable[str], action_ids: Iterable[str] = ()) -> None:
        self._wakeups.notify([EVENTS, *map(agent_topic, agent_ids), *map(action_topic, action_ids)])
