"""What waits for a person, with a real core, node and runner: seen, decided, run, or never sent."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import fleet, stamps
from tests.fakes.core_process import ROOT, CoreProcess
from tests.fakes.node_process import NodeProcess, clean_environment, copy_kinds, wait_until

pytestmark = pytest.mark.timeout(120)


class Scene:
    """A core, and a node that has a kind of every risk; all write stamps."""

    def __init__(self, directory: Path) -> None:
        self.stamps = directory / "stamps"
        self.core = CoreProcess(directory / "core").start()
        scripts = copy_kinds(directory / "scripts", "stamp")
        for kind, risk in (("guarded", "guarded"), ("dangerous", "dangerous")):
            shutil.copy2(scripts / "stamp", scripts / kind)
            manifest = (scripts / "stamp.toml").read_text()
            (scripts / f"{kind}.toml").write_text(manifest.replace('"safe"', f'"{risk}"'))
            (scripts / f"{kind}.toml").chmod(0o644)
        (directory / "node").mkdir()
        token = fleet.enroll_token(self.core)
        self.node = NodeProcess(directory / "node", scripts, core=self.core.url, token=token)
        self.start_node()

    def start_node(self) -> None:
        self.node.start()
        wait_until(lambda: bool(self.node.status()["core"]["connected"]), 20, "not connected")

    def dispatch(self, kind: str, name: str, **fields: Any) -> dict[str, Any]:
        payload = {"file": str(self.stamps)}
        body = {"kind": kind, "node": "n1", "id": name, "payload": payload} | fields
        code, answer = fleet.ask(self.core, "POST", "/v1/dispatch", body)
        assert code == 200, answer
        found: dict[str, Any] = answer
        return found

    def corectl(self, *words: str) -> str:
        environ = clean_environment() | {
            "CORE_URL": self.core.url, "CORE_TOKEN_FILE": str(self.core.token_file),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli.corectl", *words], env=environ, cwd=ROOT,
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        return done.stdout

    def phase(self, name: str) -> str:
        return str(fleet.action(self.core, name)["phase"])

    def wait_phase(self, name: str, phase: str) -> None:
        wait_until(lambda: self.phase(name) == phase, 20, lambda: f"{name} is {self.phase(name)}")

    def on_node(self, name: str) -> bool:
        return self.node.call("GET", f"/v1/actions/{name}")[0] == 200

    def ran(self) -> set[str]:
        return {name for name, _ in stamps.read(self.stamps, "start")}

    def pass_something_safe(self, name: str) -> None:
        """A later one gets through, so whatever was before it would have, too."""
        self.dispatch("stamp", name)
        self.wait_phase(name, "DONE")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("approvals"))
    yield made
    made.node.clean_up()
    made.core.stop()


def test_a_guarded_kind_waits_is_approved_and_runs(scene: Scene) -> None:
    assert scene.dispatch("guarded", "g1")["outcome"] == "pending_approval"
    scene.pass_something_safe("behind-g1")
    assert not scene.on_node("g1")
    listed = scene.corectl("approvals")
    for word in ("g1", "n1", "guarded", "admin"):
        assert word in listed, listed
    # Seven days less the moment since, which the list rounds down.
    assert re.search(r"in (7 d|6 d 23 h)", listed), listed
    [asked] = json.loads(scene.corectl("approvals", "--json"))["approvals"]
    assert asked["digest"] in scene.corectl("approvals", "show", "g1")
    scene.corectl("approve", "g1", "--reason", "looks right", "--digest", asked["digest"])
    scene.wait_phase("g1", "DONE")
    assert "g1" in scene.ran()
    record = scene.node.show("g1")["approval"]
    assert (record["by"], record["reason"], record["digest"]) == (
        "admin", "looks right", asked["digest"],
    )  # fmt: skip
    assert scene.corectl("approvals") == "nothing waits for approval\n"


def test_a_dangerous_kind_never_reaches_the_node_before(scene: Scene) -> None:
    assert scene.dispatch("dangerous", "d1", confidence=1.0)["outcome"] == "pending_approval"
    scene.pass_something_safe("behind-d1")
    fleet.ask(scene.core, "POST", "/v1/agents/n1/nudge")
    scene.pass_something_safe("behind-d1-again")
    assert not scene.on_node("d1")
    scene.corectl("approve", "d1")
    scene.wait_phase("d1", "DONE")
    assert scene.dispatch("dangerous", "d2", approve=True)["outcome"] == "queued"
    scene.wait_phase("d2", "DONE")


def test_what_is_rejected_never_runs(scene: Scene) -> None:
    scene.dispatch("guarded", "r1")
    [asked] = json.loads(scene.corectl("approvals", "--action", "r1", "--json"))["approvals"]
    scene.corectl("reject", asked["id"], "--reason", "not in office hours")
    assert scene.phase("r1") == "REJECTED"
    scene.pass_something_safe("behind-r1")
    assert not scene.on_node("r1")
    assert "r1" not in scene.ran()


def test_approved_now_and_run_later(scene: Scene) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    assert scene.dispatch("guarded", "l1", from_date=soon)["outcome"] == "pending_approval"
    scene.corectl("approve", "l1")
    wait_until(lambda: scene.on_node("l1"), 10, "not there")
    assert scene.phase("l1") == "SCHEDULED"
    assert "l1" not in scene.ran()
    scene.wait_phase("l1", "DONE")
    assert fleet.action(scene.core, "l1")["started_at"] >= soon.removesuffix("Z")


def test_a_link_decides(scene: Scene) -> None:
    scene.dispatch("guarded", "k1")
    made = json.loads(scene.corectl("approvals", "link", "k1", "--for", "olga", "--json"))
    request = urllib.request.Request(made["approve"], headers={"accept": "text/html"})
    with urllib.request.urlopen(request, timeout=10) as page:
        assert b"Approve guarded on n1?" in page.read()
    assert scene.phase("k1") == "PENDING_APPROVAL"
    with urllib.request.urlopen(request, b"reason=by+mail", timeout=10) as page:
        assert b"link:olga" in page.read()
    scene.wait_phase("k1", "DONE")


def test_the_node_refuses_what_was_changed_after_its_approval(scene: Scene) -> None:
    """Whoever can write into the core's database cannot run what nobody approved."""
    scene.dispatch("guarded", "t1")
    scene.node.stop()
    scene.corectl("approve", "t1")
    assert scene.core.stop() == 0
    with sqlite3.connect(scene.core.state_dir / "core.db") as plain:
        plain.execute(
            "UPDATE actions SET definition = json_set(definition, '$.payload.code', 7) "
            "WHERE id = 't1'"
        )
    plain.close()
    scene.core.start()
    scene.start_node()
    scene.wait_phase("t1", "NOT_STARTED")
    [fault] = fleet.action(scene.core, "t1")["refused"]["faults"]
    assert fault["path"] == "approval.digest"
    assert "approved again" in fault["message"]
    assert not scene.on_node("t1")
    assert "t1" not in scene.ran()
