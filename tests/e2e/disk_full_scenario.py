"""The scenario of test_disk_full, in a mount namespace of its own: DIR is free for a mount."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fakes.node_process import NodeProcess, wait_until

SIZE = "6m"


def fill(small: Path) -> None:
    """To the last byte: large blocks, then small ones."""
    for block in (64 * 1024, 512):
        try:
            with (small / f"fill-{block}").open("wb", buffering=0) as file:
                while file.write(b"x" * block):
                    pass
        except OSError:
            continue


def main(small: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", small], check=True)
    state = small / "state"
    state.mkdir()
    node = NodeProcess(state)
    node.log = small / "node.log"  # what cannot be logged must not stop the work
    try:
        run(node, small)
    finally:
        node.clean_up()


def run(node: NodeProcess, small: Path) -> None:
    node.start()
    node.run("stamp", {"file": str(small.parent / "f"), "seconds": 2, "code": 3}, id="running")
    node.wait_status("running", "STARTED")
    fill(small)
    code, answer = node.call("POST", "/v1/actions", {"kind": "tiny", "id": "refused"})
    assert (code, answer["error"]) == (503, "unavailable"), answer
    assert "full" in answer["message"], answer
    wait_until(lambda: node.status()["store_problem"] is not None, 20, "the problem is not shown")
    assert node.call("GET", "/healthz")[0] == 503
    assert node.show("running")["execution_status"] == "STARTED", "told before it was durable"
    for file in small.glob("fill-*"):
        file.unlink()
    ended = node.wait_status("running")
    assert (ended["execution_status"], ended["exit_code"]) == ("FAILED", 3), ended
    assert node.status()["store_problem"] is None
    assert node.call("GET", "/v1/actions/refused")[0] == 404
    node.run("tiny", id="after")
    assert node.wait_status("after")["execution_status"] == "FINISHED"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
