"""Where the demo happens: a temporary directory, a core, nodes; and that nothing of it is left.

A process is ours when the directory's name is in its command line or in AGENT_PROGRESS; the name
is random, so nobody else's process is ever touched.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "scripts" / "actions"
RULES = ROOT / "scripts" / "demo.d" / "rules"
TEST_KINDS = ROOT / "tests" / "fakes" / "kinds"
KINDS = {
    SHIPPED: ("collect_diagnostics", "rerun_healthcheck"),
    TEST_KINDS: ("sleep", "sleep_exclusive", "fail", "progress", "stamp"),
}
PREFIX = "node-agent-demo-"
ROLES = {"north": "db", "south": "web", "east": "web"}
DAEMONS = (b"/agentd", b"/cored", b"agent.runner.main", b"/agent-runner")
START_S_MAX = 30.0
END_S_MAX = 20.0
COMMAND_S_MAX = 30.0
LOOK_AGAIN_S = 0.05
REFUSED = 5  # the commands' exit code for a clear no


class Trouble(Exception):
    """The demo cannot go on; the text says why and what to do."""


class Place:
    """Everything the demo starts."""

    def __init__(self, bin_dir: Path) -> None:
        self._bin = bin_dir.absolute()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.scripts = self.path / "scripts.d"
        self._copy_kinds()
        self._listen = "127.0.0.1:0"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # -- the core ---------------------------------------------------------------------------

    def start_core(self) -> None:
        """Until it listens; the second time on the same port."""
        told = self.path / "core" / "listen"
        told.unlink(missing_ok=True)
        self._spawn(
            "core", "cored", "--state-dir", self.path / "core", "--listen", self._listen,
            "--rules-dir", RULES,
        )  # fmt: skip
        self.wait(told.exists, START_S_MAX, "cored did not start", "core")
        self._listen = told.read_text().strip()

    @property
    def core_url(self) -> str:
        """Where the core listens."""
        return f"http://{self._listen}"

    @property
    def core_port(self) -> int:
        """Its port."""
        return int(self._listen.rpartition(":")[2])

    def corectl(self, *arguments: str) -> Any:
        """A command of the fleet's operator; its JSON."""
        return self._json("corectl", arguments, CORE_URL=self.core_url, CORE_TOKEN_FILE=self._token)

    def corectl_text(self, *arguments: str) -> str:
        """The same, as a person sees it."""
        return self._run(
            "corectl", arguments, CORE_URL=self.core_url, CORE_TOKEN_FILE=self._token
        ).stdout.strip()

    def corectl_refused(self, *arguments: str) -> str:
        """What a command says that must be refused. Raises `Trouble` if it is not."""
        done = self._run(
            "corectl", arguments, check=False, CORE_URL=self.core_url, CORE_TOKEN_FILE=self._token
        )
        if done.returncode != REFUSED:
            raise Trouble(f"corectl {' '.join(arguments)} ended with {done.returncode}")
        return done.stderr.strip()

    @property
    def _token(self) -> str:
        return str(self.path / "core" / "admin.token")

    # -- nodes ------------------------------------------------------------------------------

    def start_node(self, name: str, token: str | None = None) -> None:
        """Begin to start an agentd; `wait_node` waits for it."""
        extra = ["--enroll-token", token] if token else []
        self._spawn(
            name, "agentd", "--state-dir", self.state(name), "--scripts-dir", self.scripts,
            "--agent-id", name, "--core", self.core_url, "--label", f"role={ROLES[name]}", *extra,
        )  # fmt: skip

    def wait_node(self, name: str) -> None:
        """Until it is ready and connected to the core."""

        def ready() -> bool:
            done = self._run("agentctl", ["status", "--json"], check=False, **self._node(name))
            if done.returncode:
                return False
            status = json.loads(done.stdout)
            connected = status["core"]["connected"] and status["runner"]["connected"]
            return bool(status["daemon"] == "running" and connected)

        self.wait(ready, START_S_MAX, f"{name} did not become ready", name)

    def agentctl(self, name: str, *arguments: str) -> Any:
        """A command on one node; its JSON."""
        return self._json("agentctl", arguments, **self._node(name))

    def state(self, name: str) -> Path:
        """A node's state directory."""
        return self.path / name

    def _node(self, name: str) -> dict[str, str]:
        return {"AGENT_STATE_DIR": str(self.state(name))}

    # -- processes --------------------------------------------------------------------------

    def kill9(self, name: str) -> int:
        """SIGKILL for a node's agentd, and for nothing else; its pid."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()
        return process.pid

    def stop(self, name: str) -> None:
        """SIGTERM, and until it has ended."""
        process = self._processes.pop(name)
        process.terminate()
        process.wait(END_S_MAX)

    def wait(
        self, true: Callable[[], Any], seconds: float, otherwise: str, name: str | None = None
    ) -> None:
        """Look again until it is true. Raises `Trouble` with the log of the process waited for."""
        until = time.monotonic() + seconds
        while not true():
            process = self._processes.get(name) if name else None
            ended = process is not None and process.poll() is not None
            if ended or time.monotonic() > until:
                log = (self.path / f"{name}.log").read_text()[-2000:] if name else ""
                raise Trouble(f"{otherwise} within {seconds:g} s\n{log}".strip())
            time.sleep(LOOK_AGAIN_S)

    def _spawn(self, name: str, command: str, *arguments: str | Path) -> None:
        with (self.path / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [self._bin / command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=clean_environment(), cwd=self.path, start_new_session=True,
            )  # fmt: skip

    def _run(
        self, command: str, arguments: Any, *, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self._bin / command, *arguments], capture_output=True, text=True, check=False,
            timeout=COMMAND_S_MAX, env=clean_environment() | environment, cwd=self.path,
        )  # fmt: skip
        if check and done.returncode:
            told = (done.stderr or done.stdout).strip()
            raise Trouble(f"{command} {' '.join(arguments)} ended with {done.returncode}: {told}")
        return done

    def _json(self, command: str, arguments: Any, **environment: str) -> Any:
        return json.loads(self._run(command, [*arguments, "--json"], **environment).stdout)

    def _copy_kinds(self) -> None:
        """As `install -m` would: what a group may write to is refused by the runner."""
        self.scripts.mkdir(mode=0o755)
        for source, names in KINDS.items():
            for name in names:
                for file, mode in ((name, 0o755), (f"{name}.toml", 0o644)):
                    shutil.copyfile(source / file, self.scripts / file)
                    (self.scripts / file).chmod(mode)


def clean_environment() -> dict[str, str]:
    """Ours, without what would change where the commands look."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("AGENT_", "CORE_"))}


