"""From a dispatch at the core to the script's own first instruction, with others connected.

One node is real: `agentd` with its runner; the others are simulated and wait in their long polls.
One dispatch at a time, over loopback; the moment of the start is the script's own stamp.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from cores import Core
from figures import Section, Target, percentile
from place import Place, Trouble, wait_until
from simulated import Node, join_all
from systems import Node as RealNode

CONNECTED = (1, 100, 1000)
P99_MS_MAX = 100.0
PAUSE_S = 0.02
STARTED_S_MAX = 10.0
REAL = "real"


class Crowd:
    """Simulated nodes on a loop of their own, in a thread."""

    def __init__(self, nodes: list[Node], port: int) -> None:
        self._nodes, self._port = nodes, port
        self._loop = asyncio.new_event_loop()
        self._joined = threading.Event()
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._joined.wait(120) or self._trouble is not None:
            raise Trouble(f"the simulated nodes could not join: {self._trouble}")
        return self

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._all = self._loop.create_task(self._hold())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._all)

    async def _hold(self) -> None:
        try:
            await join_all(self._nodes, self._port, ["tiny_action"])
        except Exception as error:  # noqa: BLE001  (told by the thread that waits)
            self._trouble = error
        self._joined.set()
        await asyncio.gather(*(node.hold(lambda _count, _at: None) for node in self._nodes))

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._all.cancel)
        self._thread.join(10)
        for node in self._nodes:
            node.wire.close()


def measure(place: Place, bin_dir: Path, _peers: Path, *, quick: bool) -> Section:
    """One core per number of nodes."""
    count = 50 if quick else 300
    section = Section(
        name="core_start",
        title=f"from dispatch to the script's start, {count} one by one, over loopback",
        columns=["median ms", "99th percentile ms"],
    )
    for connected in CONNECTED:
        print(f"  core_start: {connected} connected", flush=True)
        taken = _one(place, bin_dir, connected, count)
        section.rows[f"{connected:,} connected"] = [
            f"{percentile(taken, 50):.1f}", f"{percentile(taken, 99):.1f}"
        ]  # fmt: skip
        if connected == CONNECTED[-1]:
            section.targets.append(
                Target(text=f"99th percentile with {connected:,} connected",
                       found=percentile(taken, 99), bound=P99_MS_MAX, unit=" ms")
            )  # fmt: skip
    return section


def _one(place: Place, bin_dir: Path, connected: int, count: int) -> list[float]:
    core = Core(place, bin_dir)
    crowd = [Node(*one) for one in core.enroll(connected - 1)]
    core.start()
    node = real_node(place, bin_dir, core)
    with Crowd(crowd, core.port):
        taken = _dispatch_one_by_one(place, core, count)
    node.stop()
    core.stop()
    return taken


def real_node(place: Place, bin_dir: Path, core: Core) -> RealNode:
    """A real node that has told the core what it has."""
    token = core.call("POST", "/v1/enrollment-tokens", {"node": REAL})["token"]
    flags = ["--core", f"http://127.0.0.1:{core.port}", "--enroll-token", token]
    node = RealNode(place, bin_dir, agent_id=REAL, extra=flags)
    node.start()

    def known() -> bool:
        listed = core.call("GET", "/v1/agents?limit=500&after=re")["agents"]
        names = [one["id"] for one in listed]
        return REAL in names and bool(core.call("GET", f"/v1/agents/{REAL}")["catalogue"])

    wait_until(known, 30, "the node has not reported")
    return node


def _dispatch_one_by_one(place: Place, core: Core, count: int) -> list[float]:
    caller = core.connect()
    place.forget_stamps()
    sent: dict[str, float] = {}
    for number in range(count + 5):
        name = f"d{number}"
        sent[name] = time.time()
        body = {"id": name, "kind": "tiny_action", "node": REAL}
        core.call("POST", "/v1/dispatch", body, caller)
        wait_until(lambda done=number + 1: place.count_stamps() >= done, STARTED_S_MAX, "no start")
        time.sleep(PAUSE_S)
    caller.close()
    started = dict(place.stamps())
    warm = [f"d{number}" for number in range(5, count + 5)]  # not the first use of everything
    return [(started[name] - sent[name]) * 1000 for name in warm]
