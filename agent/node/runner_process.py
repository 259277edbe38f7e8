"""Starting the runner where no service manager does (DESIGN §5): in a session of its own.

It outlives this process on purpose, so nothing here waits for it or ends it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

from agent.infra.unix_path import socket_address
from agent.node.ports import RunnerAway

UP_S_MAX = 10.0
LOOK_AGAIN_S = 0.005
LOG_BYTES_MAX = 1024 * 1024  # of runner.log, when a runner starts; the older one is kept once
NOT_ITS = frozenset({"NOTIFY_SOCKET", "AGENT_ENROLL_TOKEN"})
"""Variables that are for `agentd` alone."""


class OwnRunner:
    """Makes sure that a runner listens, starting one if there is none."""

    def __init__(
        self,
        *,
        state_dir: Path,
        scripts_dir: Path,
        socket_path: Path,
        parallel_max: int,
        output_bytes_max: int,
    ) -> None:
        self._state_dir = state_dir
        self._scripts_dir = scripts_dir
        self._socket = socket_path
        self._parallel_max = parallel_max
        self._output_bytes_max = output_bytes_max

    async def ensure(self) -> None:
        """Return when something accepts connections; raises `RunnerAway` with the reason."""
        if accepts(self._socket):
            return
        try:
            process = self._spawn()
        except OSError as error:  # no process or descriptor left, a log that cannot be opened
            raise RunnerAway(f"the runner cannot be started: {error}") from None
        deadline = asyncio.get_running_loop().time() + UP_S_MAX
        while not accepts(self._socket):
            if process.poll() is not None:
                raise RunnerAway(
                    f"the runner ended at once with code {process.returncode}; "
                    f"see {self._log_path()}"
                )
            if asyncio.get_running_loop().time() > deadline:
                raise RunnerAway(f"the runner did not listen within {UP_S_MAX:g} s")
            await asyncio.sleep(LOOK_AGAIN_S)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "agent.runner.main",
            "--state-dir", str(self._state_dir), "--scripts-dir", str(self._scripts_dir),
            "--socket", str(self._socket),
        ]  # fmt: skip
        environment = {key: value for key, value in os.environ.items() if key not in NOT_ITS}
        environment["AGENT_MAX_PARALLEL"] = str(self._parallel_max)
        environment["AGENT_OUTPUT_BYTES_MAX"] = str(self._output_bytes_max)
        log_path = self._log_path()
        if log_path.exists() and log_path.stat().st_size > LOG_BYTES_MAX:
            log_path.replace(log_path.with_name("runner.log.old"))
        with log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                start_new_session=True,
            )

    def _log_path(self) -> Path:
        return self._state_dir / "runner.log"


async def nothing_to_ensure() -> None:
    """The runner is another unit's business; a missing one is waited for."""


def accepts(path: Path) -> bool:
    """Whether somebody listens on the socket. Never waits: one that hangs has a full backlog."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        try:
            with socket_address(path) as address:
                sock.connect(address)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True
