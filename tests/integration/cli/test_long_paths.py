"""A state directory deeper than a Unix socket's address can say: everything works all the same."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.node_process import NodeProcess


def test_a_state_directory_of_any_length(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / ("deep" * 30))
    try:
        node.start()
        done = node.agentctl("run", "tiny", "--wait")
        assert done.returncode == 0, done
    finally:
        node.clean_up()
