"""`corectl tokens` and `corectl audit`, as people and scripts call them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.fakes.core_process import CoreProcess
from tests.integration.core.test_corectl import corectl, document

pytestmark = pytest.mark.timeout(60)


def as_holder(core: CoreProcess, path: Path, token: str) -> dict[str, str]:
    path.write_text(token)
    return {"CORE_TOKEN_FILE": str(path)}


def test_a_token_is_made_used_listed_and_revoked(core: CoreProcess, tmp_path: Path) -> None:
    made = corectl(core, "tokens", "create", "ci", "--role", "viewer", "--ttl", "90d")
    assert (made.returncode, len(made.stdout.strip()), made.stdout.count("\n")) == (0, 43, 1)
    ours = as_holder(core, tmp_path / "ci.token", made.stdout)
    assert corectl(core, "agents", **ours).returncode == 0
    refused = corectl(core, "enroll-token", **ours)
    assert refused.returncode == 5
    assert "admin" in refused.stderr
    again = corectl(core, "tokens", "create", "ci", "--role", "viewer", "--json")
    assert (again.returncode, document(again)["error"]) == (5, "exists")
    listed = document(corectl(core, "tokens", "--json"))["tokens"]
    assert {one["name"]: one["role"] for one in listed} == {"admin": "admin", "ci": "viewer"}
    assert "ci" in corectl(core, "tokens").stdout
    assert corectl(core, "tokens", "revoke", "ci").stdout == "revoked ci\n"
    assert corectl(core, "agents", **ours).returncode == 5
    assert corectl(core, "tokens", "revoke", "ci").returncode == 4
    last = corectl(core, "tokens", "revoke", "admin", "--json")
    assert (last.returncode, document(last)["error"]) == (5, "last_admin")
    assert "revoked" in corectl(core, "tokens", "--all").stdout


@pytest.mark.parametrize(
    "words", [("create", "x"), ("create", "x", "--role", "root"), ("revoke",), ("--ttl", "1h")]
)
def test_wrong_words_are_usage(shared_core: CoreProcess, words: tuple[str, ...]) -> None:
    assert corectl(shared_core, "tokens", *words).returncode == 2


def test_a_revoked_admin_file_stays_revoked_over_a_restart(
    core: CoreProcess, tmp_path: Path
) -> None:
    made = corectl(core, "tokens", "create", "root2", "--role", "admin").stdout
    ours = as_holder(core, tmp_path / "root2.token", made)
    assert corectl(core, "tokens", "revoke", "admin", **ours).returncode == 0
    core.stop()
    core.start()
    assert corectl(core, "agents").returncode == 5
    assert corectl(core, "agents", **ours).returncode == 0


def test_the_log_tells_who_did_what_and_holds(core: CoreProcess) -> None:
    corectl(core, "tokens", "create", "ci", "--role", "viewer")
    corectl(core, "enroll-token", "--node", "n1")
    lines = document(corectl(core, "audit", "--json"))["lines"]
    assert [(one["who"], one["what"], one["target"]) for one in lines] == [
        ("admin", "enrollment_token_create", "n1"),
        ("admin", "token_create", "ci"),
        ("core", "token_create", "admin"),
    ]
    only = document(corectl(core, "audit", "--who", "core", "--json"))["lines"]
    assert [one["target"] for one in only] == ["admin"]
    assert "enrollment_token_create" in corectl(core, "audit", "--limit", "1").stdout
    found = document(corectl(core, "audit", "verify", "--json"))
    assert (found["ok"], found["checked"], found["broken"]) == (True, 3, None)
    corectl(core, "enroll-token")
    assert corectl(core, "audit", "verify", "--head", found["head"]).returncode == 0
    assert corectl(core, "audit", "verify", "--head", "1.abc").returncode == 2


def test_a_log_that_was_touched_is_told_with_exit_code_1(core: CoreProcess) -> None:
    for node in ("n1", "n2", "n3"):
        corectl(core, "enroll-token", "--node", node)
    head = document(corectl(core, "audit", "verify", "--json"))["head"]
    core.stop()
    database = core.state_dir / "core.db"
    with sqlite3.connect(database) as plain:
        plain.execute("DELETE FROM audit WHERE target = 'n3'")
    core.start()
    assert corectl(core, "audit", "verify").returncode == 0
    cut = corectl(core, "audit", "verify", "--head", head)
    assert cut.returncode == 1
    assert "cut" in cut.stdout
    core.stop()
    with sqlite3.connect(database) as plain:
        plain.execute("UPDATE audit SET who = 'ben' WHERE target = 'n1'")
    core.start()
    changed = document(corectl(core, "audit", "verify", "--json"))
    assert (changed["ok"], changed["broken"]["row"]) == (False, 2)
