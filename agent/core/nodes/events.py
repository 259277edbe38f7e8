"""A push of events, decoded: what of it is new, in which order, and why the rest is refused. Pure.

The number decides the place, the mark the identity: the same mark is the same event, under
whatever epoch it comes; another mark at a known place is another history.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from agent.core.nodes.incoming import Incoming, Unplaceable, read_event
from agent.domain.errors import Fault, Refused
from agent.wire.messages import ERROR_FORKED, ERROR_GAP, EVENTS_PER_PUSH_MAX, GAP, EventsPush


class EventsRefused(Refused):
    """Some of a push was refused; `acked` of it is durable, `expected` is what must come next."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        expected: int | None = None,
        acked: int | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        super().__init__(code, message)
        self.expected = expected
        self.acked = acked
        self.faults = tuple(faults)


@dataclass(slots=True)
class Receipt:
    """What a push did: a refusal is raised after the commit, what came before it is kept."""

    acked: int
    refusal: EventsRefused | None = None
    touched: set[str] = field(default_factory=set)
    stored: int = 0
    redelivered: bool = False
    """Whether something was put into the node's stream by it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A decoded push, up to the first event that has no readable place."""

    agent_epoch: str
    events: tuple[Incoming, ...]
    unplaceable: Fault | None = None


def read_batch(push: EventsPush) -> Batch:
    """Decode every event. Raises `EventsRefused` when there are too many."""
    if len(push.events) > EVENTS_PER_PUSH_MAX:
        raise EventsRefused("bad_events", f"at most {EVENTS_PER_PUSH_MAX} events are taken at once")
    found: list[Incoming] = []
    for index, raw in enumerate(push.events):
        try:
            found.append(read_event(raw))
        except Unplaceable as error:
            return Batch(push.agent_epoch, tuple(found), Fault(f"events[{index}]", str(error)))
    return Batch(push.agent_epoch, tuple(found))


def take_in_order(
    event_seq: int, batch: Sequence[Incoming], known_marks: Collection[str]
) -> tuple[list[Incoming], int, EventsRefused | None]:
    """The events to store, the number reached, and why the rest is not taken. Pure.

    A gap covers `first` to `last`; one that lies behind is a node's fold of what is stored here.
    Raises `EventsRefused`: forked, when a known number comes with an unknown mark; bad_events,
    when one mark names two events of the push.
    """
    fresh: list[Incoming] = []
    taken: dict[str, int] = {}
    for event in batch:
        expected = event_seq + 1
        if event.seq < expected:
            if event.mark not in known_marks and event.mark not in taken and event.type != GAP:
                raise EventsRefused(
                    ERROR_FORKED,
                    f"event {event.seq} is another one here; take a new agent_epoch, send the "
                    "state, then replay what you hold",
                )
            continue
        first = event.values["first"] if event.type == GAP else event.seq
        if first > expected:
            refusal = EventsRefused(
                ERROR_GAP,
                f"event {first} came where {expected} is next",
                expected=expected,
                acked=event_seq,
            )
            return fresh, event_seq, refusal
        if event.mark in taken:
            raise mark_used_twice(f"{taken[event.mark]} and {event.seq} of this push")
        if event.mark not in known_marks:
            fresh.append(event)
            taken[event.mark] = event.seq
        event_seq = event.seq
    return fresh, event_seq, None


def mark_used_twice(where: str) -> EventsRefused:
    """The refusal of events whose marks are no marks."""
    return EventsRefused(
        "bad_events", f"one mark stands for two events, {where}; draw marks at random"
    )
