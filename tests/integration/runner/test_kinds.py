"""The catalogue as agentd sees it."""

from __future__ import annotations

import pytest

from agent.runner.manifest import DEFAULTS
from tests.integration.runner.box import Box

pytestmark = pytest.mark.timeout(30)


def test_kinds_manifests_and_faults(box: Box) -> None:
    path = box.kind("good.sh", "exit 0", 'description = "Does"\nparallel = true')
    box.kind("bare", "exit 0")
    box.kind("bad", "exit 0", "mode = 'x'\ntimeout = 1").chmod(0o775)
    box.manifest("orphan", "")
    box.kind("Capital", "exit 0")
    (box.scripts / "README.md").write_text("read me")
    (box.scripts / "lib").mkdir()
    found = box.start().ask("kinds", known=None)
    kinds = {entry["kind"]: entry for entry in found["kinds"]}
    assert set(kinds) == {"good", "bare", "bad"}
    assert kinds["good"]["manifest"] == {**DEFAULTS, "description": "Does", "parallel": True}
    assert (kinds["good"]["path"], kinds["good"]["faults"]) == (str(path), [])
    assert len(kinds["good"]["digest"]) == 64
    assert kinds["bare"]["manifest"] == DEFAULTS
    faults = " ".join(kinds["bad"]["faults"])
    assert "mode is 'x'" in faults
    assert "did you mean timeout_s" in faults
    assert "chmod go-w" in faults
    assert {fault["path"].rpartition("/")[2] for fault in found["faults"]} == {
        "orphan.toml", "Capital",
    }  # fmt: skip


def test_the_digest_changes_with_anything_that_matters(box: Box) -> None:
    path = box.kind("a", "exit 0", "parallel = false")
    client = box.start()

    def ask(known: str | None) -> dict[str, object]:
        return client.ask("kinds", known=known)

    digest = ask(None)["digest"]
    assert ask(str(digest)) == {"digest": digest, "unchanged": True}
    seen = {digest}
    for change in (
        lambda: box.manifest("a", "parallel = true"),
        lambda: path.write_text("#!/bin/sh\nexit 1\n"),
        lambda: path.chmod(0o777),
        lambda: path.chmod(0o700),
        lambda: box.kind("b", "exit 0"),
        (box.scripts / "a.toml").unlink,
        path.unlink,
    ):
        before = ask(None)["digest"]
        change()
        after = ask(str(before))
        is_same_in_effect = path.exists() and path.stat().st_mode & 0o777 == 0o700
        assert "kinds" in after or is_same_in_effect
        seen.add(after["digest"])
    assert len(seen) >= 6


def test_an_untrusted_or_missing_directory_offers_nothing(box: Box) -> None:
    box.kind("a", "exit 0")
    client = box.start()
    box.scripts.chmod(0o777)
    found = client.ask("kinds", known=None)
    assert found["kinds"] == []
    assert "chmod go-w" in found["faults"][0]["message"]
    box.scripts.rename(box.path / "elsewhere")
    assert "No such file" in client.ask("kinds", known=None)["faults"][0]["message"]


def test_a_catalogue_that_does_not_fit_says_so(box: Box) -> None:
    for number in range(10):
        box.kind(f"k{number}", "exit 0", f"payload_schema = {{ d = '{'x' * 60_000}' }}")
    found = box.start().ask("kinds", known=None)
    assert 1 <= len(found["kinds"]) < 10
    assert "of 10 kinds fit" in found["faults"][-1]["message"]
