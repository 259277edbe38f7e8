"""From a checked request to a started script: one place, because the order is the promise.

1. the script is resolved, opened and judged;  2. the run file is made, whole: from here on this key
is spent;  3. the process is spawned;  4. its pid and start time are added to the file. kill -9 of
the runner between any two of these leaves either nothing or evidence, never a second start.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from typing import Any

from agent.runner import confinement, environment, launch, names, record, spawn
from agent.runner.catalogue import Catalogue, Script, SpawnRefused
from agent.runner.ledger import Ledger, write_at
from agent.runner.limits import OUTPUT_CAP_BYTES
from agent.runner.messages import BadRequest
from agent.runner.order import OrderKeeper
from agent.runner.output import OutputKeeper
from agent.runner.processes import boot_id, read_process
from agent.runner.run import Run, start_marker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.runner.accounts import Account
    from agent.runner.cgroups import Cgroups
    from agent.runner.names import Key

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SCARCE = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_INPUT_MEMBERS = (
    "id", "kind", "attempt", "payload", "metadata", "app_names", "from_date", "to_date",
    "correlation_id", "rollback_reference", "dry_run",
)  # fmt: skip
_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class AlreadyRecorded(Exception):
    """There is a run file of this key: the answer is in it."""


class Starter:
    """Starts scripts; keeps nothing of them."""

    def __init__(
        self, ledger: Ledger, catalogue: Catalogue, cgroups: Cgroups | None = None
    ) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._cgroups = cgroups
        self._environment = environment.base_environment()
        self.boot_id = boot_id()

    def start(self, key: Key, values: dict[str, Any], generation: int) -> Run:
        """Start it. SpawnRefused: it did not start, and says why; `AlreadyRecorded`: see there."""
        data = _encode_input(values)
        try:
            script = self._catalogue.open_script(values["kind"], dry_run=values["dry_run"])
        except OSError as error:
            raise SpawnRefused(*_blame(error, "the script cannot be opened")) from None
        try:
            return self._start_opened(key, values, script, data, generation)
        finally:
            os.close(script.fd)

    def _start_opened(
        self, key: Key, values: dict[str, Any], script: Script, data: bytes, generation: int
    ) -> Run:
        run = Run(key, values, script)
        marker = start_marker(
            key, values, record.STATE_START, self.boot_id, generation, is_left=run.is_left
        )
        try:
            file_fd = self._ledger.create(key, record.encode_file(marker))
        except OSError as error:
            raise SpawnRefused(*_blame(error, "the run cannot be recorded")) from None
        if file_fd is None:
            raise AlreadyRecorded
        run.file_fd = file_fd
        try:
            self._spawn(run, values["dry_run"], script, data)
        except SpawnRefused as refused:
            os.close(file_fd)
            refused.is_marked = True
            raise
        return run

    def _spawn(self, run: Run, dry_run: bool, script: Script, data: bytes) -> None:
        progress = f"{self._ledger.path}/{names.progress_name(run.key)}"
        run.progress = os.fsencode(progress)
        account = script.account
        variables = environment.run_environment(
            self._environment, run.action_id, run.kind, run.attempt, dry_run,
            script.path, progress, {} if account is None else account.variables(),
        )  # fmt: skip
        is_limited = bool(set(run.limits) - {"output_bytes"})  # that one is kept by the runner
        run.is_launched = is_limited or self._cgroups is not None or account is not None
        fds: list[int] = []
        try:
            fds.append(spawn.make_input(data))
            fds.extend(os.pipe())
            fds.extend(os.pipe())
            if run.is_launched:
                self._launch(run, script, variables, (fds[0], fds[2], fds[4]))
            else:
                run.pid = spawn.spawn(script.fd, script.path, variables, (fds[0], fds[2], fds[4]))
        except OSError as error:
            for fd in fds:
                os.close(fd)
            if run.group is not None:
                run.group.remove()
            raise SpawnRefused(*_blame(error, f"{script.path} cannot be executed")) from None
        run.started_at, run.started_monotonic = round(time.time(), 6), time.monotonic()
        for fd in (fds[0], fds[2], fds[4]):
            os.close(fd)
        run.pipes = {"stdout": fds[1], "stderr": fds[3]}
        self._identify(run)

    def _launch(
        self, run: Run, script: Script, variables: dict[str, str], fds: tuple[int, int, int]
    ) -> None:
        """Through the launcher: cgroup, limits and account first, then the script."""
        launch.check_format(script.fd)
        account, controllers = script.account, self._catalogue.means.controllers
        if account is not None:
            self._hand_over(run, fds, account)
        if self._cgroups is not None:
            run.group = self._cgroups.make(run.key)
        launcher = launch.Launcher(
            script.fd, variables, fds, account, self._catalogue.means.setpriv
        )
        try:
            launcher.confine(
                run.group,
                confinement.group_settings(run.limits, controllers),
                confinement.process_limits(run.limits, controllers),
            )
        except OSError:
            launcher.abandon()
            raise
        run.pid = launcher.pid
        launcher.let_go()

    def _hand_over(self, run: Run, fds: tuple[int, int, int], account: Account) -> None:
        """Give it what it may open once more by name (/dev/stderr), and its progress file."""
        for fd in fds:
            os.fchown(fd, account.uid, account.gid)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        progress = os.open(names.progress_name(run.key), flags, 0o600, dir_fd=self._ledger.fd)
        try:
            os.fchown(progress, account.uid, account.gid)
        finally:
            os.close(progress)

    def _identify(self, run: Run) -> None:
        """Add pid and start time. From the spawn to here the environment alone identifies it."""
        process = read_process(run.pid)  # its zombie, at least: nobody has reaped it
        run.started = process.started if process is not None else 0
        value = {"pid": run.pid, "started": run.started, "started_at": run.started_at}
        try:
            write_at(run.file_fd, record.PROCESS.offset, record.encode_slot(record.PROCESS, value))
        except OSError:  # copy-on-write and full: the environment still identifies it
            pass
        cap_bytes = run.limits.get("output_bytes", OUTPUT_CAP_BYTES)
        for name in names.STREAMS:
            os.set_blocking(run.pipes[name], False)
            run.outputs[name] = OutputKeeper(self._ledger.fd, run.key, name, cap_bytes)
        run.marks = OrderKeeper(self._ledger.fd, run.key)
        try:
            run.pidfd = os.pidfd_open(run.pid)
        except OSError as error:  # what cannot be watched must not run
            os.kill(run.pid, signal.SIGKILL)  # our unreaped child: the pid is certainly its own
            if run.group is not None:
                run.group.kill()
            os.waitid(os.P_PID, run.pid, os.WEXITED)
            for fd in run.pipes.values():
                os.close(fd)
            raise SpawnRefused(*_blame(error, "killed at once, it cannot be watched")) from None


def _encode_input(values: dict[str, Any]) -> bytes:
    """What the script reads. BadRequest before anything is recorded, if it cannot be said."""
    try:
        return _encode_json({name: values[name] for name in _INPUT_MEMBERS}).encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"start: {error.object[error.start]!r} is half a character") from None


def _blame(error: OSError, what: str) -> tuple[str, str]:
    """(spawn error code, message) of an OSError on the way to a start."""
    message = f"{what}: {error.strerror}"
    if error.errno in _FULL:
        return "no_space", message
    if error.errno in _SCARCE:
        return "no_resources", message
    if error.errno == errno.ENOEXEC:
        message += " (it begins neither with #! nor as a program)"
    elif error.errno == errno.ENOENT:
        message += " (is the interpreter in its first line installed?)"
    return "exec_failed", message
