"""What the node's owner says of a kind, and how it bounds a definition (DESIGN §4, last paragraph).

The manifest bounds, the definition tightens: the shorter timeout, the fewer attempts; `never`
from either side wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.domain.definition import (
    GRACE_S_DEFAULT,
    Definition,
    OnRestart,
    Retry,
    RiskLevel,
)
from agent.domain.lane import Lane

TASK = "task"
HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One kind of the catalogue. `faults` is not empty where the kind cannot be started."""

    kind: str
    description: str = ""
    risk_level: RiskLevel | None = None
    mode: str = TASK
    parallel: bool = False
    timeout_s: float | None = None
    grace_s: float | None = None
    on_restart: OnRestart = OnRestart.RERUN
    retry: Retry | None = None
    payload_schema: Mapping[str, Any] | None = None
    dry_run: bool = False
    rollback: str | None = None
    user: str | None = None
    """The account that the script runs as; None: the runner's own."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    digest: str = ""
    faults: tuple[str, ...] = ()

    @property
    def lane(self) -> Lane:
        """Where its actions queue: a `hold` never takes a place that a task waits for."""
        if self.mode == HOLD:
            return Lane.HOLD
        return Lane.PARALLEL if self.parallel else Lane.EXCLUSIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for one attempt, from definition and manifest together."""

    timeout_s: float | None
    grace_s: float
    on_restart: OnRestart
    retry: Retry


def agree_terms(definition: Definition, manifest: Manifest | None) -> Terms:
    """The tighter of both. Without a manifest (a removed kind) the definition stands alone."""
    bound = manifest or Manifest(kind=definition.kind)
    never = OnRestart.NEVER in (definition.on_restart, bound.on_restart)
    return Terms(
        timeout_s=_smaller(definition.timeout_s, bound.timeout_s),
        grace_s=_grace_s(definition.grace_s, bound.grace_s),
        on_restart=OnRestart.NEVER if never else OnRestart.RERUN,
        retry=_retry(definition.retry, bound.retry),
    )


def _smaller(left: float | None, right: float | None) -> float | None:
    given = [value for value in (left, right) if value is not None]
    return min(given) if given else None


def _grace_s(asked: float | None, bound: float | None) -> float:
    """A definition that says nothing takes the manifest's grace, which may be the longer."""
    if asked is None:
        return GRACE_S_DEFAULT if bound is None else bound
    return asked if bound is None else min(asked, bound)


def _retry(asked: Retry | None, bound: Retry | None) -> Retry:
    if asked is None or bound is None:
        return asked or bound or Retry()
    return Retry(
        max_attempts=min(asked.max_attempts, bound.max_attempts),
        delay_s=asked.delay_s,
        backoff=asked.backoff,
        max_delay_s=asked.max_delay_s,
    )
