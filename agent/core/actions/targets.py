"""Where a dispatch goes: one node, all nodes of a selector, or any one of them.

Pure; `resolving` looks the nodes up. Also the settings are read with this, which must not need the
core's libraries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.core.nodes.selector import Selector, parse_selector
from agent.domain.errors import Fault, shown
from agent.domain.ids import is_id
from agent.wire import fields as f

ALL, ANY = "all", "any"
ANY_PREFIX = "any:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A node, or a selector; `said_in` is the member of the document that named it."""

    node: str | None = None
    selector: Selector | None = None
    picks_any: bool = False
    said_in: str = "node"

    @property
    def is_one(self) -> bool:
        """Whether it is one action, answered as one, whatever matches."""
        return self.node is not None or self.picks_any

    def __str__(self) -> str:
        prefix = ANY_PREFIX if self.picks_any else ""
        return f"{prefix}{self.node or self.selector}"


def read_target(
    document: Mapping[str, Any], default: Target | None
) -> tuple[Target | None, list[Fault]]:
    """`node`, `selector`, `labels` and `pick` of a dispatch; None where there are faults."""
    node, selector = document.get("node"), document.get("selector")
    pick, faults = _read_pick(document.get("pick"))
    if node is not None:
        if selector is not None:
            faults.append(Fault("selector", "node and selector exclude each other; give one"))
        if pick is not None:
            faults.append(Fault("pick", "is for a selector; there is one node only"))
        if not (isinstance(node, str) and is_id(node)):
            faults.append(Fault("node", f"{shown(node)} is not the id of a node"))
        return (None if faults else Target(node=node)), faults
    found, said_in = None, "selector"
    try:
        if selector is not None:
            found = parse_selector(f.text(4096)(selector))
        elif document.get("labels"):
            said_in = "labels"
            found = _of_labels(document["labels"])
    except ValueError as error:
        return None, [*faults, Fault(said_in, str(error))]
    if found is not None:
        return Target(selector=found, picks_any=pick == ANY, said_in=said_in), faults
    if default is not None and pick is None:
        return default, faults
    faults.append(
        Fault("node", "is missing; name the node that is to run it, or nodes by selector or labels")
    )
    return None, faults


def _read_pick(raw: Any) -> tuple[str | None, list[Fault]]:
    if raw is None or raw in (ALL, ANY):
        return raw, []
    return None, [Fault("pick", f"{shown(raw)} is not one of {ALL}, {ANY}")]


def _of_labels(raw: Any) -> Selector | None:
    """The labels as a selector; None where they are no labels, which the definition tells."""
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        return None
    return Selector.from_labels(raw)


def parse_default_target(text: Any) -> Target:
    """The setting: `NODE`, or a selector (it has a `=`), which `any:` may precede.

    Raises ValueError with what is wrong.
    """
    if not isinstance(text, str):
        raise ValueError(f"must be text, not {shown(text)}")
    rest = text.removeprefix(ANY_PREFIX)
    if "=" in rest or rest != text:
        selector = parse_selector(rest)
        return Target(selector=selector, picks_any=rest != text, said_in="default_target")
    if not is_id(rest):
        raise ValueError(f"{shown(text)} is neither the id of a node nor a selector such as k=v")
    return Target(node=rest, said_in="default_target")
