"""Whoever talks to the runner, and however badly, hurts nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import time
from pathlib import Path

import pytest

from agent.runner.limits import CONNECTIONS_MAX, LINE_BYTES_MAX
from tests.integration.runner.box import Box, wait_for
from tests.integration.runner.client import Client, Refused

pytestmark = pytest.mark.timeout(30)


def answer_to(client: Client, line: bytes) -> dict[str, object]:
    client.sock.sendall(line + b"\n")
    return client.read()


def test_hello_and_status_have_the_documented_members(box: Box) -> None:
    client = box.start()
    hello = client.hello()
    assert set(hello) == {
        "protocol", "version", "pid", "boot_id", "max_row", "parallel_max", "features", "running",
        "scripts_dir", "containment", "controllers", "survivors",
    }  # fmt: skip
    assert (hello["protocol"], hello["pid"], hello["running"]) == (1, box.pid, [])
    status = client.ask("status")
    assert set(status) == {
        "version", "pid", "started_at", "running", "generation", "memory_bytes", "uncollected",
        "scripts_dir", "containment", "controllers", "survivors",
    }  # fmt: skip
    assert status["generation"] == 1


def test_hello_names_what_runs(box: Box) -> None:
    box.kind("sleeps", "exec sleep 30")
    client = box.start()
    answer = client.start(7, "sleeps", attempt=2)
    [entry] = box.connect().hello()["running"]
    assert entry == {
        "row": 7, "start_no": 1, "id": "a7", "attempt": 2, "kind": "sleeps",
        "pid": answer["pid"], "started_at": answer["started_at"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        (b"nonsense", "bad_request", "not JSON"),
        (b"\xff", "bad_request", "not UTF-8"),
        (b"[1]", "bad_request", "not an object"),
        (b"{}", "bad_request", "n must be an integer"),
        (b'{"n": true, "op": "status"}', "bad_request", "n must be an integer"),
        (b'{"n": 1, "n": 2, "op": "status"}', "bad_request", "more than once"),
        (b'{"n": 1, "op": "status", "x": NaN}', "bad_request", "NaN"),
        (b'{"n": 1, "op": "reboot"}', "bad_request", "'reboot' is unknown"),
        (b'{"n": 1, "op": ["x"]}', "bad_request", "unknown"),
        (b'{"n": 1, "op": "status", "path": "/"}', "bad_request", "path is unknown"),
        (b"[" * 100_000, "bad_request", "nested too deeply"),
        (b'{"n": ' + b"9" * 10_000 + b"}", "bad_request", "not JSON"),
        (b'"' + b"x" * LINE_BYTES_MAX + b'"', "too_large", "at most 262144"),
    ],
)
def test_a_bad_line_gets_an_error_and_nothing_else(
    box: Box, line: bytes, error: str, text: str
) -> None:
    client = box.start()
    answer = answer_to(client, line)
    assert (answer["ok"], answer["error"]) == (False, error)
    assert text in str(answer["message"])
    assert client.ask("status")["running"] == 0


def test_all_faults_of_a_request_in_one_message(box: Box) -> None:
    client = box.start()
    with pytest.raises(Refused) as caught:
        client.ask(
            "start", row=0, start_no="1", id="-", attempt=True, kind="../x", payload=[],
            dry_run=1, timeout_s=0, grace_s=-1, stop_at="now", path="/bin/sh", user="root",
        )  # fmt: skip
    for name in (
        "row", "start_no", "id", "attempt", "kind", "payload", "dry_run", "timeout_s", "grace_s",
        "stop_at", "path is unknown", "user is unknown",
    ):  # fmt: skip
        assert name in caught.value.message
    assert not list(box.runs.glob("*.run"))


def test_a_line_without_an_end_costs_the_connection(box: Box) -> None:
    good = box.start()
    bad = box.connect()
    with contextlib.suppress(OSError):  # cut off in the middle
        bad.sock.sendall(b"x" * (LINE_BYTES_MAX * 4))
    assert bad.read()["error"] == "too_large"
    with pytest.raises(OSError):
        bad.read()
    assert good.ask("status")["running"] == 0


def test_hello_comes_first(box: Box) -> None:
    box.start()
    with pytest.raises(Refused, match="say hello first"):
        box.dial().ask("status")
    with pytest.raises(Refused, match="speaks 1"):
        box.dial().ask("hello", protocols=[2, 3], generation=1)


def test_an_overtaken_generation_commands_nothing(box: Box) -> None:
    box.kind("mark", f"touch {box.path}/ran")
    old = box.start()
    new = box.connect(generation=5)
    for op, members in (("status", {}), ("kinds", {}), ("hello", {"generation": 4})):
        with pytest.raises(Refused, match=r"stale_generation: .*5"):
            old.ask(op, **({"protocols": [1]} if op == "hello" else {}), **members)
    with pytest.raises(Refused, match="stale_generation"):
        old.start(1, "mark")
    box.kill()
    again = box.spawn("--stay")
    with pytest.raises(Refused, match="stale_generation"):
        box.dial(again).hello(4)
    box.connect(generation=5)
    assert not (box.path / "ran").exists()
    new.close()


def test_notices_go_to_the_newest_hello_only(box: Box) -> None:
    box.kind("true", "exit 0")
    first = box.start()
    second = box.connect()
    first.start(1, "true")
    second.notice(1)
    first.ask("status")
    assert not first.notices


def test_one_who_does_not_read_holds_up_nobody(box: Box) -> None:
    box.kind("talks", "head -c 200000 /dev/zero")
    client = box.start()
    client.start(1, "talks")
    client.notice(1)
    deaf = box.connect()
    request = {"op": "output", "row": 1, "start_no": 1, "stream": "stdout", "offset": 0}
    deaf.sock.setblocking(False)
    sent = 0
    try:
        for n in range(20_000):
            sent += deaf.sock.send(json.dumps({"n": n, **request}).encode() + b"\n")
    except BlockingIOError:
        pass
    assert sent < 20_000 * 80, "the runner stopped reading"
    client.hello()
    for row in range(2, 12):
        began = time.monotonic()
        client.start(row, "talks")
        client.notice(row)
        assert time.monotonic() - began < 2
    assert client.ask("status")["memory_bytes"] < 40_000_000


def test_one_who_lets_notices_pile_up_is_cut_off(box: Box) -> None:
    box.kind("talks", "head -c 4096 /dev/zero; head -c 4096 /dev/zero >&2")
    deaf = box.start()
    worker = box.connect()
    deaf.hello()  # the notices are its own now
    row = 0
    while len(_sockets(box)) == 3:  # the listener and two clients
        for _ in range(20):
            row += 1
            worker.start(row, "talks")
        wait_for(lambda: not worker.ask("status")["running"])
        assert row < 1_000
    assert worker.ask("claim", row=row, start_no=1, id=f"a{row}")["state"] == "exited"
    assert worker.ask("status")["memory_bytes"] < 40_000_000


def _sockets(box: Box) -> list[str]:
    links = []
    for path in Path(f"/proc/{box.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a run ends meanwhile
            links.append(str(path.readlink()))
    return [link for link in links if link.startswith("socket:")]


def test_pipelined_requests_are_answered_in_order(box: Box) -> None:
    client = box.start()
    lines = [json.dumps({"n": n, "op": "status"}).encode() for n in range(2_000)]
    client.sock.sendall(b"\n".join(lines) + b"\n")
    assert [client.read()["n"] for _ in lines] == list(range(2_000))


def test_a_request_may_arrive_in_pieces(box: Box) -> None:
    client = box.start()
    for byte in b'{"n": 9, "op": "status"}\n':
        client.sock.send(bytes([byte]))
    assert client.read()["n"] == 9


def test_connections_are_bounded(box: Box) -> None:
    client = box.start()
    for _ in range(CONNECTIONS_MAX - 1):
        box.connect()
    with pytest.raises(OSError):
        box.dial().hello()
    assert client.ask("status")["running"] == 0
    box.clients[1].close()
    wait_for(lambda: _may_hello(box))


def _may_hello(box: Box) -> bool:
    try:
        box.dial().hello()
    except OSError:
        return False
    return True


def test_a_foreign_user_is_disconnected(box: Box) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to become somebody else")
    box.start()
    for directory in (*box.path.parents, box.path, box.state):
        if directory.stat().st_mode & 0o001 == 0:
            directory.chmod(directory.stat().st_mode | 0o001)
    box.socket.chmod(0o666)  # the mode is not what protects it
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            client = Client(str(box.socket))
            client.hello()
            os.write(writer, b"served")
        except (OSError, ConnectionError) as error:
            os.write(writer, type(error).__name__.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 64) in (b"ConnectionError", b"ConnectionResetError", b"BrokenPipeError")
    os.close(reader)
    os.close(writer)
    assert '"peer_refused", "uid": 65534' in box.log.read_text()


def test_the_socket_is_private(box: Box) -> None:
    box.start()
    assert box.socket.stat().st_mode & 0o777 == 0o600
    assert box.runs.stat().st_mode & 0o777 == 0o711, "passable, and nothing in it readable"
    assert box.state.stat().st_mode & 0o777 == 0o700


# -- coming and going -----------------------------------------------------------------------


def test_a_second_runner_refuses_and_names_the_first(box: Box) -> None:
    box.start()
    first, pid = box.process, box.pid
    second = box.spawn("--stay")
    assert second.wait(10) == 1
    assert f"pid {pid}" in box.log.read_text()
    box.process = first


def test_a_stale_socket_is_replaced_and_nothing_else(box: Box) -> None:
    box.start()
    box.kill()
    assert box.socket.exists()
    assert box.start().ask("status")["running"] == 0
    box.terminate()
    box.socket.write_text("precious")
    assert box.spawn("--stay").wait(10) == 1
    assert box.socket.read_text() == "precious"
    assert "is no socket" in box.log.read_text()
    box.socket.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(box.socket))
        listener.listen()
        assert box.spawn("--stay").wait(10) == 1
    assert "another process listens" in box.log.read_text()


def test_wrong_usage_names_all_faults(box: Box) -> None:
    process = box.spawn("--agent-user", "no-such-user-here", AGENT_MAX_PARALLEL="many")
    assert process.wait(10) == 2
    log = box.log.read_text()
    assert "no-such-user-here" in log
    assert "AGENT_MAX_PARALLEL is 'many'" in log


def test_it_leaves_when_nobody_needs_it(box: Box) -> None:
    box.kind("sleeps", "exec sleep 3")
    process = box.spawn()
    client = box.connect(process)
    client.start(1, "sleeps")
    client.close()
    time.sleep(2.3)
    assert process.poll() is None, "a script is running"
    assert process.wait(10) == 0
    assert not box.socket.exists()
    found = box.run_file(1).exit
    assert found is not None
    assert found["code"] == 0


def test_a_visitor_keeps_it(box: Box) -> None:
    process = box.spawn()
    client = box.connect(process)
    time.sleep(2.3)
    client.ask("status")
    client.close()
    began = time.monotonic()
    assert process.wait(10) == 0
    assert time.monotonic() - began > 1.5


def test_systemd_is_told(box: Box, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        box.start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(64) == b"READY=1"
        assert box.terminate() == 0
        assert manager.recv(64) == b"STOPPING=1"


def _switches(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


@pytest.mark.alone
def test_idle_costs_no_wake_ups(box: Box) -> None:
    box.kind("true", "exit 0")
    client = box.start()
    client.start(1, "true")
    client.notice(1)
    time.sleep(2.2)  # the last tick and the fsync of the uncollected result
    before = _switches(box.pid)
    time.sleep(1.5)
    assert _switches(box.pid) == before


def test_idle_memory_is_small(box: Box) -> None:
    client = box.start()
    assert client.ask("status")["memory_bytes"] < 17_000_000


def test_without_descriptors_new_connections_wait_and_the_log_stays_small(box: Box) -> None:
    client = box.start()
    before = resource.prlimit(box.pid, resource.RLIMIT_NOFILE)
    used = 1 + max(int(entry.name) for entry in Path(f"/proc/{box.pid}/fd").iterdir())
    resource.prlimit(box.pid, resource.RLIMIT_NOFILE, (used, before[1]))
    latecomers = [box.dial() for _ in range(8)]
    wait_for(lambda: "accept_failed" in box.log.read_text())
    time.sleep(0.5)
    assert box.log.read_text().count("accept_failed") <= 2
    client.ask("collected", items=[])  # whoever is there is served
    resource.prlimit(box.pid, resource.RLIMIT_NOFILE, before)
    assert latecomers[-1].hello()["pid"] == box.pid
