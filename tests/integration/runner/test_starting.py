"""A start: once, clean, as the manifest and the protocol say."""

from __future__ import annotations

import json
import shutil
import signal
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from agent.runner.environment import PATH
from tests.integration.runner.box import Box, wait_for
from tests.integration.runner.client import Refused

pytestmark = pytest.mark.timeout(30)


def tail(notice: dict[str, Any], stream: str = "stdout") -> str:
    return b64decode(notice["tail"][stream]).decode()


def test_runs_and_tells_how_it_ended(box: Box) -> None:
    box.kind("seven", "echo out; echo err >&2; exit 7")
    client = box.start()
    answer = client.start(3, "seven")
    assert answer["state"] == "running"
    notice = client.notice(3)
    record = notice["record"]
    assert (record["code"], record["signal"], record["stop_cause"]) == (7, None, "none")
    assert (record["row"], record["start_no"], record["id"]) == (3, 1, "a3")
    assert record["pid"] == answer["pid"]
    assert record["ended_at"] >= record["started_at"] == answer["started_at"]
    assert record["output"]["stdout"] == {"bytes": 4, "kept_bytes": 4}
    assert (tail(notice), tail(notice, "stderr")) == ("out\n", "err\n")
    assert client.start(3, "seven") == {"state": "exited", "record": record}
    assert client.ask("claim", row=3, start_no=1, id="a3") == {"state": "exited", "record": record}


def test_the_record_has_exactly_the_documented_members(box: Box) -> None:
    box.kind("true", "exit 0")
    client = box.start()
    client.start(1, "true")
    assert set(client.notice(1)["record"]) == {
        "row", "start_no", "id", "attempt", "kind", "pid", "started_at", "ended_at", "duration_s",
        "code", "signal", "stop_cause", "spawn_error", "survivors", "timed_out_after_s",
        "limit_exceeded", "stopped_at", "killed_at", "script_digest", "output",
    }  # fmt: skip


def test_a_signal_is_told_as_a_signal(box: Box) -> None:
    box.kind("dies", "kill -USR1 $$")
    client = box.start()
    client.start(1, "dies")
    record = client.notice(1)["record"]
    assert (record["code"], record["signal"]) == (None, 10)


def test_environment_is_exactly_the_documented_one(box: Box) -> None:
    box.kind("env.sh", "cat /proc/self/environ")
    client = box.start()
    client.start(1, "env", attempt=4)
    found = dict(
        line.split("=", 1) for line in tail(client.notice(1)).rstrip("\0").split("\0") if line
    )
    account = {name: found.pop(name) for name in ("HOME", "USER", "LOGNAME")}
    assert all(account.values())
    found.pop("PWD", None)  # the shell's own
    found.pop("SHLVL", None)
    found.pop("_", None)
    found.pop("OLDPWD", None)
    assert found == {
        "PATH": PATH, "LANG": "C.UTF-8", "AGENT_ACTION_ID": "a1", "AGENT_KIND": "env",
        "AGENT_ATTEMPT": "4", "AGENT_DRY_RUN": "0", "AGENT_SCRIPT": str(box.scripts / "env.sh"),
        "AGENT_PROGRESS": str(box.runs / "1.1.progress"),
    }  # fmt: skip


def test_input_is_the_documented_json(box: Box) -> None:
    box.kind("cat", "exec cat", "dry_run = true")
    client = box.start()
    members: dict[str, Any] = {
        "payload": {"text": 'ü "quoted" $(id) \n', "n": 2**60}, "metadata": {"a": [1, None]},
        "app_names": ["web"], "from_date": "2026-01-01T00:00:00Z", "to_date": None,
        "correlation_id": "c", "rollback_reference": {"kind": "x"}, "dry_run": True,
    }  # fmt: skip
    client.start(1, "cat", attempt=2, **members)
    client.notice(1)
    answer = client.ask("output", row=1, start_no=1, stream="stdout", offset=0)
    assert json.loads(b64decode(answer["data"])) == {
        "id": "a1", "kind": "cat", "attempt": 2, **members,
    }  # fmt: skip


