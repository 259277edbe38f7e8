"""The schedulers that are compared, each behind the same few calls: plan, start, kill, start again.

A plan is a list of (id, due as Unix time, path of the action). A peer reads it from a file; our
node gets it through its API. `start` returns when the scheduler says that it is ready.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from place import HERE, Place, Trouble

Plan = list[tuple[str, float, str]]
READY_S_MAX = 120.0
OURS = "agentd"
QUEUE_ONLY = "Huey, queue only"
PEERS = {
    "bare": ("bare.py",),
    "bare, grouped": ("bare.py", "--group"),
    "APScheduler 3": ("apscheduler3.py",),
    "Huey": ("huey3.py",),
    QUEUE_ONLY: ("huey3.py", "--queue"),
}
"""By the name in the tables."""


class Peer:
    """A scheduler of somebody else, in one process."""

    def __init__(self, place: Place, peers: Path, name: str, parallel: int = 8) -> None:
        self.name = name
        self.store = place.fresh(name.split(",", maxsplit=1)[0].replace(" ", ""))
        self._place = place
        self._python = str(peers / "python")
        self._parallel = parallel
        self._plan = self.store / "plan.json"
        self._process: subprocess.Popen[bytes] | None = None

    def plan(self, plan: Plan) -> None:
        """What it is to do; before the first start."""
        self._plan.write_text(json.dumps(plan))

    def start(self, environment: dict[str, str] | None = None) -> float:
        """Seconds until it was ready."""
        script, *flags = PEERS[self.name]
        command = [
            self._python, "-B", str(HERE / "peers" / script), str(self.store), str(self._plan),
            str(self._parallel), *flags,
        ]  # fmt: skip
        began = time.monotonic()
        self._process = self._place.spawn(command, self.store / "log", environment)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], READY_S_MAX)
        if not ready or self._process.stdout.readline() != b"ready\n":
            raise Trouble(f"{self.name} did not start:\n{(self.store / 'log').read_text()[-2000:]}")
        return time.monotonic() - began

    def go(self) -> None:
        """Begin; for those that wait for the word."""
        assert self._process is not None
        assert self._process.stdin is not None
        if self.name == QUEUE_ONLY:
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()

    def pids(self) -> list[int]:
        """Its processes."""
        assert self._process is not None
        return [self._process.pid]

    def kill9(self) -> None:
        """As a service manager ends what crashed: the process and the scripts that it started."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._place.end(self._process)

    stop = kill9


PENDING_MAX = 10_000_000  # the default is the million that is measured, and one more is added to it


class Node:
    """Our node: `agentd` and its runner."""

    name = OURS

    def __init__(
        self, place: Place, bin_dir: Path, parallel: int = 8, *, agent_id: str = "bench",
        extra: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.store = place.fresh("node")
        self.log = self.store.with_name(f"{self.store.name}.log")
        self._place = place
        self._parallel = parallel
        self._command = [
            str(bin_dir / "python"), "-m", "agent.node.main", "--state-dir", str(self.store),
            "--scripts-dir", str(place.actions), "--agent-id", agent_id, *extra,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._runner: int | None = None

    def start(self, environment: dict[str, str] | None = None) -> float:
        """Seconds until it told systemd, or whoever stands in its place, that it is ready."""
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.store.with_name(f"{self.store.name}.notify")
        path.unlink(missing_ok=True)
        notices.bind(str(path))
        notices.settimeout(READY_S_MAX)
        variables = {
            "NOTIFY_SOCKET": str(path), "AGENT_MAX_PARALLEL": str(self._parallel),
            "AGENT_MAX_PENDING": str(PENDING_MAX),
        }  # fmt: skip
        began = time.monotonic()
        self._process = self._place.spawn(self._command, self.log, variables | (environment or {}))
        try:
            while not notices.recv(4096).startswith(b"READY=1\nSTATUS=node"):
                continue
        except TimeoutError:
            raise Trouble(f"agentd did not start:\n{self.log.read_text()[-2000:]}") from None
        finally:
            notices.close()
        took = time.monotonic() - began
        runner = self.call("GET", "/v1/status")["runner"]["pid"]
        if runner != self._runner:
            self._runner = runner
            self._place.know(runner)
        return took

    def plan(self, plan: Plan) -> None:
        """Submit through the API, one by one; while it runs."""
        caller = self.connect()
        for action_id, due, action in plan:
            at = datetime.fromtimestamp(due, UTC).isoformat()
            body = {"id": action_id, "kind": Path(action).name, "from_date": at}
            self.call("POST", "/v1/actions", body, caller)
        caller.close()

    def go(self) -> None:
        """It has begun."""

    def pids(self) -> list[int]:
        """All our processes: `agentd` and the runner."""
        assert self._process is not None
        assert self._runner is not None
        return [self._process.pid, self._runner]

    def kill9(self) -> None:
        """As a crash of agentd; the runner and the scripts go on."""
        assert self._process is not None
        self._place.end(self._process, signal.SIGKILL)

    def kill9_runner(self) -> None:
        """The runner crashes."""
        assert self._runner is not None
        os.kill(self._runner, signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, as a service manager does."""
        assert self._process is not None
        self._place.end(self._process)

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the API that is kept."""
        return _UnixConnection(self.store / "agent.sock")

    def call(
        self, method: str, path: str, body: Any = None,
        caller: http.client.HTTPConnection | None = None,
    ) -> Any:  # fmt: skip
        """One request; its JSON. Trouble where it is refused."""
        connection = caller or self.connect()
        connection.request(method, path, None if body is None else json.dumps(body).encode())
        response = connection.getresponse()
        data = response.read()
        if caller is None:
            connection.close()
        if response.status >= 400:
            raise Trouble(f"{method} {path}: {response.status} {data.decode()[:500]}")
        return json.loads(data)

    def wait_drained(self, seconds: float) -> None:
        """Until nothing waits or runs."""
        deadline = time.monotonic() + seconds
        while True:
            counts = self.call("GET", "/v1/status")["counts"]
            if counts["NULL"] + counts["STARTED"] == 0:
                return
            if time.monotonic() > deadline:
                raise Trouble(f"agentd is still busy after {seconds:g} s: {counts}")
            time.sleep(0.1)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("node", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))
