"""The runner's catalogue as domain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agent.domain.definition import OnRestart, Retry, RiskLevel
from agent.domain.manifest import Manifest
from agent.node.ports import Catalogue


def read_catalogue(answer: Mapping[str, Any]) -> Catalogue:
    """The answer to `kinds`; the runner has checked it."""
    return Catalogue(
        digest=answer["digest"],
        kinds={entry["kind"]: read_kind(entry) for entry in answer["kinds"]},
        faults=tuple(f"{fault['path']}: {fault['message']}" for fault in answer.get("faults", ())),
    )


def read_kind(entry: Mapping[str, Any]) -> Manifest:
    """One kind with its manifest."""
    given = (entry.get("manifest") or {}).items()
    manifest = {key: value for key, value in given if value is not None}
    risk, retry = manifest.get("risk_level"), manifest.get("retry")
    if retry:
        retry = {key: value for key, value in retry.items() if value is not None}
    return Manifest(
        kind=entry["kind"],
        description=manifest.get("description", ""),
        risk_level=RiskLevel(risk) if risk else None,
        mode=manifest.get("mode", "task"),
        parallel=manifest.get("parallel", False),
        timeout_s=manifest.get("timeout_s"),
        grace_s=manifest.get("grace_s"),
        on_restart=OnRestart(manifest.get("on_restart", "rerun")),
        retry=Retry(**retry) if retry else None,
        payload_schema=_schema(manifest.get("payload_schema")),
        dry_run=manifest.get("dry_run", False),
        rollback=manifest.get("rollback"),
        user=manifest.get("user"),
        limits=manifest.get("limits", {}),
        path=entry.get("path", ""),
        digest=entry.get("digest", ""),
        faults=tuple(str(fault) for fault in entry.get("faults", ())),
    )


def _schema(given: Any) -> Mapping[str, Any] | None:
    """A table, or a text that holds JSON."""
    schema: Mapping[str, Any] | None = json.loads(given) if isinstance(given, str) else given
    return schema
