"""Rules of a real core: at its start, while it runs, by SIGHUP, and from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli.api_client import ApiClient, ApiRefused
from tests.fakes.core_process import ROOT, CoreProcess
from tests.integration.core.test_corectl import corectl, document

pytestmark = pytest.mark.timeout(60)

DELAY = """\
// Delay reminders by 1 hour
action.action_type == "send_reminder" ? schedule(3600) : allow()
"""


@pytest.fixture(scope="module")
def rules_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rules")


@pytest.fixture(scope="module")
def ruled(
    rules_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[CoreProcess, ApiClient]]:
    (rules_dir / "a.cel").write_text(DELAY)
    core = CoreProcess(tmp_path_factory.mktemp("ruled") / "core", rules_dir=rules_dir).start()
    yield core, ApiClient(core.url, token=core.token)
    core.stop()


@pytest.fixture(autouse=True)
def only_the_first(rules_dir: Path) -> Iterator[None]:
    yield
    for file in rules_dir.iterdir():
        file.unlink()
    (rules_dir / "a.cel").write_text(DELAY)


def until(found: Any, wanted: Any) -> None:
    deadline = time.monotonic() + 10
    while found() != wanted:
        assert time.monotonic() < deadline, found()
        time.sleep(0.02)


def test_a_bad_file_keeps_the_old_rules(ruled, rules_dir: Path) -> None:  # noqa: ANN001
    core, client = ruled
    names = lambda: [rule["name"] for rule in client.get("/v1/rules")["rules"]]
    client.post("/v1/rules/reload")
    assert names() == ["a.cel#1"]
    (rules_dir / "b.yaml").write_text("rules:\n  - name: x\n    condition: 'tru'\n")
    with pytest.raises(ApiRefused) as caught:
        client.post("/v1/rules/reload")
    assert caught.value.status == 422
    assert [fault["path"] for fault in caught.value.faults] == ["b.yaml:2", "b.yaml:3"]
    assert names() == ["a.cel#1"]
    assert client.get("/v1/rules")["refused"]["by"] == "admin"
    (rules_dir / "b.yaml").write_text(
        "rules:\n  - {name: x, condition: 'true', action: {type: suppress}}\n"
    )
    assert core.process is not None
    core.process.send_signal(signal.SIGHUP)
    until(names, ["a.cel#1", "x"])
    assert client.get("/v1/rules")["refused"] is None
    (rules_dir / "b.yaml").write_text("{")
    core.process.send_signal(signal.SIGHUP)
    until(lambda: (client.get("/v1/rules")["refused"] or {}).get("by"), "core")
    assert names() == ["a.cel#1", "x"]
    assert '"rules_refused"' in core.log.read_text()


def test_the_command_line(ruled, rules_dir: Path, tmp_path: Path) -> None:  # noqa: ANN001
    core, _ = ruled
    assert document(corectl(core, "rules", "reload", "--json"))["rules"][0]["decides"]
    told = corectl(core, "rules", "list")
    assert "a.cel#1" in told.stdout
    assert "schedule | allow" in told.stdout
    action = tmp_path / "action.json"
    action.write_text('{"action_type": "send_reminder"}')
    found = document(corectl(core, "rules", "test", str(action), "--json"))
    assert (found["result"], found["delay_seconds"]) == ("schedule", 3600)
    readable = corectl(core, "rules", "test", str(action)).stdout
    assert "3600 s" in readable
    assert "it decides so" in readable
    action.write_text('{"kind": "another"}')
    assert "it comes to allow()" in corectl(core, "rules", "test", str(action)).stdout
    assert corectl(core, "rules", "test", str(action), "--node", "nobody").returncode == 4
    action.write_text('{"knd": "another"}')
    assert corectl(core, "rules", "test", str(action)).returncode == 5
    (rules_dir / "b.yaml").write_text("{")
    refused = corectl(core, "rules", "reload")
    assert refused.returncode == 5
    assert "b.yaml:1: " in refused.stderr
    assert "was refused" in corectl(core, "rules", "list").stdout


def test_the_doors(ruled) -> None:  # noqa: ANN001
    core, client = ruled
    made = client.post("/v1/tokens", {"name": "look", "role": "viewer"})
    viewer = ApiClient(core.url, token=made["token"])
    assert viewer.get("/v1/rules")["rules"]
    assert viewer.post("/v1/rules/test", {"action": {"kind": "x"}})["result"] == "allow"
    with pytest.raises(ApiRefused) as caught:
        viewer.post("/v1/rules/reload")
    assert caught.value.status == 403


def test_a_core_does_not_start_with_bad_rules(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("rules:\n  - name: x\n  - nam: y\n")
    for words in (
        ["--state-dir", str(tmp_path / "s"), "--rules-dir", str(tmp_path)],
        ["--check-rules", str(tmp_path)],
    ):
        found = subprocess.run(
            [sys.executable, "-m", "agent.core.main", *words],
            capture_output=True, text=True, timeout=20, check=False, cwd=ROOT,
        )  # fmt: skip
        assert found.returncode == 2
        assert found.stderr.splitlines()[:2] == [
            "cored: a.yaml:2: action is missing",
            "cored: a.yaml:2: condition is missing",
        ]
        assert not (tmp_path / "s" / "core.db").exists()
    (tmp_path / "a.yaml").write_text("")
    found = subprocess.run(
        [sys.executable, "-m", "agent.core.main", "--check-rules", tmp_path],
        capture_output=True, text=True, timeout=20, check=True, cwd=ROOT,
    )  # fmt: skip
    assert found.stdout.startswith("0 rules can be loaded")


def test_json_is_one_document(ruled) -> None:  # noqa: ANN001
    core, _ = ruled
    assert json.loads(corectl(core, "--json", "rules", "list").stdout)["directory"]
