"""Which file of the scripts directory serves which kind. Pure.

Every file serves exactly one kind, or a dangerous script could be started under a second name
that its manifest does not cover. A file is the kind of its whole name if a manifest says so
(`net.ping` with `net.ping.toml`), else of its name without the last extension (`net.ping.sh` is
kind net.ping), else of its name.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

KIND = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}\Z")
MANIFEST_SUFFIX = ".toml"


def is_ignored(name: str) -> bool:
    """Hidden files and editors' backups are nobody's kind."""
    return name.startswith((".", "__")) or name.endswith(("~", ".swp", ".bak", ".orig"))


def kind_of(name: str, all_names: frozenset[str]) -> str:
    """The one kind that a script file serves; whether that is a legal name is not asked here."""
    if name + MANIFEST_SUFFIX in all_names:
        return name
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name


def group_by_kind(file_names: Iterable[str]) -> dict[str, list[str]]:
    """Kind → the script files that serve it. More than one is ambiguous."""
    names = frozenset(name for name in file_names if not is_ignored(name))
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if not name.endswith(MANIFEST_SUFFIX):
            found.setdefault(kind_of(name, names), []).append(name)
    return found


def manifests_without_script(file_names: Iterable[str], kinds: Iterable[str]) -> list[str]:
    """Manifest files that belong to no script: probably a misspelt name."""
    known = set(kinds)
    return [
        name
        for name in sorted(file_names)
        if name.endswith(MANIFEST_SUFFIX)
        and not is_ignored(name)
        and name.removesuffix(MANIFEST_SUFFIX) not in known
    ]
