"""The units, users and directories of `systemd/` are correct, as systemd's own tools judge.

Nothing is started and nothing of this machine is touched: units are verified as copies, users and
directories are made below a temporary root.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from agent.cli import agentctl, corectl
from agent.node.settings import SETTINGS, read_settings
from agent.runner.options import read_options

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNITS = ("agentd.service", "agent-runner.service", "cored.service")
BINARIES = "/opt/node-agent/bin/"

pytestmark = pytest.mark.timeout(60)


def tool(name: str) -> str:
    """A missing tool fails the test: a skip would look like units that were checked."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        pytest.fail(f"{name} is missing: install the package `systemd` to check the units")
    return found


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=30, check=False
    )


def read_unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Section → key → all its values: systemd allows a key more than once."""
    sections: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in (SYSTEMD / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            sections.setdefault(section, {}).setdefault(key, []).append(value)
    return sections


def copy_units(place: Path) -> list[Path]:
    """Copies whose programs exist: `verify` rightly complains of those that do not."""
    stub = place / "stub"
    stub.write_text("#!/bin/sh\n")
    stub.chmod(0o755)
    for name in UNITS:
        text = (SYSTEMD / name).read_text()
        (place / name).write_text(re.sub(re.escape(BINARIES) + r"[a-z-]+", str(stub), text))
    return [place / name for name in UNITS]


def verify(*units: Path) -> str:
    """What systemd-analyze has to say of the units; empty when nothing is wrong."""
    done = run(tool("systemd-analyze"), "verify", *units)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) or said
    return said


def test_units_verify_clean(tmp_path: Path):
    assert verify(*copy_units(tmp_path)) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("KillMode=mixed", "KillMode=mixd"),
        ("OOMPolicy=", "OomPolicy="),
        ("ExecStart=", "ExecStart=relative/"),
        ("Type=notify", "Type=notfy"),
    ],
)
def test_verify_would_tell(tmp_path: Path, right: str, wrong: str):
    unit = copy_units(tmp_path)[1]
    unit.write_text(unit.read_text().replace(right, wrong))
    assert verify(unit) != ""


@pytest.mark.parametrize("name", UNITS)
def test_every_unit_tells_readiness_and_comes_back(name: str):
    unit = read_unit(name)
    assert unit["Service"]["Type"] == ["notify"]
    assert unit["Service"]["NotifyAccess"] == ["main"]
    assert unit["Service"]["Restart"] == ["always"]
    assert unit["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert unit["Install"]["WantedBy"] == ["multi-user.target"]
    assert float(unit["Service"]["RestartSec"][0]) > 0, "a crash loop must not eat the node"


def test_agentd_only_wants_the_runner():
    """Anything stronger would stop or restart one with the other."""
    unit = read_unit("agentd.service")["Unit"]
    assert unit["Wants"] == ["agent-runner.service"]
    assert unit["After"] == ["agent-runner.service"]
    strong = {"Requires", "Requisite", "BindsTo", "PartOf", "Upholds", "PropagatesStopTo"}
    assert not strong & (set(unit) | set(read_unit("agent-runner.service")["Unit"]))


def test_agentd_never_starts_a_runner_of_its_own():
    service = read_unit("agentd.service")["Service"]
    assert "AGENT_RUNNER=external" in service["Environment"]
    assert service["User"] == ["node-agent"]


def test_the_runner_keeps_what_it_started_together():
    service = read_unit("agent-runner.service")["Service"]
    assert service["KillMode"] == ["mixed"]
    assert service["OOMPolicy"] == ["continue"]
    assert service["Delegate"] == ["yes"]
    assert "User" not in service
    inherited = [key for key in service if key.startswith(("Protect", "Private", "NoNewPriv"))]
    assert inherited == [], "what the runner's unit forbids, the scripts inherit"


def test_both_units_mean_the_same_places():
    agentd = read_unit("agentd.service")["Service"]
    runner = read_unit("agent-runner.service")["Service"]
    told = options(agentd["ExecStart"][0])
    done = options(runner["ExecStart"][0])
    assert told["--scripts-dir"] == done["--scripts-dir"]
    assert f"AGENT_RUNNER_SOCKET={done['--socket']}" in agentd["Environment"]
    assert done["--agent-user"] == agentd["User"][0]
    assert told["--state-dir"] == f"/var/lib/{agentd['StateDirectory'][0]}"
    assert done["--runs-dir"] == f"/var/lib/{runner['StateDirectory'][0]}"
    assert Path(done["--socket"]).parent == Path("/run", runner["RuntimeDirectory"][0])
    core = read_unit("cored.service")["Service"]
    assert options(core["ExecStart"][0])["--state-dir"] == f"/var/lib/{core['StateDirectory'][0]}"


def options(command: str) -> dict[str, str]:
    words = command.split()
    return {
        word: value for word, value in zip(words, [*words[1:], ""], strict=True) if "--" in word
    }


def test_programs_are_those_the_package_installs():
    project = tomllib.loads((SYSTEMD.parent / "pyproject.toml").read_text())["project"]
    for name in UNITS:
        program = read_unit(name)["Service"]["ExecStart"][0].split()[0]
        assert program.removeprefix(BINARIES) in project["scripts"], program


def test_the_runner_takes_its_units_flags():
    words = read_unit("agent-runner.service")["Service"]["ExecStart"][0].split()[1:]
    words[words.index("--agent-user") + 1] = "root"  # a user that this machine has
    settings = read_options(words, {})
    assert settings.stay
    assert settings.agent_uid == 0


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root directory with the users of both halves, made by systemd-sysusers."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    done = run(tool("systemd-sysusers"), f"--root={root}", *sorted(SYSTEMD.glob("sysusers.d/*")))
    assert done.returncode == 0, done.stderr
    return root


def test_sysusers_makes_users_that_cannot_log_in(image: Path):
    rows = [line.split(":") for line in (image / "etc/passwd").read_text().splitlines()]
    users = {row[0]: row for row in rows}
    users.pop("root")
    assert sorted(users) == ["node-agent", "node-core"]
    for name, fields in users.items():
        assert fields[-1].endswith("/nologin")
        assert fields[-2] == f"/var/lib/{name}"


def test_sysusers_dry_run_is_clean():
    done = run(tool("systemd-sysusers"), "--dry-run", *sorted(SYSTEMD.glob("sysusers.d/*")))
    assert done.returncode == 0, done.stderr
    assert "Failed" not in done.stderr


def test_every_user_named_by_a_unit_is_made(image: Path):
    known = {line.split(":")[0] for line in (image / "etc/passwd").read_text().splitlines()}
    named = {user for name in UNITS for user in read_unit(name)["Service"].get("User", [])}
    assert named <= known


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to root")
def test_tmpfiles_makes_directories_that_the_runner_accepts(image: Path):
    done = run(
        tool("systemd-tmpfiles"), "--create", f"--root={image}", *SYSTEMD.glob("tmpfiles.d/*")
    )
    assert (done.returncode, done.stderr) == (0, "")
    for path in ("etc/node-agent", "etc/node-agent/scripts.d/healthchecks.d", "etc/node-core"):
        found = (image / path).stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o755), path
    settings = (image / "etc/node-agent/agentd.toml").stat()
    group = next(
        line.split(":")[2]
        for line in (image / "etc/group").read_text().splitlines()
        if line.startswith("node-agent:")
    )
    assert (settings.st_uid, str(settings.st_gid)) == (0, group)
    assert stat.S_IMODE(settings.st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to root")
def test_tmpfiles_keeps_settings_that_exist(image: Path):
    settings = image / "etc/node-agent/agentd.toml"
    settings.parent.mkdir()
    settings.write_text('agent_id = "kept"\n')
    done = run(
        tool("systemd-tmpfiles"), "--create", f"--root={image}", *SYSTEMD.glob("tmpfiles.d/*")
    )
    assert done.returncode == 0, done.stderr
    assert settings.read_text() == 'agent_id = "kept"\n'
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640


def test_example_settings_are_comments_that_would_be_settings(tmp_path: Path):
    """All that there are; what has a default is shown with it, but for what the unit sets."""
    text = (SYSTEMD / "agentd.toml.example").read_text()
    assert tomllib.loads(text) == {}
    lines = [line[2:] for line in text.splitlines() if re.match(r"# [a-z_]+ = ", line)]
    file = tmp_path / "agentd.toml"
    file.write_text("\n".join(lines))
    told = tomllib.loads(file.read_text())
    assert set(told) == set(SETTINGS)
    settings = read_settings({}, {}, file)
    for key, setting in SETTINGS.items():
        if setting.default is not None and key != "runner":
            assert getattr(settings, key) == setting.default, key


def test_readme_installs_everything():
    text = (SYSTEMD / "README.md").read_text()
    for path in SYSTEMD.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert str(path.relative_to(SYSTEMD)) in text, f"README.md does not mention {path.name}"


def test_readme_installs_only_what_is_pinned_or_ours():
    """A name alone would come from an index, where it may be somebody else's."""
    text = (SYSTEMD / "README.md").read_text()
    lines = re.findall(r"^    .*pip install (.*)", text, re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        pinned = re.match(r"--require-hashes -r requirements/[a-z]+\.txt", line)
        assert pinned or re.match(r"--no-deps .*dist/node_agent-\*\.whl", line), line


def test_readme_names_commands_that_exist():
    text = (SYSTEMD / "README.md").read_text() + (SYSTEMD / "agentd.toml.example").read_text()
    for program, group in (("agentctl", agentctl.main), ("corectl", corectl.main)):
        named = set(re.findall(rf"(?:`|^    ){program} ([a-z-]+)", text, re.MULTILINE))
        assert named, program
        assert named <= set(group.list_commands(click.Context(group)))


def test_readme_copies_into_directories_that_may_not_exist():
    """A fresh Debian has no /etc/sysusers.d."""
    for line in re.findall(r"^    install .*", (SYSTEMD / "README.md").read_text(), re.MULTILINE):
        if "/etc/sysusers.d" in line or "/etc/tmpfiles.d" in line:
            assert line.split()[1] == "-D", line
