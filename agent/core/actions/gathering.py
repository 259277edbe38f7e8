"""What is wrong on several nodes, as one list: the same fault once, with who has it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.domain.errors import Fault


def gathered(faults_of: Iterable[tuple[str, Sequence[Fault]]]) -> list[Fault]:
    """The faults of these nodes, in the order in which they came first."""
    nodes_of: dict[Fault, list[str]] = {}
    for node, faults in faults_of:
        for fault in faults:
            nodes_of.setdefault(fault, []).append(node)
    return [Fault(fault.path, f"{_on(nodes)}{fault.message}") for fault, nodes in nodes_of.items()]


def _on(nodes: Sequence[str]) -> str:
    """`web-1: ` or `web-1 and 36 more: `."""
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return f"{nodes[0]}{more}: "
