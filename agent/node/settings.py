"""What `agentd` can be told: by file, environment (`AGENT_…`) or flag (docs/operations.md)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.domain.errors import Fault, InvalidDocument, shown
from agent.domain.ids import is_id
from agent.infra.config import (
    Setting,
    as_count,
    as_listen,
    as_path,
    as_text,
    as_url,
    as_word,
    load_settings,
)
from agent.infra.logs import LEVELS

RETENTION_DAYS_DEFAULT = 30
FINISHED_MAX_DEFAULT = 100_000


def _agent_id(value: Any) -> str:
    text = as_text(value)
    if not is_id(text):
        raise ValueError(f"{shown(text)} is not an id: A–Z a–z 0–9 . _ : @ -, at most 128")
    return text


SETTINGS: Mapping[str, Setting] = {
    "state_dir": Setting(as_path, None, "where agent.db, runs/, agent.sock and lock live"),
    "scripts_dir": Setting(as_path, None, "the catalogue: one executable per kind"),
    "agent_id": Setting(_agent_id, None, "this node's name; default: the host's"),
    "core": Setting(as_url, None, "the core's URL; none: the node works alone"),
    "enroll_token": Setting(as_text, None, "single-use token, needed once"),
    "listen": Setting(as_listen, None, "HOST:PORT for the API besides the Unix socket"),
    "max_parallel": Setting(as_count(1, 128), 8, "how many parallel kinds run at once"),
    "max_queued": Setting(as_count(1, 10**7), 10_000, "bound on due actions submitted here"),
    "max_pending": Setting(as_count(1, 10**8), 1_000_000, "bound on future actions"),
    "keep_days": Setting(as_count(1, 3650), RETENTION_DAYS_DEFAULT, "age of pruned actions"),
    "keep_finished": Setting(as_count(1, 10**8), FINISHED_MAX_DEFAULT, "how many are kept"),
    "stop_grace_s": Setting(as_count(1, 3600), 5, "for requests under way when agentd stops"),
    "runner": Setting(as_word("own", "external"), "own", "external: another unit starts it"),
    "runner_socket": Setting(as_path, None, "default: runner.sock in the state directory"),
    "log_level": Setting(as_word(*LEVELS), "info", "least severity that is logged"),
    "log_format": Setting(as_word("auto", "json", "text"), "auto", "auto: text on a terminal"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything `agentd` was told, checked."""

    state_dir: Path
    scripts_dir: Path
    agent_id: str
    core: str | None
    enroll_token: str | None
    listen: tuple[str, int] | None
    max_parallel: int
    max_queued: int
    max_pending: int
    keep_days: int
    keep_finished: int
    stop_grace_s: int
    runner: str
    runner_socket: Path
    log_level: str
    log_format: str


def read_settings(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None
) -> Settings:
    """All sources together. Raises `InvalidDocument` with every fault of all of them."""
    faults: list[Fault] = []
    try:
        values = load_settings(SETTINGS, prefix="AGENT_", environ=environ, flags=flags, file=file)
    except InvalidDocument as error:
        faults += error.faults
        values = {key: flags.get(key) for key in SETTINGS}
    for key in ("state_dir", "scripts_dir"):
        named = flags.get(key) or environ.get(f"AGENT_{key.upper()}")
        if values[key] is None and not named:
            faults.append(Fault(f"--{key.replace('_', '-')}", "is missing"))
    if faults:
        raise InvalidDocument(faults)
    values["agent_id"] = values["agent_id"] or socket.gethostname()
    values["runner_socket"] = values["runner_socket"] or values["state_dir"] / "runner.sock"
    return Settings(**values)
