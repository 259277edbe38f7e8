"""A real `agentd` with its real runner in processes of their own: started, killed, asked.

Ends only what it started, by pid: the daemon it spawned, and the runner that this daemon named.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.infra.unix_path import socket_address

ROOT = Path(__file__).resolve().parents[2]
KINDS = ROOT / "tests" / "fakes" / "kinds"
START_S_MAX = 20.0
LOOK_AGAIN_S = 0.01
FINAL = {"FINISHED", "FAILED", "WONT_START", "WONT_FINISH"}


class NodeProcess:
    """One node in a directory; `start` again after `kill9` or `stop` is the next boot."""

    def __init__(
        self, state_dir: Path, scripts_dir: Path = KINDS, *, core: str | None = None,
        token: str | None = None, agent_id: str = "n1", extra: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.state_dir = state_dir
        self.log = state_dir.with_name(f"{state_dir.name}.log")
        self.process: subprocess.Popen[bytes] | None = None
        self.runner_pids: set[int] = set()
        self._command = [
            sys.executable, "-m", "agent.node.main", "--state-dir", str(state_dir),
            "--scripts-dir", str(scripts_dir), "--agent-id", agent_id, *extra,
        ]  # fmt: skip
        self._command += ["--core", core] if core else []
        self._command += ["--enroll-token", token] if token else []

    def start(self, *, wait: bool = True) -> NodeProcess:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=clean_environment(), cwd=ROOT
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Until it is healthy: recovered, runner at hand."""

        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"agentd ended:\n{self.log.read_text()}")
            try:
                return self.call("GET", "/healthz")[0] == 200
            except (OSError, http.client.HTTPException):
                return False

        wait_until(ready, START_S_MAX, "agentd is not ready")
        self.runner_pids.add(self.status()["runner"]["pid"])

    def kill9(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def kill9_runner(self) -> None:
        for pid in self.runner_pids:
            _signal(pid, signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def clean_up(self) -> None:
        """Nothing of this node is left running."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for pid in self.runner_pids:
            _signal(pid, signal.SIGTERM)
        wait_until(lambda: not any(_alive(pid) for pid in self.runner_pids), 30, "runner stays")

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request to the local API."""
        connection = _UnixConnection(self.state_dir / "agent.sock")
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", "/v1/status")[1]
        return found

    def run(self, kind: str, payload: Any = None, **fields: Any) -> str:
        """Submit; the id. Fails where it is refused."""
        body = {"kind": kind, "payload": payload or {}} | fields
        code, answer = self.call("POST", "/v1/actions", body)
        assert code == 201, answer
        return str(answer["id"])

    def show(self, action_id: str) -> dict[str, Any]:
        code, answer = self.call("GET", f"/v1/actions/{action_id}")
        assert code == 200, answer
        shown: dict[str, Any] = answer
        return shown

    def history(self, action_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", f"/v1/actions/{action_id}/history")[1][
            "events"
        ]
        return found

    def wait_status(self, action_id: str, *statuses: str, seconds: float = 20) -> dict[str, Any]:
        """Until the action has one of the statuses (any final one by default)."""
        wanted = set(statuses) or FINAL
        last: dict[str, Any] = {}

        def there() -> bool:
            nonlocal last
            code, last = self.call("GET", f"/v1/actions/{action_id}")
            return code == 200 and last["execution_status"] in wanted

        wait_until(there, seconds, lambda: f"{action_id} is {last}")
        return last

    def wait_quiet(self, seconds: float = 60) -> dict[str, int]:
        """Until nothing waits or runs; the counts."""

        def quiet() -> bool:
            counts = self.status()["counts"]
            return bool(counts["NULL"] + counts["STARTED"] == 0)

        wait_until(quiet, seconds, "still busy")
        counts: dict[str, int] = self.status()["counts"]
        return counts

    def agentctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agent.cli.agentctl", "--state-dir", str(self.state_dir)]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=60, check=False,
            env=clean_environment(), cwd=ROOT,
        )  # fmt: skip


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("node", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        with socket_address(self._path) as address:
            self.sock.connect(address)


def copy_kinds(target: Path, *names: str) -> Path:
    """Some test kinds in a directory of their own, to be changed."""
    target.mkdir(mode=0o755)
    for name in names:
        for file in KINDS.glob(f"{name}*"):
            if file.stem == name:
                shutil.copy2(file, target / file.name)
    return target


def clean_environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AGENT_", "CORE_"))}
    return kept | {"PYTHONPATH": str(ROOT)}


def wait_until(
    true: Callable[[], bool], seconds: float, otherwise: str | Callable[[], str]
) -> None:
    """Look again until it is true; an AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(LOOK_AGAIN_S)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _alive(pid: int) -> bool:
    """Whether it runs; a zombie that its new parent has not reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
