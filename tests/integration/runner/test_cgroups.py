"""With a delegated cgroup nothing survives a stop (P11), on a real cgroup v2."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.runner.box import Box, is_alive, wait_for
from tests.integration.runner.client import Client, Refused
from tests.integration.runner.delegated import groups_of, pids_in

pytestmark = pytest.mark.timeout(60)

# Its grandchild has another session, another parent, an empty environment and ignores TERM.
ESCAPES = """#!/usr/bin/env python3
import os, signal, sys, time
reading, writing = os.pipe()  # closed by exec: then its grandchild is what it is to be
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(os.getpid(), flush=True)
        os.execve("/bin/sleep", ["sleep", "300"], {})
    os._exit(0)
os.close(writing)
os.read(reading, 1)
if "stay" in sys.stdin.read():
    time.sleep(300)
"""


def start(box: Box, delegated: Path) -> Client:
    return box.start("--cgroup", str(delegated))


def escaped(box: Box, row: int) -> int:
    """The pid that the script's grandchild wrote."""
    path = box.runs / f"{row}.1.out"
    wait_for(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def test_nothing_survives_a_stop(box: Box, delegated: Path) -> None:
    box.kind("escapes", ESCAPES)
    client = start(box, delegated)
    for row in (1, 2):
        client.start(row, "escapes", payload={"stay": True})
    first, second = escaped(box, 1), escaped(box, 2)
    assert first in pids_in(delegated / "1.1")
    client.ask("stop", row=1, start_no=1, id="a1", cause="withdrawn", grace_s=0.1)
    record = client.notice(1)["record"]
    assert (record["stop_cause"], record["survivors"]) == ("withdrawn", 0)
    assert not is_alive(first)
    assert is_alive(second), "the other run's processes are its own"
    wait_for(lambda: groups_of(delegated) == ["2.1"])


def test_leftovers_go_when_the_main_process_has_ended(box: Box, delegated: Path) -> None:
    box.kind("escapes", ESCAPES, "grace_s = 0.1")
    client = start(box, delegated)
    client.start(1, "escapes")
    assert client.notice(1)["record"]["code"] == 0
    pid = escaped(box, 1)
    wait_for(lambda: not is_alive(pid))
    wait_for(lambda: groups_of(delegated) == [])


def test_leftovers_stay_where_the_manifest_says_so(box: Box, delegated: Path) -> None:
    box.kind("escapes", ESCAPES, 'leftovers = "leave"')
    box.kind("tiny", "exit 0")
    client = start(box, delegated)
    client.start(1, "escapes")
    client.notice(1)
    pid = escaped(box, 1)
    client.start(2, "tiny")
    client.notice(2)
    assert is_alive(pid)
    wait_for(lambda: groups_of(delegated) == ["1.1"])
    box.kill()
    client = start(box, delegated)
    assert is_alive(pid), "the next runner leaves it, too"
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not pids_in(delegated / "1.1"))
    client.start(3, "tiny")
    client.notice(3)
    wait_for(lambda: groups_of(delegated) == [])


def test_what_a_killed_runner_left_is_ended_before_anyone_is_answered(
    box: Box, delegated: Path
) -> None:
    box.kind("escapes", ESCAPES)
    client = start(box, delegated)
    client.start(1, "escapes", payload={"stay": True})
    pid = escaped(box, 1)
    box.kill()
    assert is_alive(pid)
    client = start(box, delegated)
    assert not is_alive(pid)
    assert groups_of(delegated) == []
    assert client.ask("claim", row=1, start_no=1, id="a1")["state"] == "unknown"


def test_five_hundred_children_end_together(box: Box, delegated: Path) -> None:
    box.kind("many", 'trap "" TERM; for i in $(seq 500); do sleep 300 & done; echo up; wait')
    client = start(box, delegated)
    client.start(1, "many")
    wait_for(lambda: len(pids_in(delegated / "1.1")) > 500)
    client.ask("stop", row=1, start_no=1, id="a1", cause="overlap", grace_s=0)
    assert client.notice(1)["record"]["survivors"] == 0
    assert pids_in(delegated / "1.1") == []
    wait_for(lambda: groups_of(delegated) == [])


