"""A terminal that a board is drawn on in place, and given back as it was, however this ends.

Plain ANSI. Only lines that changed are written, in one write, so nothing flickers, also over a
slow line. The keyboard is read without echo: `q` ends.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Self

from agent.cli.lines import Line

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_CLEAR_LINE = "\x1b[K"
_CLEAR_ALL = "\x1b[H\x1b[2J"
QUIT_KEYS = b"qQ"
SIZE_UNKNOWN = (80, 24)
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def can_be_drawn_on() -> bool:
    """Whether stdout is a terminal that understands being addressed."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"", "dumb"}


def wants_colours() -> bool:
    """https://no-color.org: any value but the empty one says no."""
    return not os.environ.get("NO_COLOR")


class Screen:
    """The alternate screen, while inside the `with`."""

    def __init__(self) -> None:
        self._out = sys.stdout.fileno()
        self._keys: int | None = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._cooked: list[Any] | None = None
        self._wake_read, self._wake_write = os.pipe()
        self._before: dict[int, Any] = {}
        self._shown: list[str] = []
        self._size = (0, 0)
        self._colours = wants_colours()

    def __enter__(self) -> Self:
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        for number in _ENDING:
            self._before[number] = signal.signal(number, _end)
        self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._suspend)
        # Python writes a byte for each signal, also for the window's change: the wait ends.
        self._before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._give_back()
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines now: the terminal's own word, for COLUMNS never changes."""
        try:
            found = os.get_terminal_size(self._out)
        except OSError:  # it hung up; the signal for it is on its way
            return SIZE_UNKNOWN
        return (found.columns or SIZE_UNKNOWN[0], found.lines or SIZE_UNKNOWN[1])

    def wake(self) -> None:
        """End a `wait`, from any thread."""
        os.write(self._wake_write, b"\0")

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines, and nothing else."""
        width, height = self.size
        wanted = [line.shown(width, colours=self._colours) for line in lines[:height]]
        parts = []
        if (width, height) != self._size:
            parts.append(_CLEAR_ALL)
            self._shown = []
            self._size = (width, height)
        was = self._shown + [""] * (len(wanted) - len(self._shown))
        wanted += [""] * (len(was) - len(wanted))
        for at, (old, new) in enumerate(zip(was, wanted, strict=True)):
            if old != new:
                parts.append(f"\x1b[{at + 1};1H{new}{_CLEAR_LINE}")
        self._shown = wanted
        if parts:
            self._write("".join(parts))

    def wait(self, seconds: float) -> bool:
        """Until something happens or the time is over; False once `q` was pressed."""
        watched = [self._wake_read] + ([] if self._keys is None else [self._keys])
        ready, _, _ = select.select(watched, [], [], max(0.0, seconds))
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if self._keys in ready:
            pressed = os.read(self._keys or 0, 64)
            if not pressed:
                self._keys = None  # hung up; the signal for it is on its way
            return not any(key in QUIT_KEYS for key in pressed)
        return True

    def _take(self) -> None:
        if self._keys is not None:
            self._cooked = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys, termios.TCSADRAIN)
        self._size = (0, 0)
        self._write(_ENTER)

    def _give_back(self) -> None:
        self._write(_LEAVE)
        if self._keys is not None and self._cooked is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._cooked)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the terminal is the shell's until we are continued."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._suspend)
        self._take()

    def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding or "utf-8", "replace")
        while data:
            data = data[os.write(self._out, data) :]


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
