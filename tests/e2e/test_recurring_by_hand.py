"""What people do to recurring actions that are over, busy or away, on a real node."""

from __future__ import annotations

import json
import time

import pytest

from tests.fakes.node_process import NodeProcess, wait_until

RULE = "/v1/recurring"


@pytest.mark.timeout(60)
def test_what_was_cancelled_is_not_changed_but_begins_anew(node: NodeProcess) -> None:
    rule = {"id": "r", "kind": "tiny", "schedule": {"delay": "1s"}}
    assert node.call("POST", RULE, rule)[0] == 201
    wait_until(lambda: node.call("GET", f"{RULE}/r")[1]["state"] == "ended", 10, "it goes on")
    code, again = node.call("POST", RULE, rule)
    assert (code, again["state"]) == (201, "active"), "the same delay, from now"
    assert node.call("POST", "/v1/actions/r/cancel")[1]["ended_reason"] == "cancelled_on_node"
    code, refused = node.call("PUT", f"{RULE}/r", rule | {"schedule": {"every": "2h"}})
    assert (code, refused["error"]) == (409, "final"), refused
    code, again = node.call("POST", RULE, rule | {"schedule": {"every": "2h"}})
    assert (code, again["state"], again["revision"]) == (201, "active", 3), again


@pytest.mark.timeout(60)
def test_a_retry_by_hand_keeps_the_lock_of_its_rule(node: NodeProcess) -> None:
    rule = {"id": "r", "kind": "sleep", "payload": {"seconds": 30}, "schedule": {"every": "2h"}}
    assert node.call("POST", RULE, rule)[0] == 201
    first = node.call("POST", f"{RULE}/r/run")[1]["id"]
    node.wait_status(first, "STARTED")
    node.call("POST", f"/v1/actions/{first}/cancel")
    node.wait_status(first)
    code, retry = node.call("POST", f"/v1/actions/{first}/retry")
    assert (code, retry["retry_of"]) == (201, first), retry
    node.wait_status(retry["id"], "STARTED")
    second = node.call("POST", f"{RULE}/r/run")[1]["id"]
    time.sleep(0.3)
    why = node.call("GET", f"/v1/actions/{second}/why")[1]
    assert why["now"]["wait"] == "app_busy", why
    assert why["now"]["held_by"][0]["id"] == retry["id"]


@pytest.mark.timeout(60)
def test_too_many_by_hand_are_refused(node: NodeProcess) -> None:
    rule = {"id": "r", "kind": "tiny", "schedule": {"cron": "* * * * *"}}
    assert node.call("POST", RULE, rule)[0] == 201
    assert node.call("POST", "/v1/pause", {})[0] == 200
    past = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T16:40:00Z"}
    assert node.call("POST", f"{RULE}/r/backfill", past)[1]["count"] == 1000
    code, refused = node.call("POST", f"{RULE}/r/run")
    assert (code, refused["error"]) == (409, "too_many"), refused
    assert node.call("DELETE", f"{RULE}/r")[1]["state"] == "ended"
    assert node.status()["counts"]["NULL"] == 0


@pytest.mark.timeout(60)
def test_they_are_shown_while_the_daemon_is_down(node: NodeProcess) -> None:
    rule = {"id": "r", "kind": "tiny", "schedule": {"every": "2h"}}
    assert node.call("POST", RULE, rule)[0] == 201
    node.call("POST", f"{RULE}/r/pause", {"reason": "a move"})
    node.call("PUT", f"{RULE}/r", rule | {"schedule": {"every": "3h"}})
    node.call("DELETE", f"{RULE}/r")
    asked = (["recurring", "list"], ["recurring", "show", "r"], ["show", "r"], ["history", "r"])
    live = {tuple(words): node.agentctl(*words, "--json") for words in asked}
    told = node.agentctl("history", "r").stdout
    assert "paused (a move)" in told, told
    assert "revision 2, every 3h" in told
    assert "ended (withdrawn)" in told
    assert "1 ended" in node.agentctl("status").stdout
    node.stop()
    for words, before in live.items():
        down = node.agentctl(*words, "--json")
        assert down.returncode == 0, down.stderr
        plain = json.loads(down.stdout)
        assert plain.pop("daemon") == "down"
        assert plain == {k: v for k, v in json.loads(before.stdout).items() if k != "daemon"}
    assert "agentd is down" in node.agentctl("recurring", "list").stderr
    assert node.agentctl("recurring", "show", "nope").returncode == 4
    assert "1 ended" in node.agentctl("status").stdout
