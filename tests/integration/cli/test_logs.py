"""`agentctl logs`: every byte once, live, across a restart of agentd."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.fakes.node_process import ROOT, NodeProcess, clean_environment

FOLLOW_S_MAX = 40


def follow(node: NodeProcess, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "agent.cli.agentctl", "--state-dir", str(node.state_dir),
               "logs", "-f", *arguments]  # fmt: skip
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment(), cwd=ROOT
    )


def test_follows_from_the_first_byte_before_the_start(shared_node: NodeProcess) -> None:
    action_id = shared_node.run("sleep_exclusive", {"seconds": 1})
    waiting = shared_node.run("fail", {"code": 9, "message": "told on stderr"})
    with follow(shared_node, waiting) as following:
        out, err = following.communicate(timeout=FOLLOW_S_MAX)
    assert (out, err) == (b"", b"told on stderr\n")
    assert shared_node.show(action_id)["execution_status"] == "FINISHED"


def test_lines_arrive_while_the_script_runs(shared_node: NodeProcess) -> None:
    action_id = shared_node.run("progress", {"steps": 3, "step_s": 0.6})
    with follow(shared_node, action_id, "--stream", "stdout") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"step 1 of 3\n"
        assert shared_node.show(action_id)["execution_status"] == "STARTED"
        rest = following.stdout.read()
        assert following.wait(FOLLOW_S_MAX) == 0
    assert rest == b"step 2 of 3\nstep 3 of 3\n"


@pytest.mark.timeout(90)
def test_survives_a_restart_of_agentd_without_a_gap_or_a_repeat(node: NodeProcess) -> None:
    node.start()
    action_id = node.run("progress", {"steps": 30, "step_s": 0.1})
    with follow(node, action_id) as following:
        assert following.stdout is not None
        first = following.stdout.readline()
        node.kill9()
        time.sleep(0.5)  # the time that a restart may take, not a race: the script writes on
        node.start()
        rest = following.stdout.read()
        assert following.wait(FOLLOW_S_MAX) == 0
    assert (first + rest).decode() == "".join(f"step {n} of 30\n" for n in range(1, 31))


def test_output_past_the_cap_is_told_and_nothing_is_repeated(shared_node: NodeProcess) -> None:
    size = 2 * 1024 * 1024
    action_id = shared_node.run("chatty", {"bytes": size})
    shared_node.wait_status(action_id)
    done = shared_node.agentctl("logs", action_id)
    lines = done.stdout.splitlines()
    offsets = [int(line) for line in lines if len(line) == 15]
    assert offsets == sorted(set(offsets))
    assert offsets[0] == 0
    assert offsets[-1] == size - 16
    assert "bytes were not kept" in done.stderr


def test_output_is_bytes(node: NodeProcess) -> None:
    scripts = node.state_dir.with_name("scripts")
    scripts.mkdir(mode=0o755)
    script = scripts / "raw"
    parts = [r"printf '\377\000\376'", r"printf '<\377>' >&2", "printf ' end'"]
    script.write_text("#!/bin/sh\n" + "\nsleep 0.1\n".join(parts) + "\n")
    script.chmod(0o755)
    other = NodeProcess(node.state_dir, scripts)
    try:
        other.start()
        action_id = other.run("raw")
        other.wait_status(action_id)
        with follow(other, action_id) as following:
            out, err = following.communicate(timeout=FOLLOW_S_MAX)
        assert (out, err) == (b"\xff\x00\xfe end", b"<\xff>")
        with follow(other, action_id, "--stream", "both") as following:
            out, err = following.communicate(timeout=FOLLOW_S_MAX)
        assert (out, err) == (b"\xff\x00\xfe<\xff> end", b"")
        assert "(not text)" in other.agentctl("show", action_id).stdout
    finally:
        other.clean_up()


@pytest.mark.timeout(90)
def test_without_following_it_ends_although_the_script_writes_on(node: NodeProcess) -> None:
    scripts = node.state_dir.with_name("scripts")
    scripts.mkdir(mode=0o755)
    script = scripts / "yes"
    script.write_text("#!/bin/sh\nexec yes\n")
    script.chmod(0o755)
    other = NodeProcess(node.state_dir, scripts)
    try:
        other.start()
        action_id = other.run("yes")
        other.wait_status(action_id, "STARTED")
        done = other.agentctl("logs", action_id, "--stream", "stdout")
        assert (done.returncode, done.stdout[:4]) == (0, "y\ny\n")
        assert other.call("POST", f"/v1/actions/{action_id}/cancel")[0] == 200
        other.wait_status(action_id)
    finally:
        other.clean_up()


def test_every_attempt_is_followed(shared_node: NodeProcess) -> None:
    retry = {"max_attempts": 2, "delay_s": 1.5}  # time for the follower to come
    action_id = shared_node.run("fail", {"message": "again"}, retry=retry)
    with follow(shared_node, action_id, "--stream", "stderr") as following:
        out, err = following.communicate(timeout=FOLLOW_S_MAX)
    assert out == b"again\nagain\n"
    assert b"attempt 2 follows" in err


def test_following_what_never_starts_ends_with_4(shared_node: NodeProcess) -> None:
    action_id = shared_node.run("tiny", from_date="2090-01-01T00:00:00Z")
    with follow(shared_node, action_id) as following:
        shared_node.agentctl("cancel", action_id)
        _, err = following.communicate(timeout=FOLLOW_S_MAX)
    assert following.returncode == 4
    assert b"has not started" in err
