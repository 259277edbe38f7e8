"""Each kind of the test catalogue does what its manifest says; other tests build on that."""

from __future__ import annotations

import os
import signal
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from agent.runner.manifest import parse_manifest
from tests.fakes.kind_process import CATALOGUE, SHIPPED, ended, read_progress, run_kind, start_kind

KINDS = sorted(
    path for place in (CATALOGUE, SHIPPED) for path in place.iterdir() if path.suffix != ".toml"
)
pytestmark = pytest.mark.timeout(60)


def read_manifest(kind: Path) -> dict[str, Any]:
    """As the runner reads it, with its defaults."""
    manifest, faults = parse_manifest(kind.with_name(kind.name + ".toml").read_bytes())
    assert faults == []
    return manifest


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_would_be_accepted(kind: Path):
    manifest = read_manifest(kind)
    assert manifest["description"]
    assert manifest["risk_level"] == "safe"
    jsonschema_rs.meta.validate(manifest["payload_schema"] or {})
    for path, mode in ((kind, 0o755), (kind.with_name(kind.name + ".toml"), 0o644)):
        found = path.lstat()
        assert stat.S_ISREG(found.st_mode)
        # A checkout may add the group's bits (umask 002); the runner then refuses the file.
        assert stat.S_IMODE(found.st_mode) == mode, f"chmod {mode:o} {path}"


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("sleep", {"seconds": -1}),
        ("sleep", {"seconds": 1, "second": 2}),
        ("stamp", {"file": "relative"}),
        ("stamp", {"file": '/tmp/"quoted"'}),
        ("stamp", {"file": "/tmp/$(id)"}),
        ("fail", {"message": 'a "quote"'}),
        ("fail", {"code": 256}),
        ("chatty", {"bytes": 1.5}),
    ],
)
def test_what_a_shell_could_not_read_is_refused_by_the_schema(kind: str, payload: dict[str, Any]):
    schema = read_manifest(CATALOGUE / kind)["payload_schema"]
    assert not jsonschema_rs.is_valid(schema, payload)


@pytest.mark.parametrize("kind", ["sleep", "sleep_exclusive", "never_twice"])
def test_sleepers_sleep_as_long_as_asked(kind: str):
    started = time.monotonic()
    assert run_kind(CATALOGUE / kind, {"seconds": 0.3}).returncode == 0
    assert 0.3 <= time.monotonic() - started < 5


@pytest.mark.parametrize("kind", ["sleep", "sleep_exclusive", "never_twice"])
def test_sleepers_end_on_term(kind: str):
    with ended(start_kind(CATALOGUE / kind, {"seconds": 60})) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM


def test_exclusive_parallel_and_never_are_in_the_manifests():
    assert read_manifest(CATALOGUE / "sleep")["parallel"] is True
    assert read_manifest(CATALOGUE / "sleep_exclusive")["parallel"] is False
    assert read_manifest(CATALOGUE / "never_twice")["on_restart"] == "never"
    assert read_manifest(CATALOGUE / "tiny")["parallel"] is True
    assert read_manifest(CATALOGUE / "stamp")["parallel"] is True


def test_tiny_says_nothing_and_succeeds():
    done = run_kind(CATALOGUE / "tiny", {})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("payload", "code", "message"),
    [
        ({"code": 3, "message": "disk is full"}, 3, "disk is full\n"),
        ({"message": "a, b} c: \\".rstrip("\\"), "code": 75}, 75, "a, b} c: \n"),
        ({}, 1, "failed as asked\n"),
        ({"code": 0}, 0, "failed as asked\n"),
    ],
)
def test_fail_fails_as_asked(payload: dict[str, Any], code: int, message: str):
    done = run_kind(CATALOGUE / "fail", payload)
    assert (done.returncode, done.stderr) == (code, message)


def test_progress_reports_each_step(tmp_path: Path):
    path = tmp_path / "progress"
    done = run_kind(CATALOGUE / "progress", {"steps": 4, "step_s": 0.01}, progress=path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"step {n} of 4" for n in (1, 2, 3, 4)]
    assert [line["percent"] for line in read_progress(path)] == [25, 50, 75, 100]
    assert read_progress(path)[-1]["message"] == "step 4 of 4"


def test_stubborn_survives_term_and_not_kill():
    with ended(start_kind(CATALOGUE / "stubborn", {"seconds": 60})) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ignoring TERM\n"
        process.send_signal(signal.SIGTERM)
        ignored = int(read_status(process.pid, "SigIgn"), 16)
        assert ignored & 1 << (signal.SIGTERM - 1)
        assert process.poll() is None
        process.kill()
        assert process.wait(timeout=10) == -signal.SIGKILL


def read_status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith(name + ":"))


def test_stamp_writes_start_and_end(tmp_path: Path):
    path = tmp_path / "stamps"
    before = time.time()
    done = run_kind(CATALOGUE / "stamp", {"file": str(path), "seconds": 0.2, "code": 7})
    assert done.returncode == 7
    first, last = (line.split() for line in path.read_text().splitlines())
    assert first[:3] == ["test-1", "1", "start"]
    assert last[:3] == ["test-1", "1", "end"]
    assert before <= float(first[3]) <= float(last[3]) - 0.2


def test_a_stopped_stamp_has_no_end(tmp_path: Path):
    path = tmp_path / "stamps"
    with ended(start_kind(CATALOGUE / "stamp", {"file": str(path), "seconds": 60})) as process:
        while not (path.exists() and path.read_text()):
            time.sleep(0.005)  # the test's own timeout bounds this
        os.killpg(process.pid, signal.SIGTERM)  # its tree, as the runner does
        assert process.wait(timeout=10) in {143, -signal.SIGTERM}
    assert [line.split()[2] for line in path.read_text().splitlines()] == ["start"]


def test_stamps_of_many_never_mix(tmp_path: Path):
    path = tmp_path / "stamps"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: run_kind(CATALOGUE / "stamp", {"file": str(path)}), range(60)))
    lines = path.read_text().splitlines()
    assert len(lines) == 120
    assert all(len(line.split()) == 4 for line in lines)


def test_stamp_that_cannot_write_fails(tmp_path: Path):
    assert run_kind(CATALOGUE / "stamp", {"file": f"{tmp_path}/no/such/file"}).returncode == 1


@pytest.mark.parametrize("size_bytes", [0, 1, 100, 1_000_003])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_chatty_writes_so_many_bytes(size_bytes: int, stream: str):
    done = run_kind(CATALOGUE / "chatty", {"bytes": size_bytes, "stream": stream})
    assert done.returncode == 0
    written = {"stdout": done.stdout, "stderr": done.stderr}
    text = written.pop(stream)
    assert list(written.values()) == [""]
    assert len(text) == size_bytes
    assert all(int(text[at : at + 15]) == at for at in range(0, size_bytes - 15, 16))
