"""A change in the scripts directory is told without being asked for, once it has settled."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.runner.limits import KINDS_SETTLE_S
from tests.integration.runner.box import Box
from tests.integration.runner.client import Client

pytestmark = pytest.mark.timeout(60)


def next_notice(client: Client) -> dict[str, object]:
    client.sock.settimeout(10)
    while not client.notices:
        answer = client.read()
        assert "event" in answer, answer
        client.notices.append(answer)
    return client.notices.popleft()


def quiet(client: Client, seconds: float = 2 * KINDS_SETTLE_S) -> bool:
    client.sock.settimeout(seconds)
    try:
        client.notices.append(client.read())
    except TimeoutError:
        return not client.notices
    return False


def test_added_changed_and_removed_kinds_are_told(box: Box) -> None:
    client = box.start()
    digest = client.ask("kinds")["digest"]
    seen = {digest}
    for change in (
        lambda: box.kind("first", "exit 0"),
        lambda: box.manifest("first", "parallel = true"),
        lambda: (box.scripts / "first").chmod(0o600),
        lambda: (box.scripts / "first").rename(box.scripts / "second"),
        (box.scripts / "second").unlink,
    ):
        change()
        assert next_notice(client) == {"event": "kinds"}
        digest = client.ask("kinds")["digest"]
        assert digest not in seen
        seen.add(digest)


def test_many_changes_are_one_notice(box: Box) -> None:
    client = box.start()
    for number in range(50):
        box.kind(f"kind{number}", "exit 0")
    assert next_notice(client) == {"event": "kinds"}
    assert len(client.ask("kinds")["kinds"]) == 50
    assert quiet(client)


def test_a_directory_that_is_replaced_is_watched_again(box: Box, tmp_path: Path) -> None:
    client = box.start()
    box.scripts.rename(tmp_path / "old")
    assert next_notice(client) == {"event": "kinds"}
    box.scripts.mkdir(mode=0o755)
    assert next_notice(client) == {"event": "kinds"}
    box.kind("first", "exit 0")
    assert next_notice(client) == {"event": "kinds"}
    assert [entry["kind"] for entry in client.ask("kinds")["kinds"]] == ["first"]


def test_what_happens_beside_it_wakes_nobody(box: Box, tmp_path: Path) -> None:
    client = box.start()
    (tmp_path / "beside").write_text("x")
    assert quiet(client)
