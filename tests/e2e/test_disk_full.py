"""A full disk under a real node: a clear error each, nothing lost, and it goes on by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.fakes.node_process import ROOT, clean_environment

SCENARIO = Path(__file__).with_name("disk_full_scenario.py")


def test_a_full_disk(tmp_path: Path) -> None:
    """Run in a mount namespace of its own with a small file system, as root or as anybody."""
    small = tmp_path / "small"
    small.mkdir()
    command = ["unshare", "--mount", "--propagation", "private"]
    command += [] if os.geteuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        [*command, sys.executable, str(SCENARIO), str(small)],
        env=clean_environment(), cwd=ROOT, timeout=100, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
