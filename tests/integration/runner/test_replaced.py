"""A runner whose own code was replaced executes itself anew, when idle, and loses nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runner.limits import UPGRADE_SETTLE_S, VERSION
from agent.runner.upgrade import Upgrade, version_on_disk
from tests.integration.runner.box import ROOT, Box, wait_for
from tests.integration.runner.client import Refused

pytestmark = pytest.mark.timeout(60)
NEWER = "99.1.0"


class InstalledBox(Box):
    """Its runner is a copy of ours, so that it can be replaced."""

    def spawn(
        self, *flags: str, prefix: tuple[str, ...] = (), **environ: str
    ) -> subprocess.Popen[bytes]:
        place = self.path / "installed" / "agent"
        if not place.exists():
            place.mkdir(parents=True)
            (place / "__init__.py").touch()
            shutil.copytree(ROOT / "agent" / "runner", place / "runner")
        self.limits = place / "runner" / "limits.py"
        self.write_limits(self.limits.read_text())
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent.runner.main", "--state-dir", "state",
                 "--scripts-dir", str(self.scripts), "--stay"],
                cwd=self.path, stderr=log,
                env={**os.environ, "PYTHONPATH": str(place.parent), **environ},
            )  # fmt: skip
        return self.process

    def install(self, version: str) -> None:
        """As an installer does: a new file in the place of the old one, some time ago."""
        text = re.sub(r'^VERSION = "[^"]+"', f'VERSION = "{version}"', self.limits.read_text(),
                      flags=re.MULTILINE)  # fmt: skip
        self.write_limits(text)

    def write_limits(self, text: str) -> None:
        """An installer needs no time here, so no runner waits for it."""
        text = re.sub(r"^UPGRADE_SETTLE_S = [0-9.]+", "UPGRADE_SETTLE_S = 0.2", text,
                      flags=re.MULTILINE)  # fmt: skip
        new = self.limits.with_name("limits.new")
        new.write_text(text)
        new.replace(self.limits)


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[InstalledBox]:
    box = InstalledBox(tmp_path)
    yield box
    box.close()


def version_of(box: Box, generation: int) -> str:
    """What the runner that answers now says; it may close the connection in between."""
    try:
        client = box.dial()
        found: str = client.hello(generation)["version"]
        client.close()
    except (ConnectionError, Refused):
        return ""
    return found


def test_it_goes_on_as_the_installed_version(installed: InstalledBox) -> None:
    box = installed
    box.kind("tiny", "echo done")
    box.kind("slow", "sleep 0.5; exit 5")
    client = box.start()
    client.start(1, "tiny")
    client.notice(1)
    client.start(2, "slow")
    pid = box.pid
    box.install(NEWER)
    assert version_of(box, 1) == VERSION, "while something runs it stays who it is"
    assert client.ask("claim", row=2, start_no=1, id="a2")["state"] == "running"
    wait_for(lambda: version_of(box, 1) == NEWER, deadline_s=UPGRADE_SETTLE_S + 15)
    assert box.process is not None
    assert box.process.poll() is None
    client = box.connect()
    hello = client.hello(2)
    assert (hello["pid"], hello["version"], hello["max_row"]) == (pid, NEWER, 2)
    assert client.ask("claim", row=2, start_no=1, id="a2")["record"]["code"] == 5
    client.start(3, "tiny")
    assert client.notice(3)["record"]["code"] == 0
    assert (box.runs / "3.1.out").read_text() == "done\n"
    second = subprocess.run(box.command(), capture_output=True, timeout=20, check=False, cwd=ROOT)
    assert b"is held by the runner with pid" in second.stderr, "the lock was never let go"
    assert box.terminate() == 0


def test_only_another_whole_version_counts(tmp_path: Path) -> None:
    path = tmp_path / "limits.py"
    path.write_text(f'VERSION = "{VERSION}"\n')
    upgrade = Upgrade(str(path))
    assert upgrade.wait_s() is None
    path.write_text('VERSION = "')
    assert upgrade.wait_s() is None, "half of a file"
    path.write_text(f'VERSION = "{NEWER}"\n')
    wait_s = upgrade.wait_s()
    assert wait_s is not None
    assert 0 < wait_s <= UPGRADE_SETTLE_S, "the installer may still be at it"
    assert version_on_disk(str(path))[0] == NEWER
    path.unlink()
    assert upgrade.wait_s() is None


def test_a_runner_of_its_own_leaves_when_asked_and_idle(box: Box) -> None:
    box.kind("slow", "sleep 0.4")
    process = box.spawn()
    client = box.connect(process)
    client.start(1, "slow")
    assert client.ask("leave") == {"leaving": False}
    client.notice(1)
    wait_for(lambda: client.ask("leave")["leaving"])
    assert process.wait(10) == 0


def test_a_runner_that_stays_is_not_sent_away(box: Box) -> None:
    client = box.start()
    assert client.ask("leave") == {"leaving": False}


def test_the_highest_common_protocol_is_spoken(box: Box) -> None:
    box.start()
    assert box.dial().ask("hello", protocols=[0, 1, 2], generation=2)["protocol"] == 1
    with pytest.raises(Refused) as refused:
        box.dial().ask("hello", protocols=[2, 3], generation=2)
    assert "speaks 1" in refused.value.message
    assert "neighbouring versions" in refused.value.message
