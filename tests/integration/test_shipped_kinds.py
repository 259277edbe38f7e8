"""The shipped kinds take their input, and `collect_diagnostics` does its work.

Started as the runner starts them. `rerun_healthcheck` has a file of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.runner.manifest import DEFAULTS
from tests.fakes.kind_process import (
    SHIPPED,
    accepts,
    install_kind,
    read_progress,
    read_schema,
    run_kind,
)

DIAGNOSTICS = SHIPPED / "collect_diagnostics"
HEADINGS = {
    "load": "== Load ==",
    "memory": "== Memory ==",
    "disks": "== Disks: space and inodes ==",
    "processes": "== Top processes ==",
    "failed_units": "== Failed units ==",
    "journal": "== Recent journal ==",
}
LIMIT_KEYS = (
    "cpu_s", "cpu_percent", "memory_bytes", "processes", "files", "file_bytes", "output_bytes",
)  # fmt: skip
RETRY_KEYS = ("max_attempts", "delay_s", "backoff", "max_delay_s")
REPORT_BYTES_MAX = 200 * 1024  # the runner keeps 256 KiB: nothing of a report is cut out

pytestmark = pytest.mark.timeout(60)


def test_diagnostics_has_every_section_and_reports_progress(tmp_path: Path):
    progress = tmp_path / "progress"
    done = run_kind(DIAGNOSTICS, {}, progress=progress)
    assert (done.returncode, done.stderr) == (0, "")
    found = [line for line in done.stdout.splitlines() if line.startswith("== ")]
    assert found == list(HEADINGS.values())
    assert "could not be collected" not in done.stdout
    assert len(done.stdout.encode()) < REPORT_BYTES_MAX
    percents = [line["percent"] for line in read_progress(progress)]
    assert percents == sorted(percents)
    assert percents[-1] == 100


def test_diagnostics_says_what_is_there():
    done = run_kind(DIAGNOSTICS, {"sections": ["load", "memory", "disks"]})
    assert f"{os.cpu_count()} CPUs" in done.stdout
    total_kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert f"{total_kib / 1024 / 1024:.1f} GiB" in done.stdout or total_kib < 1024 * 1024
    assert any(line.startswith("/ ") and "%" in line for line in done.stdout.splitlines())


def test_diagnostics_names_processes_but_not_their_arguments(tmp_path: Path):
    """The command line may hold a password; the name is enough to know whom to look at."""
    program = tmp_path / "busy-bee"
    shutil.copy2(shutil.which("sleep") or "/bin/sleep", program)
    pid = os.posix_spawn(program, [str(program), "61.5"], {})
    try:
        done = run_kind(DIAGNOSTICS, {"sections": ["processes"], "top": 100})
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert any(line.split()[0] == str(pid) for line in done.stdout.splitlines() if line[:8].strip())
    assert "busy-bee" in done.stdout
    assert "61.5" not in done.stdout


@pytest.mark.parametrize("section", sorted(HEADINGS))
def test_diagnostics_collects_only_what_is_asked(section: str):
    done = run_kind(DIAGNOSTICS, {"sections": [section], "journal_lines": 1, "since": "1h"})
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if "== " in line] == [HEADINGS[section]]


@pytest.mark.skipif(os.geteuid() != 0, reason="as another user this is what every test here does")
def test_diagnostics_needs_no_root(tmp_path: Path):
    script = install_kind(tmp_path, DIAGNOSTICS)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[: tmp_path.parents.index(Path(tempfile.gettempdir()))]:
        parent.chmod(parent.stat().st_mode | 0o011)
    with as_nobody():
        done = run_kind(script, {})
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if "== " in line] == list(HEADINGS.values())
    assert "could not be collected" not in done.stdout


@contextmanager
def as_nobody() -> Iterator[None]:
    """The effective user of this process, which its children take over as their real one."""
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_diagnostics_dry_run_only_says_what_it_would_do(tmp_path: Path):
    done = run_kind(DIAGNOSTICS, {"sections": ["journal", "load"]}, dry_run=True)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "would collect load: Load",
        "would collect journal: Recent journal",
    ]


@pytest.mark.parametrize(
    "payload",
    [
        {"sections": []},
        {"sections": ["passwords"]},
        {"journal_lines": 0},
        {"journal_lines": 2001},
        {"since": "yesterday"},
        {"since": "2030-01-01T00:00:00"},
        {"since": "--file=/etc/shadow"},
        {"unit": "--file=/etc/shadow"},
        {"unit": "a b"},
        {"archive_dir": "/tmp"},
    ],
)
def test_diagnostics_refuses_what_its_schema_refuses(payload: dict[str, Any]):
    assert not accepts(DIAGNOSTICS, payload)
    done = run_kind(DIAGNOSTICS, payload)
    assert done.returncode == 2
    assert done.stdout == ""
    assert next(iter(payload)) in done.stderr


def test_diagnostics_takes_what_its_schema_takes():
    payload = {
        "sections": ["journal", "load"],
        "journal_lines": 5.0,
        "since": "2030-01-01T00:00:00.500+02:00",
        "unit": "dbus-org.example@a\\x2db.service",
        "top": 1,
    }
    assert accepts(DIAGNOSTICS, payload)
    assert run_kind(DIAGNOSTICS, payload).returncode == 0


@pytest.mark.parametrize("kind", ["collect_diagnostics", "rerun_healthcheck"])
@pytest.mark.parametrize("stdin", [b"", b"not json", b"[]", b'{"payload": 3}', b"\xff"])
def test_unusable_input_is_told_from_a_failure(kind: str, stdin: bytes):
    done = run_kind(SHIPPED / kind, {}, stdin=stdin)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{kind}: ")
    assert "Traceback" not in done.stderr


def test_the_kinds_page_names_every_manifest_key_and_payload_member():
    page = (SHIPPED.parents[1] / "docs" / "kinds.md").read_text()
    named = set(DEFAULTS) - {"retry", "limits"} | {f"retry.{key}" for key in RETRY_KEYS}
    named |= {f"limits.{key}" for key in LIMIT_KEYS}
    for kind in ("collect_diagnostics", "rerun_healthcheck"):
        named |= {kind} | members_of(read_schema(SHIPPED / kind))
    missing = sorted(name for name in named if f"`{name}`" not in page)
    assert missing == [], "docs/kinds.md does not say what these are"


def members_of(schema: Any) -> set[str]:
    """The names of all properties, at any depth."""
    if not isinstance(schema, dict):
        return set()
    found = set(schema.get("properties", {}))
    return found.union(*(members_of(value) for value in schema.values()))
