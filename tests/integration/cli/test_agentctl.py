"""`agentctl` against a real agentd: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node_process import NodeProcess, copy_kinds


def ask(node: NodeProcess, *arguments: str) -> dict[str, Any]:
    """The JSON answer of a command that succeeds."""
    done = node.agentctl(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_show_has_the_promised_members_at_its_top_level(shared_node: NodeProcess) -> None:
    ran = shared_node.agentctl("run", "fail", "--payload", '{"code": 7}', "--id", "f7", "--wait")
    assert ran.returncode == 1, ran
    assert "It ran and exited 7" in ran.stdout
    shown = ask(shared_node, "show", "f7")
    wanted = {
        "id": "f7", "kind": "fail", "execution_status": "FAILED", "phase": "FAILED",
        "reason": "exit_nonzero", "attempt": 1, "exit_code": 7, "daemon": "running",
    }  # fmt: skip
    assert wanted.items() <= shown.items()
    assert None not in (shown["started_at"], shown["ended_at"])


def test_status_has_the_promised_members(shared_node: NodeProcess) -> None:
    for arguments in (["status", "--json"], ["--json", "status"]):
        done = shared_node.agentctl(*arguments)
        status = json.loads(done.stdout)
        assert {"agent_id", "version", "counts", "running", "next_due_at", "core", "runner"} <= set(
            status
        )
        assert {"connected", "last_pull_at", "outbox"} <= set(status["core"])
    readable = shared_node.agentctl("status").stdout
    assert "n1: agentd" in readable
    assert all(len(line) <= 80 for line in readable.splitlines())
    assert "\x1b" not in readable


def test_a_finished_run_waited_for_exits_0_and_prints_its_output(shared_node: NodeProcess) -> None:
    payload = '{"steps": 2, "step_s": 0.05}'
    done = shared_node.agentctl("run", "progress", "--payload", payload, "--wait")
    assert done.returncode == 0
    assert "| step 2 of 2" in done.stdout


def test_payload_from_a_file(shared_node: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "payload").write_text('{"seconds": 0}')
    ran = ask(shared_node, "run", "sleep", "--payload", f"@{tmp_path / 'payload'}", "--wait")
    assert ran["execution_status"] == "FINISHED"


def test_scheduling_options_reach_the_definition(shared_node: NodeProcess) -> None:
    action = ask(
        shared_node, "run", "sleep", "--payload", '{"seconds": 0}', "--in", "1h", "--until", "+2h",
        "--app", "db", "--app", "web", "--timeout", "30s", "--metadata", '{"why": "test"}',
        "--id", "later",
    )  # fmt: skip
    assert action["phase"] == "SCHEDULED"
    assert action["app_names"] == ["db", "web"]
    assert action["timeout_s"] == 30
    assert action["metadata"] == {"why": "test"}
    assert action["from_date"] < action["to_date"]
    assert ask(shared_node, "status")["next_due_at"] == action["from_date"]
    cancelled = ask(shared_node, "cancel", "later")
    assert (cancelled["phase"], cancelled["reason"]) == ("CANCELLED", "cancelled_on_node")


def test_bad_payload_and_id_are_refused_with_all_faults(shared_node: NodeProcess) -> None:
    done = shared_node.agentctl("run", "sleep", "--payload", '{"second": 1}', "--id", "a b")
    assert done.returncode == 5
    for fault in ("'a b' is not an id", "'second' was unexpected", '"seconds" is a required'):
        assert fault in done.stderr
    as_json = json.loads(
        shared_node.agentctl("run", "slep", "--id", "a b", "--json").stdout,
    )
    assert as_json["error"] == "invalid"
    assert len(as_json["faults"]) == 2
    assert "did you mean 'sleep'" in as_json["message"]


def test_faults_of_the_command_line_come_together(shared_node: NodeProcess) -> None:
    done = shared_node.agentctl(
        "run", "sleep", "--at", "2030-01-01T12:00", "--until", "soon", "--payload", "{",
        "--timeout", "3x",
    )  # fmt: skip
    assert done.returncode == 2
    assert "the zone is missing" in done.stderr
    assert "if local time was meant: 2030-01-01T12:00:00" in done.stderr
    for option in ("--until", "--payload", "--timeout"):
        assert f"{option}: " in done.stderr


@pytest.mark.parametrize("command", ["show", "history", "cancel", "logs"])
def test_an_unknown_id_exits_4(shared_node: NodeProcess, command: str) -> None:
    done = shared_node.agentctl(command, "no/such?id")
    assert done.returncode == 4
    assert "no/such?id" in done.stderr


def test_what_is_refused_exits_5(shared_node: NodeProcess) -> None:
    assert shared_node.agentctl("run", "tiny", "--id", "twice", "--wait").returncode == 0
    again = shared_node.agentctl("run", "tiny", "--id", "twice")
    assert (again.returncode, "already an action" in again.stderr) == (5, True)
    late = shared_node.agentctl("cancel", "twice")
    assert (late.returncode, "already ended" in late.stderr) == (5, True)
    alone = shared_node.agentctl("sync")
    assert (alone.returncode, "no core" in alone.stderr) == (5, True)


def test_a_running_action_is_cancelled_and_stopped(shared_node: NodeProcess) -> None:
    action_id = ask(shared_node, "run", "sleep", "--payload", '{"seconds": 60}')["id"]
    shared_node.wait_status(action_id, "STARTED")
    assert "is being stopped" in shared_node.agentctl("cancel", action_id).stdout
    assert shared_node.wait_status(action_id)["execution_status"] == "WONT_FINISH"
    assert (
        "was cancelled on this node while it ran" in shared_node.agentctl("show", action_id).stdout
    )


def test_history_has_a_line_for_every_fact(shared_node: NodeProcess) -> None:
    shared_node.agentctl("run", "fail", "--payload", '{"code": 3}', "--id", "h3", "--wait")
    lines = shared_node.agentctl("history", "h3").stdout.splitlines()
    assert ["accepted" in lines[0], "NULL → STARTED" in lines[1]] == [True, True]
    assert "STARTED → FAILED" in lines[2]
    assert "exit_nonzero  (exit code 3" in lines[2]
    assert len(ask(shared_node, "history", "h3")["events"]) == 3


def test_kinds_shows_what_cannot_be_used(node: NodeProcess, tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir(mode=0o755)
    (scripts / "open_to_all").write_text("#!/bin/sh\n")
    (scripts / "open_to_all").chmod(0o777)
    broken = NodeProcess(tmp_path / "other", scripts)
    try:
        broken.start()
        done = broken.agentctl("kinds")
        assert done.returncode == 0
        assert "open_to_all" in done.stderr
    finally:
        broken.clean_up()


def test_an_unsafe_scripts_directory_is_what_is_wrong_not_the_kind(tmp_path: Path) -> None:
    scripts = copy_kinds(tmp_path / "scripts", "tiny")
    scripts.chmod(0o777)
    loose = NodeProcess(tmp_path / "state", scripts)
    try:
        loose.start()
        done = loose.agentctl("run", "tiny")
        assert done.returncode == 5
        assert "no kind can be used on this node" in done.stderr
        assert "chmod go-w" in done.stderr
        scripts.chmod(0o755)
        assert loose.agentctl("run", "tiny", "--wait").returncode == 0
    finally:
        loose.clean_up()


def test_lists_follow_pages_and_keep_their_order(node: NodeProcess) -> None:
    node.start()
    ids = [node.run("tiny") for _ in range(12)]
    node.wait_quiet()
    later = [node.run("tiny", id=f"later-{n}", from_date=f"2090-01-0{9 - n}T00:00:00Z")
             for n in range(3)]  # fmt: skip
    everything = ask(node, "list", "--all")
    assert everything["more"] is False
    listed = [action["id"] for action in everything["actions"]]
    assert listed[:3] == later[::-1]
    assert sorted(listed[3:]) == sorted(ids)
    ended = [action["ended_at"] for action in everything["actions"][3:]]
    assert ended == sorted(ended, reverse=True)
    few = ask(node, "list", "--finished", "--limit", "5")
    assert (len(few["actions"]), few["more"]) == (5, True)
    assert [a["id"] for a in ask(node, "list", "--status", "null")["actions"]] == later[::-1]
    assert ask(node, "list", "--kind", "sleep")["actions"] == []
    begun = everything["actions"][8]["ended_at"]
    later_half = ask(node, "list", "--finished", "--since", begun)["actions"]
    assert [a["id"] for a in later_half] == listed[3:9]
    earlier = ask(node, "list", "--finished", "--until", begun, "--limit", "3")
    assert [a["id"] for a in earlier["actions"]] == listed[9:12]
    assert (
        ask(node, "list", "--queue", "--since", "2090-01-08T00:00:00Z")["actions"]
        == (everything["actions"][1:3])
    )
    assert "later-0" in node.agentctl("list", "--queue").stdout


def test_a_recurring_action_from_its_creation_to_its_removal(shared_node: NodeProcess) -> None:
    rule = ask(shared_node, "run", "tiny", "--cron", "0 3 * * *", "--timezone", "Europe/Berlin",
               "--duration", "1h", "--id", "nightly")  # fmt: skip
    assert rule["state"] == "active"
    assert ask(shared_node, "status")["next_due_at"] <= rule["next_at"]
    fires = ask(shared_node, "forecast", "--until", "+8d", "--id", "nightly")["fires"]
    assert fires[0]["starts_at"] == rule["next_at"]
    assert len(fires) in (7, 8)
    edited = ask(shared_node, "recurring", "edit", "nightly", "--duration", "2h")
    assert edited["schedule"]["duration_s"] == 7200
    assert edited["schedule"]["cron"] == "0 3 * * *"
    assert edited["revision"] == rule["revision"] + 1
    paused = ask(shared_node, "pause", "nightly", "--reason", "upgrade")
    assert (paused["state"], paused["paused"]) == ("paused", "upgrade")
    assert ask(shared_node, "resume", "nightly")["state"] == "active"
    ran = ask(shared_node, "recurring", "run", "nightly", "--wait")
    assert ran["recurring_id"] == "nightly"
    shown = shared_node.agentctl("show", "nightly").stdout
    assert "cron 0 3 * * * (Europe/Berlin)" in shown
    assert ran["id"] in shown
    listed = ask(shared_node, "list", "--recurring", "nightly")["actions"]
    assert [action["id"] for action in listed] == [ran["id"]]
    assert "nightly" in shared_node.agentctl("why", "nightly").stdout
    assert "is over" in shared_node.agentctl("cancel", "nightly").stdout
    assert shared_node.agentctl("recurring", "show", "nope").returncode == 4


def test_what_holds_the_node_back_and_how_it_is_lifted(shared_node: NodeProcess) -> None:
    brake = ask(shared_node, "brake", "--kind", "fail", "--for", "1h", "--reason", "bad release")
    held = ask(shared_node, "run", "fail", "--label", "tier=db")["id"]
    assert "bad release" in shared_node.agentctl("why", held).stdout
    assert "BRAKE    " in shared_node.agentctl("status").stdout
    assert ask(shared_node, "list", "--label", "tier=db")["actions"][0]["id"] == held
    ask(shared_node, "brake", "--release", str(brake["id"]))
    shared_node.wait_status(held)
    assert ask(shared_node, "drain", "--reason", "reboot")["drained"] is True
    assert "PAUSED   reboot; by " in shared_node.agentctl("status").stdout
    ask(shared_node, "resume")
    again = ask(shared_node, "retry", held, "--json")
    assert (again["retry_of"], again["id"] != held) == (held, True)
    checks = ask(shared_node, "doctor")["checks"]
    assert all({"name", "state", "found", "advice"} <= set(check) for check in checks)


def test_an_unknown_command_names_the_nearest(shared_node: NodeProcess) -> None:
    done = shared_node.agentctl("staus")
    assert (done.returncode, "did you mean 'status'" in done.stderr) == (2, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shared_node: NodeProcess, shell: str) -> None:
    done = shared_node.agentctl("completion", shell)
    assert (done.returncode, "_AGENTCTL_COMPLETE" in done.stdout) == (0, True)


def test_an_argument_that_is_no_text_is_a_usage_error(shared_node: NodeProcess) -> None:
    for words in (["show", "\udcff"], ["run", "sleep", "--payload", '"\udcff"']):
        done = shared_node.agentctl(*words)
        assert done.returncode == 2, done
        assert "not UTF-8" in done.stderr
        assert "Traceback" not in done.stderr
