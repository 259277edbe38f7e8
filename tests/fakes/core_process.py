"""A real `cored` in a process of its own, for tests: started, killed, asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_S_MAX = 15.0


class CoreProcess:
    """One `cored` on a free port; `start` again after `kill` keeps the port."""

    def __init__(self, state_dir: Path, **settings: object) -> None:
        """`settings` become `CORE_…` variables, as `rules_dir=…` or `database="postgresql://…"`."""
        self.state_dir = state_dir
        self.settings = settings
        self.listen = "127.0.0.1:0"
        self.process: subprocess.Popen[bytes] | None = None
        self.log = state_dir.with_name(f"{state_dir.name}.log")

    @property
    def url(self) -> str:
        return f"http://{self.listen}"

    @property
    def token_file(self) -> Path:
        return self.state_dir / "admin.token"

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip()

    def start(self) -> CoreProcess:
        listen_file = self.state_dir / "listen"
        listen_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent.core.main", "--state-dir", self.state_dir,
                 "--listen", self.listen],
                stdout=log, stderr=log, cwd=ROOT, env=self._environment(),
            )  # fmt: skip
        until = time.monotonic() + START_S_MAX
        while not listen_file.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"cored did not start:\n{self.log.read_text()}")
            time.sleep(0.01)
        self.listen = listen_file.read_text().strip()
        return self

    def _environment(self) -> dict[str, str]:
        ours = {"PYTHONPATH": str(ROOT)}
        ours |= {f"CORE_{name.upper()}": str(value) for name, value in self.settings.items()}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CORE_")}
        return kept | ours

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)
