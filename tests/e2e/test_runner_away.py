"""A node whose runner is being stopped, or is not there: nothing is told that is not so.

As under systemd, where the runner is a unit of its own that can be stopped, restarted or broken.
"""

from __future__ import annotations

import os
import signal
import stat
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeNode
from tests.fakes.node_process import NodeProcess, wait_until


@pytest.fixture
def lone_node(make_node: MakeNode, tmp_path: Path) -> NodeProcess:
    """One whose runner never comes."""
    file = tmp_path / "agentd.toml"
    file.write_text(f'runner = "external"\nrunner_socket = "{tmp_path}/nobody.sock"\n')
    node = make_node(extra=("--config", str(file))).start(wait=False)
    wait_until((node.state_dir / "agent.sock").exists, 20, "agentd does not serve")
    return node


def test_what_a_stopping_runner_ends_waits_for_the_next_one(node: NodeProcess) -> None:
    """`stubborn` holds the old one back; `sleep`, ended at once, is not asked of that one again."""
    node.run("stubborn", {"seconds": 3}, id="held")
    node.run("sleep", {"seconds": 1}, id="quick")
    for name in ("held", "quick"):
        node.wait_status(name, "STARTED")
    (runner,) = node.runner_pids
    os.kill(runner, signal.SIGTERM)
    node.wait_status("quick", "NULL")
    assert node.status()["runner"]["pid"] == runner, "it is held back"
    assert node.wait_status("quick")["attempt"] == 2
    node.runner_pids.add(node.status()["runner"]["pid"])
    told = [(event.get("to"), event.get("reason")) for event in node.history("quick")]
    assert told[-4:] == [
        ("STARTED", "due"), ("NULL", "rerun"), ("STARTED", "due"), ("FINISHED", "exit_zero"),
    ]  # fmt: skip
    assert len([one for one in told if one[0] == "STARTED"]) == 2, told


def test_without_a_runner_no_kind_is_called_unknown(lone_node: NodeProcess) -> None:
    code, answer = lone_node.call("POST", "/v1/actions", {"kind": "tiny", "payload": {}})
    assert (code, answer["error"]) == (503, "unavailable")
    assert "runner" in answer["message"]
    assert lone_node.call("GET", "/v1/kinds")[0] == 503


def test_without_a_runner_the_log_says_so_once(lone_node: NodeProcess) -> None:
    wait_until(lambda: "runner_unreachable" in lone_node.log.read_text(), 10, "nothing is said")
    time.sleep(0.6)  # four tries at least
    assert lone_node.stop() == 0
    assert lone_node.log.read_text().count("runner_unreachable") == 1


def test_the_socket_is_only_for_those_who_are_let_in(node: NodeProcess) -> None:
    """Root and the agent's user; a wider mode would promise more than the API grants."""
    assert stat.S_IMODE((node.state_dir / "agent.sock").stat().st_mode) == 0o600
