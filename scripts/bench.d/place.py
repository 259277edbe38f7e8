"""Where it is measured: a temporary directory with the stamped actions; what is started in it ends.

The action writes its own start, "ID start SECONDS", so the figures do not depend on what any
scheduler believes. It is the same file for all of them; only the stamp file is compiled in.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
PREFIX = "node-agent-bench-"
END_S_MAX = 20.0
LOOK_AGAIN_S = 0.002
_STAMPED = """#!/bin/bash
echo "$AGENT_ACTION_ID start $EPOCHREALTIME" >>{stamps}
{rest}"""


class Trouble(Exception):
    """Measuring cannot go on; the text says why and what to do."""


class Place:
    """A directory, the actions in it, and the processes that were started for it."""

    def __init__(self, parent: Path | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self.path.chmod(0o755)
        self.actions = self.path / "actions"
        self.actions.mkdir(mode=0o755)
        self.stamp_file = self.path / "stamps"
        self.compiler = shutil.which("gcc") or shutil.which("cc")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._strangers: list[int] = []
        self._guarded: list[subprocess.Popen[bytes]] = []
        self._number = 0
        self._make_script("bash_action", "")
        self._make_script("sleeping_action", 'sleep 2\necho "$AGENT_ACTION_ID end 0" >>{stamps}\n')
        self.has_static = self._make_static()
        self.preload = self._make_counter()

    def _make_script(self, name: str, rest: str) -> None:
        text = _STAMPED.replace("{rest}", rest).replace("{stamps}", str(self.stamp_file))
        self.install(name, text.encode())

    def install(self, name: str, data: bytes) -> None:
        """Add an action, as a kind of the node and as a file for the others."""
        (self.actions / name).write_bytes(data)
        (self.actions / name).chmod(0o755)
        (self.actions / f"{name}.toml").write_text('parallel = true\nrisk_level = "safe"\n')

    def _make_static(self) -> bool:
        """Without a C compiler a shell takes its place, and the table says so."""
        source, built = HERE / "stamp.c", self.path / "stamp"
        define = f'-DSTAMP_FILE="{self.stamp_file}"'
        if self._compile("-static", "-Os", define, "-o", str(built), str(source)):
            self.install("tiny_action", built.read_bytes())
            return True
        print("No static C program can be built here (Debian: apt-get install gcc libc6-dev);",
              "bash takes its place.", file=sys.stderr)  # fmt: skip
        self._make_script("tiny_action", "")
        return False

    def _make_counter(self) -> Path | None:
        built = self.path / "count_syncs.so"
        source = str(HERE / "count_syncs.c")
        made = self._compile("-shared", "-fPIC", "-O2", "-o", str(built), source, "-ldl")
        return built if made else None

    def _compile(self, *arguments: str) -> bool:
        if self.compiler is None:
            return False
        done = subprocess.run([self.compiler, *arguments], capture_output=True, check=False)
        return done.returncode == 0

    def fresh(self, name: str) -> Path:
        """A new directory for a store."""
        self._number += 1
        path = self.path / f"{name}-{self._number}"
        path.mkdir(mode=0o700)
        return path

    # -- stamps -----------------------------------------------------------------------------

    def forget_stamps(self) -> None:
        """Nothing was started yet."""
        self.stamp_file.write_bytes(b"")

    def stamps(self, word: str = "start") -> list[tuple[str, float]]:
        """(id, Unix time) of each start, as they were written."""
        lines = [line.split() for line in self.stamp_file.read_text().splitlines()]
        return [(line[0], float(line[2])) for line in lines if line[1] == word]

    def count_stamps(self, word: bytes = b" start ") -> int:
        """How many there are."""
        return self.stamp_file.read_bytes().count(word)

    # -- processes --------------------------------------------------------------------------

    def spawn(
        self, command: list[str], log: Path, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process; it ends with the place."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
                env=clean_environment() | (environment or {}), cwd=HERE.parents[1],
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def keep(self, process: subprocess.Popen[bytes]) -> None:
        """One that somebody else spawned: its input is closed when the place is, and it ends."""
        self._guarded.append(process)

    def know(self, pid: int) -> None:
        """A process that one of ours started: ends with the place as well."""
        self._strangers.append(pid)

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
        """Signal one that was spawned, and wait."""
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_S_MAX)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        if process in self._processes:
            self._processes.remove(process)

    def close(self) -> None:
        """End what is left of it, and remove it."""
        for process in list(self._processes):
            self.end(process)
        for process in self._guarded:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(END_S_MAX)
        for pid in self._strangers:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        wait_until(lambda: not any(map(_alive, self._strangers)), END_S_MAX, "a runner stays")
        shutil.rmtree(self.path, ignore_errors=True)


def clean_environment() -> dict[str, str]:
    """Ours, without settings that would leak into a daemon."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AGENT_", "CORE_"))}
    return kept | {"PYTHONPATH": str(HERE.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}


def wait_until(true: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Look again until it is true; Trouble after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise Trouble(f"{otherwise} after {seconds:g} s")
        time.sleep(LOOK_AGAIN_S)


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
