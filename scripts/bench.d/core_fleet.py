"""Ten thousand nodes in their long polls on one core: what one costs, and reaching them all.

Memory is what the core has grown by from none to all of them connected, after they told what they
are. Idle means that they only ask again when their minute is over.
"""

from __future__ import annotations

import asyncio
import http.client
import resource
import time
from contextlib import suppress
from pathlib import Path

from cores import Core
from figures import Section, Target
from place import Place, Trouble
from processes import usage
from simulated import LABELS, Node, join_all

NODES = 10_000
KB_PER_NODE_MAX = 50.0
REACHED_S_MAX = 120.0
SETTLE_S = 5.0


def measure(place: Place, bin_dir: Path, _peers: Path, *, quick: bool) -> Section:
    """One core, on SQLite."""
    nodes = 1000 if quick else NODES
    _may_open(nodes + 500)
    core = Core(place, bin_dir)
    print(f"  core_fleet: enrolling {nodes:,}", flush=True)
    enrolled = core.enroll(nodes)
    core.start()
    found = asyncio.run(_held(core, enrolled, idle_s=10.0 if quick else 60.0))
    core.stop()
    kb = (found["full"] - found["empty"]) / nodes / 1000
    section = Section(
        name="core_fleet",
        title=f"{nodes:,} nodes in their long polls on one core",
        columns=["kB per node", "all of cored, MB", "CPU when idle, %", "joining all, s",
                 "reaching all by one dispatch, s", "answered after, s"],
    )  # fmt: skip
    section.rows["cored, SQLite"] = [
        f"{kb:.1f}", f"{found['full'] / 1e6:.0f}", f"{found['idle'] * 100:.1f}",
        f"{found['joined']:.1f}", f"{found['reached']:.2f}", f"{found['answered']:.2f}",
    ]  # fmt: skip
    section.targets.append(
        Target(text="memory per node", found=kb, bound=KB_PER_NODE_MAX, unit=" kB")
    )
    return section


def _may_open(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        raise Trouble(f"{files} connections are needed, and {hard} files may be open (ulimit -n)")
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


async def _held(core: Core, enrolled: list[tuple[str, str]], idle_s: float) -> dict[str, float]:
    nodes = [Node(*one) for one in enrolled]
    last, reached = [0.0], [0]

    def on_actions(count: int, at: float) -> None:
        reached[0] += count
        last[0] = at

    empty = usage([core.pid])
    began = time.monotonic()
    await join_all(nodes, core.port, ["tiny_action"])
    joined = time.monotonic() - began
    holding = [asyncio.ensure_future(node.hold(on_actions)) for node in nodes]
    await asyncio.sleep(SETTLE_S)
    before = usage([core.pid])
    await asyncio.sleep(idle_s)
    after = usage([core.pid])
    began = time.monotonic()
    await asyncio.to_thread(_dispatch, core, len(nodes))
    answered = time.monotonic() - began
    while reached[0] < len(nodes):
        if time.monotonic() - began > REACHED_S_MAX:
            raise Trouble(f"{reached[0]} of {len(nodes)} nodes were reached")
        _raise_any(holding)
        await asyncio.sleep(0.05)
    for task in holding:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*holding)
    for node in nodes:
        node.wire.close()
    return {
        "empty": empty.rss, "full": after.rss, "idle": after.since(before).cpu_s / idle_s,
        "joined": joined, "reached": last[0] - began, "answered": answered,
    }  # fmt: skip


def _raise_any(tasks: list[asyncio.Future[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


def _dispatch(core: Core, count: int) -> None:
    """By label; every node must be among the targets."""
    caller = http.client.HTTPConnection("127.0.0.1", core.port, timeout=REACHED_S_MAX)
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
    answer = core.call(
        "POST", "/v1/dispatch", {"kind": "tiny_action", "selector": selector}, caller
    )
    caller.close()
    if len(answer["actions"]) != count:
        raise Trouble(f"the dispatch went to {len(answer['actions'])} of {count} nodes")
