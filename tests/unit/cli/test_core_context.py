"""The operator's token: read from its file, also while a core that starts has yet to write it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent.cli.core_commands import context
from agent.cli.core_commands.context import CoreContext
from agent.cli.exits import Failure


def test_a_core_that_just_starts_may_still_write_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "WRITTEN_S_MAX", 1.0)
    token_file = tmp_path / "core" / "admin.token"

    def write() -> None:
        token_file.parent.mkdir()
        token_file.write_text("t" * 43)

    writing = threading.Timer(0.1, write)
    writing.start()
    CoreContext("http://127.0.0.1:1", token_file).client()  # nobody listens: the call will say so
    writing.join()


def test_a_core_that_never_wrote_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "WRITTEN_S_MAX", 0.1)
    with pytest.raises(Failure, match=r"admin\.token: No such file") as caught:
        CoreContext("http://127.0.0.1:1", tmp_path / "admin.token").client()
    assert "cored writes admin.token" in caught.value.hint
