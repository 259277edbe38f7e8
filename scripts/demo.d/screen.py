"""What the demo shows: redrawn in place on a terminal, a line per change everywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from datetime import UTC, datetime
from typing import Any

from agent.cli.node_commands.show import bar
from agent.cli.tables import text
from agent.cli.times import age_s, span

STORY_LINES = 7
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_CLEAR = "\x1b[2J"
_MARKS = {"DONE": "+", "RUNNING": ">", "SCHEDULED": ".", "QUEUED": ".", "CANCELLED": "x"}


class Screen:
    """Told what happens; decides how to show it."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._began = time.monotonic()
        self._story: list[str] = []
        self._actions: dict[str, dict[str, Any]] = {}
        self._shown: dict[str, str] = {}
        if self._live:
            sys.stdout.write(_CLEAR)

    def tell(self, line: str) -> None:
        """A step of the story."""
        told = f"{time.monotonic() - self._began:5.1f} s  {line}"
        self._story.append(told)
        if self._live:
            self.draw()
        else:
            print(told, flush=True)

    def update(self, actions: dict[str, dict[str, Any]]) -> None:
        """The actions as the nodes have them now."""
        self._actions = actions
        if self._live:
            self.draw()
            return
        for action_id, action in actions.items():
            if self._shown.get(action_id) != action["phase"]:
                self._shown[action_id] = action["phase"]
                seconds = time.monotonic() - self._began
                print(f"{seconds:5.1f} s    {action_id:<20} {_state(action)}", flush=True)

    def draw(self) -> None:
        """The whole picture, in place."""
        width, height = shutil.get_terminal_size()
        lines = ["node-agent: a core and three nodes on this machine", ""]
        lines += self._story[-STORY_LINES:]
        lines += [""] * (STORY_LINES + 3 - len(lines))
        for action in self._actions.values():
            mark = _MARKS.get(action["phase"], "!")
            lines.append(f" {mark} {action['id']:<20} {action['node']:<6} {_state(action)}")
        body = "".join(f"{text(line)[: width - 1]}{_CLEAR_LINE}\n" for line in lines[: height - 1])
        sys.stdout.write(_HOME + body + _CLEAR_BELOW)
        sys.stdout.flush()

    def finish(self) -> None:
        """Leave the picture as it is and go on below."""
        if self._live:
            self.draw()
        print(flush=True)


def _state(action: dict[str, Any]) -> str:
    phase = action["phase"]
    now = datetime.now(UTC)
    if phase == "RUNNING":
        percent = (action.get("progress") or {}).get("percent")
        running_s = max(0.0, age_s(action["started_at"], now))
        shown = f"{bar(percent)} {percent:3.0f} %" if percent is not None else span(running_s)
        return f"{phase:<12} {shown}"
    if phase == "SCHEDULED":
        return f"{phase:<12} in {span(max(0.0, -age_s(action['due_at'], now)))}"
    code = f", exit {action['exit_code']}" if action.get("exit_code") is not None else ""
    return f"{phase:<12} {action['reason'] or ''}{code}".rstrip()
