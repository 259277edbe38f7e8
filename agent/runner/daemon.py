"""The wiring: builds the parts, runs the loop, leaves in order. No rule is decided here but one:
when to leave.
"""

from __future__ import annotations

import gc
import os
import resource
import signal

from agent.runner import launch, linux, spawn, upgrade
from agent.runner.answering import Answering
from agent.runner.catalogue import Catalogue
from agent.runner.cgroups import Cgroups, find_delegated
from agent.runner.confinement import Means
from agent.runner.generation import Generation
from agent.runner.ledger import Ledger
from agent.runner.limits import (
    FDS_PER_RUN,
    FDS_RESERVED,
    LEAVE_AFTER_S,
    LEAVE_UNVISITED_AFTER_S,
    RUNS_EXTRA,
    RUNS_PER_PARALLEL,
    TICK_S,
    VERSION,
)
from agent.runner.loop import Loop, Timer
from agent.runner.notify import notify
from agent.runner.output_budget import OutputBudget
from agent.runner.recovery import recover
from agent.runner.server import Server, listen
from agent.runner.supervisor import Supervisor
from agent.runner.watching import Watching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.runner.journal import Journal
    from agent.runner.options import Options


def runs_max(parallel_max: int, fds_max: int) -> int:
    """The last bound on running scripts: agentd keeps a much lower one of its own."""
    wanted = RUNS_PER_PARALLEL * parallel_max + RUNS_EXTRA
    return max(1, min(wanted, (fds_max - FDS_RESERVED) // FDS_PER_RUN))


def settle_in_cgroup(wanted: str, journal: Journal) -> Cgroups | None:
    """The delegated subtree, with us in a leaf of it; None where there is none to be had."""
    cgroups = find_delegated(wanted)
    if cgroups is None:
        return None
    try:
        cgroups.settle_in()
    except OSError as error:
        if wanted != "auto":
            raise
        journal.write("cgroup_unusable", path=cgroups.base, error=error.strerror)
        return None
    return cgroups


class Daemon:
    """One runner, from its start (with the lock taken) to its end."""

    def __init__(self, options: Options, journal: Journal, handed: dict[str, int]) -> None:
        self._options = options
        self._journal = journal
        self._handed = handed  # descriptors: the lock, and what came through our own exec
        self._directory = os.getcwd()
        self._loop = Loop()
        self._ledger = Ledger(options.runs_dir)
        self._cgroups = settle_in_cgroup(options.cgroup, journal)
        controllers = self._cgroups.controllers if self._cgroups else frozenset[str]()
        means = Means(os.getuid(), launch.find_setpriv(), controllers)
        self._catalogue = Catalogue(options.scripts_dir, means)
        fds_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._supervisor = Supervisor(
            self._loop, self._ledger, self._catalogue, journal,
            runs_max(options.parallel_max, fds_max), self._cgroups,
        )  # fmt: skip
        self._supervisor.outputs = OutputBudget(
            self._loop, self._ledger, journal, options.output_bytes_max, self._supervisor.is_busy
        )
        self._upgrade = upgrade.Upgrade()
        self._is_waiting_to_upgrade = False
        self._leave_timer: Timer | None = None

    def run(self) -> None:
        """Serve until told to stop, or until nobody needs us."""
        spawn.prepare_process()
        linux.become_subreaper()
        linux.drop_ambient_capabilities()
        self._take_signals()
        found = recover(self._ledger, self._supervisor.boot_id, self._cgroups)
        if found.unknown_runs or found.killed:
            self._journal.write("recovered", **found._asdict())
        self._serve()
        self._journal.write("ready", version=VERSION, pid=os.getpid(), **self._options._asdict())
        notify("READY=1")
        gc.collect()
        gc.freeze()  # what is here now stays: later collections need not look at it
        linux.return_free_memory()
        self._loop.run()
        self._leave()

    def _serve(self) -> None:
        answering = Answering(
            self._supervisor, self._catalogue, self._ledger, Generation(self._ledger.fd),
            self._journal, self._options.parallel_max, self._cgroups,
        )  # fmt: skip
        listener = listen(
            self._options.socket_path, self._options.agent_uid, self._handed.get("listener")
        )
        allowed = {0, os.getuid()}
        if self._options.agent_uid is not None:
            allowed.add(self._options.agent_uid)
        self._server = Server(
            self._loop, listener, self._journal, frozenset(allowed), answering.answer_line,
            self._consider_leaving,
        )  # fmt: skip
        answering.server = self._server
        answering.ask_to_leave = self._asked_to_leave
        answering.on_greeted = self._supervisor.on_idle = self._consider_upgrade
        Watching(self._loop, self._catalogue.path, self._journal, answering.tell_kinds_changed)
        self._consider_leaving()

    def _leave(self) -> None:
        notify("STOPPING=1")
        self._supervisor.finish()
        self._server.close(self._options.socket_path)
        self._journal.write("stopped")

    # -- when to leave ----------------------------------------------------------------------

    def _consider_leaving(self) -> None:
        """Somebody came or went."""
        if self._leave_timer is not None:
            self._leave_timer.cancel()
            self._leave_timer = None
        if not self._options.stay and not self._server.connections:
            visited = self._server.was_visited
            delay_s = LEAVE_AFTER_S if visited else LEAVE_UNVISITED_AFTER_S
            self._leave_timer = self._loop.call_in(delay_s, self._leave_if_idle)

    def _leave_if_idle(self) -> None:
        if self._supervisor.is_idle:
            self._loop.stop()
        else:
            self._leave_timer = self._loop.call_in(LEAVE_AFTER_S, self._leave_if_idle)

    def _asked_to_leave(self) -> bool:
        """By an `agentd` that wants a runner of another kind: where nobody else looks after us."""
        if self._options.stay or not self._supervisor.may_be_replaced:
            return False
        self._journal.write("asked_to_leave")
        self._loop.call_soon(self._loop.stop)
        return True

    # -- when to become another version -----------------------------------------------------

    def _consider_upgrade(self) -> None:
        """Somebody said hello, or the last run ended."""
        if not self._is_waiting_to_upgrade and self._upgrade.wait_s() is not None:
            self._is_waiting_to_upgrade = True
            self._loop.call_in(TICK_S / 2, self._upgrade_if_idle)

    def _upgrade_if_idle(self) -> None:
        wait_s = self._upgrade.wait_s()
        self._is_waiting_to_upgrade = bool(wait_s)
        if wait_s:
            self._loop.call_in(wait_s, self._upgrade_if_idle)
        elif wait_s == 0 and self._supervisor.may_be_replaced:
            self._execute_anew()

    def _execute_anew(self) -> None:
        """As another version, with the same lock and socket. What was not told is on disk."""
        self._journal.write("upgrading", version=VERSION)
        self._supervisor.finish()
        handed = {"lock": self._handed["lock"], "listener": self._server.listener_fd}
        try:
            upgrade.execute_anew(handed, self._directory)
        except OSError as error:
            self._journal.write("upgrade_failed", error=error.strerror)

    def _take_signals(self) -> None:
        """TERM and INT wake the loop through a pipe: handlers run between bytecodes, too late."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closing terminal is no reason to stop

        def wake(_events: int) -> None:
            os.read(reading, 64)
            self._begin_stopping()

        self._loop.watch(reading, wake)

    def _begin_stopping(self) -> None:
        if not self._supervisor.is_stopping:
            self._journal.write("stopping", running=len(self._supervisor.running))
            self._supervisor.stop_all("runner_stop")
            self._stop_when_empty()

    def _stop_when_empty(self) -> None:
        if self._supervisor.is_empty:
            self._loop.stop()
        else:
            self._loop.call_in(min(0.02, TICK_S), self._stop_when_empty)
