"""Which file serves which kind: exactly one, or a manifest could be passed by."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.runner.names import (
    Key,
    key_of_run,
    output_name,
    progress_name,
    run_name,
    segment_of,
)  # fmt: skip
from agent.runner.naming import KIND, group_by_kind, is_ignored, manifests_without_script


def test_extension_dots_and_manifests() -> None:
    names = {
        "plain", "backup.sh", "backup.toml", "net.ping.py", "net.scan", "net.scan.toml",
        "two.sh", "two.py", ".hidden", "edit.sh~", "orphan.toml", "tar.gz",
    }  # fmt: skip
    assert group_by_kind(names) == {
        "plain": ["plain"], "backup": ["backup.sh"], "net.ping": ["net.ping.py"],
        "net.scan": ["net.scan"], "two": ["two.py", "two.sh"], "tar": ["tar.gz"],
    }  # fmt: skip
    assert manifests_without_script(names, group_by_kind(names)) == ["orphan.toml"]


def test_a_script_has_no_second_name_that_its_manifest_does_not_cover() -> None:
    kinds = group_by_kind({"wipe.sh", "wipe.toml"})
    assert kinds == {"wipe": ["wipe.sh"]}
    assert "wipe.sh" not in kinds


@given(st.sets(st.from_regex(r"[a-z.]{1,8}(\.toml)?", fullmatch=True)))
def test_every_script_file_serves_exactly_one_kind(names: set[str]) -> None:
    served = [name for files in group_by_kind(names).values() for name in files]
    assert sorted(served) == sorted(
        name for name in names if not name.endswith(".toml") and not is_ignored(name)
    )


def test_kind_names() -> None:
    assert all(KIND.match(name) for name in ("a", "0", "a.b-c_d", "a" * 64))
    assert not any(KIND.match(name) for name in ("", "A", ".a", "a" * 65, "a/b", "a\n", "ä"))


@given(st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_file_names_are_read_back(row: int, start_no: int, offset: int) -> None:
    key = Key(row, start_no)
    assert key_of_run(run_name(key)) == key
    assert segment_of(output_name(key, "stderr", offset)) == (key, "stderr", offset)
    for name in (progress_name(key), run_name(key), "generation", "runner.lock", "1.2.out.x"):
        assert segment_of(name) is None
    assert key_of_run(progress_name(key)) is None
