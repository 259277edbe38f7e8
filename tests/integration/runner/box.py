"""A runner of its own for one test: directories, kinds, processes. Kills only what it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.runner import processes, record
from agent.runner.record import RunFile
from agent.runner.tree import progress_of
from tests.integration.runner.client import Client

ROOT = Path(__file__).parents[3]
DEADLINE_S = 10.0


def wait_for(what: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Poll until it is true; its value. AssertionError after the deadline."""
    until = time.monotonic() + deadline_s
    while not (value := what()):
        assert time.monotonic() < until, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)
    return value


class Box:
    """A state directory, a scripts directory, and the runner on them."""

    def __init__(self, path: Path) -> None:
        path.chmod(0o755)
        self.path = path
        self.state = path / "state"
        self.runs = self.state / "runs"
        self.socket = self.state / "runner.sock"
        self.scripts = path / "scripts"
        self.scripts.mkdir(mode=0o755)
        self.log = path / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.clients: list[Client] = []

    # -- kinds ------------------------------------------------------------------------------

    def kind(self, name: str, body: str, manifest: str | None = None) -> Path:
        """Install a kind: /bin/sh unless `body` begins with #!."""
        path = self.scripts / name
        path.write_text(body if body.startswith("#!") else f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        if manifest is not None:
            self.manifest(name.split(".", maxsplit=1)[0], manifest)
        return path

    def manifest(self, kind: str, text: str) -> None:
        path = self.scripts / f"{kind}.toml"
        path.write_text(text)
        path.chmod(0o644)

    # -- the runner -------------------------------------------------------------------------

    def command(self, *flags: str) -> list[str]:
        return [
            sys.executable, "-m", "agent.runner.main", "--state-dir", str(self.state),
            "--scripts-dir", str(self.scripts), *flags,
        ]  # fmt: skip

    def spawn(
        self, *flags: str, prefix: tuple[str, ...] = (), **environ: str
    ) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, *self.command(*flags)], cwd=ROOT, stderr=log,
                env={**os.environ, "SECRET_OF_THE_RUNNER": "x", **environ},
            )  # fmt: skip
        return self.process

    def start(self, *flags: str, prefix: tuple[str, ...] = (), **environ: str) -> Client:
        """Start the runner and say hello."""
        process = self.spawn("--stay", *flags, prefix=prefix, **environ)
        return self.connect(process)

    def connect(
        self, process: subprocess.Popen[bytes] | None = None, generation: int = 1
    ) -> Client:
        client = self.dial(process)
        client.hello(generation)
        return client

    def dial(self, process: subprocess.Popen[bytes] | None = None) -> Client:
        """A connection that has not said hello."""

        def try_once() -> Client | None:
            assert process is None or process.poll() is None, self.log.read_text()
            try:
                return Client(str(self.socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return None

        client: Client = wait_for(try_once)
        self.clients.append(client)
        return client

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for process in self.scripts_alive():
            processes.send(process, signal.SIGKILL)

    # -- evidence ---------------------------------------------------------------------------

    def scripts_alive(self) -> list[processes.Process]:
        """Processes whose AGENT_PROGRESS is in this box."""
        prefix = os.fsencode(self.path)
        return [
            process
            for process in processes.snapshot().values()
            if not process.is_dead
            and (progress_of(processes.read_environ(process.pid)) or b"").startswith(prefix)
        ]

    def run_file(self, row: int, start_no: int = 1) -> RunFile:
        return record.decode_file((self.runs / f"{row}.{start_no}.run").read_bytes())


def is_alive(pid: int) -> bool:
    process = processes.read_process(pid)
    return process is not None and not process.is_dead