def processes_of(path: Path) -> Iterator[tuple[int, bool]]:
    """(pid, is a daemon) of everything alive that belongs to the directory."""
    mine = os.fsencode(path)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone, or not ours to read
        if b"AGENT_PROGRESS=" + mine + b"/" in environment:
            yield int(entry.name), False
            continue
        words = command.split(b"\0")
        daemon = any(word.endswith(DAEMONS) for word in words)
        if daemon and any(word.startswith(mine + b"/") for word in words):
            yield int(entry.name), True


def end(path: Path) -> None:
    """End everything of the directory and remove it. Raises `Trouble` if something stays."""
    for begin in (_ask_daemons, _kill_all):
        until = time.monotonic() + END_S_MAX
        begin(path)
        while time.monotonic() < until:
            _reap()
            if not any(True for _ in processes_of(path)):
                shutil.rmtree(path)
                return
            _ask_daemons(path)  # the runner goes last, once its agentd has gone
            time.sleep(LOOK_AGAIN_S)
    left = ", ".join(str(pid) for pid, _ in processes_of(path))
    raise Trouble(f"these processes of {path} could not be ended: {left}")


def _ask_daemons(path: Path) -> None:
    for pid, ours in list(processes_of(path)):
        if ours:
            _signal(pid, signal.SIGTERM)


def _kill_all(path: Path) -> None:
    for pid, _ in list(processes_of(path)):
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _reap() -> None:
    """Our own children that have ended; others' are reaped by their parents."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return
