"""The queue on a real node: order, lanes, apps, windows, cancels, limits (rows 1–6, 10, 18)."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

from tests.e2e import stamps
from tests.e2e.conftest import MakeNode
from tests.fakes.node_process import NodeProcess, copy_kinds, wait_until


def at(seconds: float) -> str:
    moment = time.time() + seconds
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return f"{whole}.{int(moment % 1 * 1e6):06d}Z"


def spans(node: NodeProcess, *names: str) -> list[tuple[str, str]]:
    """(started_at, ended_at) of actions that have ended."""
    shown = [node.wait_status(name) for name in names]
    return [(one["started_at"], one["ended_at"]) for one in shown]


def test_exclusive_ones_run_one_at_a_time_by_due_time_then_arrival(node: NodeProcess) -> None:
    node.run("sleep_exclusive", {"seconds": 0.6}, id="first")
    node.wait_status("first", "STARTED")
    for name, due in (("c", -1), ("b", -5), ("a", -9), ("c2", -1)):
        node.run("sleep_exclusive", {"seconds": 0.05}, id=name, from_date=at(due))
    names = ["first", "a", "b", "c", "c2"]
    found = spans(node, *names)
    assert found == sorted(found), "out of order"
    for (_, ended), (started, _) in pairwise(found):
        assert ended <= started, "two exclusive actions overlapped"


def test_parallel_ones_run_beside_it_and_same_app_ones_never_overlap(node: NodeProcess) -> None:
    node.run("sleep_exclusive", {"seconds": 2}, id="exclusive", app_names=["db"])
    node.wait_status("exclusive", "STARTED")
    node.run("sleep", {"seconds": 0.1}, id="beside")
    node.run("sleep", {"seconds": 0.1}, id="same-app", app_names=["web", "db"])
    assert node.wait_status("beside")["ended_at"] < node.wait_status("exclusive")["ended_at"]
    (_, exclusive_ended), (started, _) = spans(node, "exclusive", "same-app")
    assert started >= exclusive_ended


def test_the_parallel_lane_is_bounded(make_node: MakeNode) -> None:
    node = make_node(extra=("--config", "/dev/null")).start()
    for number in range(20):
        node.run("sleep", {"seconds": 0.4}, id=f"p{number}")
    most = 0

    def done() -> bool:
        nonlocal most
        counts = node.status()["counts"]
        most = max(most, counts["STARTED"])
        return bool(counts["FINISHED"] == 20)

    wait_until(done, 20, "not all done")
    assert most == 8


def test_windows(node: NodeProcess) -> None:
    node.run("sleep", {"seconds": 0}, id="open", from_date=at(-60), to_date=at(60))
    node.run("sleep", {"seconds": 0}, id="past", from_date=at(-60), to_date=at(-30))
    node.run("sleep", {"seconds": 30}, id="closes", to_date=at(1))
    node.run("sleep_exclusive", {"seconds": 2}, id="busy")
    node.run("sleep_exclusive", {"seconds": 0}, id="queued", to_date=at(1))
    reasons = {
        name: (shown["execution_status"], shown["reason"])
        for name in ("open", "past", "closes", "queued")
        for shown in [node.wait_status(name)]
    }
    assert reasons == {
        "open": ("FINISHED", "exit_zero"),
        "past": ("WONT_START", "window_passed"),
        "closes": ("WONT_FINISH", "window_closed"),
        "queued": ("WONT_START", "window_passed"),
    }


def test_cancel_waiting_running_and_ended(node: NodeProcess) -> None:
    node.run("sleep", {"seconds": 60}, id="runs")
    node.run("sleep", {"seconds": 60}, id="later", from_date=at(600))
    node.run("stubborn", {"seconds": 60}, id="stubborn", grace_s=0.3)
    for name in ("runs", "stubborn"):
        node.wait_status(name, "STARTED")
    for name in ("runs", "later", "stubborn"):
        assert node.call("POST", f"/v1/actions/{name}/cancel", {})[0] == 200
    for name, status in (
        ("runs", "WONT_FINISH"), ("later", "WONT_START"), ("stubborn", "WONT_FINISH"),
    ):  # fmt: skip
        shown = node.wait_status(name)
        assert (shown["execution_status"], shown["reason"]) == (status, "cancelled_on_node")
        assert shown["phase"] == "CANCELLED"
    code, answer = node.call("POST", "/v1/actions/runs/cancel", {})
    assert (code, answer["error"]) == (409, "final")
    assert node.call("POST", "/v1/actions/nobody/cancel", {})[0] == 404


def test_a_repeated_id_is_refused_and_changes_nothing(node: NodeProcess) -> None:
    node.run("sleep", {"seconds": 0}, id="same", from_date=at(600))
    before = node.show("same")
    code, answer = node.call("POST", "/v1/actions", {"kind": "tiny", "id": "same"})
    assert (code, answer["error"]) == (409, "conflict")
    assert node.show("same") == before
    assert node.run("tiny") != node.run("tiny"), "without an id a fresh one is given"


def test_a_full_queue_refuses_clearly(make_node: MakeNode, tmp_path: Path) -> None:
    config = tmp_path / "agentd.toml"
    config.write_text("max_queued = 3\nmax_pending = 2\n")
    node = make_node(extra=("--config", str(config))).start()
    node.run("sleep_exclusive", {"seconds": 30}, id="busy")
    node.wait_status("busy", "STARTED")
    for _ in range(3):
        node.run("sleep_exclusive", {"seconds": 0})
    code, answer = node.call("POST", "/v1/actions", {"kind": "tiny"})
    assert (code, answer["error"]) == (409, "queue_full")
    assert "max_queued" in answer["message"]
    for _ in range(2):
        node.run("tiny", from_date=at(600))
    code, answer = node.call("POST", "/v1/actions", {"kind": "tiny", "from_date": at(600)})
    assert "max_pending" in answer["message"]
    assert node.status()["counts"]["NULL"] == 5


def test_failures_of_every_sort_keep_their_error_and_the_queue_goes_on(
    make_node: MakeNode, tmp_path: Path
) -> None:
    kinds = copy_kinds(tmp_path / "kinds", "fail", "sleep", "tiny", "sleep_exclusive")
    broken = kinds / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    node = make_node(scripts_dir=kinds).start()
    node.run("sleep_exclusive", {"seconds": 1}, id="busy")
    node.run("fail", {"code": 9, "message": "no luck"}, id="fails")
    node.run("broken", id="broken")
    node.run("tiny", id="removed", from_date=at(1.5))
    node.run("sleep", {"seconds": 0}, id="unsafe", from_date=at(1.5))
    node.run("sleep_exclusive", {"seconds": 0}, id="last", from_date=at(2))
    (kinds / "tiny").unlink()
    (kinds / "tiny.toml").unlink()
    (kinds / "sleep").chmod(0o777)
    shown = {name: node.wait_status(name) for name in ("fails", "broken", "removed", "unsafe")}
    assert shown["fails"]["exit_code"] == 9
    assert "no luck" in shown["fails"]["output"]["stderr"]["tail"]
    assert (shown["broken"]["reason"], shown["broken"]["attempt"]) == ("spawn_failed", 1)
    assert shown["removed"]["reason"] == "unknown_kind"
    assert "sleep" in shown["unsafe"]["error"]
    assert shown["unsafe"]["reason"] == "spawn_failed"
    assert node.wait_status("last")["execution_status"] == "FINISHED"


def test_retries_wait_and_are_counted(node: NodeProcess, tmp_path: Path) -> None:
    retry = {"max_attempts": 3, "delay_s": 0.2, "backoff": 1}
    payload = {"file": str(tmp_path / "f"), "code": 75}
    node.run("stamp", payload, id="r", retry=retry)
    shown = node.wait_status("r")
    assert (shown["execution_status"], shown["attempt"], shown["exit_code"]) == ("FAILED", 3, 75)
    assert stamps.read(tmp_path / "f", "start") == {("r", n): 1 for n in (1, 2, 3)}
    assert [e["reason"] for e in node.history("r") if e.get("to") == "NULL"] == ["retry", "retry"]


def test_a_timeout_ends_it(node: NodeProcess) -> None:
    node.run("stubborn", {"seconds": 60}, id="t", timeout_s=0.3, grace_s=0.2)
    shown = node.wait_status("t")
    assert (shown["execution_status"], shown["reason"]) == ("FAILED", "timeout")
    assert "timeout" in shown["error"]