PROCESS_STATE = """#!/usr/bin/env python3
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
fds = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in range(64) if os.path.lexists(f"/proc/self/fd/{fd}")}
print(json.dumps({
    "cwd": os.getcwd(), "umask": status["Umask"].strip(), "fds": sorted(fds.values()),
    "leads": os.getsid(0) == os.getpgid(0) == os.getpid(), "blocked": int(status["SigBlk"], 16),
    "ignored": int(status["SigIgn"], 16),
}))
"""  # noqa: E501 - a script of its own


def test_process_state_is_clean(box: Box) -> None:
    path = box.kind("self", PROCESS_STATE)
    client = box.start()
    client.start(1, "self")
    found = json.loads(tail(client.notice(1)))
    assert (found["cwd"], found["umask"], found["leads"]) == ("/", "0022", True)
    names = [name.partition(":")[0] for name in found["fds"]]
    assert names == ["/memfd", str(path), "pipe", "pipe"], "nothing of the runner leaks"
    # Python ignores SIGPIPE and SIGXFSZ itself; glibc's posix_spawn leaves its two internal
    # signals (32, 33) ignored, for every program alike
    own = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert found["ignored"] & ~0x1_8000_0000 == own
    assert found["blocked"] == 0


def test_a_program_needs_no_shell(box: Box) -> None:
    shutil.copy("/bin/echo", box.scripts / "echo")
    (box.scripts / "echo").chmod(0o755)
    client = box.start()
    client.start(1, "echo")
    assert client.notice(1)["record"]["code"] == 0


def test_half_a_character_is_refused_before_anything_is_recorded(box: Box) -> None:
    box.kind("cat", "exec cat")
    client = box.start()
    with pytest.raises(Refused, match="half a character"):
        client.start(1, "cat", payload={"x": "\ud800"})
    assert not list(box.runs.glob("*.run"))
    assert client.start(1, "cat")["state"] == "running"
    client.notice(1)


def test_asked_twice_starts_once(box: Box) -> None:
    box.kind("mark", f"echo $$ >> {box.path}/marks; sleep 0.2")
    client, other = box.start(), box.connect()
    request = {
        "row": 1, "start_no": 1, "id": "a", "attempt": 1, "kind": "mark", "payload": {},
    }  # fmt: skip
    for _ in range(5):
        client.post("start", **request)
    assert other.ask("start", **request)["state"] == "running"
    answers = [client.read() for _ in range(5)]
    assert {answer["state"] for answer in answers} == {"running"}
    assert len({answer["pid"] for answer in answers}) == 1
    other.notice(1)
    assert client.ask("start", **request)["state"] == "exited"
    assert len((box.path / "marks").read_text().splitlines()) == 1


def test_another_id_is_a_conflict(box: Box) -> None:
    box.kind("sleeps", "sleep 30")
    client = box.start()
    client.start(1, "sleeps")
    client.ask("claim", row=2, start_no=1, id="a2")
    for row in (1, 2):
        with pytest.raises(Refused, match=r"conflict: .*belongs to"):
            client.start(row, "sleeps", id="other")
    with pytest.raises(Refused, match="conflict"):
        client.ask("stop", row=1, start_no=1, id="other", cause="withdrawn", grace_s=0)


def test_a_tombstone_stands_forever(box: Box) -> None:
    box.kind("mark", f"touch {box.path}/ran")
    client = box.start()
    assert client.ask("claim", row=5, start_no=2, id="a5") == {"state": "never_started"}
    assert client.start(5, "mark", start_no=2) == {"state": "never_started"}
    box.kill()
    client = box.start()
    assert client.hello()["max_row"] == 5
    assert client.start(5, "mark", start_no=2) == {"state": "never_started"}
    assert client.start(5, "mark", start_no=3)["state"] == "running"
    client.notice(5)
    assert (box.path / "ran").exists()


