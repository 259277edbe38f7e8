"""`rerun_healthcheck` finds out what is healthy, and refuses what it must not touch.

Started as the runner starts it; all servers are local.
"""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.fakes.kind_process import (
    SHIPPED,
    accepts,
    ended,
    install_kind,
    read_progress,
    run_kind,
    start_kind,
)

HEALTHCHECK = SHIPPED / "rerun_healthcheck"

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def healthcheck(tmp_path: Path) -> Path:
    return install_kind(tmp_path, HEALTHCHECK)


def add_command(healthcheck: Path, name: str, text: str, mode: int = 0o755) -> Path:
    command = healthcheck.parent / "healthchecks.d" / name
    command.write_text(f"#!/bin/sh\n{text}\n")
    command.chmod(mode)
    return command


def check(healthcheck: Path, *checks: dict[str, Any]) -> tuple[int, list[str]]:
    """Exit code and the result lines, one per check."""
    payload = {"checks": list(checks)}
    assert accepts(HEALTHCHECK, payload)
    done = run_kind(healthcheck, payload)
    assert done.stderr == ""
    header, *lines, summary = done.stdout.splitlines()
    assert header.split() == ["CHECK", "RESULT", "TIME", "TRIES", "REASON"]
    assert len(lines) == len(checks)
    healthy = sum("  healthy " in line for line in lines)
    assert summary == f"{healthy} of {len(checks)} healthy"
    assert done.returncode == (0 if healthy == len(checks) else 1)
    return done.returncode, lines


class Site(http.server.BaseHTTPRequestHandler):
    """A small site that can be slow, redirect, and recover. `seen` are the requests so far."""

    seen: ClassVar[list[tuple[str, str]]] = []
    released = threading.Event()

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["User-Agent"]))
        path = self.path.partition("?")[0]
        if path == "/slow":
            self.released.wait(30)
        if path == "/drip":
            self.drip()
            return
        recovered = path == "/recovers" and len(self.seen) > 2
        status = {"/": 200, "/moved": 302, "/loop": 302, "/file": 302}.get(path, 503)
        self.send_response(200 if recovered else status)
        target = {"/moved": "/?from=moved", "/loop": "/loop", "/file": "file:///etc/passwd"}
        if path in target:
            self.send_header("Location", target[path])
        self.end_headers()
        self.wfile.write(b"Welcome, all is well\n")

    def drip(self) -> None:
        """Never silent for long, never done: a timeout per read does not end it."""
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not self.released.wait(0.05):
            self.wfile.write(b"X-Drip: 1\r\n")

    def log_message(self, *_args: object) -> None:
        """Quiet."""


@pytest.fixture
def site() -> Iterator[str]:
    Site.seen.clear()
    Site.released.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Site.released.set()
        server.shutdown()
        thread.join()


def test_url_healthy(healthcheck: Path, site: str):
    code, lines = check(
        healthcheck,
        {"type": "url", "url": f"{site}/"},
        {"type": "url", "url": f"{site}/", "contains": "all is well", "expect_status": 200},
        {"type": "url", "url": f"{site}/sick", "expect_status": 503, "label": "maintenance"},
    )
    assert code == 0
    assert "status 200" in lines[0]
    assert "text found" in lines[1]
    assert lines[2].startswith("maintenance  ")


def test_url_unhealthy_says_why(healthcheck: Path, site: str):
    code, lines = check(
        healthcheck,
        {"type": "url", "url": f"{site}/sick"},
        {"type": "url", "url": f"{site}/", "contains": "all is lost"},
        {"type": "url", "url": f"{site}/", "expect_status": 204},
        {"type": "url", "url": f"{site}/slow", "timeout_s": 0.2},
        {"type": "url", "url": f"{site}/drip", "timeout_s": 0.2},
        {"type": "url", "url": f"http://127.0.0.1:{free_port()}/"},
        {"type": "url", "url": site.replace("http:", "https:")},
    )
    assert code == 1
    assert "status 503; expected 200–299" in lines[0]
    assert "'all is lost' is not in the answer" in lines[1]
    assert "status 200; expected 204" in lines[2]
    assert "no answer within 0.2 s" in lines[3]
    assert "no answer within 0.2 s" in lines[4]
    assert "Connection refused" in lines[5]
    assert "SSL" in lines[6]


def test_url_redirects_only_when_asked(healthcheck: Path, site: str):
    code, lines = check(
        healthcheck,
        {"type": "url", "url": f"{site}/moved"},
        {"type": "url", "url": f"{site}/moved", "follow_redirects": True},
        {"type": "url", "url": f"{site}/loop", "follow_redirects": True},
        {"type": "url", "url": f"{site}/file", "follow_redirects": True},
    )
    assert code == 1
    assert "status 302, a redirect to /?from=moved" in lines[0]
    assert "  healthy " in lines[1]
    assert "more than 5 redirects" in lines[2]
    assert "no http or https URL" in lines[3]


