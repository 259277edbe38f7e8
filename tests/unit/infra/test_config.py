"""Settings: three sources, one precedence, all faults together."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain.errors import InvalidDocument
from agent.node.settings import Settings, read_settings


def faults(flags: dict, environ: dict, file: Path | None = None) -> str:
    with pytest.raises(InvalidDocument) as caught:
        read_settings(flags, environ, file)
    return "\n".join(str(fault) for fault in caught.value.faults)


def test_flags_go_before_environment_before_file(tmp_path: Path) -> None:
    file = tmp_path / "agentd.toml"
    file.write_text('state_dir = "/file"\nscripts_dir = "/file"\nmax_parallel = 2\nagent_id = "f"')
    settings = read_settings(
        {"state_dir": "/flag"}, {"AGENT_STATE_DIR": "/env", "AGENT_AGENT_ID": "e"}, file
    )
    assert isinstance(settings, Settings)
    assert settings.state_dir == Path("/flag")
    assert (settings.agent_id, settings.max_parallel) == ("e", 2)
    assert settings.scripts_dir == Path("/file")
    assert settings.runner_socket == Path("/flag/runner.sock")


def test_all_faults_of_all_sources_are_told_together(tmp_path: Path) -> None:
    file = tmp_path / "agentd.toml"
    file.write_text('max_paralel = 2\nlog_level = "loud"\nkeep_days = 0\n')
    found = faults({"listen": "nowhere", "core": "ftp://x"}, {"AGENT_MAX_QUEUED": "many"}, file)
    for expected in (
        "max_paralel: is not a setting; did you mean max_parallel?",
        "'loud' is not one of",
        "keep_days: 0 is outside",
        "--listen: 'nowhere' is not HOST:PORT",
        "--core: 'ftp://x' is not a URL",
        "AGENT_MAX_QUEUED: must be a whole number",
        "--state-dir: is missing",
        "--scripts-dir: is missing",
    ):
        assert expected in found


def test_a_slip_in_a_variable_is_told_but_other_programs_variables_are_left_alone() -> None:
    base = {"state_dir": "/s", "scripts_dir": "/c"}
    assert "did you mean AGENT_MAX_PARALLEL?" in faults(base, {"AGENT_MAX_PARALEL": "2"})
    read_settings(base, {"AGENT_SMITH": "hello", "AGENT_ACTION_ID": "a1"}, None)


@pytest.mark.parametrize("content", [b"\xff", b"= 1", b"a = " + b"1" * 2_000_000])
def test_a_file_that_cannot_be_read_is_one_of_the_faults(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "agentd.toml"
    file.write_bytes(content)
    assert str(file) in faults({}, {}, file)
    assert "cannot be read" in faults({}, {}, tmp_path / "missing.toml")
