"""The fields that rules may look at: which there are, and slips of the hand told when loaded.

An action may have members of its own, so only one that is almost ours is a fault; a node has these
and no others.
"""

from __future__ import annotations

from agent.core.nodes.facts import NodeFacts
from agent.wire.definition import FIELDS, OWN_PREFIX, SLIP_CUTOFF
from agent.wire.fields import NAME_CHARS_MAX, nearest, snake_case

ACTION_FIELDS = frozenset({*FIELDS, "action_type", "action_id"})
NODE_FIELDS = frozenset(NodeFacts(id="", labels={}).for_rules())


def fault_of_field(root: str, name: str) -> str | None:
    """What is wrong with `root.name`, if anything; roots other than ours are not judged."""
    shown_name = name[:NAME_CHARS_MAX]
    if root == "node" and name not in NODE_FIELDS:
        known = ", ".join(sorted(NODE_FIELDS))
        return f"a node has no {shown_name!r}{nearest(name, NODE_FIELDS) or f'; it has {known}'}"
    if root == "action" and name not in ACTION_FIELDS and not name.startswith(OWN_PREFIX):
        hint = nearest(snake_case(shown_name), ACTION_FIELDS, SLIP_CUTOFF)
        return f"an action has no {shown_name!r}{hint}" if hint else None
    return None
