"""What a decision about a dispatch may know of a node: its name, labels, catalogue and health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.domain.definition import RiskLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """One kind of a node's catalogue, as the node reported it."""

    kind: str
    risk_level: RiskLevel | None = None
    payload_schema: Mapping[str, Any] | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """One node. `kinds` is None until it has reported for the first time."""

    id: str
    labels: Mapping[str, str]
    version: str | None = None
    host: str | None = None
    is_silent: bool = False
    features: frozenset[str] = frozenset()
    kinds: Mapping[str, KindFacts] | None = None
    reported_at: datetime | None = None
    """Of the report that this is from: another one may say something else."""

    def for_rules(self) -> dict[str, Any]:
        """`node` as rules see it."""
        return {
            "id": self.id,
            "labels": dict(self.labels),
            "version": self.version,
            "host": self.host,
            "silent": self.is_silent,
            "features": sorted(self.features),
        }
