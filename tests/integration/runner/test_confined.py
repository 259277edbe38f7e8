"""`user` and `limits` of a manifest hold, and what this machine cannot honour is a fault."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runner.box import Box
from tests.integration.runner.client import Client

pytestmark = pytest.mark.timeout(60)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
USER = "nobody"


@pytest.fixture
def passable() -> Iterator[Box]:
    """A box that another account can reach into, as under the shipped units."""
    path = Path(tempfile.mkdtemp())
    box = Box(path)
    for directory in (box.state, box.runs):
        directory.mkdir(mode=0o711)
        directory.chmod(0o711)
    yield box
    box.close()
    shutil.rmtree(path)


def run(box: Box, client: Client, row: int, kind: str, **values: Any) -> dict[str, Any]:
    client.start(row, kind, **values)
    record: dict[str, Any] = client.notice(row)["record"]
    return record


def faults(client: Client, kind: str) -> str:
    found = {entry["kind"]: entry["faults"] for entry in client.ask("kinds")["kinds"]}
    return "; ".join(found[kind])


def output(box: Box, row: int, stream: str = "out") -> str:
    return (box.runs / f"{row}.1.{stream}").read_text()


@needs_root
def test_a_script_runs_as_its_user_and_as_nothing_else(passable: Box) -> None:
    box = passable
    body = (
        'id -u; id -G; echo "$HOME $USER $LOGNAME"; grep -E "^(Cap(Prm|Eff|Inh|Amb)):" '
        "/proc/self/status; echo told >/dev/stderr; cat; echo '{\"percent\": 50}' "
        '>>"$AGENT_PROGRESS"; sleep 0.05'
    )
    box.kind("whoami", body, f'user = "{USER}"')
    client = box.start()
    account = pwd.getpwnam(USER)
    record = run(box, client, 1, "whoami", payload={"a": 1})
    assert (record["code"], record["spawn_error"]) == (0, None), output(box, 1, "err")
    lines = output(box, 1).splitlines()
    groups = os.getgrouplist(USER, account.pw_gid)
    assert lines[0] == str(account.pw_uid)
    assert sorted(map(int, lines[1].split())) == sorted(set(groups)), "no group of root is left"
    assert lines[2] == f"{account.pw_dir} {USER} {USER}"
    for line in lines[3:7]:
        assert int(line.split()[1], 16) == 0, "no capability is left"
    assert '"payload":{"a":1}' in lines[7]
    assert output(box, 1, "err") == "told\n", "what it was given can be opened by name"
    asked = client.ask("progress", items=[[1, 1]])
    assert asked["items"][0]["percent"] == 50
    stat = (box.runs / "1.1.progress").stat()
    assert (stat.st_uid, stat.st_mode & 0o777) == (account.pw_uid, 0o600)


@needs_root
def test_a_user_that_cannot_be_had_is_a_fault(box: Box) -> None:
    box.kind("unknown", "exit 0", 'user = "no-such-user-here"')
    box.kind("unreadable", "exit 0", f'user = "{USER}"').chmod(0o700)
    box.kind("strange", "exit 0", 'user = "../root"')
    client = box.start()
    assert "there is no such account" in faults(client, "unknown")
    assert f"user {USER} may not read and execute" in faults(client, "unreadable")
    assert "must be the name of an account" in faults(client, "strange")
    error = client.start(1, "unknown")["record"]["spawn_error"]
    assert error["code"] == "bad_manifest"
    assert "no-such-user-here" in error["message"]


@needs_root
def test_a_runner_that_is_not_root_changes_no_account(passable: Box) -> None:
    box = passable
    for directory in (box.state, box.runs, box.scripts):
        os.chown(directory, pwd.getpwnam(USER).pw_uid, -1)
    box.kind("other", "exit 0", 'user = "root"')
    box.kind("own", "id -un", f'user = "{USER}"')
    prefix = ("setpriv", f"--reuid={USER}", "--clear-groups", "--")
    client = box.start(prefix=prefix)
    assert "the runner is not root" in faults(client, "other")
    assert faults(client, "own") == ""
    assert run(box, client, 1, "own")["code"] == 0
    assert output(box, 1) == f"{USER}\n"


@needs_root
@pytest.mark.alone  # the limit counts all processes of the account, and others run as it as well
def test_a_fork_bomb_is_held_by_its_limit(passable: Box) -> None:
    box = passable
    bomb = (
        "#!/usr/bin/env python3\nimport os, time\nmade = 0\ntry:\n    while True:\n"
        "        if os.fork() == 0:\n            time.sleep(30)\n            os._exit(0)\n"
        "        made += 1\nexcept BlockingIOError:\n    print(made)\n"
    )
    box.kind("bomb", bomb, f'user = "{USER}"\ngrace_s = 0.1\nlimits = {{ processes = 30 }}')
    client = box.start()
    assert run(box, client, 1, "bomb")["code"] == 0
    assert 0 < int(output(box, 1)) < 30


def test_cpu_seconds(box: Box) -> None:
    box.kind("busy", "while :; do :; done", "limits = { cpu_s = 1 }")
    client = box.start()
    record = run(box, client, 1, "busy")
    assert (record["signal"], record["limit_exceeded"]) == (24, "cpu_s")


def test_files_and_memory(box: Box) -> None:
    box.kind("files", "ulimit -n", "limits = { files = 64 }")
    box.kind(
        "memory",
        "#!/usr/bin/env python3\ntry:\n    bytearray(2 << 30)\nexcept MemoryError:\n    exit(3)\n",
        'limits = { memory_bytes = "512M" }',
    )
    client = box.start()
    assert run(box, client, 1, "files")["code"] == 0
    assert output(box, 1) == "64\n"
    assert run(box, client, 2, "memory")["code"] == 3


def test_a_file_that_grows_beyond_its_limit(box: Box, tmp_path: Path) -> None:
    box.kind("grows", f"exec dd if=/dev/zero of={tmp_path}/grown bs=1k count=100 status=none",
             'limits = { file_bytes = "64K" }')  # fmt: skip
    client = box.start()
    record = run(box, client, 1, "grows")
    assert (record["signal"], record["limit_exceeded"]) == (25, "file_bytes")
    assert (tmp_path / "grown").stat().st_size == 65_536


def test_the_cap_of_output(box: Box) -> None:
    box.kind("chatty", "head -c 1000000 /dev/zero", 'limits = { output_bytes = "8K" }')
    client = box.start()
    record = run(box, client, 1, "chatty")
    sizes = record["output"]["stdout"]
    assert sizes["bytes"] == 1_000_000
    assert 4_096 < sizes["kept_bytes"] <= 8_192
    assert sum(path.stat().st_size for path in box.runs.glob("1.1.out*")) == sizes["kept_bytes"]


def test_what_cannot_be_limited_here_is_a_fault(box: Box) -> None:
    """Silence would be a limit that somebody relies on and that is not there."""
    box.kind("percent", "exit 0", "limits = { cpu_percent = 50 }")
    box.kind("many", "exit 0", "limits = { processes = 10 }")
    client = box.start("--cgroup", "off")
    assert "cpu controller" in faults(client, "percent")
    assert ("pids controller" in faults(client, "many")) == (os.geteuid() == 0)
    assert client.start(1, "percent")["record"]["spawn_error"]["code"] == "bad_manifest"
