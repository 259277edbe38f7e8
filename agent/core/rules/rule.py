"""One rule, what it is asked about, and what it found. Values only.

A `Scene` is one dispatch to one node as rules see it: plain JSON. What is costly to derive from it
is derived once, when the first rule wants it, and shared by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from agent.core.rules.verdict import Verdict
from agent.domain.instants import format_instant

PRIORITY_DEFAULT = 100
PRIORITY_MIN, PRIORITY_MAX = -1_000_000, 1_000_000
NAME_CHARS_MAX = 128
DESCRIPTION_CHARS_MAX = 1024
_OTHER_NAMES = {"kind": "action_type", "id": "action_id"}
"""Seed 004's words beside ours: a rule may use either."""


class RuleFailed(Exception):
    """A rule could not be evaluated on this action; the text says why. Never taken for a no."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the data of a scene is, for the bound on what walks it."""

    entries: int
    """All members and items, at every level."""
    longest: int
    """Members or items of the largest object or list."""
    text_bytes: int
    """The longest text."""


class Scene:
    """What the condition of a rule may look at: `action`, `node` and `now`."""

    def __init__(self, action: Mapping[str, Any], node: Mapping[str, Any], now: datetime) -> None:
        self.action = dict(action)
        for name, other in _OTHER_NAMES.items():
            if name in self.action:
                self.action.setdefault(other, self.action[name])
        self.node = dict(node)
        self.now = now

    @cached_property
    def roots(self) -> dict[str, Any]:
        """The three as the fields of a YAML condition begin."""
        return {"action": self.action, "node": self.node, "now": format_instant(self.now)}

    @cached_property
    def shape(self) -> Shape:
        """Measured over `action` and `node`."""
        entries = longest = text_bytes = 0
        for value in _walk([self.action, self.node]):
            if isinstance(value, str):
                text_bytes = max(text_bytes, len(value.encode("utf-8", "surrogatepass")))
            elif isinstance(value, dict | list):
                entries += len(value)
                longest = max(longest, len(value))
        return Shape(entries, longest, text_bytes)

    @cached_property
    def context(self) -> Any:
        """The scene as CEL has it."""
        from agent.core.rules.cel_program import context_of  # noqa: PLC0415  (it knows of scenes)

        return context_of(self)


def _walk(todo: list[Any]) -> Iterator[Any]:
    while todo:
        value = todo.pop()
        yield value
        if isinstance(value, dict):
            todo.extend(value)
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found: the verdict where it matches, and always why."""

    verdict: Verdict | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule as it was loaded. `find` raises `RuleFailed`."""

    name: str
    file: str
    line: int
    find: Callable[[Scene], Finding]
    priority: int = PRIORITY_DEFAULT
    description: str | None = None
    is_enabled: bool = True
    says: str = ""
    """What it may decide, for lists: `schedule`, or `schedule | allow`."""

    @property
    def place(self) -> str:
        """`scheduled.yaml:3`."""
        return f"{self.file}:{self.line}"
