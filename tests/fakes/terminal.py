"""A terminal for one program: a pty of a given size, and the little of ANSI that is drawn with.

`lines` is what a person would see now; `log` is every byte that came.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence

_CONTROL = re.compile(rb"\x1b\[(\?)?([0-9;]*)([A-Za-z])")


class Terminal:
    """`send` types, `wait_for` looks until the screen satisfies a condition."""

    def __init__(
        self, command: Sequence[str], env: dict[str, str], cwd: str, columns: int = 80,
        rows: int = 24, term: str = "xterm",
    ) -> None:  # fmt: skip
        self._master, slave = os.openpty()
        self.resize(columns, rows, tell=False)
        self.settings = termios.tcgetattr(slave)
        # Opening it as the leader of a new session makes it the controlling terminal, so that
        # Ctrl-C and Ctrl-Z are signals.
        opening = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(slave)]
        self.process = subprocess.Popen(
            [*opening, *command], cwd=cwd, start_new_session=True, env=env | {"TERM": term}
        )
        self._slave = slave
        self.log = b""
        self._pending = b""
        self._grid: dict[int, str] = {}
        self._at = (0, 0)
        self.alternate = False
        self.cursor_shown = True

    @property
    def lines(self) -> list[str]:
        last = max(self._grid, default=-1)
        return [self._grid.get(row, "").rstrip() for row in range(last + 1)]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def resize(self, columns: int, rows: int, *, tell: bool = True) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def send(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait_for(self, true: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError(f"the screen is:\n{self.text}\nafter {self.log[-2000:]!r}")
            if not self._read(0.05) and self.process.poll() is not None and not true():
                raise AssertionError(f"it ended with {self.process.returncode}: {self.log!r}")

    def wait_end(self, seconds: float = 20) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self._read(0.05)
            assert time.monotonic() < deadline, f"it goes on; the screen is:\n{self.text}"
        while self._read(0.05):
            pass
        return self.process.returncode

    def settings_now(self) -> list[object]:
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._master)
        os.close(self._slave)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        data = os.read(self._master, 65536)
        self.log += data
        self._pending += data
        self._interpret()
        return True

    def _interpret(self) -> None:
        while self._pending:
            if self._pending.startswith(b"\x1b"):
                found = _CONTROL.match(self._pending)
                if found is None:
                    return  # the rest of it is still to come
                self._control(found)
                self._pending = self._pending[found.end() :]
                continue
            plain, escape, rest = self._pending.partition(b"\x1b")
            try:
                text = plain.decode()
            except UnicodeDecodeError:
                return
            self._write(text)
            self._pending = escape + rest

    def _control(self, found: re.Match[bytes]) -> None:
        private, numbers, letter = found[1], found[2].decode(), found[3].decode()
        row, column = self._at
        if private:
            if numbers == "1049":
                self.alternate = letter == "h"
                self._grid.clear()
            elif numbers == "25":
                self.cursor_shown = letter == "h"
        elif letter == "H":
            parts = [int(part) - 1 for part in numbers.split(";") if part] or [0, 0]
            self._at = parts[0], parts[-1]
        elif letter == "J":
            self._grid.clear()
        elif letter == "K":
            self._grid[row] = self._grid.get(row, "")[:column]
        else:
            assert letter == "m", f"{found[0]!r} is more than this terminal knows"

    def _write(self, text: str) -> None:
        row, column = self._at
        for char in text:
            if char == "\n":
                row, column = row + 1, 0
            elif char == "\r":
                column = 0
            elif char == "\b":
                column = max(0, column - 1)
            elif char == "\a":
                continue
            else:
                line = self._grid.get(row, "").ljust(column)
                self._grid[row] = line[:column] + char + line[column + 1 :]
                column += 1
        self._at = row, column
