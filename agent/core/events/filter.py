"""Which events somebody wants to hear of: a stream's subscriber, or a webhook. Pure.

An event carries its node, its type and its action's id. What a filter asks of the action (kind,
correlation) or of the node (labels) is looked up beside it, and only while somebody asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.core.nodes.selector import TEXT_CHARS_MAX as SELECTOR_CHARS_MAX
from agent.core.nodes.selector import Selector, parse_selector
from agent.core.store.port import AnyRow
from agent.domain.errors import Fault, InvalidDocument, shown

TYPES_MAX = 50
_TYPE = re.compile(r"[a-z_]{1,64}")
TEXT_CHARS_MAX = 256
MEMBERS = ("node", "selector", "type", "action_id", "correlation_id", "kind")


@dataclass(frozen=True, slots=True)
class Beside:
    """What an event does not carry itself, as far as it was looked up."""

    kind: str | None = None
    correlation_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


NOTHING = Beside()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """All that is given must hold; nothing given: everything."""

    node: str | None = None
    selector: Selector | None = None
    types: frozenset[str] = frozenset()
    action_id: str | None = None
    correlation_id: str | None = None
    kind: str | None = None

    @property
    def asks_for_action(self) -> bool:
        """Whether the action's row is needed to judge."""
        return self.kind is not None or self.correlation_id is not None

    @property
    def asks_for_labels(self) -> bool:
        """Whether the node's labels are needed to judge."""
        return self.selector is not None

    def wants(self, event: AnyRow, beside: Beside = NOTHING) -> bool:
        """Whether the event passes."""
        if self.types and event.type not in self.types:
            return False
        if self.node is not None and event.agent_id != self.node:
            return False
        if self.action_id is not None and event.action_id != self.action_id:
            return False
        if self.kind is not None and beside.kind != self.kind:
            return False
        if self.correlation_id is not None and beside.correlation_id != self.correlation_id:
            return False
        if self.selector is None:
            return True
        return bool(event.agent_id) and self.selector.matches(beside.labels)


EVERYTHING = EventFilter()


def read_filter(given: Mapping[str, Any]) -> EventFilter:
    """From texts; `type` is a list or has commas. Raises `InvalidDocument` with every fault."""
    faults: list[Fault] = []
    texts = {name: _text(given, name, faults) for name in MEMBERS if name != "type"}
    types = _types(given.get("type"), faults)
    selector: Selector | None = None
    if texts["selector"] is not None:
        try:
            selector = parse_selector(texts["selector"])
        except ValueError as error:
            faults.append(Fault("selector", str(error)))
    faults += [
        Fault(name, f"is not something to filter by; known are {', '.join(MEMBERS)}")
        for name in given
        if name not in MEMBERS
    ]
    if faults:
        raise InvalidDocument(faults)
    return EventFilter(
        node=texts["node"],
        selector=selector,
        types=types,
        action_id=texts["action_id"],
        correlation_id=texts["correlation_id"],
        kind=texts["kind"],
    )


def filter_document(wanted: EventFilter) -> dict[str, Any]:
    """As it is stored and shown; only what was given."""
    found = {
        "node": wanted.node,
        "selector": None if wanted.selector is None else str(wanted.selector),
        "type": sorted(wanted.types) or None,
        "action_id": wanted.action_id,
        "correlation_id": wanted.correlation_id,
        "kind": wanted.kind,
    }
    return {name: value for name, value in found.items() if value is not None}


def _text(given: Mapping[str, Any], name: str, faults: list[Fault]) -> str | None:
    value = given.get(name)
    if value is None:
        return None
    most = SELECTOR_CHARS_MAX if name == "selector" else TEXT_CHARS_MAX
    if not isinstance(value, str) or not 1 <= len(value) <= most or "\0" in value:
        faults.append(Fault(name, f"must be a text of 1 to {most} characters, not {shown(value)}"))
        return None
    return value


def _types(value: Any, faults: list[Fault]) -> frozenset[str]:
    if value is None:
        return frozenset()
    many = value.split(",") if isinstance(value, str) else value
    if not isinstance(many, list) or not 1 <= len(many) <= TYPES_MAX:
        faults.append(
            Fault("type", f"must be a list of 1 to {TYPES_MAX} event types, not {shown(value)}")
        )
        return frozenset()
    words = [one.strip() if isinstance(one, str) else one for one in many]
    for word in words:
        if not isinstance(word, str) or not _TYPE.fullmatch(word):
            faults.append(Fault("type", f"{shown(word)} is no event type, such as transition"))
            return frozenset()
    return frozenset(words)
