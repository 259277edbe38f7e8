"""`cored` as a process: its directory, its end, and what it refuses to read."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from agent.core.nodes.presence import FLUSH_S
from agent.infra.clock import SystemClock
from tests.fakes.core_backends import OverHttp, Rejected
from tests.fakes.core_process import ROOT, CoreProcess
from tests.fakes.reporting_node import ReportingNode

pytestmark = pytest.mark.timeout(60)


def start_another(*flags: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent.core.main", *map(str, flags)],
        cwd=ROOT, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip


def ask(core: CoreProcess, method: str, path: str, **more: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {core.token}"}
    return httpx.request(method, core.url + path, headers=headers, **more)  # type: ignore[arg-type]


def test_the_first_start_makes_the_operators_token(core: CoreProcess) -> None:
    assert stat.S_IMODE(core.token_file.stat().st_mode) == 0o600
    assert len(core.token) >= 43
    kept = core.token
    assert ask(core, "GET", "/v1/agents").json() == {"agents": [], "next": None}
    assert core.stop() == 0
    assert not (core.state_dir / "listen").exists()
    stored = b"".join(path.read_bytes() for path in core.state_dir.glob("core.db*"))
    assert kept.encode() not in stored, "hashed at rest"
    core.start()
    assert core.token == kept
    assert ask(core, "GET", "/v1/agents").status_code == 200


def test_a_removed_token_file_still_opens_the_api(core: CoreProcess) -> None:
    kept = core.token
    core.stop()
    core.token_file.unlink()
    core.start()
    assert not core.token_file.exists()
    answer = httpx.get(f"{core.url}/v1/agents", headers={"Authorization": f"Bearer {kept}"})
    assert answer.status_code == 200


def test_a_second_core_on_one_directory_is_refused(core: CoreProcess) -> None:
    assert core.process is not None
    other = start_another("--state-dir", core.state_dir, "--listen", "127.0.0.1:0")
    assert other.returncode == 5
    assert str(core.process.pid) in other.stderr
    assert ask(core, "GET", "/healthz").status_code == 200


def test_a_second_core_on_one_database_is_refused(tmp_path: Path) -> None:
    """One writer per database, whichever directory it is reached from."""
    database = tmp_path / "shared.db"
    with running("--state-dir", tmp_path / "a", "--database", f"sqlite:///{database}") as first:
        other = start_another(
            "--state-dir", tmp_path / "b", "--listen", "127.0.0.1:0",
            "--database", f"sqlite:///{database}",
        )  # fmt: skip
    assert other.returncode == 5
    assert str(first.pid) in other.stderr


def test_any_directory_will_do(tmp_path: Path) -> None:
    """Its name is a path and not a part of a URL."""
    odd = tmp_path / "what?x=1 50%41#é"
    with running("--state-dir", odd):
        pass
    assert (odd / "core.db").exists()
    assert list(tmp_path.iterdir()) == [odd]


@contextmanager
def running(*flags: object) -> Iterator[subprocess.Popen[str]]:
    """A core with these flags, until the end of the block."""
    core = subprocess.Popen(
        [sys.executable, "-m", "agent.core.main", "--listen", "127.0.0.1:0", *map(str, flags)],
        cwd=ROOT, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert core.stderr is not None
    told = ""
    for line in core.stderr:
        told += line
        if '"ready"' in line:
            break
    try:
        assert core.poll() is None, told
        yield core
    finally:
        core.terminate()
        core.communicate(timeout=20)


def test_faults_of_the_settings_come_together(tmp_path: Path) -> None:
    config = tmp_path / "core.toml"
    config.write_text('listne = "x"\nlog_level = "loud"\n')
    found = start_another("--config", config, "--listen", "nowhere")
    assert found.returncode == 2
    for word in ("listne", "listen", "loud", "nowhere", "--state-dir"):
        assert word in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    "url", ["postgresql://db", "mysql://db", "core.db", "sqlite:///", "sqlite:///:memory:"]
)
def test_what_is_no_database_is_refused(tmp_path: Path, url: str) -> None:
    found = start_another("--state-dir", tmp_path / "c", "--database", url)
    assert found.returncode == 2
    assert "database" in found.stderr
    assert not (tmp_path / "c").exists()


def test_a_database_that_does_not_answer_is_said(tmp_path: Path) -> None:
    url = "postgresql://cored:s3cret@127.0.0.1:1/core"
    found = start_another("--state-dir", tmp_path / "c", "--database", url)
    assert found.returncode == 5
    assert "127.0.0.1" in found.stderr
    assert "s3cret" not in found.stderr
    assert "Traceback" not in found.stderr


def test_a_taken_port_is_said(core: CoreProcess, tmp_path: Path) -> None:
    found = start_another("--state-dir", tmp_path / "other", "--listen", core.listen)
    assert found.returncode == 5
    assert "in use" in found.stderr
    assert core.listen in found.stderr


def test_an_open_long_poll_does_not_hold_the_stop(core: CoreProcess) -> None:
    async def play() -> None:
        async with OverHttp.to(core) as backend:
            node = await ReportingNode.enrolled(backend)
            await node.pull()
            waiting = asyncio.create_task(node.pull(50.0))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            code = await asyncio.to_thread(core.stop)
            assert code == 0
            assert time.monotonic() - began < 5
            assert (await waiting)["actions"] == []

    asyncio.run(play())


def test_a_kill_in_the_middle_of_pushes_loses_and_doubles_nothing(core: CoreProcess) -> None:
    """Three kills; the node resends what was not acknowledged, as a node does."""

    async def play() -> list[int]:
        async with OverHttp.to(core) as backend:
            node = await ReportingNode.enrolled(backend)
            name = "local"
            node.created(name)
            for attempt in range(1, 151):
                node.moved(name, "NULL", "STARTED", "due", attempt=attempt)
                node.moved(name, "STARTED", "NULL", "rerun", attempt=attempt)
            killer = threading.Thread(target=kill_thrice, args=(core,))
            killer.start()
            acked = 0
            while acked < node.seq:
                try:
                    acked = (await node.push(*node.made[acked : acked + 3]))["acked"]
                except (httpx.TransportError, FileNotFoundError):
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(killer.join)
            events = await backend.all_events(node.id)
            return [event["seq"] for event in events if event["seq"] is not None]

    def kill_thrice(core: CoreProcess) -> None:
        for _ in range(3):
            time.sleep(0.12)
            core.kill()
            core.start()

    seqs = asyncio.run(play())
    assert seqs == list(range(1, 302))


def test_a_dispatch_that_was_answered_survives_a_kill(core: CoreProcess) -> None:
    async def play() -> None:
        async with OverHttp.to(core) as backend:
            node = await ReportingNode.enrolled(backend)
            await node.pull()
            answers = [
                (await backend.dispatch({"kind": "sleep", "node": node.id}))["action_id"]
                for _ in range(20)
            ]
            core.kill()
            core.start()
            assert [one["id"] for one in (await node.pull())["actions"]] == answers

    asyncio.run(play())


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"kind": NaN}', 400, "not_json"),
        (b'{"kind": "a", "kind": "b"}', 400, "not_json"),
        (b"<html>login</html>", 400, "not_json"),
        (b"", 400, "not_json"),
        (b"\xff\xfe", 400, "not_json"),
        (b"[" * 40 + b"]" * 40, 400, "not_json"),
        (b"[]", 422, "invalid"),
        (b'{"kind": "NoSuch Kind", "node": 7, "from_date": "tomorrow"}', 422, "invalid"),
        (b'{"kind": "sleep", "node": "x", "status": []}', 422, "invalid"),
        (b'{"x": "' + b"y" * (5 * 1024 * 1024) + b'"}', 413, "too_large"),
    ],
)
def test_bad_bodies_are_refused_with_their_faults(
    shared_core: CoreProcess, body: bytes, status: int, code: str
) -> None:
    answer = ask(shared_core, "POST", "/v1/dispatch", content=body)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert len(answer.json()["message"]) > 10


def test_who_has_shown_nothing_yet_may_not_say_much(shared_core: CoreProcess) -> None:
    body = b'{"token": "x", "nonce": "x", "z": "' + b"z" * 20_000 + b'"}'
    answer = httpx.post(f"{shared_core.url}/v1/agents/enroll", content=body)
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


def test_a_mark_that_names_two_events_is_a_fault_and_no_error_of_ours(core: CoreProcess) -> None:
    async def play() -> None:
        async with OverHttp.to(core) as backend:
            node = await ReportingNode.enrolled(backend)
            first, second = node.ran("x")
            await node.push(first)
            second["mark"] = first["mark"]
            with pytest.raises(Rejected) as caught:
                await node.push(second)
            assert (caught.value.status, caught.value.code) == (400, "bad_events")
            second["mark"] = "another"
            assert (await node.push(second))["acked"] == 2

    asyncio.run(play())


def test_all_faults_at_once(shared_core: CoreProcess) -> None:
    body = {"fromDate": "x", "owner": "node", "approval": {"state": "approved"}, "timeout_s": -1}
    answer = ask(shared_core, "POST", "/v1/dispatch", json=body)
    places = {fault["path"] for fault in answer.json()["faults"]}
    assert places >= {"fromDate", "owner", "approval", "timeout_s", "kind", "node"}


def test_an_endless_body_is_cut(shared_core: CoreProcess) -> None:
    host, port = shared_core.listen.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        head = f"POST /v1/dispatch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {shared_core.token}"
        sock.sendall(f"{head}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        sent = 0
        try:
            while sent < 2000 * len(chunk):
                sock.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        # What the sockets of both sides hold is more than the core reads, and much less than this.
        assert sent < 2000 * len(chunk), "the connection was cut"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/agents/", 404),
        ("DELETE", "/v1/agents", 405),
        ("GET", "/v1/actions/none", 404),
        ("GET", "/v1/agents/none", 404),
        ("GET", "/v1/actions?limit=0", 422),
        ("GET", "/v1/actions?sort=up", 422),
        ("GET", "/v1/events?after=-1", 422),
        ("POST", "/v1/agents/none/nudge", 404),
        ("POST", "/v1/agents/none/nudge?force=1", 422),
        ("GET", "/v1/agents/none?x=1", 422),
        ("POST", "/v1/enrollment-tokens?node=x", 422),
    ],
)
def test_every_error_is_a_document(
    shared_core: CoreProcess, method: str, path: str, status: int
) -> None:
    answer = ask(shared_core, method, path)
    assert (answer.status_code, set(answer.json()) >= {"error", "message"}) == (status, True)


def test_every_endpoint_needs_a_credential(shared_core: CoreProcess) -> None:
    """The table of routes itself is asked, so that no later one is forgotten."""
    from agent.core.api.description import OPERATIONS
    from agent.core.app import Core, routes_of
    from agent.core.store.inline import InlineStore

    services = Core(InlineStore.in_memory(), SystemClock(), secrets.randbits)
    routes = routes_of(services, None)
    open_to_all = {one.path for one in OPERATIONS if one.open}
    meant = {"/healthz", "/openapi.json", "/v1/agents/enroll", "/v1/links/{token}"}
    assert open_to_all <= meant, "whoever opens a path to everybody says so here"
    for route in routes:
        path = re.sub(r"\{\w+\}", "x", route.path)  # type: ignore[attr-defined]
        for method in route.methods - {"HEAD"}:  # type: ignore[attr-defined]
            if route.path in open_to_all:  # type: ignore[attr-defined]
                continue
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
                answer = httpx.request(method, shared_core.url + path, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"


def test_another_version_of_the_protocol_is_refused(shared_core: CoreProcess) -> None:
    body = {"token": "x", "nonce": "y"}
    headers = {"Agent-Protocol": "99"}
    answer = httpx.post(f"{shared_core.url}/v1/agents/enroll", json=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_protocol")


@pytest.mark.alone
def test_an_idle_core_with_an_open_poll_sleeps(core: CoreProcess) -> None:
    async def play() -> int:
        async with OverHttp.to(core) as backend:
            node = await ReportingNode.enrolled(backend)
            await node.pull()
            waiting = asyncio.create_task(node.pull(30.0))
            await asyncio.sleep(1.0 + FLUSH_S)  # that it was heard of is written once
            assert core.process is not None
            before = wake_ups(core.process.pid)
            await asyncio.sleep(4.0)
            after = wake_ups(core.process.pid)
            waiting.cancel()
            return after - before

    assert asyncio.run(play()) <= 2, "a page brought in may cost a switch; a timer would cost more"


def wake_ups(pid: int) -> int:
    """How often any thread of the process gave up the processor by itself: once per wake-up."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                found += int(line.split()[1])
    return found
