"""`agentctl status --watch` on a terminal and into a pipe, also over a restart of agentd."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.board_values import ended, fire, running, status, summary
from tests.fakes.node_process import ROOT, NodeProcess, clean_environment
from tests.fakes.scripted_api import Asked, ScriptedApi
from tests.fakes.terminal import Terminal

pytestmark = pytest.mark.timeout(60)


def command(state_dir: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "agent.cli.agentctl", "--state-dir", str(state_dir), "status",
            "--watch", *words]  # fmt: skip


class Fake(ScriptedApi):
    """A node whose state a test changes; whoever waits for events is told at once."""

    def show(self, **members: Any) -> None:
        def events(asked: Asked) -> tuple[int, Any]:
            until = time.monotonic() + float(asked.query["wait"])
            while self.seq == int(asked.query["after"]) and time.monotonic() < until:
                time.sleep(0.01)
            return 200, {"events": [], "after": self.seq}

        self.seq = getattr(self, "seq", 0) + 1
        self.answers |= {
            "GET /v1/status": (200, status(seq=self.seq, **members)),
            "GET /v1/actions": lambda asked: (
                200,
                {"actions": [summary("q1")] if asked.query["view"] == "queue" else [ended()],
                 "next": None},
            ),
            "GET /v1/forecast": (200, {"fires": [fire(starts_at="2090-01-01T00:00:00Z")],
                                       "zone": "UTC", "truncated": False}),
            "GET /v1/events": events,
        }  # fmt: skip

    def stop(self) -> None:
        self.seq += 1
        super().stop()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    made = Fake(tmp_path / "state")
    made.show(running=[running("r1")])
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def screen(fake: Fake) -> Iterator[Terminal]:
    terminal = Terminal(command(fake.state_dir), clean_environment(), str(ROOT))
    try:
        terminal.wait_for(lambda: "RUNNING" in terminal.text)
        yield terminal
    finally:
        terminal.close()


def test_the_board_is_drawn_in_place_and_the_terminal_given_back(
    fake: Fake, screen: Terminal
) -> None:
    assert screen.alternate
    assert not screen.cursor_shown
    assert len(screen.lines) <= 24
    for word in ("n1: agentd", "r1", "[#####.......]  40 %", "WAITING", "q1", "NEXT", "nightly",
                 "LAST ENDED", "exit_nonzero (7)", "q or Ctrl-C ends"):  # fmt: skip
        assert word in screen.text
    fake.show(paused=True, pause_reason="kernel")
    screen.wait_for(lambda: "PAUSED   kernel" in screen.text, 5)
    assert "RUNNING" not in screen.text
    assert b"\x1b[2J" not in screen.log.partition(b"PAUSED")[2], "cleared: it would flicker"
    screen.send(b"q")
    assert screen.wait_end() == 0
    assert not screen.alternate
    assert screen.cursor_shown
    assert screen.settings_now() == screen.settings


@pytest.mark.parametrize(
    ("how", "code"), [("ctrl-c", 130), ("term", 128 + signal.SIGTERM), ("hup", 129)]
)
def test_every_ending_gives_the_terminal_back(screen: Terminal, how: str, code: int) -> None:
    if how == "ctrl-c":
        screen.send(b"\x03")
    else:
        screen.process.send_signal(signal.SIGTERM if how == "term" else signal.SIGHUP)
    assert screen.wait_end() == code
    assert not screen.alternate
    assert screen.cursor_shown
    assert screen.settings_now() == screen.settings
    assert b"Traceback" not in screen.log


def test_a_new_size_is_followed_and_never_overrun(screen: Terminal) -> None:
    screen.resize(44, 12)
    screen.wait_for(lambda: len(screen.lines) <= 12 and "RUNNING" in screen.text, 5)
    assert all(len(line) <= 44 for line in screen.lines)
    screen.resize(120, 40)
    screen.wait_for(lambda: "nightly" in screen.text, 5)


def test_it_can_be_stopped_and_goes_on(fake: Fake) -> None:
    """Under a shell: without one that could continue it, the kernel stops nobody."""
    shell = ["bash", "-mc", '"$@"; echo IT STOPPED; read -r _; fg >/dev/null', "bash"]
    screen = Terminal([*shell, *command(fake.state_dir)], clean_environment(), str(ROOT))
    try:
        screen.wait_for(lambda: "RUNNING" in screen.text)
        screen.send(b"\x1a")
        screen.wait_for(lambda: "IT STOPPED" in screen.text, 5)
        assert not screen.alternate
        assert screen.settings_now() == screen.settings
        screen.send(b"\n")
        screen.wait_for(lambda: screen.alternate and "RUNNING" in screen.text, 5)
        screen.send(b"q")
        assert screen.wait_end() == 0
    finally:
        screen.close()


def test_colours_unless_told_otherwise(fake: Fake, screen: Terminal) -> None:
    assert b"\x1b[1;31m" in screen.log
    plain = Terminal(command(fake.state_dir), clean_environment() | {"NO_COLOR": "1"}, str(ROOT))
    try:
        plain.wait_for(lambda: "RUNNING" in plain.text)
        assert b"m" not in {part[-1:] for part in plain.log.split(b"\x1b")[1:] if len(part) < 5}
        assert b"\x1b[1;31m" not in plain.log
    finally:
        plain.close()


def test_a_passing_refusal_is_shown_and_waited_out(fake: Fake, screen: Terminal) -> None:
    busy = {"error": "busy", "message": "too many requests at once"}
    fake.answers["GET /v1/status"] = 503, busy
    screen.wait_for(lambda: "too many requests at once" in screen.text, 8)
    assert "is running" in screen.text
    fake.show(paused=True)
    screen.wait_for(lambda: "PAUSED" in screen.text and "too many" not in screen.text, 8)


def test_the_node_is_not_asked_more_than_once_a_second(fake: Fake, screen: Terminal) -> None:
    begun, before = time.monotonic(), len(asked_for_status(fake))
    while time.monotonic() < begun + 2:
        fake.show(paused=bool(fake.seq % 2))  # changes all the time
        screen.wait_for(lambda: True)
        time.sleep(0.02)
    assert 1 <= len(asked_for_status(fake)) - before <= 3


def asked_for_status(fake: Fake) -> list[Asked]:
    return [asked for asked in fake.asked if asked.path == "/v1/status"]


def test_a_pipe_gets_a_block_or_a_document_per_change(fake: Fake) -> None:
    for words in ([], ["--json"]):
        with subprocess.Popen(
            command(fake.state_dir, *words), stdout=subprocess.PIPE, env=clean_environment(),
            cwd=ROOT, text=True,
        ) as watching:  # fmt: skip
            assert watching.stdout is not None
            first = watching.stdout.readline()
            fake.show(paused=True, pause_reason=f"reason {fake.seq}")
            reason = f"reason {fake.seq - 1}"
            for line in watching.stdout:
                if reason in line:
                    break
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 130
        if words:
            assert json.loads(first)["agent_id"] == "n1"
            assert json.loads(line)["ended"][0]["id"] == "e1"
        assert "\x1b" not in line


def test_what_cannot_be_watched_is_said_at_once(tmp_path: Path) -> None:
    terminal = Terminal(command(tmp_path / "nowhere"), clean_environment(), str(ROOT))
    try:
        assert terminal.wait_end() == 3
        assert b"there is no state directory" in terminal.log
        assert b"1049h" not in terminal.log
    finally:
        terminal.close()


def test_a_restart_of_agentd_is_seen_and_survived(node: NodeProcess) -> None:
    node.start()
    node.run("sleep", {"seconds": 30}, id="sleeper")
    in_a_month = datetime.now(UTC) + timedelta(days=30)
    node.run("tiny", id="later", from_date=in_a_month.isoformat())
    screen = Terminal(command(node.state_dir), clean_environment(), str(ROOT))
    try:
        screen.wait_for(lambda: "sleeper" in screen.text and "later" in screen.text)
        node.kill9()
        screen.wait_for(lambda: "agentd is DOWN since" in screen.text)
        assert "sleeper" in screen.text
        node.start()
        screen.wait_for(lambda: "is running, pid" in screen.lines[0])
        node.call("POST", "/v1/actions/sleeper/cancel")
        screen.wait_for(lambda: "CANCELLED" in screen.text)
        screen.send(b"q")
        assert screen.wait_end() == 0
    finally:
        screen.close()
