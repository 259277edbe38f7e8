"""Whether a node can run what is dispatched to it, by the catalogue that it reported.

A node that has never reported is believed: it checks for itself when the definition arrives. Here
it is said before anything is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from agent.core.nodes.facts import KindFacts, NodeFacts
from agent.domain.definition import Definition
from agent.domain.errors import Fault
from agent.wire import strict_json
from agent.wire.fields import nearest
from agent.wire.payload_schema import compile_schema, payload_faults

SCHEMAS_KNOWN_MAX = 256  # compiled; a fleet has a few dozen kinds, in two versions at most


class Suiting:
    """The check of one definition against many nodes: what they share is looked at once."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._told: dict[int, tuple[KindFacts, tuple[Fault, ...]]] = {}

    def faults_on(self, node: NodeFacts) -> tuple[Fault, ...]:
        """Why this node cannot run it; none where it can, or where nothing is known of it."""
        if node.kinds is None:
            return ()
        wanted = self._definition
        kind = node.kinds.get(wanted.kind)
        if kind is None:
            hint = nearest(wanted.kind, node.kinds)
            text = f"unknown kind {wanted.kind!r}: not in the node's catalogue{hint}"
            return (Fault("kind", text),)
        faults = self._faults_of(kind)
        lacking = [word for word in wanted.requires if word not in node.features]
        if lacking:
            text = f"the node does not have {', '.join(lacking)}; upgrade it"
            faults = (*faults, Fault("requires", text))
        return faults

    def _faults_of(self, kind: KindFacts) -> tuple[Fault, ...]:
        """By identity: nodes that report the same catalogue share its objects (`selection`).

        The object is kept beside, so that no other one gets its number.
        """
        told = self._told.get(id(kind))
        if told is None:
            told = self._told[id(kind)] = (kind, _kind_faults(kind, self._definition.payload))
        return told[1]


def _kind_faults(kind: KindFacts, payload: Mapping[str, Any]) -> tuple[Fault, ...]:
    if kind.faults:
        return tuple(Fault("kind", f"{kind.kind!r} cannot be started: {t}") for t in kind.faults)
    if kind.payload_schema is None:
        return ()
    return payload_faults(_validator(strict_json.encode(kind.payload_schema)), payload)


@lru_cache(SCHEMAS_KNOWN_MAX)
def _validator(schema: bytes) -> Any:
    return compile_schema(msgspec.json.decode(schema))
