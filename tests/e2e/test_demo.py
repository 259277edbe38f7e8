"""The demo plays to its end and leaves nothing, also when it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.node_process import ROOT, clean_environment, wait_until

DEMO = [sys.executable, "-B", str(ROOT / "scripts/demo.d/demo.py"),
        "--bin", str(Path(sys.executable).parent)]  # fmt: skip
DEMO_S_MAX = 60  # the promise of the issue


def start(place: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*DEMO, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env=clean_environment() | {"TMPDIR": str(place)}, start_new_session=True,
    )  # fmt: skip


def left(place: Path) -> list[str]:
    """Processes that have anything to do with the place."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                about = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"/node-agent-demo-" in about and os.fsencode(place) in about:
                found.append(f"{entry.name}: {about[:200]!r}")
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.mark.timeout(150)
def test_everything_comes_as_it_must_and_nothing_stays(place: Path) -> None:
    began = time.monotonic()
    with start(place) as demo:
        told = demo.communicate(timeout=120)[0]
    assert demo.returncode == 0, told
    assert "every change is at the core, once, in order" in told
    assert "rejected it" in told, "what ended is not told as waiting"
    assert "waits for its turn" not in told
    assert "Nothing is left running" in told
    assert time.monotonic() - began < DEMO_S_MAX
    assert left(place) == []
    assert list(place.iterdir()) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("word", ["Starting the core", "Sending actions", "kill -9 of agentd"])
def test_an_interrupted_demo_leaves_nothing(place: Path, word: str) -> None:
    with start(place) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if word in line:
                break
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: the commands under way get it too
        rest = demo.stdout.read()
        assert demo.wait(60) == 130, rest
    assert "Nothing is left running" in rest
    assert left(place) == []
    assert list(place.iterdir()) == []


@pytest.mark.timeout(150)
def test_keep_leaves_it_up_and_stop_ends_it(place: Path) -> None:
    with start(place, "--keep") as demo:
        told = demo.communicate(timeout=120)[0]
    [kept] = place.iterdir()
    try:
        assert demo.returncode == 0, told
        assert f"scripts/demo --stop {kept}" in told
        agentctl = str(Path(sys.executable).parent / "agentctl")
        command = [agentctl, "--state-dir", str(kept / "north")]
        status = subprocess.run([*command, "status"], capture_output=True, text=True, check=True)
        assert "north: agentd" in status.stdout
    finally:
        stopped = subprocess.run(
            [*DEMO, "--stop", str(kept)], capture_output=True, text=True, check=False
        )
    assert stopped.returncode == 0, stopped
    wait_until(lambda: left(place) == [], 5, lambda: str(left(place)))
    assert list(place.iterdir()) == []


def test_stop_refuses_what_is_not_a_demo(tmp_path: Path) -> None:
    done = subprocess.run([*DEMO, "--stop", tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, "is not what" in done.stderr) == (2, True)
