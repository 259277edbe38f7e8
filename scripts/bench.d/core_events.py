"""Events taken in by a core: a thousand nodes, each sending a batch when the last one is durable.

Three events are one action: it comes, it starts, it ends. Each is stored, changes the action's row
and is acknowledged in one transaction. The nodes run beside the core on the same processors.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median

from cores import POSTGRES, SQLITE, Core
from figures import Section, Target
from place import Place
from postgres import Postgres
from processes import usage
from simulated import Node, join_all, push_all

NODES = 1000
SIZES = (1, 10, 100)
RATE_MIN = 5000.0


def measure(place: Place, bin_dir: Path, peers: Path, *, quick: bool) -> Section:
    """Every size on both stores."""
    nodes, rounds = (200, 1) if quick else (NODES, 3)
    section = Section(
        name="core_events",
        title=f"events per second taken in by a core, from {nodes} nodes",
        columns=[f"{size} a batch" for size in SIZES] + ["CPU µs per event (10 a batch)"],
    )
    server = Postgres(place, peers)
    for name in (SQLITE, POSTGRES):
        found: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
        for number in range(rounds):
            print(f"  core_events, round {number + 1} of {rounds}: {name}", flush=True)
            core = Core(place, bin_dir, server.database() if name == POSTGRES else None)
            enrolled = core.enroll(nodes)
            core.start()
            for size, figures in asyncio.run(_round(core, enrolled, quick=quick)).items():
                found[size].append(figures)
            core.stop()
        rates = {size: median(rate for rate, _ in found[size]) for size in SIZES}
        cpu_us = median(cpu for _, cpu in found[10])
        section.rows[f"cored, {name}"] = [
            *(f"{rates[size]:.0f}" for size in SIZES),
            f"{cpu_us:.0f}",
        ]
        section.bars[f"cored, {name}"] = rates[10]
        section.targets.append(
            Target(text=f"events per second in batches of 10, {name}", found=rates[10],
                   bound=RATE_MIN, at_least=True, unit="/s")
        )  # fmt: skip
    section.bars_title = "events per second in batches of 10"
    return section


async def _round(
    core: Core, enrolled: list[tuple[str, str]], *, quick: bool
) -> dict[int, tuple[float, float]]:
    """(events per second, CPU of the core in µs per event) by the size of a batch."""
    nodes = [Node(*one) for one in enrolled]
    await join_all(nodes, core.port, ["tiny_action"])
    found = {}
    for size in SIZES:
        batches = max(1, {1: 6, 10: 9, 100: 3}[size] // (3 if quick else 1))
        ready = [node.pushes(size, batches) for node in nodes]
        before, began = usage([core.pid]), time.monotonic()
        await asyncio.gather(*map(push_all, nodes, ready))
        took = time.monotonic() - began
        count = len(nodes) * batches * size
        found[size] = (count / took, usage([core.pid]).since(before).cpu_s * 1e6 / count)
    for node in nodes:
        node.wire.close()
    return found
