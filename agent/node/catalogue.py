"""The kinds that this node can run, as the runner reported them, and the check of payloads.

The runner owns the catalogue (it resolves and checks scripts); this is the brain's copy of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from agent.domain.approval import POLICY_PREFIX
from agent.domain.definition import ApprovalState, Definition, RiskLevel
from agent.domain.errors import Fault
from agent.domain.lane import Lane
from agent.domain.lifecycle import Reason
from agent.domain.manifest import Manifest
from agent.node.ports import Catalogue
from agent.wire.fields import nearest
from agent.wire.payload_schema import compile_schema, payload_faults


class Kinds:
    """Looks kinds up and checks payloads; replaced as a whole when the catalogue changed."""

    def __init__(self) -> None:
        self._catalogue = Catalogue()
        self._validators: dict[str, Any] = {}
        self.looked = asyncio.Event()
        """Set by the first catalogue: before it, nobody knows what is installed."""

    @property
    def catalogue(self) -> Catalogue:
        """What the runner reported last."""
        return self._catalogue

    def replace(self, catalogue: Catalogue) -> None:
        """Take a newer catalogue."""
        self._catalogue = catalogue
        self._validators.clear()
        self.looked.set()

    def manifest(self, kind: str) -> Manifest | None:
        """The manifest of a kind that is installed."""
        return self._catalogue.kinds.get(kind)

    def lane(self, kind: str) -> Lane:
        """Where actions of the kind queue; unknown kinds wait for the exclusive place."""
        manifest = self.manifest(kind)
        return Lane.EXCLUSIVE if manifest is None else manifest.lane

    def check(
        self, kind: str, payload: Mapping[str, Any], *, dry_run: bool
    ) -> tuple[Reason, tuple[Fault, ...]] | None:
        """Why this cannot run on this node, with every fault; None if it can."""
        manifest = self.manifest(kind)
        if manifest is None:
            return Reason.UNKNOWN_KIND, (Fault("kind", self._why_unknown(kind)),)
        if manifest.faults:
            return Reason.UNKNOWN_KIND, tuple(Fault("kind", text) for text in manifest.faults)
        if dry_run and not manifest.dry_run:
            text = f"kind {kind!r} has no dry run; it would run for real"
            return Reason.DRY_RUN_UNSUPPORTED, (Fault("dry_run", text),)
        faults = self._payload_faults(manifest, payload)
        return (Reason.BAD_PAYLOAD, faults) if faults else None

    def _why_unknown(self, kind: str) -> str:
        """A directory that may not be trusted hides every kind; then that is what is wrong."""
        known, faults = self._catalogue.kinds, self._catalogue.faults
        if not known and faults:
            return f"no kind can be used on this node, {kind!r} neither: {'; '.join(faults)}"
        return f"unknown kind {kind!r}: not in this node's catalogue{nearest(kind, known)}"

    def approval_faults(self, definition: Definition) -> tuple[Fault, ...]:
        """Dangerous always waits for a person: refused here without an approval record."""
        manifest = self.manifest(definition.kind)
        levels = (definition.risk_level, manifest.risk_level if manifest else None)
        approval = definition.approval
        if approval is not None and approval.state is ApprovalState.APPROVED:
            by_person = bool(approval.by) and not str(approval.by).startswith(POLICY_PREFIX)
            if RiskLevel.DANGEROUS in levels and not by_person:
                given = f"is {approval.by}" if approval.by else "is missing"
                text = f"{given}; a dangerous action needs a person's approval"
                return (Fault("approval.by", text),)
            return ()
        if approval is not None:
            text = f"is {approval.state.value}; only what is approved may reach a node"
            return (Fault("approval", text),)
        if RiskLevel.DANGEROUS in levels:
            return (Fault("approval", "is missing; a dangerous action needs a person's approval"),)
        return ()

    def faults(self, manifest: Manifest) -> tuple[str, ...]:
        """Everything wrong with a kind, its schema included: that is compiled when first needed."""
        validator = self._validator(manifest)
        wrong = (validator.message,) if isinstance(validator, Fault) else ()
        return (*manifest.faults, *wrong)

    def _validator(self, manifest: Manifest) -> Any:
        if manifest.payload_schema is None:
            return None
        validator = self._validators.get(manifest.kind)
        if validator is None:
            validator = self._validators[manifest.kind] = compile_schema(manifest.payload_schema)
        return validator

    def _payload_faults(self, manifest: Manifest, payload: Mapping[str, Any]) -> tuple[Fault, ...]:
        validator = self._validator(manifest)
        return () if validator is None else payload_faults(validator, payload)
