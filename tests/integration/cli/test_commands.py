"""What each command asks and what it makes of the answer, against an API that says what it is told.

In-process and quick; that a real agentd answers so is tested where it is real.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.cli.agentctl import main
from tests.fakes.board_values import ended, fire, status, summary
from tests.fakes.node_process import ROOT, clean_environment
from tests.fakes.scripted_api import Asked, ScriptedApi
from tests.fakes.terminal import Terminal

RULE = {
    "id": "nightly", "kind": "backup", "state": "active", "paused": None, "run_count": 3,
    "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin",
                 "catch_up": {"mode": "latest", "max_age_s": 86400.0, "max_count": 100}},
    "payload": {"full": True}, "revision": 4, "next_at": "2090-01-16T02:00:00Z",
    "next_nominal_at": "2090-01-16T02:00:00Z", "last_nominal_at": None, "zone": "Europe/Berlin",
    "offset_s": 0.0, "ended_at": None, "ended_reason": None, "owner": "node",
    "latest": [ended("nightly@2026-01-15T02:00:00Z")],
}  # fmt: skip
BRAKE = {
    "id": 3, "kind": "deploy", "labels": {}, "reason": "freeze", "by": "root",
    "created_at": "2026-01-15T11:00:00Z", "expires_at": "2090-01-15T13:00:00Z",
}  # fmt: skip


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ScriptedApi]:
    made = ScriptedApi(tmp_path / "state").start()
    try:
        yield made
    finally:
        made.stop()


def call(api: ScriptedApi, *words: str) -> Result:
    return CliRunner().invoke(main, ["--state-dir", str(api.state_dir), *words])


def sent(api: ScriptedApi, *words: str) -> Asked:
    """The last request of a command that succeeds."""
    done = call(api, *words)
    assert done.exit_code == 0, done.output
    return api.asked[-1]


def test_run_with_a_schedule_makes_a_recurring_action(api: ScriptedApi) -> None:
    api.answers["POST /v1/recurring"] = 201, RULE
    done = call(api, "run", "backup", "--cron", "0 3 * * *", "--timezone", "Europe/Berlin",
                "--duration", "2h", "--overlap", "queue", "--catch-up", "all", "--max-runs", "9",
                "--id", "nightly", "--payload", '{"full": true}')  # fmt: skip
    assert (done.exit_code, done.stdout) == (0, "nightly\n")
    assert "next 2090-01-16 03:00:00 CET" in done.stderr
    assert api.asked[-1].body == {
        "kind": "backup", "id": "nightly", "payload": {"full": True},
        "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "duration_s": 7200.0,
                     "overlap": "queue", "catch_up": {"mode": "all"}, "max_runs": 9},
    }  # fmt: skip
    assert call(api, "run", "backup", "--every", "5m", "--wait").exit_code == 2


def test_words_of_a_schedule_go_as_they_are_or_with_other_options(api: ScriptedApi) -> None:
    api.answers["POST /v1/recurring"] = 201, RULE
    asked = sent(api, "run", "backup", "--schedule", "every 5 minutes")
    assert asked.body["schedule"] == "every 5 minutes"
    asked = sent(api, "recurring", "add", "backup", "--schedule", "every 5 minutes",
                 "--jitter", "10s")  # fmt: skip
    assert asked.body["schedule"]["jitter_s"] == 10
    assert asked.body["schedule"]["every"]
    bad = call(api, "run", "backup", "--schedule", "whenever", "--jitter", "10s")
    assert (bad.exit_code, "--schedule: " in bad.stderr) == (2, True)


def test_every_fault_of_the_server_is_shown(api: ScriptedApi) -> None:
    faults = [
        {"path": "schedule.cron", "message": "61 is not a minute"},
        {"path": "schedule.timezone", "message": "'Mars' is not a zone"},
    ]
    refused = {"error": "invalid", "message": "two faults", "faults": faults}
    api.answers["POST /v1/recurring"] = 422, refused
    done = call(api, "run", "backup", "--cron", "61 * * * *", "--timezone", "Mars", "--json")
    assert done.exit_code == 5
    assert "schedule.cron: 61 is not a minute" in done.stderr
    assert "schedule.timezone: 'Mars' is not a zone" in done.stderr
    assert json.loads(done.stdout)["faults"] == faults


def test_recurring_list_and_show(api: ScriptedApi) -> None:
    pages = {"": {"recurring": [RULE], "next": "c"},
             "c": {"recurring": [{**RULE, "id": "a-late", "state": "ended"},
                                 {**RULE, "id": "b", "state": "paused", "paused": "freeze",
                                  "kind": "gone"}], "next": None}}  # fmt: skip
    api.answers["GET /v1/recurring"] = lambda asked: (200, pages[asked.query.get("after", "")])
    api.answers["GET /v1/recurring/nightly"] = 200, {**RULE, "offset_s": 192.0}
    api.answers["GET /v1/recurring/b"] = 200, {**RULE, "id": "b", "state": "paused"}
    api.answers["GET /v1/kinds"] = 200, {"kinds": [{"kind": "backup", "faults": []}], "faults": []}
    done = call(api, "recurring", "list").stdout
    lines = done.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["nightly", "b", "a-late"], "ended ones last"
    assert "nightly  backup                active" in lines[1]
    assert "paused (freeze)" in lines[2]
    assert "after resume" in lines[2]
    assert "next          after resume" in call(api, "recurring", "show", "b").stdout
    assert "gone (not installed)" in done
    assert "a-late" not in call(api, "recurring", "list", "--active").stdout
    listed = json.loads(call(api, "recurring", "list", "--json").stdout)
    assert [rule["id"] for rule in listed["recurring"]] == ["nightly", "b", "a-late"]
    shown = call(api, "recurring", "show", "nightly").stdout
    assert "cron 0 3 * * * (Europe/Berlin)" in shown
    assert "3 min 12 s later, by the jitter" in shown
    assert 'payload       {"full": true}' in shown
    assert "nightly@2026-01-15T02:00:00Z  FAILED  exit_nonzero  7" in shown


def test_an_edit_keeps_what_it_does_not_name(api: ScriptedApi) -> None:
    api.answers["GET /v1/recurring/nightly"] = 200, RULE
    api.answers["PUT /v1/recurring/nightly"] = 200, RULE
    asked = sent(api, "recurring", "edit", "nightly", "--every", "1h", "--catch-up-age", "2h")
    assert asked.body == {
        "id": "nightly", "kind": "backup", "payload": {"full": True}, "revision": 5,
        "owner": "node",
        "schedule": {"every": "1h", "timezone": "Europe/Berlin",
                     "catch_up": {"mode": "latest", "max_age_s": 7200.0, "max_count": 100}},
    }  # fmt: skip
    assert (
        sent(api, "recurring", "edit", "nightly", "--timeout", "9s").body["schedule"]
        == (RULE["schedule"])
    )
    assert call(api, "recurring", "edit", "nightly").exit_code == 2


@pytest.mark.parametrize("words", [["recurring", "pause", "nightly"], ["pause", "nightly"]])
def test_a_rule_is_paused_by_either_word(api: ScriptedApi, words: list[str]) -> None:
    api.answers["POST /v1/recurring/nightly/pause"] = 200, {**RULE, "paused": "x"}
    api.answers["POST /v1/recurring/nightly/resume"] = 200, RULE
    assert sent(api, *words, "--reason", "upgrade").body == {"reason": "upgrade"}
    done = call(api, *[word.replace("pause", "resume") for word in words])
    assert "nightly goes on; next 2090-01-16 03:00:00 CET" in done.stdout


def test_run_now_backfill_and_remove(api: ScriptedApi) -> None:
    api.answers["POST /v1/recurring/nightly/run"] = 201, summary("nightly@2026-01-15T12:00:00Z.b1")
    api.answers["POST /v1/recurring/nightly/backfill"] = 201, {"created": ["b1", "b2"]}
    api.answers["DELETE /v1/recurring/nightly"] = 200, RULE
    assert call(api, "recurring", "run", "nightly").stdout == "nightly@2026-01-15T12:00:00Z.b1\n"
    done = call(api, "recurring", "backfill", "nightly", "2026-01-01T00:00:00Z", "2026-01-03T01:00:00+01:00")  # noqa: E501  # fmt: skip
    assert done.stdout == "b1\nb2\n"
    assert api.asked[-1].body == {"from": "2026-01-01T00:00:00Z", "to": "2026-01-03T00:00:00Z"}
    api.answers["DELETE /v1/recurring/hourly"] = 200, RULE
    done = call(api, "recurring", "remove", "nightly", "hourly")
    assert done.stdout == "nightly is removed\nhourly is removed\n"


def test_pause_and_resume_of_the_node(api: ScriptedApi) -> None:
    api.answers["POST /v1/pause"] = 200, {"paused": True, "running": [{"id": "a"}]}
    api.answers["POST /v1/resume"] = 200, {"paused": False, "running": []}
    done = call(api, "pause", "--reason", "kernel")
    assert "paused: nothing starts until `agentctl resume`; 1 still run" in done.stdout
    assert api.asked[-1].body == {"reason": "kernel"}
    assert "resumed" in call(api, "resume").stdout


def test_drain_waits_until_nothing_runs_or_the_time_is_over(api: ScriptedApi) -> None:
    left = [["a", "b"], ["b"], []]

    def drain(asked: Asked) -> tuple[int, Any]:
        running = [{"id": name} for name in (left.pop(0) if left else ["z"])]
        return 200, {"paused": True, "running": running, "drained": not running}

    api.answers["POST /v1/drain"] = drain
    done = call(api, "drain", "--reason", "reboot")
    assert (done.exit_code, "drained" in done.stdout) == (0, True)
    assert "waiting for a, b" in done.stderr
    assert {asked.body["reason"] for asked in api.asked} == {"reboot"}
    late = call(api, "drain", "--wait", "0")
    assert (late.exit_code, "1 still run" in late.stdout) == (1, True)
    assert api.asked[-1].body == {"wait_s": 0.0}


def test_brakes(api: ScriptedApi) -> None:
    api.answers["POST /v1/brake"] = 201, BRAKE
    api.answers["GET /v1/brake"] = 200, {"brakes": [BRAKE]}
    api.answers["DELETE /v1/brake/3"] = 200, BRAKE
    asked = sent(api, "brake", "--kind", "deploy", "--label", "tier=db", "--for", "2h",
                 "--reason", "freeze")  # fmt: skip
    assert asked.body == {
        "kind": "deploy", "labels": {"tier": "db"}, "for_s": 7200.0, "reason": "freeze",
    }  # fmt: skip
    assert "3      kind deploy  2090-01-15T13:00:00.000Z" in call(api, "brake").stdout
    assert "brake 3 is released" in call(api, "brake", "--release", "3").stdout
    wrong = call(api, "brake", "--for", "x", "--label", "tier")
    assert wrong.exit_code == 2
    for fault in ("--label: 'tier'", "--for:", "--reason:"):
        assert fault in wrong.stderr


def test_forecast_is_told_in_the_zone_of_the_node(api: ScriptedApi) -> None:
    told = {"from": "2026-01-15T12:00:00Z", "until": "2026-01-22T12:00:00Z",
            "zone": "Europe/Berlin", "paused": True, "truncated": True,
            "fires": [fire(notes=["clock goes back", "expected overlap"])]}  # fmt: skip
    api.answers["GET /v1/forecast"] = 200, told
    done = call(api, "forecast", "--until", "2026-01-22T12:00:00Z", "--id", "nightly")
    assert api.asked[-1].query == {
        "until": "2026-01-22T12:00:00Z", "id": "nightly", "limit": "50",
    }  # fmt: skip
    assert "2026-01-15 13:04:12 CET" in done.stdout
    assert "clock goes back; expected overlap" in done.stdout
    assert "is paused" in done.stderr
    assert "There are more" in done.stderr


def test_why_shows_the_sentence_and_every_decision(api: ScriptedApi) -> None:
    api.answers["GET /v1/actions/a/why"] = 200, {
        "id": "a", "phase": "FAILED", "answer": "It ran and exited 7.", "now": None,
        "decisions": [
            {"at": "2026-01-15T12:00:00Z", "what": "started attempt 1", "reason": "due",
             "evidence": {"late_s": 0.0}},
            {"at": None, "what": "ended FAILED", "reason": None, "evidence": {"code": 7}},
        ],
    }  # fmt: skip
    lines = call(api, "why", "a").stdout.splitlines()
    assert lines[:2] == ["a  FAILED", "  It ran and exited 7."]
    assert lines[4] == "2026-01-15T12:00:00.000Z  started attempt 1  due     on time"
    assert lines[5].endswith("exit code 7")


@pytest.mark.parametrize(("worst", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_doctor_ends_with_1_only_where_a_check_fails(
    api: ScriptedApi, worst: str, code: int
) -> None:
    api.answers["GET /v1/doctor"] = 200, {"checks": [
        {"name": "database", "state": "ok", "found": "integrity is fine", "advice": ""},
        {"name": "clock", "state": worst, "found": "as found", "advice": "run chronyd"},
    ]}  # fmt: skip
    done = call(api, "doctor")
    assert done.exit_code == code
    assert "✓ database  integrity is fine" in done.stdout
    assert ("→ run chronyd" in done.stdout) is (worst != "ok")


def test_retry_prints_the_new_id(api: ScriptedApi) -> None:
    api.answers["POST /v1/actions/a/retry"] = 201, summary("b")
    assert call(api, "retry", "a").stdout == "b\n"


def test_list_narrows_at_the_daemon_and_here(api: ScriptedApi) -> None:
    page = {"actions": [summary(f"a{n}", labels={"tier": "db" if n % 2 else "web"})
                        for n in range(6)], "next": None}  # fmt: skip
    api.answers["GET /v1/actions"] = 200, page
    done = call(api, "list", "--queue", "--label", "tier=db", "--limit", "2", "--since", "-2h",
                "--kind", "backup", "--recurring", "nightly", "--json")  # fmt: skip
    told = json.loads(done.stdout)
    assert [one["id"] for one in told["actions"]] == ["a1", "a3"]
    assert told["more"] is True
    query = api.asked[-1].query
    assert {"kind": "backup", "recurring": "nightly", "view": "queue"}.items() <= query.items()
    assert query["since"].endswith("Z")
    lines = call(api, "list", "--queue", "--jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"a{n}" for n in range(6)]
    assert call(api, "list", "--phase", "SCHEDULED", "--queue", "--json").exit_code == 0
    wrong = call(api, "list", "--phase", "sleeping", "--label", "x", "--until", "then")
    assert wrong.exit_code == 2
    for option in ("--phase", "--label", "--until"):
        assert option in wrong.stderr


def test_status_shows_what_is_not_as_it_should_be(api: ScriptedApi) -> None:
    api.answers["GET /v1/status"] = 200, status(
        paused=True, pause_reason="kernel", paused_by="root", paused_at="2026-01-15T12:00:00Z",
        brakes=[BRAKE], braked=4, parked=2,
        clock={"state": "doubtful", "why": "an hour ahead", "until": "2090-01-15T12:00:00Z"},
        backup={"problem": "the disk is full", "last_verified_at": None},
    )  # fmt: skip
    shown = call(api, "status").stdout
    for line in (
        "PAUSED   kernel; by root", "BRAKE    3 holds kind deploy for", "4 due wait for a brake",
        "PARKED   2 actions", "CLOCK    doubtful: an hour ahead", "BACKUP   the disk is full",
    ):  # fmt: skip
        assert line in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    "words",
    [["frob"], ["run"], ["list", "--limit", "x"], ["recurring", "frob"], ["brake", "--for", "1h"]],
)
def test_wrong_usage_is_json_where_that_was_asked_for(api: ScriptedApi, words: list[str]) -> None:
    for line in (["--json", *words], [*words, "--json"]):
        done = call(api, *line)
        assert done.exit_code == 2
        assert json.loads(done.stdout)["error"] == "usage"
        assert "Error: " in done.stderr
    assert call(api, *words).stdout == ""


def test_sync_tells_a_core_that_is_away_from_a_refusal(api: ScriptedApi) -> None:
    away = {"error": "unavailable", "message": "nobody listens there"}
    api.answers["POST /v1/sync"] = 503, away
    done = call(api, "sync")
    assert (done.exit_code, "nobody listens" in done.stderr) == (3, True)
    api.answers["POST /v1/sync"] = 409, {"error": "no_core", "message": "this node has no core"}
    assert call(api, "sync").exit_code == 5


def test_a_database_that_is_being_restored_is_no_refusal(api: ScriptedApi) -> None:
    away = {"error": "unavailable", "message": "the database is damaged and is being restored"}
    api.answers["GET /v1/actions"] = 503, away
    done = call(api, "list", "--json")
    assert (done.exit_code, json.loads(done.stdout)["error"]) == (3, "unavailable")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("agentctl show a", ["a0", "a1"]),
        ("agentctl recurring show ni", ["nightly"]),
        ("agentctl run ba", ["backup"]),
        ("agentctl pause ni", ["nightly"]),
        ("agentctl recu", ["recurring"]),
        ("agentctl brake --release ", ["3"]),
    ],
)
def test_a_shell_completes_what_the_daemon_knows(
    api: ScriptedApi, words: str, offered: list[str]
) -> None:
    api.answers |= {
        "GET /v1/actions": (200, {"actions": [summary("a0"), summary("a1")], "next": None}),
        "GET /v1/recurring": (200, {"recurring": [RULE], "next": None}),
        "GET /v1/kinds": (200, {"kinds": [{"kind": "backup", "description": "x"}], "faults": []}),
        "GET /v1/brake": (200, {"brakes": [BRAKE]}),
    }
    assert set(complete(api, words)) == set(offered)


def test_completion_is_silent_where_nobody_answers(api: ScriptedApi) -> None:
    api.stop()
    assert complete(api, "agentctl show ") == []
    api.start().answers["GET /v1/actions"] = 200, {"of": "another version"}
    assert complete(api, "agentctl show ") == []


@pytest.mark.timeout(60)
def test_tab_in_a_real_bash_completes_an_id_with_its_colons(
    api: ScriptedApi, tmp_path: Path
) -> None:
    occurrence = "nightly@2026-01-15T02:00:00Z"
    page = {"actions": [summary(occurrence)], "next": None}
    api.answers |= {"GET /v1/actions": (200, page),
                    "GET /v1/actions/" + occurrence: (200, summary(occurrence))}  # fmt: skip
    script = tmp_path / "agentctl"
    script.write_text(
        f"#!{sys.executable}\nfrom agent.cli.agentctl import main\nmain(prog_name='agentctl')\n"
    )
    script.chmod(0o755)
    env = clean_environment() | {
        "AGENT_STATE_DIR": str(api.state_dir), "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PS1": "ready> ",
    }  # fmt: skip
    shell = Terminal(
        ["bash", "--norc", "--noprofile", "-i"], env, str(ROOT), columns=120, term="dumb"
    )
    try:
        shell.wait_for(lambda: "ready>" in shell.text)
        shell.send(b'eval "$(agentctl completion bash)"; echo loaded\n')
        shell.wait_for(lambda: "\nloaded" in shell.text)
        for typed, wanted in (
            ("agentctl show nig\t", f"show {occurrence}"),
            ("agentctl show nightly@2026-01-15T02:0\t", f"show {occurrence}"),
            ("agentctl run x --payload '{\"a\": 1}' --aft\t", "--after"),
        ):
            before = shell.text.count(wanted)
            shell.send(typed.encode())
            shell.wait_for(lambda: shell.text.count(wanted) > before)  # noqa: B023
            prompts = shell.text.count("ready>")
            shell.send(b"\n")  # whatever comes of it: then there is a new line to type on
            shell.wait_for(lambda: shell.text.count("ready>") > prompts)  # noqa: B023
    finally:
        shell.close()


def complete(api: ScriptedApi, words: str) -> list[str]:
    """As bash asks; the words it is offered."""
    typed = words.split(" ")
    done = CliRunner().invoke(
        main, [], prog_name="agentctl",
        env={"_AGENTCTL_COMPLETE": "bash_complete", "COMP_WORDS": words,
             "COMP_CWORD": str(len(typed) - 1), "AGENT_STATE_DIR": str(api.state_dir)},
    )  # fmt: skip
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_a_pause_that_has_drained_says_so(api: ScriptedApi) -> None:
    paused = {"paused": True, "pause_reason": "reboot", "draining": True}
    api.answers["GET /v1/status"] = 200, status(**paused)
    assert "drained: nothing runs, and nothing starts" in call(api, "status").stdout
    counts = {**status()["counts"], "STARTED": 2}
    api.answers["GET /v1/status"] = 200, status(**paused, counts=counts)
    assert "draining: 2 still run, and nothing starts" in call(api, "status").stdout


def test_what_is_due_already_waits(api: ScriptedApi) -> None:
    api.answers["GET /v1/status"] = 200, status(next_due_at="2026-01-15T12:00:00Z")
    assert "; oldest waits " in call(api, "status").stdout
    api.answers["GET /v1/status"] = 200, status(next_due_at="2090-01-15T12:00:00Z")
    assert "; next due in " in call(api, "status").stdout


def test_a_kind_that_cannot_be_used_is_marked_in_the_table(api: ScriptedApi) -> None:
    kind = {"kind": "x", "risk_level": None, "timeout_s": None, "dry_run": False, "mode": "task",
            "parallel": False, "description": "",
            "faults": ["retry.max_attempt is unknown"]}  # fmt: skip
    api.answers["GET /v1/kinds"] = 200, {"kinds": [kind], "faults": []}
    done = call(api, "kinds")
    assert "NOT: faulty" in done.stdout
    assert "x cannot be used: retry.max_attempt is unknown" in done.stderr


def test_a_list_of_nothing_says_what_nobody_knows(api: ScriptedApi) -> None:
    api.answers["GET /v1/actions"] = 200, {"actions": [], "next": None}
    api.answers["GET /v1/kinds"] = 200, {"kinds": [{"kind": "backup"}], "faults": []}
    api.answers["GET /v1/recurring/nightly"] = 200, RULE
    done = call(api, "list", "--kind", "nosuch", "--recurring", "nobody")
    assert done.exit_code == 0
    assert "there is no kind 'nosuch' on this node" in done.stderr
    assert "there is no recurring action 'nobody' on this node" in done.stderr
    assert not call(api, "list", "--kind", "backup", "--recurring", "nightly").stderr
    wrong = call(api, "list", "--status", "done")
    assert (wrong.exit_code, "ask with --phase DONE" in wrong.stderr) == (2, True)
    assert "is not one of" in call(api, "list", "--status", "frob").stderr


def test_a_forecast_tells_what_a_gap_leaves_out_and_what_comes_later(api: ScriptedApi) -> None:
    note = "no instant: 02:00–03:00 does not exist on 2026-03-29 (Europe/Berlin)"
    gap = {"id": "nightly", "kind": "backup", "at": "2026-03-29T01:00:00Z", "note": note}
    told = {
        "from": "2026-03-28T12:00:00Z", "until": "2026-03-30T12:00:00Z", "paused": False,
        "zone": "Europe/Berlin", "truncated": False, "next_at": "2090-01-15T12:00:00Z",
    }  # fmt: skip
    later = fire(starts_at="2026-03-30T00:00:00Z")
    api.answers["GET /v1/forecast"] = 200, told | {"fires": [later], "gaps": [gap]}
    lines = call(api, "forecast").stdout.splitlines()
    assert lines[1].endswith(note)
    assert lines[2].startswith("2026-03-30 02:00:00 CEST")
    api.answers["GET /v1/forecast"] = 200, told | {"fires": [], "gaps": []}
    said = call(api, "forecast", "--id", "nightly").stdout
    assert said.startswith(
        "nothing until 2026-03-30 14:00:00 CEST; next at 2090-01-15 13:00:00 CET"
    )