def refusal(box: Box, client: Any, row: int, kind: str, **members: Any) -> dict[str, str]:
    """The spawn error of a start; the same again when asked again, even of the next runner."""
    answer = client.start(row, kind, **members)
    assert answer["state"] == "exited"
    assert client.start(row, kind, **members) == answer
    assert box.run_file(row).exit is not None
    error: dict[str, str] = answer["record"]["spawn_error"]
    return error


def test_what_cannot_be_started_says_why(box: Box) -> None:
    ran = f"touch {box.path}/ran"
    box.kind("writable", ran).chmod(0o775)
    box.kind("plain", ran).chmod(0o644)
    (box.scripts / "link").symlink_to(box.kind("target", "exit 0"))
    box.kind("twice.sh", ran)
    box.kind("twice.py", ran)
    box.kind("odd", ran, "timeout = 3\nuser = 'root'")
    box.kind("nodry", ran)
    box.kind("noint", "#!/nonexistent/interpreter\n")
    box.kind("text", "#").write_text("no shebang\n")
    client = box.start()
    cases = {
        "missing": ("unknown_kind", "there is no script for missing"),
        "writable": ("unsafe_script", "0775"),
        "plain": ("unsafe_script", "chmod u+x"),
        "link": ("unsafe_script", "symbolic link"),
        "twice": ("unsafe_script", "twice.py, twice.sh"),
        "odd": ("bad_manifest", "did you mean timeout_s"),
        "noint": ("exec_failed", "interpreter"),
        "text": ("exec_failed", "neither with #! nor as a program"),
    }
    for row, (kind, (code, text)) in enumerate(cases.items(), start=1):
        error = refusal(box, client, row, kind)
        assert error["code"] == code
        assert text in error["message"]
    assert refusal(box, client, 51, "nodry", dry_run=True)["code"] == "dry_run_unsupported"
    assert not (box.path / "ran").exists()
    assert not box.scripts_alive()


def test_a_writable_parent_is_refused(box: Box) -> None:
    box.kind("true", "exit 0")
    client = box.start()
    box.path.chmod(0o777)
    error = refusal(box, client, 1, "true")
    assert error["code"] == "unsafe_script"
    assert str(box.path) in error["message"]
    box.path.chmod(0o755)
    assert client.start(2, "true")["state"] == "running"


def test_a_changed_script_is_judged_again(box: Box) -> None:
    path = box.kind("changes", "exit 1")
    client = box.start()
    digests = []
    for row, code in enumerate((1, 2, 3, 4), start=1):
        path.write_text(f"#!/bin/sh\nexit {code}\n")
        client.start(row, "changes")
        record = client.notice(row)["record"]
        assert record["code"] == code
        digests.append(record["script_digest"])
    assert len(set(digests)) == 4
    path.chmod(0o757)
    assert refusal(box, client, 9, "changes")["code"] == "unsafe_script"
    path.unlink()
    assert refusal(box, client, 10, "changes")["code"] == "unknown_kind"


def test_more_than_the_last_bound_is_refused_and_recorded(box: Box) -> None:
    box.kind("sleeps", "exec sleep 30")
    client = box.start(AGENT_MAX_PARALLEL="1")
    assert client.hello()["parallel_max"] == 1
    for row in range(1, 69):
        assert client.start(row, "sleeps")["state"] == "running"
    assert refusal(box, client, 69, "sleeps")["code"] == "no_resources"
    assert len(client.hello()["running"]) == 68


def test_nothing_leaks_over_many_runs(box: Box) -> None:
    box.kind("talks", "echo x; echo y >&2; exit 0")
    client = box.start()

    def count_fds() -> int:
        return len(list(Path(f"/proc/{box.pid}/fd").iterdir()))

    before = count_fds()
    for row in range(1, 61):
        client.start(row, "talks")
        if row % 8 == 0:
            for past in range(row - 7, row + 1):
                client.notice(past)
    for row in range(57, 61):
        client.notice(row)
    wait_for(lambda: count_fds() == before)
    children = Path(f"/proc/{box.pid}/task/{box.pid}/children")
    assert not children.read_text().split(), "zombies"
