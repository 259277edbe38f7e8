"""A real node against a backend that is not ours, and against everything a network may bring.

CHECKLIST 15–18, 22: an empty, failed or partly bad pull cancels nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import stamps
from tests.e2e.conftest import MakeNode
from tests.fakes.node_process import NodeProcess, wait_until
from tests.fakes.scripted_core import Handler, ScriptedCore


@pytest.fixture
def core() -> Iterator[ScriptedCore]:
    with ScriptedCore() as scripted:
        yield scripted


@pytest.fixture
def node(make_node: MakeNode, core: ScriptedCore) -> NodeProcess:
    return make_node(core=core.url, token="once").start()


def definition(action_id: str, **fields: object) -> dict[str, object]:
    base = {"id": action_id, "owner": "core", "revision": 1, "kind": "sleep_exclusive",
            "payload": {"seconds": 0}}  # fmt: skip
    return base | fields


def test_enrols_once_pulls_runs_and_reports(node: NodeProcess, core: ScriptedCore) -> None:
    core.offer_actions(definition("a1"))
    finished = core.wait_for_status("a1", "FINISHED")
    assert finished["execution"]["exit_code"] == 0
    told = [event["to"] for event in core.events if event["type"] == "transition"]
    assert told == ["STARTED", "FINISHED"]
    assert [event["seq"] for event in core.events] == list(range(1, len(core.events) + 1))
    enrolments = [call for call in core.calls if call.path.endswith("/enroll")]
    assert len(enrolments) == 1
    pull = next(call for call in core.calls if call.method == "GET")
    assert pull.headers["authorization"] == "Bearer secret-of-node"
    assert (node.state_dir / "credential").stat().st_mode & 0o777 == 0o600
    assert "secret-of-node" not in node.log.read_text()


def test_good_and_bad_definitions_mixed(node: NodeProcess, core: ScriptedCore) -> None:
    core.offer_actions(
        definition("good"),
        definition("bad", from_date="tomorrow", timeout_s=0),
        {"what": "is this"},
        definition("big", payload={"seconds": 2**64}),
        definition("far", from_date="9999-12-31T00:00:00Z", start_deadline_s=1e6),
        definition("strange", kind="slep"),
    )
    core.wait_for_status("good", "FINISHED")
    strange = core.wait_for_status("strange", "WONT_START")
    assert strange["reason"] == "unknown_kind"
    assert "did you mean 'sleep'" in strange["execution"]["error"]
    refused = [event for event in core.events if event["type"] == "definition_refused"]
    assert [event["action_id"] for event in refused] == ["bad", None, "big"]
    assert {fault["path"] for fault in refused[0]["faults"]} == {"from_date", "timeout_s"}
    assert node.status()["refused_definitions"] == 3


def html(handler: Handler) -> None:
    handler.raw(b"<html><body>Please log in</body></html>", Content_Type="text/html")


def redirect(handler: Handler) -> None:
    handler.raw(b"", 302, Location="https://login.example/")


def not_a_number(handler: Handler) -> None:
    handler.raw(b'{"cursor": NaN, "actions": []}')


def twice(handler: Handler) -> None:
    handler.raw(b'{"cursor": "x.1.m", "cursor": "x.2.m", "actions": []}')


def five_gigabytes_announced(handler: Handler) -> None:
    handler.raw(b"[" * 1000, Content_Length=str(5 * 1024**3))


def gigabytes_streamed(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    chunk = b" " * 1024 * 1024
    try:
        for _ in range(5 * 1024):
            handler.wfile.write(chunk)
    except OSError:
        handler.close_connection = True


def cut_off(handler: Handler) -> None:
    handler.raw(b'{"cursor": "x', Content_Length="500")
    handler.close_connection = True


def wrong_shape(handler: Handler) -> None:
    handler.reply(["not", "a", "pull"])


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (html, "HTML"),
        (redirect, "redirected to https://login.example/"),
        (not_a_number, "NaN"),
        (twice, "stands twice"),
        (five_gigabytes_announced, "5368709120 bytes"),
        (gigabytes_streamed, "bytes or more"),
        (cut_off, "RemoteProtocolError"),
        (wrong_shape, "Expected `object`"),
    ],
)
def test_an_answer_that_is_none_is_told_and_nothing_is_lost(
    node: NodeProcess, core: ScriptedCore, answer: object, word: str
) -> None:
    core.offer_actions(definition("before", from_date="2090-01-01T00:00:00Z"))
    core.wait_for(lambda: any(e["type"] == "definition_applied" for e in core.events))
    core.offer(answer, answer, answer)  # one may be tried again before anybody looks
    seen: dict[str, Any] = {}

    def is_told() -> bool:
        seen.update(node.status()["core"])
        return word in (seen["problem"] or "")

    wait_until(is_told, 20, lambda: f"{word!r} is not told: {seen}")
    assert seen["connected"] is False
    assert node.show("before")["phase"] == "SCHEDULED"
    assert _rss_mb(node) < 100
    core.offer_actions(definition("after"))
    core.wait_for_status("after", "FINISHED")
    assert node.status()["core"]["problem"] is None


def test_a_core_that_is_busy_is_left_alone_for_as_long_as_it_asks(
    node: NodeProcess, core: ScriptedCore
) -> None:
    def busy(handler: Handler) -> None:
        body = {"error": "busy", "message": "later"}
        handler.reply(body, 503, Retry_After="3")

    core.wait_for(lambda: bool(core.calls))
    core.offer(busy)
    wait_until(lambda: "busy" in (node.status()["core"]["problem"] or ""), 10, "not told")
    refused_at = time.monotonic()
    pulls = sum(call.method == "GET" for call in core.calls)
    core.wait_for(lambda: sum(call.method == "GET" for call in core.calls) > pulls)
    assert time.monotonic() - refused_at > 2


def test_withdrawn_waiting_running_and_ended(node: NodeProcess, core: ScriptedCore) -> None:
    """CHECKLIST 16, with an answer of the past that must not undo it (P7)."""
    core.offer_actions(
        definition("waits", from_date="2090-01-01T00:00:00Z"),
        definition("runs", kind="sleep", payload={"seconds": 60}),
        definition("ended"),
    )
    core.wait_for_status("runs", "STARTED")
    core.wait_for_status("ended", "FINISHED")
    gone = {"revision": 2, "should_be_executed": False}
    core.offer_actions(*(definition(name, **gone) for name in ("waits", "runs", "ended")))
    assert core.wait_for_status("waits", "WONT_START")["reason"] == "withdrawn"
    assert core.wait_for_status("runs", "WONT_FINISH")["reason"] == "withdrawn"
    core.offer_actions(*(definition(name) for name in ("waits", "runs", "ended")))
    core.offer_actions(definition("marker"))
    core.wait_for_status("marker", "FINISHED")
    phases = [node.show(name)["phase"] for name in ("waits", "runs", "ended")]
    assert phases == ["CANCELLED", "CANCELLED", "DONE"]


def test_offline_it_runs_on_time_and_reports_later_in_order_and_once(
    make_node: MakeNode, tmp_path: Path
) -> None:
    """CHECKLIST 22: the core goes away and comes back at the same address."""
    with ScriptedCore() as core:
        node = make_node(core=core.url, token="once").start()
        core.wait_for(lambda: any(call.method == "GET" for call in core.calls))
        soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
        payload = {"file": str(tmp_path / "f")}
        core.offer_actions(definition("due", kind="stamp", payload=payload, from_date=soon))
        core.wait_for(lambda: any(e["type"] == "definition_applied" for e in core.events))
        port = int(core.url.rpartition(":")[2])
        seen = list(core.events)
    assert node.wait_status("due")["execution_status"] == "FINISHED"
    assert stamps.read(tmp_path / "f", "start") == {("due", 1): 1}
    assert node.status()["core"]["outbox"] == 2
    with ScriptedCore(port=port, events=seen) as core:
        core.wait_for_status("due", "FINISHED")
        marks = [event["mark"] for event in core.events]
        assert len(marks) == len(set(marks))
        assert [event["seq"] for event in core.events] == list(range(1, len(marks) + 1))
        wait_until(lambda: node.status()["core"]["outbox"] == 0, 10, "not acknowledged")


def test_a_credential_that_cannot_be_read_leaves_the_node_running(
    make_node: MakeNode, core: ScriptedCore
) -> None:
    node = make_node(core=core.url, token="once")
    (node.state_dir / "credential").write_text("")
    node.start()
    wait_until(
        lambda: "credential cannot be used" in (node.status()["core"]["problem"] or ""),
        10,
        "not told",
    )
    assert node.wait_status(node.run("tiny"))["execution_status"] == "FINISHED"


def _rss_mb(node: NodeProcess) -> float:
    assert node.process is not None
    for line in Path(f"/proc/{node.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def test_a_refused_push_does_not_keep_withdrawals_away(
    node: NodeProcess, core: ScriptedCore
) -> None:
    core.offer_actions(definition("runs", kind="sleep", payload={"seconds": 60}))
    core.wait_for_status("runs", "STARTED")
    core.refuse_events = (422, {"error": "invalid", "message": "not like this"})
    core.offer_actions(definition("other"))
    wait_until(lambda: "not like this" in (node.status()["core"]["problem"] or ""), 20, "not told")
    core.offer_actions(definition("runs", revision=2, should_be_executed=False, kind="sleep"))
    assert node.wait_status("runs")["reason"] == "withdrawn"


def test_who_asked_is_the_door_not_what_the_document_claims(node: NodeProcess) -> None:
    """CHECKLIST 11."""
    claimed = node.run("tiny", requester="core_playbook")
    assert node.show(claimed)["requester"] == "agent_api"