def test_the_runner_says_which_containment_holds(box: Box, delegated: Path) -> None:
    start(box, delegated).close()
    hello = box.dial().hello()
    assert hello["containment"] == "cgroup"
    assert pids_in(delegated / "runner") == [box.pid]
    box.terminate()
    box.start("--cgroup", "off").close()
    assert box.dial().hello()["containment"] == "attributed"


def test_a_subtree_that_systemd_delegated_is_found(box: Box, delegated: Path) -> None:
    os.setxattr(delegated, "trusted.delegate", b"1")
    into = ("sh", "-c", f'echo 0 > {delegated}/cgroup.procs; exec "$@"', "sh")
    box.kind("where", "cat /proc/self/cgroup")
    client = box.start(prefix=into)
    assert pids_in(delegated / "runner") == [box.pid]
    client.start(1, "where")
    client.notice(1)
    assert (box.runs / "1.1.out").read_text().strip().endswith(f"/{delegated.name}/1.1")


def test_without_one_nothing_is_divided(box: Box) -> None:
    box.start().close()
    assert box.dial().hello()["containment"] == "attributed"


def test_the_launcher_changes_nothing_for_the_script(box: Box, delegated: Path) -> None:
    box.kind("env", 'env | sort; cat; echo "fds $(ls /proc/self/fd | tr "\\n" " ")"')
    box.kind("fails", "exit 7")
    client = start(box, delegated)
    client.start(1, "env", payload={"a": 1})
    record = client.notice(1)["record"]
    assert (record["code"], record["spawn_error"]) == (0, None)
    text = (box.runs / "1.1.out").read_text()
    names = {line.partition("=")[0] for line in text.splitlines() if "=" in line and line[0] != "{"}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "AGENT_ACTION_ID", "AGENT_ATTEMPT", "AGENT_DRY_RUN", "AGENT_KIND", "AGENT_PROGRESS",
        "AGENT_SCRIPT", "HOME", "LANG", "LOGNAME", "PATH", "USER",
    }  # fmt: skip
    assert '"payload":{"a":1}' in text
    client.start(2, "fails")
    assert client.notice(2)["record"]["code"] == 7


def test_what_the_launcher_cannot_execute_is_a_spawn_error(box: Box, delegated: Path) -> None:
    box.kind("odd", "#!/nonexistent/interpreter\n")
    box.kind("text", "#").write_text("echo no shebang\n")
    client = start(box, delegated)
    client.start(1, "odd")
    error = client.notice(1)["record"]["spawn_error"]
    assert (error["code"], "not found" in error["message"]) == ("exec_failed", True)
    error = client.start(2, "text")["record"]["spawn_error"]
    assert (error["code"], "neither with #!" in error["message"]) == ("exec_failed", True)


@pytest.mark.parametrize("code", [1, 125, 126, 127])
def test_a_script_that_becomes_a_shell_is_no_launcher(box: Box, delegated: Path, code: int) -> None:
    box.kind("shell", f"exec sh -c 'exit {code}'")
    client = start(box, delegated)
    client.start(1, "shell")
    record = client.notice(1)["record"]
    assert (record["code"], record["spawn_error"]) == (code, None)


def test_a_run_that_cannot_have_its_group_does_not_start(box: Box, delegated: Path) -> None:
    box.kind("tiny", "exit 0")
    client = start(box, delegated)
    (delegated / "cgroup.max.descendants").write_text("1")
    record = client.start(1, "tiny")["record"]
    assert record["spawn_error"]["code"] == "no_resources"


def test_a_directory_that_is_no_cgroup_is_refused(box: Box) -> None:
    process = box.spawn("--cgroup", str(box.path))
    assert process.wait(10) == 2
    assert "neither auto nor off" in box.log.read_text()


def test_an_unknown_request_is_still_refused(box: Box, delegated: Path) -> None:
    client = start(box, delegated)
    with pytest.raises(Refused):
        client.ask("start")
