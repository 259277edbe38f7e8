"""What breaks and how it is repaired: one method per sort of fault in the plan."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from tests.fakes.inline_node_store import open_database
from tests.fakes.sim_core import SimCore
from tests.simulation.node import SimNode
from tests.simulation.observations import Observations
from tests.simulation.plan import RESTORES, Fault

BACKUP_EVERY_S = 12.0
BACKUPS_KEPT = 3


class Breaker:
    """Strikes, and repairs after the fault's time or at the end of all faults."""

    def __init__(self, core: SimCore, nodes: Mapping[str, SimNode], seen: Observations) -> None:
        self._core = core
        self._nodes = nodes
        self._seen = seen
        self._loop = asyncio.get_running_loop()
        self._repairs: dict[asyncio.TimerHandle, Callable[[], None]] = {}
        self._core_copies: deque[bytes] = deque(maxlen=BACKUPS_KEPT)
        self._node_copies = {name: deque[bytes](maxlen=BACKUPS_KEPT) for name in nodes}
        self._backups = self._loop.call_later(BACKUP_EVERY_S, self._back_up)

    def strike(self, fault: Fault) -> None:
        """Break it now, repair it later."""
        self._seen.note("fault", fault.node, kind=fault.kind, lasts_s=round(fault.lasts_s, 3))
        restores = fault.kind in RESTORES
        subject = fault if restores else fault.node
        repair: Callable[[], None] = getattr(self, f"_{fault.kind}")(subject)

        def mend() -> None:
            self._repairs.pop(handle, None)
            self._seen.note("repaired", fault.node, kind=fault.kind)
            repair()

        handle = self._loop.call_later(fault.lasts_s, mend)
        self._repairs[handle] = repair

    def repair_all(self) -> None:
        """The end of the faulty phase."""
        self._backups.cancel()
        for handle, repair in self._repairs.items():
            handle.cancel()
            repair()
        self._repairs.clear()

    # -- the sorts of fault: each breaks, and returns its repair ----------------------------

    def _node_crash(self, name: str) -> Callable[[], None]:
        node = self._nodes[name]
        node.crash()
        return node.boot

    def _runner_crash(self, name: str) -> Callable[[], None]:
        node = self._nodes[name]
        node.crash_runner()
        return lambda: None if node.runner.up else node.runner.restart()

    def _runner_cut(self, name: str) -> Callable[[], None]:
        daemon = self._nodes[name].daemon
        if daemon is not None:
            daemon.port.break_connection()
        return _nothing

    def _partition(self, name: str) -> Callable[[], None]:
        link = self._nodes[name].link
        link.cut()
        return link.mend

    def _node_disk_full(self, name: str) -> Callable[[], None]:
        node = self._nodes[name]
        node.fill_disk(full=True)
        return lambda: node.fill_disk(full=False)

    def _core_crash(self, _name: str) -> Callable[[], None]:
        self._core.crash()
        return self._start_core

    def _core_disk_full(self, _name: str) -> Callable[[], None]:
        services = self._core.services
        if services is not None:
            services.store.disk_full = True

        def empty() -> None:
            if services is not None:
                services.store.disk_full = False

        return empty

    def _core_restore(self, fault: Fault) -> Callable[[], None]:
        """Its machine is lost; another one starts from a backup."""
        if not self._core_copies:
            return _nothing
        self._core.crash()
        self._core.restore(_pick(self._core_copies, fault))
        self._seen.note("core_restored")
        return self._start_core

    def _node_restore(self, fault: Fault) -> Callable[[], None]:
        """`agent.db` is put back from a backup; the runner's files are as they were."""
        node, copies = self._nodes[fault.node], self._node_copies[fault.node]
        if not copies:
            return _nothing
        node.crash()
        node.connection.close()  # SQLite may crash where statements outlive a `deserialize`
        node.connection = open_database(_pick(copies, fault))
        node.watch("node_restored")
        return node.boot

    def _start_core(self) -> None:
        if self._core.services is None:
            self._core.start()

    def _back_up(self) -> None:
        """Not before all are enrolled: a core that forgot a node needs a person, not healing."""
        self._backups = self._loop.call_later(BACKUP_EVERY_S, self._back_up)
        if not self._core.knows_credentials(len(self._nodes)):
            return
        self._core_copies.append(self._core.backup())
        self._seen.note("core_backed_up")
        for name, node in self._nodes.items():
            self._node_copies[name].append(node.connection.serialize())
            node.watch("node_backed_up")


def _nothing() -> None:
    """There is nothing to repair."""


def _pick(copies: deque[bytes], fault: Fault) -> bytes:
    """One of the backups that are kept, by the seed: its fault's length is as random as any."""
    return copies[int(fault.lasts_s * 1000) % len(copies)]