def test_url_body_is_bounded(healthcheck: Path):
    """A server that sends without end and without a length: the text is looked for in 1 MiB."""

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                return

        def log_message(self, *_args: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        code, lines = check(healthcheck, {"type": "url", "url": url, "contains": "needle"})
        server.shutdown()
        thread.join()
    assert code == 1
    assert "'needle' is not in the first 1048576 bytes" in lines[0]


def test_retries_until_healthy(healthcheck: Path, site: str):
    again = {"type": "url", "url": f"{site}/recovers", "retries": 5, "retry_delay_s": 0.01}
    code, lines = check(healthcheck, again)
    assert code == 0
    assert len(Site.seen) == 3
    assert lines[0].split()[5] == "3"


def test_retries_are_bounded(healthcheck: Path):
    never = {"type": "port", "port": free_port(), "retries": 2, "retry_delay_s": 0.01}
    code, lines = check(healthcheck, never)
    assert code == 1
    assert lines[0].split()[5] == "3"


def free_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


def test_port(healthcheck: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, lines = check(healthcheck, {"type": "port", "port": port})
        assert code == 0
        assert "connected to 127.0.0.1" in lines[0]
    code, lines = check(healthcheck, {"type": "port", "host": "127.0.0.1", "port": port})
    assert code == 1
    assert "Connection refused" in lines[0]


def test_process(healthcheck: Path, tmp_path: Path):
    """By its program's name, however long, and a zombie is not running."""
    program = tmp_path / "a-program-of-a-long-name"
    shutil.copy2(shutil.which("sleep") or "/bin/sleep", program)
    wanted = {"type": "process", "name": program.name}
    pids = [os.posix_spawn(program, [str(program), "60"], {}) for _ in range(2)]
    try:
        assert check(healthcheck, {**wanted, "min_count": 2})[0] == 0
        code, lines = check(healthcheck, {**wanted, "min_count": 3})
        assert code == 1
        assert "2 running, at least 3 expected" in lines[0]
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:  # ended, but not reaped yet
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        code, lines = check(healthcheck, wanted)
        for pid in pids:
            os.waitpid(pid, 0)
    assert code == 1
    assert "0 running" in lines[0]


def test_command(healthcheck: Path):
    add_command(healthcheck, "fine", "echo first; echo 42 disks fine")
    add_command(healthcheck, "sick", "echo 'disk 7 is on fire' >&2; exit 3")
    add_command(healthcheck, "killed", "kill -9 $$")
    add_command(healthcheck, "endless", "while :; do :; done")
    add_command(healthcheck, "leaves-a-child", "sleep 5 & exit 0")
    code, lines = check(
        healthcheck,
        {"type": "command", "name": "fine"},
        {"type": "command", "name": "sick"},
        {"type": "command", "name": "killed"},
        {"type": "command", "name": "endless", "timeout_s": 0.3},
        {"type": "command", "name": "leaves-a-child", "timeout_s": 3},
    )
    assert code == 1
    assert "exit 0: 42 disks fine" in lines[0]
    assert "exit 3: disk 7 is on fire" in lines[1]
    assert "ended by SIGKILL" in lines[2]
    assert "no end within 0.3 s" in lines[3]
    assert "  healthy " in lines[4]  # though the child keeps the output open
    end_children_of(healthcheck)


def test_a_late_command_is_ended_with_its_children(healthcheck: Path, tmp_path: Path):
    pids = tmp_path / "pids"
    add_command(healthcheck, "late", f"sleep 60 & echo $$ $! >{pids}; wait")
    assert check(healthcheck, {"type": "command", "name": "late", "timeout_s": 0.5})[0] == 1
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in pids.read_text().split()):
        assert time.monotonic() < deadline, "a process of the late command is still there"
        time.sleep(0.01)


def is_alive(pid: str) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_command_refused_where_others_may_write(healthcheck: Path):
    add_command(healthcheck, "shared", "touch ran; exit 0", mode=0o775)
    add_command(healthcheck, "not-executable", "exit 0", mode=0o644)
    link = healthcheck.parent / "healthchecks.d" / "link"
    link.symlink_to("/bin/true")
    (healthcheck.parent / "healthchecks.d" / "directory").mkdir()
    names = ["shared", "not-executable", "link", "directory", "missing"]
    code, lines = check(healthcheck, *({"type": "command", "name": name} for name in names))
    assert code == 1
    assert all("UNHEALTHY" in line for line in lines)
    assert "writable by group or others" in lines[0]
    assert "no executable file" in lines[1]
    assert "symbolic" in lines[2]
    assert "no executable file" in lines[3]
    assert "No such file" in lines[4]


@pytest.mark.parametrize("place", ["scripts.d", "scripts.d/healthchecks.d"])
def test_command_refused_in_a_directory_where_others_may_write(
    healthcheck: Path, tmp_path: Path, place: str
):
    add_command(healthcheck, "fine", "exit 0")
    (tmp_path / place).chmod(0o777)
    code, lines = check(healthcheck, {"type": "command", "name": "fine"})
    assert code == 1
    assert "writable by group or others" in lines[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_command_of_another_owner_is_refused(healthcheck: Path):
    os.chown(add_command(healthcheck, "foreign", "exit 0"), 65534, -1)
    code, lines = check(healthcheck, {"type": "command", "name": "foreign"})
    assert code == 1
    assert "belongs to user 65534" in lines[0]


@pytest.mark.parametrize(
    "unusable",
    [
        {"type": "command", "name": "../../../bin/true"},
        {"type": "command", "name": "/bin/true"},
        {"type": "command", "name": "true; id"},
        {"type": "command", "name": "true", "arguments": ["x"]},
        {"type": "url", "url": "file:///etc/passwd"},
        {"type": "url", "url": "http://a b/"},
        {"type": "url"},
        {"type": "url", "url": "http://a/", "timeout_s": 0},
        {"type": "port", "port": 0},
        {"type": "port", "port": 80, "retries": 6},
        {"type": "process"},
        {"type": "process", "name": "x", "min_count": True},
        {"type": "shell", "name": "x"},
    ],
)
def test_healthcheck_refuses_what_its_schema_refuses(healthcheck: Path, unusable: dict[str, Any]):
    fine = {"type": "process", "name": "x"}
    assert not accepts(HEALTHCHECK, {"checks": [fine, unusable]})
    done = run_kind(healthcheck, {"checks": [fine, unusable]})
    assert (done.returncode, done.stdout) == (2, "")
    assert "payload.checks[1]: " in done.stderr


def test_a_password_in_a_url_is_refused_and_not_repeated(healthcheck: Path):
    done = run_kind(healthcheck, {"checks": [{"type": "url", "url": "http://me:secret@a/"}]})
    assert done.returncode == 2
    assert "secret" not in done.stderr + done.stdout


def test_healthcheck_dry_run_touches_nothing(healthcheck: Path, site: str, tmp_path: Path):
    add_command(healthcheck, "mark", f"touch {tmp_path}/ran")
    checks = [{"type": "url", "url": f"{site}/"}, {"type": "command", "name": "mark", "retries": 2}]
    done = run_kind(healthcheck, {"checks": checks}, dry_run=True)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"would check url {site}/ (retries: 0)",
        "would check command mark (retries: 2)",
    ]
    assert Site.seen == []
    assert not (tmp_path / "ran").exists()


def test_healthcheck_reports_progress_and_keeps_the_order(healthcheck: Path, tmp_path: Path):
    add_command(healthcheck, "slow", "sleep 0.3")
    add_command(healthcheck, "quick", "exit 0")
    checks = [{"type": "command", "name": name} for name in ("slow", "quick", "slow", "quick")]
    done = run_kind(healthcheck, {"checks": checks}, progress=tmp_path / "progress")
    assert [line.split()[1] for line in done.stdout.splitlines()[1:5]] == [
        "slow", "quick", "slow", "quick",
    ]  # fmt: skip
    assert [line["percent"] for line in read_progress(tmp_path / "progress")] == [25, 50, 75, 100]


def test_what_a_server_says_cannot_steer_the_terminal(healthcheck: Path):
    add_command(healthcheck, "rude", r"printf 'red: \033[31m\r\007 end\n'; exit 1")
    _, lines = check(healthcheck, {"type": "command", "name": "rude", "label": "a\x1bb"})
    assert lines[0].isprintable()


def test_healthcheck_ends_on_term(healthcheck: Path):
    add_command(healthcheck, "slow", "exec sleep 60")
    payload = {"checks": [{"type": "command", "name": "slow", "timeout_s": 60}]}
    with ended(start_kind(healthcheck, payload)) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"CHECK")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM
        end_children_of(healthcheck)


def end_children_of(healthcheck: Path) -> None:
    """The runner ends the whole tree; here nobody does. Found by what only they carry."""
    mark = f"AGENT_SCRIPT={healthcheck}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue
