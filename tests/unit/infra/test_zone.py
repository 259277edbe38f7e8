"""Which zone a machine has, as cron on it would say."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain.errors import InvalidDocument
from agent.infra.zone import system_zone
from agent.node.settings import read_settings


def linked(tmp_path: Path, target: str) -> Path:
    link = tmp_path / "localtime"
    link.symlink_to(target)
    return link


def test_the_link_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    assert system_zone(linked(tmp_path, "/usr/share/zoneinfo/Europe/Berlin")) == "Europe/Berlin"


@pytest.mark.parametrize(
    ("tz", "zone"), [("Asia/Tokyo", "Asia/Tokyo"), (":Asia/Tokyo", "Asia/Tokyo"), ("CEST-2", "UTC")]
)
def test_the_environment_goes_first_where_it_names_one(
    tz: str, zone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", tz)
    assert system_zone(tmp_path / "none") == zone


def test_what_is_no_link_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    copy = tmp_path / "localtime"
    copy.write_bytes(b"TZif")
    assert system_zone(copy) == "UTC"
    (tmp_path / "other").mkdir()
    assert system_zone(linked(tmp_path / "other", "/somewhere/else")) == "UTC"


def test_the_setting_is_checked(tmp_path: Path) -> None:
    flags = {"state_dir": str(tmp_path), "scripts_dir": str(tmp_path)}
    found = read_settings(flags, {"AGENT_TIMEZONE": "America/New_York"}, None)
    assert found.timezone == "America/New_York"
    with pytest.raises(InvalidDocument, match="did you mean 'Europe/Berlin'"):
        read_settings(flags, {"AGENT_TIMEZONE": "Europe/Berlln"}, None)
