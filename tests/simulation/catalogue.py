"""The kinds of the simulated nodes. The checker has its own words for them: `RULES`."""

from __future__ import annotations

from agent.domain.definition import OnRestart
from agent.domain.manifest import Manifest
from agent.node.ports import Catalogue

PARALLEL_MAX = 3

CATALOGUE = Catalogue(
    digest="simulated",
    kinds={
        kind.kind: kind
        for kind in (
            Manifest(kind="beside", parallel=True),
            Manifest(kind="single"),
            Manifest(kind="single.once", on_restart=OnRestart.NEVER),
            Manifest(kind="beside.once", parallel=True, on_restart=OnRestart.NEVER),
            Manifest(kind="bounded", parallel=True, timeout_s=6.0, grace_s=1.0),
        )
    },
)

EXCLUSIVE = frozenset({"single", "single.once"})
NEVER_RERUN = frozenset({"single.once", "beside.once"})
"""What the checker believes of the kinds, said again on purpose."""
